//! The pictures of a run.
//!
//! Not here: their axes and colours (`chart`). Invariant: a picture that has nothing to show is not
//! made.

use maud::{Markup, html};

use super::chart::{Panel, Picture, Scale, WIDTH, legend, look, n, wide};
use super::curves;
use super::figures::{Figures, Range, over_rounds};
use super::run::{Run, is_floor, is_own};
use super::units;

/// All pictures of a run.
pub fn of(run: &Run, all: &[Figures]) -> Vec<Picture> {
    let capacity = || {
        let metric = "extra.capacity_deliveries_per_s";
        let title = "Capacity: deliveries a second (more is better)";
        bars("capacity", title, all, &[metric], true)
    };
    let cpu = || {
        let metrics = ["user_ns_per_delivery", "system_ns_per_delivery"];
        let title = "CPU per delivery (less is better)";
        bars("cpu", title, all, &metrics, false)
    };
    let memory = || {
        let title = "Memory of the server per client (less is better)";
        bars("memory", title, all, &["user_bytes_per_client"], false)
    };
    let idle = run.command.scenario.kind == Some(crate::scenario::Kind::Idle);
    let pictures = if idle {
        vec![memory()]
    } else {
        vec![capacity(), cpu(), percentiles(run, all), seconds(run, all)]
    };
    pictures.into_iter().flatten().collect()
}

/// Latency by percentile.
fn percentiles(run: &Run, all: &[Figures]) -> Option<Picture> {
    let curves = drawn(all.iter().map(|f| (f, curves::percentiles(run, &f.server))));
    let end = curves.iter().filter_map(|(_, curve)| curve.last()).map(|p| p.0).fold(0.0, f64::max);
    if end <= 1.0 {
        return None;
    }
    let (legend, top) = legend(46.0, &entries(&curves), true);
    let values = curves.iter().flat_map(|(_, curve)| curve).map(|point| point.1);
    let panel = Panel::wide(top, 230.0, Scale::Log(1.0, end.max(100.0)), Scale::log(values));
    let marks = [
        (2.0, "50 %"),
        (10.0, "90 %"),
        (100.0, "99 %"),
        (1e3, "99.9 %"),
        (1e4, "99.99 %"),
        (1e5, "99.999 %"),
    ];
    let near = |(x, label): (f64, &str)| (x <= end.max(100.0) * 1.01).then(|| (x, label.into()));
    let ticks: Vec<(f64, String)> = marks.into_iter().filter_map(near).collect();
    let body = html! {
        (legend)
        (panel.axes(&ticks, time_label, "share of messages that came sooner"))
        @for (figures, curve) in front_last(&curves) { (panel.line(&figures.server, curve)) }
    };
    let title = "Latency by percentile (lower is better)".to_owned();
    let alt = said("Latency by percentile", all, &["p50_us", "p99_us", "p999_us"]);
    Some(Picture { name: "latency", title, alt, height: top + 230.0 + 48.0, body })
}

/// Latency second by second.
fn seconds(run: &Run, all: &[Figures]) -> Option<Picture> {
    let lines = all.iter().map(|figures| (figures, curves::seconds(run, &figures.server)));
    let lines: Vec<_> = lines.filter(|(_, [p50, _])| p50.len() > 1).collect();
    let end = lines.iter().flat_map(|(_, [p50, _])| p50.last()).map(|p| p.0).fold(0.0, f64::max);
    if end == 0.0 {
        return None;
    }
    let names = lines.iter().map(|(figures, _)| (figures.server.clone(), figures.title.as_str()));
    let (legend, top) = legend(46.0, &names.collect::<Vec<_>>(), true);
    let mut y = top;
    let panels = ["median", "99th percentile"].map(|name| {
        let at = usize::from(name != "median");
        let values = lines.iter().flat_map(|(_, both)| &both[at]).map(|point| point.1);
        let panel = Panel::wide(y + 20.0, 130.0, Scale::Linear(end), Scale::log(values));
        y += 20.0 + 130.0 + 50.0;
        (name, at, panel)
    });
    let marks = Scale::Linear(end).ticks(WIDTH).into_iter().filter(|at_s| at_s.fract() == 0.0);
    let ticks: Vec<_> = marks.map(|at_s| (at_s, format!("{at_s:.0}"))).collect();
    let body = html! {
        (legend)
        @for (name, at, panel) in &panels {
            text class="own" x=(n(panel.left)) y=(n(panel.top - 7.0)) { (name) }
            (panel.axes(&ticks, time_label, "seconds"))
            @for (figures, both) in lines.iter().rev() {
                (panel.line(&figures.server, &both[*at]))
            }
        }
    };
    let title = "Latency over time (lower is better)".to_owned();
    let alt = said("Latency for each second of the measured part", all, &["p50_us", "p99_us"]);
    Some(Picture { name: "seconds", title, alt, height: y, body })
}

/// A bar for each server: the sum of `metrics`, with a line at the floor's.
fn bars(
    name: &'static str,
    title: &str,
    all: &[Figures],
    metrics: &[&str],
    most_first: bool,
) -> Option<Picture> {
    const ROW: f64 = 40.0;
    let parts = |figures: &Figures| -> Option<Vec<Range>> {
        metrics.iter().map(|metric| figures.get(metric).copied()).collect()
    };
    let mut rows: Vec<_> = all.iter().filter_map(|f| Some((f, parts(f)?))).collect();
    let sum = |parts: &[Range]| parts.iter().map(|part| part.median).sum::<f64>();
    rows.sort_by(|a, b| {
        let order = sum(&a.1).total_cmp(&sum(&b.1));
        if most_first { order.reverse() } else { order }
    });
    // A server's own range may end beyond the sum of the parts' medians.
    let whole = |figures: &Figures, parts: &[Range]| match metrics {
        [_] => Some(parts[0]),
        _ => figures.get("cpu_ns_per_delivery").copied(),
    };
    let ends =
        rows.iter().flat_map(|(f, parts)| [Some(sum(parts)), whole(f, parts).map(|r| r.max)]);
    let most = ends.flatten().fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let shades: [(String, &str); 2] =
        [("sample".into(), "user: the server"), ("faint".into(), "system: the kernel")];
    let shades = if metrics.len() == 2 { &shades[..] } else { &[] };
    let (key, top) = if shades.is_empty() { (html! {}, 40.0) } else { legend(44.0, shades, false) };
    let x = |value: f64| 14.0 + value / most * (WIDTH - 28.0);
    let bottom = top + ROW * rows.len() as f64;
    let floor = rows.iter().find(|(f, _)| is_floor(&f.server)).map(|(_, parts)| sum(parts));
    let body = html! {
        (key)
        @for (at, (figures, parts)) in rows.iter().enumerate() {
            (bar(figures, parts, whole(figures, parts), top + ROW * at as f64, &x, metrics))
        }
        @if let Some(floor) = floor {
            @for at in 0..rows.len() {
                line class="mark" x1=(n(x(floor))) x2=(n(x(floor)))
                    y1=(n(top + ROW * at as f64 + 18.0)) y2=(n(top + ROW * at as f64 + 34.0)) {}
            }
            (floor_label(x(floor), bottom + 14.0))
        }
    };
    let alt = said(title, all, metrics);
    let height = bottom + if floor.is_some() { 26.0 } else { 12.0 };
    Some(Picture { name, title: title.into(), alt, height, body })
}

fn bar(
    figures: &Figures,
    parts: &[Range],
    whole: Option<Range>,
    y: f64,
    x: &impl Fn(f64) -> f64,
    metrics: &[&str],
) -> Markup {
    let total = parts.iter().map(|part| part.median).sum::<f64>();
    let mut text = units::figure(metrics[0], total);
    if metrics.len() == 2 {
        text = format!("{text} (user {})", units::figure(metrics[0], parts[0].median));
    }
    let name = if is_own(&figures.server) { "own" } else { "name" };
    let middle = y + 26.0;
    let mut from = 0.0;
    let spans = parts.iter().enumerate().map(|(at, part)| {
        let span = (if at == 0 { "bar" } else { "part" }, x(from), x(from + part.median));
        from += part.median;
        span
    });
    html! {
        text class=(name) x="14" y=(n(y + 14.0)) { (figures.title) }
        text class=(name) x=(n(WIDTH - 14.0)) y=(n(y + 14.0)) text-anchor="end" { (text) }
        @for (class, start, end) in spans {
            rect class={ (class) " " (look(&figures.server)) } x=(n(start)) y=(n(middle - 6.0))
                width=(n((end - start).max(0.5))) height="12" {}
        }
        @if let Some(range) = whole.filter(|range| range.max > range.min) {
            path class="range" d={
                "M" (n(x(range.min))) " " (n(middle)) "H" (n(x(range.max)))
                "M" (n(x(range.min))) " " (n(middle - 3.0)) "v6"
                "M" (n(x(range.max))) " " (n(middle - 3.0)) "v6"
            } {}
        }
    }
}

fn floor_label(x: f64, y: f64) -> Markup {
    let text = "floor of this machine";
    let half = wide(text) / 2.0;
    let x = x.clamp(14.0 + half, WIDTH - 14.0 - half);
    html! { text class="dim" x=(n(x)) y=(n(y)) text-anchor="middle" { (text) } }
}

/// CPU per delivery by the number of clients, of several runs.
pub fn scaling(runs: &[&Run]) -> Option<Picture> {
    let mut servers: Vec<(&str, &str)> = Vec::new();
    for run in runs {
        for server in run.servers() {
            if !servers.iter().any(|(known, _)| *known == server) {
                servers.push((server, run.title(server)));
            }
        }
    }
    let points = |server: &str| {
        let point = |run: &&Run| {
            let clients = over_rounds(run, server, "clients")?.median;
            Some((clients, over_rounds(run, server, "cpu_ns_per_delivery")?))
        };
        let mut points: Vec<_> = runs.iter().filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let lines: Vec<_> = servers.iter().map(|(name, title)| (*name, *title, points(name))).collect();
    let lines: Vec<_> = lines.into_iter().filter(|(.., points)| !points.is_empty()).collect();
    let clients = || lines.iter().flat_map(|(.., points)| points).map(|point| point.0);
    let (least, most) = (clients().fold(f64::MAX, f64::min), clients().fold(0.0, f64::max));
    if most <= least {
        return None;
    }
    let highest = lines.iter().flat_map(|(.., points)| points).map(|p| p.1.max).fold(0.0, f64::max);
    let names: Vec<_> = lines.iter().map(|(name, title, _)| ((*name).to_owned(), *title)).collect();
    let (legend, top) = legend(46.0, &names, true);
    let x = Scale::Log(least / 1.15, most * 1.15);
    let panel = Panel::wide(top, 220.0, x, Scale::Linear(highest * 1.05));
    let mut ticks: Vec<(f64, String)> = clients().map(|at| (at, units::whole(at))).collect();
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    ticks.dedup_by(|a, b| a.0 == b.0);
    let label = |value: f64| round(&units::figure("cpu_ns_per_delivery", value));
    let body = html! {
        (legend)
        (panel.axes(&ticks, label, "clients"))
        @for (name, _, points) in lines.iter().rev() {
            (panel.line(name, &points.iter().map(|p| (p.0, p.1.median)).collect::<Vec<_>>()))
            @for (at, range) in points {
                path class="range" d={
                    "M" (n(panel.x(*at))) " " (n(panel.y(range.min))) "V" (n(panel.y(range.max)))
                } {}
                circle class={ "dot " (look(name)) } r="4.5" cx=(n(panel.x(*at)))
                    cy=(n(panel.y(range.median))) {}
            }
        }
    };
    let title = "CPU per delivery by clients (lower is better)".to_owned();
    let alt = format!("{title}, from {} to {}", units::whole(least), units::whole(most));
    Some(Picture { name: "scaling", title, alt, height: top + 220.0 + 48.0, body })
}

/// A time beside an axis: a round one, without noughts behind the point.
fn time_label(us: f64) -> String {
    round(&units::time_us(us))
}

fn round(label: &str) -> String {
    let Some((number, unit)) = label.split_once(' ') else { return label.into() };
    if number == "0" {
        return number.into();
    }
    if !number.contains('.') {
        return label.into();
    }
    format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
}

type Curve<'a> = (&'a Figures, Vec<(f64, f64)>);

fn drawn<'a>(curves: impl Iterator<Item = Curve<'a>>) -> Vec<Curve<'a>> {
    curves.filter(|(_, curve)| curve.len() > 1).collect()
}

fn entries<'a>(curves: &'a [Curve<'_>]) -> Vec<(String, &'a str)> {
    curves.iter().map(|(f, _)| (f.server.clone(), f.title.as_str())).collect()
}

/// What is drawn last lies in front.
fn front_last<'a, 'b>(curves: &'a [Curve<'b>]) -> impl Iterator<Item = &'a Curve<'b>> {
    curves.iter().rev()
}

/// A picture in words: each server's medians.
fn said(title: &str, all: &[Figures], metrics: &[&str]) -> String {
    let mut text = title.to_owned();
    for figures in all {
        let values = metrics
            .iter()
            .filter_map(|metric| Some(units::figure(metric, figures.get(metric)?.median)));
        let values: Vec<_> = values.collect();
        if !values.is_empty() {
            text += &format!("; {}: {}", figures.title, values.join(", "));
        }
    }
    text
}
