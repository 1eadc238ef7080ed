//! What connections cost that do nothing: connected, subscribed, and after each got one event.
//!
//! Invariant: memory is looked at when it has not changed for a while, or the round does not count;
//! nor does it where the first, smaller one did not.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::rig::{Rig, Round, Setup};
use crate::schedule::Pace;
use crate::usage;

/// Between two looks at memory that must agree, and how many looks there are at most.
const SETTLE: Duration = Duration::from_millis(500);
const LOOKS_MAX: u32 = 20;
/// By how much they may differ.
const SETTLED_BYTES: u64 = 64 << 10;

/// The share of the clients that a first server has. What it takes counts for no client of the
/// second one: a program's own memory grows with its first clients, in steps of its allocator.
const FEW: f64 = 0.1;

pub(super) fn round(setup: &Setup) -> Result<Round, String> {
    let mut few = setup.clone();
    few.scenario.clients = ((setup.scenario.clients as f64 * FEW) as u64).max(1);
    let (base, small) = stages(&few)?;
    let (all, mut round) = stages(setup)?;
    round.outcome.inherit(&format!("with {} clients", few.scenario.clients), &small.outcome);
    let clients = setup.scenario.clients.saturating_sub(few.scenario.clients).max(1) as f64;
    let sockets = round.outcome.memory.socket_bytes as f64 / setup.scenario.clients.max(1) as f64;
    for (stage, name) in ["connected", "subscribed", "after_event"].into_iter().enumerate() {
        let bytes = (all[stage] - base[stage]) / clients;
        round.outcome.extra.insert(format!("user_bytes_per_client_{name}"), json!(bytes));
    }
    round.outcome.extra.insert("socket_bytes_per_client".into(), json!(sockets));
    Ok(round)
}

/// Memory of the server with all clients connected, subscribed, and after an event.
fn stages(setup: &Setup) -> Result<([f64; 3], Round), String> {
    let mut rig = Rig::start(setup)?;
    let mut unsettled = Vec::new();
    let mut look = |rig: &Rig, stage: &str| {
        let pid = rig.running.pid();
        let (bytes, is_settled) = settled(|| usage::anonymous_bytes(&[pid]), SETTLE);
        if !is_settled {
            let looks_s = (SETTLE * LOOKS_MAX).as_secs();
            unsettled.push(format!("{stage}, memory had not settled after {looks_s} s"));
        }
        bytes as f64
    };
    let connected = look(&rig, "connected");
    rig.crew.subscribe()?;
    let subscribed = look(&rig, "subscribed");
    // One event in the measured second.
    let pace = Pace::Constant { events_per_s: 1.0 };
    let mut round = rig.part(pace, 0.0, 1.0, |_| Ok(()))?;
    let after_event = look(&rig, "after an event");
    round.outcome.memory = rig.memory();
    round.outcome.invalid.extend(unsettled);
    round.outcome.latency_us = crate::histogram::quantiles(&round.latency);
    Ok(([connected, subscribed, after_event], round))
}

/// Memory, as soon as two looks agree; and whether they did.
fn settled(mut look: impl FnMut() -> u64, pause: Duration) -> (u64, bool) {
    let mut last = look();
    for _ in 0..LOOKS_MAX {
        sleep(pause);
        let now = look();
        if now.abs_diff(last) < SETTLED_BYTES {
            return (now, true);
        }
        last = now;
    }
    (last, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_goes_on_growing_is_said_to() {
        let sizes = |grows: u64| {
            let mut size = 0;
            move || {
                size += grows;
                size
            }
        };
        assert_eq!(settled(sizes(1), Duration::ZERO), (2, true));
        assert_eq!(settled(sizes(1 << 20), Duration::ZERO), (21 << 20, false));
    }
}
