//! What a shard has of events: the log, what has left it and still counts, and what is newest.
//!
//! The three change together, with each event. A form that begins while events flow, and that its
//! clients cannot do without, is *filled* from what is there, a little at a time, until it has come
//! up with the log. Not here: who is to get what. Invariant: an entry that counts is in the log, or
//! kept, or noted as forgotten; and what is in the log or kept can be read in every form that is
//! filled.

use std::collections::VecDeque;
use std::collections::hash_map::IntoIter;

use crate::limits::FREED_FRAMES;
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
    /// Forms that are not filled yet; the first one is at it.
    filling: VecDeque<Filling>,
    /// Bytes of JSON that were appended since the last step, and not written in the forms above.
    fill_due: usize,
    /// Kept frames of forms that have ended, which are freed a few at a time.
    freed: Vec<IntoIter<u64, Box<[u8]>>>,
}

/// A form that is being filled: first the log, then what is kept beside it.
#[derive(Debug)]
struct Filling {
    form: Form,
    /// Number before which it has what is kept.
    kept_to: u64,
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
            filling: VecDeque::new(),
            fill_due: 0,
            freed: Vec::new(),
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
        let Self { log, retained, slots, encoders, fill_due, .. } = self;
        let number = log.head() - 1;
        let mut longest = 0;
        for form in log.forms() {
            let entry = log.entry(number);
            if log.next_in(form) < number {
                *fill_due += entry.len as usize;
                continue;
            }
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

    /// Begins to have events in `form`, if it does not yet. Its clients are sent something when it
    /// [is filled](Self::is_filled).
    pub fn begin(&mut self, form: Form) {
        if form == Form::Json || self.log.forms().any(|known| known == form) {
            return;
        }
        self.log.begin(form);
        if form.is_alone()
            && !(self.log.next_in(form) == self.log.head() && self.retained.is_empty())
        {
            self.filling.push_back(Filling { form, kept_to: 0 });
        }
    }

    /// Ends to have events in `form`, which nobody reads any more.
    pub fn end(&mut self, form: Form) {
        self.filling.retain(|filling| filling.form != form);
        self.log.end(form);
        self.freed.push(self.retained.take(form).into_iter());
    }

    /// Whether everything that is in the log or kept can be read in `form`, which is in use.
    #[must_use]
    pub fn is_filled(&self, form: Form) -> bool {
        self.filling.iter().all(|filling| filling.form != form)
    }

    /// Whether there is something left for [`Self::step`].
    #[must_use]
    pub fn is_filling(&self) -> bool {
        !self.filling.is_empty()
    }

    /// Goes on with the first form that is not filled: by `bytes` bytes of JSON, give or take one
    /// frame, and by as many as were appended since the last step, so that it comes up with the
    /// log. True when that form is filled now.
    pub fn step(&mut self, bytes: usize) -> bool {
        let Some(filling) = self.filling.front_mut() else { return false };
        let Self { log, retained, slots, encoders, .. } = self;
        let mut left = bytes + std::mem::take(&mut self.fill_due);
        let form = filling.form;
        while log.next_in(form) < log.head() {
            if left == 0 {
                return false;
            }
            let number = log.next_in(form);
            let entry = log.entry(number);
            left = left.saturating_sub(entry.len as usize);
            let frame = encoders.encode(form, entry.channel, log.bytes(entry.into()));
            let leaving = |number, log: &FrameLog| retained.handle_leaving(number, log, slots);
            log.append_form(form, number, frame, leaving);
        }
        match retained.fill(form, filling.kept_to, left, encoders) {
            Some(number) => filling.kept_to = number,
            None => drop(self.filling.pop_front()),
        }
        self.is_filled(form)
    }

    /// Frees some frames of forms that have ended.
    pub fn free_some(&mut self) {
        if let Some(frames) = self.freed.last_mut()
            && frames.by_ref().take(FREED_FRAMES).count() < FREED_FRAMES
        {
            self.freed.pop();
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
