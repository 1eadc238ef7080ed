//! Latencies: what is kept of them, and how they are written down.
//!
//! Not here: taking them. Invariant: every histogram of a run has the same bounds, 1 µs to 600 s
//! with three digits, so any two can be added.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::outcome::Quantiles;

const MICROSECONDS_MAX: u64 = 600_000_000;
const DIGITS: u8 = 3;

/// An empty one.
#[must_use]
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MICROSECONDS_MAX, DIGITS).expect("constants")
}

/// Adds a time.
#[inline]
pub fn record(histogram: &mut Histogram<u64>, nanoseconds: u64) {
    histogram.saturating_record((nanoseconds / 1000).max(1));
}

/// As text: V2 with deflate, base64, the common form of HdrHistogram's tools.
#[must_use]
pub fn to_text(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    let written = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
    written.expect("memory takes everything");
    STANDARD.encode(bytes)
}

/// Back from text.
///
/// # Errors
/// When it is none.
pub fn of_text(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| error.to_string())
}

/// Puts `other` into `sum`.
pub fn add(sum: &mut Histogram<u64>, other: &Histogram<u64>) {
    sum.add(other).expect("all have the same bounds");
}

/// The quantiles of an outcome; all 0 when there is nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "µs below 2^53")]
pub fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64;
    Quantiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64,
    }
}

/// The percentile table of HdrHistogram's plotter (`.hgrm`), in µs.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn table(histogram: &Histogram<u64>) -> String {
    const STEPS_PER_HALF: u32 = 5;
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut count = 0;
    for step in histogram.iter_quantiles(STEPS_PER_HALF) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64, step.quantile_iterated_to());
        write!(text, "{value:12.3} {quantile:2.12} {count:10}").expect("memory takes everything");
        if quantile < 1.0 {
            write!(text, " {:14.2}", 1.0 / (1.0 - quantile)).expect("memory takes everything");
        }
        text.push('\n');
    }
    let (mean, deviation) = (histogram.mean(), histogram.stdev());
    let (max, total) = (histogram.max() as f64, histogram.len());
    let buckets = (histogram.buckets(), histogram.distinct_values());
    text + &format!(
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n\
         #[Max     = {max:12.3}, Total count    = {total:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n",
        buckets.0, buckets.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_three_digits_also_after_being_text() {
        let (mut even, mut odd) = (empty(), empty());
        for time_us in 1..=100_000_u64 {
            let histogram = if time_us % 2 == 0 { &mut even } else { &mut odd };
            record(histogram, time_us * 1000);
        }
        let mut all = of_text(&to_text(&even)).unwrap();
        add(&mut all, &odd);
        let shown = quantiles(&all);
        let expected = [(shown.p50, 5e4), (shown.p90, 9e4), (shown.p99, 9.9e4), (shown.max, 1e5)];
        for (got, expected) in expected {
            assert!((got - expected).abs() <= expected * 1e-3, "{got} instead of {expected}");
        }
        let table = table(&all);
        assert!(table.contains("1.000000000000     100000\n"), "{table}");
        assert!(of_text("AAAA").is_err());
        assert_eq!(quantiles(&empty()).max, 0.0);
    }
}
