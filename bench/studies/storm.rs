//! A reconnect storm: 10,000 clients are dropped at once and come back, beside 500 that stay.
//!
//! `cargo bench --bench storm` measures, in rounds, how late events reach those who stay while the
//! others come back, and for as long again when nothing happens; and how long it takes until all
//! receive again. It writes `results/<date>-<host>-storm/`. `-- --tls` does the same with 2,000
//! clients over `wss://`; `--clients N`, `--jitter SECONDS` and `--rounds N` change the numbers.
//! Started otherwise (as `cargo test --benches` does) it is small and writes nothing. The server
//! has one core for its one shard; everything else shares the other. Not here: what a client is
//! promised in a storm (`tests/`).

#![expect(clippy::unwrap_used, reason = "a failed step is a failed measurement")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crowd::{Crowd, Target};
use established::Established;
use part::{Part, QUANTILES, compare, hundredths, measure, median};
use plot::Trace;
use producer::Producer;
use report::{commit, cpu, kernel, progress};
use support::{Folder, Server};

#[path = "storm/crowd.rs"]
mod crowd;
#[path = "storm/established.rs"]
mod established;
#[path = "storm/part.rs"]
mod part;
#[path = "storm/plot.rs"]
mod plot;
#[path = "storm/producer.rs"]
mod producer;
mod report;
#[path = "../../tests/end_to_end/support.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod support;
mod svg;

const ESTABLISHED: usize = 500;

/// Until all must be back.
const PATIENCE: Duration = Duration::from_secs(120);

struct Numbers {
    clients: usize,
    established: usize,
    rounds: usize,
    jitter: Duration,
    tls: bool,
    full: bool,
}

fn main() {
    let numbers = Numbers::given();
    let cores = core_affinity::get_core_ids().expect("Linux says which cores there are");
    let (first, last) = (cores[0], cores[cores.len() - 1]);
    let folder = Folder::new();
    let (flags, tls) = tls(&folder, numbers.tls);
    let placed = format!("--cores {} --ingest-core {} --log warn", first.id, last.id);
    let flags = format!("{placed} {flags}").trim().to_owned();
    let server = Server::start(&flags);
    // The shard has the first core, and everything here the last one.
    core_affinity::set_for_current(last);
    let established = Established::start(&server, numbers.established);
    let address = if numbers.tls { server.tls.expect("it serves TLS") } else { server.listen };
    let mut crowd = Crowd::new(Target { address, tls }, numbers.clients);
    let producer = Producer::start(server.sources[0].strip_prefix("tcp://").unwrap());
    crowd.drop_all(numbers.jitter);
    crowd.run(PATIENCE, |_| {});
    crowd.idle(Duration::from_secs(1));

    let bar = progress("rounds", numbers.rounds);
    let mut rounds = Vec::new();
    for _ in 0..numbers.rounds {
        rounds.push(round(&server, &established, &mut crowd, &producer, numbers.jitter));
        bar.inc(1);
    }
    bar.finish();
    let summary = summarise(&numbers, &server, &flags, &rounds);
    println!("{}", table(&summary));
    if numbers.full {
        let folder = report::folder(if numbers.tls { "storm-tls" } else { "storm" });
        report::write_summary(&folder, &summary);
        fs::write(folder.join("storm.svg"), plot::storm(&rounds[0].trace)).unwrap();
        write_page(&folder, &summary);
        println!("written to {}", folder.display());
    }
}

impl Numbers {
    fn given() -> Self {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let place = |name: &str| arguments.iter().position(|argument| argument == name);
        let number = |name: &str, otherwise: usize| {
            place(name).map_or(otherwise, |at| arguments[at + 1].parse().expect("a number"))
        };
        let (tls, full) = (place("--tls").is_some(), place("--bench").is_some());
        let clients = match (full, tls) {
            (true, false) => 10_000,
            (true, true) => 2_000,
            (false, _) => 50,
        };
        let jitter = number("--jitter", if full { 5 } else { 1 });
        Self {
            clients: number("--clients", clients),
            established: if full { ESTABLISHED } else { 20 },
            rounds: number("--rounds", if full { 7 } else { 1 }),
            jitter: Duration::from_secs(jitter as u64),
            tls,
            full,
        }
    }
}

/// The flags of a server with a certificate of its own, and what trusts it.
fn tls(folder: &Folder, wanted: bool) -> (String, Option<Arc<rustls::ClientConfig>>) {
    if !wanted {
        return (String::new(), None);
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = folder.file("chain.pem", &made.cert.pem());
    let key = folder.file("key.pem", &made.signing_key.serialize_pem());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let flags = format!("--tls-listen 127.0.0.1:0 --tls-certificates {chain} --tls-keys {key}");
    (flags, Some(Arc::new(config.with_no_client_auth())))
}

/// One storm, and as long a time without.
struct Round {
    storm: Part,
    quiet: Part,
    outcome: crowd::Outcome,
    trace: Trace,
}

fn round(
    server: &Server,
    established: &Established,
    crowd: &mut Crowd,
    producer: &Producer,
    jitter: Duration,
) -> Round {
    let began_ns = producer::unix_ns();
    let since = |ns: u64| ns.saturating_sub(began_ns) as f64 / 1e9;
    let (mut back, mut outcome) = (Vec::new(), crowd::Outcome::default());
    let (storm, mut arrivals) = measure(server, established, producer, || {
        crowd.drop_all(jitter);
        outcome = crowd.run(PATIENCE, |count| back.push((since(producer::unix_ns()), count)));
        Duration::from_secs_f64(outcome.seconds)
    });
    // The last ones' first events, and what the storm left to do.
    crowd.idle(Duration::from_millis(500));
    let (quiet, more) = measure(server, established, producer, || {
        let time = Duration::from_secs_f64(outcome.seconds);
        crowd.idle(time);
        time
    });
    arrivals.extend(more);
    let late = (arrivals.iter())
        .map(|arrival| (since(arrival.intended_ns), arrival.late_ns / 1_000))
        .collect();
    Round { storm, quiet, outcome, trace: Trace { late, back, recovered_s: outcome.seconds } }
}

fn summarise(numbers: &Numbers, server: &Server, flags: &str, rounds: &[Round]) -> Value {
    let late = compare(rounds.iter().map(|round| (&round.storm.late_us, &round.quiet.late_us)));
    let shown: Vec<_> = (rounds.iter())
        .map(|round| {
            let outcome = &round.outcome;
            json!({
                "storm": round.storm.figures(),
                "quiet": round.quiet.figures(),
                "connected": outcome.connected,
                "refused": outcome.refused,
                "failed": outcome.failed,
                "resumed": outcome.resumed,
                "seconds_until_all_receive": hundredths(outcome.seconds),
                "seconds_until_half_receive": hundredths(outcome.seconds_median),
            })
        })
        .collect();
    let seconds = median(rounds.iter().map(|r| milliseconds(r.outcome.seconds)));
    json!({
        "question": "does a reconnect storm delay those who stay, and how long does it last?",
        "clients": numbers.clients,
        "established": numbers.established,
        "tls": numbers.tls,
        "jitter_seconds": numbers.jitter.as_secs(),
        "late_us": late,
        "milliseconds_until_all_receive": seconds,
        "refused": rounds.iter().map(|round| round.outcome.refused).sum::<u64>(),
        "failed": rounds.iter().map(|round| round.outcome.failed).sum::<u64>(),
        "rounds": shown,
        "server_turn_us_max": server.counter("turn_us_max"),
        "command": command(numbers),
        "server_command": format!("fanfare serve {flags}"),
        "commit": commit(),
        "kernel": kernel(),
        "cpu": cpu(),
        "profile": if cfg!(debug_assertions) { "checked" } else { "release" },
    })
}

fn command(numbers: &Numbers) -> String {
    format!(
        "cargo bench --bench storm --{} --clients {} --jitter {} --rounds {}",
        if numbers.tls { " --tls" } else { "" },
        numbers.clients,
        numbers.jitter.as_secs(),
        numbers.rounds
    )
}

fn milliseconds(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds).as_millis()).expect("a short time")
}

fn table(summary: &Value) -> String {
    let mut text = "round      p50 µs   p99 µs p99.9 µs   max µs  server  generator  back after  \
                    refused  failed\n"
        .to_owned();
    for (number, round) in summary["rounds"].as_array().unwrap().iter().enumerate() {
        for kind in ["storm", "quiet"] {
            let part = &round[kind];
            let late = |name: &str| part[name].as_u64().unwrap();
            write!(
                text,
                "{} {kind}  {:>8} {:>8} {:>8} {:>8} {:>7.2} {:>10.2}",
                number + 1,
                late("p50"),
                late("p99"),
                late("p99.9"),
                late("max"),
                part["server_cores"].as_f64().unwrap(),
                part["generator_cores"].as_f64().unwrap(),
            )
            .unwrap();
            if kind == "storm" {
                let seconds = round["seconds_until_all_receive"].as_f64().unwrap();
                write!(text, " {seconds:>9.2} s {:>8} {:>7}", round["refused"], round["failed"])
                    .unwrap();
            }
            text.push('\n');
        }
    }
    for (name, _) in QUANTILES {
        let late = &summary["late_us"][name];
        let (storm, quiet, ratio) = (&late["storm"], &late["quiet"], &late["ratio"]);
        writeln!(text, "{name}: median {storm} µs in storms, {quiet} µs else, ratio {ratio}")
            .unwrap();
    }
    text
}

fn write_page(folder: &Path, summary: &Value) {
    let scheme = if summary["tls"] == true { "wss" } else { "ws" };
    let page = format!(
        "# Reconnect storm, {scheme}\n\n\
         **Question**: {clients} clients are dropped at once and come back over {scheme}, each \
         after a random time of up to {jitter} s. Does that delay the {established} that stay, and \
         how long is it until all receive again?\n\n\
         ```text\n{table}```\n\n![the first storm](storm.svg)\n\n\
         {taken}- Figures: [summary.json](summary.json)\n\n\
         How late is measured from when the event should have been sent (100 a second, open loop) \
         to when the kernel had it for the client (`SO_TIMESTAMPNS`), so a late producer makes it \
         longer, and the delay of the reading thread is not in it. Each storm is followed by a \
         quiet time of its length; the figures below the table are medians of the rounds. None of \
         those that stay has missed an event: the run would have ended. `server` and `generator` \
         are shares of a core: the shard has one, and the crowd, the producer, the readers and the \
         server's ingest thread share the other, so a generator near 1 was itself what the crowd \
         waited for. A client is back with its first event: each of a hundred channels that the \
         crowd is spread over has two a second.\n\n\
         **What it does not show**: clients on other machines, more than one shard, a network.\n",
        clients = summary["clients"],
        jitter = summary["jitter_seconds"],
        established = summary["established"],
        table = table(summary),
        taken = report::taken(summary),
    );
    fs::write(folder.join("README.md"), page).unwrap();
}
