//! Reading back: a lagging connection that is sent what a stream has, where the log has it no more.
//!
//! Its place is one `seq`: everything up to it was sent, or was not wanted, or is superseded on
//! terms that conflate. What comes next is on a shelf ([`super::shelves`]), shared by all who are
//! there. Not here: how it begins, and when the log takes over (`shard::read_back`). Invariant: it
//! sends nothing that the shard has not had from its ring, nor what is behind its stage's end.

use std::ops::ControlFlow;

use crate::protocol::encoding::Encoding;

use super::lag::{Item, Lag, View};
use super::log::Entry;
use super::retained::Piece;
use super::send::{Collector, Taken, Walked};

impl View<'_> {
    /// Calls `each` for every frame that comes next after `seq` and is on one shelf; returns the
    /// `seq` up to which nothing else is to be sent.
    fn each_past(
        &self,
        lag: &Lag,
        seq: u64,
        mut each: impl FnMut(&Item, Piece) -> ControlFlow<()>,
    ) -> u64 {
        let shelves = &self.store.shelves;
        let Some(place) = shelves.find(seq + 1) else { return seq };
        let shelf = shelves.shelf(place);
        let last = lag.end.as_ref().map_or(shelf.to, |end| end.seq.min(shelf.to));
        let mut reached = seq;
        for (number, line) in shelf.after(seq).take_while(|(_, line)| line.seq <= last) {
            let slot = self.store.slots.slot(line.slot);
            let wanted = self.cohort.classes.of(line.channel, slot.is_keyed);
            if let Some(class) = wanted.filter(|_| lag.concerns(line.channel))
                && !(self.cohort.classes.list()[class].conflates() && line.seq < slot.seq_base)
            {
                let entry = Entry { seq: line.seq, channel: line.channel, ..Entry::default() };
                let (is_open, is_forgotten) = (true, false);
                let item = Item { number: line.seq, entry, class, is_open, is_forgotten };
                let encoding = self.cohort.key.encoding;
                let has_place = lag.recovery.is_none() && self.cohort.has_places();
                let piece = match Piece::Past(shelves.piece(encoding, place, number)) {
                    piece if encoding == Encoding::Sse && !has_place => {
                        self.store.without_place(piece, &entry)
                    }
                    piece => piece,
                };
                if each(&item, piece).is_break() {
                    return reached;
                }
            }
            reached = line.seq;
        }
        last.max(seq)
    }

    /// Collects what is to be sent next of what is read back after `seq`; its end is a `seq`.
    pub(super) fn collect_past(
        &self,
        lag: &Lag,
        seq: u64,
        pieces_max: usize,
        each: impl FnMut(Piece),
    ) -> Walked {
        let mut collector = Collector::new(pieces_max, each);
        let end = self.each_past(lag, seq, |item, piece| collector.add(item, piece));
        collector.finish(end)
    }

    /// Moves the place over `bytes` that the socket took of what [`Self::collect_past`] found, and
    /// up to `end`, before which nothing else is to be sent.
    pub(super) fn take_past(&self, lag: &mut Lag, bytes: usize, end: u64) -> Taken {
        let (mut taken, mut left) = (Taken::default(), bytes);
        let Some(seq) = lag.reading else { return taken };
        let mut reached = seq;
        self.each_past(lag, seq, |item, piece| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left = taken.add(left, piece.len(), || self.store.bytes(piece));
            reached = item.entry.seq;
            ControlFlow::Continue(())
        });
        lag.reading = Some(reached.max(end));
        taken
    }
}
