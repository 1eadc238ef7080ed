//! One send of a lagging connection: what it brings, and what its socket took of it.
//!
//! The same for what is read from the log and for a snapshot. Not here: which entries come next
//! ([`super::lag`], [`super::snapshot`]). Invariant: what is collected is within the bounds of one
//! send, unless a single frame is not.

use std::ops::ControlFlow;

use crate::limits::GATHER_BYTES_MAX;

use super::lag::Item;
use super::retained::Piece;

/// What a walk found.
#[derive(Debug, Clone, Copy)]
pub struct Walked {
    /// Bytes of its pieces.
    pub bytes: usize,
    /// Events in them.
    pub events: u64,
    /// Number behind the last entry that was looked at.
    pub end: u64,
}

/// A send in the making.
pub(super) struct Collector<F> {
    pieces_max: usize,
    each: F,
    walked: Walked,
    /// The piece that may still grow.
    last: Option<Piece>,
    pieces: usize,
}

impl<F: FnMut(Piece)> Collector<F> {
    /// Nothing; `each` is given the pieces, `pieces_max` at most.
    pub(super) const fn new(pieces_max: usize, each: F) -> Self {
        let walked = Walked { bytes: 0, events: 0, end: 0 };
        Self { pieces_max, each, walked, last: None, pieces: 0 }
    }

    /// Adds an item, whose frame is `piece`; breaks when it has no place in this send.
    pub(super) fn add(&mut self, item: &Item, piece: Piece) -> ControlFlow<()> {
        let len = piece.len() as usize;
        let is_full = self.walked.events > 0 && self.walked.bytes + len > GATHER_BYTES_MAX;
        if item.is_forgotten || is_full {
            return ControlFlow::Break(());
        }
        if !self.last.as_mut().is_some_and(|last| last.extend(&piece)) {
            if self.pieces == self.pieces_max {
                return ControlFlow::Break(());
            }
            if let Some(finished) = self.last.replace(piece) {
                (self.each)(finished);
            }
            self.pieces += 1;
        }
        self.walked.bytes += len;
        self.walked.events += 1;
        ControlFlow::Continue(())
    }

    /// The send, of a walk that looked at everything before entry `end`.
    pub(super) fn finish(mut self, end: u64) -> Walked {
        if let Some(last) = self.last {
            (self.each)(last);
        }
        Walked { end, ..self.walked }
    }
}

/// What a socket took, in terms of entries.
#[derive(Debug, Default)]
pub struct Taken {
    /// Events of which it took the first byte.
    pub events: u64,
    /// The rest of a frame that was cut.
    pub rest: Option<Vec<u8>>,
}

impl Taken {
    /// Of the next frame, which has `len` bytes, up to `left` were taken; returns how many bytes
    /// are left for those after it.
    pub(super) fn add<'a>(
        &mut self,
        left: usize,
        len: u32,
        frame: impl FnOnce() -> &'a [u8],
    ) -> usize {
        let len = len as usize;
        self.events += 1;
        if left < len {
            self.rest = Some(frame()[left..].to_vec());
        }
        left.saturating_sub(len)
    }
}
