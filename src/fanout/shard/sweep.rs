//! The sweep: looks at every connection once a round, a few at a time.
//!
//! It replaces timers of single clients: one step every [`SWEEP_STEP_MS`] looks at the next part of
//! the table, so a hundred thousand heartbeats are spread over the round. Not here: what a client
//! is sent otherwise. Invariant: between two looks at a connection lies one round at most, as long
//! as the table does not grow.

use crate::limits::{SWEEP_MS, SWEEP_STEP_MS};
use crate::protocol::reply;

use super::super::Now;
use super::super::connection::{ConnectionId, Lane, Phase};
use super::Shard;

impl Shard {
    /// One step of the sweep; call it every [`SWEEP_STEP_MS`].
    pub fn handle_tick(&mut self, now: Now) {
        // Also without a batch: clients can change their sets all night while the feed is quiet.
        if self.pass.is_over() {
            self.cohorts.reap(&mut self.channels);
        }
        let places = self.connections.capacity();
        let steps = usize::try_from(SWEEP_MS / SWEEP_STEP_MS).expect("a small constant");
        for _ in 0..places.div_ceil(steps) {
            self.sweep_at = if self.sweep_at + 1 >= places { 0 } else { self.sweep_at + 1 };
            self.look_at(self.sweep_at, now);
        }
    }

    fn look_at(&mut self, place: usize, now: Now) {
        let Some(connection) = self.connections.get(place) else { return };
        let id = ConnectionId::new(place, connection.generation);
        match connection.phase {
            Phase::Closing { reason, deadline_ns, .. } if deadline_ns <= now.monotonic_ns => {
                self.finish(id, reason);
            }
            Phase::Closing { .. } => {}
            Phase::Open => {
                let quiet = now.monotonic_ns.saturating_sub(connection.sent_ns)
                    >= self.settings.heartbeat_ns;
                // With something to be sent already, that is the sign of life.
                let idle = matches!(connection.lane, Lane::InSync(_))
                    && self.cohorts.gather(connection.cohort).is_none();
                if quiet && idle {
                    let seq = self.log.seq_last();
                    self.say(id, |out| reply::heartbeat(out, seq));
                }
            }
        }
    }
}
