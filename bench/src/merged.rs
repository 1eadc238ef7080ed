//! The reports of all threads of subscribers, put together.
//!
//! Not here: what they should have received. Invariant: nothing is averaged that can be added.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::histogram;
use crate::orders::Report;
use crate::outcome::{Fairness, Quantiles};

/// What all measured clients received in a window.
#[derive(Debug)]
pub struct Merged {
    pub deliveries: u64,
    pub duplicates: u64,
    pub missing: u64,
    pub told: u64,
    pub lost: u64,
    pub disconnected: u64,
    pub refused: u64,
    pub latency: Histogram<u64>,
    /// By second of arrival.
    pub seconds: Vec<(u64, Histogram<u64>)>,
    /// Of each thread, by second: for how long there was nothing to read.
    pub idle_ns: Vec<Vec<u64>>,
    pub spread: Option<Quantiles>,
    pub fairness: Option<Fairness>,
}

impl Merged {
    /// # Errors
    /// A histogram that is none.
    pub fn of(reports: &[Report]) -> Result<Self, String> {
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum();
        let mut latency = histogram::empty();
        let mut seconds: Vec<(u64, Histogram<u64>)> = Vec::new();
        for report in reports {
            histogram::add(&mut latency, &histogram::of_text(&report.latency)?);
            for (at, second) in report.seconds.iter().enumerate() {
                if seconds.len() <= at {
                    seconds.push((0, histogram::empty()));
                }
                seconds[at].0 += second.deliveries;
                if !second.latency.is_empty() {
                    histogram::add(&mut seconds[at].1, &histogram::of_text(&second.latency)?);
                }
            }
        }
        let idle_ns =
            |report: &Report| report.seconds.iter().map(|second| second.idle_ns).collect();
        Ok(Self {
            deliveries: sum(|report| report.deliveries),
            duplicates: sum(|report| report.duplicates),
            missing: sum(|report| report.missing),
            told: sum(|report| report.told),
            lost: sum(|report| report.lost),
            disconnected: sum(|report| report.disconnected),
            refused: sum(|report| report.refused),
            latency,
            seconds,
            idle_ns: reports.iter().map(idle_ns).collect(),
            spread: spread(reports),
            fairness: fairness(reports),
        })
    }
}

/// From the first arrival of an event anywhere to the last one anywhere.
fn spread(reports: &[Report]) -> Option<Quantiles> {
    let mut events: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for &(number, first, last) in reports.iter().flat_map(|report| &report.sampled) {
        let entry = events.entry(number).or_insert((first, last));
        *entry = (entry.0.min(first), entry.1.max(last));
    }
    let mut all = histogram::empty();
    for (first, last) in events.values() {
        histogram::record(&mut all, last - first);
    }
    (!all.is_empty()).then(|| histogram::quantiles(&all))
}

fn fairness(reports: &[Report]) -> Option<Fairness> {
    let mut clients: Vec<u64> =
        reports.iter().flat_map(|report| &report.by_client).copied().collect();
    clients.sort_unstable();
    let (&min, &max) = (clients.first()?, clients.last()?);
    let ranks = reports.iter().filter_map(|report| report.rank);
    let rank = ranks.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))?;
    Some(Fairness {
        min,
        median: clients[clients.len() / 2],
        max,
        rank_min: rank.0,
        rank_max: rank.1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::Arrived;

    #[test]
    fn an_events_spread_is_over_all_threads() {
        let mut latency = histogram::empty();
        histogram::record(&mut latency, 7_000);
        let report = |first, last, count| Report {
            deliveries: count,
            latency: histogram::to_text(&latency),
            seconds: vec![Arrived {
                deliveries: count,
                latency: histogram::to_text(&latency),
                idle_ns: 40,
            }],
            sampled: vec![(4, first, last)],
            by_client: vec![count, count + 1],
            rank: Some((0.25, 0.5)),
            ..Report::default()
        };
        let merged = Merged::of(&[report(5_000, 9_000, 3), report(1_000, 6_000, 8)]).unwrap();
        assert_eq!(merged.spread.unwrap().max, 8.0);
        assert_eq!((merged.deliveries, merged.latency.len(), merged.seconds[0].0), (11, 2, 11));
        assert_eq!(merged.idle_ns, [[40], [40]]);
        let fairness = merged.fairness.unwrap();
        assert_eq!((fairness.min, fairness.median, fairness.max), (3, 8, 9));
        assert_eq!((fairness.rank_min, fairness.rank_max), (0.25, 0.5));
    }
}
