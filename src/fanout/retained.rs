//! Frames that have left the log and still count: the newest of each slot, and of a book the newest
//! snapshot with the deltas since.
//!
//! They are copied here when the log lets go of them, so a feed whose keys move all the time keeps
//! almost nothing. Bounded: past the bound, the value that leaves the log is *forgotten*, which is
//! noted, so that whoever would have needed it is told. Not here: which entries count
//! ([`super::slots`]). Invariant: of every slot, the entries from its `base` on are in the log, or
//! here, or not after the number that is noted as forgotten.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::handoff::batch::SlotId;
use crate::limits::RETAINED_BOOK_BYTES_MAX;

use super::log::{Entry, Run};
use super::slots::Slots;

/// Bytes to send: a run of the log, or one kept frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Frames that lie side by side in the log.
    Log(Run),
    /// The kept frame of an entry.
    Kept {
        /// The entry's number.
        number: u64,
        /// Bytes of the frame.
        len: u32,
    },
}

impl Piece {
    /// Its bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame has bytes")]
    pub const fn len(&self) -> usize {
        match self {
            Self::Log(Run { len, .. }) | Self::Kept { len, .. } => *len as usize,
        }
    }

    /// Grows by `next` when that lies directly behind; false when it does not.
    #[must_use]
    pub fn extend(&mut self, next: &Self) -> bool {
        match (self, next) {
            (Self::Log(run), Self::Log(next)) => run.extend(next),
            _ => false,
        }
    }
}

/// A frame that is kept, or the note that it was forgotten.
#[derive(Debug)]
pub struct Kept {
    /// What the log's index said of it; the position means nothing any more.
    pub entry: Entry,
    /// Its bytes; none when they were forgotten.
    pub frame: Option<Box<[u8]>>,
}

/// Every kept frame, by the number of its log entry.
#[derive(Debug)]
pub struct Retained {
    kept: BTreeMap<u64, Kept>,
    bytes: usize,
    bytes_max: usize,
}

impl Retained {
    /// Room for `bytes_max` bytes of frames.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { kept: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// An entry leaves the log.
    pub fn handle_leaving(&mut self, number: u64, entry: &Entry, frame: &[u8], slots: &mut Slots) {
        let slot = slots.slot_mut(entry.slot);
        if slot.supersedes(number) {
            return;
        }
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
    }

    /// Lets go of everything of a slot: a newer entry replaces it.
    pub fn release(&mut self, id: SlotId, slots: &mut Slots) {
        let slot = slots.slot_mut(id);
        for number in std::mem::take(&mut slot.kept) {
            self.kept.remove(&number);
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

    /// The frame of entry `number`, which is kept.
    #[must_use]
    pub fn frame(&self, number: u64) -> &[u8] {
        self.kept.get(&number).and_then(|kept| kept.frame.as_deref()).unwrap_or_default()
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

    /// Bytes of frames that are kept.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
