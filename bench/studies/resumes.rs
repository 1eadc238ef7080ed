//! A storm of resumes: 2,000 clients come at once, each 100,000 events behind, beside 300 others.
//!
//! `cargo bench --bench resumes` measures, in rounds, how late events reach those who stay while
//! the others are replayed what they missed, and for as long again when nothing happens; how long
//! the replay takes; and the server's memory. It checks that everybody gets each event once and in
//! order, and writes `results/<date>-<host>-resumes/`. `-- --clients N`, `--events N` and
//! `--rounds N` change the numbers. Started otherwise (as `cargo test --benches` does) it is small
//! and writes nothing. The server has one core for its one shard; everything else shares the other,
//! and those who resume read only when nobody else there has work. Not here: what a replay promises
//! (`tests/`).

#![expect(clippy::unwrap_used, reason = "a failed step is a failed measurement")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use established::Established;
use history::FRAME_BYTES;
use part::{Part, QUANTILES, compare, hundredths, measure, median};
use plot::Trace;
use producer::{Producer, unix_ns};
use report::{commit, cpu, kernel, progress, read};
use resumers::{Outcome, Place, Resumers};
use support::{Server, eventually};

#[path = "storm/established.rs"]
mod established;
#[path = "../../tests/slow_clients/gauges.rs"]
#[expect(dead_code, reason = "the test uses the rest")]
mod gauges;
#[path = "resumes/history.rs"]
mod history;
#[path = "storm/part.rs"]
mod part;
#[path = "storm/plot.rs"]
mod plot;
#[path = "storm/producer.rs"]
mod producer;
mod report;
#[path = "resumes/resumers.rs"]
mod resumers;
#[path = "../../tests/end_to_end/support.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod support;
mod svg;

/// Until all must have everything.
const PATIENCE: Duration = Duration::from_secs(600);

/// Bytes of heap and stacks that one client may cost the server in the middle of the storm, when
/// all are replayed what they missed: its tables, and a frame that was cut. What it is sent lies in
/// the log.
const CLIENT_BYTES_MAX: u64 = 16 << 10;

const MIB: f64 = 1_048_576.0;

struct Numbers {
    clients: usize,
    established: usize,
    events: u64,
    rounds: usize,
    full: bool,
}

fn main() {
    let numbers = Numbers::given();
    let cores = core_affinity::get_core_ids().expect("Linux says which cores there are");
    let (first, last) = (cores[0], cores[cores.len() - 1]);
    let log_bytes = numbers.log_bytes();
    let placed = format!("--cores {} --ingest-core {} --log warn", first.id, last.id);
    let flags = format!("{placed} --log-bytes {log_bytes}");
    let server = Server::start(&flags);
    // The shard has the first core, and everything here the last one.
    core_affinity::set_for_current(last);
    // The log is in memory as a whole before anything is measured.
    let mut published = (log_bytes / FRAME_BYTES) as u64 * 3 / 2;
    history::publish(&server, 0..published);
    let established = Established::start(&server, numbers.established);
    let producer = Producer::start(server.sources[0].strip_prefix("tcp://").unwrap());
    give_way();
    thread::sleep(Duration::from_secs(1));

    let bar = progress("rounds", numbers.rounds);
    let mut rounds = Vec::new();
    for _ in 0..numbers.rounds {
        let place = Place {
            seq: server.counter("head_seq"),
            numbers: published..published + numbers.events,
        };
        published = place.numbers.end;
        history::publish(&server, place.numbers.clone());
        rounds.push(round(&server, &established, &producer, &numbers, place));
        bar.inc(1);
    }
    bar.finish();
    let summary = summarise(&numbers, &server, &flags, &rounds);
    println!("{}", table(&summary));
    if numbers.full {
        let folder = report::folder("resumes");
        report::write_summary(&folder, &summary);
        fs::write(folder.join("storm.svg"), plot::storm(&rounds[0].trace)).unwrap();
        write_page(&folder, &summary);
        println!("written to {}", folder.display());
        let bytes = summary["own_bytes_for_each_client"].as_u64().unwrap();
        assert!(bytes <= CLIENT_BYTES_MAX, "memory is not bounded: {bytes} bytes for each client");
    }
}

impl Numbers {
    fn given() -> Self {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let place = |name: &str| arguments.iter().position(|argument| argument == name);
        let full = place("--bench").is_some();
        let number = |name: &str, full_size: usize, small: usize| {
            let otherwise = if full { full_size } else { small };
            place(name).map_or(otherwise, |at| arguments[at + 1].parse().expect("a number"))
        };
        Self {
            clients: number("--clients", 2_000, 20),
            established: if full { 300 } else { 20 },
            events: number("--events", 100_000, 2_000) as u64,
            rounds: number("--rounds", 5, 1),
            full,
        }
    }

    /// A log that holds the events of a round and as many bytes of the feed that goes on meanwhile;
    /// the default if that suffices.
    fn log_bytes(&self) -> usize {
        let round = usize::try_from(self.events).expect("they fit") * FRAME_BYTES;
        (2 * round).next_power_of_two().max(64 << 20)
    }
}

/// Lets this thread run only when no other of its core has work: the producer, the server's ingest
/// thread and the clients that stay are not to wait for those who resume.
fn give_way() {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter outlives the call, which only reads it.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
    assert_eq!(set, 0, "SCHED_IDLE: {}", std::io::Error::last_os_error());
}

/// One storm, and as long a time without.
struct Round {
    storm: Part,
    quiet: Part,
    outcome: Outcome,
    memory: Memory,
    trace: Trace,
}

/// Bytes of the server's own memory, and of the buffers of both ends of all connections.
#[derive(Default)]
struct Memory {
    before: u64,
    /// At each look in the storm.
    looks: Vec<u64>,
    after: u64,
    resident_most: u64,
    tcp_before: u64,
    tcp_most: u64,
    /// What the whole kernel did meanwhile; times that it had too little memory for TCP.
    timeouts: u64,
    pressures: u64,
}

/// A counter of all TCP sockets of this network namespace.
fn tcp_counter(name: &str) -> u64 {
    let text = read("/proc/net/netstat");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap().split(' '), lines.next().unwrap().split(' '));
    let (_, value) = names.zip(values).find(|(known, _)| *known == name).expect("Linux counts it");
    value.parse().unwrap()
}

fn round(
    server: &Server,
    established: &Established,
    producer: &Producer,
    numbers: &Numbers,
    place: Place,
) -> Round {
    let process = server.child.id();
    let only_those_who_stay = || server.counter("connections") == numbers.established as u64;
    eventually("the witness is gone", only_those_who_stay);
    let own = || gauges::memory(process).1;
    let mut memory =
        Memory { before: own(), tcp_before: gauges::tcp_memory(), ..Memory::default() };
    let counted = || (tcp_counter("TCPTimeouts"), tcp_counter("TCPMemoryPressures"));
    let before = counted();
    let began_ns = unix_ns();
    let since = |ns: u64| ns.saturating_sub(began_ns) as f64 / 1e9;
    let (mut back, mut outcome) = (Vec::new(), Outcome::default());
    let mut resumers = None;
    let (storm, mut arrivals) = measure(server, established, producer, || {
        let resumers = resumers.insert(Resumers::start(server.listen, numbers.clients, place));
        outcome = resumers.run(PATIENCE, |count| {
            back.push((since(unix_ns()), count));
            let (resident, own) = gauges::memory(process);
            memory.looks.push(own);
            memory.resident_most = memory.resident_most.max(resident);
            memory.tcp_most = memory.tcp_most.max(gauges::tcp_memory());
        });
        Duration::from_secs_f64(outcome.seconds)
    });
    let now = counted();
    (memory.timeouts, memory.pressures) = (now.0 - before.0, now.1 - before.1);
    drop(resumers);
    eventually("those who resumed are gone", only_those_who_stay);
    thread::sleep(Duration::from_millis(500));
    memory.after = own();
    let (quiet, more) = measure(server, established, producer, || {
        let time = Duration::from_secs_f64(outcome.seconds.max(1.0));
        thread::sleep(time);
        time
    });
    arrivals.extend(more);
    let late = (arrivals.iter())
        .map(|arrival| (since(arrival.intended_ns), arrival.late_ns / 1_000))
        .collect();
    let trace = Trace { late, back, recovered_s: outcome.seconds };
    Round { storm, quiet, outcome, memory, trace }
}

fn summarise(numbers: &Numbers, server: &Server, flags: &str, rounds: &[Round]) -> Value {
    let shown: Vec<_> = rounds.iter().map(|round| figures(round, numbers)).collect();
    let of = |figure: fn(&Round) -> f64| {
        let mut values: Vec<_> = rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        hundredths(values[values.len() / 2])
    };
    let most = |name: &str| shown.iter().map(|round| round[name].as_u64().unwrap()).max();
    json!({
        "question": "do resumes delay those who stay, how long do they last, in how much memory?",
        "clients": numbers.clients,
        "established": numbers.established,
        "events": numbers.events,
        "late_us": compare(rounds.iter().map(|r| (&r.storm.late_us, &r.quiet.late_us))),
        "within_us": compare(rounds.iter().map(|r| (&r.storm.within_us, &r.quiet.within_us))),
        "seconds_until_all_are_whole": of(|round| round.outcome.seconds),
        "gb_each_second": of(|round| round.outcome.bytes as f64 / round.outcome.seconds / 1e9),
        "own_bytes_for_each_client": most("own_bytes_for_each_client"),
        "own_bytes_for_each_client_bound": CLIENT_BYTES_MAX,
        "own_bytes_for_each_client_most": most("own_bytes_for_each_client_most"),
        "rounds": shown,
        "server_turn_us_max": server.counter("turn_us_max"),
        "command": format!(
            "cargo bench --bench resumes -- --clients {} --events {} --rounds {}",
            numbers.clients, numbers.events, numbers.rounds
        ),
        "server_command": format!("fanfare serve {flags}"),
        "commit": commit(),
        "kernel": kernel(),
        "cpu": cpu(),
        "profile": if cfg!(debug_assertions) { "checked" } else { "release" },
    })
}

fn figures(round: &Round, numbers: &Numbers) -> Value {
    let Round { storm, quiet, outcome, memory, .. } = round;
    let (most, middle) = (memory.looks.iter().copied().max(), median(memory.looks.iter().copied()));
    let for_each = |bytes: u64| bytes.saturating_sub(memory.before) / numbers.clients as u64;
    json!({
        "storm": storm.figures(),
        "quiet": quiet.figures(),
        "seconds_until_all_are_whole": hundredths(outcome.seconds),
        "seconds_until_half_are_whole": hundredths(outcome.seconds_median),
        "events_replayed": outcome.events,
        "events_of_the_feed_beside": outcome.live,
        "bytes_read": outcome.bytes,
        "gb_each_second": hundredths(outcome.bytes as f64 / outcome.seconds / 1e9),
        "million_events_each_second": hundredths(outcome.events as f64 / outcome.seconds / 1e6),
        "own_bytes": {
            "before": memory.before, "most": most, "middle": middle, "after": memory.after,
        },
        "resident_bytes_most": memory.resident_most,
        "tcp_bytes_both_ends": { "before": memory.tcp_before, "most": memory.tcp_most },
        "tcp_timeouts": memory.timeouts,
        "tcp_memory_pressures": memory.pressures,
        "own_bytes_for_each_client": for_each(middle),
        "own_bytes_for_each_client_most": for_each(most.unwrap_or_default()),
    })
}

fn table(summary: &Value) -> String {
    let mut text = "round      p50 µs   p99 µs p99.9 µs   max µs  producer µs  server  generator  \
                    all whole    GB/s  own MiB before, most, middle, after\n"
        .to_owned();
    for (number, round) in summary["rounds"].as_array().unwrap().iter().enumerate() {
        for kind in ["storm", "quiet"] {
            let part = &round[kind];
            let late = |name: &str| part[name].as_u64().unwrap();
            write!(
                text,
                "{} {kind}  {:>8} {:>8} {:>8} {:>8} {:>12} {:>7.2} {:>10.2}",
                number + 1,
                late("p50"),
                late("p99"),
                late("p99.9"),
                late("max"),
                late("producer_late_us_max"),
                part["server_cores"].as_f64().unwrap(),
                part["generator_cores"].as_f64().unwrap(),
            )
            .unwrap();
            if kind == "storm" {
                let figure = |name: &str| round[name].as_f64().unwrap();
                let own = |name: &str| round["own_bytes"][name].as_f64().unwrap() / MIB;
                write!(
                    text,
                    " {:>8.2} s {:>7.2}  {:.1}, {:.1}, {:.1}, {:.1}",
                    figure("seconds_until_all_are_whole"),
                    figure("gb_each_second"),
                    own("before"),
                    own("most"),
                    own("middle"),
                    own("after")
                )
                .unwrap();
            }
            text.push('\n');
        }
    }
    for (what, name) in [("from intent", "late_us"), ("within the server", "within_us")] {
        for (quantile, _) in QUANTILES {
            let late = &summary[name][quantile];
            let (storm, quiet, ratio) = (&late["storm"], &late["quiet"], &late["ratio"]);
            writeln!(
                text,
                "{what}, {quantile}: median {storm} µs in storms, {quiet} µs else, ratio {ratio}"
            )
            .unwrap();
        }
    }
    text
}

fn write_page(folder: &Path, summary: &Value) {
    let page = format!(
        "# A storm of resumes\n\n\
         **Question**: {clients} clients come at once, and each resumes {events} events back, \
         with policy `all`. Does that delay the {established} that stay, how long does it \
         take, and how much memory?\n\n\
         ```text\n{table}```\n\n![the first storm](storm.svg)\n\n\
         {taken}- Figures: [summary.json](summary.json)\n\n\
         All connect, upgrade, subscribe and read at the same time, without jitter and without \
         a limit of those who may. Each must get every event of the history once and in order, \
         the replay's end after the last of them, and the events of a channel of the feed that \
         goes on meanwhile without a hole; no loss receipt is allowed: the run would have \
         ended. The log holds the history of a round and at least as many bytes again. The \
         events have about {frame} bytes each. Clients take a receive buffer of 64 KiB, so that \
         their kernel does not read for them.\n\n\
         How late is measured from when the event should have been sent (100 a second, open \
         loop) to when the kernel had it for the client that stays (`SO_TIMESTAMPNS`), so a \
         late producer makes it longer, and the delay of the reading thread is not in it. \
         *Within the server* is from `ts_in`, when the server had read it. None of those that \
         stay has missed an event. Each storm is followed by a quiet time of its length; the \
         figures below the table are medians of the rounds.\n\n\
         `server` and `generator` are shares of a core: the shard has one. The clients that \
         resume, the producer, those that stay and the server's ingest thread, which is in \
         `server`, share the other, where those that resume run only when nobody else has work \
         (`SCHED_IDLE`). With a generator near 1, the replay was as fast as the clients could \
         read it. `producer` is the latest that the producer was.\n\n\
         Own memory is the server's heap and stacks with its log, ten times a second: before \
         the storm, at most, in the middle (the median of the looks), and after. In the middle \
         it is {client_bytes} bytes more for each client in the worst round, of {client_bound} \
         allowed. The most, {client_most} bytes for each, is what all handshakes at once take \
         in the first second. Buffers of sockets are the kernel's, and in the figures. \
         With `tcp_timeouts` or `tcp_memory_pressures` above 0 there, the kernel has dropped \
         segments: then the latencies are those of TCP's retransmissions, 200 ms and more, and \
         the run counts for nothing.\n\n\
         **What it does not show**: clients on other machines, more than one shard, a network, \
         TLS.\n",
        clients = summary["clients"],
        events = summary["events"],
        established = summary["established"],
        table = table(summary),
        taken = report::taken(summary),
        frame = FRAME_BYTES,
        client_bytes = summary["own_bytes_for_each_client"],
        client_bound = summary["own_bytes_for_each_client_bound"],
        client_most = summary["own_bytes_for_each_client_most"],
    );
    fs::write(folder.join("README.md"), page).unwrap();
}
