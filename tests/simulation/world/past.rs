//! The stream behind a shard: what it asks for of the time before its log.
//!
//! It has everything, also what the shard has not been given yet; one that fails has lost its
//! beginning now and then, or cannot be read. Invariant: each question is answered once, a moment
//! later.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fanfare::handoff::passage::{Answer, Lapse, Passage, Past};
use fanfare::protocol::event::{Event, Kind};
use fanfare::telemetry::Telemetry;

use super::random::Random;

/// An event as it was published.
struct Kept {
    channel: String,
    key: Option<String>,
    kind: Kind,
    ts: Option<u64>,
    data: Vec<u8>,
    prev: u64,
    ts_in: u64,
}

#[derive(Default)]
pub(super) struct Stream {
    /// By their numbers, from 1; none where a message is no event.
    events: Vec<Option<Kept>>,
    last: HashMap<String, u64>,
    asked: VecDeque<u64>,
    fails: bool,
    /// Nothing is left of what was before it.
    first: u64,
}

impl Stream {
    pub(super) fn new(fails: bool) -> Self {
        Self { fails, first: 1, ..Self::default() }
    }

    /// Counters that say what the shard is to know of it.
    pub(super) fn telemetry(&self, is_up: bool) -> Arc<Telemetry> {
        let telemetry = Arc::new(Telemetry::new(1));
        telemetry.stream.is_up.set(u64::from(is_up));
        telemetry.stream.first_seq.set(self.first);
        telemetry
    }

    /// The first `seq` that it has.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn push(&mut self, event: &Event<'_>, ts_in: u64) {
        let seq = self.events.len() as u64 + 1;
        let prev = self.last.insert(event.channel.to_owned(), seq).unwrap_or_default();
        self.events.push(Some(Kept {
            channel: event.channel.to_owned(),
            key: event.key.map(str::to_owned),
            kind: event.kind,
            ts: event.ts,
            data: event.data.to_vec(),
            prev,
            ts_in,
        }));
    }

    /// The next message is no event.
    pub(super) fn skip(&mut self) {
        self.events.push(None);
    }

    pub(super) fn ask(&mut self, from: u64) {
        assert!(from <= self.events.len() as u64, "{from} is still to come");
        self.asked.push_back(from);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// The answer to the oldest question, now or later.
    pub(super) fn answer(&mut self, random: &mut Random) -> Option<Answer> {
        if self.asked.is_empty() || random.chance(30) {
            return None;
        }
        let from = self.asked.pop_front()?;
        if self.fails && random.chance(5) {
            self.first = self.first.max(random.below(self.events.len() + 1) as u64);
        }
        if from < self.first {
            return Some(Answer { from, outcome: Err(Lapse::Expired) });
        }
        if self.fails && random.chance(10) {
            return Some(Answer { from, outcome: Err(Lapse::Unreadable) });
        }
        let mut passage = Passage::new(from);
        let most = random.pick(&[1, 10, 512]);
        for (kept, seq) in self.events.iter().zip(1..).skip_while(|(_, seq)| *seq < from).take(most)
        {
            passage.to = seq;
            let Some(kept) = kept else { continue };
            let event = Event {
                channel: &kept.channel,
                key: kept.key.as_deref(),
                kind: kept.kind,
                ts: kept.ts,
                data: &kept.data,
            };
            passage.push(&Past { seq, prev: kept.prev, ts_in: kept.ts_in, event });
        }
        Some(Answer { from, outcome: Ok(Arc::new(passage)) })
    }
}
