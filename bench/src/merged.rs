//! The reports of all threads of subscribers, put together.
//!
//! Not here: what they should have received. Invariant: nothing is averaged that can be added.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::histogram;
use crate::orders::{Followed, Report};
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

/// From the first arrival of an event anywhere to the last one anywhere, of those that came more
/// than once.
fn spread(reports: &[Report]) -> Option<Quantiles> {
    let mut events: BTreeMap<u64, Followed> = BTreeMap::new();
    for followed in reports.iter().flat_map(|report| &report.sampled) {
        let unseen = Followed { count: 0, ..*followed };
        let event = events.entry(followed.number).or_insert(unseen);
        event.first_ns = event.first_ns.min(followed.first_ns);
        event.last_ns = event.last_ns.max(followed.last_ns);
        event.count += followed.count;
    }
    let mut all = histogram::empty();
    for event in events.values().filter(|event| event.count > 1) {
        histogram::record(&mut all, event.last_ns - event.first_ns);
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
    fn an_event_that_came_once_to_each_of_two_threads_has_a_spread() {
        let report = |number, at_ns| Report {
            latency: histogram::to_text(&histogram::empty()),
            sampled: vec![Followed { number, first_ns: at_ns, last_ns: at_ns, count: 1 }],
            ..Report::default()
        };
        let both = Merged::of(&[report(4, 1_000), report(4, 4_000)]).unwrap();
        assert_eq!(both.spread.unwrap().max, 3.0);
        let apart = Merged::of(&[report(4, 1_000), report(5, 4_000)]).unwrap();
        assert!(apart.spread.is_none(), "each came to one client only");
    }

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
            sampled: vec![Followed { number: 4, first_ns: first, last_ns: last, count: 2 }],
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
