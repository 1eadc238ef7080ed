//! Whether a client is still there: pings, and connections that nobody uses.
//!
//! The sweep asks. A client that is behind is not pinged: what it takes is a sign of life, and one
//! that takes nothing is ended by its socket's own timeout, because a ping would only queue behind
//! the data. Not here: heartbeats, which tell the client that the server is there. Invariant: a
//! client that is caught up and sends nothing, not even a pong, is closed within ping, pong and one
//! round of the sweep.

use std::num::NonZeroU64;

use crate::limits::PING_JITTER_PERCENT;
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::frame::{self, Opcode};

use super::super::Now;
use super::super::connection::{ConnectionId, find_mut};
use super::{Shard, spread};

impl Shard {
    /// Pings a client that was not heard for long, and closes one that does not answer or has no
    /// subscription.
    pub(super) fn check_life(&mut self, id: ConnectionId, now: Now) {
        if self.is_idle_for_too_long(id, now) {
            return self.close(id, CloseReason::Idle, now);
        }
        if self.is_stream(id) {
            return; // It cannot answer; its socket's own timeout finds out.
        }
        let (ping_ns, pong_ns) = (self.settings.ping_ns, self.settings.pong_ns);
        let Some(connection) = self.connection_mut(id) else { return };
        let life = &mut connection.life;
        if connection.lag.as_ref().is_some_and(|lag| lag.behind) {
            (life.heard_ns, life.pinged_ns) = (now.monotonic_ns, None);
            return;
        }
        match life.pinged_ns {
            Some(pinged) if now.monotonic_ns.saturating_sub(pinged.get()) >= pong_ns => {
                self.counters().heartbeats_missed.add(1);
                self.close(id, CloseReason::HeartbeatMissed, now);
            }
            Some(_) => {}
            None if ping_ns > 0 => {
                let early = spread(id, life.heard_ns, ping_ns / 100 * PING_JITTER_PERCENT);
                if now.monotonic_ns.saturating_sub(life.heard_ns) >= ping_ns - early {
                    life.pinged_ns = NonZeroU64::new(now.monotonic_ns);
                    let payload = now.monotonic_ns.to_be_bytes();
                    self.owe(id, |out| frame::write_frame(out, Opcode::Ping, &payload));
                    self.counters().pings.add(1);
                }
            }
            None => {}
        }
    }

    /// Notes that something came from a client.
    pub(super) fn hear(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connection_mut(id) else { return };
        connection.life.heard_ns = now.monotonic_ns;
        connection.life.pinged_ns = None;
    }

    fn is_idle_for_too_long(&mut self, id: ConnectionId, now: Now) -> bool {
        let idle_ns = self.settings.idle_ns;
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        let is_pending = connection.lag.as_ref().is_some_and(|lag| !lag.stages.is_empty());
        let is_idle = self.cohorts.cohort(connection.cohort).key.set.is_empty() && !is_pending;
        let life = &mut connection.life;
        life.idle_since_ns =
            life.idle_since_ns.or_else(|| NonZeroU64::new(now.monotonic_ns)).filter(|_| is_idle);
        let since_ns = life.idle_since_ns.map_or(u64::MAX, NonZeroU64::get);
        idle_ns > 0 && now.monotonic_ns.saturating_sub(since_ns) >= idle_ns
    }
}
