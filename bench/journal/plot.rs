//! Times as a picture: for each way its quantiles, from the median to the slowest.
//!
//! Not here: what is measured. Invariant: what is drawn lies within the frame.

use std::fmt::Write;

use hdrhistogram::Histogram;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 3] = ["#1f6feb", "#d29922", "#2da44e"];

/// Marks across: a quantile, and how many decades of slower ones it leaves out.
const MARKS: [(&str, f64); 5] =
    [("p50", 0.301), ("p90", 1.0), ("p99", 2.0), ("p99.9", 3.0), ("p99.99", 4.0)];

/// The document: both axes are logarithmic. Times are nanoseconds.
#[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "for people")]
#[expect(clippy::cast_possible_truncation, reason = "times of one run")]
pub(crate) fn percentiles(lines: &[(&str, &Histogram<u64>)]) -> String {
    let (first, last) = (MARKS[0].1, MARKS[MARKS.len() - 1].1);
    let most = lines.iter().map(|line| line.1.max()).max().unwrap_or(1).max(10_000);
    let decades = (most as f64 / 1_000.0).log10().ceil();
    let x = |at: f64| LEFT + (at - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let y = |us: f64| HEIGHT - BOTTOM - us.max(1.0).log10() / decades * (HEIGHT - BOTTOM - TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let names = ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"];
    for (decade, name) in names.iter().enumerate().take(decades as usize + 1) {
        let at = y(10_f64.powi(decade as i32));
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (name, at) in MARKS {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            x(at),
            HEIGHT - BOTTOM + 18.0
        );
    }
    for (number, ((name, times), colour)) in lines.iter().zip(COLOURS).enumerate() {
        let mut path = String::new();
        for step in 0..=100 {
            let at = first + (last - first) * f64::from(step) / 100.0;
            let us = times.value_at_quantile(1.0 - 10_f64.powf(-at)) as f64 / 1_000.0;
            let _ = write!(path, "{:.1},{:.1} ", x(at), y(us));
        }
        let _ = writeln!(
            svg,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            LEFT + 200.0 * number as f64,
            HEIGHT - 8.0
        );
    }
    svg + "</svg>\n"
}
