//! Slots: what is newest of each channel and key, and so what a newer event has superseded.
//!
//! Nothing is marked in the log when an event is superseded; a slot knows the number of its oldest
//! entry that still counts, and whoever lags compares. A slot becomes a *book* with its first
//! snapshot event: from then on a snapshot replaces everything before it, and updates are deltas of
//! which none can stand for another. Not here: frames that have left the log
//! ([`super::retained`]). Invariant: `base` is the number of the slot's newest snapshot if it is a
//! book, and of its newest entry otherwise.

use crate::handoff::batch::{ChannelId, SlotId};
use crate::protocol::event::Kind;

/// One (channel, key) pair, or the events of a channel without a key.
#[derive(Debug)]
pub struct Slot {
    /// Its events have a key.
    pub is_keyed: bool,
    /// Number of the oldest log entry that no newer one replaces.
    pub base: u64,
    /// `seq` of that entry, also when nothing else is known of it any more.
    pub seq_base: u64,
    /// If it is a book: numbers of its entries after `base`, in order, unless one is forgotten.
    pub(super) deltas: Vec<u64>,
    /// Number of its first snapshot, from which on it is a book; `u64::MAX` while it is none.
    pub book_since: u64,
    /// Numbers of its entries that are kept beside the log, in order.
    pub(super) kept: Vec<u64>,
    /// Bytes of those.
    pub(super) kept_bytes: usize,
    /// Number of the last entry that still counts and is neither in the log nor kept.
    pub(super) forgotten: Option<u64>,
    /// What it began with is lost, as it is of what a journal names and has no value of; a book
    /// goes on with its next snapshot, anything else with its next event.
    pub(super) is_broken: bool,
}

impl Slot {
    /// Whether its entry `number` is a snapshot, or a delta of one.
    #[must_use]
    pub const fn is_book_at(&self, number: u64) -> bool {
        number >= self.book_since
    }

    /// Entries that count of it.
    #[must_use]
    pub const fn entries(&self) -> usize {
        1 + self.deltas.len()
    }

    /// Whether everything that counts of it is in the log or kept.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.forgotten.is_none() && !self.is_broken
    }

    /// Whether its entry `number` is replaced by a newer one.
    #[must_use]
    pub const fn supersedes(&self, number: u64) -> bool {
        number < self.base
    }
}

/// All slots of a server, on one shard.
#[derive(Debug, Default)]
pub struct Slots {
    slots: Vec<Slot>,
    /// The slots of each channel, in order of appearance.
    by_channel: Vec<Vec<SlotId>>,
    books: usize,
}

impl Slots {
    /// Adds the next slot, which is of `channel`.
    pub fn add(&mut self, channel: ChannelId, is_keyed: bool) {
        let id = SlotId::try_from(self.slots.len()).expect("limits keep ids in 32 bits");
        if self.by_channel.len() <= channel as usize {
            self.by_channel.resize_with(channel as usize + 1, Vec::new);
        }
        self.by_channel[channel as usize].push(id);
        self.slots.push(Slot {
            is_keyed,
            base: 0,
            seq_base: 0,
            deltas: Vec::new(),
            book_since: u64::MAX,
            kept: Vec::new(),
            kept_bytes: 0,
            forgotten: None,
            is_broken: true,
        });
    }

    /// The slot `id`.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id as usize]
    }

    /// The slots of a channel, in order of appearance.
    #[must_use]
    pub fn of_channel(&self, channel: ChannelId) -> &[SlotId] {
        self.by_channel.get(channel as usize).map_or(&[], Vec::as_slice)
    }

    /// The slot `id`, to change it.
    pub(super) fn slot_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.slots[id as usize]
    }

    /// Notes the slot's newest entry; true when it replaces those before it.
    pub(super) fn handle_entry(
        &mut self,
        id: SlotId,
        (number, seq): (u64, u64),
        kind: Kind,
    ) -> bool {
        let slot = &mut self.slots[id as usize];
        if kind == Kind::Snapshot && slot.book_since == u64::MAX {
            slot.book_since = number;
            self.books += 1;
        }
        let replaces = kind == Kind::Snapshot || !slot.is_book_at(number);
        if replaces {
            (slot.base, slot.seq_base) = (number, seq);
            slot.deltas = Vec::new();
            slot.is_broken = false;
        } else if slot.is_whole() {
            slot.deltas.push(number);
        }
        replaces
    }

    /// A slot is a book of which the beginning is lost: its updates mean nothing before its next
    /// snapshot.
    pub fn break_book(&mut self, id: SlotId) {
        let slot = &mut self.slots[id as usize];
        self.books += usize::from(slot.book_since == u64::MAX);
        (slot.book_since, slot.base, slot.seq_base) = (0, 0, 0);
        slot.is_broken = true;
    }

    /// Something of every book may be lost.
    pub(super) fn break_books(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.book_since != u64::MAX) {
            slot.is_broken = true;
            slot.deltas = Vec::new();
        }
    }

    /// Whether any slot is a book.
    #[must_use]
    pub const fn has_books(&self) -> bool {
        self.books > 0
    }
}
