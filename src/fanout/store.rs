//! What a shard has of events: the log, what has left it and still counts, and what is newest.
//!
//! The three change together, with each event. Not here: who is to get what. Invariant: an entry
//! that counts is in the log, or kept, or noted as forgotten.

use crate::protocol::event::Kind;

use super::log::{Entry, FrameLog};
use super::retained::{Piece, Retained};
use super::slots::Slots;

/// The events of a shard.
#[derive(Debug)]
pub struct Store {
    /// The newest, all of them.
    pub log: FrameLog,
    /// What has left the log and still counts.
    pub retained: Retained,
    /// What is newest of each channel and key.
    pub slots: Slots,
}

impl Store {
    /// Room for `log_bytes` bytes of frames, and for `retained_bytes` beside them.
    #[must_use]
    pub fn new(log_bytes: usize, retained_bytes: usize) -> Self {
        Self {
            log: FrameLog::new(log_bytes),
            retained: Retained::new(retained_bytes),
            slots: Slots::default(),
        }
    }

    /// Appends an event, whose frame the caller writes into the returned slice.
    pub fn append(&mut self, entry: Entry, kind: Kind) -> &mut [u8] {
        let Self { log, retained, slots } = self;
        if slots.handle_entry(entry.slot, log.head(), kind) {
            retained.release(entry.slot, slots);
        }
        log.append(entry, |number, entry, frame| {
            retained.handle_leaving(number, entry, frame, slots);
        })
    }

    /// What the index says, or said, of entry `number`, which is in the log or kept.
    #[must_use]
    pub fn entry(&self, number: u64) -> &Entry {
        if number < self.log.tail() { self.retained.entry(number) } else { self.log.entry(number) }
    }

    /// The frame of entry `number`, which is in the log or kept.
    #[must_use]
    pub fn piece(&self, number: u64, entry: &Entry) -> Piece {
        if number < self.log.tail() {
            Piece::Kept { number, len: entry.len }
        } else {
            Piece::Log(entry.into())
        }
    }

    /// The bytes of `piece`.
    #[must_use]
    pub fn bytes(&self, piece: Piece) -> &[u8] {
        match piece {
            Piece::Log(run) => self.log.bytes(run),
            Piece::Kept { number, .. } => self.retained.frame(number),
        }
    }
}
