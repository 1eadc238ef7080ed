//! What slow clients cost: a thousand, of which 300 stop reading and 100 read 20 KB a second.
//!
//! `cargo bench --bench slow` replays the capture for a minute to all of them, checks that the
//! healthy 600 miss nothing and that every account adds up, samples memory each second, and writes
//! `results/<date>-<host>-slow/`. With `-- --isolation` it measures the healthy ones' latency
//! alternately with and without the others, and writes `results/<date>-<host>-isolation/`. `--pace
//! N` replays at N times the recorded pace. Started otherwise (as `cargo test --benches` does) it
//! is small and writes nothing. The server has one core; its producer, its ingest thread and the
//! thread that reads for all clients share the other. Not here: what one client must get
//! (`tests/slow_clients`).

#![expect(clippy::unwrap_used, reason = "a failed step is a failed measurement")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use plot::Line;
use report::{commit, cpu, kernel, progress};
use scenario::gauges::Sample;
use scenario::{Count, Memory, Stage};

#[path = "../../tests/end_to_end/day.rs"]
#[expect(dead_code, reason = "the test of the whole capture uses the rest")]
mod day;
#[path = "../../tests/frames/mod.rs"]
mod frames;
#[path = "slow/isolation.rs"]
mod isolation;
#[path = "slow/plot.rs"]
mod plot;
mod report;
#[path = "../../tests/slow_clients/mod.rs"]
#[expect(dead_code, reason = "the test uses the rest")]
mod scenario;
#[path = "../../tests/end_to_end/support.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod support;
#[expect(dead_code, reason = "others plot times")]
mod svg;

const FULL: Count = Count { healthy: 600, stalled: 300, slow: 100 };
const SMOKE: Count = Count { healthy: 30, stalled: 15, slow: 5 };
const MEMORY: Memory = Memory { log_bytes: 64 << 20, retained_bytes: 64 << 20 };
const SECONDS: u64 = 60;

/// How long everybody may take to read what is left.
const DRAIN: Duration = Duration::from_secs(120);

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let given = |name: &str| arguments.iter().position(|argument| argument == name);
    let full = given("--bench").is_some();
    let count = if full { FULL } else { SMOKE };
    let pace = given("--pace").map(|at| arguments[at + 1].parse().expect("--pace takes a number"));
    let mut stage = Stage::new(&MEMORY.flags());
    stage.day.pace = pace.unwrap_or(stage.day.pace);
    if given("--isolation").is_some() {
        return isolation::run(stage, count, full);
    }
    let (summary, samples) = measure(&mut stage, count, if full { SECONDS } else { 3 });
    println!("{}", table(&summary));
    if full {
        let folder = report::folder("slow");
        write_results(&folder, &summary, &samples);
        println!("written to {}", folder.display());
    }
}

fn measure(stage: &mut Stage, count: Count, seconds: u64) -> (Value, Vec<Sample>) {
    stage.join_healthy(count.healthy);
    stage.join_slow(count);
    let mut samples = Vec::new();
    let bar = progress("seconds", usize::try_from(seconds).expect("a minute"));
    stage.play(Duration::from_secs(seconds), |sample, _| {
        samples.push(*sample);
        bar.inc(1);
    });
    bar.finish();
    let lag = stage.crowd.lag.clone();
    stage.drain(DRAIN);

    let (_, healthy, mut wrong) = stage.tally(|_, healthy| healthy);
    let (_, slow, more) = stage.tally(|_, healthy| !healthy);
    wrong.extend(more);
    wrong.iter().take(20).for_each(|what| eprintln!("{what}"));
    assert!(wrong.is_empty(), "{} accounts do not add up", wrong.len());
    let closed = stage.crowd.members.iter().filter(|member| member.account.closed.is_some());
    let most = |figure: fn(&Sample) -> u64| samples.iter().map(figure).max().unwrap_or(0);
    let share = |figure: fn(&Sample) -> f64| {
        round(samples.iter().map(figure).sum::<f64>() / samples.len() as f64)
    };
    let truth = &stage.crowd.truth;
    let summary = json!({
        "question": "what do slow clients cost, and is what they lose said exactly?",
        "clients": { "healthy": count.healthy, "stalled": count.stalled, "slow": count.slow },
        "seconds": seconds,
        "pace": stage.day.pace,
        "events": truth.newest(),
        "channels": truth.channels.len(),
        "healthy": account(&healthy),
        "slow": account(&slow),
        "closed_4100": closed.count(),
        "healthy_lag_us": percentiles(&lag),
        "resident_bytes": {
            "idle": stage.resident_idle,
            "max": most(|sample| sample.resident),
            "own_max": most(|sample| sample.anonymous),
            "bound": MEMORY.resident_max(stage.resident_idle, count, truth.frame_bytes_max),
        },
        "tcp_bytes_both_ends": {
            "idle": stage.tcp_idle,
            "max": most(|sample| sample.tcp),
            "bound": stage.tcp_idle + count.tcp_max(),
        },
        "cores": {
            "server": share(|sample| sample.server_cores),
            "producer": share(|sample| sample.producer_cores),
            "readers": share(|sample| sample.readers_cores),
        },
        "command": format!("cargo bench --bench slow -- --pace {}", stage.day.pace),
        "server_command": server_command(),
        "commit": commit(),
        "kernel": kernel(),
        "cpu": cpu(),
        "profile": profile(),
    });
    (summary, samples)
}

fn account(tally: &scenario::account::Tally) -> Value {
    json!({
        "delivered": tally.delivered,
        "superseded": tally.superseded,
        "missed": tally.missed,
        "receipts": tally.receipts,
    })
}

fn percentiles(lag: &scenario::crowd::Lag) -> Value {
    json!({
        "p50": lag.value_at_quantile(0.5),
        "p99": lag.value_at_quantile(0.99),
        "p99.9": lag.value_at_quantile(0.999),
        "max": lag.max(),
    })
}

fn server_command() -> String {
    format!("fanfare serve {} --source tcp://127.0.0.1:0", MEMORY.flags())
}

const fn profile() -> &'static str {
    if cfg!(debug_assertions) { "checked" } else { "release" }
}

fn table(summary: &Value) -> String {
    let mut text = String::new();
    for kind in ["healthy", "slow"] {
        let tally = &summary[kind];
        writeln!(
            text,
            "{kind:>8}: {} events delivered, {} superseded, {} missed in {} receipts",
            tally["delivered"], tally["superseded"], tally["missed"], tally["receipts"]
        )
        .unwrap();
    }
    let lag = &summary["healthy_lag_us"];
    let (p50, p99, p999) = (&lag["p50"], &lag["p99"], &lag["p99.9"]);
    writeln!(text, "     lag: p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs (healthy)").unwrap();
    for (name, field) in [("resident", "resident_bytes"), ("tcp", "tcp_bytes_both_ends")] {
        let figure = |name: &str| summary[field][name].as_u64().unwrap() as f64 / 1_048_576.0;
        let (most, bound, idle) = (figure("max"), figure("bound"), figure("idle"));
        writeln!(text, "{name:>8}: {most:.1} MiB at most of {bound:.1} MiB (idle: {idle:.1} MiB)")
            .unwrap();
    }
    let cores = &summary["cores"];
    let (server, readers) = (&cores["server"], &cores["readers"]);
    let producer = &cores["producer"];
    writeln!(text, "   cores: server {server}, readers {readers}, producer {producer}").unwrap();
    text
}

fn write_results(folder: &Path, summary: &Value, samples: &[Sample]) {
    report::write_summary(folder, summary);
    let mut csv = "seconds,resident_bytes,own_bytes,tcp_bytes_both_ends,server_cores,\
                   producer_cores,readers_cores,seq\n"
        .to_owned();
    for at in samples {
        writeln!(
            csv,
            "{:.3},{},{},{},{:.3},{:.3},{:.3},{}",
            at.seconds,
            at.resident,
            at.anonymous,
            at.tcp,
            at.server_cores,
            at.producer_cores,
            at.readers_cores,
            at.seq
        )
        .unwrap();
    }
    fs::write(folder.join("samples.csv"), csv).unwrap();
    let line = |name, field: &str, figure: fn(&Sample) -> u64| Line {
        name,
        points: samples.iter().map(|sample| (sample.seconds, figure(sample))).collect(),
        bound: summary[field]["bound"].as_u64().unwrap(),
    };
    let lines = [
        line("Server, resident", "resident_bytes", |sample| sample.resident),
        line("TCP buffers, both ends", "tcp_bytes_both_ends", |sample| sample.tcp),
    ];
    fs::write(folder.join("memory.svg"), plot::memory(&lines)).unwrap();
    fs::write(folder.join("README.md"), page(summary)).unwrap();
}

fn page(summary: &Value) -> String {
    let clients = &summary["clients"];
    format!(
        "# Slow clients\n\n\
         **Question**: what do {} stalled and {} slow clients cost beside {} healthy ones, and is \
         what they lose said exactly?\n\n```text\n{}```\n\n![memory over time](memory.svg)\n\n\
         {}- {} events on {} channels in {} s, {} times the recorded pace\n\
         - Closed with 4100 because a book was no longer whole: {} clients\n\
         - Figures: [summary.json](summary.json), each second: [samples.csv](samples.csv)\n\n\
         Every client's account adds up: delivered, superseded and receipted are all that it \
         subscribed to, with no overlap, and each frame has the bytes that the capture says. The \
         bound of resident memory is what the idle server has, its log with index, its retained \
         values, its batches on their way, and for each connection 4 KiB and for each slow one a \
         frame in flight; that of TCP buffers is twice the send and receive buffers that were \
         asked for (the kernel doubles them). Shares of cores: 1.0 is one core, and `readers` is \
         the one thread that reads for all clients.\n\n\
         **What it does not show**: remote clients, TLS, and latency on a machine whose cores the \
         clients and the producer do not share.\n",
        clients["stalled"],
        clients["slow"],
        clients["healthy"],
        table(summary),
        report::taken(summary),
        summary["events"],
        summary["channels"],
        summary["seconds"],
        summary["pace"],
        summary["closed_4100"],
    )
}

fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
