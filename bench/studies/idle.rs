//! What an idle connection costs: 15,000 subscribers of one channel, then one event.
//!
//! `cargo bench --bench idle [-- COUNT --tls]` opens the connections from this process to a server
//! in a child process, reads what the server's memory has grown by, publishes one event, checks
//! that each connection receives it, and writes `results/<date>-<host>-idle/` (with TLS,
//! `-idle-tls/`). Started otherwise (as `cargo test --benches` does) it opens 200 and writes
//! nothing. Not here: load.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed measurement")]

use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use fanfare::fanout::connection::Connection;
use serde_json::{Value, json};

use report::{commit, cpu, kernel, progress, read};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{Client, Folder, Producer, Server, connect, eventually, fanfare};

#[expect(dead_code, reason = "the others say more of a run")]
mod report;
#[path = "../../tests/end_to_end/support.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod support;

const FULL: usize = 15_000;
const SMOKE: usize = 200;
/// Clients before the first look at least: the kernel spreads them over all shards.
const FIRST_MIN: usize = 64;
const FLAGS: &str = "--heartbeat 5m --ping-interval 0ms";

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let full = arguments.iter().any(|argument| argument == "--bench");
    let asked = arguments.iter().find_map(|argument| argument.parse().ok());
    let count = asked.unwrap_or(if full { FULL } else { SMOKE });
    let tls = arguments.iter().any(|argument| argument == "--tls");
    let summary = measure(count, tls);
    println!("{}", table(&summary));
    if full {
        let folder = write_results(&summary, if tls { "idle-tls" } else { "idle" });
        println!("written to {folder}");
    }
}

/// Kernel and user memory at one moment, bytes.
#[derive(Clone, Copy)]
struct Memory {
    /// The server's resident memory that is its own (heap and stacks).
    anonymous: u64,
    /// All of the server's resident memory.
    resident: u64,
    /// Buffers of all TCP sockets of this network namespace: both ends of each connection.
    tcp: u64,
    /// The kernel's structures that cannot be reclaimed, of the whole machine.
    slab: u64,
}

impl Memory {
    fn now(server: &Server) -> Self {
        let rollup = read(&format!("/proc/{}/smaps_rollup", server.child.id()));
        let pages = read("/proc/net/sockstat");
        let pages = pages.lines().find(|line| line.starts_with("TCP:")).unwrap();
        Self {
            anonymous: 1_024 * number_after(&rollup, "Anonymous:"),
            resident: 1_024 * number_after(&rollup, "Rss:"),
            tcp: 4_096 * number_after(pages, " mem"),
            slab: 1_024 * number_after(&read("/proc/meminfo"), "SUnreclaim:"),
        }
    }

    /// What it has grown by since `before`, for each of `count` connections.
    fn since(self, before: Self, count: usize) -> Value {
        let each = |now: u64, before: u64| now.saturating_sub(before) / count as u64;
        json!({
            "user_anonymous_bytes": each(self.anonymous, before.anonymous),
            "user_resident_bytes": each(self.resident, before.resident),
            "kernel_tcp_buffer_bytes_both_ends": each(self.tcp, before.tcp),
            "kernel_slab_bytes_both_ends": each(self.slab, before.slab),
        })
    }
}

/// What clients talk over.
trait Stream: Read + std::io::Write {}

impl<S: Read + std::io::Write> Stream for S {}

/// Flags of a server that speaks TLS, and the configuration of a client that trusts it.
fn with_tls(folder: &Folder) -> (String, Option<Arc<ClientConfig>>) {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let file = folder.file("own.pem", &(made.cert.pem() + &made.signing_key.serialize_pem()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let flags = format!("{FLAGS} --tls-listen 127.0.0.1:0 --tls-certificates {file}");
    (flags, Some(Arc::new(config)))
}

/// A client that was welcomed.
fn welcomed(server: &Server, tls: Option<&Arc<ClientConfig>>) -> Client<Box<dyn Stream>> {
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(connect(server.listen)),
        Some(config) => {
            let name = ServerName::try_from("localhost").unwrap();
            let session = ClientConnection::new(Arc::clone(config), name).unwrap();
            Box::new(StreamOwned::new(session, connect(server.tls.unwrap())))
        }
    };
    let mut client = Client::upgrade(stream);
    assert_eq!(client.json()["type"], "welcome");
    client
}

fn measure(count: usize, tls: bool) -> Value {
    let folder = Folder::new();
    let (flags, config) = match tls {
        true => with_tls(&folder),
        false => (FLAGS.to_owned(), None),
    };
    let mut command = fanfare("serve --listen 127.0.0.1:0 --admin 127.0.0.1:0");
    command.args(flags.split_whitespace()).args(["--source", "tcp://127.0.0.1:0"]);
    // What is freed goes back at once. Otherwise what the start has left is counted, or not.
    command.env("MIMALLOC_PURGE_DELAY", "0");
    let server = Server::launch(command);
    let mut producer = server.producer();
    // Everything that is made once is made before the first look, on every shard.
    let first_count = FIRST_MIN.max(count / 10);
    let mut first: Vec<_> = (0..first_count).map(|_| welcomed(&server, config.as_ref())).collect();
    for client in &mut first {
        assert_eq!(client.subscribe(&["quote.BTCUSDT", "quote.FIRST"])["success"], true);
    }
    producer.publish("quote.BTCUSDT", r#"{"b":"60001.10","a":"60001.20"}"#);
    first.iter_mut().for_each(|client| assert_eq!(client.event().seq, 1));
    // What a server uses while it sends is a part of each look, and so of none of the differences.
    let look = |producer: &mut Producer, first: &mut [Client<Box<dyn Stream>>], seq| {
        producer.publish("quote.FIRST", "1");
        first.iter_mut().for_each(|client| assert_eq!(client.event().seq, seq));
        Memory::now(&server)
    };
    let before = look(&mut producer, &mut first, 2);

    let begun = Instant::now();
    let mut clients: Vec<_> = progress("connected", count)
        .wrap_iter(0..count)
        .map(|_| welcomed(&server, config.as_ref()))
        .collect();
    let connect_seconds = begun.elapsed().as_secs_f64();
    let connected = look(&mut producer, &mut first, 3);
    for client in progress("subscribed", count).wrap_iter(clients.iter_mut()) {
        assert_eq!(client.subscribe(&["quote.BTCUSDT"])["success"], true);
    }
    eventually("all are known", || server.counter("connections") == (count + first_count) as u64);
    let subscribed = look(&mut producer, &mut first, 4);

    let begun = Instant::now();
    let data = r#"{"b":"60001.20","a":"60001.30"}"#;
    producer.publish("quote.BTCUSDT", data);
    for client in progress("received", count).wrap_iter(clients.iter_mut().chain(&mut first)) {
        let event = client.event();
        assert_eq!((event.seq, event.prev, event.data()), (5, 1, data));
    }
    let received_seconds = begun.elapsed().as_secs_f64();
    let sent = look(&mut producer, &mut first, 6);
    json!({
        "question": "what does an idle connection cost, and does each receive an event?",
        "transport": if tls { "wss (TLS 1.3)" } else { "ws" },
        "connections": count,
        "received": count,
        "shards": server.shards(),
        "per_connection": {
            "connected": connected.since(before, count),
            "subscribed": subscribed.since(before, count),
            "after_one_event": sent.since(before, count),
            "entry_bytes": size_of::<Connection>(),
        },
        "server_resident_bytes": { "before": before.resident, "subscribed": subscribed.resident },
        "connect_seconds": round(connect_seconds),
        "publish_to_last_received_seconds": round(received_seconds),
        "command": format!(
            "cargo bench --bench idle -- {count}{}",
            if tls { " --tls" } else { "" }
        ),
        "server_command": format!(
            "MIMALLOC_PURGE_DELAY=0 fanfare serve {FLAGS}{} --source tcp://127.0.0.1:0",
            if tls { " --tls-listen 127.0.0.1:0 --tls-certificates own.pem" } else { "" },
        ),
        "commit": commit(),
        "kernel": kernel(),
        "cpu": cpu(),
        "profile": if cfg!(debug_assertions) { "checked" } else { "release" },
    })
}

fn table(summary: &Value) -> String {
    let each = &summary["per_connection"];
    let mut text = format!(
        "{} connections over {}, each received the event\n",
        summary["connections"],
        summary["transport"].as_str().unwrap()
    );
    for stage in ["connected", "subscribed", "after_one_event"] {
        let figure = |name: &str| each[stage][name].as_u64().unwrap();
        writeln!(
            text,
            "{stage:>16}: {} B of user memory each ({} B resident); kernel, both ends: {} B of \
             buffers, {} B of structures",
            figure("user_anonymous_bytes"),
            figure("user_resident_bytes"),
            figure("kernel_tcp_buffer_bytes_both_ends"),
            figure("kernel_slab_bytes_both_ends"),
        )
        .unwrap();
    }
    text
}

/// Writes the directory and returns its path.
fn write_results(summary: &Value, name: &str) -> String {
    let folder = report::folder(name);
    report::write_summary(&folder, summary);
    let field = |name: &str| summary[name].as_str().unwrap().to_owned();
    let readme = format!(
        "# Idle connections over {}\n\n\
         **Question**: what does an idle connection cost, and does each one receive an event?\n\n\
         ```text\n{}```\n\n\
         - Command: `{}` (server: `{}`, {} shards)\n- Commit: {}\n- Kernel: {}\n- CPU: {}\n\
         - Connect and upgrade of all: {} s, one after another; from publishing to the last one \
         read by the one reading thread: {} s\n- Figures: [summary.json](summary.json)\n\n\
         User memory is what the server's `Anonymous` in `/proc/PID/smaps_rollup` has grown by, \
         divided by the connections, from when a tenth as many others were served on; {} B of it \
         are the connection's entry in its shard. Kernel \
         buffers are `mem` of `TCP` in `/proc/net/sockstat`, kernel structures `SUnreclaim` in \
         `/proc/meminfo`.\n\n\
         **What it does not show**: load (see other results), remote clients; kernel figures \
         hold both ends of each connection and, for structures, whatever else the machine did.\n",
        field("transport"),
        table(summary),
        field("command"),
        field("server_command"),
        summary["shards"],
        field("commit"),
        field("kernel"),
        field("cpu"),
        summary["connect_seconds"],
        summary["publish_to_last_received_seconds"],
        summary["per_connection"]["entry_bytes"],
    );
    fs::write(folder.join("README.md"), readme).unwrap();
    folder.display().to_string()
}

/// The number that follows `name`.
fn number_after(text: &str, name: &str) -> u64 {
    let rest = &text[text.find(name).unwrap_or_else(|| panic!("no {name} in {text}"))..];
    rest[name.len()..].split_whitespace().next().unwrap().parse().unwrap()
}

fn round(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}
