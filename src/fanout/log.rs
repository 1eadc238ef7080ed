//! One core's frame log: fixed rings of finished frames, one for each form, and their index.
//!
//! Frames lie in `seq` order, each in one piece. Entries are numbered from 0 without end; a cursor
//! is the number of the next entry to read, in whatever form. JSON is always there, other forms
//! from when they begin to when they end. What gives way in one ring gives way in all. Not here:
//! who reads, what an entry means to them, and how a frame comes about.
//!
//! Invariant: `tail <= head`, every entry in `tail..head` has its bytes in every form in use up to
//! where that was written, and the memory in use changes only when a form begins or ends.

use std::ops::Range;

use crate::handoff::batch::{ChannelId, SlotId};
use crate::limits::LOG_BYTES_PER_ENTRY;
use crate::protocol::encoding::{Encoding, Form};

use super::ring::ByteRing;
use super::track::Track;

/// What the index keeps of one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// The event's place in the total order.
    pub seq: u64,
    /// Where its frame of JSON begins; positions grow without end, the ring is their remainder.
    pub position: u64,
    /// Bytes of that frame, header included.
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
    /// Position of its first byte in the ring of its form.
    pub position: u64,
    /// Its bytes.
    pub len: u32,
    /// Which ring it is in.
    pub form: Form,
}

impl Run {
    /// Grows by `next` when that lies directly behind; false when it does not.
    #[must_use]
    pub fn extend(&mut self, next: &Self) -> bool {
        let adjacent =
            self.position + u64::from(self.len) == next.position && self.form == next.form;
        if adjacent {
            self.len += next.len;
        }
        adjacent
    }
}

impl From<&Entry> for Run {
    fn from(entry: &Entry) -> Self {
        Self { position: entry.position, len: entry.len, form: Form::Json }
    }
}

const _: () = assert!(size_of::<Entry>() == 32, "two entries a cache line");

/// The rings of frames and their index.
#[derive(Debug)]
pub struct FrameLog {
    /// The frames of JSON.
    ring: ByteRing,
    entries: Box<[Entry]>,
    /// The other forms that are in use.
    tracks: [Option<Box<Track>>; Form::FURTHER],
    /// Number of the oldest entry that still has its bytes.
    tail: u64,
    /// `seq` of the entry before that one, 0 if there never was one.
    seq_gone: u64,
    /// Number of the next entry to be written.
    head: u64,
    /// `seq` of the newest entry ever written, or of what was skipped behind it; 0 if none.
    seq_last: u64,
}

impl FrameLog {
    /// A log of `bytes` bytes; both rings are rounded up to a power of two.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.next_power_of_two();
        let entries = (bytes / LOG_BYTES_PER_ENTRY).max(2).next_power_of_two();
        Self {
            ring: ByteRing::new(bytes),
            entries: vec![Entry::default(); entries].into_boxed_slice(),
            tracks: Default::default(),
            tail: 0,
            seq_gone: 0,
            head: 0,
            seq_last: 0,
        }
    }

    /// Appends a frame of JSON, whose bytes the caller writes into the returned slice. `entry` says
    /// all but the position. The oldest entries give way; each is shown to `leaving` first.
    ///
    /// # Panics
    /// When the frame is not shorter than the log.
    pub fn append(&mut self, entry: Entry, mut leaving: impl FnMut(u64, &Self)) -> &mut [u8] {
        debug_assert!(entry.seq > self.seq_last, "seq rises");
        let len = entry.len as usize;
        let position = self.ring.reserve(len);
        let oldest = self.ring.oldest();
        while self.tail < self.head
            && (self.entry(self.tail).position < oldest
                || self.head - self.tail == self.entries.len() as u64)
        {
            self.give_way(&mut leaving);
        }
        let at = self.place(self.head);
        self.entries[at] = Entry { position, ..entry };
        self.head += 1;
        self.seq_last = entry.seq;
        self.ring.piece_mut(position, len)
    }

    /// Begins to have frames of another form, none of which it has yet: of those to come, or where
    /// its clients cannot read JSON, of all of them.
    pub fn begin(&mut self, form: Form) {
        if let Some(at) = further(form) {
            let bytes = usize::try_from(self.ring.capacity()).expect("it is in memory");
            // Longer than JSON by less than half an entry's share: nothing gives way to it.
            let bytes = if form == Form::Sse { 2 * bytes } else { bytes };
            let next = if form.is_alone() { self.tail } else { self.head };
            self.tracks[at] = Some(Box::new(Track::new(bytes, self.entries.len(), next)));
        }
    }

    /// Ends to have frames of another form; nobody reads it.
    pub fn end(&mut self, form: Form) {
        if let Some(at) = further(form) {
            self.tracks[at] = None;
        }
    }

    /// Number of the entry that is written next in another form that is in use. Below the head,
    /// older entries are still being written.
    #[must_use]
    pub fn next_in(&self, form: Form) -> u64 {
        self.track(form).map_or(self.head, |track| track.next().max(self.tail))
    }

    /// Forms beside JSON that are in use.
    pub fn forms(&self) -> impl Iterator<Item = Form> + use<> {
        let in_use = self.tracks.each_ref().map(Option::is_some);
        Form::ALL.into_iter().skip(1).zip(in_use).filter_map(|(form, is)| is.then_some(form))
    }

    /// Whether there is another form than JSON.
    #[must_use]
    pub fn has_forms(&self) -> bool {
        self.tracks.iter().any(Option::is_some)
    }

    /// Appends the frame that entry `number`, which is in the log, has in another form that is in
    /// use; an empty one says that it is read as JSON. To be called for each entry, in order, from
    /// [`Self::next_in`] on. The oldest entries may give way, as in [`Self::append`].
    pub fn append_form(
        &mut self,
        form: Form,
        number: u64,
        frame: &[u8],
        mut leaving: impl FnMut(u64, &Self),
    ) {
        let Some(track) = self.track_mut(form) else { return };
        track.reserve(number, frame.len());
        while self.tail < number && self.track(form).is_some_and(|t| t.is_overwritten(self.tail)) {
            self.give_way(&mut leaving);
        }
        if let Some(track) = self.track_mut(form) {
            track.bytes_mut(number).copy_from_slice(frame);
        }
    }

    /// The oldest entry gives way, and is shown to `leaving` first.
    fn give_way(&mut self, leaving: &mut impl FnMut(u64, &Self)) {
        leaving(self.tail, self);
        self.seq_gone = self.entry(self.tail).seq;
        self.tail += 1;
    }

    /// Notes that what comes has a higher `seq` than this.
    pub fn skip_to(&mut self, seq: u64) {
        self.seq_last = self.seq_last.max(seq);
    }

    /// Number of the oldest entry that can be read.
    #[must_use]
    pub const fn tail(&self) -> u64 {
        self.tail
    }

    /// `seq` of the newest entry that has given way, 0 if none has: every event after it that was
    /// ever written can be read. Between it and the oldest entry there may be numbers that are no
    /// events.
    #[must_use]
    pub const fn seq_gone(&self) -> u64 {
        self.seq_gone
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

    /// Position behind the newest frame of JSON.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.ring.end()
    }

    /// Bytes of the ring of JSON that hold frames.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        if self.tail == self.head { 0 } else { self.ring.end() - self.entry(self.tail).position }
    }

    /// Bytes of each ring.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.ring.capacity()
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

    /// What a client of `encoding` is sent of entry `number`, which is in the log and of which
    /// `entry` is the index.
    #[must_use]
    pub fn run(&self, encoding: Encoding, number: u64, entry: &Entry) -> Run {
        let form = encoding.form();
        let found = if encoding.reads(entry.len) { self.find(form, number) } else { None };
        found.map_or_else(|| entry.into(), |(position, len)| Run { position, len, form })
    }

    /// The frame that entry `number`, which is in the log, has of its own in another form.
    #[must_use]
    pub fn frame(&self, form: Form, number: u64) -> Option<&[u8]> {
        let (position, len) = self.find(form, number)?;
        Some(self.bytes(Run { position, len, form }))
    }

    /// The bytes of a run whose entries are all in the log.
    #[must_use]
    pub fn bytes(&self, run: Run) -> &[u8] {
        match self.track(run.form) {
            None => self.ring.piece(run.position, run.len as usize),
            Some(track) => track.bytes(run.position, run.len),
        }
    }

    fn find(&self, form: Form, number: u64) -> Option<(u64, u32)> {
        self.track(form)?.find(number)
    }

    fn track(&self, form: Form) -> Option<&Track> {
        self.tracks[further(form)?].as_deref()
    }

    fn track_mut(&mut self, form: Form) -> Option<&mut Track> {
        self.tracks[further(form)?].as_deref_mut()
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number & (self.entries.len() as u64 - 1)).expect("below the ring's length")
    }
}

/// The place of a form among those beside JSON.
const fn further(form: Form) -> Option<usize> {
    (form as usize).checked_sub(1)
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
                log.append(entry(seq, len), |number, log| {
                    left.push(number);
                    let entry = log.entry(number);
                    let bytes = log.bytes(entry.into());
                    assert_eq!(bytes, frame(entry.seq, bytes.len()), "what leaves is still whole");
                })
                .copy_from_slice(&frame(seq, len));
                prop_assert_eq!(left, (tail..log.tail()).collect::<Vec<_>>());
                prop_assert_eq!(log.seq_gone(), log.tail(), "entry 0 has the seq 1");
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

    proptest! {
        /// Frames of another form, some longer than those of JSON, some without: whatever gives
        /// way, what the log says it holds can be read in both forms, and it begins late.
        #[test]
        fn every_entry_has_its_bytes_in_every_form(
            lens in prop::collection::vec((1_usize..700, 0_usize..900), 1..300),
            begin in 0_usize..100,
        ) {
            let deflate = Encoding::Deflate { window_bits: 15 };
            let mut log = FrameLog::new(2_048);
            for (at, &(len, other)) in lens.iter().enumerate() {
                let seq = at as u64 + 1;
                let mut tail = log.tail();
                let mut is_next = |number, _: &FrameLog| {
                    assert_eq!(number, tail, "entries leave in order");
                    tail += 1;
                };
                log.append(entry(seq, len), &mut is_next).copy_from_slice(&frame(seq, len));
                if at == begin {
                    log.begin(Form::Deflate);
                }
                log.append_form(Form::Deflate, seq - 1, &frame(seq + 7, other), is_next);
                prop_assert_eq!((log.tail(), log.seq_gone()), (tail, tail));
                for number in log.tail()..log.head() {
                    let entry = *log.entry(number);
                    let at = usize::try_from(number).unwrap();
                    prop_assert_eq!(log.bytes((&entry).into()), frame(number + 1, lens[at].0));
                    let run = log.run(deflate, number, &entry);
                    let expected = match lens[at].1 {
                        1.. if at >= begin => frame(number + 8, lens[at].1),
                        _ => frame(number + 1, lens[at].0),
                    };
                    prop_assert_eq!(log.bytes(run), expected);
                }
            }
        }
    }

    #[test]
    fn runs_grow_over_neighbours_and_stop_at_the_end_of_the_ring() {
        let mut log = FrameLog::new(256);
        for seq in 1..=3_u8 {
            log.append(entry(u64::from(seq), 100), |_, _| {}).fill(seq);
        }
        let mut run = Run::from(log.entry(1));
        assert!(!run.extend(&Run::from(log.entry(2))), "frame 3 wrapped to the start");
        assert_eq!(log.tail(), 1, "and took the place of frame 1");
        assert_eq!(log.bytes(run), [2; 100]);
        assert_eq!((log.seq_before(1), log.seq_before(3), log.seq_last()), (1, 3, 3));
    }
}
