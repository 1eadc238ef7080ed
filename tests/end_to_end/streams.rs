//! Clients that ask for everything with their first request: a subscription in the URL, and streams
//! of Server-Sent Events, from outside.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use fanfare::access::keys::NewKey;
use fanfare::protocol::ws::frame::Opcode;
use serde_json::{Value, json};

use crate::support::{
    Client, Folder, Heard, KEY, Server, connect, eventually, fanfare, line, read_to_end,
};

/// One event of a stream, by the specification.
#[derive(Debug, Default, PartialEq)]
struct Given {
    id: Option<String>,
    kind: String,
    data: String,
}

impl Given {
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A client that reads a stream.
struct Stream {
    lines: BufReader<TcpStream>,
    head: String,
    retry: String,
}

impl Stream {
    /// Asks for `target`, and takes the head of the answer.
    fn open(server: &Server, target: &str, headers: &str) -> Self {
        let mut stream = connect(server.listen);
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        Self { lines, head, retry: String::new() }
    }

    /// The next event; none at the end.
    fn next(&mut self) -> Option<Given> {
        let mut given = Given::default();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            let line = line.strip_suffix('\n').expect("lines end with a line feed");
            match line.split_once(": ") {
                Some(("id", id)) => given.id = Some(id.to_owned()),
                Some(("event", kind)) => kind.clone_into(&mut given.kind),
                Some(("data", data)) => given.data += data,
                Some(("retry", ms)) => ms.clone_into(&mut self.retry),
                _ if line.is_empty() && !given.data.is_empty() => return Some(given),
                _ => assert_eq!(line, "", "a field that is not known"),
            }
        }
    }

    /// The next control message of a type.
    fn control(&mut self, kind: &str) -> Given {
        loop {
            let given = self.next().expect("a control message");
            if given.kind == "control" && given.json()["type"] == kind {
                return given;
            }
        }
    }

    /// The next `count` events of channels.
    fn events(&mut self, count: usize) -> Vec<Given> {
        let mut given = Vec::new();
        while given.len() < count {
            given.extend(self.next().filter(|given| given.kind.is_empty()));
        }
        given
    }
}

fn upgraded(server: &Server, target: &str) -> Client {
    let mut stream = connect(server.listen);
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    Client::accepted(stream)
}

fn answer(server: &Server, target: &str, headers: &str) -> String {
    let mut stream = connect(server.listen);
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
    read_to_end(&mut stream)
}

#[test]
fn a_url_subscribes_for_a_client_that_says_nothing() {
    let server = Server::start("");
    let mut client = upgraded(&server, "/stream?streams=trade.A/quote.*&policy=all&snapshot=false");
    assert_eq!(client.json()["type"], "welcome");
    let reply = client.json();
    assert_eq!(reply["success"], true, "{reply}");
    let policies = reply["result"].as_array().unwrap().iter();
    let held: Vec<_> =
        policies.map(|held| (held["channel"].clone(), held["policy"].clone())).collect();
    assert_eq!(held, [(json!("trade.A"), json!("all")), (json!("quote.*"), json!("all"))]);
    server.producer().publish("trade.A", "7");
    let Heard::Text(text) = client.hear() else { panic!("an event") };
    assert!(text.ends_with("\"data\":7}"), "{text}");
    // It takes requests like any other.
    assert_eq!(client.ask(r#"{"method":"list"}"#)["result"][1]["channel"], "trade.A");
}

#[test]
fn what_is_wrong_with_a_url_is_said_as_for_a_request_and_the_connection_goes_on() {
    let server = Server::start("");
    for (query, code) in [
        ("channels=a..b", "channel_invalid"),
        ("channels=a&polcy=all", "param_unknown"),
        ("policy=all", "param_missing"),
    ] {
        let mut client = upgraded(&server, &format!("/v1?{query}"));
        assert_eq!(client.json()["type"], "welcome");
        let reply = client.json();
        assert_eq!((&reply["success"], &reply["error"]["code"]), (&json!(false), &json!(code)));
        assert_eq!(client.ask(r#"{"method":"ping"}"#)["method"], "pong");
    }
    // Other parameters have no meaning.
    let mut client = upgraded(&server, "/v1?utm_source=mail");
    assert_eq!(client.json()["type"], "welcome");
    assert_eq!(client.ask(r#"{"method":"list"}"#)["result"], json!([]));
}

#[test]
fn our_own_subscriber_says_the_same_of_both_forms() {
    let server = Server::start("");
    let mut producer = server.producer();
    producer.send("{\"channel\":\"book.A\",\"kind\":\"snapshot\",\"data\":{\"n\":1.50}}\n");
    producer.send("{\"channel\":\"quote.A\",\"key\":\"a\\\"b\",\"ts\":7,\"data\":[ 2 ]}\n");
    await_events(&server, 2);
    let url = format!("ws://{}/v1", server.listen);
    let said = ["", " --binary"].map(|flag| {
        let output = fanfare(&format!("subscribe {url} > --count 2{flag}")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        // The reply tells a client of the binary form the ids of channels.
        said.lines().filter(|line| line.contains("\"data\":")).collect::<Vec<_>>().join("\n")
    });
    assert_eq!(said[0], said[1]);
    assert!(said[1].contains("[ 2 ]") && said[1].contains("1.50"), "{}", said[1]);
}

#[test]
fn a_bare_ping_is_answered_by_a_bare_pong() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(Opcode::Text, b"ping");
    assert_eq!(client.hear(), Heard::Text("pong".into()));
    client.send(Opcode::Text, b"Ping");
    assert_eq!(client.json()["error"]["code"], "json_malformed");
}

#[test]
fn a_stream_gives_the_same_messages_as_a_websocket() {
    let server = Server::start("");
    let mut producer = server.producer();
    producer.send("{\"channel\":\"quote.A\",\"key\":\"A\",\"data\":1}\n");
    producer.send("{\"channel\":\"trade.A\",\"data\":[\r1]}\n");
    await_events(&server, 2);
    let mut client = Client::subscribed(&server, ">");
    for headers in ["Accept: text/event-stream\r\n", ""] {
        let path = if headers.is_empty() { "/v1/sse" } else { "/v1" };
        let mut stream = Stream::open(&server, &format!("{path}?channels=%3E"), headers);
        assert!(stream.head.contains("\r\nContent-Type: text/event-stream\r\n"), "{}", stream.head);
        let welcome = stream.control("welcome");
        assert_eq!((welcome.id, stream.retry.as_str()), (None, "2000"));
        let reply = stream.next().unwrap();
        assert_eq!((reply.kind.as_str(), &reply.json()["success"]), ("control", &json!(true)));
        assert_eq!(reply.json()["result"][0]["matched"], 2);
        assert_eq!(stream.control("snapshot_begin").id, None);
        let values = stream.events(1);
        assert_eq!((&values[0].id, &values[0].json()["data"]), (&None, &json!(1)));
        let end = stream.control("snapshot_end");
        assert_eq!(end.id, Some(format!("{}:{}", epoch(&server), end.json()["seq"])));
        producer.publish("trade.A", "{\"price\": 1.50}");
        let live = stream.events(1).remove(0);
        assert_eq!(live.id, Some(format!("{}:{}", epoch(&server), live.json()["seq"])));
        let text = loop {
            let Heard::Text(text) = client.hear() else { panic!("an event") };
            if text.ends_with("\"data\":{\"price\": 1.50}}") {
                break text;
            }
        };
        assert_eq!(live.data, text);
    }
}

/// Waits until every shard has this many events.
fn await_events(server: &Server, count: u64) {
    let all = count * server.shards() as u64;
    eventually("all are in", || server.counter("events") == all);
}

fn epoch(server: &Server) -> String {
    let mut client = Client::upgrade(connect(server.listen));
    client.json()["epoch"].as_str().unwrap().to_owned()
}

#[test]
fn a_stream_goes_on_from_its_last_event_without_a_gap_or_a_repetition() {
    let server = Server::start("");
    let mut producer = server.producer();
    let target = "/v1/sse?channels=trade.*&policy=all";
    let mut stream = Stream::open(&server, target, "");
    stream.control("snapshot_end");
    (1..=3).for_each(|number| producer.publish("trade.A", &number.to_string()));
    let seen = stream.events(2);
    let place = seen[1].id.clone().unwrap();
    drop(stream);
    (4..=5).for_each(|number| producer.publish("trade.A", &number.to_string()));
    await_events(&server, 5);
    let mut stream = Stream::open(&server, target, &format!("Last-Event-ID: {place}\r\n"));
    assert_eq!(stream.control("replay_begin").id, None);
    let rest: Vec<_> = stream.events(3).iter().map(|given| given.json()["data"].clone()).collect();
    assert_eq!(rest, [3, 4, 5]);
    assert!(stream.control("replay_end").id.is_some());
}

#[test]
fn the_events_of_a_stream_that_is_sampled_say_no_place_and_its_heartbeats_do() {
    let server = Server::start("--heartbeat 100ms");
    let mut producer = server.producer();
    let mut stream = Stream::open(&server, "/v1/sse?channels=q.*&interval_ms=10", "");
    stream.control("snapshot_end");
    producer.send("{\"channel\":\"q.A\",\"key\":\"A\",\"data\":1}\n");
    let sampled = stream.events(1);
    assert_eq!(sampled[0].id, None);
    let heartbeat = stream.control("heartbeat");
    assert_eq!(heartbeat.id, Some(format!("{}:{}", epoch(&server), heartbeat.json()["seq"])));
}

#[test]
fn a_stream_of_which_nothing_can_be_had_is_refused_with_the_reply() {
    let server = Server::start("");
    for (target, status, code) in [
        ("/v1/sse", 400, "param_missing"),
        ("/v1/sse?channels=", 400, "channels_empty"),
        ("/v1/sse?channels=a..b,", 400, "channel_invalid"),
        ("/v1/sse?channels=a&policy=some", 400, "param_invalid"),
        ("/v1/sse?channels=a&chanels=b", 400, "param_unknown"),
    ] {
        let answer = answer(&server, target, "");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
        assert!(format!("{head}\r\n").contains(&format!("Content-Length: {}\r\n", body.len())));
        let reply: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&reply["success"], &reply["error"]["code"]), (&json!(false), &json!(code)));
    }
    eventually("all are gone", || server.counter("connections") == 0);
    // What can be had is given.
    let mut stream = Stream::open(&server, "/v1/sse?channels=a..b,a.b", "");
    stream.control("welcome");
    let reply = stream.next().unwrap().json();
    assert_eq!((&reply["success"], &reply["result"][1]["matched"]), (&json!(false), &json!(0)));
}

#[test]
fn a_stream_needs_a_credential_with_its_request_and_has_its_rights() {
    let folder = Folder::new();
    let NewKey { credential, sha256 } = NewKey::generate("desk-7").unwrap();
    let rules = format!(
        "origins = [\"https://a.example\"]\n[[key]]\nid = \"desk-7\"\nsha256 = \"{sha256}\"\n\
         subscribe = [\"quote.>\"]\n"
    );
    let server = Server::start(&format!("--access {}", folder.file("access.toml", &rules)));
    let bearer = format!("Authorization: Bearer {credential}\r\n");
    let target = "/v1/sse?channels=quote.A";
    assert!(answer(&server, target, "").starts_with("HTTP/1.1 401 "));
    assert!(answer(&server, target, "Authorization: Bearer x\r\n").starts_with("HTTP/1.1 401 "));
    let forbidden = answer(&server, "/v1/sse?channels=trade.A", &bearer);
    assert!(
        forbidden.starts_with("HTTP/1.1 403 ") && forbidden.contains("forbidden"),
        "{forbidden}"
    );
    let foreign = answer(&server, target, &format!("{bearer}Origin: https://b.example\r\n"));
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    Stream::open(&server, &format!("{target}&token={credential}"), "").control("snapshot_end");
    let page = format!("{bearer}Origin: https://a.example\r\n");
    let mut stream = Stream::open(&server, target, &page);
    let allowed = "\r\nAccess-Control-Allow-Origin: https://a.example\r\n";
    assert!(stream.head.contains(allowed), "{}", stream.head);
    stream.control("snapshot_end");
}

#[test]
fn a_stop_ends_a_stream_with_its_reason_and_a_client_that_leaves_is_forgotten() {
    let mut server = Server::start("--drain 0ms");
    let mut stream = Stream::open(&server, "/v1/sse?channels=%3E", "");
    stream.control("snapshot_end");
    let gone = Stream::open(&server, "/v1/sse?channels=%3E", "");
    eventually("both are there", || server.counter("connections") == 2);
    drop(gone);
    eventually("one is gone", || server.counter("connections") == 1);
    server.signal("TERM");
    let end = stream.control("closed").json();
    assert_eq!((&end["code"], stream.next()), (&json!(1001), None));
    assert!(server.end().success());
}

#[test]
fn a_stream_that_is_not_read_is_treated_by_its_terms_like_any_client() {
    let server = Server::start("--send-buffer-bytes 4608B");
    let mut stream = connect_narrow_stream(&server);
    stream.control("snapshot_end");
    let mut producer = server.producer();
    let data = format!("\"{}\"", "x".repeat(1_000));
    let flood: String = (0..2_001).map(|_| line("trade.A", &data)).collect();
    producer.send(&flood);
    await_events(&server, 2_001);
    let (mut given, mut missed) = (0, 0);
    // The newest may be among the missed.
    while given + missed < 2_001 {
        let next = stream.next().expect("it goes on");
        match next.json() {
            gap if gap["type"] == "gap" => missed += gap["missed"].as_u64().unwrap(),
            _ if next.kind.is_empty() => given += 1,
            _ => {}
        }
    }
    assert_eq!(given + missed, 2_001, "{given} given, {missed} missed");
    assert!(missed > 0, "nothing was too slow");
}

fn connect_narrow_stream(server: &Server) -> Stream {
    let mut stream = crate::support::connect_narrow(server.listen);
    let target = "/v1/sse?channels=trade.*&policy=all&max_lag_bytes=100000";
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
    }
    Stream { lines, head, retry: String::new() }
}
