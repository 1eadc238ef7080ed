//! The curves of a run: latency by percentile, and second by second.
//!
//! Not here: how they are drawn (`plots`). Invariant: a round that does not count is in no point.

use std::fs;

use super::figures::{Range, over_rounds};
use super::run::Run;
use crate::outcome::{Outcome, Second};

/// Beyond 99.999 % a curve is about single messages.
const TAIL_MAX: f64 = 1e5;

/// Points of a line over time: a pixel has no more to show.
const POINTS_MAX: usize = 120;

/// Latency by percentile, as (1/(1-q), µs): the histogram of all rounds that count,
/// `<server>.hgrm`, or without it the quantiles of the rounds.
pub fn percentiles(run: &Run, server: &str) -> Vec<(f64, f64)> {
    let file = run.folder.join(format!("{server}.hgrm"));
    let rows = fs::read_to_string(file).map(|text| rows(&text)).unwrap_or_default();
    if rows.len() > 1 {
        return rows;
    }
    let known = [("p50_us", 2.0), ("p90_us", 10.0), ("p99_us", 100.0), ("p999_us", 1e3)];
    let point = |(name, x)| Some((x, over_rounds(run, server, name)?.median));
    known.into_iter().filter_map(point).collect()
}

/// The rows of HdrHistogram's percentile table: value in µs, percentile, count, 1/(1-percentile).
fn rows(text: &str) -> Vec<(f64, f64)> {
    let row = |line: &str| {
        let mut fields = line.split_whitespace().map(str::parse::<f64>);
        let (value, share) = (fields.next()?.ok()?, fields.next()?.ok()?);
        let x = 1.0 / (1.0 - share);
        (x <= TAIL_MAX).then_some((x, value))
    };
    text.lines().filter_map(row).collect()
}

/// Latency over time, as (s, µs): of the median, and of the 99th percentile. Where a run is long, a
/// point stands for several seconds, with the highest 99th percentile of them.
pub fn seconds(run: &Run, server: &str) -> [Vec<(f64, f64)>; 2] {
    let over = |at: usize, value: fn(&Second) -> f64| {
        let at = |round: &Outcome| round.series.get(at).filter(|s| s.deliveries > 0).map(value);
        Range::of(run.valid(server).filter_map(at)).map(|range| range.median)
    };
    let length = run.valid(server).map(|round| round.series.len()).max().unwrap_or(0);
    let stride = length.div_ceil(POINTS_MAX).max(1);
    let mut lines = [Vec::new(), Vec::new()];
    for start in (0..length).step_by(stride) {
        let span = start..(start + stride).min(length);
        let Some(at_s) = over(start, |second| second.at_s) else { continue };
        let p50 = Range::of(span.clone().filter_map(|at| over(at, |second| second.p50_us)));
        let p99 = Range::of(span.filter_map(|at| over(at, |second| second.p99_us)));
        lines[0].extend(p50.map(|range| (at_s, range.median)));
        lines[1].extend(p99.map(|range| (at_s, range.max)));
    }
    lines
}
