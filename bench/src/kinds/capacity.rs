//! How much a server can do: the rate is raised until it cannot, and the last good step counts.
//!
//! Invariant: every step that is reported as good had all its events delivered in time.

use serde_json::{Value, json};

use crate::rig::{Rig, Round, Setup};
use crate::schedule::Pace;
use crate::verdict;

/// From one step to the next; finer ones follow between the last good one and the first bad one.
const FACTOR: f64 = 2.0;
const FINER_STEPS: usize = 3;
/// A step above it is not good any more.
const P99_US_MAX: f64 = 50_000.0;
/// Nor one in which the server took no events for so long.
const BLOCKED_NS_MAX: u64 = 50_000_000;
const STEPS_MAX: usize = 60;

pub(super) fn round(setup: &Setup) -> Result<Round, String> {
    let mut search = Search { steps: Vec::new(), good: None, load_was_limit: None };
    let mut rate = setup.scenario.events_per_s;
    let mut rig = Rig::start(setup)?;
    let mut bad = None;
    while search.steps.len() < STEPS_MAX {
        if !search.step(&mut rig, rate)? {
            bad = Some(rate);
            break;
        }
        rate *= FACTOR;
    }
    drop(rig);
    let good = search.good.as_ref().map(|(rate, _)| *rate).filter(|&rate| rate > 0.0);
    if let (Some(mut low), Some(mut high)) = (good, bad) {
        // What was too much may have left its marks: each finer step has a server of its own.
        for _ in 0..FINER_STEPS {
            let middle = (low * high).sqrt();
            if search.step(&mut Rig::start(setup)?, middle)? {
                low = middle;
            } else {
                high = middle;
            }
        }
    }
    search.result()
}

struct Search {
    steps: Vec<Value>,
    good: Option<(f64, Round)>,
    /// The last step that failed while only the load generator had no more CPU.
    load_was_limit: Option<f64>,
}

impl Search {
    /// Measures a rate; whether it is good.
    fn step(&mut self, rig: &mut Rig, events_per_s: f64) -> Result<bool, String> {
        let (warm_up_s, seconds) = (rig.setup.scenario.warm_up_s, rig.setup.scenario.seconds);
        let pace = Pace::Constant { events_per_s };
        let mut round = rig.part(pace, warm_up_s, seconds, |_| Ok(()))?;
        round.outcome.memory = rig.memory();
        let outcome = &round.outcome;
        let why = failed(&round);
        let busy = (outcome.load_use.busy, outcome.server_use.busy);
        self.load_was_limit =
            (why.is_some() && verdict::load_is_limit(busy.0, busy.1)).then_some(events_per_s);
        self.steps.push(json!({
            "events_per_s": events_per_s,
            "deliveries_per_s": outcome.arrived() as f64 / outcome.seconds,
            "p99_us": outcome.latency_us.p99,
            "server_busy": busy.1,
            "load_busy": busy.0,
            "failed": why,
        }));
        eprintln!(
            "{:>24} {events_per_s:>10.0} events/s: p99 {:.1} ms, server {:.0} %, load {:.0} %{}",
            rig.setup.server.name,
            outcome.latency_us.p99 / 1000.0,
            busy.1 * 100.0,
            busy.0 * 100.0,
            why.as_ref().map_or_else(String::new, |why| format!(": {why}")),
        );
        let good = why.is_none();
        if good || self.good.is_none() {
            self.good = Some((if good { events_per_s } else { 0.0 }, round));
        }
        Ok(good)
    }

    fn result(self) -> Result<Round, String> {
        let (rate, mut round) = self.good.ok_or("no step was measured")?;
        let outcome = &mut round.outcome;
        if rate > 0.0 {
            let deliveries = outcome.arrived() as f64 / outcome.seconds;
            outcome.extra.insert("capacity_events_per_s".into(), json!(rate));
            outcome.extra.insert("capacity_deliveries_per_s".into(), json!(deliveries));
        } else {
            outcome.invalid.push("the first rate was too much already; lower events_per_s".into());
        }
        if let Some(rate) = self.load_was_limit {
            outcome.invalid.push(format!(
                "at {rate:.0} events/s the load's CPUs were full and the server's were not: the \
                 capacity is a lower bound"
            ));
        }
        outcome.extra.insert("capacity_steps".into(), Value::from(self.steps));
        Ok(round)
    }
}

/// Why a step is not good.
fn failed(round: &Round) -> Option<String> {
    let outcome = &round.outcome;
    if outcome.disconnected > 0 {
        return Some(format!("{} clients were cut off", outcome.disconnected));
    }
    if outcome.lost + outcome.told_missing > 0 {
        return Some(format!("{} messages were lost", outcome.lost + outcome.told_missing));
    }
    if outcome.deliveries < outcome.expected || outcome.deliveries == 0 {
        return Some("not everything came".into());
    }
    if outcome.latency_us.p99 > P99_US_MAX {
        return Some(format!("p99 is {:.0} ms", outcome.latency_us.p99 / 1000.0));
    }
    if round.blocked_max_ns > BLOCKED_NS_MAX {
        let blocked_ms = round.blocked_max_ns / 1_000_000;
        return Some(format!("the server took no events for {blocked_ms} ms"));
    }
    None
}
