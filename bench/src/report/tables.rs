//! The tables of a run, for its page and for the page over all runs.
//!
//! Not here: how they are laid out. Invariant: a column that no server has a figure for is left
//! out.

use super::figures::{Figures, lost};
use super::run::{Run, is_floor, is_own, is_peer};
use super::units;
use crate::scenario::Kind;

/// What every run of the harness leaves open.
pub const NOT_SHOWN: &str = "A network: subscribers are on the same machine, over loopback, which \
    shares its memory and its caches with the server. Other machines, other kernels, and messages \
    of other sizes. Peers are measured with the settings that their notes name; more can do more \
    with them.";

/// Rows of text under a head. The first column names the row.
#[derive(Debug)]
pub struct Table {
    pub title: &'static str,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

type Cell = Box<dyn Fn(&Figures) -> Option<String>>;
type Column = (String, Cell);

/// All tables of a run.
pub fn of(run: &Run, all: &[Figures]) -> Vec<Table> {
    let work = vec![
        range("capacity, deliveries", "extra.capacity_deliveries_per_s"),
        to_floor("capacity × floor", "extra.capacity_deliveries_per_s"),
        range("deliveries", "deliveries_per_s"),
        range("CPU per delivery", "cpu_ns_per_delivery"),
        range("of it user", "user_ns_per_delivery"),
        range("of it system", "system_ns_per_delivery"),
        to_floor("× floor", "cpu_ns_per_delivery"),
        to_fanfare("× fanfare", "cpu_ns_per_delivery"),
    ];
    let latency = vec![
        range("p50", "p50_us"),
        range("p90", "p90_us"),
        range("p99", "p99_us"),
        range("p99.9", "p999_us"),
        range("max", "max_us"),
        range("spread p50", "spread_p50_us"),
        range("spread p99", "spread_p99_us"),
    ];
    let rest = vec![
        range("lost", "lost"),
        range("told missing", "told_missing"),
        range("disconnected", "disconnected"),
        range("context switches", "switches_per_s"),
        range("system calls per delivery", "syscalls_per_delivery"),
        range("memory per client", "user_bytes_per_client"),
        range("TCP buffers per client", "socket_bytes_per_client"),
        range("server busy", "server_busy"),
        range("generator busy", "load_busy"),
        column("rounds that count", |figures| {
            Some(format!("{} of {}", figures.rounds_valid, figures.rounds))
        }),
    ];
    let idle = run.command.scenario.kind == Some(Kind::Idle);
    let groups = [
        ("Work", work, !idle),
        ("Latency, and spread from the first client of an event to its last", latency, !idle),
        ("Loss and resources", rest, true),
        ("Further figures", extras(all), true),
    ];
    let wanted = groups.into_iter().filter(|(.., wanted)| *wanted);
    wanted.filter_map(|(title, columns, _)| table(title, all, columns)).collect()
}

/// What a run says in one or two sentences.
pub fn in_short(run: &Run, all: &[Figures]) -> String {
    let Some(own) = all.iter().find(|figures| Some(figures.server.as_str()) == run.own()) else {
        return "fanfare was not measured.".into();
    };
    if own.rounds_valid == 0 {
        let why = run.outcomes.iter().rfind(|round| round.server == own.server);
        let why = why.and_then(|round| round.invalid.last()).map_or("", String::as_str);
        return format!("No round of fanfare counts: {why}.");
    }
    let median = |metric: &str| Some(units::figure(metric, own.get(metric)?.median));
    let times_floor = |metric: &str| {
        let ratio = own.to_floor.get(metric)?;
        Some(format!(", {} times the floor", units::ratio(ratio)))
    };
    let mut parts = Vec::new();
    if run.command.scenario.kind == Some(Kind::Idle) {
        parts.extend(
            median("user_bytes_per_client")
                .map(|size| format!("A client costs the server {size} of memory.")),
        );
        return parts.join(" ");
    }
    let capacity = "extra.capacity_deliveries_per_s";
    parts.extend(median(capacity).map(|rate| {
        let times = times_floor(capacity).unwrap_or_default();
        format!("fanfare sustains {rate} of deliveries{times}.")
    }));
    let cost = "cpu_ns_per_delivery";
    parts.extend(median(cost).map(|time| {
        let times = times_floor(cost).unwrap_or_default();
        format!("A delivery costs fanfare {time} of CPU{times}.")
    }));
    if let (Some(p50), Some(p99)) = (median("p50_us"), median("p99_us")) {
        parts.push(format!("Half of the messages came within {p50}, 99 % within {p99}."));
    }
    let losers = losers(run).join(", ");
    if !losers.is_empty() {
        parts.push(format!("Out of the contest, because they lost messages: {losers}."));
    }
    parts.join(" ")
}

/// Peers that lost messages, and so are out of the contest.
pub fn losers(run: &Run) -> Vec<&str> {
    let losers = run.servers().into_iter().filter(|s| is_peer(s) && lost(run, s) > 0);
    losers.map(|server| run.title(server)).collect()
}

/// Rounds that do not count, and why.
pub fn invalid_rounds(run: &Run) -> Vec<String> {
    let invalid = run.outcomes.iter().filter(|round| !round.is_valid());
    invalid
        .map(|round| {
            let why = round.invalid.join("; ");
            format!("{}, round {}: {why}", run.title(&round.server), round.round)
        })
        .collect()
}

fn table(title: &'static str, all: &[Figures], columns: Vec<Column>) -> Option<Table> {
    let has = |column: &Column| all.iter().any(|figures| (column.1)(figures).is_some());
    let columns: Vec<_> = columns.into_iter().filter(has).collect();
    if columns.is_empty() {
        return None;
    }
    let row = |figures: &Figures| {
        let cells = columns.iter().map(|column| (column.1)(figures).unwrap_or_else(|| "–".into()));
        std::iter::once(figures.title.clone()).chain(cells).collect()
    };
    let head = std::iter::once(String::new())
        .chain(columns.iter().map(|column| column.0.clone()))
        .collect();
    Some(Table { title, head, rows: all.iter().map(row).collect() })
}

/// Figures that only a scenario has, fanfare's first; the name is the key.
fn extras(all: &[Figures]) -> Vec<Column> {
    let mut names: Vec<&str> = Vec::new();
    for figures in all {
        for name in figures.figures.keys().filter(|name| name.starts_with("extra.")) {
            if !names.contains(&name.as_str()) && !name.starts_with("extra.capacity") {
                names.push(name);
            }
        }
    }
    let column = |name: &str| {
        let metric = name.to_owned();
        let head = name.trim_start_matches("extra.").replace(['_', '.'], " ");
        let cell: Cell =
            Box::new(move |figures| Some(units::range(&metric, figures.get(&metric)?)));
        (head, cell)
    };
    names.into_iter().map(column).collect()
}

fn range(head: &'static str, metric: &'static str) -> Column {
    column(head, move |figures| Some(units::range(metric, figures.get(metric)?)))
}

fn to_floor(head: &'static str, metric: &'static str) -> Column {
    column(head, move |figures| {
        (!is_floor(&figures.server)).then(|| figures.to_floor.get(metric).map(units::ratio))?
    })
}

fn to_fanfare(head: &'static str, metric: &'static str) -> Column {
    column(head, move |figures| {
        (!is_own(&figures.server)).then(|| figures.to_fanfare.get(metric).map(units::ratio))?
    })
}

fn column(head: &'static str, cell: impl Fn(&Figures) -> Option<String> + 'static) -> Column {
    (head.into(), Box::new(cell))
}
