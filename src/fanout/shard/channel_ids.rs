//! Ids of channels, for clients of the binary form: which of them a client was told of.
//!
//! Ids are dense and given in the order in which channels appear, so one number says it: a client
//! knows of every channel below it that its set matches. Not here: the messages
//! ([`crate::protocol::reply`]). Invariant: a client is sent no event of a channel whose id it was
//! not told.

use std::sync::Arc;

use crate::handoff::batch::ChannelId;
use crate::protocol::channel::Pattern;
use crate::protocol::encoding::Encoding;
use crate::protocol::reply::{self, ChannelIds, ChannelResult};

use super::super::cohorts::CohortId;
use super::super::connection::{ConnectionId, find_mut};
use super::super::pattern_index::PatternIndex;
use super::Shard;

/// Of a client that reads names: it is never to be told.
const NAMES: ChannelId = ChannelId::MAX;

impl Shard {
    /// What a client of `encoding` knows of channels at first.
    pub(super) fn told_at_first(&self, encoding: Encoding) -> ChannelId {
        if encoding == Encoding::Binary { self.channel_count() } else { NAMES }
    }

    fn channel_count(&self) -> ChannelId {
        ChannelId::try_from(self.channels.len()).expect("limits keep ids in 32 bits")
    }

    /// Owes a client the ids of those channels that have appeared since it was last told of any and
    /// that it is to be sent; true when there are such.
    pub(super) fn tell_channels(&mut self, id: ConnectionId) -> bool {
        let count = self.channel_count();
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        if connection.told >= count {
            return false;
        }
        let told = std::mem::replace(&mut connection.told, count);
        let stages = connection.lag.iter().flat_map(|lag| &lag.stages);
        let mut cohorts: Vec<_> = stages.map(|stage| stage.cohort).collect();
        cohorts.push(connection.cohort);
        let wants = |channel| {
            cohorts.iter().any(|&cohort| self.cohorts.cohort(cohort).classes.wants(channel))
        };
        let new: ChannelIds = (told..count)
            .filter(|&channel| wants(channel))
            .map(|channel| (Arc::clone(&self.channels.channel(channel).name), channel))
            .collect();
        if !new.is_empty() {
            self.say(id, |out| reply::channels(out, &new));
        }
        !new.is_empty()
    }

    /// A channel has appeared: whoever is in sync with a set that matches it is told before its
    /// first event.
    pub(super) fn expect_channel(&mut self, channel: ChannelId) {
        if !self.cohorts.has_ids() {
            return;
        }
        let interests = &self.channels.channel(channel).interests;
        let is_binary =
            |&cohort: &CohortId| self.cohorts.cohort(cohort).key.encoding == Encoding::Binary;
        let cohorts: Vec<_> = interests.iter().map(|i| i.cohort).filter(is_binary).collect();
        for cohort in cohorts {
            while let Some(&member) = self.cohorts.cohort(cohort).members.last() {
                self.make_ready(member);
            }
        }
    }

    /// Adds to the outcomes of a subscription the ids of channels that match now, each once, for a
    /// client that reads ids.
    pub(super) fn add_ids(&self, id: ConnectionId, results: &mut [ChannelResult<'_>]) {
        if self.connection(id).is_none_or(|connection| connection.told == NAMES) {
            return;
        }
        let mut done: Vec<_> = (results.iter_mut())
            .filter_map(|result| Some((Pattern::parse(result.channel).ok()?, result)))
            .filter_map(|(pattern, result)| Some((pattern, result.outcome.as_mut().ok()?)))
            .collect();
        let patterns: Vec<_> = done.iter().map(|(pattern, _)| pattern.clone()).collect();
        let mut found = vec![ChannelIds::new(); patterns.len()];
        let mut note = |place: usize, channel: ChannelId| {
            found[place].push((Arc::clone(&self.channels.channel(channel).name), channel));
        };
        if patterns.iter().all(Pattern::is_exact) {
            for (place, exact) in patterns.iter().enumerate() {
                if let Some(channel) = self.channels.id(exact.as_str()) {
                    note(place, channel);
                }
            }
        } else {
            let index = PatternIndex::of(patterns.iter());
            for (channel, state) in self.channels.iter() {
                if let Some(&place) = index.matching(&state.name).next() {
                    note(place, channel);
                }
            }
        }
        for ((_, effective), ids) in done.iter_mut().zip(found) {
            effective.ids = Some(ids);
        }
    }
}
