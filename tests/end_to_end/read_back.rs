//! Places that are older than a node's memory: what the stream still has is read back from it.
//!
//! A node is given a short memory by `window`, or by a log that live events overwrite. Frames are
//! compared, as bytes, with those of a node that was there when they were live. Without nats-server
//! each of these says SKIPPED.

use std::collections::BTreeMap;

use fanfare::protocol::ws::frame::Opcode;
use serde_json::{Value, json};

use crate::nats::{control, first_there, frames_to, lines, node, resumed, subscribe, welcome};
use crate::nats_server::NatsServer;
use crate::support::{Client, Server, connect_narrow, eventually, line};

/// What a client got that was there, of `lines(0..count)`; and the epoch.
fn live(nats: &NatsServer, count: u32) -> (BTreeMap<u64, String>, String) {
    nats.publish("MD", "", "");
    let there = node(nats, "");
    let mut client = first_there(&there);
    nats.publish("MD", "", &lines(0..count));
    let epoch = welcome(&there)["epoch"].as_str().unwrap().to_owned();
    (frames_to(&mut client, u64::from(count) * 3), epoch)
}

fn after(frames: &BTreeMap<u64, String>, seq: u64) -> BTreeMap<u64, String> {
    frames.range(seq + 1..).map(|(seq, text)| (*seq, text.clone())).collect()
}

/// Asks with a place to go on from on a connection that holds little, and reads nothing.
fn ask_narrow(server: &Server, epoch: &str, seq: u64) -> Client {
    let mut client = Client::upgrade(connect_narrow(server.listen));
    assert_eq!(client.json()["type"], "welcome");
    let params =
        json!({ "channels": [">"], "policy": "all", "resume": { "epoch": epoch, "seq": seq } });
    let request = json!({ "method": "subscribe", "params": params }).to_string();
    client.send(Opcode::Text, request.as_bytes());
    client
}

#[test]
fn what_a_node_has_never_had_is_sent_as_it_was_sent_live_and_read_once_for_all() {
    let Some(nats) = NatsServer::start() else { return };
    let (frames, epoch) = live(&nats, 2_000);
    let late = node(&nats, "?window=1");
    let again = |place: u64| {
        let mut client = resumed(&late, (&epoch, place));
        let got = frames_to(&mut client, 6_000);
        assert_eq!(control(&mut client, "replay_end")["seq"], 6_000);
        assert_eq!(got, after(&frames, place), "exactly once, byte for byte");
        client
    };
    let mut first = again(700);
    let read = || late.stats()["stream"]["read_back"].as_u64().unwrap();
    let once = read();
    assert!((5_300..=6_000).contains(&once), "{once}");
    again(1_234);
    let mut last = again(700);
    assert_eq!(read(), once, "it is shared");
    nats.publish("MD", "", &lines(2_000..2_010));
    assert_eq!(frames_to(&mut first, 6_030), frames_to(&mut last, 6_030));
    assert_eq!(late.counter("reading_back"), 0);
}

#[test]
fn large_messages_are_read_back_with_what_was_before_them_on_their_channels() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", "");
    let there = node(&nats, "");
    let mut client = first_there(&there);
    // One answer of the stream holds fewer of them than its bound says.
    let long = format!("\"{}\"", "x".repeat(4_500));
    let channel = |n: u32| if n.is_multiple_of(100) { "now.and.then" } else { "always" };
    let text: String = (1..=800).map(|n| line(channel(n), &long)).collect();
    // In the order of the lines.
    nats.publish("MD", "--fast", &text);
    let frames = frames_to(&mut client, 800);
    let epoch = welcome(&there)["epoch"].as_str().unwrap().to_owned();
    let late = node(&nats, "?window=1");
    let mut client = resumed(&late, (&epoch, 600));
    let again = frames_to(&mut client, 800);
    let prev = |text: &str| serde_json::from_str::<Value>(text).unwrap()["prev"].clone();
    assert_eq!(prev(&again[&700]), 600);
    assert!(again == after(&frames, 600), "exactly once, byte for byte");
}

#[test]
fn live_events_that_overwrite_the_log_meanwhile_are_read_back_as_well() {
    let Some(nats) = NatsServer::start() else { return };
    let (mut frames, epoch) = live(&nats, 1_000);
    let there = node(&nats, "");
    let late = Server::with_sources(&[&nats.stream("MD", "?window=1")], "--log-bytes 8MiB");
    let (mut witness, _) = subscribe(&there, Some((&epoch, 3_000)));
    let mut clients: Vec<_> = (0..3).map(|_| ask_narrow(&late, &epoch, 10)).collect();
    eventually("they read", || late.counter("reading_back") == 3);
    let long = format!("\"{}\"", "x".repeat(2_000));
    let count = 3 * (8 << 20) / long.len();
    let mut text = String::new();
    for n in 0..count {
        let kind = if n % 500 == 0 { "snapshot" } else { "update" };
        text += &line("trade.A", &long);
        text += &format!("{{\"channel\":\"book\",\"kind\":\"{kind}\",\"data\":[{n}]}}\n");
    }
    nats.publish("MD", "", &text);
    let last = 3_000 + 2 * count as u64;
    frames.extend(frames_to(&mut witness, last));
    eventually("the log has gone on", || late.counter("head_seq") >= last);
    for client in &mut clients {
        let reply = client.json();
        assert_eq!(reply["result"][0]["resumed"], true, "{reply}");
        let got = frames_to(client, last);
        assert_eq!(got.len(), after(&frames, 10).len());
        assert!(got == after(&frames, 10), "exactly once, byte for byte");
    }
    assert_eq!(late.counter("gaps"), 0);
}

#[test]
fn on_terms_that_conflate_the_newest_of_each_key_is_sent() {
    let Some(nats) = NatsServer::start() else { return };
    let (frames, epoch) = live(&nats, 1_000);
    let late = node(&nats, "?window=1");
    let resume = |channels: &str, policy: &str| {
        let mut client = Client::connect(&late);
        let resume = json!({ "epoch": epoch, "seq": 100 });
        let params = json!({ "channels": channels, "policy": policy, "resume": resume });
        let reply = client.ask(&json!({ "method": "subscribe", "params": params }).to_string());
        (client, reply["result"][0].clone())
    };
    let (mut client, result) = resume(">", "auto");
    assert_eq!(result["resumed"], true, "{result}");
    let mut expected = after(&frames, 100);
    expected.retain(|seq, text| *seq > 3_000 - 9 || !text.contains("\"quote\""));
    assert_eq!(frames_to(&mut client, 3_000), expected);
    // All of it is in a snapshot.
    let (mut client, result) = resume("quote", "latest");
    assert_eq!((&result["resumed"], &result["why"]), (&json!(false), &json!("too_old")));
    assert_eq!(frames_to(&mut client, 2_999).len(), 3);
}

#[test]
fn what_the_stream_has_lost_is_receipted_where_it_is_missed_and_a_snapshot_follows() {
    let Some(nats) = NatsServer::start() else { return };
    let (frames, epoch) = live(&nats, 1_000);
    nats.delete(700);
    let late = node(&nats, "?window=1");
    let (mut client, _) = subscribe(&late, Some((&epoch, 600)));
    let before: BTreeMap<_, _> = frames.range(601..700).map(|(s, t)| (*s, t.clone())).collect();
    assert_eq!(frames_to(&mut client, 699), before);
    assert_eq!(control(&mut client, "snapshot_begin")["seq"], 3_000);
    let gap = client.json();
    assert_eq!(
        (&gap["from"], &gap["to"], &gap["cause"]),
        (&json!(700), &json!(3_000), &json!("expired"))
    );
    // Three keys, and the book: its last snapshot and what came after it.
    let mut values = Vec::new();
    let end = loop {
        let message = client.json();
        match message["type"].as_str() {
            Some("update" | "snapshot") => values.push(message["seq"].as_u64().unwrap()),
            _ => break message,
        }
    };
    values.sort_unstable();
    assert_eq!(values, [2_991, 2_993, 2_994, 2_996, 2_997, 2_999, 3_000]);
    assert_eq!((&end["type"], &end["seq"]), (&json!("snapshot_end"), &json!(3_000)));
    // Whoever is behind it needs it not.
    let (mut client, _) = subscribe(&late, Some((&epoch, 701)));
    let got: Value = serde_json::from_str(&frames_to(&mut client, 702)[&702]).unwrap();
    assert_eq!(got["seq"], 702);
}

#[test]
fn a_stream_that_cannot_be_reached_any_more_ends_a_read_back_with_a_receipt() {
    let Some(mut nats) = NatsServer::start() else { return };
    let (_, epoch) = live(&nats, 20_000);
    let late = node(&nats, "?window=1");
    let mut client = ask_narrow(&late, &epoch, 0);
    assert_eq!(control(&mut client, "replay_begin")["seq"], 60_000);
    nats.kill();
    let gap = control(&mut client, "gap");
    assert_eq!((&gap["to"], &gap["cause"]), (&json!(60_000), &json!("too_old")));
    assert_eq!(control(&mut client, "snapshot_end")["seq"], 60_000);
    // The next one is told at once.
    eventually("the node knows", || late.stats()["stream"]["is_up"] == 0);
    let (mut client, reply) = subscribe(&late, Some((&epoch, 0)));
    assert_eq!(reply["result"][0]["why"], "too_old", "{reply}");
    assert_eq!(control(&mut client, "snapshot_end")["seq"], 60_000);
}
