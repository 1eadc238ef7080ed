//! A storm as a picture: how late events were, and how many clients were back, over time.
//!
//! Not here: what is measured. Invariant: what is drawn lies within the frame.

use std::fmt::Write;

use crate::svg::{self, COLOURS, HEIGHT, LEFT, TOP, Times, WIDTH};

const RIGHT: f64 = 70.0;
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
    let times = Times::up_to(most as f64, BOTTOM);
    let x = |at: f64| LEFT + at / seconds * (WIDTH - LEFT - RIGHT);
    let mut svg = svg::open();
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\" fill=\"#fff3d6\"/>",
        x(trace.recovered_s.min(seconds)) - LEFT,
        HEIGHT - BOTTOM - TOP
    );
    times.levels(&mut svg, RIGHT);
    for tenth in 0..=6 {
        let at = seconds * f64::from(tenth) / 6.0;
        svg::mark(&mut svg, x(at), BOTTOM, &format!("{at:.1} s"));
    }
    let all = trace.back.iter().map(|point| point.1).max().unwrap_or(1).max(1) as f64;
    let share = |count: usize| HEIGHT - BOTTOM - count as f64 / all * (HEIGHT - BOTTOM - TOP);
    let [own, other, _] = COLOURS;
    let back = trace.back.iter().filter(|point| point.0 <= seconds);
    svg::line(&mut svg, back.map(|&(at, count)| (x(at), share(count))), other);
    let steps = steps.iter_mut().enumerate().filter(|(_, step)| !step.is_empty());
    let late = steps.map(|(number, step)| {
        step.sort_unstable();
        let p99 = step[(step.len() - 1) * 99 / 100];
        (x((number as f64 + 0.5) * STEP_S), times.y(p99 as f64))
    });
    svg::line(&mut svg, late, own);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{0}\" fill=\"{own}\">p99 of those who stay, each 0.1 s</text>\n\
         <text x=\"{1}\" y=\"{0}\" fill=\"{other}\">clients that are back (top: all)</text>",
        HEIGHT - 8.0,
        LEFT + 300.0
    );
    svg + "</svg>\n"
}
