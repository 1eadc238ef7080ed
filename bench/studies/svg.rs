//! What every picture is made of: a frame, and marks along its axes.
//!
//! Not here: what is plotted. Invariant: all pictures have one size, and one left edge of what is
//! drawn.

use std::fmt::Write;

pub(crate) const WIDTH: f64 = 860.0;
pub(crate) const HEIGHT: f64 = 360.0;
pub(crate) const LEFT: f64 = 70.0;
pub(crate) const TOP: f64 = 20.0;
pub(crate) const COLOURS: [&str; 3] = ["#1f6feb", "#d29922", "#2da44e"];

/// The beginning of a picture.
pub(crate) fn open() -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    )
}

/// A line across at `y`, up to `right` from the right edge, with a label before it.
pub(crate) fn level(svg: &mut String, y: f64, right: f64, label: &str) {
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#ddd\"/>\
         <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
        WIDTH - right,
        LEFT - 6.0,
        y + 4.0
    );
}

/// A label below what is drawn, which ends `bottom` from the lower edge.
pub(crate) fn mark(svg: &mut String, x: f64, bottom: f64, label: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
        HEIGHT - bottom + 18.0
    );
}

/// A line through these places.
pub(crate) fn line(svg: &mut String, places: impl IntoIterator<Item = (f64, f64)>, colour: &str) {
    let _ = write!(svg, "<polyline points=\"");
    for (x, y) in places {
        let _ = write!(svg, "{x:.1},{y:.1} ");
    }
    let _ = writeln!(svg, "\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
}

/// An axis of times, logarithmic, from a microsecond at the bottom up.
pub(crate) struct Times {
    decades: f64,
    bottom: f64,
}

impl Times {
    /// With room for `most_us` microseconds.
    pub(crate) fn up_to(most_us: f64, bottom: f64) -> Self {
        Self { decades: most_us.log10().ceil(), bottom }
    }

    /// The height of a time.
    pub(crate) fn y(&self, us: f64) -> f64 {
        let height = HEIGHT - self.bottom - TOP;
        HEIGHT - self.bottom - us.max(1.0).log10() / self.decades * height
    }

    /// A line across for each decade.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below ten")]
    #[expect(clippy::cast_possible_wrap, reason = "below ten")]
    pub(crate) fn levels(&self, svg: &mut String, right: f64) {
        let names = ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"];
        for (decade, name) in names.iter().enumerate().take(self.decades as usize + 1) {
            level(svg, self.y(10_f64.powi(decade as i32)), right, name);
        }
    }
}
