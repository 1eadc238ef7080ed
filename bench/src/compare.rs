//! `fanfare-bench compare`: two servers, or two builds of fanfare, in rounds that take turns.
//!
//! Invariant: only ratios of rounds that are neighbours in time are shown, with their range.

use std::path::PathBuf;

use crate::kinds::round;
use crate::outcome::Outcome;
use crate::report::metric;
use crate::rig::Setup;
use crate::run::{Load, line};
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
        for number in 1..=a.scenario.rounds {
            let measure = |setup: &Setup| {
                let mut outcome = round(setup)?.outcome;
                outcome.round = number;
                println!("{}", line(&outcome));
                Ok::<_, String>(outcome)
            };
            // Who is first changes from round to round, too.
            let pair = if number % 2 == 1 {
                let first = measure(&a)?;
                (first, measure(&b)?)
            } else {
                let second = measure(&b)?;
                (measure(&a)?, second)
            };
            pairs.push(pair);
        }
        let counted = pairs.iter().filter(|(a, b)| a.is_valid() && b.is_valid()).count();
        println!("\n{} / {}, {counted} of {} pairs of rounds count", self.b, self.a, pairs.len());
        if counted == 0 {
            println!("no pair of rounds counts; the ratios below are of all of them");
        }
        let shown = pairs.iter().filter(|(a, b)| counted == 0 || (a.is_valid() && b.is_valid()));
        let shown: Vec<_> = shown.collect();
        for (name, of) in FIGURES {
            let ratios = shown.iter().filter_map(|(a, b)| Some(of(b)? / of(a)?));
            let mut ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite()).collect();
            ratios.sort_unstable_by(f64::total_cmp);
            println!("{}", shown_ratio(name, &ratios));
        }
        Ok(())
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

type Figure = (&'static str, fn(&Outcome) -> Option<f64>);

const FIGURES: [Figure; 4] = [
    ("CPU per delivery", |outcome| metric(outcome, "cpu_ns_per_delivery")),
    ("p50", |outcome| Some(outcome.latency_us.p50)),
    ("p99", |outcome| Some(outcome.latency_us.p99)),
    ("spread, p50", |outcome| outcome.spread_us.map(|spread| spread.p50)),
];

/// The median of sorted ratios and their range.
fn shown_ratio(name: &str, ratios: &[f64]) -> String {
    match (ratios.first(), ratios.get(ratios.len() / 2), ratios.last()) {
        (Some(least), Some(median), Some(most)) => {
            format!("{name:>18}: {median:.3}  ({least:.3} to {most:.3})")
        }
        _ => format!("{name:>18}: not measured"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_ratio_is_shown_with_its_range() {
        let shown = super::shown_ratio("p50", &[0.9, 1.0, 1.25]);
        assert_eq!(shown.trim_start(), "p50: 1.000  (0.900 to 1.250)");
        assert!(super::shown_ratio("p50", &[]).contains("not measured"));
    }
}
