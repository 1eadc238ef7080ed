//! The drain of a server: who begins it, and when it has ended.
//!
//! Not here: who is told what and when; that is the shards'. Invariant: a server that has handed
//! its listeners over has ended only when all that it had accepted was served.

use std::sync::Arc;
use std::time::Duration;

use crate::shell::changeable::InForce;
use crate::shell::clock;
use crate::shell::doorman::Doorman;
use crate::shell::life::Life;
use crate::shell::supervisor;
use crate::telemetry::{Cell, ShardCounters, Telemetry};

/// What a drain needs to know of a server.
#[derive(Debug, Clone)]
pub(super) struct Drain {
    pub(super) life: Arc<Life>,
    pub(super) doorman: Doorman,
    pub(super) telemetry: Arc<Telemetry>,
    /// How long one takes that names no time, among others.
    pub(super) in_force: Arc<InForce>,
}

impl Drain {
    /// Begins to send every client away, over `window` or else the usual time.
    pub(super) fn begin(&self, window: Option<Duration>) {
        let window = window.unwrap_or_else(|| self.window());
        let status = format!("draining {} clients over {} s", self.clients(), window.as_secs_f64());
        tracing::info!("{status}");
        self.life.drain(window);
        supervisor::stopping(&status, window.saturating_add(self.in_force.load().stop_timeout));
    }

    /// How long one takes that names no time; zero: there is none before a stop.
    pub(super) fn window(&self) -> Duration {
        self.in_force.load().drain
    }

    /// Leaves newcomers to a successor, and sends those who are here away.
    pub(super) fn hand_over(&self) {
        self.doorman.close();
        self.begin(None);
    }

    /// The time that is left, once a drain has begun.
    pub(super) fn left(&self) -> Option<Duration> {
        let end_ns = self.life.drain_end_ns()?;
        Some(Duration::from_nanos(end_ns.saturating_sub(clock::now().monotonic_ns)))
    }

    /// True once its time is over, or nobody is left. Those who came before a successor did are let
    /// in first, whatever time that takes; it is bounded by the handshake's.
    pub(super) fn has_ended(&self) -> bool {
        let Some(left) = self.left() else { return false };
        // The doors first: what one has let in before it closed is counted.
        let may_come = self.life.is_handed_over()
            && (!self.doorman.is_closed() || self.sum(|shard| &shard.handshakes) > 0);
        !may_come && (left.is_zero() || self.clients() == 0)
    }

    /// Clients that are in or about to be.
    pub(super) fn clients(&self) -> u64 {
        self.sum(|shard| &shard.handshakes) + self.sum(|shard| &shard.connections)
    }

    fn sum(&self, gauge: fn(&ShardCounters) -> &Cell) -> u64 {
        self.telemetry.shards.iter().map(|shard| gauge(shard).value()).sum()
    }
}
