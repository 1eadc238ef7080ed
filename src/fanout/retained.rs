//! Frames that have left the log and still count: the newest of each slot, and of a book the newest
//! snapshot with the deltas since.
//!
//! They are copied here when the log lets go of them, in every form in which it has them, so a feed
//! whose keys move all the time keeps almost nothing. Bounded in bytes of JSON: past the bound, the
//! value that leaves the log is *forgotten*, which is noted, so that whoever would have needed it
//! is told. Not here: which entries count ([`super::slots`]). Invariant: of every slot, the entries
//! from its `base` on are in the log, or here, or not after the number that is noted as forgotten.

use std::collections::BTreeMap;
use std::collections::hash_map;
use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::handoff::batch::SlotId;
use crate::limits::RETAINED_BOOK_BYTES_MAX;
use crate::protocol::encoding::{Encoding, Form};

use super::encoders::Encoders;
use super::log::{Entry, FrameLog, Run};
use super::shelves::Shelved;
use super::slots::Slots;

/// Bytes to send: a run of the log, one kept frame, or a run of what is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Frames that lie side by side in the log.
    Log(Run),
    /// The kept frame of an entry.
    Kept {
        /// The entry's number.
        number: u64,
        /// Bytes of the frame, or of the end of it that is sent.
        len: u32,
        /// Which of its frames.
        form: Form,
    },
    /// Frames that lie side by side on a shelf.
    Past(Shelved),
}

const _: () = assert!(size_of::<Piece>() <= 24, "plans are made of them");

impl Piece {
    /// Its bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub const fn len(&self) -> u32 {
        match self {
            Self::Log(run) => run.len,
            Self::Kept { len, .. } => *len,
            Self::Past(shelved) => shelved.len,
        }
    }

    /// The same without the first `bytes` bytes of its one frame; of one that was forgotten there
    /// is nothing to leave out.
    #[must_use]
    pub const fn without_front(self, bytes: u32) -> Self {
        match self {
            Self::Log(Run { position, len, form }) => {
                Self::Log(Run { position: position + bytes as u64, len: len - bytes, form })
            }
            Self::Kept { number, len, form } => {
                Self::Kept { number, len: len.saturating_sub(bytes), form }
            }
            Self::Past(shelved) => Self::Past(shelved.without_front(bytes)),
        }
    }

    /// Grows by `next` when that lies directly behind; false when it does not.
    #[must_use]
    pub fn extend(&mut self, next: &Self) -> bool {
        match (self, next) {
            (Self::Log(run), Self::Log(next)) => run.extend(next),
            (Self::Past(shelved), Self::Past(next)) => shelved.extend(next),
            _ => false,
        }
    }
}

/// A frame that is kept, or the note that it was forgotten.
#[derive(Debug)]
pub struct Kept {
    /// What the log's index said of it; the position means nothing any more.
    pub entry: Entry,
    /// Its frame of JSON; none when it was forgotten.
    pub frame: Option<Box<[u8]>>,
}

/// Every kept frame, by the number of its log entry.
#[derive(Debug)]
pub struct Retained {
    kept: BTreeMap<u64, Kept>,
    /// The frames of kept entries that have one of their own in a form beside JSON.
    further: [FxHashMap<u64, Box<[u8]>>; Form::FURTHER],
    /// Bytes of the frames of JSON.
    bytes: usize,
    bytes_max: usize,
}

impl Retained {
    /// Room for `bytes_max` bytes of frames of JSON; those of other forms do not count.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let further = Default::default();
        Self { kept: BTreeMap::new(), further, bytes: 0, bytes_max }
    }

    /// Entry `number` leaves the log.
    pub fn handle_leaving(&mut self, number: u64, log: &FrameLog, slots: &mut Slots) {
        let entry = log.entry(number);
        let slot = slots.slot_mut(entry.slot);
        if slot.supersedes(number) {
            return;
        }
        let frame = log.bytes(entry.into());
        let fits = self.bytes + frame.len() <= self.bytes_max
            && slot.kept_bytes + frame.len() <= RETAINED_BOOK_BYTES_MAX.max(frame.len());
        // One missing delta makes the rest of a book useless.
        if !fits || !slot.is_whole() {
            self.release(entry.slot, slots);
            let slot = slots.slot_mut(entry.slot);
            slot.forgotten = Some(number);
            slot.deltas = Vec::new();
            self.kept.insert(number, Kept { entry: *entry, frame: None });
            return;
        }
        slot.kept.push(number);
        slot.kept_bytes += frame.len();
        self.bytes += frame.len();
        self.kept.insert(number, Kept { entry: *entry, frame: Some(frame.into()) });
        for form in log.forms() {
            if let Some(frame) = log.frame(form, number) {
                self.insert(form, number, frame);
            }
        }
    }

    /// Keeps what has number `from` or a higher one in a further form, too, as far as `bytes` bytes
    /// of JSON reach, give or take one frame. Returns where to go on; none when that was all.
    pub fn fill(
        &mut self,
        form: Form,
        from: u64,
        bytes: usize,
        encoders: &mut Encoders,
    ) -> Option<u64> {
        let frames = &mut self.further[(form as usize).checked_sub(1)?];
        let mut left = bytes;
        for (&number, kept) in self.kept.range(from..) {
            if left == 0 {
                return Some(number);
            }
            left = left.saturating_sub(kept.entry.len as usize);
            if let (Some(json), hash_map::Entry::Vacant(frame)) =
                (&kept.frame, frames.entry(number))
            {
                frame.insert(encoders.encode(form, kept.entry.channel, json).into());
            }
        }
        None
    }

    /// Keeps nothing in a further form any more; returns what was kept in it.
    pub fn take(&mut self, form: Form) -> FxHashMap<u64, Box<[u8]>> {
        let frames = (form as usize).checked_sub(1).map(|at| &mut self.further[at]);
        frames.map(std::mem::take).unwrap_or_default()
    }

    /// Keeps the frame of a kept entry in a form beside JSON.
    pub fn insert(&mut self, form: Form, number: u64, frame: &[u8]) {
        self.further[form as usize - 1].insert(number, frame.into());
    }

    /// Lets go of everything of a slot: a newer entry replaces it.
    pub fn release(&mut self, id: SlotId, slots: &mut Slots) {
        let slot = slots.slot_mut(id);
        for number in std::mem::take(&mut slot.kept) {
            self.kept.remove(&number);
            for frames in &mut self.further {
                frames.remove(&number);
            }
        }
        if let Some(number) = slot.forgotten.take() {
            self.kept.remove(&number);
        }
        self.bytes -= std::mem::take(&mut slot.kept_bytes);
    }

    /// The kept frames whose numbers are in `range`, in order.
    pub fn range(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Kept)> {
        // An empty range may be written backwards here; the map would not have it.
        let range = range.start..range.end.max(range.start);
        self.kept.range(range).map(|(&number, kept)| (number, kept))
    }

    /// What a client of `encoding` is sent of entry `number`, which is kept and of which `entry` is
    /// the index.
    #[must_use]
    pub fn piece(&self, encoding: Encoding, number: u64, entry: &Entry) -> Piece {
        let form = encoding.form();
        let further = if encoding.reads(entry.len) { self.find(form, number) } else { None };
        match further {
            None => Piece::Kept { number, len: entry.len, form: Form::Json },
            Some(frame) => {
                let len = u32::try_from(frame.len()).expect("limits keep frames below 4 GiB");
                Piece::Kept { number, len, form }
            }
        }
    }

    /// The frame of entry `number`, which is kept and has one in this form.
    #[must_use]
    pub fn frame(&self, form: Form, number: u64) -> &[u8] {
        match form {
            Form::Json => self.kept.get(&number).and_then(|kept| kept.frame.as_deref()),
            _ => self.find(form, number),
        }
        .unwrap_or_default()
    }

    fn find(&self, form: Form, number: u64) -> Option<&[u8]> {
        let place = (form as usize).checked_sub(1)?;
        self.further[place].get(&number).map(|frame| &**frame)
    }

    /// What the log's index said of entry `number`, which is kept.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn entry(&self, number: u64) -> &Entry {
        &self.kept.get(&number).expect("an entry that counts is in the log or kept").entry
    }

    /// Whether entry `number` is noted as forgotten.
    #[must_use]
    pub fn is_forgotten(&self, number: u64) -> bool {
        self.kept.get(&number).is_some_and(|kept| kept.frame.is_none())
    }

    /// Whether nothing is kept, nor noted as forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Bytes of frames of JSON that are kept.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
