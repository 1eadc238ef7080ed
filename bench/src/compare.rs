//! `fanfare-bench compare`: two servers, or two builds of fanfare, in rounds that take turns.
//!
//! Invariant: only ratios of rounds that are neighbours in time are shown, with their range.

use std::path::PathBuf;

use crate::kinds::round;
use crate::outcome::Outcome;
use crate::report::{Range, metric};
use crate::rig::Setup;
use crate::run::{Load, line};
use crate::scenario::Kind;
use crate::server::Server;

/// Prints how B relates to A
#[derive(Debug, clap::Args)]
pub struct Compare {
    /// A server, or `fanfare=/path/to/program`
    a: String,
    /// Another one
    b: String,
    /// The scenario
    #[arg(long, value_name = "NAME", default_value = "steady")]
    scenario: String,
    #[command(flatten)]
    load: Load,
}

impl Compare {
    /// Measures both and prints ratios.
    ///
    /// # Errors
    /// What is wrong, where, and the cure.
    pub fn run(&self) -> Result<(), String> {
        let (a, b) = (self.setup(&self.a)?, self.setup(&self.b)?);
        let mut pairs = Vec::new();
        let mut went = Ok(());
        for number in 1..=a.scenario.rounds {
            match pair(&a, &b, number) {
                Ok(pair) => pairs.push(pair),
                Err(why) => {
                    went = Err(format!("round {number}, and what would have followed: {why}"));
                    break;
                }
            }
        }
        let counted = pairs.iter().filter(|(a, b)| a.is_valid() && b.is_valid()).count();
        println!("\n{} / {}, {counted} of {} pairs of rounds count", self.b, self.a, pairs.len());
        if counted == 0 && !pairs.is_empty() {
            println!("no pair of rounds counts; the ratios below are of all of them");
        }
        pairs.retain(|(a, b)| counted == 0 || (a.is_valid() && b.is_valid()));
        for (name, metric) in figures(a.scenario.kind) {
            println!("{}", shown_ratio(name, ratios(&pairs, metric)));
        }
        went
    }

    fn setup(&self, named: &str) -> Result<Setup, String> {
        let scenario = self.load.scenario(&self.scenario)?;
        let (name, program) = match named.split_once('=') {
            None => (named, None),
            Some((name, path)) => (name, Some(PathBuf::from(path))),
        };
        let server = Server::load(name)?;
        if program.is_some() && !server.names("{fanfare}") {
            return Err(format!("{named}: only the program of fanfare can be another one"));
        }
        let mut setup = self.load.setup(&scenario, server)?;
        setup.program = program;
        named.clone_into(&mut setup.server.name);
        Ok(setup)
    }
}

/// A round of each. Who is first changes from round to round, too.
fn pair(a: &Setup, b: &Setup, number: u32) -> Result<(Outcome, Outcome), String> {
    let measure = |setup: &Setup| {
        let mut outcome = round(setup)?.outcome;
        outcome.round = number;
        println!("{}", line(&outcome));
        Ok::<_, String>(outcome)
    };
    if number % 2 == 1 {
        let first = measure(a)?;
        Ok((first, measure(b)?))
    } else {
        let second = measure(b)?;
        Ok((measure(a)?, second))
    }
}

/// What a figure is called, and its name in `report`.
type Figure = (&'static str, &'static str);

const OF_DELIVERIES: [Figure; 4] = [
    ("CPU per delivery", "cpu_ns_per_delivery"),
    ("p50", "p50_us"),
    ("p99", "p99_us"),
    ("spread, p50", "spread_p50_us"),
];

/// What is compared. The rounds of a capacity are of different rates, so
/// nothing else of them can be compared; those of an idle scenario have no more than an event.
fn figures(kind: Kind) -> impl Iterator<Item = Figure> {
    let (those, more): (&[Figure], &[Figure]) = match kind {
        Kind::Capacity => (&[("capacity", "extra.capacity_deliveries_per_s")], &[]),
        Kind::Idle => (
            &[
                ("memory per client", "user_bytes_per_client"),
                ("TCP buffers", "socket_bytes_per_client"),
            ],
            &[],
        ),
        Kind::Constant | Kind::Capture => (&OF_DELIVERIES, &[]),
        Kind::Storm => (&OF_DELIVERIES, &[("recovery", "extra.recovery_s")]),
    };
    those.iter().chain(more).copied()
}

/// B as a multiple of A, of the pairs in which both were measured.
fn ratios(pairs: &[(Outcome, Outcome)], name: &str) -> Option<Range> {
    Range::of(pairs.iter().filter_map(|(a, b)| {
        let (a, b) = (metric(a, name)?, metric(b, name)?);
        (a > 0.0).then(|| b / a)
    }))
}

/// The median of ratios and their range.
fn shown_ratio(name: &str, ratios: Option<Range>) -> String {
    match ratios {
        Some(Range { median, min, max }) => {
            format!("{name:>18}: {median:.3}  ({min:.3} to {max:.3})")
        }
        None => format!("{name:>18}: not measured"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Quantiles;

    fn outcome(p50: f64) -> Outcome {
        let latency_us = Quantiles { p50, ..Quantiles::default() };
        Outcome { deliveries: u64::from(p50 > 0.0), latency_us, ..Outcome::default() }
    }

    #[test]
    fn a_ratio_is_shown_with_its_range() {
        let of = |pairs: &[(f64, f64)]| {
            let pairs: Vec<_> = pairs.iter().map(|&(a, b)| (outcome(a), outcome(b))).collect();
            shown_ratio("p50", ratios(&pairs, "p50_us")).trim_start().to_owned()
        };
        let odd = [(10.0, 10.0), (10.0, 12.5), (10.0, 9.0)];
        assert_eq!(of(&odd), "p50: 1.000  (0.900 to 1.250)");
        assert_eq!(of(&[(10.0, 9.0), (10.0, 12.0)]), "p50: 1.050  (0.900 to 1.200)");
        assert_eq!(of(&[(10.0, 0.0), (0.0, 9.0)]), "p50: not measured", "nothing came");
        assert_eq!(of(&[]), "p50: not measured");
    }

    #[test]
    fn each_kind_is_compared_by_what_can_be_compared_of_it() {
        let has = |kind, name: &str| figures(kind).any(|figure| figure.1 == name);
        assert!(has(Kind::Constant, "p99_us") && !has(Kind::Capacity, "p99_us"));
        assert!(has(Kind::Capacity, "extra.capacity_deliveries_per_s"));
        assert!(has(Kind::Idle, "user_bytes_per_client"));
    }
}
