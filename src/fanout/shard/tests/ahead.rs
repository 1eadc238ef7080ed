//! Clients that are ahead: they have what the shard is yet to come to.

use serde_json::json;

use super::super::*;
use super::recovery::{Play, resume_of, short};
use super::{drain, settings};
use crate::access::Member;
use crate::fanout::Now;
use crate::protocol::event::Kind;
use crate::protocol::ws::frame::{Opcode, write_masked};

/// A shard of a server that has its total order with others, after seven events.
fn shared() -> Play {
    let mut play = Play::with(ShardSettings { is_shared: true, ..settings() });
    play.publish_some();
    play
}

/// What a client hears at once that goes on after `seq`.
fn go_on(play: &mut Play, channels: &str, seq: u64) -> Vec<String> {
    let params = json!({ "channels": channels, "resume": resume_of("epoch", seq) });
    short(&play.ask("subscribe", params))
}

#[test]
fn a_client_from_a_core_that_is_ahead_gets_nothing_twice() {
    let mut play = Play::new();
    play.publish_some();
    play.shard.telemetry.ingest.head_seq.set(9);
    let params = json!({ "channels": ">", "policy": "all", "resume": resume_of("epoch", 8) });
    let text = json!({ "method": "subscribe", "params": params }).to_string();
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
    play.shard.handle_bytes(play.id, &mut frame, Now::default());
    play.read();
    assert!(!play.shard.is_pass_due(), "it waits for the batch, and costs nothing meanwhile");
    play.publish("trade", None, Kind::Update, "8");
    play.publish("trade", None, Kind::Update, "9");
    assert_eq!(short(&play.read()), ["9"]);
    let params = json!({ "channels": ">", "resume": resume_of("epoch", 99) });
    let messages = play.ask("subscribe", params);
    assert_eq!(messages[0]["result"][0]["why"], "ahead", "no core has come that far");
}

#[test]
fn a_client_that_is_ahead_of_a_server_of_a_stream_waits_for_it() {
    let mut play = Play::with(ShardSettings { is_shared: true, ..settings() });
    play.publish_some();
    let resume = json!({ "epoch": "epoch", "seq": 9 });
    let messages = play.ask("subscribe", json!({ "channels": ">", "resume": resume }));
    assert_eq!(messages[0]["result"][0]["resumed"], true);
    for data in ["8", "9", "10"] {
        play.publish("trade", None, Kind::Update, data);
    }
    let events: Vec<_> = play.read().iter().filter_map(|m| m["data"].as_u64()).collect();
    assert_eq!(events, [10], "it has what came before");
}

#[test]
fn numbers_that_are_no_events_are_no_loss_to_a_client_that_is_ahead() {
    let mut play = shared();
    go_on(&mut play, ">", 9);
    play.publish("quote", Some("A"), Kind::Update, "8");
    play.publish("trade", None, Kind::Update, "9");
    play.publish_at(11, "trade");
    assert_eq!(short(&play.read()), ["11"], "it has the quote");
}

#[test]
fn what_is_overwritten_before_a_client_that_is_ahead_was_sent_it_is_receipted() {
    let mut play = shared();
    go_on(&mut play, "trade", 9);
    play.publish("trade", None, Kind::Update, "8");
    play.publish("trade", None, Kind::Update, "9");
    play.overtake();
    play.publish("trade", None, Kind::Update, "210");
    let messages = short(&play.read());
    let gap = messages[0].strip_prefix("gap 10-").and_then(|rest| rest.strip_suffix(" slow"));
    assert!(gap.is_some(), "{messages:?}");
    assert_eq!(messages[1..], ["210"]);
}

#[test]
fn a_book_of_which_something_is_overwritten_before_it_was_sent_ends_the_connection() {
    let mut play = shared();
    go_on(&mut play, "book", 9);
    for data in ["8", "9", "10"] {
        play.publish("book", None, Kind::Update, data);
    }
    play.overtake();
    drain(&mut play.shard);
    let connection = play.shard.connection(play.id);
    assert!(connection.is_none_or(|connection| connection.is_closing()));
}

#[test]
fn a_client_that_is_ahead_and_names_its_set_in_parts_gets_nothing_that_it_has() {
    let mut play = shared();
    assert_eq!(go_on(&mut play, "trade", 10), ["reply 7", "replay_begin 7", "replay_end 7"]);
    play.publish("trade", None, Kind::Update, "8");
    assert_eq!(go_on(&mut play, "quote", 10), ["reply 8", "replay_begin 8", "replay_end 8"]);
    play.publish("trade", None, Kind::Update, "9");
    let messages = play.ask("unsubscribe", json!({ "channels": "quote" }));
    assert_eq!(short(&messages), ["reply 9"]);
    play.publish("trade", None, Kind::Update, "10");
    play.publish("trade", None, Kind::Update, "11");
    assert_eq!(short(&play.read()), ["11"]);
}

#[test]
fn a_client_that_waits_for_its_server_hears_that_it_is_alive() {
    let mut play = shared();
    go_on(&mut play, ">", 9);
    let at = |ms: u64| Now { monotonic_ns: ms * 1_000_000, unix_ns: 0 };
    (0..3_000).step_by(10).for_each(|ms| play.shard.handle_tick(at(ms)));
    let messages = short(&play.read());
    // That is what it has; what the server has is before that.
    assert!(!messages.is_empty() && messages.iter().all(|m| m == "heartbeat 9"), "{messages:?}");
    play.publish("trade", None, Kind::Update, "8");
    play.publish("trade", None, Kind::Update, "9");
    play.publish("trade", None, Kind::Update, "10");
    assert_eq!(short(&play.read()), ["10"]);
}

#[test]
fn the_place_of_an_event_stream_that_is_ahead_does_not_go_back() {
    let mut play = shared();
    let params = json!({ "channels": "trade", "resume": resume_of("epoch", 9) });
    let request = json!({ "method": "subscribe", "params": params }).to_string();
    play.shard.handle_stream(Member::anyone(), b"", &request, Now::default()).unwrap();
    let ids = |play: &mut Play| -> Vec<String> {
        let text = String::from_utf8(drain(&mut play.shard)).unwrap();
        assert!(!text.contains("\"gap\""), "{text}");
        text.lines().filter_map(|line| Some(line.strip_prefix("id: ")?.to_owned())).collect()
    };
    assert!(ids(&mut play).is_empty(), "its replay ends before it");
    for data in ["8", "9", "10"] {
        play.publish("trade", None, Kind::Update, data);
    }
    assert_eq!(ids(&mut play), ["epoch:10"]);
}
