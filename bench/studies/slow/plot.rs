//! A line plot as SVG: memory over time, with the bound of each line.
//!
//! Not here: what is plotted. Invariant: what is drawn lies within the frame.

use std::fmt::Write;

use crate::svg::{self, COLOURS, HEIGHT, LEFT, TOP, WIDTH};

const BOTTOM: f64 = 40.0;
const RIGHT: f64 = 20.0;
const MIB: f64 = 1_048_576.0;

/// One line.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// Seconds and bytes.
    pub(crate) points: Vec<(f64, u64)>,
    /// Dashed, where the points must stay below.
    pub(crate) bound: u64,
}

/// The document.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn memory(lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let seconds = points().fold(1.0_f64, |most, point| most.max(point.0));
    let bytes = lines.iter().map(|line| line.bound).chain(points().map(|point| point.1)).max();
    let step = nice(bytes.unwrap_or(1) as f64 / MIB / 5.0);
    let top = step * (bytes.unwrap_or(1) as f64 / MIB / step).ceil();
    let x = |at: f64| LEFT + at / seconds * (WIDTH - LEFT - RIGHT);
    let y = |at: f64| HEIGHT - BOTTOM - at / top * (HEIGHT - BOTTOM - TOP);
    let mut svg = svg::open();
    let mut mark = 0.0;
    while mark <= top {
        svg::level(&mut svg, y(mark), RIGHT, &format!("{mark:.0} MiB"));
        mark += step;
    }
    for tenth in 0..=6 {
        let at = seconds * f64::from(tenth) / 6.0;
        svg::mark(&mut svg, x(at), BOTTOM, &format!("{at:.0} s"));
    }
    for (number, (line, colour)) in lines.iter().zip(COLOURS).enumerate() {
        let place = |&(at, bytes): &(f64, u64)| (x(at), y(bytes as f64 / MIB));
        svg::line(&mut svg, line.points.iter().map(place), colour);
        let (bound, end, text) = (y(line.bound as f64 / MIB), WIDTH - RIGHT, HEIGHT - 6.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {bound:.1}H{end}\" stroke=\"{colour}\" stroke-dasharray=\"6 4\"/>\n\
             <text x=\"{}\" y=\"{text}\" fill=\"{colour}\">{} (dashed: bound)</text>",
            LEFT + 330.0 * number as f64,
            line.name
        );
    }
    svg + "</svg>\n"
}

/// A round number of at least `least`.
fn nice(least: f64) -> f64 {
    let power = 10.0_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}
