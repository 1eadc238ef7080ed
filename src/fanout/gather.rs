//! The gather list of a cohort: what its in-sync members have not been sent, cut into sends.
//!
//! Not here: who is sent it. Invariant: the chunks hold the added frames once, in order, each chunk
//! within the bounds of one send.

use std::ops::Range;

use crate::limits::{GATHER_BYTES_MAX, GATHER_SLICES_MAX};

use super::retained::Piece;

/// What one send brings to every in-sync member of a cohort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its part of [`Gather::pieces`].
    pub pieces: Range<usize>,
    /// Bytes in all.
    pub bytes: usize,
    /// Events in all.
    pub events: u64,
    /// Number of its first log entry.
    pub first: u64,
    /// Number behind its last log entry.
    pub end: u64,
    /// `ts_in` of its oldest event.
    pub ts_in: u64,
}

/// What a cohort's in-sync members have not been sent, cut into sends.
#[derive(Debug, Default)]
pub struct Gather {
    pieces: Vec<Piece>,
    chunks: Vec<Chunk>,
}

impl Gather {
    /// Adds the frame of entry `number`.
    pub(super) fn add(&mut self, number: u64, piece: Piece, len: u32, ts_in: u64) {
        let len = len as usize;
        if let Some(chunk) = self.chunks.last_mut()
            && chunk.bytes + len <= GATHER_BYTES_MAX
        {
            let adjacent = self.pieces.last_mut().is_some_and(|last| last.extend(&piece));
            if adjacent || chunk.pieces.len() < GATHER_SLICES_MAX {
                if !adjacent {
                    self.pieces.push(piece);
                    chunk.pieces.end += 1;
                }
                chunk.bytes += len;
                chunk.events += 1;
                chunk.end = number + 1;
                return;
            }
        }
        let start = self.pieces.len();
        self.pieces.push(piece);
        self.chunks.push(Chunk {
            pieces: start..start + 1,
            bytes: len,
            events: 1,
            first: number,
            end: number + 1,
            ts_in,
        });
    }

    /// The pieces of `chunk`.
    #[must_use]
    pub fn pieces(&self, chunk: &Chunk) -> &[Piece] {
        &self.pieces[chunk.pieces.clone()]
    }

    /// The sends, in order.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// True when there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.chunks.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::log::Run;
    use super::*;

    proptest! {
        /// The chunks hold exactly the added entries, in order, within the bounds of one send.
        #[test]
        fn a_gather_list_is_every_entry_once_in_sends_within_bounds(
            steps in prop::collection::vec((1_u32..4_000, any::<bool>()), 1..900),
        ) {
            let mut gather = Gather::default();
            let (mut position, mut expected) = (0, Vec::new());
            for (number, (len, gap)) in (0..).zip(steps) {
                position += if gap { 10 } else { 0 };
                gather.add(number, Piece::Log(Run { position, len }), len, 0);
                expected.extend(position..position + u64::from(len));
                position += u64::from(len);
            }
            let mut bytes = Vec::new();
            let mut end = 0;
            for chunk in gather.chunks() {
                prop_assert!(chunk.pieces.len() <= GATHER_SLICES_MAX);
                prop_assert!(chunk.bytes <= GATHER_BYTES_MAX);
                prop_assert_eq!((chunk.first, chunk.end - chunk.first), (end, chunk.events));
                end = chunk.end;
                let mut chunk_bytes = 0;
                for piece in gather.pieces(chunk) {
                    let Piece::Log(run) = piece else { panic!("only the log was added") };
                    chunk_bytes += run.len as usize;
                    bytes.extend(run.position..run.position + u64::from(run.len));
                }
                prop_assert_eq!(chunk_bytes, chunk.bytes);
            }
            prop_assert_eq!(bytes, expected);
        }
    }
}
