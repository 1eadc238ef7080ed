//! All events, as the producer gave them, with what follows from their order.
//!
//! A number that is no event counts as one of a channel without a name, which no pattern matches.
//! Not here: who wants them. Invariant: event `seq` is at `seq - 1`, and links point backwards.

use std::collections::BTreeMap;

/// The three tiers.
pub(crate) const INTERVALS_MS: [u64; 3] = [10, 100, 1_000];

/// An event as the producer gave it, with the links that it must have.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// Number of its channel.
    pub(crate) channel: usize,
    pub(crate) key: Option<String>,
    pub(crate) snapshot: bool,
    pub(crate) ts: Option<u64>,
    pub(crate) data: String,
    /// The event before it on its channel.
    pub(crate) prev: u64,
    /// Number of its slot: its channel and key.
    pub(crate) slot: usize,
    /// The event before it in its slot.
    pub(crate) slot_prev: u64,
    /// It is, or follows, a snapshot of its slot.
    pub(crate) book: bool,
    /// When the shard got it, monotonic nanoseconds.
    pub(crate) ns: u64,
    /// Ticks of each tier before it.
    pub(crate) ticks: [u32; 3],
    /// Bytes of all frames before it, about.
    bytes_before: u64,
    /// Log entries before it.
    entries_before: u64,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: String,
    last: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Its newest event.
    pub(crate) last: u64,
    /// Its newest snapshot, 0 if there is none.
    pub(crate) snapshot: u64,
    /// All of its events.
    events: Vec<u64>,
}

/// What the producer gave for one event.
#[derive(Debug, Clone)]
pub(crate) struct Given<'a> {
    pub(crate) channel: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) snapshot: bool,
    pub(crate) ts: Option<u64>,
    pub(crate) data: String,
}

/// The list, and the clock as far as it matters.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: Vec<Expected>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) slots: Vec<Slot>,
    numbers: BTreeMap<(String, Option<String>), usize>,
    bytes: u64,
    entries: u64,
    /// The time of the turn, monotonic nanoseconds.
    pub(crate) now_ns: u64,
    ticks: [u32; 3],
    ticked: [Option<u64>; 3],
}

impl History {
    /// Adds an event and returns its `seq`.
    pub(crate) fn push(&mut self, given: Given<'_>) -> u64 {
        let seq = self.head() + 1;
        let known = self.channels.iter().position(|channel| channel.name == given.channel);
        let channel = known.unwrap_or_else(|| {
            self.channels.push(Channel { name: given.channel.to_owned(), last: 0 });
            self.channels.len() - 1
        });
        let key = given.key.map(str::to_owned);
        let slots = &mut self.slots;
        let named = (given.channel.to_owned(), key.clone());
        let slot = *self.numbers.entry(named).or_insert_with(|| {
            slots.push(Slot::default());
            slots.len() - 1
        });
        let state = &mut self.slots[slot];
        let slot_prev = std::mem::replace(&mut state.last, seq);
        state.events.push(seq);
        if given.snapshot {
            state.snapshot = seq;
        }
        let book = state.snapshot > 0;
        let prev = std::mem::replace(&mut self.channels[channel].last, seq);
        let (bytes_before, entries_before) = (self.bytes, self.entries);
        if !given.channel.is_empty() {
            self.bytes += given.data.len() as u64 + 100;
            self.entries += 1;
        }
        let Given { snapshot, ts, data, .. } = given;
        let (ns, ticks) = (self.now_ns, self.ticks);
        #[rustfmt::skip]
        self.events.push(Expected {
            channel, key, snapshot, ts, data, prev, slot, slot_prev, book, ns, ticks, bytes_before,
            entries_before,
        });
        seq
    }

    /// The next number is no event.
    pub(crate) fn skip(&mut self) {
        let data = String::new();
        self.push(Given { channel: "", key: None, snapshot: false, ts: None, data });
    }

    /// The shard was told the time: a tick of each tier whose next interval has begun.
    pub(crate) fn tick(&mut self) {
        for (at, interval_ms) in INTERVALS_MS.iter().enumerate() {
            let index = self.now_ns / (interval_ms * 1_000_000);
            if self.ticked[at].replace(index) != Some(index) {
                self.ticks[at] += 1;
            }
        }
    }

    /// Ticks of each tier so far.
    pub(crate) fn ticks(&self) -> [u32; 3] {
        self.ticks
    }

    /// Ticks of the slowest tier so far.
    pub(crate) fn ticks_slowest(&self) -> u32 {
        let [.., slowest] = self.ticks;
        slowest
    }

    /// The last `seq`.
    pub(crate) fn head(&self) -> u64 {
        self.events.len() as u64
    }

    pub(crate) fn event(&self, seq: u64) -> &Expected {
        let at = usize::try_from(seq).unwrap().checked_sub(1).expect("seq begins at 1");
        let head = self.head();
        self.events.get(at).unwrap_or_else(|| panic!("there is no event {seq}, head is {head}"))
    }

    /// What counts of a channel right after event `seq`: of each key the newest, of a book its
    /// newest snapshot and all since, and of what has no key only where that conflates.
    pub(crate) fn counting(
        &self,
        channel: usize,
        seq: u64,
        conflates: impl Fn(bool) -> bool,
    ) -> Vec<u64> {
        let mut counting = Vec::new();
        for slot in &self.slots {
            let events = &slot.events[..slot.events.partition_point(|&other| other <= seq)];
            let Some(&last) = events.last() else { continue };
            let newest = self.event(last);
            let counts = newest.key.is_some() || newest.book || conflates(false);
            if newest.channel != channel || !counts {
                continue;
            }
            let replaces = |&seq: &u64| self.event(seq).snapshot || !self.event(seq).book;
            let base = events.iter().rposition(replaces).expect("a book begins with a snapshot");
            counting.extend_from_slice(&events[base..]);
        }
        counting
    }

    /// The events of the same slot that stand for event `seq`: of a book its later snapshots.
    pub(crate) fn replacements(&self, seq: u64) -> Vec<u64> {
        let slot = &self.slots[self.event(seq).slot];
        let first = slot.events.partition_point(|&other| other <= seq);
        let later = slot.events[first..].iter().copied();
        later.filter(|&seq| self.event(seq).snapshot || !self.event(seq).book).collect()
    }

    pub(crate) fn name(&self, seq: u64) -> &str {
        &self.channels[self.event(seq).channel].name
    }

    /// Event `seq` in words, for failures.
    pub(crate) fn describe(&self, seq: u64) -> String {
        let event = self.event(seq);
        let kind = match (event.book, event.snapshot) {
            (_, true) => "snapshot",
            (true, false) => "delta",
            (false, false) => "event",
        };
        format!("{kind} {seq} of {} key {:?}", self.name(seq), event.key)
    }

    /// Bytes of frames from event `seq` on, about.
    fn bytes_since(&self, seq: u64) -> u64 {
        self.bytes - self.event(seq).bytes_before
    }

    /// Whether a log of that many bytes may have overwritten event `seq` by now. Frame lengths are
    /// estimated and the end of a ring stays unused, so half a log counts.
    pub(crate) fn may_be_overwritten(&self, seq: u64, log_bytes: usize) -> bool {
        let bytes = self.bytes_since(seq) >= log_bytes as u64 / 2;
        bytes || self.entries - self.event(seq).entries_before > log_bytes as u64 / 256
    }
}
