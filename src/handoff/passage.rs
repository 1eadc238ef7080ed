//! A passage of a stream: events side by side in it, read again for clients whose place is older
//! than what a core's log holds.
//!
//! Written once by the thread that reads the stream, then shared read-only by every core that asked
//! for it. Not here: who asks, and frames; each core encodes its own. Invariant: of every `seq`
//! from `from` to `to` the event is here, unless it is none or none that this server takes; they
//! rise.

use std::ops::Range;
use std::sync::Arc;

use crate::protocol::event::{Event, Kind};

/// Events side by side in a stream.
#[derive(Debug)]
pub struct Passage {
    /// The first `seq` that it accounts for.
    pub from: u64,
    /// The last one; below `from` while there is none.
    pub to: u64,
    events: Vec<Packed>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Packed {
    seq: u64,
    prev: u64,
    ts_in: u64,
    ts: Option<u64>,
    kind: Kind,
    channel: Range<usize>,
    key: Option<Range<usize>>,
    data: Range<usize>,
}

/// One event of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past<'a> {
    /// Its place in the total order.
    pub seq: u64,
    /// The `seq` before it on its channel, 0 if none.
    pub prev: u64,
    /// When it came into the total order, nanoseconds since the Unix epoch.
    pub ts_in: u64,
    /// What the producer said.
    pub event: Event<'a>,
}

/// Why there is no passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// The stream has its first event no longer.
    Expired,
    /// The stream cannot be read now, or not so that the frames would be the same as before.
    Unreadable,
}

/// What becomes of one question for a passage.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The first `seq` that was asked for.
    pub from: u64,
    /// The passage that begins there.
    pub outcome: Result<Arc<Passage>, Lapse>,
}

impl Passage {
    /// Nothing yet, from this `seq` on.
    #[must_use]
    pub const fn new(from: u64) -> Self {
        Self { from, to: from - 1, events: Vec::new(), bytes: Vec::new() }
    }

    /// Adds the next event.
    pub fn push(&mut self, past: &Past<'_>) {
        debug_assert!(past.seq >= self.from, "{} before {}", past.seq, self.from);
        let mut keep = |part: &[u8]| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(part);
            start..self.bytes.len()
        };
        let Event { channel, key, kind, ts, data } = past.event;
        self.events.push(Packed {
            seq: past.seq,
            prev: past.prev,
            ts_in: past.ts_in,
            ts,
            kind,
            channel: keep(channel.as_bytes()),
            key: key.map(|key| keep(key.as_bytes())),
            data: keep(data),
        });
    }

    /// Its events, in order.
    pub fn events(&self) -> impl Iterator<Item = Past<'_>> {
        self.events.iter().map(|packed| Past {
            seq: packed.seq,
            prev: packed.prev,
            ts_in: packed.ts_in,
            event: Event {
                channel: self.text(&packed.channel),
                key: packed.key.as_ref().map(|key| self.text(key)),
                kind: packed.kind,
                ts: packed.ts,
                data: &self.bytes[packed.data.clone()],
            },
        })
    }

    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes[range.clone()]).expect("it was text when it was kept")
    }
}
