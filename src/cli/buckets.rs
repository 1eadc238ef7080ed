//! Counts of a histogram by the bounds of its buckets, as `/stats` has them.
//!
//! Not here: asking for them, and how the server counts ([`crate::telemetry::histogram`]).
//! Invariant: what is larger than every bound counts at the largest number there is.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Counts by upper bound; a bound that is not there counts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<(Option<u64>, u64)>")]
pub struct Buckets(BTreeMap<u64, u64>);

impl From<Vec<(Option<u64>, u64)>> for Buckets {
    fn from(listed: Vec<(Option<u64>, u64)>) -> Self {
        Self(listed.into_iter().map(|(bound, count)| (bound.unwrap_or(u64::MAX), count)).collect())
    }
}

impl Buckets {
    /// Adds those of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (&bound, count) in &other.0 {
            *self.0.entry(bound).or_default() += count;
        }
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let then = |bound| before.0.get(bound).copied().unwrap_or_default();
        let counts =
            self.0.iter().map(|(bound, count)| (*bound, count.saturating_sub(then(bound))));
        Self(counts.collect())
    }

    /// A bound that this part of all values does not pass; none without values.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of an interval are far below 2^53"
    )]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let count: u64 = self.0.values().sum();
        let mut left = ((part * count as f64).ceil() as u64).max(1);
        self.0.iter().find_map(|(bound, count)| {
            let is_here = *count >= left;
            left = left.saturating_sub(*count);
            is_here.then_some(*bound)
        })
    }
}
