//! A histogram with one writer: exponential buckets, four to each doubling, in plain cells.
//!
//! The bounds are 2^(i/4), as those of a native histogram of Prometheus with schema 2, so that two
//! of the same span can be added and a quantile is off by a fifth at most. Not here: what is
//! recorded, and how it is shown. Invariant: a value is in the bucket of the smallest bound that is
//! not below it; what is below or above the span is in the first or the last one.

use super::Cell;

/// Buckets to each doubling.
const STEPS: usize = 4;

/// Bounds that are told apart when a histogram is shown as classic buckets: every second one.
const SHOWN_STEPS: usize = 2;

/// 2^63 × 2^(k/4): where the mantissa of a value passes each bound of its doubling.
const BOUNDS: [u64; STEPS] =
    [1 << 63, 0x9837_F051_8DB8_A96F, 0xB504_F333_F9DE_6484, 0xD744_FCCA_D69D_6AF4];

/// Counts of values by size; see the module.
#[derive(Debug)]
pub struct Histogram {
    /// Exponents of the smallest and the largest bound.
    low: usize,
    high: usize,
    counts: Box<[Cell]>,
    sum: Cell,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    low: usize,
    counts: Vec<u64>,
    /// Sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// An empty one whose bounds go from 2^`low` to 2^`high`.
    #[must_use]
    pub fn new(low: usize, high: usize) -> Self {
        let counts = (0..=(high - low) * STEPS + 1).map(|_| Cell::default()).collect();
        Self { low, high, counts, sum: Cell::default() }
    }

    /// Counts a value. Only the owning thread may call it.
    pub fn record(&self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times. Only the owning thread may call it.
    pub fn record_n(&self, value: u64, count: u64) {
        self.counts[self.place(value)].add(count);
        self.sum.add(value.saturating_mul(count));
    }

    fn place(&self, value: u64) -> usize {
        let bound = bound_of(value).clamp(self.low * STEPS, self.high * STEPS + 1);
        bound - self.low * STEPS
    }

    /// What it holds now, from any thread.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counts = self.counts.iter().map(Cell::value).collect();
        Counts { low: self.low, counts, sum: self.sum.value() }
    }
}

/// The smallest i with `value` <= 2^(i/4).
const fn bound_of(value: u64) -> usize {
    if value <= 1 {
        return 0;
    }
    let zeros = value.leading_zeros();
    let mantissa = value << zeros;
    let mut bound = STEPS * (63 - zeros as usize);
    let mut step = 0;
    while step < STEPS {
        bound += (mantissa > BOUNDS[step]) as usize;
        step += 1;
    }
    bound
}

impl Counts {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper bound of bucket `place`.
    fn bound(&self, place: usize) -> f64 {
        let steps = u32::try_from(self.low * STEPS + place).expect("a span is small");
        (f64::from(steps) / STEPS as f64).exp2()
    }

    /// Adds another one of the same span.
    pub fn add(&mut self, other: &Self) {
        debug_assert_eq!((self.low, self.counts.len()), (other.low, other.counts.len()));
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, more)| *mine += more);
        self.sum += other.sum;
    }

    /// What was added since `before`, an earlier state of the same histogram.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.counts.iter().zip(&before.counts).map(|(now, then)| now - then).collect();
        Self { low: self.low, counts, sum: self.sum - before.sum }
    }

    /// A bound that this part of all values does not pass; none without values.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        let mut left = (part * count as f64).ceil().max(1.0);
        let last = self.counts.len() - 1;
        for (place, &count) in self.counts.iter().enumerate() {
            left -= count as f64;
            if count > 0 && left <= 0.0 {
                return Some(self.bound(place.min(last - 1)));
            }
        }
        None
    }

    /// Classic buckets, not accumulated: upper bound and count; the last bound is infinite.
    #[must_use]
    pub fn classic(&self, factor: f64) -> Vec<(f64, u64)> {
        let (last, finite) = self.counts.split_last().expect("there is a last bucket");
        let mut buckets = vec![(self.bound(0) * factor, finite[0])];
        for (chunk, counts) in finite[1..].chunks(SHOWN_STEPS).enumerate() {
            let bound = self.bound((chunk + 1) * SHOWN_STEPS) * factor;
            buckets.push((bound, counts.iter().sum()));
        }
        buckets.push((f64::INFINITY, *last));
        buckets
    }

    /// Buckets that hold something: upper bound, rounded, and count; the last has `u64::MAX`.
    pub fn filled(&self) -> impl Iterator<Item = (u64, u64)> {
        let last = self.counts.len() - 1;
        (self.counts.iter().enumerate()).filter(|(_, count)| **count > 0).map(move |(at, count)| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "<= 2^63")]
            let bound = if at == last { u64::MAX } else { self.bound(at) as u64 };
            (bound, *count)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_below_its_bound_and_above_the_one_before(
            exponent in 0_u32..50,
            part in 0_u64..1 << 50,
        ) {
            let value = (1 << exponent) + (part & ((1 << exponent) - 1));
            let bound = bound_of(value);
            let at = |bound: usize| (bound as f64 / 4.0).exp2();
            prop_assert!(value as f64 <= at(bound) * (1.0 + 1e-12), "{value} {bound}");
            prop_assert!(bound == 0 || value as f64 > at(bound - 1) * (1.0 - 1e-12), "{value}");
        }
    }

    #[test]
    fn quantiles_are_within_a_fifth_and_what_is_shown_adds_up() {
        let histogram = Histogram::new(4, 20);
        (1..=10_000).for_each(|value| histogram.record(value));
        histogram.record_n(1 << 30, 2);
        let counts = histogram.counts();
        assert_eq!(counts.count(), 10_002);
        for part in [0.1, 0.5, 0.99] {
            let bound = counts.quantile(part).unwrap();
            let exact = part * 10_002.0;
            assert!(bound >= exact && bound < exact * 1.2, "{part}: {bound}");
        }
        let shown = counts.classic(1.0);
        assert_eq!(shown.iter().map(|(_, count)| count).sum::<u64>(), 10_002);
        assert_eq!(shown.last(), Some(&(f64::INFINITY, 2)));
        assert_eq!((shown[0], shown.len()), ((16.0, 16), 16 * SHOWN_STEPS + 2));
        assert_eq!(counts.filled().map(|(_, count)| count).sum::<u64>(), 10_002);
        assert_eq!(counts.filled().last(), Some((u64::MAX, 2)));
        let mut twice = counts.clone();
        twice.add(&counts);
        assert_eq!(twice.since(&counts), counts);
    }
}
