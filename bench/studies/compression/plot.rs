//! What compression saves over what it costs: a line for each feed and a point for each level.
//!
//! Not here: what is measured. Invariant: what is drawn lies within the frame.

use std::fmt::Write;

use fanfare::limits::COMPRESSION_MESSAGE_BYTES_MIN;
use serde_json::Value;

use crate::svg::{self, COLOURS, HEIGHT, LEFT, TOP, WIDTH};

const RIGHT: f64 = 60.0;
const BOTTOM: f64 = 50.0;

/// Of all bytes; the top of the picture.
const PERCENT_MAX: f64 = 60.0;

/// The document, of the feeds of a summary, which were compressed at these levels.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn cost(levels: &[u8], feeds: &Value) -> String {
    let feeds = feeds.as_array().expect("a list of feeds");
    let points_of = |feed: &Value| -> Vec<_> {
        feed["levels"].as_array().expect("a list of levels").iter().map(point).collect()
    };
    let points: Vec<_> = feeds.iter().map(points_of).collect();
    let most_us = points.iter().flatten().fold(1.0, |most: f64, (us, _)| most.max(us.ceil()));
    let x = |us: f64| LEFT + us / most_us * (WIDTH - LEFT - RIGHT);
    let y = |percent: f64| HEIGHT - BOTTOM - percent / PERCENT_MAX * (HEIGHT - BOTTOM - TOP);
    let mut svg = svg::open();
    for percent in [0.0, 20.0, 40.0, PERCENT_MAX] {
        svg::level(&mut svg, y(percent), RIGHT, &format!("{percent} %"));
    }
    for tenth in 0..=10 {
        let us = f64::from(tenth) * most_us / 10.0;
        svg::mark(&mut svg, x(us), BOTTOM, &format!("{us:.1}"));
    }
    for (number, ((feed, points), colour)) in feeds.iter().zip(&points).zip(COLOURS).enumerate() {
        svg::line(&mut svg, points.iter().map(|&(us, percent)| (x(us), y(percent))), colour);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>",
            LEFT + 10.0,
            TOP + 16.0 * (number + 1) as f64,
            feed["feed"].as_str().expect("a name"),
        );
        // The levels that differ enough to be told apart.
        for (level, &(us, percent)) in levels.iter().zip(points).filter(|(level, _)| **level < 3) {
            let (x, y) = (x(us), y(percent));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">level {level}</text>",
                y + 20.0
            );
        }
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">CPU of a message, µs; bytes saved, of all \
         messages, those below {COMPRESSION_MESSAGE_BYTES_MIN} B left as they are</text>",
        WIDTH / 2.0,
        HEIGHT - 8.0
    );
    svg + "</svg>\n"
}

/// Microseconds of a message and the part of the bytes that a level saves, by the threshold that is
/// in force.
fn point(level: &Value) -> (f64, f64) {
    let thresholds = level["thresholds"].as_array().expect("a list of thresholds").iter();
    let mut of = thresholds.filter(|of| of["message_bytes_min"] == COMPRESSION_MESSAGE_BYTES_MIN);
    let of = of.next().expect("the threshold in force is one of those that are compared");
    let number = |name: &str| of[name].as_f64().expect("a number");
    (number("cpu_ns_of_a_message") / 1e3, number("saved_percent"))
}
