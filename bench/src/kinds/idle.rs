//! What connections cost that do nothing: connected, subscribed, and after each got one event.
//!
//! Invariant: memory is looked at when it has not changed for a while.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::rig::{Rig, Round, Setup};
use crate::schedule::Pace;
use crate::usage;

/// Between two looks at memory that must agree, and how many looks there are at most.
const SETTLE: Duration = Duration::from_millis(500);
const LOOKS_MAX: usize = 20;

pub(super) fn round(setup: &Setup) -> Result<Round, String> {
    let mut rig = Rig::start(setup)?;
    let clients = setup.scenario.clients.max(1) as f64;
    let before = rig.memory_before as f64;
    let each = |rig: &Rig| (settled(rig.running.pid()) as f64 - before) / clients;
    let connected = each(&rig);
    rig.crew.subscribe()?;
    let subscribed = each(&rig);
    // One event in the measured second.
    let pace = Pace::Constant { events_per_s: 1.0 };
    let mut round = rig.part(pace, 0.0, 1.0, |_| Ok(()))?;
    let after_event = each(&rig);
    round.outcome.memory = rig.memory();
    round.outcome.latency_us = crate::histogram::quantiles(&round.latency);
    let sockets = round.outcome.memory.socket_bytes as f64 / clients;
    for (name, bytes) in [
        ("user_bytes_per_client_connected", connected),
        ("user_bytes_per_client_subscribed", subscribed),
        ("user_bytes_per_client_after_event", after_event),
        ("socket_bytes_per_client", sockets),
    ] {
        round.outcome.extra.insert(name.into(), json!(bytes));
    }
    Ok(round)
}

/// Memory, as soon as two looks agree.
fn settled(pid: u32) -> u64 {
    let mut last = usage::anonymous_bytes(&[pid]);
    for _ in 0..LOOKS_MAX {
        sleep(SETTLE);
        let now = usage::anonymous_bytes(&[pid]);
        if now.abs_diff(last) < 64 << 10 {
            return now;
        }
        last = now;
    }
    last
}
