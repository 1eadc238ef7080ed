//! Rounds to figures: medians, ranges, and ratios of one server to another.
//!
//! Rounds of all servers take turns, so a ratio is taken within each round, where both had the same
//! minute of the machine; the median of these ratios counts, not the ratio of medians. Not here:
//! how figures are shown. Invariant: an invalid round enters no figure, and a cost or a rate is of
//! what came in the time that it is of.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::run::{Run, is_floor, is_own};
use crate::outcome::Outcome;

/// A median over rounds, with the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Range {
    /// Of nothing there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }

    /// Whether it reaches below half or above twice the median, or to the other side of zero.
    pub fn is_wide(&self) -> bool {
        let size = self.median.abs();
        let (least, most) =
            if self.median < 0.0 { (-self.max, -self.min) } else { (self.min, self.max) };
        least < size / 2.0 || most > size * 2.0
    }
}

/// What is known of every round, by the names that `summary.json` and `goals.toml` use. Beside
/// them, `extra.NAME` is a number of [`Outcome::extra`], and `extra.NAME.KEY` one of an object
/// there.
pub const METRICS: [&str; 28] = [
    "events_per_s",
    "deliveries_per_s",
    "deliveries_per_cpu_s",
    "cpu_ns_per_delivery",
    "user_ns_per_delivery",
    "system_ns_per_delivery",
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "max_us",
    "spread_p50_us",
    "spread_p99_us",
    "lost",
    "told_missing",
    "duplicates",
    "disconnected",
    "switches_per_s",
    "syscalls_per_delivery",
    "user_bytes",
    "user_bytes_per_client",
    "socket_bytes",
    "socket_bytes_per_client",
    "server_busy",
    "load_busy",
    "rank_min",
    "rank_max",
    "clients",
];

/// Those of which ratios to the floor and to fanfare are in `summary.json`.
pub const RATIOS: [&str; 9] = [
    "deliveries_per_s",
    "extra.capacity_deliveries_per_s",
    "cpu_ns_per_delivery",
    "user_ns_per_delivery",
    "p50_us",
    "p99_us",
    "spread_p99_us",
    "user_bytes_per_client",
    "socket_bytes_per_client",
];

/// One figure of one round, where it was measured.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn metric(round: &Outcome, name: &str) -> Option<f64> {
    let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    let server = &round.server_use;
    let arrived = round.arrived() as f64;
    let clients = round.clients as f64;
    let cpu_s = server.user_s + server.system_s;
    let latency = (round.deliveries > 0).then_some(round.latency_us);
    let memory = (round.memory.user_bytes > 0).then_some(round.memory);
    match name {
        "clients" => Some(clients),
        "events_per_s" => ratio(round.events as f64, round.seconds),
        "deliveries_per_s" => ratio(arrived, round.seconds),
        "deliveries_per_cpu_s" => ratio(arrived, cpu_s),
        "cpu_ns_per_delivery" => ratio(cpu_s * 1e9, arrived),
        "user_ns_per_delivery" => ratio(server.user_s * 1e9, arrived),
        "system_ns_per_delivery" => ratio(server.system_s * 1e9, arrived),
        "p50_us" => latency.map(|quantiles| quantiles.p50),
        "p90_us" => latency.map(|quantiles| quantiles.p90),
        "p99_us" => latency.map(|quantiles| quantiles.p99),
        "p999_us" => latency.map(|quantiles| quantiles.p999),
        "max_us" => latency.map(|quantiles| quantiles.max),
        "spread_p50_us" => round.spread_us.map(|quantiles| quantiles.p50),
        "spread_p99_us" => round.spread_us.map(|quantiles| quantiles.p99),
        "lost" => Some(round.lost as f64),
        "told_missing" => Some(round.told_missing as f64),
        "duplicates" => Some(round.duplicates as f64),
        "disconnected" => Some(round.disconnected as f64),
        "switches_per_s" => {
            let switches = server.switches_voluntary + server.switches_involuntary;
            ratio(switches as f64, round.seconds)
        }
        "syscalls_per_delivery" => server.syscalls_per_delivery,
        "user_bytes" => memory.map(|memory| memory.user_bytes as f64),
        // Where a scenario has told the clients' part from the program's own, it is that.
        "user_bytes_per_client" => metric(round, "extra.user_bytes_per_client_after_event")
            .or_else(|| {
                let memory = memory?;
                ratio(memory.user_bytes as f64 - memory.user_bytes_before as f64, clients)
            }),
        "socket_bytes" => memory.map(|memory| memory.socket_bytes as f64),
        "socket_bytes_per_client" => {
            memory.and_then(|memory| ratio(memory.socket_bytes as f64, clients))
        }
        "server_busy" => Some(server.busy),
        "load_busy" => Some(round.load_use.busy),
        "rank_min" => round.fairness.map(|fairness| fairness.rank_min),
        "rank_max" => round.fairness.map(|fairness| fairness.rank_max),
        _ => {
            let mut path = name.strip_prefix("extra.")?.split('.');
            let value = round.extra.get(path.next()?)?;
            path.try_fold(value, |value, key| value.get(key))?.as_f64()
        }
    }
}

/// The names of all figures that only this scenario has.
fn extra_names(round: &Outcome) -> Vec<String> {
    let names = round.extra.iter().flat_map(|(name, value)| match value {
        Value::Object(inner) => inner.keys().map(|key| format!("extra.{name}.{key}")).collect(),
        _ => vec![format!("extra.{name}")],
    });
    names.collect()
}

/// A metric of a server over its rounds.
pub fn over_rounds(run: &Run, server: &str, name: &str) -> Option<Range> {
    Range::of(run.valid(server).filter_map(|round| metric(round, name)))
}

/// A metric of a server as a multiple of another one's, within each round.
pub fn ratio(run: &Run, server: &str, reference: &str, name: &str) -> Option<Range> {
    Range::of(run.valid(server).filter_map(|round| {
        let other = run.valid(reference).find(|other| other.round == round.round)?;
        let (value, base) = (metric(round, name)?, metric(other, name)?);
        (base > 0.0).then(|| value / base)
    }))
}

/// Messages that a server lost in rounds that count.
pub fn lost(run: &Run, server: &str) -> u64 {
    run.valid(server).map(|round| round.lost).sum()
}

/// All that is known of one server in a run.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub server: String,
    pub title: String,
    pub version: String,
    pub command: String,
    pub rounds: usize,
    pub rounds_valid: usize,
    /// By metric.
    pub figures: BTreeMap<String, Range>,
    /// By metric, of ratios within each round.
    pub to_floor: BTreeMap<String, Range>,
    pub to_fanfare: BTreeMap<String, Range>,
}

impl Figures {
    /// Of a run: fanfare first, then the floor, then the others, the cheapest before.
    pub fn of(run: &Run) -> Vec<Self> {
        let mut all: Vec<_> =
            run.servers().into_iter().map(|server| Self::of_server(run, server)).collect();
        all.sort_by(|a, b| a.place().partial_cmp(&b.place()).expect("a cost is a number"));
        all
    }

    /// A figure, where it was measured.
    pub fn get(&self, metric: &str) -> Option<&Range> {
        self.figures.get(metric)
    }

    fn of_server(run: &Run, server: &str) -> Self {
        let rounds = run.outcomes.iter().filter(|round| round.server == server);
        let last = rounds.clone().next_back().expect("a server is known from its rounds");
        let mut names: Vec<String> = METRICS.map(String::from).into();
        names.extend(rounds.clone().flat_map(extra_names));
        let against = |reference: Option<&str>| {
            let ratio = |name: &str| {
                let ratio = ratio(run, server, reference?, name)?;
                Some((name.to_owned(), ratio))
            };
            RATIOS.into_iter().filter_map(ratio).collect()
        };
        Self {
            server: server.into(),
            title: run.title(server).into(),
            version: last.server_version.clone(),
            command: last.server_command.clone(),
            rounds: rounds.count(),
            rounds_valid: run.valid(server).count(),
            figures: names
                .into_iter()
                .filter_map(|name| Some((name.clone(), over_rounds(run, server, &name)?)))
                .collect(),
            to_floor: against(run.floor()),
            to_fanfare: against(run.own()),
        }
    }

    fn place(&self) -> (u8, f64) {
        let group = match self.server.as_str() {
            own if is_own(own) => 0,
            floor if is_floor(floor) => 1,
            _ => 2,
        };
        (group, self.get("cpu_ns_per_delivery").map_or(f64::MAX, |cost| cost.median))
    }
}
