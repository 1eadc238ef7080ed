//! A storm as a picture: how late events were, and how many clients were back, over time.
//!
//! Not here: what is measured. Invariant: what is drawn lies within the frame.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;

/// Seconds that one step of the line of latencies stands for.
const STEP_S: f64 = 0.1;

/// A storm and the quiet after it, over time.
pub(crate) struct Trace {
    /// Seconds since the storm began, and how late an event was, microseconds.
    pub(crate) late: Vec<(f64, u64)>,
    /// Seconds since the storm began, and how many were back.
    pub(crate) back: Vec<(f64, usize)>,
    pub(crate) recovered_s: f64,
}

/// The document: for each tenth of a second the 99th percentile on a logarithmic scale, and beside
/// it the share of the crowd that is back.
#[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "for people")]
#[expect(clippy::cast_possible_truncation, reason = "seconds of one run")]
pub(crate) fn storm(trace: &Trace) -> String {
    let seconds = trace.late.iter().fold(1.0_f64, |most, point| most.max(point.0));
    let mut steps = vec![Vec::new(); (seconds / STEP_S) as usize + 1];
    for &(at, late_us) in &trace.late {
        steps[(at / STEP_S) as usize].push(late_us);
    }
    let most = trace.late.iter().map(|point| point.1).max().unwrap_or(1).max(1_000);
    let decades = (most as f64).log10().ceil();
    let x = |at: f64| LEFT + at / seconds * (WIDTH - LEFT - RIGHT);
    let y = |us: f64| HEIGHT - BOTTOM - us.max(1.0).log10() / decades * (HEIGHT - BOTTOM - TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\" fill=\"#fff3d6\"/>\n",
        x(trace.recovered_s.min(seconds)) - LEFT,
        HEIGHT - BOTTOM - TOP
    );
    for (decade, name) in ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]
        .iter()
        .enumerate()
        .take(decades as usize + 1)
    {
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
    for tenth in 0..=6 {
        let at = seconds * f64::from(tenth) / 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{at:.1} s</text>",
            x(at),
            HEIGHT - BOTTOM + 18.0
        );
    }
    let mut late = String::new();
    for (number, step) in steps.iter_mut().enumerate().filter(|(_, step)| !step.is_empty()) {
        step.sort_unstable();
        let p99 = step[(step.len() - 1) * 99 / 100];
        let _ = write!(late, "{:.1},{:.1} ", x((number as f64 + 0.5) * STEP_S), y(p99 as f64));
    }
    let all = trace.back.iter().map(|point| point.1).max().unwrap_or(1).max(1) as f64;
    let share = |count: usize| HEIGHT - BOTTOM - count as f64 / all * (HEIGHT - BOTTOM - TOP);
    let mut back = String::new();
    for &(at, count) in trace.back.iter().filter(|point| point.0 <= seconds) {
        let _ = write!(back, "{:.1},{:.1} ", x(at), share(count));
    }
    let _ = writeln!(
        svg,
        "<polyline points=\"{back}\" fill=\"none\" stroke=\"#d29922\" stroke-width=\"2\"/>\n\
         <polyline points=\"{late}\" fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"2\"/>\n\
         <text x=\"{LEFT}\" y=\"{0}\" fill=\"#1f6feb\">p99 of those who stay, each 0.1 s</text>\n\
         <text x=\"{1}\" y=\"{0}\" fill=\"#d29922\">clients that are back (top: all)</text>",
        HEIGHT - 8.0,
        LEFT + 300.0
    );
    svg + "</svg>\n"
}
