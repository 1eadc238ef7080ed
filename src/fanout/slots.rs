//! Slots: what is newest of each channel and key, and so what a newer event has superseded.
//!
//! Nothing is marked in the log when an event is superseded; a slot knows the number of its oldest
//! entry that still counts, and whoever lags compares. A slot becomes a *book* with its first
//! snapshot event: from then on a snapshot replaces everything before it, and updates are deltas of
//! which none can stand for another. Not here: frames that have left the log
//! ([`super::retained`]). Invariant: `base` is the number of the slot's newest snapshot if it is a
//! book, and of its newest entry otherwise.

use crate::handoff::batch::SlotId;
use crate::protocol::event::Kind;

/// One (channel, key) pair, or the events of a channel without a key.
#[derive(Debug)]
pub struct Slot {
    /// Its events have a key.
    pub is_keyed: bool,
    /// Number of the oldest log entry that no newer one replaces.
    pub base: u64,
    /// Number of its first snapshot, from which on it is a book; `u64::MAX` while it is none.
    pub book_since: u64,
    /// Numbers of its entries that are kept beside the log, in order.
    pub(super) kept: Vec<u64>,
    /// Bytes of those.
    pub(super) kept_bytes: usize,
    /// Number of the last entry that still counts and is neither in the log nor kept.
    pub(super) forgotten: Option<u64>,
}

impl Slot {
    /// Whether its entry `number` is a snapshot, or a delta of one.
    #[must_use]
    pub const fn is_book_at(&self, number: u64) -> bool {
        number >= self.book_since
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
    books: usize,
}

impl Slots {
    /// Adds the next slot.
    pub fn add(&mut self, is_keyed: bool) {
        self.slots.push(Slot {
            is_keyed,
            base: 0,
            book_since: u64::MAX,
            kept: Vec::new(),
            kept_bytes: 0,
            forgotten: None,
        });
    }

    /// The slot `id`.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id as usize]
    }

    /// The slot `id`, to change it.
    pub(super) fn slot_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.slots[id as usize]
    }

    /// Notes the slot's newest entry; true when it replaces those before it.
    pub(super) fn handle_entry(&mut self, id: SlotId, number: u64, kind: Kind) -> bool {
        let slot = &mut self.slots[id as usize];
        if kind == Kind::Snapshot && slot.book_since == u64::MAX {
            slot.book_since = number;
            self.books += 1;
        }
        let replaces = kind == Kind::Snapshot || !slot.is_book_at(number);
        if replaces {
            slot.base = number;
        }
        replaces
    }

    /// Whether any slot is a book.
    #[must_use]
    pub const fn has_books(&self) -> bool {
        self.books > 0
    }
}
