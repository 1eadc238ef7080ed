//! What an operator asks of a shard: the connections that are furthest behind, the busiest
//! channels, and the end of single connections.
//!
//! A table is surveyed a part at a time, so that no question holds the core for long; details are
//! worked out for the few that are listed. Not here: who asks, and sockets. Invariant: nothing here
//! changes what a client is sent, but for those that are ended.

use crate::access::Identity;
use crate::handoff::batch::ChannelId;
use crate::protocol::ws::close::CloseReason;
use crate::telemetry::tally::STATES;

use super::super::Now;
use super::super::connection::{Connection, ConnectionId, Lane};
use super::super::due::Due;
use super::super::lag::View;
use super::{Shard, milliseconds};

/// The largest of a table, found a part at a time.
#[derive(Debug)]
pub struct Survey<T> {
    /// Place of the table where it goes on.
    at: usize,
    limit: usize,
    found: Vec<(u64, T)>,
}

impl<T: Copy + Ord> Survey<T> {
    /// Of the `limit` largest.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { at: 0, limit, found: Vec::new() }
    }

    fn note(&mut self, key: u64, item: T) {
        self.found.push((key, item));
        // Half of the work of a heap, and sorted in the end all the same.
        if self.found.len() >= 2 * self.limit.max(1) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.found.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
        self.found.truncate(self.limit);
    }

    /// What was found, the largest first.
    #[must_use]
    pub fn found(mut self) -> Vec<T> {
        self.cut();
        self.found.into_iter().map(|(_, item)| item).collect()
    }
}

/// By what connections are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// How far they are behind.
    Lag,
    /// Events that they will not get.
    Drops,
}

/// How far a connection is behind. A snapshot counts as what waits behind it, and so does what is
/// read back, which is as old as the log at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Behind {
    /// Events that are still to be sent, at most.
    pub events: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Age of the oldest, milliseconds.
    pub ms: u64,
}

/// One connection, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionReport {
    /// Which.
    pub id: ConnectionId,
    /// What credential it has, without the secret.
    pub identity: Identity,
    /// What it reads: `json`, `deflate`, `binary` or `sse`.
    pub encoding: &'static str,
    /// How it gets its next bytes: `in_sync`, `ready`, `blocked` or `silent`.
    pub state: &'static str,
    /// Patterns of its set.
    pub patterns: usize,
    /// Channels that match them.
    pub channels: usize,
    /// The interval that the server moved it to, milliseconds.
    pub tier_ms: Option<u64>,
    /// How far it is behind.
    pub behind: Behind,
    /// Bytes of replies and receipts that it is still to be sent.
    pub owed_bytes: usize,
    /// Receipts that it was sent.
    pub receipts: u64,
    /// Events that they covered.
    pub missed: u64,
    /// Time since the last byte from it, milliseconds.
    pub quiet_ms: u64,
    /// Time since it took a byte, milliseconds.
    pub unsent_ms: u64,
}

/// One channel, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelReport {
    /// Its number.
    pub id: ChannelId,
    /// Its name.
    pub name: Box<str>,
    /// Events in the last second.
    pub rate: u64,
    /// `seq` of its newest event, 0 if it had none.
    pub seq: u64,
}

impl Shard {
    /// Generation of the next connection that comes.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Looks at the next `places` of the connections; true when all were seen.
    pub fn survey_connections(
        &self,
        survey: &mut Survey<ConnectionId>,
        places: usize,
        key: impl Fn(&Self, &Connection, ConnectionId) -> u64,
    ) -> bool {
        let end = self.places.min(survey.at + places);
        for place in survey.at..end {
            if let Some(connection) = self.connections.get(place) {
                let id = ConnectionId::new(place, connection.generation);
                survey.note(key(self, connection, id), id);
            }
        }
        survey.at = end;
        end == self.places
    }

    /// What connections are sorted by.
    #[must_use]
    pub fn sort_key(&self, connection: &Connection, id: ConnectionId, sort: Sort) -> u64 {
        match sort {
            Sort::Lag => self.lag_ms(connection),
            Sort::Drops => self.losses.get(&id).map_or(0, |losses| losses.missed),
        }
    }

    /// Looks at the next `places` of the channels; true when all were seen.
    pub fn survey_channels(&self, survey: &mut Survey<ChannelId>, places: usize) -> bool {
        let now_ms = milliseconds(self.now_ns);
        let all = self.channels.len();
        let end = all.min(survey.at + places);
        for place in survey.at..end {
            let id = ChannelId::try_from(place).expect("ids are places");
            survey.note(self.channels.channel(id).pace.rate(now_ms), id);
        }
        survey.at = end;
        end == all
    }

    /// A connection, unless it is gone.
    #[must_use]
    pub fn report(&self, id: ConnectionId, now: Now) -> Option<ConnectionReport> {
        let connection = self.connection(id)?;
        let cohort = self.cohorts.cohort(connection.cohort);
        let losses = self.losses.get(&id);
        let since = |ns: u64| now.monotonic_ns.saturating_sub(ns) / 1_000_000;
        Some(ConnectionReport {
            id,
            identity: connection.member.grant().identity.clone(),
            encoding: cohort.key.encoding.name(),
            state: STATES[state(connection)],
            patterns: cohort.key.set.len(),
            channels: cohort.channel_count(),
            tier_ms: connection.tier.map(|interval| interval.ms()),
            behind: self.behind(connection),
            owed_bytes: connection.owed.bytes().len(),
            receipts: losses.map_or(0, |losses| losses.receipts),
            missed: losses.map_or(0, |losses| losses.missed),
            quiet_ms: since(connection.life.heard_ns),
            unsent_ms: since(connection.sent_ns),
        })
    }

    /// A channel.
    #[must_use]
    pub fn channel_report(&self, id: ChannelId) -> ChannelReport {
        let channel = self.channels.channel(id);
        ChannelReport {
            id,
            name: (&*channel.name).into(),
            rate: channel.pace.rate(milliseconds(self.now_ns)),
            seq: channel.seq_last.into_iter().max().unwrap_or(0),
        }
    }

    /// Connections of this shard that have a channel in their sets.
    #[must_use]
    pub fn subscribers(&self, id: ChannelId) -> u64 {
        if id as usize >= self.channels.len() {
            return 0; // This shard has not come to it yet.
        }
        let interests = self.channels.channel(id).interests.iter();
        interests.map(|interest| self.cohorts.cohort(interest.cohort).holders() as u64).sum()
    }

    /// Ends a connection because the operator says so; false when it is gone.
    pub fn handle_kick(&mut self, id: ConnectionId, now: Now) -> bool {
        let is_there = self.connection(id).is_some_and(|connection| !connection.is_closing());
        self.close(id, CloseReason::Kicked, now);
        is_there
    }

    /// Gives a connection up without a word, as a network that fails; the shell cuts its socket.
    pub fn handle_drill(&mut self, id: ConnectionId) {
        self.finish(id, CloseReason::Drill);
    }

    /// Age of the oldest event that a connection is still to be sent, milliseconds.
    pub(super) fn lag_ms(&self, connection: &Connection) -> u64 {
        let log = &self.store.log;
        let is_reading = connection.lag.as_ref().is_some_and(|lag| lag.reading.is_some());
        let first =
            if is_reading { Some(0) } else { self.due(connection).map(|due| due.from).min() };
        let Some(first) = first.filter(|&first| first < log.head()) else { return 0 };
        // What has left the log is older than all that is in it.
        let oldest = log.entry(first.max(log.tail()));
        u64::from(milliseconds(self.now_ns).wrapping_sub(oldest.time_ms))
    }

    /// How far a connection is behind.
    #[must_use]
    pub fn behind(&self, connection: &Connection) -> Behind {
        let behind = Behind { ms: self.lag_ms(connection), ..Behind::default() };
        self.due(connection).fold(behind, |behind, due| Behind {
            events: behind.events + due.events,
            bytes: behind.bytes + due.bytes,
            ..behind
        })
    }

    /// What a connection is still to be sent of the log, in its present stage and in those to come.
    fn due(&self, connection: &Connection) -> impl Iterator<Item = Due> {
        let view = |id| View { store: &self.store, cohort: self.cohorts.cohort(id) };
        // One that is ahead of the shard has all of it.
        let lag = connection.lag.as_ref().filter(|lag| !lag.waits());
        lag.into_iter().flat_map(move |lag| {
            let present = view(connection.cohort).left(&lag.places, lag.end.as_ref());
            let to_come = (lag.stages.iter())
                .flat_map(move |stage| view(stage.cohort).left(&stage.places, stage.end.as_ref()));
            present.chain(to_come)
        })
    }
}

/// The place of a connection's state in [`STATES`].
pub(super) const fn state(connection: &Connection) -> usize {
    match connection.lane {
        Lane::InSync(_) => 0,
        Lane::Ready => 1,
        Lane::Blocked => 2,
        Lane::Silent => 3,
    }
}
