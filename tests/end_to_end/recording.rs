//! `fanfare record`, and `fanfare replay --serve`: a feed into a file, and out of it again.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use fanfare::config::{Replay, ReplayInput, Speed};
use fanfare::sources::capture::Capture;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::support::{Client, Folder, Heard, Server, connect_narrow, eventually, fanfare, line};

/// What of an event does not depend on when and where it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Essence {
    channel: String,
    key: Option<String>,
    kind: String,
    ts: Option<u64>,
    pub(crate) data: String,
}

#[derive(Deserialize)]
struct Parts {
    channel: String,
    key: Option<String>,
    kind: Option<String>,
    #[serde(rename = "type")]
    as_sent: Option<String>,
    ts: Option<u64>,
    data: Option<Box<RawValue>>,
}

impl Essence {
    /// Of a line of a capture, or of a frame; nothing for a control frame.
    fn of(text: &str) -> Option<Self> {
        let parts: Parts = serde_json::from_str(text).ok()?;
        Some(Self {
            channel: parts.channel,
            key: parts.key,
            kind: parts.kind.or(parts.as_sent).unwrap_or_else(|| "update".into()),
            ts: parts.ts,
            data: parts.data?.get().to_owned(),
        })
    }
}

/// Every event of a recording, and whether it ended in order.
pub(crate) fn recorded(path: &str) -> (Vec<Essence>, bool) {
    let replay = Replay {
        input: ReplayInput::Files(vec![PathBuf::from(path)]),
        speed: Speed::Max,
        looping: false,
        sort: false,
        time: None,
        clients_min: 0,
    };
    let (mut capture, mut events) = (Capture::open(&replay).unwrap(), Vec::new());
    loop {
        match capture.next_record() {
            Ok(None) => return (events, true),
            Err(_) => return (events, false),
            Ok(Some(record)) => {
                record.time_ns.unwrap();
                let line = std::str::from_utf8(record.line).unwrap();
                events.push(Essence::of(line).unwrap());
            }
        }
    }
}

/// The next event, whatever else comes before it; none: the connection was closed with 1001.
fn next(client: &mut Client) -> Option<Essence> {
    loop {
        match client.hear() {
            Heard::Text(text) => {
                if let Some(event) = Essence::of(&text) {
                    return Some(event);
                }
            }
            Heard::Close(Some(1001), _) => return None,
            other => panic!("an event was due, not {other:?}"),
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The demo, and where it listens.
fn demo() -> (Child, String) {
    let mut demo =
        fanfare("demo --listen 127.0.0.1:0 --tls-listen none --admin none --speed 100 --plain")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let ready = lines.find_map(|line| line.unwrap().strip_prefix("ready ").map(str::to_owned));
    let ready = ready.expect("a ready line");
    let listen = ready.split_whitespace().find_map(|word| word.strip_prefix("listen="));
    let url = format!("ws://{}", listen.unwrap());
    // What it writes from now on is nobody's concern.
    std::thread::spawn(move || lines.map_while(Result::ok).count());
    (demo, url)
}

#[test]
fn what_was_recorded_of_the_demo_is_served_again_byte_for_byte_in_its_order() {
    const EVENTS: usize = 2_000;
    let folder = Folder::new();
    let path = folder.path("feed.gz");
    let (mut demo, url) = demo();
    let flags = format!("record {url} trade.> quote.> --count {EVENTS} --no-snapshot --out {path}");
    let output = fanfare(&flags).output().unwrap();
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("2,000 events in ") && said(&output).contains("gaps 0 "));
    let (events, in_order) = recorded(&path);
    assert!(in_order && events.len() == EVENTS);
    // These are the demo's events: a stretch of its capture, in the capture's order.
    assert!(events.iter().any(|event| event.channel == "trade.BTCUSDT" && event.ts.is_some()));

    let serve = fanfare(&format!("replay {path} --serve 127.0.0.1:0 --speed 100x"));
    let mut server = Server::launch(serve);
    let flags = format!("subscribe ws://{} > --policy all --count {EVENTS}", server.listen);
    let output = fanfare(&flags).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let out = String::from_utf8(output.stdout).unwrap();
    let served: Vec<_> = out.lines().filter_map(Essence::of).collect();
    assert!(served == events, "the same events in the same order");
    assert_eq!(server.end().code(), Some(0));
    assert!(server.log().contains("2,000 events served, 0 lines refused"), "{}", server.log());
}

/// A capture of `count` events of about a kilobyte.
fn capture(folder: &Folder, count: usize) -> (String, Vec<Essence>) {
    let filling = "x".repeat(1_000);
    let lines: String = (0..count)
        .map(|n| format!("{} {}", 1_000 + n, line("a", &format!("\"{n}{filling}\""))))
        .collect();
    let path = folder.file("capture", &lines);
    let events = lines.lines().map(|line| Essence::of(line.split_once(' ').unwrap().1).unwrap());
    (path, events.collect())
}

#[test]
fn a_served_replay_waits_for_its_clients_and_ends_when_the_slowest_has_everything() {
    let folder = Folder::new();
    // More than the kernel holds for a client that does not read.
    let (path, events) = capture(&folder, 8_000);
    let flags = format!("replay {path} --serve=127.0.0.1:0 --speed max --wait-clients 2");
    let mut server = Server::launch(fanfare(&flags));
    let mut first = Client::subscribed_to_all(&server, ">");
    let stranger = Client::connect(&server);
    let mut second = Client::upgrade(connect_narrow(server.listen));
    second.json();
    first.send(fanfare::protocol::ws::frame::Opcode::Ping, b"?");
    loop {
        match first.hear() {
            Heard::Pong(_) => break,
            Heard::Text(text) => assert!(Essence::of(&text).is_none(), "it has begun: {text}"),
            other => panic!("{other:?}"),
        }
    }
    let request =
        r#"{"method":"subscribe","params":{"channels":">","policy":"all","snapshot":false}}"#;
    assert_eq!(second.ask(request)["success"], true);
    for event in &events {
        assert_eq!(next(&mut first).as_ref(), Some(event));
    }
    // The other one has read nothing yet, so this is not the end.
    first.hears_nothing_more();
    for event in &events {
        assert_eq!(next(&mut second).as_ref(), Some(event));
    }
    assert_eq!((next(&mut first), next(&mut second)), (None, None), "the end is in order");
    drop(stranger);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_served_replay_that_breaks_off_or_refuses_lines_is_a_failure() {
    let folder = Folder::new();
    for (name, lines, named) in [
        ("back", "2 {\"channel\":\"a\",\"data\":1}\n1 {\"channel\":\"a\",\"data\":2}\n", "older"),
        ("bad", "2 {\"channel\":\"a\",\"data\":1}\n3 {\"channel\":\"a\"}\n", "1 lines refused"),
    ] {
        let path = folder.file(name, lines);
        let flags = format!("replay {path} --serve 127.0.0.1:0 --wait-clients 0");
        let mut server = Server::launch(fanfare(&flags));
        assert_eq!(server.end().code(), Some(1), "{name}");
        eventually("the log says why", || server.log().contains(named));
    }
    let (path, _) = capture(&folder, 2);
    let mut server = Server::launch(fanfare(&format!("replay {path} --serve 127.0.0.1:0 --loop")));
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0), "a signal ends it, whoever it waits for");
}

#[test]
fn a_recording_that_is_killed_is_readable_and_one_that_is_interrupted_is_finished() {
    let folder = Folder::new();
    let server = Server::start("");
    let (path, part) = (folder.path("a.gz"), folder.path("a.gz.part"));
    let start = || {
        let flags = format!("record ws://{} > --out {path} --force", server.listen);
        let child = fanfare(&flags).stderr(Stdio::piped()).spawn().unwrap();
        eventually("it has subscribed", || server.counter("subscribed") == 1);
        child
    };
    let size = || std::fs::metadata(&part).map_or(0, |file| file.len());
    let mut recorder = start();
    let mut producer = server.producer();
    producer.publish("a", "1");
    producer.publish("a", "2");
    eventually("a second has passed", || size() > 0);
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    let (events, in_order) = recorded(&part);
    assert!(in_order && !events.is_empty() && !std::fs::exists(&path).unwrap());
    eventually("it is gone", || server.counter("subscribed") == 0);

    let recorder = start();
    producer.publish("a", "3");
    eventually("a second has passed", || size() > 0);
    let pid = recorder.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = recorder.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let (events, in_order) = recorded(&path);
    assert!(in_order && events.last().unwrap().data == "3" && !std::fs::exists(&part).unwrap());

    let flags = format!("record ws://{} > --out {path}", server.listen);
    let output = fanfare(&flags).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("exists already"), "{}", said(&output));
    let mut file = Vec::new();
    std::fs::File::open(&path).unwrap().read_to_end(&mut file).unwrap();
    assert!(!file.is_empty(), "it was left as it was");
}
