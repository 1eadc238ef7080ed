//! The sweep: looks at every connection once a round, a few at a time.
//!
//! It replaces timers of single clients: one step every [`SWEEP_STEP_MS`] looks at the next part of
//! the table, so a hundred thousand heartbeats are spread over the round. Not here: what a client
//! is sent otherwise. Invariant: between two looks at a connection lies one round at most, as long
//! as the table does not grow.

use crate::limits::{SWEEP_MS, SWEEP_STEP_MS, TIER_LOOKS_BEHIND, TIER_LOOKS_CAUGHT_UP};
use crate::protocol::reply;
use crate::protocol::terms::Interval;
use crate::telemetry::tally::{LAGS_MS, STATES};

use super::super::Now;
use super::super::connection::{Connection, ConnectionId, Lane, Phase};
use super::inspect::state;
use super::{Shard, milliseconds};

/// Connections of a round, by their places in [`STATES`] and [`LAGS_MS`].
#[derive(Debug, Default)]
pub(super) struct Census {
    states: [u64; STATES.len()],
    lags: [u64; LAGS_MS.len()],
}

impl Shard {
    /// One step of the sweep; call it every [`SWEEP_STEP_MS`].
    pub fn handle_tick(&mut self, now: Now) {
        // Also without a batch: clients can change their sets all night while the feed is quiet.
        if self.pass.is_over() {
            self.cohorts.reap(&mut self.channels);
        }
        self.end_intervals(now.monotonic_ns);
        self.store.free_some();
        self.now_ns = now.monotonic_ns;
        let steps = usize::try_from(SWEEP_MS / SWEEP_STEP_MS).expect("a small constant");
        // A round takes its time even where there are fewer places than steps.
        let places = self.places.max(steps);
        for _ in 0..places.div_ceil(steps) {
            self.sweep_at = if self.sweep_at + 1 >= places { 0 } else { self.sweep_at + 1 };
            if self.sweep_at == 0 {
                self.publish_census();
                self.end_forms();
            }
            self.look_at(self.sweep_at, now);
        }
        self.note_progress();
    }

    /// Notes how many clients have subscribed, and up to where everybody was sent everything.
    fn note_progress(&self) {
        let counters = self.counters();
        let strangers = self.cohorts.strangers();
        counters.subscribed.set(self.connections.len().saturating_sub(strangers) as u64);
        let is_sampling = Interval::ALL.iter().any(|&interval| self.cohorts.is_waiting(interval));
        let is_done = self.pass.is_over() && !self.is_pass_due() && !is_sampling;
        if is_done && self.readers == 0 && counters.blocked.value() == 0 {
            counters.settled_seq.set(self.store.log.seq_last());
        }
    }

    /// A round of the sweep is over: what it has found becomes what is said of the shard.
    fn publish_census(&mut self) {
        let Census { states, lags } = std::mem::take(&mut self.census);
        let counters = self.counters();
        (states.iter().enumerate()).for_each(|(at, &count)| counters.states.at(at).set(count));
        (lags.iter().enumerate()).for_each(|(at, &count)| counters.lags.at(at).set(count));
        let log = &self.store.log;
        counters.log_bytes.set(log.bytes_used());
        counters.log_capacity_bytes.set(log.capacity());
        let oldest = (log.tail() < log.head()).then(|| log.entry(log.tail()).time_ms);
        let now_ms = milliseconds(self.now_ns);
        counters.log_reach_ms.set(oldest.map_or(0, |ms| u64::from(now_ms.wrapping_sub(ms))));
    }

    /// Counts a connection for the census.
    fn count_in(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        let state = state(connection);
        let lag_ms = self.lag_ms(connection);
        let lag = LAGS_MS.iter().position(|&bound_ms| lag_ms <= bound_ms).unwrap_or(0);
        self.census.states[state] += 1;
        self.census.lags[lag] += 1;
    }

    /// Notes the intervals that have ended since the last tick; one timer serves each tier.
    fn end_intervals(&mut self, now_ns: u64) {
        let before_ns = std::mem::replace(&mut self.ticked_ns, now_ns);
        for interval in Interval::ALL {
            let number = |ns: u64| ns / (interval.ms() * 1_000_000);
            if number(before_ns) != number(now_ns)
                && self.cohorts.is_waiting(interval)
                && !self.ticks_due.contains(&interval)
            {
                self.ticks_due.push(interval);
            }
        }
    }

    fn look_at(&mut self, place: usize, now: Now) {
        let Some(connection) = self.connections.get(place) else { return };
        let id = ConnectionId::new(place, connection.generation);
        self.count_in(id);
        let Some(connection) = self.connection(id) else { return };
        match connection.phase {
            Phase::Closing { reason, deadline_ns, .. } if deadline_ns <= now.monotonic_ns => {
                self.finish(id, reason);
            }
            Phase::Closing { .. } => {}
            Phase::Open => {
                self.check_life(id, now);
                self.check_membership(id, now);
                self.drain_one(id, now);
                if self.connection(id).is_none_or(Connection::is_closing) {
                    return;
                }
                // The others are dealt with when their socket takes something.
                self.keep_up_or_leave(id);
                self.move_tier(id);
                let Some(connection) = self.connection(id) else { return };
                let quiet = now.monotonic_ns.saturating_sub(connection.sent_ns)
                    >= self.settings.heartbeat_ns;
                // With something to be sent already, that is the sign of life.
                let idle = matches!(connection.lane, Lane::InSync(_))
                    && self.cohorts.cohort(connection.cohort).gather.is_empty();
                if quiet && idle {
                    let cohort = self.cohorts.cohort(connection.cohort);
                    let seq = cohort.seq_settled(self.store.log.seq_last());
                    self.say_whole(id, Some(seq), |out| reply::heartbeat(out, seq));
                } else if quiet
                    && connection.lane == Lane::Ready
                    && let Some(lag) = &connection.lag
                    // Of a snapshot that is not whole yet it would prove too much.
                    && lag.pending.is_empty()
                    && let Some(seq) = lag.waits_at()
                {
                    // What is read back may hold nothing for it, for long; nor may there be
                    // anything before the shard has come to where the client is.
                    self.say_whole(id, Some(seq), |out| reply::heartbeat(out, seq));
                }
            }
        }
    }

    /// Moves a client that stays behind to a slower tier, and one that keeps up to a faster one.
    fn move_tier(&mut self, id: ConnectionId) {
        if !self.settings.tier_moves {
            return;
        }
        let Some(connection) = self.connection_mut(id) else { return };
        let behind = connection.lag.as_ref().is_some_and(|lag| lag.behind);
        let looks = if behind { connection.looks.max(0) + 1 } else { connection.looks.min(0) - 1 };
        let place = Interval::ALL.iter().position(|&interval| Some(interval) == connection.tier);
        let (moves, tier) = if behind {
            let slower = Interval::ALL.get(place.map_or(0, |place| place + 1)).copied();
            (looks >= TIER_LOOKS_BEHIND, slower.or(connection.tier))
        } else {
            let faster = place.and_then(|place| place.checked_sub(1));
            (-looks >= TIER_LOOKS_CAUGHT_UP, faster.map(|place| Interval::ALL[place]))
        };
        connection.looks = if moves { 0 } else { looks };
        if moves && tier != connection.tier {
            self.change_tier(id, tier);
        }
    }
}
