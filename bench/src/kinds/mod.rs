//! What is done in a round, for each kind of scenario.
//!
//! Not here: measuring a part of it (`rig`). Invariant: every round starts its server anew.

use crate::rig::{Rig, Round, Setup};
use crate::scenario::Kind;

mod capacity;
mod idle;
mod storm;

/// Measures one round.
///
/// # Errors
/// What could not be started or is gone, and the cure. What went wrong with the load itself is in
/// the outcome's `invalid`.
pub fn round(setup: &Setup) -> Result<Round, String> {
    match setup.scenario.kind {
        Kind::Constant | Kind::Capture => steady(setup),
        Kind::Capacity => capacity::round(setup),
        Kind::Idle => idle::round(setup),
        Kind::Storm => storm::round(setup),
    }
}

fn steady(setup: &Setup) -> Result<Round, String> {
    let mut rig = Rig::start(setup)?;
    let scenario = &setup.scenario;
    let pace = rig.pace(scenario.events_per_s);
    let mut round = rig.part(pace, scenario.warm_up_s, scenario.seconds, |_| Ok(()))?;
    round.outcome.memory = rig.memory();
    Ok(round)
}
