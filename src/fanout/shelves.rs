//! Shelves: passages of a stream as frames, for clients whose place is older than the log.
//!
//! A shelf is shared by all clients that come to it; one that is not there is asked for, and the
//! one that nobody has used for longest gives way. Not here: who reads where ([`super::reading`]).
//! Invariant: the bytes of a shelf are those that went out live, and a shelf gives way only when
//! another one comes.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::handoff::batch::{ChannelId, SlotId};
use crate::limits::{PASSAGE_EVENTS, PASSAGES_ASKED, SHELVES, SHELVES_BYTES};
use crate::protocol::encoding::{Encoding, Form};

use super::encoders::Encoders;

/// One event on a shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The event's place in the total order.
    pub seq: u64,
    /// Its channel.
    pub channel: ChannelId,
    /// Its slot.
    pub slot: SlotId,
    span: Span,
}

/// Where a frame is; without bytes it is read as JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Span {
    at: u32,
    len: u32,
}

impl Span {
    fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.at as usize..][..self.len as usize]
    }
}

/// A frame on a shelf, or the end of it, and others that lie directly behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shelved {
    shelf: u16,
    at: u32,
    /// Its bytes.
    pub len: u32,
    form: Form,
}

impl Shelved {
    /// Grows by `next` when that lies directly behind; false when it does not.
    #[must_use]
    pub fn extend(&mut self, next: &Self) -> bool {
        let is_adjacent =
            (self.shelf, self.form) == (next.shelf, next.form) && self.at + self.len == next.at;
        if is_adjacent {
            self.len += next.len;
        }
        is_adjacent
    }

    /// The same without its first `bytes` bytes.
    #[must_use]
    pub const fn without_front(self, bytes: u32) -> Self {
        Self { at: self.at + bytes, len: self.len - bytes, ..self }
    }
}

/// A passage as frames.
#[derive(Debug)]
pub struct Shelf {
    from: u64,
    /// The last `seq` that it accounts for; below `from` where the stream has none there.
    pub to: u64,
    lines: Vec<Line>,
    json: Vec<u8>,
    /// The frames in other forms, by the numbers of the lines.
    further: [Option<(Vec<Span>, Vec<u8>)>; Form::FURTHER],
    used: u64,
}

impl Shelf {
    /// Nothing yet, of the events from `from` to `to`.
    #[must_use]
    pub fn new(from: u64, to: u64) -> Self {
        let further = Default::default();
        Self { from, to, lines: Vec::new(), json: Vec::new(), further, used: 0 }
    }

    /// Makes room for the JSON frame of the next event, which the caller writes.
    pub fn append(
        &mut self,
        (seq, channel, slot): (u64, ChannelId, SlotId),
        len: usize,
    ) -> &mut [u8] {
        let at = self.json.len();
        self.lines.push(Line { seq, channel, slot, span: span(at, len) });
        self.json.resize(at + len, 0);
        &mut self.json[at..]
    }

    /// Its events after `seq`, with their numbers.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = (usize, &Line)> {
        let first = self.lines.partition_point(|line| line.seq <= seq);
        self.lines.iter().enumerate().skip(first)
    }

    fn bytes(&self) -> usize {
        let further = self.further.iter().flatten();
        self.json.len() + further.map(|(_, bytes)| bytes.len()).sum::<usize>()
    }
}

fn span(at: usize, len: usize) -> Span {
    let short = |bytes| u32::try_from(bytes).expect("a passage is far below 4 GiB");
    Span { at: short(at), len: short(len) }
}

/// All shelves of a shard.
#[derive(Debug, Default)]
pub struct Shelves {
    shelves: Vec<Shelf>,
    /// Counts uses.
    uses: u64,
    /// The first `seq` of passages that were asked for and have not come.
    asked: FxHashSet<u64>,
    /// Those of them that nobody has passed on yet.
    wanted: VecDeque<u64>,
    slots: FxHashMap<(ChannelId, Box<[u8]>), SlotId>,
    /// Slots of each channel that are in `slots`.
    slots_known: FxHashMap<ChannelId, usize>,
}

impl Shelves {
    /// The place of the shelf that accounts for `seq`.
    #[must_use]
    pub fn find(&self, seq: u64) -> Option<usize> {
        self.shelves.iter().position(|shelf| (shelf.from..=shelf.to).contains(&seq))
    }

    /// The shelf at a place.
    #[must_use]
    pub fn shelf(&self, place: usize) -> &Shelf {
        &self.shelves[place]
    }

    /// Where the passage begins that is to be asked for to get `seq`: at the multiple that passages
    /// end at, unless that one is there and ends before it. `first` is the stream's first.
    #[must_use]
    pub fn start(&self, seq: u64, first: u64) -> u64 {
        let start = (seq - 1) / PASSAGE_EVENTS * PASSAGE_EVENTS + 1;
        let start = start.max(first).min(seq);
        if self.shelves.iter().any(|shelf| shelf.from == start) { seq } else { start }
    }

    /// Asks for the passage that begins at `from`, unless too many are on their way.
    pub fn want(&mut self, from: u64) {
        if self.asked.len() < PASSAGES_ASKED && self.asked.insert(from) {
            self.wanted.push_back(from);
        }
    }

    /// The next question to be passed on: a passage, by its first `seq`.
    pub fn next_ask(&mut self) -> Option<u64> {
        self.wanted.pop_front()
    }

    /// The passage that begins at `from` has come, or will not.
    pub fn handle_answer(&mut self, from: u64) {
        self.asked.remove(&from);
    }

    /// Adds a shelf. Others give way to it; nothing of theirs may be on its way to a socket.
    pub fn add(&mut self, shelf: Shelf) {
        self.shelves.retain(|other| other.from != shelf.from);
        let mut bytes: usize = self.shelves.iter().map(Shelf::bytes).sum();
        bytes += shelf.bytes();
        while self.shelves.len() >= SHELVES || bytes > SHELVES_BYTES {
            let places = 0..self.shelves.len();
            let Some(oldest) = places.min_by_key(|&place| self.shelves[place].used) else { break };
            bytes -= self.shelves.swap_remove(oldest).bytes();
        }
        self.uses += 1;
        self.shelves.push(Shelf { used: self.uses, ..shelf });
    }

    /// Notes that the shelf at `place` is read by a client of `encoding`, and writes it in the form
    /// that this takes.
    pub fn prepare(&mut self, place: usize, encoding: Encoding, encoders: &mut Encoders) {
        self.uses += 1;
        let shelf = &mut self.shelves[place];
        shelf.used = self.uses;
        let form = encoding.form();
        let Some(further) = (form as usize).checked_sub(1) else { return };
        if shelf.further[further].is_some() {
            return;
        }
        let (mut spans, mut bytes) = (Vec::with_capacity(shelf.lines.len()), Vec::new());
        for line in &shelf.lines {
            let frame = encoders.encode(form, line.channel, line.span.of(&shelf.json));
            spans.push(span(bytes.len(), frame.len()));
            bytes.extend_from_slice(frame);
        }
        shelf.further[further] = Some((spans, bytes));
    }

    /// What a client of `encoding` is sent of line `number` of the shelf at `place`.
    #[must_use]
    pub fn piece(&self, encoding: Encoding, place: usize, number: usize) -> Shelved {
        let shelf = &self.shelves[place];
        let json = shelf.lines[number].span;
        let form = encoding.form();
        let further = (form as usize).checked_sub(1).filter(|_| encoding.reads(json.len));
        let spans = further.and_then(|at| shelf.further[at].as_ref()).map(|(spans, _)| spans);
        let own = spans.map(|spans| spans[number]).filter(|span| span.len > 0);
        let (span, form) = own.map_or((json, Form::Json), |span| (span, form));
        let shelf = u16::try_from(place).expect("there are few of them");
        Shelved { shelf, at: span.at, len: span.len, form }
    }

    /// The bytes of a piece.
    #[must_use]
    pub fn bytes(&self, piece: Shelved) -> &[u8] {
        let Shelved { shelf, at, len, form } = piece;
        let shelf = &self.shelves[usize::from(shelf)];
        let further = (form as usize).checked_sub(1).and_then(|at| shelf.further[at].as_ref());
        Span { at, len }.of(further.map_or(&shelf.json, |(_, bytes)| bytes))
    }

    /// The slot of a channel's events with this key, or without one; `all` are the channel's slots
    /// with their keys.
    pub fn slot<'a>(
        &mut self,
        channel: ChannelId,
        key: Option<&[u8]>,
        all: impl ExactSizeIterator<Item = (SlotId, Option<&'a [u8]>)>,
    ) -> Option<SlotId> {
        // A key as a JSON string is never empty.
        let known = self.slots_known.entry(channel).or_default();
        let count = all.len();
        for (slot, key) in all.skip(std::mem::replace(known, count)) {
            self.slots.insert((channel, key.unwrap_or_default().into()), slot);
        }
        self.slots.get(&(channel, key.unwrap_or_default().into())).copied()
    }

    /// Lets go of everything but of what is on its way: nobody reads here.
    pub fn clear(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        let wanted = std::mem::take(&mut self.wanted);
        *self = Self { asked, wanted, ..Self::default() };
    }
}
