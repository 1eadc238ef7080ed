//! All clients but those that stay are dropped at once and come back: how late events are for those
//! who stay, before and meanwhile, and when everybody receives again.
//!
//! Invariant: the outcome is of the time from the drop on; what was before is in `extra`, and what
//! went wrong before and after spoils the round, too.

use serde_json::{Value, json};

use crate::clock::{SECOND_NS, now_ns, sleep_until};
use crate::outcome::Outcome;
use crate::rig::{Rig, Round, Setup};
use crate::schedule::Pace;

/// How long everybody may take to come back, after the jitter.
const PATIENCE_NS: u64 = 60 * SECOND_NS;

pub(super) fn round(setup: &Setup) -> Result<Round, String> {
    let mut rig = Rig::start(setup)?;
    let scenario = &setup.scenario;
    let (warm_up_s, seconds) = (scenario.warm_up_s, scenario.seconds);
    let pace = rig.pace(scenario.events_per_s);
    let before = rig.part(pace.clone(), warm_up_s, seconds, |_| Ok(()))?;
    let mut dropped_ns = 0;
    let mut round = rig.part(pace.clone(), 0.0, seconds, |rig| {
        dropped_ns = now_ns();
        rig.crew.drop_all(rig.setup.scenario.jitter_s)
    })?;
    round.outcome.memory = rig.memory();
    round.outcome.inherit("before the drop", &before.outcome);
    let back_ns = come_back(&mut rig, &pace, &mut round.outcome)?;
    let (calm, storm) = (quantiles(&before), quantiles(&round));
    round.outcome.extra.insert("latency_before_us".into(), calm);
    round.outcome.extra.insert("latency_during_us".into(), storm);
    match back_ns {
        Some(back_ns) => {
            let recovery_s = back_ns.saturating_sub(dropped_ns) as f64 / 1e9;
            round.outcome.extra.insert("recovery_s".into(), json!(recovery_s));
        }
        None => round.outcome.fell_short("not everybody came back within a minute".into()),
    }
    Ok(round)
}

/// When the last one received again. Events go on until then, unmeasured: only that the server
/// breaks is noted.
fn come_back(rig: &mut Rig, pace: &Pace, outcome: &mut Outcome) -> Result<Option<u64>, String> {
    let give_up_ns = now_ns() + PATIENCE_NS;
    loop {
        let count = rig.crew.count()?;
        if count.away == 0 {
            return Ok(Some(count.back_ns));
        }
        if now_ns() > give_up_ns {
            return Ok(None);
        }
        let after = rig.part(pace.clone(), 0.0, 1.0, |_| Ok(()))?;
        if let Some(why) = after.outcome.broken.into_iter().next() {
            outcome.fail(format!("until everybody was back: {why}"));
            return Ok(None);
        }
        sleep_until(now_ns() + SECOND_NS / 10);
    }
}

fn quantiles(round: &Round) -> Value {
    serde_json::to_value(round.outcome.latency_us).expect("numbers")
}
