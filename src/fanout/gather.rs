//! The gather list of a cohort: what some of its in-sync members have not been sent.
//!
//! It grows at its end while it is being sent. Each member stands before one of its parts, where
//! its cursor says, and is brought up to the end in one send. Not here: who is sent it. Invariant:
//! the parts hold the added frames once, in order, and nobody stands within a part.

use std::ops::Range;

use crate::limits::{GATHER_BYTES_MAX, GATHER_SLICES_MAX};

use super::retained::Piece;

/// Frames that whoever has not been sent them is sent together.
#[derive(Debug)]
struct Part {
    piece: Piece,
    /// Number of its first log entry.
    first: u64,
    /// Number behind its last log entry.
    end: u64,
    /// Events in it.
    events: u64,
    /// `ts_in` of its oldest event.
    ts_in: u64,
}

/// Where members stand who are to be sent the same.
#[derive(Debug, Default)]
pub struct Mark {
    /// The place of the next part that they have not been sent.
    next: usize,
    /// Their cursors.
    cursors: Range<u64>,
}

impl Mark {
    /// Whether a member with this cursor stands here.
    #[inline]
    #[must_use]
    pub const fn is_of(&self, cursor: u64) -> bool {
        cursor.wrapping_sub(self.cursors.start) < self.cursors.end - self.cursors.start
    }
}

/// What one send brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// Bytes in all.
    pub bytes: usize,
    /// Events in all.
    pub events: u64,
    /// Number behind its last log entry.
    pub end: u64,
    /// `ts_in` of its oldest event.
    pub ts_in: u64,
}

/// What some of a cohort's in-sync members have not been sent.
#[derive(Debug, Default)]
pub struct Gather {
    parts: Vec<Part>,
    /// Somebody stands at the end, or may.
    is_cut: bool,
}

impl Gather {
    /// Adds the frame of entry `number`.
    pub(super) fn add(&mut self, number: u64, piece: Piece, len: u32, ts_in: u64) {
        if !self.is_cut
            && let Some(part) = self.parts.last_mut()
            && part.piece.len() as usize + len as usize <= GATHER_BYTES_MAX
            && part.piece.extend(&piece)
        {
            part.events += 1;
            part.end = number + 1;
            return;
        }
        self.is_cut = false;
        self.parts.push(Part { piece, first: number, end: number + 1, events: 1, ts_in });
    }

    /// Somebody stands at the end: what is added from now on is another part. Returns the number
    /// behind the last entry, 0 if there is none.
    pub(super) fn cut(&mut self) -> u64 {
        self.is_cut = true;
        self.parts.last().map_or(0, |part| part.end)
    }

    /// Where a member with this cursor stands.
    pub(super) fn mark(&self, cursor: u64) -> Mark {
        let next = self.parts.partition_point(|part| part.end <= cursor);
        let before = &self.parts[..next];
        let start = before.last().map_or(0, |part| part.end);
        let end = self.parts.get(next).map_or(u64::MAX, |part| part.first + 1);
        debug_assert!((start..end).contains(&cursor), "nobody stands within a part");
        Mark { next, cursors: start..end }
    }

    /// What the next send brings to those who stand at `mark`, within its bounds; `each` is given
    /// its pieces. Nothing when they have been sent everything.
    pub(super) fn portion(&mut self, mark: &Mark, mut each: impl FnMut(Piece)) -> Option<Portion> {
        self.is_cut = true;
        let (first, others) = self.parts[mark.next..].split_first()?;
        let Part { mut piece, events, end, ts_in, .. } = *first;
        let mut portion = Portion { bytes: piece.len() as usize, events, end, ts_in };
        let mut pieces = 1;
        for part in others {
            let len = part.piece.len() as usize;
            if portion.bytes + len > GATHER_BYTES_MAX {
                break;
            }
            if !piece.extend(&part.piece) {
                if pieces == GATHER_SLICES_MAX {
                    break;
                }
                each(std::mem::replace(&mut piece, part.piece));
                pieces += 1;
            }
            portion.bytes += len;
            portion.events += part.events;
            portion.end = part.end;
        }
        each(piece);
        Some(portion)
    }

    /// Forgets the parts before entry `end`, which everybody has been sent.
    pub(super) fn forget(&mut self, end: u64) {
        let sent = self.parts.partition_point(|part| part.end <= end);
        self.parts.drain(..sent);
    }

    /// Number of the first entry that somebody has not been sent, if there is one.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.parts.first().map(|part| part.first)
    }

    /// True when everybody has been sent everything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::log::Run;
    use super::*;
    use crate::protocol::encoding::Form;

    /// What happens to a list.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A frame of so many bytes comes, adjacent to the one before or not.
        Add(u32, bool),
        /// One more member stands at the end.
        Join,
        /// Some members, by a number, are brought up to date as far as one send does it.
        Send(usize),
        /// What everybody has is forgotten.
        Forget,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (1_u32..4_000, any::<bool>()).prop_map(|(len, gap)| Step::Add(len, gap)),
            1 => (100_000_u32..300_000).prop_map(|len| Step::Add(len, false)),
            1 => Just(Step::Join),
            2 => any::<usize>().prop_map(Step::Send),
            1 => Just(Step::Forget),
        ];
        // Now and then so much at once that one send does not hold it.
        let burst = Just(vec![Step::Add(1, true); GATHER_SLICES_MAX + 9]);
        let part = prop_oneof![30 => step.prop_map(|step| vec![step]), 1 => burst];
        prop::collection::vec(part, 1..150).prop_map(|parts| parts.concat())
    }

    /// The same bytes in as few ranges as possible.
    fn merged(ranges: impl Iterator<Item = (u64, u32)>) -> Vec<(u64, u64)> {
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (start, len) in ranges {
            match merged.last_mut() {
                Some((_, end)) if *end == start => *end += u64::from(len),
                _ => merged.push((start, start + u64::from(len))),
            }
        }
        merged
    }

    proptest! {
        /// Whoever is sent something, whenever: each member gets every frame that came after it
        /// joined, once and in order, in sends within bounds.
        #[test]
        fn each_member_is_sent_every_frame_once_in_sends_within_bounds(steps in steps()) {
            let mut gather = Gather::default();
            let (mut number, mut position) = (7, 0);
            // Each frame's number, position and bytes.
            let mut frames = Vec::new();
            // Each member's cursor, and what it is to be sent.
            let mut members = vec![(0, 0)];
            for step in steps.into_iter().chain([Step::Send(usize::MAX); 200]) {
                match step {
                    Step::Add(len, gap) => {
                        // Entries that this cohort does not want lie between.
                        number += 1 + u64::from(gap);
                        position += u64::from(gap);
                        let piece = Piece::Log(Run { position, len, form: Form::Json });
                        gather.add(number, piece, len, number);
                        frames.push((number, position, len));
                        position += u64::from(len);
                    }
                    Step::Join => {
                        gather.cut();
                        members.push((number + 1, frames.len()));
                    }
                    Step::Send(which) => for (at, (cursor, next)) in (0..).zip(&mut members) {
                        if which >> (at % 60) & 1 == 0 {
                            continue;
                        }
                        let mark = gather.mark(*cursor);
                        prop_assert!(mark.is_of(*cursor));
                        let mut pieces = Vec::new();
                        let portion = gather.portion(&mark, |piece| pieces.push(piece));
                        let Some(portion) = portion else {
                            prop_assert_eq!(*next, frames.len());
                            continue;
                        };
                        let count = usize::try_from(portion.events).unwrap();
                        let sent = &frames[*next..*next + count];
                        let ranges = sent.iter().map(|&(_, position, len)| (position, len));
                        let pieces_ranges = pieces.iter().map(|piece| match piece {
                            Piece::Log(run) => (run.position, run.len),
                            Piece::Kept { .. } | Piece::Past(_) => panic!("only the log was added"),
                        });
                        let bytes: u64 = ranges.clone().map(|(_, len)| u64::from(len)).sum();
                        prop_assert_eq!(portion.bytes as u64, bytes);
                        prop_assert_eq!(merged(ranges), merged(pieces_ranges));
                        prop_assert!(pieces.len() <= GATHER_SLICES_MAX);
                        prop_assert!(count == 1 || portion.bytes <= GATHER_BYTES_MAX);
                        prop_assert_eq!(portion.ts_in, sent[0].0);
                        (*cursor, *next) = (portion.end, *next + count);
                        prop_assert_eq!(portion.end, sent[count - 1].0 + 1);
                    },
                    Step::Forget => {
                        gather.forget(members.iter().map(|&(cursor, _)| cursor).min().unwrap());
                    }
                }
            }
            for (cursor, next) in members {
                prop_assert_eq!(next, frames.len());
                gather.forget(cursor);
            }
            prop_assert!(gather.is_empty());
        }
    }
}
