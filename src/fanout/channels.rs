//! What a shard knows of each channel and key: names, encoded beginnings, and who wants them.
//!
//! Not here: the sets that cohorts hold ([`super::cohorts`]), and what is newest
//! ([`super::slots`]). Invariant: ids are dense and equal to those of the sequencer, because every
//! batch announces what it uses first.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::handoff::batch::{ChannelId, SlotId};
use crate::protocol::channel::Pattern;
use crate::protocol::data::Prefix;
use crate::protocol::json;

use super::classes::ClassPair;
use super::cohorts::CohortId;
use super::pattern_index::PatternIndex;

/// One end of the link between a channel and a cohort that wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// The cohort.
    pub cohort: CohortId,
    /// Where the cohort keeps its end of this link.
    pub link: u32,
    /// The cohort's classes for the channel's events.
    pub classes: ClassPair,
}

/// One channel as its shard sees it.
#[derive(Debug)]
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// The beginning of its frames.
    pub prefix: Prefix,
    /// `seq` of its newest event without a key, and of its newest with one.
    pub seq_last: [u64; 2],
    /// The cohorts that want it, in no order.
    pub interests: Vec<Interest>,
    /// How many events come.
    pub pace: Pace,
}

/// Events in a second, for people: what the last second brought, as it slides on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// When the second under way began, milliseconds modulo 2³².
    since_ms: u32,
    /// Events in it.
    count: u32,
    /// Events in the one before.
    before: u32,
}

/// Milliseconds of a second.
const SECOND_MS: u32 = 1_000;

impl Pace {
    /// Counts an event.
    pub fn count(&mut self, now_ms: u32) {
        let passed_ms = now_ms.wrapping_sub(self.since_ms);
        if passed_ms >= SECOND_MS {
            self.before = if passed_ms < 2 * SECOND_MS { self.count } else { 0 };
            (self.since_ms, self.count) = (now_ms, 0);
        }
        self.count += 1;
    }

    /// Events in the second before `now_ms`.
    #[must_use]
    pub fn rate(&self, now_ms: u32) -> u64 {
        let passed_ms = now_ms.wrapping_sub(self.since_ms);
        let part = |count: u32, passed_ms: u32| {
            u64::from(count) * u64::from(SECOND_MS.saturating_sub(passed_ms)) / u64::from(SECOND_MS)
        };
        match passed_ms.checked_sub(SECOND_MS) {
            None => u64::from(self.count) + part(self.before, passed_ms),
            Some(over_ms) => part(self.count, over_ms),
        }
    }
}

/// All channels and keys of a server, on one shard.
#[derive(Debug, Default)]
pub struct Channels {
    channels: Vec<Channel>,
    ids: FxHashMap<Arc<str>, ChannelId>,
    /// The key of each slot as a JSON string.
    keys: Vec<Option<Box<[u8]>>>,
}

impl Channels {
    /// Adds the next channel.
    pub fn add_channel(&mut self, name: Arc<str>) -> ChannelId {
        let id = ChannelId::try_from(self.channels.len()).expect("limits keep ids in 32 bits");
        let prefix = Prefix::new(&name);
        self.ids.insert(Arc::clone(&name), id);
        self.channels.push(Channel {
            name,
            prefix,
            seq_last: [0; 2],
            interests: Vec::new(),
            pace: Pace::default(),
        });
        id
    }

    /// Adds the key of the next slot, if it has one.
    pub fn add_key(&mut self, key: Option<&str>) {
        self.keys.push(key.map(|key| {
            let mut text = Vec::with_capacity(key.len() + 2);
            json::write_string(&mut text, key);
            text.into_boxed_slice()
        }));
    }

    /// The key of a slot as a JSON string, if it has one.
    #[must_use]
    pub fn key_json(&self, slot: SlotId) -> Option<&[u8]> {
        self.keys[slot as usize].as_deref()
    }

    /// The channel `id`.
    #[must_use]
    pub fn channel(&self, id: ChannelId) -> &Channel {
        &self.channels[id as usize]
    }

    /// The id of the channel called `name`, if it has appeared.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<ChannelId> {
        self.ids.get(name).copied()
    }

    /// The channel `id`, to change it.
    pub fn channel_mut(&mut self, id: ChannelId) -> &mut Channel {
        &mut self.channels[id as usize]
    }

    /// How many channels each of `patterns` matches.
    #[must_use]
    pub fn count<'a, I>(&self, patterns: I) -> Vec<u64>
    where
        I: Iterator<Item = &'a Pattern> + Clone,
    {
        if patterns.clone().all(Pattern::is_exact) {
            return patterns.map(|exact| u64::from(self.id(exact.as_str()).is_some())).collect();
        }
        // A pattern that is named twice counts at its last place, and is asked for there.
        let index = PatternIndex::of(patterns.clone());
        let mut counts = vec![0; patterns.clone().count()];
        for channel in &self.channels {
            index.matching(&channel.name).for_each(|&place| counts[place] += 1);
        }
        patterns.map(|pattern| index.get(pattern).map_or(0, |&place| counts[place])).collect()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.channels.len()
    }

    /// True when there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Every channel with its id, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (ChannelId, &Channel)> {
        (0..).zip(&self.channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_second_and_fades_when_nothing_comes() {
        let mut pace = Pace::default();
        let start = u32::MAX - 1_500;
        (0..3_000_u32).for_each(|ms| pace.count(start.wrapping_add(ms)));
        let end = start.wrapping_add(3_000);
        assert!((900..=1_100).contains(&pace.rate(end)), "{}", pace.rate(end));
        assert!(pace.rate(end.wrapping_add(1_500)) < 600);
        assert_eq!(pace.rate(end.wrapping_add(5_000)), 0);
    }
}
