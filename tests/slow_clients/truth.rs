//! What was published, in order: the measure of what every client must have got.
//!
//! One client of `>` that misses nothing teaches it: each of its events is compared with the
//! capture and then stands for the bytes that all others must get for that `seq`. Not here: who
//! wanted what. Invariant: entry `n` is the event of `seq` `n + 1`, so the server is a fresh one.

use std::collections::HashMap;
use std::hash::Hasher;

use rustc_hash::FxHasher;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::day::Day;

/// One event of the capture.
struct Recorded {
    channel: usize,
    key: Option<String>,
    kind: &'static str,
    data: u64,
}

/// One event that was published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    /// Of the whole payload of its frame.
    pub(crate) hash: u64,
    pub(crate) channel: usize,
    /// Its channel and key.
    pub(crate) slot: usize,
    /// Its number on its channel, from 0.
    pub(crate) ordinal: usize,
    pub(crate) keyed: bool,
    pub(crate) snapshot: bool,
    /// It is, or follows, a snapshot of its slot.
    pub(crate) book: bool,
}

/// A channel and all its events so far.
pub(crate) struct Channel {
    pub(crate) name: String,
    /// `seq` of each event.
    pub(crate) seqs: Vec<u64>,
    /// Bytes of data in one round of the capture.
    pub(crate) round_bytes: usize,
    /// It has snapshots, one in a round: a round is the longest chain of snapshot and deltas.
    pub(crate) book: bool,
    keyed: bool,
}

impl Channel {
    /// How many events lie in `from..=to`.
    pub(crate) fn count(&self, from: u64, to: u64) -> usize {
        let before = |seq| self.seqs.partition_point(|&other| other < seq);
        before(to.saturating_add(1)).saturating_sub(before(from))
    }
}

/// One (channel, key).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) channel: usize,
    /// `seq` of its newest event.
    pub(crate) newest: u64,
    book: bool,
}

#[derive(Deserialize)]
struct Frame<'a> {
    channel: &'a str,
    r#type: &'a str,
    key: Option<&'a str>,
    seq: u64,
    prev: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// See the module's head.
pub(crate) struct Truth {
    capture: Vec<Recorded>,
    /// The next event of the capture.
    at: usize,
    pub(crate) channels: Vec<Channel>,
    pub(crate) slots: Vec<Slot>,
    slot_numbers: HashMap<(usize, Option<String>), usize>,
    events: Vec<Published>,
    /// The longest payload.
    pub(crate) frame_bytes_max: usize,
}

/// What tells equal bytes from others.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

impl Truth {
    /// Reads the whole capture.
    pub(crate) fn new(day: &Day) -> Self {
        let mut channels: Vec<Channel> = Vec::new();
        let mut numbers = HashMap::<String, usize>::new();
        let mut capture = Vec::new();
        day.for_each(|event| {
            let channel = *numbers.entry(event.channel.to_owned()).or_insert_with(|| {
                let (name, keyed) = (event.channel.to_owned(), event.key.is_some());
                let seqs = Vec::new();
                channels.push(Channel { name, seqs, round_bytes: 0, book: false, keyed });
                channels.len() - 1
            });
            let kind = event.kind.as_str();
            channels[channel].book |= kind == "snapshot";
            channels[channel].round_bytes += event.data.len();
            let key = event.key.map(str::to_owned);
            capture.push(Recorded { channel, key, kind, data: hash(event.data) });
        });
        Self {
            capture,
            at: 0,
            channels,
            slots: Vec::new(),
            slot_numbers: HashMap::new(),
            events: Vec::new(),
            frame_bytes_max: 0,
        }
    }

    /// The capture begins again.
    pub(crate) const fn rewind(&mut self) {
        self.at = 0;
    }

    /// The newest `seq`.
    pub(crate) fn newest(&self) -> u64 {
        self.events.len() as u64
    }

    /// The event of a `seq` up to [`Truth::newest`].
    pub(crate) fn event(&self, seq: u64) -> &Published {
        &self.events[usize::try_from(seq).expect("64 bits") - 1]
    }

    /// `seq` of the event before one on its channel; 0 when it is the first.
    pub(crate) fn previous(&self, event: &Published) -> u64 {
        let before = event.ordinal.checked_sub(1);
        before.map_or(0, |before| self.channels[event.channel].seqs[before])
    }

    pub(crate) fn channel_named(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|channel| channel.name == name)
    }

    /// Takes the next event as the client of `>` got it.
    pub(crate) fn learn(&mut self, payload: &[u8]) {
        let frame: Frame<'_> = serde_json::from_slice(payload).expect("an event is JSON");
        let recorded = &self.capture[self.at];
        self.at = (self.at + 1) % self.capture.len();
        let seq = self.newest() + 1;
        let number = recorded.channel;
        let channel = &mut self.channels[number];
        assert_eq!((frame.seq, frame.channel), (seq, channel.name.as_str()));
        assert_eq!(frame.prev, channel.seqs.last().copied().unwrap_or(0), "event {seq}");
        assert_eq!((frame.key, frame.r#type), (recorded.key.as_deref(), recorded.kind));
        assert!(hash(frame.data.get().as_bytes()) == recorded.data, "the data of event {seq}");
        let slots = &mut self.slots;
        let slot =
            *(self.slot_numbers.entry((number, recorded.key.clone()))).or_insert_with(|| {
                slots.push(Slot { channel: number, newest: 0, book: false });
                slots.len() - 1
            });
        let snapshot = recorded.kind == "snapshot";
        slots[slot].book |= snapshot;
        slots[slot].newest = seq;
        self.events.push(Published {
            hash: hash(payload),
            channel: number,
            slot,
            ordinal: channel.seqs.len(),
            keyed: channel.keyed,
            snapshot,
            book: slots[slot].book,
        });
        channel.seqs.push(seq);
        self.frame_bytes_max = self.frame_bytes_max.max(payload.len());
    }
}
