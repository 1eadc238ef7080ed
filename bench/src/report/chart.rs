//! What pictures are made of: axes, lines, bars, a legend, and the style that all share.
//!
//! A picture has classes instead of colours, and one style sheet gives them their colours in light
//! and in dark; that is why it is written here and not by a plotting crate, which puts a colour
//! into each element. Not here: what is plotted. Invariant: a server has the same colour and
//! the same dashes in every picture.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::run::is_floor;

/// Width of every picture. Narrow, so that a phone shows 13 units as nine pixels; two fit side by
/// side on a desk.
pub const WIDTH: f64 = 520.0;

/// The style of all pictures; inside a page it is needed once.
pub const STYLE: &str = include_str!("chart.css");

/// A finished picture.
#[derive(Debug)]
pub struct Picture {
    /// Of its file, without `.svg`.
    pub name: &'static str,
    pub title: String,
    /// What is to be seen, for those who do not see it.
    pub alt: String,
    pub height: f64,
    pub body: Markup,
}

impl Picture {
    /// As a file of its own.
    pub fn file(&self) -> String {
        self.svg(true).into_string() + "\n"
    }

    /// As a part of a page that has the style.
    pub fn inline(&self) -> Markup {
        self.svg(false)
    }

    fn svg(&self, alone: bool) -> Markup {
        let view = format!("0 0 {WIDTH} {}", self.height);
        // As a file it says its size, so that pages show it larger than it is drawn.
        let scale = 1.5;
        let width = alone.then_some(WIDTH * scale);
        let height = alone.then_some(self.height * scale);
        let space = alone.then_some("http://www.w3.org/2000/svg");
        html! {
            svg xmlns=[space] class="plot" viewBox=(view) width=[width] height=[height]
                role="img" aria-label=(self.alt)
            {
                @if alone { style { (PreEscaped(STYLE)) } }
                rect class="ground" width=(WIDTH) height=(self.height) rx="6" {}
                text class="title" x="14" y="24" { (self.title) }
                (self.body)
            }
        }
    }
}

/// The class of a server's colour and dashes.
pub fn look(server: &str) -> String {
    const KNOWN: [&str; 11] = [
        "fanfare",
        "floor",
        "bun",
        "nats",
        "node-ws",
        "nchan",
        "axum",
        "fastwebsockets",
        "socketify",
        "fanfare-tls",
        "uws",
    ];
    // No run has both floors.
    let server = if is_floor(server) { "floor" } else { server };
    let known = KNOWN.iter().position(|name| *name == server);
    // Another one gets a peer's colour by its name, the same in every picture.
    let other = || 2 + server.bytes().map(usize::from).sum::<usize>() % 7;
    format!("c{}", known.unwrap_or_else(other))
}

/// One axis.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    /// From nothing to the value.
    Linear(f64),
    /// Between two values above nothing.
    Log(f64, f64),
}

impl Scale {
    /// A logarithmic one with room for all values, from full step to full step.
    pub fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::MAX, 0.0_f64);
        for value in values.into_iter().filter(|value| *value > 0.0) {
            least = least.min(value);
            most = most.max(value);
        }
        if most == 0.0 {
            return Self::Log(1.0, 10.0);
        }
        let steps = log_steps(least / 10.0, most * 10.0);
        let low = steps.iter().rev().find(|step| **step <= least).copied();
        let high = steps.iter().find(|step| **step >= most).copied();
        let (low, high) = (low.unwrap_or(least), high.unwrap_or(most));
        Self::Log(low, if high > low { high } else { low * 10.0 })
    }

    /// Where a value is, from 0 to 1.
    pub fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear(most) => value / most,
            Self::Log(least, most) => (value.max(least) / least).log10() / (most / least).log10(),
        }
    }

    /// Where to draw lines, on an axis of such a length.
    pub fn ticks(self, length: f64) -> Vec<f64> {
        match self {
            Self::Linear(most) => {
                let step = step(most);
                let mut ticks = vec![0.0];
                while let Some(next) = ticks.last().map(|last| last + step)
                    && next <= most * 1.001
                {
                    ticks.push(next);
                }
                ticks
            }
            Self::Log(least, most) => {
                let decades = (most / least).log10();
                let steps = log_steps(least, most);
                let whole = |step: &f64| {
                    let exponent = step.log10();
                    (exponent - exponent.round()).abs() < 1e-6
                };
                if decades > length / 75.0 {
                    steps.into_iter().filter(whole).collect()
                } else {
                    steps
                }
            }
        }
    }
}

/// A step that divides an axis into four to six parts.
fn step(most: f64) -> f64 {
    let rough = most / 5.0;
    let decade = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * decade >= rough * 0.8);
    factor.unwrap_or(10.0) * decade
}

/// 1, 2, 5, 10, … between two values.
fn log_steps(least: f64, most: f64) -> Vec<f64> {
    let mut steps = Vec::new();
    let mut decade = 10_f64.powf(least.log10().floor());
    while decade <= most * 1.001 {
        steps.extend([1.0, 2.0, 5.0].map(|factor| factor * decade));
        decade *= 10.0;
    }
    steps.retain(|step| (least * 0.999..=most * 1.001).contains(step));
    steps
}

/// A rectangle with two axes.
#[derive(Debug)]
pub struct Panel {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub x: Scale,
    pub y: Scale,
}

impl Panel {
    /// As wide as the picture, with room for labels on the left.
    pub fn wide(top: f64, height: f64, x: Scale, y: Scale) -> Self {
        Self { left: 64.0, top, width: WIDTH - 64.0 - 18.0, height, x, y }
    }

    pub fn x(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * self.width
    }

    pub fn y(&self, value: f64) -> f64 {
        self.top + self.height - self.y.place(value) * self.height
    }

    /// Lines and labels of both axes, and what `x` is.
    pub fn axes(
        &self,
        x_ticks: &[(f64, String)],
        y_label: impl Fn(f64) -> String,
        x_name: &str,
    ) -> Markup {
        let bottom = self.top + self.height;
        html! {
            @for tick in self.y.ticks(self.height) {
                line class="grid" x1=(n(self.left)) x2=(n(self.left + self.width))
                    y1=(n(self.y(tick))) y2=(n(self.y(tick))) {}
                text class="dim" x=(n(self.left - 7.0)) y=(n(self.y(tick) + 4.5))
                    text-anchor="end" { (y_label(tick)) }
            }
            @for (tick, label) in x_ticks {
                @let at = self.x(*tick);
                // A label at the right edge stays inside the picture.
                @let shift = (at + wide(label) / 2.0 - (WIDTH - 6.0)).max(0.0);
                line class="grid" x1=(n(at)) x2=(n(at))
                    y1=(n(self.top)) y2=(n(bottom)) {}
                text class="dim" x=(n(at - shift)) y=(n(bottom + 18.0))
                    text-anchor="middle" { (label) }
            }
            text class="dim" x=(n(self.left + self.width)) y=(n(bottom + 38.0))
                text-anchor="end" { (x_name) }
        }
    }

    /// One server's line.
    pub fn line(&self, server: &str, points: &[(f64, f64)]) -> Markup {
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let verb = if at == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{verb}{} {}", n(self.x(*x)), n(self.y(*y)));
        }
        html! { path class={ "line " (look(server)) } d=(path) {} }
    }
}

/// Names beside their lines or boxes, and where what is below begins.
pub fn legend(top: f64, entries: &[(String, &str)], lines: bool) -> (Markup, f64) {
    let (mut x, mut y) = (14.0, top);
    let mut places = Vec::new();
    for (server, title) in entries {
        let width = 40.0 + wide(title);
        if x + width > WIDTH - 8.0 && x > 14.0 {
            (x, y) = (14.0, y + 20.0);
        }
        places.push((x, y, server, title));
        x += width;
    }
    let markup = html! {
        @for (x, y, server, title) in places {
            @if lines {
                path class={ "line " (look(server)) } d={ "M" (n(x)) " " (n(y)) "h20" } {}
            } @else {
                rect class=(server) x=(n(x + 4.0)) y=(n(y - 6.0)) width="12" height="12" {}
            }
            text x=(n(x + 25.0)) y=(n(y + 4.5)) { (title) }
        }
    };
    (markup, y + 20.0)
}

/// About how wide a text is.
pub fn wide(text: &str) -> f64 {
    let width = |character: char| match character {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | '.' | ',' | ':' | '(' | ')' | ' ' => 5.0,
        'm' | 'w' | 'W' | 'M' | '%' => 12.0,
        _ => 8.0,
    };
    text.chars().map(width).sum()
}

/// A coordinate.
pub fn n(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}
