//! Whether slow clients move the delivery of healthy ones: rounds with and without, alternately.
//!
//! One server and the same healthy clients all the time. In every round the same piece of the
//! capture is replayed; for the odd ones the slow clients join before it and hang up after it. Not
//! here: whether accounts add up. Invariant: each pair of rounds has one of each kind.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{percentiles, profile, server_command};
use crate::report::{self, commit, cpu, kernel, progress};
use crate::scenario::{self, Count, Stage};

const ROUNDS: usize = 20;
const SECONDS: u64 = 10;

/// Of a round, what is not measured: until the sockets of those that stall are full.
const WARM_UP_SECONDS: f64 = 2.5;

const QUANTILES: [&str; 3] = ["p50", "p99", "p99.9"];

/// Measures and, when `full`, writes the results.
pub(crate) fn run(mut stage: Stage, count: Count, full: bool) {
    // Readers and the producer, which inherits it, stay off the shard's core.
    if let Some(core) = scenario::cores().pop() {
        core_affinity::set_for_current(core);
    }
    stage.join_healthy(count.healthy);
    let (rounds, seconds) = if full { (ROUNDS, SECONDS) } else { (2, 3) };
    let bar = progress("rounds", rounds);
    let mut measured = Vec::new();
    for number in 0..rounds {
        let with_slow = number % 2 == 0;
        if with_slow {
            stage.join_slow(count);
        }
        let (mut server, mut readers, mut looks) = (0.0, 0.0, 0.0);
        stage.play(Duration::from_secs(seconds), |sample, lag| {
            if sample.seconds < WARM_UP_SECONDS {
                lag.reset();
            } else {
                server += sample.server_cores;
                readers += sample.readers_cores;
                looks += 1.0;
            }
        });
        measured.push(json!({
            "with_slow": with_slow,
            "lag_us": percentiles(&stage.crowd.lag),
            "deliveries": stage.crowd.lag.len(),
            "server_cores": super::round(server / looks),
            "readers_cores": super::round(readers / looks),
        }));
        stage.crowd.dismiss_slow();
        bar.inc(1);
    }
    bar.finish();
    let missed = stage.server.counter("missed");
    let summary = summarise(&measured, &stage, count);
    println!("{}", table(&summary));
    println!("{missed} events were receipted");
    if full {
        let folder = report::folder("isolation");
        report::write_summary(&folder, &summary);
        write_page(&folder, &summary);
        println!("written to {}", folder.display());
    }
}

fn summarise(measured: &[Value], stage: &Stage, count: Count) -> Value {
    let mut figures = json!({});
    for quantile in QUANTILES {
        let of_kind = |with_slow: bool| -> Vec<u64> {
            let rounds = measured.iter().filter(|round| round["with_slow"] == with_slow);
            let mut of_kind: Vec<_> =
                rounds.map(|round| round["lag_us"][quantile].as_u64().unwrap()).collect();
            of_kind.sort_unstable();
            of_kind
        };
        let (with, without) = (of_kind(true), of_kind(false));
        figures[quantile] = json!({
            "with_slow": { "median": median(&with), "min": with[0], "max": with.last() },
            "without": { "median": median(&without), "min": without[0], "max": without.last() },
            "ratio_of_medians": super::round(median(&with) / median(&without)),
        });
    }
    json!({
        "question": "do slow clients move the delivery of healthy ones?",
        "clients": { "healthy": count.healthy, "stalled": count.stalled, "slow": count.slow },
        "pace": stage.day.pace,
        "lag_us": figures,
        "rounds": measured,
        "command": format!("cargo bench --bench slow -- --isolation --pace {}", stage.day.pace),
        "server_command": server_command(),
        "commit": commit(),
        "kernel": kernel(),
        "cpu": cpu(),
        "profile": profile(),
    })
}

/// Of sorted figures.
#[expect(clippy::cast_precision_loss, reason = "microseconds")]
fn median(sorted: &[u64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) as f64 / 2.0,
        _ => sorted[middle] as f64,
    }
}

fn table(summary: &Value) -> String {
    let mut text = "slow     p50 µs   p99 µs  p99.9 µs  deliveries  server  readers\n".to_owned();
    for round in summary["rounds"].as_array().unwrap() {
        let lag = |quantile: &str| round["lag_us"][quantile].as_u64().unwrap();
        writeln!(
            text,
            "{:<7} {:>7} {:>8} {:>9} {:>11} {:>7.2} {:>8.2}",
            if round["with_slow"] == true { "with" } else { "without" },
            lag("p50"),
            lag("p99"),
            lag("p99.9"),
            round["deliveries"].as_u64().unwrap(),
            round["server_cores"].as_f64().unwrap_or(0.0),
            round["readers_cores"].as_f64().unwrap_or(0.0),
        )
        .unwrap();
    }
    for quantile in QUANTILES {
        let figure = &summary["lag_us"][quantile];
        let (with, without) = (&figure["with_slow"], &figure["without"]);
        writeln!(
            text,
            "{quantile}: median {} µs with slow ({} to {}), {} µs without ({} to {}), ratio {}",
            with["median"],
            with["min"],
            with["max"],
            without["median"],
            without["min"],
            without["max"],
            figure["ratio_of_medians"],
        )
        .unwrap();
    }
    text
}

fn write_page(folder: &Path, summary: &Value) {
    let clients = &summary["clients"];
    let page = format!(
        "# Isolation\n\n\
         **Question**: do {} stalled and {} slow clients move the delivery of {} healthy ones?\n\n\
         ```text\n{}```\n\n\
         {}- Figures: [summary.json](summary.json)\n\n\
         Rounds alternate in one server process; in each the same piece of the capture is replayed \
         at {} times its pace, and the first {WARM_UP_SECONDS} s of {SECONDS} are not counted. \
         Latency is from `ts_in` to the read of the client, so it holds the reading thread's own \
         delay; `server` and `readers` are shares of a core. The shard has a core of its own, and \
         the reading thread, the ingest thread and the producer share another. The reading thread \
         serves all clients, so what it does for slow ones is in the figures too.\n\n\
         **What it does not show**: latency on a machine whose cores the clients and the producer \
         do not share, remote clients, TLS.\n",
        clients["stalled"],
        clients["slow"],
        clients["healthy"],
        table(summary),
        report::taken(summary),
        summary["pace"],
    );
    fs::write(folder.join("README.md"), page).unwrap();
}
