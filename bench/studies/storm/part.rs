//! One part of a round, a storm or a quiet time: how late events were, and how busy both sides.
//!
//! Not here: what happens meanwhile. Invariant: what arrived before a part is not in it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::established::{Arrival, Established};
use super::producer::Producer;
use crate::report::read;
use crate::support::Server;

pub(crate) const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// What those who stay saw, and what it cost.
pub(crate) struct Part {
    /// Since events were intended.
    pub(crate) late_us: Histogram<u64>,
    /// Since the server had read them.
    pub(crate) within_us: Histogram<u64>,
    pub(crate) producer_late_us: u64,
    pub(crate) server_cores: f64,
    pub(crate) generator_cores: f64,
}

/// Measures while `run` lasts, which says how long that was.
pub(crate) fn measure(
    server: &Server,
    established: &Established,
    producer: &Producer,
    run: impl FnOnce() -> Duration,
) -> (Part, Vec<Arrival>) {
    let (process, own) = (server.child.id().to_string(), "self".to_owned());
    established.take();
    producer.late_us_max();
    let before = (cpu_seconds(&process), cpu_seconds(&own));
    let seconds = run().as_secs_f64();
    let arrivals = established.take();
    let histogram = |of: fn(&Arrival) -> u64| {
        let mut histogram = Histogram::new(3).unwrap();
        arrivals.iter().for_each(|arrival| histogram.record(of(arrival) / 1_000).unwrap());
        histogram
    };
    let part = Part {
        late_us: histogram(|arrival| arrival.late_ns),
        within_us: histogram(|arrival| arrival.within_ns),
        producer_late_us: producer.late_us_max(),
        server_cores: (cpu_seconds(&process) - before.0) / seconds,
        generator_cores: (cpu_seconds(&own) - before.1) / seconds,
    };
    (part, arrivals)
}

impl Part {
    pub(crate) fn figures(&self) -> Value {
        let mut figures = json!({
            "arrivals": self.late_us.len(),
            "producer_late_us_max": self.producer_late_us,
            "server_cores": hundredths(self.server_cores),
            "generator_cores": hundredths(self.generator_cores),
            "within_us": {},
        });
        for (name, quantile) in QUANTILES {
            figures[name] = self.late_us.value_at_quantile(quantile).into();
            figures["within_us"][name] = self.within_us.value_at_quantile(quantile).into();
        }
        figures
    }
}

/// Medians over the rounds of what a storm and a quiet time came to, and their ratio.
pub(crate) fn compare<'a>(
    rounds: impl Iterator<Item = (&'a Histogram<u64>, &'a Histogram<u64>)>,
) -> Value {
    let (storms, quiets): (Vec<_>, Vec<_>) = rounds.unzip();
    let mut compared = json!({});
    for (name, quantile) in QUANTILES {
        let of =
            |all: &[&Histogram<u64>]| median(all.iter().map(|h| h.value_at_quantile(quantile)));
        let (storm, quiet) = (of(&storms), of(&quiets));
        compared[name] = json!({
            "storm": storm,
            "quiet": quiet,
            "ratio": hundredths(storm as f64 / quiet as f64),
        });
    }
    compared
}

/// Processor time of a process so far.
fn cpu_seconds(process: &str) -> f64 {
    let stat = read(&format!("/proc/{process}/stat"));
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    // Fields 14 and 15 of proc(5), a hundredth of a second each.
    (ticks(11) + ticks(12)) / 100.0
}

pub(crate) fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut sorted: Vec<_> = values.collect();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

pub(crate) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
