//! Ids of channels, for clients of the binary form: which of them a client was told of.
//!
//! Ids are dense and given in the order in which channels appear, so one number says it: a client
//! knows of every channel below it that its set matches. Of a set that matches very many it is told
//! in several messages, and is sent nothing else meanwhile. Not here: the messages
//! ([`crate::protocol::reply`]). Invariant: a client is sent no event of a channel whose id it was
//! not told.

use std::sync::Arc;

use crate::handoff::batch::ChannelId;
use crate::limits::{IDS_MAX, OWED_BYTES_FOR_IDS};
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

    /// Whether a client was told all ids that it is to be told.
    pub(super) fn is_told(&self, id: ConnectionId) -> bool {
        self.connection(id).is_none_or(|connection| connection.told >= self.channel_count())
    }

    /// Owes a client the ids of those channels that it was not told of and that it is to be sent,
    /// [`IDS_MAX`] at most; true when there are such.
    pub(super) fn tell_channels(&mut self, id: ConnectionId) -> bool {
        let count = self.channel_count();
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        if connection.told >= count {
            return false;
        }
        if connection.owed.control_bytes() > OWED_BYTES_FOR_IDS {
            return true;
        }
        let stages = connection.lag.iter().flat_map(|lag| &lag.stages);
        let mut cohorts: Vec<_> = stages.map(|stage| stage.cohort).collect();
        cohorts.push(connection.cohort);
        let wants = |channel: &ChannelId| {
            cohorts.iter().any(|&cohort| self.cohorts.cohort(cohort).classes.wants(*channel))
        };
        let new: ChannelIds = (connection.told..count)
            .filter(wants)
            .take(IDS_MAX)
            .map(|channel| (Arc::clone(&self.channels.channel(channel).name), channel))
            .collect();
        let is_full = new.len() == IDS_MAX;
        connection.told = new.last().filter(|_| is_full).map_or(count, |(_, last)| last + 1);
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
    /// client that reads ids. What is beyond [`IDS_MAX`] it is told before it is sent an event.
    pub(super) fn add_ids(&mut self, id: ConnectionId, results: &mut [ChannelResult<'_>]) {
        if self.connection(id).is_none_or(|connection| connection.told == NAMES) {
            return;
        }
        let mut done: Vec<_> = (results.iter_mut())
            .filter_map(|result| Some((Pattern::parse(result.channel).ok()?, result)))
            .filter_map(|(pattern, result)| Some((pattern, result.outcome.as_mut().ok()?)))
            .collect();
        let patterns: Vec<_> = done.iter().map(|(pattern, _)| pattern.clone()).collect();
        let mut found = vec![ChannelIds::new(); patterns.len()];
        let (mut left, mut told) = (IDS_MAX, NAMES);
        let mut note = |place: usize, channel: ChannelId| {
            if left == 0 {
                told = told.min(channel);
                return;
            }
            left -= 1;
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
        if let Some(connection) = self.connection_mut(id) {
            connection.told = connection.told.min(told);
        }
    }
}
