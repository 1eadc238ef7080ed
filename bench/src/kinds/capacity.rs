//! How much a server can do: the rate is raised until it cannot, and the last good step counts.
//!
//! Invariant: every step that is reported as good had all its events delivered in time, and what
//! the lowest bad step failed at is the server's doing, or the round does not count.

use serde_json::{Value, json};

use crate::rig::{Rig, Round, Setup};
use crate::schedule::Pace;

/// From one step to the next; finer ones follow between the last good one and the first bad one.
const FACTOR: f64 = 2.0;
const FINER_STEPS: usize = 3;
/// A step above it is not good any more.
const P99_US_MAX: f64 = 50_000.0;
/// Nor one in which the server took no events for so long.
const BLOCKED_NS_MAX: u64 = 50_000_000;
const STEPS_MAX: usize = 60;

pub(super) fn round(setup: &Setup) -> Result<Round, String> {
    let mut search = Search::default();
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

#[derive(Default)]
struct Search {
    steps: Vec<Value>,
    good: Option<(f64, Round)>,
    /// The lowest rate that was too much, and what was wrong there beside the server.
    bad: Option<(f64, Vec<String>)>,
}

impl Search {
    /// Measures a rate; whether it is good.
    fn step(&mut self, rig: &mut Rig, events_per_s: f64) -> Result<bool, String> {
        let (warm_up_s, seconds) = (rig.setup.scenario.warm_up_s, rig.setup.scenario.seconds);
        let pace = Pace::Constant { events_per_s };
        let mut round = rig.part(pace, warm_up_s, seconds, |_| Ok(()))?;
        round.outcome.memory = rig.memory();
        Ok(self.note(events_per_s, round))
    }

    /// Takes note of a step; whether it is good.
    fn note(&mut self, events_per_s: f64, round: Round) -> bool {
        let outcome = &round.outcome;
        let why = failed(&round);
        let busy = (outcome.load_use.busy, outcome.server_use.busy);
        if why.is_some() && self.bad.as_ref().is_none_or(|bad| events_per_s < bad.0) {
            self.bad = Some((events_per_s, outcome.spoilt().cloned().collect()));
        }
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
            outcome.server,
            outcome.latency_us.p99 / 1000.0,
            busy.1 * 100.0,
            busy.0 * 100.0,
            why.as_ref().map_or_else(String::new, |why| format!(": {why}")),
        );
        let good = why.is_none();
        if good || self.good.is_none() {
            self.good = Some((if good { events_per_s } else { 0.0 }, round));
        }
        good
    }

    fn result(self) -> Result<Round, String> {
        let (rate, mut round) = self.good.ok_or("no step was measured")?;
        let outcome = &mut round.outcome;
        if rate > 0.0 {
            let deliveries = outcome.arrived() as f64 / outcome.seconds;
            outcome.extra.insert("capacity_events_per_s".into(), json!(rate));
            outcome.extra.insert("capacity_deliveries_per_s".into(), json!(deliveries));
            let (rate, spoilt) = self.bad.unwrap_or_default();
            outcome.invalid.extend(
                spoilt.into_iter().map(|why| {
                    format!("the capacity is a lower bound: at {rate:.0} events/s {why}")
                }),
            );
        } else {
            outcome.fell_short("the first rate was too much already; lower events_per_s".into());
        }
        outcome.extra.insert("capacity_steps".into(), Value::from(self.steps));
        Ok(round)
    }
}

/// Why a step is not good.
fn failed(round: &Round) -> Option<String> {
    let outcome = &round.outcome;
    if let Some(why) = outcome.broken.first() {
        return Some(why.clone());
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram;
    use crate::outcome::Outcome;

    /// A step of 1,000 messages, of which so many were lost.
    fn step(lost: u64, invalid: &[&str]) -> Round {
        let outcome = Outcome {
            seconds: 1.0,
            deliveries: 1000 - lost,
            expected: 1000,
            lost,
            invalid: invalid.iter().map(ToString::to_string).collect(),
            ..Outcome::default()
        };
        Round { outcome, latency: histogram::empty(), blocked_max_ns: 0 }
    }

    fn searched(steps: impl IntoIterator<Item = (f64, Round)>) -> Outcome {
        let mut search = Search::default();
        for (rate, round) in steps {
            search.note(rate, round);
        }
        search.result().unwrap().outcome
    }

    const FULL: &str = "the load may be the limit";
    const OTHERS: &str = "others used 40 %";

    #[test]
    fn what_spoilt_the_lowest_bad_step_spoils_the_round_whatever_follows() {
        let steps = [(100.0, step(0, &[])), (200.0, step(9, &[FULL])), (141.0, step(0, &[]))];
        let limited = searched(steps);
        assert!(limited.invalid.len() == 1 && limited.invalid[0].contains(FULL), "{limited:?}");
        assert!(limited.invalid[0].contains("at 200 events/s"), "{limited:?}");
        assert_eq!(limited.extra["capacity_events_per_s"], 141.0);
        assert!(limited.broken.is_empty());

        let disturbed = searched([(100.0, step(0, &[])), (200.0, step(9, &[OTHERS]))]);
        assert!(disturbed.invalid.len() == 1 && disturbed.invalid[0].contains(OTHERS));
    }

    #[test]
    fn a_lower_bad_step_without_a_fault_makes_good_what_spoilt_a_higher_one() {
        let steps =
            [(100.0, step(0, &[])), (200.0, step(9, &[FULL, OTHERS])), (141.0, step(9, &[]))];
        let found = searched(steps);
        assert!(found.is_valid(), "{found:?}");
        assert_eq!(found.extra["capacity_events_per_s"], 100.0);
    }

    #[test]
    fn a_server_that_ends_at_a_rate_has_its_capacity_below_it() {
        let mut ended = step(0, &[]);
        ended.outcome.fail("the server ended".into());
        let found = searched([(100.0, step(0, &[])), (200.0, ended)]);
        assert!(found.is_valid() && found.broken.is_empty(), "{found:?}");
    }

    #[test]
    fn a_first_rate_that_is_too_much_is_the_servers_doing_unless_something_else_was_wrong() {
        let own = searched([(100.0, step(9, &[]))]);
        assert!(!own.is_valid() && own.broken.len() == 1, "{own:?}");
        let others = searched([(100.0, step(9, &[OTHERS]))]);
        assert!(others.invalid.len() == 2 && others.broken.is_empty(), "{others:?}");
    }
}
