//! What the simulation does not single out, on a shard without sockets.

mod flush;
mod hostile;

use std::sync::Arc;

use super::{Shard, ShardSettings};
use crate::limits::{self, LOG_BYTES_MIN};
use crate::telemetry::Telemetry;

fn shard() -> Shard {
    let settings = ShardSettings {
        node: "test".into(),
        epoch: "epoch".into(),
        log_bytes: LOG_BYTES_MIN,
        connections_max: 10,
        subscriptions_max: 1_024,
        message_bytes_max: 64 << 10,
        heartbeat_ns: 1_000_000_000,
        retained_bytes: limits::RETAINED_BYTES,
        rules: Arc::default(),
        // Time stands still in most of these tests.
        command_rate: 1_000,
        command_burst: 100_000,
        tier_moves: false,
    };
    Shard::new(settings, Arc::new(Telemetry::new(1)), 0)
}
