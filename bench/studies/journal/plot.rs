//! Times as a picture: for each way its quantiles, from the median to the slowest.
//!
//! Not here: what is measured. Invariant: what is drawn lies within the frame.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::svg::{self, COLOURS, HEIGHT, LEFT, Times, WIDTH};

const RIGHT: f64 = 20.0;
const BOTTOM: f64 = 50.0;

/// Marks across: a quantile, and how many decades of slower ones it leaves out.
const MARKS: [(&str, f64); 5] =
    [("p50", 0.301), ("p90", 1.0), ("p99", 2.0), ("p99.9", 3.0), ("p99.99", 4.0)];

/// The document: both axes are logarithmic. Times are nanoseconds.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn percentiles(lines: &[(&str, &Histogram<u64>)]) -> String {
    let (first, last) = (MARKS[0].1, MARKS[MARKS.len() - 1].1);
    let most = lines.iter().map(|line| line.1.max()).max().unwrap_or(1).max(10_000);
    let times_us = Times::up_to(most as f64 / 1_000.0, BOTTOM);
    let x = |at: f64| LEFT + (at - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let mut svg = svg::open();
    times_us.levels(&mut svg, RIGHT);
    for (name, at) in MARKS {
        svg::mark(&mut svg, x(at), BOTTOM, name);
    }
    for (number, ((name, times), colour)) in lines.iter().zip(COLOURS).enumerate() {
        let place = |step| {
            let at = first + (last - first) * f64::from(step) / 100.0;
            let us = times.value_at_quantile(1.0 - 10_f64.powf(-at)) as f64 / 1_000.0;
            (x(at), times_us.y(us))
        };
        svg::line(&mut svg, (0..=100).map(place), colour);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            LEFT + 200.0 * number as f64,
            HEIGHT - 8.0
        );
    }
    svg + "</svg>\n"
}
