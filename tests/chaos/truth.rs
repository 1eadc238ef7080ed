//! What is published, known before it is: the event of every `seq`, and the books that come of all.
//!
//! One producer, so the n-th event that it sends has `seq` n. Two minutes of the capture; beside
//! them a channel with a key for every instrument, and every now and then a snapshot of each book.
//! Not here: who gets what. Invariant: a frame is right if it is what was sent, byte for byte, and
//! if its `ts_in`, which only the server knows, is the same for everybody and after a restart.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare::protocol::event::{Event, Kind};
use serde_json::Value;

use crate::day::Day;

/// Nanoseconds of the capture that are played.
const SPAN_NS: u64 = 120_000_000_000;

/// Between two snapshots of a book, nanoseconds.
const SNAPSHOT_NS: u64 = 15_000_000_000;

/// Of a channel's quotes every so many-th also goes to [`QUOTES`].
const QUOTES_EVERY: usize = 4;

/// A channel with many keys.
const QUOTES: &str = "quotes";

/// The price and size of levels, as text without needless zeros; a side before each price.
pub(crate) type Book = BTreeMap<String, String>;

/// One event.
pub(crate) struct Published {
    /// The frame up to the digits of `ts_in`, what follows them, and the producer's line.
    head: Range<usize>,
    tail: Range<usize>,
    line: Range<usize>,
    /// As the first one who got it was told; 0: nobody has yet.
    ts_in: AtomicU64,
    /// Nanoseconds of the capture before it.
    pub(crate) at_ns: u64,
    pub(crate) channel: usize,
    pub(crate) slot: usize,
    /// The `seq` of the event before it in its slot; 0: none.
    pub(crate) before: u64,
    pub(crate) is_snapshot: bool,
    /// It is, or follows, a snapshot of its slot.
    pub(crate) is_of_book: bool,
    /// What it does to a book, in [`Truth::changes`].
    changes: Range<usize>,
}

pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) is_keyed: bool,
    /// `seq` of each of its events.
    pub(crate) seqs: Vec<u64>,
    pub(crate) slots: Vec<usize>,
}

impl Channel {
    /// Those of its events that lie in `after + 1..=to`.
    pub(crate) fn between(&self, after: u64, to: u64) -> &[u64] {
        let place = |seq| self.seqs.partition_point(|&other| other <= seq);
        &self.seqs[place(after)..place(to).max(place(after))]
    }
}

/// One (channel, key).
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) channel: usize,
    /// As in frames, with its quotes; `null` if there is none.
    pub(crate) key_json: String,
    pub(crate) seqs: Vec<u64>,
    snapshots: Vec<u64>,
    /// The levels that its book ever has, by their numbers in [`Truth::changes`].
    levels: Vec<String>,
    level_numbers: HashMap<String, u32>,
    last_update_id: u64,
    /// Built straight from the events.
    pub(crate) book: Option<Book>,
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) channels: Vec<Channel>,
    pub(crate) slots: Vec<Slot>,
    events: Vec<Published>,
    text: Vec<u8>,
    /// Numbers of a level and of a size.
    changes: Vec<(u32, u32)>,
    sizes: Vec<String>,
    size_numbers: HashMap<String, u32>,
    channel_numbers: HashMap<String, usize>,
    slot_numbers: HashMap<(usize, String), usize>,
    /// The newest event that anybody has got.
    seen: AtomicU64,
}

impl Truth {
    pub(crate) fn new(day: &Day) -> Self {
        let mut truth = Self::default();
        // A size of 0 is no level.
        truth.number_of_size("0");
        let (mut begun, mut now, mut snapshots_at, mut quotes) = (None, 0, SNAPSHOT_NS, 0);
        day.for_each(|event| {
            let ts = event.ts.unwrap_or_default();
            let at_ns = ts.saturating_sub(*begun.get_or_insert(ts));
            now = now.max(at_ns);
            if now >= SPAN_NS {
                return;
            }
            if now >= snapshots_at {
                snapshots_at += SNAPSHOT_NS;
                truth.publish_snapshots(now);
            }
            truth.publish(event, now);
            if event.key.is_none() {
                return;
            }
            quotes += 1;
            if quotes % QUOTES_EVERY == 0 {
                let (channel, key) = (QUOTES, Some(event.channel));
                truth.publish(&Event { channel, key, ..*event }, now);
            }
            truth.publish_best(event, now);
        });
        truth
    }

    /// The newest `seq` of all.
    pub(crate) fn end(&self) -> u64 {
        self.events.len() as u64
    }

    pub(crate) fn event(&self, seq: u64) -> Option<&Published> {
        self.events.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    pub(crate) fn line(&self, event: &Published) -> &[u8] {
        &self.text[event.line.clone()]
    }

    /// The newest event that anybody has got.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    pub(crate) fn channel_named(&self, name: &str) -> Option<usize> {
        self.channel_numbers.get(name).copied()
    }

    pub(crate) fn changes(&self, event: &Published) -> &[(u32, u32)] {
        &self.changes[event.changes.clone()]
    }

    /// The book of a slot whose levels have these sizes.
    pub(crate) fn book_of(&self, slot: usize, sizes: &[u32]) -> Book {
        let levels = self.slots[slot].levels.iter().zip(sizes).filter(|(_, size)| **size > 0);
        levels.map(|(level, &size)| (level.clone(), self.sizes[size as usize].clone())).collect()
    }

    /// Whether the event is among those that count when `seq` is the newest of all: of a book the
    /// newest snapshot and what follows it, otherwise the newest of its slot.
    pub(crate) fn counts(&self, event: u64, seq: u64) -> bool {
        let Some(published) = self.event(event) else { return false };
        let slot = &self.slots[published.slot];
        let newest = |seqs: &[u64]| seqs[..seqs.partition_point(|&s| s <= seq)].last().copied();
        match newest(&slot.snapshots) {
            Some(snapshot) => (snapshot..=seq).contains(&event),
            None => newest(&slot.seqs) == Some(event),
        }
    }

    /// The event of a frame, if it is what was sent.
    pub(crate) fn identify(&self, frame: &[u8]) -> Result<u64, String> {
        let show = || String::from_utf8_lossy(&frame[..frame.len().min(400)]).into_owned();
        let number = |name: &[u8]| {
            let at = memchr::memmem::find(frame, name)? + name.len();
            let digits = frame[at..].iter().take_while(|byte| byte.is_ascii_digit());
            Some(digits.fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0')))
        };
        let seq = number(b",\"seq\":").ok_or_else(|| format!("no event: {}", show()))?;
        let event = self.event(seq).ok_or_else(|| format!("nobody sent {}", show()))?;
        let rest = frame.strip_prefix(&self.text[event.head.clone()]);
        let rest = rest.ok_or_else(|| format!("not what was sent: {}", show()))?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let ts_in = number(b",\"ts_in\":").unwrap_or_default();
        if rest[digits..] != self.text[event.tail.clone()] || ts_in == 0 {
            return Err(format!("not the data that was sent: {}", show()));
        }
        let known = event.ts_in.compare_exchange(0, ts_in, Ordering::Relaxed, Ordering::Relaxed);
        if let Err(known) = known
            && known != ts_in
        {
            return Err(format!("others were told ts_in {known}: {}", show()));
        }
        self.seen.fetch_max(seq, Ordering::Relaxed);
        Ok(seq)
    }

    fn publish(&mut self, event: &Event<'_>, at_ns: u64) {
        let seq = self.end() + 1;
        let (channel, slot) = self.place(event);
        let prev = self.channels[channel].seqs.last().copied().unwrap_or_default();
        let before = self.slots[slot].seqs.last().copied().unwrap_or_default();
        let is_snapshot = event.kind == Kind::Snapshot;
        if is_snapshot {
            self.slots[slot].book = Some(Book::new());
            self.slots[slot].snapshots.push(seq);
        }
        let is_of_book = self.slots[slot].book.is_some();
        let changes = self.changes.len();
        if is_of_book {
            self.change(slot, event);
        }
        self.channels[channel].seqs.push(seq);
        self.slots[slot].seqs.push(seq);

        let name = &self.channels[channel].name;
        let kind = event.kind.as_str();
        let key = event.key.map(|key| format!(",\"key\":\"{key}\"")).unwrap_or_default();
        let ts = event.ts.map(|ts| format!(",\"ts\":{ts}")).unwrap_or_default();
        let head = format!(
            "{{\"channel\":\"{name}\",\"type\":\"{kind}\"{key},\"seq\":{seq},\"prev\":{prev}{ts},\
             \"ts_in\":"
        );
        let tail = [b",\"data\":", event.data, b"}"].concat();
        let mut line = Vec::new();
        event.write_line(&mut line);
        let mut keep = |bytes: &[u8]| {
            let from = self.text.len();
            self.text.extend_from_slice(bytes);
            from..self.text.len()
        };
        let (head, tail, line) = (keep(head.as_bytes()), keep(&tail), keep(&line));
        self.events.push(Published {
            head,
            tail,
            line,
            ts_in: AtomicU64::new(0),
            at_ns,
            channel,
            slot,
            before,
            is_snapshot,
            is_of_book,
            changes: changes..self.changes.len(),
        });
    }

    /// A snapshot of every book there is.
    fn publish_snapshots(&mut self, at_ns: u64) {
        for slot in 0..self.slots.len() {
            let Slot { channel, book: Some(book), last_update_id, .. } = &self.slots[slot] else {
                continue;
            };
            let side = |side: &str| -> Vec<[&str; 2]> {
                let levels =
                    book.iter().filter_map(|(p, size)| Some((p.strip_prefix(side)?, size)));
                levels.map(|(price, size)| [price, size.as_str()]).collect()
            };
            let data = serde_json::json!({
                "lastUpdateId": last_update_id, "bids": side("b"), "asks": side("a"),
            });
            let (name, data) = (self.channels[*channel].name.clone(), data.to_string());
            let (channel, data) = (name.as_str(), data.as_bytes());
            let event = Event { channel, key: None, kind: Kind::Snapshot, ts: None, data };
            self.publish(&event, at_ns);
        }
    }

    /// Where a capture has best prices only, a book that is made of them.
    fn publish_best(&mut self, event: &Event<'_>, at_ns: u64) {
        let data: Value = serde_json::from_slice(event.data).unwrap();
        let level = |side: &str| {
            Some([data[side]["price"].as_str()?.to_owned(), data[side]["amount"].as_str()?.into()])
        };
        let (Some(bid), Some(ask)) = (level("best_bid"), level("best_ask")) else { return };
        let channel = event.channel.replace("quote", "book");
        let is_new = self.channel_named(&channel).is_none();
        let kind = if is_new { Kind::Snapshot } else { Kind::Update };
        let names = if is_new { ["bids", "asks"] } else { ["b", "a"] };
        let data = serde_json::json!({ names[0]: [bid], names[1]: [ask] }).to_string();
        let (channel, data) = (channel.as_str(), data.as_bytes());
        self.publish(&Event { channel, key: None, kind, ts: event.ts, data }, at_ns);
    }

    /// The numbers of an event's channel and slot.
    fn place(&mut self, event: &Event<'_>) -> (usize, usize) {
        let channel = *self.channel_numbers.entry(event.channel.to_owned()).or_insert_with(|| {
            let (name, is_keyed) = (event.channel.to_owned(), event.key.is_some());
            self.channels.push(Channel { name, is_keyed, seqs: Vec::new(), slots: Vec::new() });
            self.channels.len() - 1
        });
        let key_json = event.key.map_or_else(|| "null".to_owned(), |key| format!("\"{key}\""));
        let slots = &mut self.slots;
        let slot = *(self.slot_numbers.entry((channel, key_json.clone()))).or_insert_with(|| {
            slots.push(Slot { channel, key_json, ..Slot::default() });
            slots.len() - 1
        });
        if !self.channels[channel].slots.contains(&slot) {
            self.channels[channel].slots.push(slot);
        }
        (channel, slot)
    }

    /// Applies an event to the book of its slot, and notes what it does.
    fn change(&mut self, slot: usize, event: &Event<'_>) {
        let data: Value = serde_json::from_slice(event.data).unwrap();
        let id = data["lastUpdateId"].as_u64().or_else(|| data["u"].as_u64()).unwrap_or_default();
        // On Binance's own stream, what is older than the snapshot is void.
        if event.kind == Kind::Update && id > 0 && id <= self.slots[slot].last_update_id {
            return;
        }
        self.slots[slot].last_update_id = id;
        for (side, names) in [("b", ["b", "bids"]), ("a", ["a", "asks"])] {
            let levels = names.iter().find_map(|name| data[*name].as_array());
            for level in levels.into_iter().flatten() {
                let price = format!("{side}{}", plain(level[0].as_str().unwrap()));
                let size = plain(level[1].as_str().unwrap()).to_owned();
                let Slot { levels, level_numbers, book, .. } = &mut self.slots[slot];
                let level = *level_numbers.entry(price.clone()).or_insert_with(|| {
                    levels.push(price.clone());
                    u32::try_from(levels.len()).unwrap() - 1
                });
                let book = book.as_mut().expect("the caller has looked");
                if size == "0" {
                    book.remove(&price);
                } else {
                    book.insert(price, size.clone());
                }
                let size = self.number_of_size(&size);
                self.changes.push((level, size));
            }
        }
    }

    fn number_of_size(&mut self, size: &str) -> u32 {
        *self.size_numbers.entry(size.to_owned()).or_insert_with(|| {
            self.sizes.push(size.to_owned());
            u32::try_from(self.sizes.len()).unwrap() - 1
        })
    }
}

/// A decimal number without zeros at its end.
fn plain(number: &str) -> &str {
    if !number.contains('.') {
        return number;
    }
    number.trim_end_matches('0').trim_end_matches('.')
}
