//! What the simulation does not single out, on a shard without sockets.

mod ahead;
mod deflate;
mod encodings;
mod figures;
mod flush;
mod hostile;
mod membership;
mod rate;
mod read_back;
mod recovery;
mod slow;

use std::sync::Arc;

use super::super::connection::ConnectionId;
use super::{Outcome, Plan, Shard, ShardSettings};
use crate::fanout::Now;
use crate::limits::{self, LOG_BYTES_MIN};
use crate::telemetry::Telemetry;

fn shard() -> Shard {
    Shard::new(settings(), Arc::new(Telemetry::new(1)), 0)
}

fn settings() -> ShardSettings {
    ShardSettings {
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
        ..ShardSettings::default()
    }
}

/// One pass over sockets that take `room` bytes of each send; returns what they took.
fn pass(shard: &mut Shard, room: usize) -> Vec<u8> {
    let (mut plan, mut bytes) = (Plan::default(), Vec::new());
    shard.begin_pass();
    loop {
        shard.next_sends(&mut plan);
        if plan.is_empty() {
            return bytes;
        }
        let mut outcomes = Vec::new();
        for (_, run) in plan.sends() {
            let slices = plan.slices[run.slices.clone()].iter();
            let all = slices.flat_map(|&slice| shard.slice(slice).to_vec());
            bytes.extend(all.take(room));
            outcomes.push(Outcome::Took(run.bytes.min(room)));
        }
        shard.handle_sent(&plan, &outcomes, Now::default(), &mut Vec::new());
    }
}

/// All that is to be sent now.
fn drain(shard: &mut Shard) -> Vec<u8> {
    let mut bytes = Vec::new();
    while shard.is_pass_due() {
        bytes.extend(pass(shard, usize::MAX));
    }
    bytes
}

#[test]
fn what_is_spread_over_a_time_is_spread_evenly() {
    // A minute of pings of a thousand neighbours, and another one that began a little later.
    for salt in [1_000_000_000_u64, 1_000_000_001] {
        let mut parts = [0_u32; 10];
        for index in 0..1_000 {
            let id = ConnectionId { index, generation: index };
            let at = super::spread(id, salt, 60_000_000_000);
            parts[usize::try_from(at / 6_000_000_000).unwrap()] += 1;
        }
        assert!(parts.iter().all(|count| (60..=140).contains(count)), "{parts:?}");
    }
}
