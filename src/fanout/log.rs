//! One core's frame log: a fixed ring of finished frames, and an index beside it.
//!
//! Frames lie in `seq` order, each in one piece. Entries are numbered from 0 without end; a cursor
//! is the number of the next entry to read. Not here: who reads, and what an entry means to them.
//!
//! Invariant: `tail <= head`, every entry in `tail..head` has its bytes, and the memory in use
//! never changes after [`FrameLog::new`].

use std::ops::Range;

use crate::handoff::batch::{ChannelId, SlotId};
use crate::limits::LOG_BYTES_PER_ENTRY;

/// What the index keeps of one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// The event's place in the total order.
    pub seq: u64,
    /// Where the frame begins; positions grow without end, the ring is their remainder.
    pub position: u64,
    /// Bytes of the frame, header included.
    pub len: u32,
    /// The event's channel.
    pub channel: ChannelId,
    /// The event's slot.
    pub slot: SlotId,
    /// When it was appended: milliseconds of the monotonic clock, modulo 2³².
    pub time_ms: u32,
}

/// A run of frames that are wanted together and lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Position of its first byte.
    pub position: u64,
    /// Its bytes.
    pub len: u32,
}

impl Run {
    /// Grows by `next` when that lies directly behind; false when it does not.
    #[must_use]
    pub fn extend(&mut self, next: &Self) -> bool {
        let adjacent = self.position + u64::from(self.len) == next.position;
        if adjacent {
            self.len += next.len;
        }
        adjacent
    }
}

impl From<&Entry> for Run {
    fn from(entry: &Entry) -> Self {
        Self { position: entry.position, len: entry.len }
    }
}

const _: () = assert!(size_of::<Entry>() == 32, "two entries a cache line");

/// The ring of frames and its index.
#[derive(Debug)]
pub struct FrameLog {
    bytes: Box<[u8]>,
    entries: Box<[Entry]>,
    /// Number of the oldest entry that still has its bytes.
    tail: u64,
    /// Number of the next entry to be written.
    head: u64,
    /// Position at which the next frame begins, unless it would cross the end of the ring.
    position: u64,
    /// `seq` of the newest entry ever written, 0 if none.
    seq_last: u64,
}

impl FrameLog {
    /// A log of `bytes` bytes; both rings are rounded up to a power of two.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.next_power_of_two();
        let entries = (bytes / LOG_BYTES_PER_ENTRY).max(2).next_power_of_two();
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            entries: vec![Entry::default(); entries].into_boxed_slice(),
            tail: 0,
            head: 0,
            position: 0,
            seq_last: 0,
        }
    }

    /// Appends a frame, whose bytes the caller writes into the returned slice. `entry` says all but
    /// the position. The oldest entries give way; each is shown to `leaving` first.
    ///
    /// # Panics
    /// When the frame is not shorter than the log.
    pub fn append(
        &mut self,
        entry: Entry,
        mut leaving: impl FnMut(u64, &Entry, &[u8]),
    ) -> &mut [u8] {
        let capacity = self.bytes.len() as u64;
        let len = entry.len as usize;
        assert!((len as u64) < capacity, "a frame of {len} bytes in a log of {capacity}");
        debug_assert!(entry.seq > self.seq_last, "seq rises");
        let room = capacity - (self.position & (capacity - 1));
        // A frame that would end exactly at the end of the ring goes to the start as well, so that
        // neighbouring positions are always neighbouring bytes.
        if len as u64 >= room {
            self.position += room;
        }
        let position = self.position;
        let end = position + len as u64;
        while self.tail < self.head
            && (self.entry(self.tail).position + capacity < end
                || self.head - self.tail == self.entries.len() as u64)
        {
            let oldest = self.entry(self.tail);
            leaving(self.tail, oldest, self.bytes(Run::from(oldest)));
            self.tail += 1;
        }
        let at = self.place(self.head);
        self.entries[at] = Entry { position, ..entry };
        self.head += 1;
        self.position = end;
        self.seq_last = entry.seq;
        let start = usize::try_from(position & (capacity - 1)).expect("below the ring's length");
        &mut self.bytes[start..start + len]
    }

    /// Number of the oldest entry that can be read.
    #[must_use]
    pub const fn tail(&self) -> u64 {
        self.tail
    }

    /// Number of the next entry to be written; a cursor that equals it has read everything.
    #[must_use]
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// `seq` of the newest entry, 0 if there never was one.
    #[must_use]
    pub const fn seq_last(&self) -> u64 {
        self.seq_last
    }

    /// Position behind the newest frame.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the ring that hold frames.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        if self.tail == self.head { 0 } else { self.position - self.entry(self.tail).position }
    }

    /// Bytes of the ring.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The entry `number`, which must be in `tail..head`.
    #[must_use]
    pub fn entry(&self, number: u64) -> &Entry {
        debug_assert!((self.tail..self.head).contains(&number), "entry {number} is not in the log");
        &self.entries[self.place(number)]
    }

    /// The last `seq` before the entry `cursor`: everything up to it is behind a reader there.
    #[must_use]
    pub fn seq_before(&self, cursor: u64) -> u64 {
        if cursor >= self.head { self.seq_last } else { self.entry(cursor).seq - 1 }
    }

    /// The first entry of `range`, which is in the log, with a `seq` above this one; the end of the
    /// range if there is none.
    #[must_use]
    pub fn first_after(&self, seq: u64, range: Range<u64>) -> u64 {
        let Range { start: mut low, end: mut high } = range;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle).seq <= seq {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The bytes of a run whose entries are all in the log.
    #[must_use]
    pub fn bytes(&self, run: Run) -> &[u8] {
        let start = usize::try_from(run.position & (self.bytes.len() as u64 - 1))
            .expect("below the ring's length");
        &self.bytes[start..start + run.len as usize]
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number & (self.entries.len() as u64 - 1)).expect("below the ring's length")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(seq: u64, len: usize) -> Entry {
        Entry { seq, len: u32::try_from(len).unwrap(), ..Entry::default() }
    }

    fn frame(seq: u64, len: usize) -> Vec<u8> {
        let first = usize::try_from(seq * 31).unwrap();
        (first..first + len).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    proptest! {
        /// The model keeps every frame; the log must agree wherever it claims to hold one, and must
        /// hold the newest frames that fit.
        #[test]
        fn every_entry_in_the_log_has_its_own_bytes(
            lens in prop::collection::vec(1_usize..700, 1..300),
        ) {
            let mut log = FrameLog::new(2_048);
            for (at, &len) in lens.iter().enumerate() {
                let seq = at as u64 + 1;
                let mut left = Vec::new();
                let tail = log.tail();
                log.append(entry(seq, len), |number, entry, bytes| {
                    left.push(number);
                    assert_eq!(bytes, frame(entry.seq, bytes.len()), "what leaves is still whole");
                })
                .copy_from_slice(&frame(seq, len));
                prop_assert_eq!(left, (tail..log.tail()).collect::<Vec<_>>());
                prop_assert_eq!(log.head(), seq);
                prop_assert!(log.head() - log.tail() <= 16);
                for number in log.tail()..log.head() {
                    let entry = *log.entry(number);
                    prop_assert_eq!(entry.seq, number + 1);
                    let expected = frame(entry.seq, lens[usize::try_from(number).unwrap()]);
                    prop_assert_eq!(log.bytes(Run::from(&entry)), &expected[..]);
                }
                let held: usize = (log.tail()..log.head()).map(|n| log.entry(n).len as usize).sum();
                if log.tail() > 0 && log.head() - log.tail() < 16 {
                    prop_assert!(held + 2 * 700 > 2_048, "only {held} bytes are kept");
                }
            }
        }
    }

    #[test]
    fn runs_grow_over_neighbours_and_stop_at_the_end_of_the_ring() {
        let mut log = FrameLog::new(256);
        for seq in 1..=3_u8 {
            log.append(entry(u64::from(seq), 100), |_, _, _| {}).fill(seq);
        }
        let mut run = Run::from(log.entry(1));
        assert!(!run.extend(&Run::from(log.entry(2))), "frame 3 wrapped to the start");
        assert_eq!(log.tail(), 1, "and took the place of frame 1");
        assert_eq!(log.bytes(run), [2; 100]);
        assert_eq!((log.seq_before(1), log.seq_before(3), log.seq_last()), (1, 3, 3));
    }
}
