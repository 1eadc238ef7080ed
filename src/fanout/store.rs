//! What a shard has of events: the log, what has left it and still counts, and what is newest.
//!
//! The three change together, with each event. Not here: who is to get what. Invariant: an entry
//! that counts is in the log, or kept, or noted as forgotten; and what is in the log or kept can be
//! read in every form in use.

use crate::protocol::encoding::{Encoding, Form};
use crate::protocol::event::Kind;

use super::encoders::{Compressed, Encoders};
use super::log::{Entry, FrameLog};
use super::retained::{Piece, Retained};
use super::shelves::Shelves;
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
    /// What is read back of the time before the log.
    pub shelves: Shelves,
    encoders: Encoders,
}

impl Store {
    /// Room for `log_bytes` bytes of frames, and for `retained_bytes` beside them, in each form.
    #[must_use]
    pub fn new(log_bytes: usize, retained_bytes: usize, encoders: Encoders) -> Self {
        Self {
            log: FrameLog::new(log_bytes),
            retained: Retained::new(retained_bytes),
            slots: Slots::default(),
            shelves: Shelves::default(),
            encoders,
        }
    }

    /// Appends an event, whose frame of JSON the caller writes into the returned slice; then
    /// [`Self::encode_newest`] is called.
    pub fn append(&mut self, entry: Entry, kind: Kind) -> &mut [u8] {
        let Self { log, retained, slots, .. } = self;
        if slots.handle_entry(entry.slot, (log.head(), entry.seq), kind) {
            retained.release(entry.slot, slots);
        }
        log.append(entry, |number, log| retained.handle_leaving(number, log, slots))
    }

    /// Writes the newest entry in the other forms that are in use, compressed if somebody
    /// `wants_compressed`. Returns the bytes of the longest one.
    pub fn encode_newest(&mut self, wants_compressed: bool) -> usize {
        let Self { log, retained, slots, encoders, .. } = self;
        let number = log.head() - 1;
        let mut longest = 0;
        for form in log.forms() {
            let entry = log.entry(number);
            let frame: &[u8] = match form {
                Form::Deflate if !wants_compressed => &[],
                _ => encoders.encode(form, entry.channel, log.bytes(entry.into())),
            };
            longest = longest.max(frame.len());
            let leaving = |number, log: &FrameLog| retained.handle_leaving(number, log, slots);
            log.append_form(form, number, frame, leaving);
        }
        longest
    }

    /// Begins to have events in the form of `encoding`, if it does not yet.
    pub fn begin(&mut self, encoding: Encoding) {
        let form = encoding.form();
        if form != Form::Json && self.log.forms().all(|known| known != form) {
            self.log.begin(form);
            if form.is_alone() {
                self.fill(form);
            }
        }
    }

    /// Writes everything that is in the log or kept in a form that has just begun. Nothing gives
    /// way to that: a pass may be under way.
    fn fill(&mut self, form: Form) {
        let Self { log, retained, encoders, .. } = self;
        retained.fill(form, encoders);
        for number in log.tail()..log.head() {
            let entry = log.entry(number);
            let frame = encoders.encode(form, entry.channel, log.bytes(entry.into()));
            log.append_form(form, number, frame, |_, _| debug_assert!(false, "there is room"));
        }
    }

    /// What compression came to since the last call.
    pub fn take_compressed(&mut self) -> Compressed {
        self.encoders.take_compressed()
    }

    /// What the index says, or said, of entry `number`, which is in the log or kept.
    #[must_use]
    pub fn entry(&self, number: u64) -> &Entry {
        if number < self.log.tail() { self.retained.entry(number) } else { self.log.entry(number) }
    }

    /// Writes the shelf at `place` in the form that clients of `encoding` read.
    pub fn prepare_shelf(&mut self, place: usize, encoding: Encoding) {
        self.shelves.prepare(place, encoding, &mut self.encoders);
    }

    /// What a client of `encoding` is sent of entry `number`, which is in the log or kept and of
    /// which `entry` is the index.
    #[must_use]
    pub fn piece(&self, encoding: Encoding, number: u64, entry: &Entry) -> Piece {
        if number < self.log.tail() {
            self.retained.piece(encoding, number, entry)
        } else {
            Piece::Log(self.log.run(encoding, number, entry))
        }
    }

    /// The same of an event in [`Form::Sse`] without the place of its client.
    #[must_use]
    pub fn without_place(&self, piece: Piece, entry: &Entry) -> Piece {
        piece.without_front(self.encoders.place_len(entry.seq))
    }

    /// The bytes of `piece`.
    #[must_use]
    pub fn bytes(&self, piece: Piece) -> &[u8] {
        match piece {
            Piece::Log(run) => self.log.bytes(run),
            Piece::Past(shelved) => self.shelves.bytes(shelved),
            Piece::Kept { number, len, form } => {
                let frame = self.retained.frame(form, number);
                &frame[frame.len().saturating_sub(len as usize)..]
            }
        }
    }
}
