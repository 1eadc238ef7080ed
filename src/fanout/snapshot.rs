//! The walk over everything that still counts: of each key the newest event, of a book the newest
//! snapshot and the deltas since.
//!
//! The frames are those that were sent live, in the log or kept beside it: a snapshot copies
//! nothing, and what it keeps of its place is a few numbers, whatever it is of, and the books that
//! were replaced. Order: channel by channel, slot by slot, in a slot by number. Not here: who wants
//! it ([`super::recovery`]). Invariant: of what counted at the stage's end every frame is sent
//! once, unless something from behind the end has replaced it, which is noted.

use std::ops::ControlFlow;

use crate::handoff::batch::{ChannelId, SlotId};
use crate::limits::WALK_ENTRIES_MAX;

use super::lag::{Item, Lag, View};
use super::log::Entry;
use super::retained::Piece;
use super::send::{Collector, Taken, Walked};

/// How far a snapshot has come.
#[derive(Debug, Clone)]
pub struct Walk {
    /// Nothing up to this `seq` is sent.
    since: u64,
    /// The channel at hand.
    channel: ChannelId,
    /// The place of the slot at hand in the channel's list.
    slot: usize,
    /// Entries of that slot before this one are sent.
    from: u64,
    /// Everything was sent or found replaced.
    pub is_done: bool,
    /// Something was replaced before it was sent.
    pub is_replaced: bool,
    /// The books among that.
    pub books: Vec<SlotId>,
}

impl Walk {
    /// Of what came after the event `since`.
    #[must_use]
    pub const fn new(since: u64) -> Self {
        Self {
            since,
            channel: 0,
            slot: 0,
            from: 0,
            is_done: false,
            is_replaced: false,
            books: Vec::new(),
        }
    }

    /// Goes on with the next slot.
    pub const fn leave_slot(&mut self) {
        self.slot += 1;
        self.from = 0;
    }

    /// Last `seq` that is not sent.
    #[must_use]
    pub const fn since(&self) -> u64 {
        self.since
    }
}

impl View<'_> {
    /// The frame that comes next, which `walk` is moved up to; none when there is none, or none
    /// among the next [`WALK_ENTRIES_MAX`] things that were looked at.
    pub(super) fn next_counting(&self, lag: &Lag, walk: &mut Walk) -> Option<Item> {
        let end = lag.end.as_ref().map_or_else(|| self.store.log.head(), |end| end.at);
        for _ in 0..WALK_ENTRIES_MAX {
            let Some(channel) = self.next_recovered(lag, walk.channel) else {
                walk.is_done = true;
                return None;
            };
            if channel != walk.channel {
                (walk.channel, walk.slot, walk.from) = (channel, 0, 0);
            }
            let Some(&slot) = self.store.slots.of_channel(channel).get(walk.slot) else {
                (walk.channel, walk.slot, walk.from) = (channel + 1, 0, 0);
                continue;
            };
            let Some(item) = self.next_of_slot(slot, channel, end, walk) else {
                walk.leave_slot();
                continue;
            };
            if item.entry.seq > walk.since || item.is_forgotten {
                return Some(item);
            }
            walk.from = item.number + 1;
        }
        None
    }

    fn next_recovered(&self, lag: &Lag, channel: ChannelId) -> Option<ChannelId> {
        let mut next = self.cohort.classes.next_wanted(channel);
        while let Some(channel) = next
            && !lag.concerns(channel)
        {
            next = self.cohort.classes.next_wanted(channel + 1);
        }
        next
    }

    /// A slot's next entry that counts; of a book of which a part is gone one entry for all.
    fn next_of_slot(
        &self,
        id: SlotId,
        channel: ChannelId,
        end: u64,
        walk: &mut Walk,
    ) -> Option<Item> {
        let slot = self.store.slots.slot(id);
        let class = self.cohort.classes.of(channel, slot.is_keyed)?;
        let is_book = slot.is_book_at(slot.base);
        if !(slot.is_keyed || is_book || self.cohort.classes.list()[class].conflates()) {
            return None; // One of a stream: each counts for itself, and none for the others.
        }
        if slot.base >= end {
            walk.is_replaced = true;
            walk.books.extend(is_book.then_some(id));
            return None;
        }
        if slot.is_broken || is_book && !slot.is_whole() {
            let entry = Entry { channel, slot: id, ..Entry::default() };
            let is_forgotten = true;
            return Some(Item { number: slot.base, entry, class, is_open: true, is_forgotten });
        }
        let number = if walk.from <= slot.base {
            slot.base
        } else {
            let at = slot.deltas.partition_point(|&number| number < walk.from);
            *slot.deltas.get(at)?
        };
        let entry = (number < end).then(|| *self.store.entry(number))?;
        let is_forgotten = number < self.store.log.tail()
            && self.store.retained.is_forgotten(number)
            && entry.seq > walk.since;
        Some(Item { number, entry, class, is_open: true, is_forgotten })
    }

    /// Collects what is to be sent next of a snapshot that stands at `walk`.
    pub(super) fn collect(
        &self,
        lag: &Lag,
        mut walk: Walk,
        pieces_max: usize,
        each: impl FnMut(Piece),
    ) -> Walked {
        let mut collector = Collector::new(pieces_max, each);
        self.each_counting(lag, &mut walk, |item| collector.add(item, self.piece(lag, item)));
        collector.finish(0)
    }

    /// Moves a snapshot over `bytes` that the socket took of what [`Self::collect`] found.
    pub(super) fn take(&self, lag: &Lag, walk: &mut Walk, bytes: usize) -> Taken {
        let (mut taken, mut left) = (Taken::default(), bytes);
        self.each_counting(lag, walk, |item| {
            if left == 0 || item.is_forgotten {
                return ControlFlow::Break(());
            }
            let piece = self.piece(lag, item);
            left = taken.add(left, piece.len(), || self.store.bytes(piece));
            ControlFlow::Continue(())
        });
        taken
    }

    /// Calls `each` for every frame that comes next, up to one that it does not take.
    fn each_counting(
        &self,
        lag: &Lag,
        walk: &mut Walk,
        mut each: impl FnMut(&Item) -> ControlFlow<()>,
    ) {
        for _ in 0..WALK_ENTRIES_MAX {
            let Some(item) = self.next_counting(lag, walk) else { return };
            if each(&item).is_break() {
                return;
            }
            walk.from = item.number + 1;
        }
    }
}
