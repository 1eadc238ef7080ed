//! What permessage-deflate costs a core and saves on the wire, by level and by length of message.
//!
//! `cargo bench --bench compression [-- --data FOLDER]`. Every message that the recorded feeds lead
//! to is compressed by itself, as the server does it once for all clients of a core: with the same
//! code, at each level, in rounds that take turns. Times are the thread's CPU time, so that other
//! work on the machine does not count. It writes `results/<date>-<host>-compression/`. Started
//! otherwise (as `cargo test --benches` does) it is small and writes nothing. FOLDER holds the
//! recorded feeds that are not part of the repository; without it the one of `fanfare demo` is what
//! is compressed. Not here: what clients spend on inflating.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed measurement")]
#![expect(clippy::cast_precision_loss, reason = "for people")]

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare::config::mapping::{MapRule, Pointer};
use fanfare::config::{Replay, ReplayInput};
use fanfare::fanout::encoders::{Compression, Encoders};
use fanfare::limits::LINE_BYTES_MAX;
use fanfare::protocol::data::{self, Prefix};
use fanfare::protocol::encoding::Form;
use fanfare::sources::capture::Capture;
use fanfare::sources::parser::Parser;
use serde_json::{Value, json};

use report::{commit, cpu, progress, read};

#[path = "compression/plot.rs"]
mod plot;
mod report;
#[expect(dead_code, reason = "nothing is logarithmic here")]
mod svg;

const LEVELS: [u8; 6] = [1, 2, 3, 4, 6, 9];

/// Upper bounds of the classes of length, bytes.
const CLASSES: [usize; 7] = [128, 192, 256, 512, 1_024, 4_096, usize::MAX];

/// Levels that are compared by threshold.
const THRESHOLDS: [usize; 5] = [0, 128, 192, 256, 512];

/// A recorded feed as frames of JSON.
struct Feed {
    name: &'static str,
    frames: Vec<Vec<u8>>,
}

/// Sums of one level and one class.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    messages: u64,
    bytes_before: u64,
    bytes_after: u64,
    /// Of the quickest round.
    cpu_ns: u64,
}

fn main() {
    let (mut folder, mut is_full) = (None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--bench", next) => {
                is_full = true;
                if next.as_deref() == Some("--data") {
                    folder = arguments.next().map(PathBuf::from);
                }
            }
            ("--data", Some(path)) => folder = Some(PathBuf::from(path)),
            _ => panic!("--data FOLDER, not {argument}"),
        }
    }
    let (rounds, frames_max) = if is_full { (5, 60_000) } else { (1, 500) };
    let feeds: Vec<_> = feeds(folder.as_deref()).map(|feed| thinned(feed, frames_max)).collect();
    let measured: Vec<_> = feeds.iter().map(|feed| measure(feed, rounds)).collect();
    let data = folder.map_or_else(String::new, |path| format!(" -- --data {}", path.display()));
    let summary = json!({
        "question": "what does compression cost a core for each message, and what does it save?",
        "rounds": rounds,
        "feeds": measured,
        "command": format!("cargo bench --bench compression{data}"),
        "commit": commit(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "cpu": cpu(),
        "profile": if cfg!(debug_assertions) { "checked" } else { "release" },
    });
    println!("{}", table(&summary));
    let picture = plot::cost(&LEVELS, &summary["feeds"]);
    assert!(picture.ends_with("</svg>\n"));
    if is_full {
        let folder = report::folder("compression");
        report::write_summary(&folder, &summary);
        write_page(&folder, &summary, &picture);
        println!("written to {}", folder.display());
    }
}

/// The feeds that are there.
fn feeds(folder: Option<&Path>) -> impl Iterator<Item = Feed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let quotes = Replay {
        sort: true,
        time: Some(Pointer::parse("/Item/time_received").unwrap()),
        ..Replay::new(ReplayInput::Files(vec![
            root.join("examples/data/binance-spot-20250325.json.gz"),
        ]))
    };
    let quotes = Feed {
        name: "trades and quotes (binance-spot-20250325)",
        frames: frames(&quotes, include_str!("../../examples/mappings/barter-20250325.toml")),
    };
    let books = folder.map(|folder| {
        let files = ["usdm/btcusdt", "spot/ethusdt", "cm/btcusd_perp"];
        let files = files.map(|file| folder.join(format!("binance-20240808/{file}_20240808.gz")));
        let example = include_str!("../../examples/mappings/binance-20240808.toml");
        Feed {
            name: "trades, quotes and books (binance-20240808)",
            frames: frames(&Replay::new(ReplayInput::Files(files.into())), example),
        }
    });
    std::iter::once(quotes).chain(books)
}

fn frames(replay: &Replay, example: &str) -> Vec<Vec<u8>> {
    let mut file: toml::Table = example.parse().unwrap();
    let sources: Vec<toml::Table> = file.remove("source").unwrap().try_into().unwrap();
    let rules: Vec<MapRule> = sources[0]["map"].clone().try_into().unwrap();
    let mut capture = Capture::open(replay).unwrap();
    let mut parser = Parser::new(rules, LINE_BYTES_MAX);
    let mut last = HashMap::new();
    let mut frames = Vec::new();
    while let Some(record) = capture.next_record().unwrap() {
        let event = parser.parse(record.line, Some(record.file)).unwrap();
        let seq = frames.len() as u64 + 1;
        let prev = last.insert(event.channel.to_owned(), seq).unwrap_or(0);
        let key = event.key.map(|key| serde_json::to_vec(key).unwrap());
        let prefix = Prefix::new(event.channel);
        let ts_in = record.time_ns.unwrap();
        let (kind, ts) = (event.kind, event.ts);
        let parts = data::frame(&prefix, key.as_deref(), kind, seq, prev, ts, ts_in, event.data);
        let mut frame = vec![0; parts.len()];
        parts.write(&mut frame);
        frames.push(frame);
    }
    frames
}

/// So many of its messages, from all of it.
fn thinned(feed: Feed, frames_max: usize) -> Feed {
    let step = feed.frames.len().div_ceil(frames_max).max(1);
    Feed { frames: feed.frames.into_iter().step_by(step).collect(), ..feed }
}

fn measure(feed: &Feed, rounds: usize) -> Value {
    let mut classes = vec![Vec::new(); CLASSES.len()];
    for frame in &feed.frames {
        let class = CLASSES.iter().position(|&bound| frame.len() <= bound).unwrap();
        classes[class].push(frame);
    }
    let mut sums = vec![[Sums::default(); CLASSES.len()]; LEVELS.len()];
    let bar = progress("rounds", rounds * LEVELS.len());
    for _ in 0..rounds {
        for (level, sums) in LEVELS.iter().zip(&mut sums) {
            let compression = Compression { level: *level, message_bytes_min: 0 };
            let mut encoders = Encoders::new("epoch".into(), compression);
            let classes = classes.iter().zip(sums).filter(|(frames, _)| !frames.is_empty());
            for (frames, sums) in classes {
                let began_ns = cpu_ns();
                let after: usize =
                    frames.iter().map(|frame| encoders.encode(Form::Deflate, 0, frame).len()).sum();
                let spent_ns = cpu_ns() - began_ns;
                *sums = Sums {
                    messages: frames.len() as u64,
                    bytes_before: frames.iter().map(|frame| frame.len() as u64).sum(),
                    bytes_after: after as u64,
                    cpu_ns: if sums.cpu_ns == 0 { spent_ns } else { sums.cpu_ns.min(spent_ns) },
                };
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let levels: Vec<_> =
        LEVELS.iter().zip(&sums).map(|(level, sums)| figures(*level, sums)).collect();
    json!({ "feed": feed.name, "messages": feed.frames.len(), "levels": levels })
}

fn figures(level: u8, sums: &[Sums; CLASSES.len()]) -> Value {
    let classes = CLASSES.iter().zip(sums).filter(|(_, sums)| sums.messages > 0);
    let classes: Vec<_> = classes
        .map(|(bound, sums)| {
            json!({
                "bytes_up_to": if *bound == usize::MAX { Value::Null } else { json!(bound) },
                "messages": sums.messages,
                "mean_bytes_before": tenths(sums.bytes_before as f64 / sums.messages as f64),
                "mean_bytes_after": tenths(sums.bytes_after as f64 / sums.messages as f64),
                "cpu_ns_of_a_message": (sums.cpu_ns as f64 / sums.messages as f64).round(),
            })
        })
        .collect();
    let all: u64 = sums.iter().map(|sums| sums.messages).sum();
    let before: u64 = sums.iter().map(|sums| sums.bytes_before).sum();
    let thresholds = THRESHOLDS.map(|threshold| {
        // A class counts as compressed when all of it is above the threshold.
        let lower = std::iter::once(0).chain(CLASSES);
        let is_tried = lower.map(|lower| lower >= threshold);
        let (mut after, mut cpu_ns) = (0, 0);
        for (sums, is_tried) in sums.iter().zip(is_tried) {
            after += if is_tried { sums.bytes_after } else { sums.bytes_before };
            cpu_ns += if is_tried { sums.cpu_ns } else { 0 };
        }
        let saved = before - after;
        json!({
            "message_bytes_min": threshold,
            "saved_percent": tenths(100.0 * saved as f64 / before as f64),
            "cpu_ns_of_a_message": (cpu_ns as f64 / all as f64).round(),
            "cpu_ns_of_a_byte_saved": (saved > 0).then(|| tenths(cpu_ns as f64 / saved as f64)),
        })
    });
    json!({ "level": level, "classes": classes, "thresholds": thresholds })
}

/// CPU time of this thread, nanoseconds.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn table(summary: &Value) -> String {
    let mut text = String::new();
    for feed in summary["feeds"].as_array().unwrap() {
        let name = feed["feed"].as_str().unwrap();
        writeln!(text, "{name}, {} messages\n", feed["messages"]).unwrap();
        let head = ["level", "length", "messages", "bytes", "compressed", "CPU ns each"];
        row(&mut text, head);
        for level in feed["levels"].as_array().unwrap() {
            for class in level["classes"].as_array().unwrap() {
                let bound = &class["bytes_up_to"];
                let length = if bound.is_null() { "more".into() } else { format!("≤ {bound}") };
                row(
                    &mut text,
                    [
                        &level["level"].to_string(),
                        &length,
                        &class["messages"].to_string(),
                        &class["mean_bytes_before"].to_string(),
                        &class["mean_bytes_after"].to_string(),
                        &class["cpu_ns_of_a_message"].to_string(),
                    ],
                );
            }
        }
        text.push('\n');
        row(&mut text, ["level", "from bytes", "saved %", "CPU ns each", "ns/B saved", ""]);
        for level in feed["levels"].as_array().unwrap() {
            for threshold in level["thresholds"].as_array().unwrap() {
                row(
                    &mut text,
                    [
                        &level["level"].to_string(),
                        &threshold["message_bytes_min"].to_string(),
                        &threshold["saved_percent"].to_string(),
                        &threshold["cpu_ns_of_a_message"].to_string(),
                        &per_byte(&threshold["cpu_ns_of_a_byte_saved"]),
                        "",
                    ],
                );
            }
        }
        text.push('\n');
    }
    text
}

fn per_byte(cost: &Value) -> String {
    if cost.is_null() { "-".into() } else { cost.to_string() }
}

fn row(text: &mut String, cells: [&str; 6]) {
    let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:>12}")).collect();
    writeln!(text, "{}", cells.concat().trim_end()).unwrap();
}

fn write_page(folder: &Path, summary: &Value, picture: &str) {
    let page = format!(
        "# The cost of compression\n\n\
         **Question**: what does permessage-deflate cost a core for each message, and what does it \
         save on the wire, by level and by length?\n\n\
         ![Bytes saved over CPU of a message](cost.svg)\n\n\
         ```text\n{table}```\n\n\
         {taken}- Figures: [summary.json](summary.json)\n\n\
         A message is compressed once for all clients of a core that read it so, by itself (no \
         context is kept). *CPU* is the thread's CPU time for one message, WebSocket header and \
         the copy of what did not become shorter included, of the quickest of the rounds; levels \
         take turns. The second table of a feed compresses only messages from some length on.\n\n\
         **What it does not show**: clients, which have to inflate; feeds of other messages.\n",
        table = table(summary),
        taken = report::taken(summary),
    );
    fs::write(folder.join("cost.svg"), picture).unwrap();
    fs::write(folder.join("README.md"), page).unwrap();
}
