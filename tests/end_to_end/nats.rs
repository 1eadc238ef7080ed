//! A JetStream stream as the source: what any node with it promises to clients and producers.
//!
//! Frames are compared as bytes, because a client may take them from any node. Without nats-server
//! each of these says SKIPPED.

use std::collections::BTreeMap;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::access::now_s;
use crate::nats_server::NatsServer;
use crate::support::{Client, Folder, Heard, Server, connect, eventually, fanfare, line};

/// A node of a stream.
pub(crate) fn node(nats: &NatsServer, options: &str) -> Server {
    Server::with_sources(&[&nats.stream("MD", options)], "")
}

/// Subscribes with a place to go on from, if there is one, and gives the answer.
pub(crate) fn subscribe(server: &Server, resume: Option<(&str, u64)>) -> (Client, Value) {
    let mut client = Client::connect(server);
    let mut params = json!({ "channels": [">"], "policy": "all" });
    if let Some((epoch, seq)) = resume {
        params["resume"] = json!({ "epoch": epoch, "seq": seq });
    }
    let reply = client.ask(&json!({ "method": "subscribe", "params": params }).to_string());
    assert_eq!(reply["success"], true, "{reply}");
    (client, reply)
}

/// Goes on after a place, from which everything is there.
#[track_caller]
pub(crate) fn resumed(server: &Server, place: (&str, u64)) -> Client {
    let (client, reply) = subscribe(server, Some(place));
    assert_eq!(reply["result"][0]["resumed"], true, "{reply}");
    client
}

/// Subscribes before there is any event, and is in sync. A book that begins while a snapshot is
/// sent may go on at its next snapshot, with a receipt for what was before.
pub(crate) fn first_there(server: &Server) -> Client {
    let (mut client, _) = subscribe(server, None);
    assert_eq!(control(&mut client, "snapshot_end")["seq"], 0);
    client
}

pub(crate) fn welcome(server: &Server) -> Value {
    Client::upgrade(connect(server.listen)).json()
}

/// Data frames up to the one with this `seq`, as text, by `seq`.
pub(crate) fn frames_to(client: &mut Client, seq: u64) -> BTreeMap<u64, String> {
    let mut frames = BTreeMap::new();
    while frames.last_key_value().is_none_or(|(last, _)| *last < seq) {
        let Heard::Text(text) = client.hear() else { panic!("a frame was due") };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["channel"] != "control" && frame["method"].is_null() {
            let again = frames.insert(frame["seq"].as_u64().unwrap(), text);
            assert_eq!(again, None, "twice");
        }
    }
    frames
}

/// The frames of a snapshot up to its end, as text.
pub(crate) fn values(client: &mut Client) -> Vec<String> {
    let mut frames = Vec::new();
    loop {
        let Heard::Text(text) = client.hear() else { panic!("a frame was due") };
        let frame: Value = serde_json::from_str(&text).unwrap();
        match frame["type"].as_str() {
            Some("snapshot_end") => break,
            Some("update" | "snapshot") => frames.push(text),
            _ => {}
        }
    }
    frames.sort();
    frames
}

/// The next control message of this type; data is passed over.
pub(crate) fn control(client: &mut Client, kind: &str) -> Value {
    loop {
        let message = client.json();
        if message["channel"] == "control" && message["type"] == kind {
            return message;
        }
    }
}

/// Events of three kinds: a stream, a keyed channel, a book.
pub(crate) fn lines(range: std::ops::Range<u32>) -> String {
    let mut text = String::new();
    for n in range {
        text += &line("trade.A", &format!("{{\"p\":{n}}}"));
        text +=
            &format!("{{\"channel\":\"quote\",\"key\":\"k.{}\",\"ts\":{n},\"data\":{n}}}\n", n % 3);
        let kind = if n % 4 == 0 { "snapshot" } else { "update" };
        text += &format!("{{\"channel\":\"book\",\"kind\":\"{kind}\",\"data\":[{n}]}}\n");
    }
    text
}

#[test]
fn two_nodes_of_a_stream_send_the_same_bytes_whenever_they_were_started() {
    let Some(mut nats) = NatsServer::start() else { return };
    nats.publish("MD", "", &lines(0..40));
    let (a, b) = (node(&nats, ""), node(&nats, ""));
    assert_eq!(welcome(&a)["epoch"], welcome(&b)["epoch"]);
    assert_eq!((welcome(&a)["seq"].as_u64(), welcome(&b)["seq"].as_u64()), (Some(120), Some(120)));
    let (mut of_a, _) = subscribe(&a, None);
    let (mut of_b, _) = subscribe(&b, None);
    // The values that count; a client that was there from the first message on has the same.
    let values = frames_to(&mut of_a, 120);
    assert_eq!(values, frames_to(&mut of_b, 120));
    nats.publish("MD", "", &lines(40..60));
    let live = frames_to(&mut of_a, 180);
    assert_eq!(live, frames_to(&mut of_b, 180));
    // All channels' links lead from one to the next, from the first frame on.
    let mut last = BTreeMap::new();
    for frame in live.values() {
        let frame: Value = serde_json::from_str(frame).unwrap();
        let before = last.insert(frame["channel"].to_string(), frame["seq"].clone());
        assert!(before.is_none_or(|seq| seq == frame["prev"]), "{frame}");
    }
    // A node that comes later, and one that reads less of the stream whole.
    drop(b);
    let epoch = welcome(&a)["epoch"].as_str().unwrap().to_owned();
    for options in ["", "?window=7"] {
        let late = node(&nats, options);
        let from = if options.is_empty() { 120 } else { 175 };
        let mut client = resumed(&late, (&epoch, from));
        let again = frames_to(&mut client, 180);
        let expected = live.range(from + 1..).map(|(seq, text)| (*seq, text.clone())).collect();
        assert_eq!(again, expected, "exactly once, byte for byte");
    }
    nats.kill();
    let (mut newcomer, _) = subscribe(&a, None);
    assert_eq!(frames_to(&mut newcomer, 180).keys().next_back(), Some(&180), "it goes on serving");
}

#[test]
fn old_values_of_a_node_that_reads_little_are_those_of_one_that_was_there() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", "");
    let there = node(&nats, "");
    nats.publish("MD", "", &lines(0..50));
    eventually("the first node has everything", || welcome(&there)["seq"] == 150);
    let late = node(&nats, "?window=1");
    let (mut of_there, _) = subscribe(&there, None);
    let (mut of_late, _) = subscribe(&late, None);
    let expected = values(&mut of_there);
    assert_eq!(expected.len(), 3 + 2, "three keys, a snapshot and its update");
    assert_eq!(values(&mut of_late), expected);
    let verify = |client: &mut Client| {
        client.ask(r#"{"method":"verify","params":{"channel":"book"}}"#)["result"].clone()
    };
    assert_eq!(verify(&mut of_there)["hash"], verify(&mut of_late)["hash"]);
}

#[test]
fn a_restart_of_the_servers_leaves_no_hole_and_repeats_nothing() {
    let Some(mut nats) = NatsServer::start() else { return };
    nats.publish("MD", "", &lines(0..1));
    let server = node(&nats, "");
    let (mut client, _) = subscribe(&server, None);
    frames_to(&mut client, 3);
    for round in 1..4 {
        nats.restart();
        nats.publish("MD", "", &lines(round..round + 1));
        let last = u64::from(round + 1) * 3;
        let frames = frames_to(&mut client, last);
        assert_eq!(frames.into_keys().collect::<Vec<_>>(), [last - 2, last - 1, last]);
    }
    assert!(server.stats()["stream"]["restarts"].as_u64().unwrap() > 0);
}

#[test]
fn what_producers_send_to_a_node_comes_back_through_the_stream_once() {
    let Some(mut nats) = NatsServer::start() else { return };
    nats.publish("MD", "", "");
    let stream = nats.stream("MD", "?forward=acked");
    let a = Server::with_sources(&["tcp://127.0.0.1:0", &stream], "");
    let b = node(&nats, "");
    let (mut of_a, mut of_b) = (first_there(&a), first_there(&b));
    let mut producer = a.producer();
    producer.send(&lines(0..30));
    producer.send("not json\n");
    assert_eq!(producer.reply()["error"]["code"], "json_invalid");
    assert_eq!(frames_to(&mut of_a, 90), frames_to(&mut of_b, 90));
    // Without a server to take them, events wait, and each channel keeps its order.
    nats.kill();
    producer.send(&lines(30..35));
    nats.restart();
    let frames = frames_to(&mut of_a, 105);
    assert_eq!(frames, frames_to(&mut of_b, 105));
    let trades: Vec<_> = frames
        .values()
        .filter_map(|frame| serde_json::from_str::<Value>(frame).unwrap()["data"]["p"].as_u64())
        .collect();
    assert_eq!(trades, [30, 31, 32, 33, 34]);
    eventually("all of it is acknowledged", || a.stats()["stream"]["acknowledged"] == 105);
}

#[test]
fn what_no_node_would_take_is_refused_before_it_is_in_the_stream() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", "");
    let stream = nats.stream("MD", "?forward=acked");
    let node = Server::with_sources(&["tcp://127.0.0.1:0", &stream], "--channels-max 1");
    let mut client = first_there(&node);
    let mut producer = node.producer();
    // Space within a line is the producer's own business.
    producer.send("{\"channel\":\"a\",\"data\":[1,\r2]}\n");
    let first = client.event();
    assert_eq!((first.seq, first.data()), (1, "[1,\r2]"));
    producer.send("{\"channel\":\"b\",\"data\":1}\n");
    assert_eq!(producer.reply()["error"]["code"], "too_many_channels");
    producer.send("{\"channel\":\"a\",\"data\":2}\n");
    assert_eq!(client.event().seq, 2);
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_stream_that_takes_nothing() {
    let Some(mut nats) = NatsServer::start() else { return };
    nats.publish("MD", "", "");
    let stream = nats.stream("MD", "?forward=acked");
    let mut node = Server::with_sources(&["tcp://127.0.0.1:0", &stream], "");
    nats.kill();
    let mut producer = node.producer();
    producer.send(&lines(0..1));
    eventually("it was read", || node.stats()["ingest"]["bytes"].as_u64().unwrap() > 0);
    node.signal("INT");
    eventually("it stops", || node.log().contains("stopping; a second signal"));
    node.signal("INT");
    assert_eq!(node.end().code(), Some(0));
    assert!(!node.log().contains("may not be in the stream"), "it has waited to the end");
}

#[test]
fn what_is_published_again_under_the_same_name_is_taken_once() {
    let Some(nats) = NatsServer::start() else { return };
    let said = nats.publish("MD", "--id day-1", &lines(0..5));
    assert!(said.contains("15 acknowledged (0 of them were there already), 0 refused"), "{said}");
    let said = nats.publish("MD", "--id day-1", &lines(0..7));
    assert!(said.contains("21 acknowledged (15 of them were there already)"), "{said}");
    let said = nats.publish("MD", "--fast", &lines(7..8));
    assert!(said.contains("3 sent without acknowledgement, 0 refused"), "{said}");
    let server = node(&nats, "");
    assert_eq!(welcome(&server)["seq"], 24);
}

#[test]
fn what_the_stream_has_no_longer_is_receipted_as_expired() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", &lines(0..10));
    let epoch = welcome(&node(&nats, ""))["epoch"].as_str().unwrap().to_owned();
    let purged = nats.ask("STREAM.PURGE.MD", "{\"keep\":6}");
    assert!(purged.contains("\"success\":true"), "{purged}");
    let server = node(&nats, "");
    let (mut client, reply) = subscribe(&server, Some((&epoch, 9)));
    assert_eq!(reply["result"][0]["why"], "expired", "{reply}");
    let gap = control(&mut client, "gap");
    assert_eq!(
        (&gap["from"], &gap["to"], &gap["cause"]),
        (&json!(10), &json!(30), &json!("expired"))
    );
    // One whose place is still there goes on.
    resumed(&server, (&epoch, 24));
    // A purge takes nothing from those who are there.
    nats.ask("STREAM.PURGE.MD", "");
    nats.publish("MD", "", &lines(10..11));
    let (mut other, _) = subscribe(&server, Some((&epoch, 30)));
    assert_eq!(frames_to(&mut other, 33).len(), 3);
}

#[test]
fn a_node_ends_when_its_stream_was_made_again() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", &lines(0..2));
    let mut server = node(&nats, "");
    let before = welcome(&server)["epoch"].clone();
    nats.ask("STREAM.DELETE.MD", "");
    nats.publish("MD", "", &lines(0..1));
    assert_eq!(server.end().code(), Some(1), "{}", server.log());
    assert!(server.log().contains("deleted and made again"), "{}", server.log());
    let server = node(&nats, "");
    assert_ne!(welcome(&server)["epoch"], before);
    let place = before.as_str().unwrap();
    let (_, reply) = subscribe(&server, Some((place, 2)));
    assert_eq!(reply["result"][0]["why"], "epoch", "{reply}");
}

/// Makes the bucket `rules`.
fn bucket(nats: &NatsServer) {
    let config = json!({ "name": "KV_rules", "subjects": ["$KV.rules.>"], "num_replicas": 1,
        "storage": "file", "retention": "limits", "discard": "new", "max_msgs_per_subject": 1,
        "max_consumers": -1, "max_bytes": -1, "max_age": 0, "allow_direct": true,
        "allow_rollup_hdrs": true, "deny_delete": true });
    let made = nats.ask("STREAM.CREATE.KV_rules", &config.to_string());
    assert!(made.contains("KV_rules"), "{made}");
}

#[test]
fn access_rules_in_a_bucket_are_in_force_as_they_change() {
    let Some(nats) = NatsServer::start() else { return };
    bucket(&nats);
    nats.put("$KV.rules.all", "[anonymous]\nsubscribe = [\"trade.>\"]\n");
    let flags = format!("--access {}", nats.stream("rules", "").replace("nats:", "nats-kv:"));
    let server = Server::start(&flags);
    let mut client = Client::connect(&server);
    let may = |client: &mut Client, name: &str| client.subscribe(&[name])["success"] == true;
    assert!(may(&mut client, "trade.A") && !may(&mut client, "quote.A"));
    nats.put("$KV.rules.all", "[anonymous]\nsubscribe = [\"nothing at all");
    nats.put("$KV.rules.all", "[anonymous]\nsubscribe = [\"quote.>\"]\n");
    assert_eq!(control(&mut client, "unsubscribed")["cause"], "forbidden");
    assert!(may(&mut client, "quote.A") && !may(&mut client, "trade.A"));
}

#[test]
fn a_key_file_that_a_bucket_names_is_read_again_when_it_changes_and_on_reload() {
    let Some(nats) = NatsServer::start() else { return };
    bucket(&nats);
    let folder = Folder::new();
    let (file, control) = (folder.path("secret"), folder.path("control.sock"));
    let put = |file: &str| {
        let keys = format!("keys = [{{ algorithm = \"HS256\", file = \"{file}\" }}]");
        let rules = format!("[token]\nalgorithms = [\"HS256\"]\n{keys}\nsubscribe = [\">\"]\n");
        nats.put("$KV.rules.tokens", &rules);
    };
    let keys = ["a", "b", "c", "d"].map(|name| name.repeat(40));
    let token = |key: &str| {
        let claims = json!({ "sub": "alice", "exp": now_s() + 3_600 });
        let key = EncodingKey::from_secret(key.as_bytes());
        jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
    };
    folder.file("secret", &keys[0]);
    put(&file);
    let flags = format!("--access {}", nats.stream("rules", "").replace("nats:", "nats-kv:"));
    let server = Server::start(&format!("{flags} --control {control}"));
    let open = |key: &str| {
        let mut client = Client::connect(&server);
        let auth = json!({ "method": "auth", "params": { "token": token(key) } });
        let is_good = client.ask(&auth.to_string())["success"] == true;
        (client, is_good)
    };
    let good = |key: &str| {
        let (client, is_good) = open(key);
        assert!(is_good, "{}", server.log());
        client
    };
    let mut first = good(&keys[0]);
    folder.file("secret", &keys[1]);
    let output = fanfare(&format!("reload {control}")).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(said, "reloaded: access rules\n");
    let mut second = good(&keys[1]);
    assert_eq!(first.closed(), 4003);
    assert!(!open(&keys[0]).1, "its issuer's key is gone");

    folder.file("secret", &keys[2]);
    assert_eq!(second.closed(), 4003);
    let mut third = good(&keys[2]);

    // A file that is there only after the entry that names it.
    put(&folder.path("later"));
    eventually("it is missed", || server.log().contains("later"));
    folder.file("later", &keys[3]);
    assert_eq!(third.closed(), 4003);
    good(&keys[3]);
}

#[test]
fn a_bucket_of_many_rules_that_is_far_away_is_read_and_its_changes_too() {
    let Some(nats) = NatsServer::start() else { return };
    bucket(&nats);
    for holder in 0..150 {
        nats.put(&format!("$KV.rules.holder-{holder}"), "# nothing yet\n");
    }
    nats.put("$KV.rules.all", "[anonymous]\nsubscribe = [\"trade.>\"]\n");
    let url = nats.afar("rules", Duration::from_millis(25));
    let server = Server::start(&format!("--access {}", url.replace("nats:", "nats-kv:")));
    let mut client = Client::subscribed(&server, "trade.A");
    nats.put("$KV.rules.all", "[anonymous]\nsubscribe = [\"quote.>\"]\n");
    assert_eq!(control(&mut client, "unsubscribed")["cause"], "forbidden");
}

#[test]
fn what_cannot_be_a_source_says_what_to_do() {
    let Some(nats) = NatsServer::start() else { return };
    let fails = |arguments: &str| {
        let output = fanfare(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments}");
        String::from_utf8(output.stderr).unwrap()
    };
    let serve = "serve --listen 127.0.0.1:0 --source";
    let said = fails(&format!("{serve} {}", nats.stream("NONE", "")));
    assert!(said.contains("stream NONE: there is none") && said.contains("--create"), "{said}");
    nats.publish("MD", "", "");
    let said = fails(&format!("{serve} {}", nats.stream("MD", "?subject=eu.{channel}")));
    assert!(said.contains("takes md.>, and not eu.>"), "{said}");
    let beside = format!("{serve} {} --source tcp://127.0.0.1:0", nats.stream("MD", ""));
    let said = fails(&beside);
    assert!(said.contains("forward=acked"), "{said}");
    nats.publish("MD", "", &lines(0..3));
    let crowded =
        format!("{serve} {} --channels-max 1 --keys-max 1", nats.stream("MD", "?window=1"));
    let said = fails(&crowded);
    assert!(said.contains("raise channels_max and keys_max, or narrow subject="), "{said}");
    let said = fails("publish --fast tcp://127.0.0.1:1");
    assert!(said.contains("are for streams"), "{said}");
}
