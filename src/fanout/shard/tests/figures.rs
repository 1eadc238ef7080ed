//! What is said of clients that are still being sent what they asked for: to them, and to others.

use serde_json::{Value, json};

use super::super::*;
use super::read_back;
use super::recovery::Play;
use super::{drain, pass, settings};
use crate::fanout::Now;
use crate::protocol::encoding::Encoding;
use crate::protocol::event::Kind;
use crate::protocol::ws::frame::{Opcode, write_masked};

const LATER: Now = Now { monotonic_ns: 5_000_000_000, unix_ns: 5_000_000_000 };

/// Asks who it is.
fn ask_whoami(shard: &mut Shard, id: ConnectionId) {
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Text, br#"{"method":"whoami"}"#, [1, 2, 3, 4]);
    shard.handle_bytes(id, &mut frame, LATER);
}

/// Looks at every connection, at a time when all there is was published 5 s ago.
fn sweep(shard: &mut Shard) {
    (0..200).for_each(|_| shard.handle_tick(LATER));
}

/// Connections of the shard that are up to 10 s behind, by its counters, and those that are not.
fn behind(shard: &Shard) -> (u64, u64) {
    (shard.counters().lags.at(3).value(), shard.counters().lags.at(0).value())
}

#[test]
fn what_waits_behind_a_snapshot_counts_as_still_to_be_sent() {
    let mut play = Play::with(settings());
    play.publish_some();
    play.tell("subscribe", json!({ "channels": ">" }));
    // The snapshot begins, and the socket takes nothing of it before more comes.
    pass(&mut play.shard, usize::MAX);
    pass(&mut play.shard, 0);
    play.publish("trade", None, Kind::Update, "8");
    play.publish("trade", None, Kind::Update, "9");
    play.shard.handle_writable(play.id);
    sweep(&mut play.shard);
    let report = play.shard.report(play.id, LATER).unwrap();
    assert_eq!((report.behind.events, report.behind.ms), (2, 5_000), "{report:?}");
    assert!(report.behind.bytes > 100);
    assert_eq!(behind(&play.shard), (1, 0));
    ask_whoami(&mut play.shard, play.id);
    let verdict = |messages: &[Value]| {
        let result = messages.iter().find_map(|m| m["result"].get("verdict"));
        result.unwrap().as_str().unwrap().to_owned()
    };
    assert_eq!(verdict(&play.read()), "you");
    assert_eq!(play.shard.report(play.id, LATER).unwrap().behind.events, 0);
    ask_whoami(&mut play.shard, play.id);
    assert_eq!(verdict(&play.read()), "ok", "it has everything");
}

#[test]
fn a_snapshot_under_way_is_a_client_that_catches_up() {
    let mut play = Play::with(settings());
    play.publish_some();
    play.tell("subscribe", json!({ "channels": ">" }));
    ask_whoami(&mut play.shard, play.id);
    let messages = play.read();
    let result = messages.iter().find_map(|m| m["result"].get("verdict").map(|_| &m["result"]));
    let result = result.unwrap();
    assert_eq!(result["verdict"], "you", "{result}");
    assert!(result["reason"].as_str().unwrap().contains("a snapshot or replay"), "{result}");
}

#[test]
fn a_client_that_waits_for_its_server_has_everything_that_there_is() {
    let mut play = Play::with(ShardSettings { is_shared: true, ..settings() });
    play.publish_some();
    let resume = json!({ "epoch": "epoch", "seq": 9 });
    play.ask("subscribe", json!({ "channels": ">", "resume": resume }));
    play.publish("trade", None, Kind::Update, "8");
    drain(&mut play.shard);
    sweep(&mut play.shard);
    let report = play.shard.report(play.id, LATER).unwrap();
    assert_eq!((report.behind.events, report.behind.ms), (0, 0), "it has the event");
    assert_eq!(behind(&play.shard), (0, 1));
}

#[test]
fn a_client_that_reads_back_is_behind_and_keeps_back_what_all_have() {
    let mut play = read_back::Play::new(300);
    let id = read_back::open(&mut play.late, Encoding::Json);
    read_back::ask(&mut play.late, id, "subscribe", &read_back::from(70, ">", "all"));
    drain(&mut play.late);
    sweep(&mut play.late);
    let report = play.late.report(id, LATER).unwrap();
    assert_eq!(report.behind.ms, 5_000, "as old as the oldest that is known, or older");
    assert_eq!(behind(&play.late), (1, 0));
    assert_eq!(play.late.counters().settled_seq.value(), 0, "not everybody was sent everything");
    ask_whoami(&mut play.late, id);
    assert!(read_back::text(&drain(&mut play.late)).contains("\"verdict\":\"you\""));
    play.read(1_000);
    sweep(&mut play.late);
    assert_eq!(behind(&play.late), (0, 1));
    assert_eq!(play.late.counters().settled_seq.value(), 300);
}
