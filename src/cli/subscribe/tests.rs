//! The subscriber against a small server that plays one scene.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::notes::tier;
use super::*;
use crate::client::frame::Frame;
use crate::protocol::refusal::ErrorCode;
use crate::protocol::reply::{ChannelResult, Effective, subscribed};
use crate::protocol::terms::Terms;
use crate::protocol::ws::close::write_close;
use crate::protocol::ws::deflate::{self, Deflater};
use crate::protocol::ws::frame::{Opcode, RSV1, write_frame};
use crate::protocol::ws::handshake::Rejection;
use crate::protocol::ws::reader::{Message, Reader, Role};
use crate::shell::fake::{listen, upgrade, upgrade_on};

const WELCOME: &str = r#"{"channel":"control","type":"welcome","v":1,"seq":1}"#;
const REPLY: &str = r#"{"method":"subscribe","success":true,"req_id":1}"#;
const FIRST: &str = r#"{"channel":"a","type":"update","seq":2,"prev":0,"data":{"p":1.10}}"#;
const SECOND: &str = r#"{"channel":"a","type":"update","seq":3,"prev":2,"data":{"p":1.20}}"#;

mod reconnect;

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// What a server saw: the subscribe command, and the client's close code or pong at the end.
type Seen = (String, Vec<String>);

/// Upgrades one client, waits for its command, writes `frames`, and reads until the end.
fn server(frames: Vec<u8>) -> (String, JoinHandle<Seen>) {
    let (address, server) = listen(move |mut stream| {
        upgrade(&mut stream, WELCOME);
        let mut reader = Reader::new(Role::Server, 1 << 20);
        let mut seen = messages(&mut stream, &mut reader, 1);
        stream.write_all(&frames).unwrap();
        let command = seen.remove(0);
        (command, messages(&mut stream, &mut reader, usize::MAX))
    });
    (format!("ws://{address}"), server)
}

fn messages(stream: &mut impl ReadWrite, reader: &mut Reader, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut input = [0; 4096];
    while seen.len() < count {
        let Ok(filled @ 1..) = stream.read(&mut input) else { break };
        let mut at = 0;
        loop {
            let mut used = 0;
            let message = reader.next_message(&mut input[at..filled], &mut used).unwrap();
            at += used;
            match message {
                None => break,
                Some(Message::Close { code, .. }) => {
                    seen.push(format!("close {}", code.unwrap()));
                    // As a server does: it answers the close and ends the stream.
                    let mut answer = Vec::new();
                    write_close(&mut answer, code.unwrap(), "");
                    let _gone = stream.write_all(&answer);
                    return seen;
                }
                Some(Message::Pong(payload)) => seen.push(format!("pong {payload:?}")),
                Some(Message::Text(text)) => seen.push(text.to_owned()),
                Some(other) => panic!("{other:?}"),
            }
        }
    }
    seen
}

fn frames(texts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        write_frame(&mut out, Opcode::Text, text.as_bytes());
    }
    out
}

fn subscribe(url: &str) -> Subscribe {
    Subscribe {
        url: url.into(),
        patterns: vec!["a".into(), "b.*".into()],
        json: false,
        table: false,
        stats: false,
        ends: EndFlags::default(),
        no_snapshot: false,
        resume: None,
        no_reconnect: true,
        ab: false,
        wish: WishFlags::default(),
        token: TokenFlags::default(),
        trust: TrustFlags::default(),
        compress: false,
        binary: false,
    }
}

fn after(count: u64) -> EndFlags {
    EndFlags { count: Some(count), seconds: None }
}

fn run(command: &Subscribe) -> (Result<(), Failure>, String) {
    let mut out = Vec::new();
    let result = command.run_until(&|| false, &mut out);
    (result, String::from_utf8(out).unwrap())
}

#[test]
fn every_frame_is_printed_as_it_came_and_the_close_is_proper() {
    let mut scene = frames(&[REPLY, FIRST]);
    write_frame(&mut scene, Opcode::Ping, b"x");
    scene.extend(frames(&[SECOND, SECOND]));
    let (url, server) = server(scene);
    let command = Subscribe { ends: after(2), ..subscribe(&url) };
    let (result, out) = run(&command);
    result.unwrap();
    assert_eq!(out, format!("{WELCOME}\n{REPLY}\n{FIRST}\n{SECOND}\n"), "no more than --count");
    let (command, rest) = server.join().unwrap();
    assert_eq!(command, r#"{"method":"subscribe","params":{"channels":["a","b.*"]},"req_id":1}"#);
    assert_eq!(rest, ["pong [120]", "close 1000"]);
}

#[test]
fn compressed_messages_are_printed_as_they_were_on_any_terms_of_the_server() {
    for terms in [None, Some(deflate::Terms::own()), Some(deflate::Terms::shared(12))] {
        let (address, server) = listen(move |mut stream| {
            let (request, agreed) = upgrade_on(terms, &mut stream, WELCOME);
            let mut reader = Reader::new(Role::Server, 1 << 20);
            messages(&mut stream, &mut reader, 1);
            let mut deflater =
                agreed.map(|a| Deflater::new(6, a.server_window_bits(), a.server_context));
            let mut frames = Vec::new();
            for text in [REPLY, FIRST, SECOND] {
                let Some(deflater) = &mut deflater else {
                    write_frame(&mut frames, Opcode::Text, text.as_bytes());
                    continue;
                };
                let (mut payload, start) = (Vec::new(), frames.len());
                deflater.deflate(text.as_bytes(), &mut payload);
                write_frame(&mut frames, Opcode::Text, &payload);
                frames[start] |= RSV1;
            }
            stream.write_all(&frames).unwrap();
            (request, messages(&mut stream, &mut reader, usize::MAX))
        });
        let url = format!("ws://{address}");
        let (result, out) = run(&Subscribe { compress: true, ends: after(2), ..subscribe(&url) });
        result.unwrap();
        assert_eq!(out, format!("{WELCOME}\n{REPLY}\n{FIRST}\n{SECOND}\n"), "{terms:?}");
        let (request, rest) = server.join().unwrap();
        assert!(request.contains("\r\nSec-WebSocket-Extensions: permessage-deflate"), "{request}");
        assert_eq!(rest, ["close 1000"]);
    }
}

#[test]
fn the_table_holds_events_only() {
    let (url, _server) = server(frames(&[REPLY, FIRST, SECOND]));
    let (result, out) = run(&Subscribe { table: true, ends: after(2), ..subscribe(&url) });
    result.unwrap();
    let rows: Vec<_> = out.lines().collect();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].contains(" a ") && rows[0].ends_with(r#"{"p":1.10}"#), "{out}");
}

#[test]
fn a_close_by_the_server_is_a_failure_that_says_whether_to_retry() {
    let mut scene = frames(&[REPLY]);
    write_close(&mut scene, 4100, "reading too slowly");
    let (url, server) = server(scene);
    let (result, _) = run(&subscribe(&url));
    let failure = result.unwrap_err();
    assert_eq!(failure.exit_code(), 1);
    assert_eq!(
        failure.to_string(),
        "the server closed with 4100 (this client read too slowly): reading too slowly; \
        a retry makes sense, with fewer channels"
    );
    assert_eq!(server.join().unwrap().1, ["close 4100"], "the close was answered");
}

#[test]
fn a_refused_subscription_shows_every_pattern_with_its_code() {
    let results = [
        ChannelResult {
            channel: "a",
            outcome: Ok(Effective {
                terms: Terms::default(),
                seq: 1,
                matched: 2,
                resumed: None,
                except: Vec::new(),
                ids: None,
            }),
        },
        ChannelResult {
            channel: "b.*",
            outcome: Err((ErrorCode::TooManySubscriptions, "at most 1".into())),
        },
    ];
    let mut reply = Vec::new();
    subscribed(&mut reply, None, &results, 5, 6);
    let (url, _server) = server(frames(&[std::str::from_utf8(&reply).unwrap()]));
    let (result, _) = run(&subscribe(&url));
    let text = result.unwrap_err().to_string();
    assert_eq!(text, "the server refused subscribe: b.*: too_many_subscriptions: at most 1");
}

#[test]
fn a_refused_upgrade_shows_the_status_and_the_servers_words() {
    let (address, server) = listen(|mut stream| {
        let mut answer = Vec::new();
        Rejection::AtCapacity { retry_after_s: 5 }.write(&mut answer);
        stream.write_all(&answer).unwrap();
        // The request is read so that closing does not reset the answer away.
        let _end = stream.read(&mut [0; 4096]);
    });
    let url = format!("ws://{address}/v1");
    let (result, _) = run(&subscribe(&url));
    let text = result.unwrap_err().to_string();
    assert!(text.contains("503 Service Unavailable") && text.contains("at capacity"), "{text}");
    server.join().unwrap();
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (url, _server) = server(frames(&[FIRST]));
    subscribe(&url).run_until(&|| false, &mut Closed).unwrap();
}

#[test]
fn a_note_says_how_a_tier_samples() {
    for (text, note) in [
        (
            r#"{"channel":"control","type":"tier","interval_ms":100,"seq":9}"#,
            "tier: slowed to one event of a key every 100 ms at least",
        ),
        (
            r#"{"channel":"control","type":"tier","interval_ms":0,"seq":9}"#,
            "tier: back to what was agreed",
        ),
    ] {
        let mut scratch = text.as_bytes().to_vec();
        assert_eq!(tier(&Frame::parse(&mut scratch).unwrap()), note);
    }
}

#[test]
fn a_signal_ends_it_in_order() {
    let asked = Arc::new(AtomicBool::new(false));
    let signal = Arc::clone(&asked);
    let (address, server) = listen(move |mut stream| {
        upgrade(&mut stream, WELCOME);
        let mut reader = Reader::new(Role::Server, 1 << 20);
        messages(&mut stream, &mut reader, 1);
        signal.store(true, Ordering::Relaxed);
        messages(&mut stream, &mut reader, usize::MAX)
    });
    let stop = || asked.load(Ordering::Relaxed);
    subscribe(&format!("ws://{address}")).run_until(&stop, &mut Vec::new()).unwrap();
    assert_eq!(server.join().unwrap(), ["close 1000"]);
}

#[test]
fn a_signal_ends_it_while_a_server_does_not_answer() {
    let (address, server) = listen(|mut stream| stream.read_to_end(&mut Vec::new()).unwrap_or(0));
    let start_ns = clock::now().monotonic_ns;
    subscribe(&format!("ws://{address}")).run_until(&|| true, &mut Vec::new()).unwrap();
    assert!(clock::now().monotonic_ns - start_ns < 3_000 * MS_NS, "before the server's time is up");
    drop(server);
}

#[test]
fn a_wrong_pattern_is_refused_before_connecting() {
    let command = Subscribe { patterns: vec!["a..b".into()], ..subscribe("ws://127.0.0.1:1") };
    let failure = run(&command).0.unwrap_err();
    assert_eq!(failure.exit_code(), 2);
    assert!(failure.to_string().starts_with("pattern `a..b`: empty token"), "{failure}");
    let failure = run(&subscribe("http://127.0.0.1:1")).0.unwrap_err();
    assert_eq!(failure.exit_code(), 2);
}
