//! What a journal costs: for each batch on the ingest thread, and at a restart.
//!
//! `cargo bench --bench journal [-- --mib N --folder DIR]`. The same events go through three
//! sequencers: one without a journal, one whose journal leaves the disk to the system, and one that
//! syncs each second, as the default is. They take turns in short rounds; what is compared are
//! medians over the rounds of each batch's wall time, once with a pause before each batch as on a
//! feed, once back to back. Then a journal of a given size is opened and read as a server does it,
//! from the page cache and from the disk. It writes `results/<date>-<host>-journal/`. Started
//! otherwise (as `cargo test --benches` does) it is small and writes nothing. Not here: rings,
//! shards and sockets, which are the same with and without.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed measurement")]

use std::fmt::Write;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fanfare::config::JournalSettings;
use fanfare::fanout::sequencer::Sequencer;
use fanfare::journal::{self, Journal, Opened};
use fanfare::protocol::event::{Event, Kind};
use fanfare::shell::clock;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use report::{commit, cpu, kernel, progress, read};

#[path = "journal/plot.rs"]
mod plot;
mod report;
mod svg;

/// Events in a batch, which is what one read of a busy source brings.
const EVENTS: usize = 100;
/// Bytes of an event's data.
const DATA_BYTES: usize = 200;
/// Between two batches of a feed: 50,000 events a second.
const PAUSE: Duration = Duration::from_millis(2);

const DEFAULT_SYNC: Duration = Duration::from_secs(1);

/// What is compared: a name, and how often the journal is synced if there is one.
const WAYS: [(&str, Option<Duration>); 3] = [
    ("without a journal", None),
    ("with one, sync 0s", Some(Duration::ZERO)),
    ("with one, sync 1s", Some(DEFAULT_SYNC)),
];

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// How one comparison is run.
struct Pace {
    name: &'static str,
    pause: Duration,
    rounds: usize,
    batches: usize,
}

fn main() {
    let (mut mib, mut parent, mut is_full) = (None, std::env::temp_dir(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--bench" {
            is_full = true;
            continue;
        }
        match (argument.as_str(), arguments.next()) {
            ("--mib", Some(count)) => mib = Some(count.parse().unwrap()),
            ("--folder", Some(path)) => parent = PathBuf::from(path),
            _ => panic!("--mib N and --folder DIR, not {argument}"),
        }
    }
    let mib = mib.unwrap_or(if is_full { 256 } else { 4 });
    let (rounds, batches) = if is_full { (12, 1_000) } else { (3, 20) };
    let own = parent.join(format!("fanfare-bench-journal-{}", std::process::id()));
    let folder = parent.display();
    let feed = Pace { name: "a feed", pause: PAUSE, rounds, batches };
    let flood = Pace { name: "back to back", pause: Duration::ZERO, rounds: 2 * rounds, batches };
    let (feed, curves) = compare(&own, &feed);
    let (flood, _) = compare(&own, &flood);
    let summary = json!({
        "question": "what does a journal cost for each batch, and at a restart?",
        "events_in_a_batch": EVENTS,
        "data_bytes_of_an_event": DATA_BYTES,
        "batches": [feed, flood],
        "restart": restart(&own, mib << 20),
        "file_system": file_system(&parent),
        "command": format!("cargo bench --bench journal -- --mib {mib} --folder {folder}"),
        "commit": commit(),
        "kernel": kernel(),
        "cpu": cpu(),
        "profile": if cfg!(debug_assertions) { "checked" } else { "release" },
    });
    println!("{}", table(&summary));
    if is_full {
        let folder = report::folder("journal");
        report::write_summary(&folder, &summary);
        let lines: Vec<_> = WAYS.iter().map(|way| way.0).zip(&curves).collect();
        fs::write(folder.join("batches.svg"), plot::percentiles(&lines)).unwrap();
        write_page(&folder, &summary);
        println!("written to {}", folder.display());
    }
}

fn open(folder: &Path, bytes: u64, sync: Duration) -> Opened {
    let settings = JournalSettings { folder: folder.to_owned(), bytes, sync };
    journal::open(&settings, "01JAAAAAAAAAAAAAAAAAAAAAAA").unwrap()
}

/// Publishes a batch; bytes of it in the journal, if there is one.
fn publish(sequencer: &mut Sequencer, journal: Option<&mut Journal>, data: &[u8]) -> u64 {
    for number in 0..EVENTS {
        let channel = ["quote.BTC", "quote.ETH", "trade.BTC", "trade.ETH"][number % 4];
        let key = channel.starts_with("quote").then_some("k");
        let event = Event { channel, key, kind: Kind::Update, ts: Some(1), data };
        sequencer.handle_event(&event, 2).unwrap();
    }
    let batch = sequencer.next_batch().unwrap();
    journal.map_or(0, |journal| journal.append(&batch, 0))
}

/// Figures of each way at one pace, and all times of each way, nanoseconds.
fn compare(parent: &Path, pace: &Pace) -> (Value, Vec<Histogram<u64>>) {
    let data = vec![b'1'; DATA_BYTES];
    let mut ways: Vec<_> = (WAYS.iter().enumerate())
        .map(|(number, (_, sync))| {
            let folder = parent.with_extension(number.to_string());
            let mut opened = sync.map(|sync| open(&folder, 256 << 20, sync));
            let clock = || clock::now().monotonic_ns;
            opened.iter_mut().for_each(|opened| opened.journal.start_worker(clock));
            (Sequencer::new(10, 10), opened, Vec::new(), folder)
        })
        .collect();
    debug_assert_eq!(pace.rounds % WAYS.len(), 0, "each way is first equally often");
    let bar = progress(pace.name, pace.rounds);
    for round in 0..pace.rounds {
        // Each is first, second and last in turn.
        for turn in 0..WAYS.len() {
            let (sequencer, opened, rounds, _) = &mut ways[(round + turn) % WAYS.len()];
            let mut times = Histogram::<u64>::new(3).unwrap();
            for _ in 0..pace.batches {
                thread::sleep(pace.pause);
                let begun = Instant::now();
                publish(sequencer, opened.as_mut().map(|opened| &mut opened.journal), &data);
                times.record(u64::try_from(begun.elapsed().as_nanos()).unwrap()).unwrap();
            }
            rounds.push(times);
        }
        bar.inc(1);
    }
    bar.finish();
    let (mut shown, mut curves) = (Vec::new(), Vec::new());
    for ((name, _), (_, opened, rounds, folder)) in WAYS.iter().zip(ways) {
        if let Some(opened) = opened {
            assert!(!opened.journal.is_suspended(), "the disk took everything");
            drop(opened);
            fs::remove_dir_all(folder).unwrap();
        }
        shown.push(figures(name, &rounds));
        let mut curve = Histogram::new(3).unwrap();
        rounds.iter().for_each(|round| curve.add(round).unwrap());
        curves.push(curve);
    }
    let (pause_us, rounds) = (pace.pause.subsec_micros(), pace.rounds);
    let figures = json!({
        "pace": pace.name, "pause_us": pause_us, "rounds": rounds,
        "batches_in_a_round": pace.batches, "ways": shown,
    });
    (figures, curves)
}

/// Medians over the rounds, and least and most of the rounds' medians, microseconds.
fn figures(name: &str, rounds: &[Histogram<u64>]) -> Value {
    let sorted = |of: &dyn Fn(&Histogram<u64>) -> f64| {
        let mut values: Vec<_> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let mut figures = json!({ "way": name });
    for (name, quantile) in QUANTILES {
        let values = sorted(&|round| round.value_at_quantile(quantile) as f64 / 1_000.0);
        figures[name] = hundredths(values[values.len() / 2]).into();
        if quantile == 0.5 {
            figures["p50_least"] = hundredths(values[0]).into();
            figures["p50_most"] = hundredths(values[values.len() - 1]).into();
        }
    }
    let means = sorted(&|round| round.mean() / EVENTS as f64);
    figures["mean_ns_of_an_event"] = hundredths(means[means.len() / 2]).into();
    figures
}

fn restart(folder: &Path, bytes: u64) -> Value {
    let data = vec![b'1'; DATA_BYTES];
    let mut opened = open(folder, bytes, DEFAULT_SYNC);
    let mut sequencer = Sequencer::new(10, 10);
    let (mut written, mut batches) = (0, 0);
    while written < bytes {
        written += publish(&mut sequencer, Some(&mut opened.journal), &data);
        batches += 1;
    }
    drop(opened);
    let mut runs = Vec::new();
    for from in ["page cache", "disk", "page cache", "disk", "page cache", "disk"] {
        if from == "disk" {
            forget(folder);
        }
        let begun = Instant::now();
        let opened = open(folder, bytes, DEFAULT_SYNC);
        let checked = begun.elapsed();
        assert_eq!(opened.replay.map(Result::unwrap).count(), batches);
        runs.push(json!({
            "from": from,
            "checked_ms": milliseconds(checked),
            "read_again_ms": milliseconds(begun.elapsed() - checked),
        }));
    }
    fs::remove_dir_all(folder).unwrap();
    json!({ "mib": bytes >> 20, "events": batches * EVENTS, "runs": runs })
}

/// Takes a folder's files out of the page cache.
fn forget(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = File::open(entry.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        // SAFETY: the descriptor is open, and the call only advises.
        let said =
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        assert_eq!(said, 0, "POSIX_FADV_DONTNEED");
    }
}

/// The type of the file system that `folder` is on.
fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap();
    let mounts = read("/proc/self/mounts");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holding = fields.filter(|fields| folder.starts_with(fields[1]));
    holding.max_by_key(|fields| fields[1].len()).map_or_else(String::new, |f| f[2].to_owned())
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round()
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn table(summary: &Value) -> String {
    let mut text = String::new();
    for pace in summary["batches"].as_array().unwrap() {
        let (name, pause) = (pace["pace"].as_str().unwrap(), &pace["pause_us"]);
        let (rounds, batches) = (&pace["rounds"], &pace["batches_in_a_round"]);
        writeln!(
            text,
            "batches of {EVENTS} events of {DATA_BYTES} B, {name} (pause {pause} µs), medians of \
             {rounds} rounds of {batches}\n\
             {:18} {:>8} {:>18} {:>8} {:>8} {:>8} {:>12}",
            "µs", "p50", "(least, most)", "p99", "p99.9", "max", "ns an event",
        )
        .unwrap();
        for way in pace["ways"].as_array().unwrap() {
            let figure = |name: &str| way[name].as_f64().unwrap();
            writeln!(
                text,
                "{:18} {:>8.2} {:>18} {:>8.2} {:>8.2} {:>8.2} {:>12.2}",
                way["way"].as_str().unwrap(),
                figure("p50"),
                format!("({:.2}, {:.2})", figure("p50_least"), figure("p50_most")),
                figure("p99"),
                figure("p99.9"),
                figure("max"),
                figure("mean_ns_of_an_event"),
            )
            .unwrap();
        }
        text.push('\n');
    }
    let restart = &summary["restart"];
    for run in restart["runs"].as_array().unwrap() {
        writeln!(
            text,
            "a restart with {} MiB, {} events, from the {}: checked in {} ms, read again in {} ms",
            restart["mib"],
            restart["events"],
            run["from"].as_str().unwrap(),
            run["checked_ms"],
            run["read_again_ms"]
        )
        .unwrap();
    }
    text
}

fn write_page(folder: &Path, summary: &Value) {
    let page = format!(
        "# The cost of a journal\n\n\
         **Question**: what does a journal cost for each batch on the ingest thread, with and \
         without syncs, and how long does a restart read it?\n\n\
         ```text\n{table}```\n\n![times of a feed's batches](batches.svg)\n\n\
         {taken}- Figures: [summary.json](summary.json)\n\n\
         A batch's time is wall time from its first event at the sequencer until its record is \
         written. The three ways take turns, round by round, and each is first, second and \
         last equally often. The disk is synced by a thread of its own, each second or never; \
         what the system writes back by itself may fall into any way's rounds. The \
         back-to-back rounds write faster than a disk may take. *Checked* is until the journal \
         is open, *read again* until the sequencer has every batch; \"from the disk\" is after \
         the files were taken out of the page cache.\n\n\
         **What it does not show**: rings, shards and sockets, which are the same with and \
         without; batches of other sizes; other disks.\n",
        table = table(summary),
        taken = report::taken(summary),
    );
    fs::write(folder.join("README.md"), page).unwrap();
}
