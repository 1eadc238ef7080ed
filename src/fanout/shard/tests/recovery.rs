//! Snapshots, replays and hashes, one at a time; the simulation mixes them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::*;
use super::{drain, pass, settings};
use crate::access::Member;
use crate::fanout::Now;
use crate::fanout::sequencer::{Place, Sequencer};
use crate::handoff::batch::NewSlot;
use crate::protocol::encoding::Encoding;
use crate::protocol::event::{Event, Kind};
use crate::protocol::ws::frame::{Opcode, payload, write_masked};

/// A shard, what feeds it, and one client.
pub(super) struct Play {
    pub(super) shard: Shard,
    pub(super) sequencer: Sequencer,
    pub(super) id: ConnectionId,
}

impl Play {
    pub(super) fn with(settings: ShardSettings) -> Self {
        let mut shard = Shard::new(settings, Arc::new(Telemetry::new(1)), 0);
        let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
        drain(&mut shard);
        Self { shard, sequencer: Sequencer::new(10, 10), id }
    }

    pub(super) fn new() -> Self {
        Self::with(settings())
    }

    pub(super) fn publish(&mut self, channel: &str, key: Option<&str>, kind: Kind, data: &str) {
        let event = Event { channel, key, kind, ts: None, data: data.as_bytes() };
        self.sequencer.handle_event(&event, 7).unwrap();
        self.shard.handle_batch(&self.sequencer.next_batch().unwrap(), Now::default());
    }

    /// An event of a stream, at a place of its own.
    pub(super) fn publish_at(&mut self, seq: u64, channel: &str) {
        let data = seq.to_string();
        let event =
            Event { channel, key: None, kind: Kind::Update, ts: None, data: data.as_bytes() };
        let place = Place { seq, prev: None, ts_in: 7 };
        self.sequencer.handle_placed(&event, place).unwrap();
        self.shard.handle_batch(&self.sequencer.next_batch().unwrap(), Now::default());
    }

    /// Two keys, of which one moved, a book, and a stream: events 1 to 7.
    pub(super) fn publish_some(&mut self) {
        self.publish("quote", Some("A"), Kind::Update, "1");
        self.publish("quote", Some("B"), Kind::Update, "2");
        self.publish("quote", Some("A"), Kind::Update, "3");
        self.publish("book", None, Kind::Update, "4");
        self.publish("book", None, Kind::Snapshot, "5");
        self.publish("book", None, Kind::Update, "6");
        self.publish("trade", None, Kind::Update, "7");
    }

    pub(super) fn ask(&mut self, method: &str, params: Value) -> Vec<Value> {
        self.tell(method, params);
        self.read()
    }

    /// Asks, and reads nothing yet.
    pub(super) fn tell(&mut self, method: &str, params: Value) {
        let text = json!({ "method": method, "params": params, "req_id": 9 }).to_string();
        let mut frame = Vec::new();
        write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        self.shard.handle_bytes(self.id, &mut frame, Now::default());
    }

    /// More than the log holds, on a channel of its own.
    pub(super) fn overtake(&mut self) {
        let long = format!("\"{}\"", "x".repeat(60_000));
        for _ in 0..200 {
            self.publish("noise", None, Kind::Update, &long);
        }
    }

    /// Everything that is to be sent.
    pub(super) fn read(&mut self) -> Vec<Value> {
        let bytes = drain(&mut self.shard);
        let (mut at, mut messages) = (0, Vec::new());
        while at < bytes.len() {
            let len = match bytes[at + 1] {
                126 => 4 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])),
                len => 2 + usize::from(len),
            };
            messages.push(serde_json::from_slice(payload(&bytes[at..at + len])).unwrap());
            at += len;
        }
        messages
    }
}

/// What came, shortened: `seq` of events, and the types of notices with theirs.
pub(super) fn short(messages: &[Value]) -> Vec<String> {
    let short = |message: &Value| match (&message["success"], message["channel"].as_str()) {
        (Value::Bool(_), _) => format!("reply {}", message["result"][0]["seq"]),
        (_, Some("control")) if message["type"] == "gap" => {
            let (from, to, cause) = (&message["from"], &message["to"], &message["cause"]);
            format!("gap {from}-{to} {}", cause.as_str().unwrap())
        }
        (_, Some("control")) => format!("{} {}", message["type"].as_str().unwrap(), message["seq"]),
        _ => message["seq"].to_string(),
    };
    messages.iter().map(short).collect()
}

#[test]
fn a_late_client_gets_what_counts_and_then_what_comes() {
    let mut play = Play::new();
    play.publish_some();
    let messages = play.ask("subscribe", json!({ "channels": ">" }));
    let expected =
        ["reply 7", "snapshot_begin 7", "3", "2", "5", "6", "snapshot_end 7"].map(str::to_owned);
    assert_eq!(short(&messages), expected);
    assert_eq!((&messages[1]["channels"], &messages[1]["req_id"]), (&json!([">"]), &json!(9)));
    assert_eq!(messages[6]["req_id"], 9);
    play.publish("trade", None, Kind::Update, "8");
    assert_eq!(short(&play.read()), ["8"]);
}

#[test]
fn what_has_no_key_and_is_no_book_is_in_a_snapshot_only_where_it_conflates() {
    let mut play = Play::new();
    play.publish_some();
    for (policy, events) in [("all", &[][..]), ("latest", &["7"])] {
        let params = json!({ "channels": "trade", "policy": policy });
        let messages = short(&play.ask("subscribe", params));
        assert_eq!(messages[2..messages.len() - 1], *events, "{policy}");
    }
}

#[test]
fn a_snapshot_survives_the_log() {
    let mut play = Play::new();
    play.publish_some();
    let long = format!("\"{}\"", "x".repeat(60_000));
    for _ in 0..200 {
        play.publish("trade", None, Kind::Update, &long);
    }
    assert!(play.shard.store.log.tail() > 7, "the log has wrapped");
    let messages = play.ask("subscribe", json!({ "channels": ["quote", "book"] }));
    let events = ["reply 207", "snapshot_begin 207", "3", "2", "5", "6", "snapshot_end 207"];
    assert_eq!(short(&messages), events);
    let resume = json!({ "epoch": "epoch", "seq": 4 });
    let messages =
        play.ask("subscribe", json!({ "channels": ["quote", "book"], "resume": resume }));
    assert_eq!(messages[0]["result"][0]["resumed"], false);
    assert_eq!(messages[0]["result"][0]["why"], "too_old");
    // The quote has nothing new, and of the book events may be missing.
    let events =
        ["reply 207", "snapshot_begin 207", "gap 5-207 too_old", "5", "6", "snapshot_end 207"];
    assert_eq!(short(&messages), events);
}

#[test]
fn a_client_that_comes_back_goes_on_where_it_was() {
    let mut play = Play::new();
    play.publish_some();
    let resume = json!({ "epoch": "epoch", "seq": 2 });
    let params = json!({ "channels": ">", "policy": "all", "resume": resume });
    let messages = play.ask("subscribe", params);
    assert_eq!(messages[0]["result"][0]["resumed"], true);
    let expected = ["reply 7", "replay_begin 7", "3", "4", "5", "6", "7", "replay_end 7"];
    assert_eq!(short(&messages), expected);
    play.publish("quote", Some("A"), Kind::Update, "8");
    assert_eq!(short(&play.read()), ["8"]);
}

#[test]
fn a_book_goes_on_at_its_newest_snapshot_after_a_replay_that_the_log_has_overtaken() {
    for policy in ["all", "auto", "unsubscribe"] {
        let mut play = Play::new();
        play.publish_some();
        // It has the snapshot 5, and lacks the change 6.
        let resume = resume_of("epoch", 5);
        let params = json!({ "channels": "book", "policy": policy, "resume": resume });
        play.tell("subscribe", params);
        play.overtake();
        play.publish("book", None, Kind::Update, "208");
        play.publish("book", None, Kind::Snapshot, "209");
        play.publish("book", None, Kind::Update, "210");
        let messages = play.read();
        assert_eq!(messages[0]["result"][0]["resumed"], true);
        let begin = ["reply 7", "replay_begin 7", "gap 6-7 slow", "replay_end 7"];
        let live = ["gap 8-210 snapshot", "209", "210"];
        assert_eq!(short(&messages), [&begin[..], &live[..]].concat(), "{policy}");
        // The changes 6 and 208.
        assert_eq!((&messages[2]["missed"], &messages[4]["missed"]), (&json!(1), &json!(1)));
        play.publish("book", None, Kind::Update, "211");
        assert_eq!(short(&play.read()), ["211"]);
    }
}

#[test]
fn a_book_goes_on_at_its_newest_snapshot_when_the_log_overtakes_a_change_of_the_set() {
    // There is no pass meanwhile.
    let settings = ShardSettings { unsent_bytes_max: usize::MAX, ..settings() };
    let mut play = Play::with(settings);
    play.publish_some();
    play.ask("subscribe", json!({ "channels": "book", "policy": "all" }));
    play.publish("book", None, Kind::Update, "8");
    play.tell("subscribe", json!({ "channels": "x", "policy": "all", "snapshot": false }));
    play.overtake();
    play.publish("book", None, Kind::Update, "209");
    play.publish("book", None, Kind::Snapshot, "210");
    let messages = play.read();
    assert_eq!(short(&messages), ["reply 8", "gap 8-8 slow", "gap 9-210 snapshot", "210"]);
    assert_eq!((&messages[1]["missed"], &messages[2]["missed"]), (&json!(1), &json!(1)));
}

/// Events and receipts among what came.
fn events(messages: &[Value]) -> Vec<String> {
    let is_event = |what: &String| what.starts_with("gap") || what.parse::<u64>().is_ok();
    short(messages).into_iter().filter(is_event).collect()
}

#[test]
fn a_book_that_is_whole_loses_nothing_when_something_else_joins_the_set() {
    let sampled = json!({ "channels": "quote", "policy": "latest", "interval_ms": 100 });
    let moving = json!({ "channels": "quote" });
    // Others conflate on their own terms, or are replaced before their snapshot has come to them.
    for (before, joins) in [(Some(sampled), json!({ "channels": "trade" })), (None, moving)] {
        let mut play = Play::new();
        play.publish_some();
        if let Some(before) = before {
            play.ask("subscribe", before);
        }
        play.ask("subscribe", json!({ "channels": "book", "policy": "close" }));
        play.tell("subscribe", joins);
        play.publish("quote", Some("A"), Kind::Update, "8");
        play.publish("quote", Some("B"), Kind::Update, "9");
        play.publish("book", None, Kind::Update, "10");
        play.publish("book", None, Kind::Snapshot, "11");
        let came = events(&play.read());
        assert!(came.ends_with(&["10".into(), "11".into()]), "{came:?}");
        assert!(!came.iter().any(|what| what.starts_with("gap")), "{came:?}");
    }
}

#[test]
fn a_book_of_which_a_replay_has_left_out_something_goes_on_at_its_snapshot_on_any_terms() {
    for policy in ["all", "close"] {
        let mut play = Play::new();
        play.publish_some();
        let resume = resume_of("epoch", 5);
        let params = json!({ "channels": "book", "policy": "latest", "resume": resume });
        play.tell("subscribe", params);
        let params = json!({ "channels": "book", "policy": policy, "snapshot": false });
        play.tell("subscribe", params);
        // The change 6 is replaced before it is sent.
        play.publish("book", None, Kind::Update, "8");
        play.publish("book", None, Kind::Snapshot, "9");
        assert_eq!(events(&play.read()), ["gap 8-9 snapshot", "9"], "{policy}");
    }
}

#[test]
fn another_epoch_is_receipted_and_answered_with_a_snapshot() {
    let mut play = Play::new();
    play.publish_some();
    let resume = json!({ "epoch": "before", "seq": 5 });
    let messages = play.ask("subscribe", json!({ "channels": ">", "resume": resume }));
    assert_eq!(messages[0]["result"][0]["why"], "epoch");
    let expected =
        ["reply 7", "snapshot_begin 7", "gap 1-7 epoch", "3", "2", "5", "6", "snapshot_end 7"];
    assert_eq!(short(&messages), expected);
    assert_eq!(messages[2]["channels"], json!(["book", "trade"]), "the quote lost nothing");
    assert_eq!(messages[2].get("missed"), None, "nobody knows how many");
    let params = json!({ "channels": "trade", "snapshot": false, "resume": resume_of("x", 1) });
    let messages = short(&play.ask("subscribe", params));
    assert_eq!(messages, ["reply 7", "replay_begin 7", "gap 1-7 epoch", "replay_end 7"]);
}

pub(super) fn resume_of(epoch: &str, seq: u64) -> Value {
    json!({ "epoch": epoch, "seq": seq })
}

#[test]
fn a_place_beside_numbers_that_are_no_events_is_not_too_old() {
    let mut play = Play::new();
    play.publish_at(5, "trade");
    let go_on = |play: &mut Play, seq| {
        let params = json!({ "channels": "trade", "resume": resume_of("epoch", seq) });
        short(&play.ask("subscribe", params))
    };
    for place in [0, 2, 4] {
        let expected = ["reply 5", "replay_begin 5", "5", "replay_end 5"];
        assert_eq!(go_on(&mut play, place), expected, "{place}");
    }
    // The same behind what was read at a start.
    let sparse = Batch { is_sparse: true, ..Batch::default() };
    play.shard.handle_batch(&sparse, Now::default());
    play.publish_at(9, "trade");
    play.read();
    for place in [5, 7, 8] {
        let expected = ["reply 9", "replay_begin 9", "9", "replay_end 9"];
        assert_eq!(go_on(&mut play, place), expected, "{place}");
    }
    assert_eq!(go_on(&mut play, 4)[2], "gap 5-9 too_old");
}

#[test]
fn what_a_journal_has_kept_is_in_snapshots_and_not_replayed() {
    let mut play = Play::new();
    play.publish("quote", Some("A"), Kind::Update, "1");
    for data in ["2", "3"] {
        let event = Event {
            channel: "trade",
            key: None,
            kind: Kind::Update,
            ts: None,
            data: data.as_bytes(),
        };
        play.sequencer.handle_event(&event, 7).unwrap();
    }
    let mut batch = Arc::into_inner(play.sequencer.next_batch().unwrap()).unwrap();
    batch.is_sparse = true;
    play.shard.handle_batch(&batch, Now::default());
    play.publish("trade", None, Kind::Update, "4");
    let params =
        |seq| json!({ "channels": ">", "policy": "all", "resume": resume_of("epoch", seq) });
    let messages = play.ask("subscribe", params(2));
    assert_eq!(messages[0]["result"][0]["why"], "too_old");
    let expected = ["reply 4", "snapshot_begin 4", "gap 3-4 too_old", "snapshot_end 4"];
    assert_eq!(short(&messages), expected);
    let messages = short(&play.ask("subscribe", params(3)));
    assert_eq!(messages, ["reply 4", "replay_begin 4", "4", "replay_end 4"]);
}

#[test]
fn a_book_whose_beginning_is_lost_is_receipted_until_its_next_snapshot() {
    let mut play = Play::new();
    play.publish("book", None, Kind::Update, "1");
    let broken = Batch { is_sparse: true, books_broken: vec![0], ..Batch::default() };
    play.shard.handle_batch(&broken, Now::default());
    play.publish("book", None, Kind::Update, "2");
    let messages = play.ask("subscribe", json!({ "channels": "book" }));
    let expected = ["reply 2", "snapshot_begin 2", "gap 1-2 forgotten", "snapshot_end 2"];
    assert_eq!(short(&messages), expected);
    let messages = play.ask("verify", json!({ "channel": "book" }));
    assert_eq!(messages[0]["error"]["code"], "forgotten");
    play.publish("book", None, Kind::Snapshot, "3");
    play.read();
    let messages = short(&play.ask("subscribe", json!({ "channels": "book" })));
    assert_eq!(messages, ["reply 3", "snapshot_begin 3", "3", "snapshot_end 3"]);
    let messages = play.ask("verify", json!({ "channel": "book" }));
    assert_eq!(messages[0]["result"]["values"], 1);
}

#[test]
fn what_a_stream_has_lost_is_told_to_everybody_and_nobody_goes_on_across_it() {
    let mut play = Play::new();
    play.publish_some();
    play.ask("subscribe", json!({ "channels": ["quote", "book"], "policy": "all" }));
    play.sequencer.handle_loss((8, 19));
    play.publish("book", None, Kind::Update, "20");
    let messages = play.read();
    assert_eq!(short(&messages), ["gap 8-19 expired", "20"]);
    assert_eq!(messages[0]["channels"], json!(["book", "quote"]));
    assert_eq!((&messages[0]["missed"], &messages[1]["prev"]), (&Value::Null, &json!(6)));
    let resumed = |play: &mut Play, seq| {
        let resume = json!({ "epoch": "epoch", "seq": seq });
        play.ask("subscribe", json!({ "channels": "trade", "resume": resume }))
    };
    // It may have had an event in the range, although none is known.
    let messages = resumed(&mut play, 7);
    assert_eq!(messages[0]["result"][0]["why"], "too_old");
    let expected = ["reply 20", "snapshot_begin 20", "gap 8-20 too_old", "snapshot_end 20"];
    assert_eq!(short(&messages), expected);
    assert_eq!(messages[2]["channels"], json!(["trade"]));
    assert_eq!(resumed(&mut play, 19)[0]["result"][0]["resumed"], true);
    // A book of which something is lost goes on with its next snapshot.
    assert_eq!(play.ask("verify", json!({ "channel": "book" }))[0]["error"]["code"], "forgotten");
    play.publish("book", None, Kind::Snapshot, "21");
    assert_eq!(play.ask("verify", json!({ "channel": "book" }))[0]["result"]["values"], 1);
}

#[test]
fn a_key_that_a_journal_only_names_is_receipted_and_nothing_of_others_is_sent_for_it() {
    let mut play = Play::new();
    play.publish("trade", None, Kind::Update, "1");
    let named = Batch {
        channels: vec!["quote".into()],
        slots: vec![NewSlot { channel: 1, key: Some("A".into()) }],
        is_sparse: true,
        ..Batch::default()
    };
    play.shard.handle_batch(&named, Now::default());
    let messages = play.ask("subscribe", json!({ "channels": "quote" }));
    let expected = ["reply 1", "snapshot_begin 1", "gap 1-1 forgotten", "snapshot_end 1"];
    assert_eq!(short(&messages), expected);
    let messages = play.ask("verify", json!({ "channel": "quote" }));
    assert_eq!(messages[0]["error"]["code"], "forgotten");
}

#[test]
fn without_a_snapshot_a_lost_place_is_receipted_also_for_what_conflates() {
    let mut play = Play::new();
    play.publish_some();
    let params = json!({ "channels": "quote", "snapshot": false, "resume": resume_of("x", 1) });
    let messages = play.ask("subscribe", params);
    assert_eq!(short(&messages), ["reply 7", "replay_begin 7", "gap 1-7 epoch", "replay_end 7"]);
    assert_eq!(messages[2]["channels"], json!(["quote"]));
}

#[test]
fn policy_close_lives_through_a_book_that_begins_anew_during_its_snapshot() {
    let mut play = Play::new();
    play.publish_some();
    let params = json!({ "channels": "book", "policy": "close" });
    let text = json!({ "method": "subscribe", "params": params }).to_string();
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
    play.shard.handle_bytes(play.id, &mut frame, Now::default());
    play.publish("book", None, Kind::Update, "8");
    play.publish("book", None, Kind::Snapshot, "9");
    let expected = ["reply 7", "snapshot_begin 7", "gap 8-9 snapshot", "9", "snapshot_end 9"];
    assert_eq!(short(&play.read()), expected);
}

#[test]
fn requests_that_wait_hold_one_set_together() {
    let mut play = Play::new();
    play.publish_some();
    let say = |play: &mut Play, channels: &str| {
        let text = json!({ "method": "subscribe", "params": { "channels": channels } }).to_string();
        let mut frame = Vec::new();
        write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        play.shard.handle_bytes(play.id, &mut frame, Now::default());
    };
    for channels in ["quote", "book", "trade", "x.*", "y.*"] {
        say(&mut play, channels);
    }
    play.shard.cohorts.reap(&mut play.shard.channels);
    assert_eq!(play.shard.cohorts.len(), 2, "the empty one, and the one to come");
    let events: Vec<_> = short(&play.read()).into_iter().filter(|m| m.len() == 1).collect();
    assert_eq!(events, ["3", "2", "5", "6"]);
}

#[test]
fn a_hash_is_of_the_messages_that_count() {
    let mut play = Play::new();
    play.publish_some();
    let crc = |messages: &[&str]| {
        let mut crc = crc32fast::Hasher::new();
        messages.iter().for_each(|message| crc.update(message.as_bytes()));
        format!("{:08x}", crc.finalize())
    };
    let quote = |key: &str, seq: u64, prev: u64| {
        format!(
            "{{\"channel\":\"quote\",\"type\":\"update\",\"key\":\"{key}\",\"seq\":{seq},\
             \"prev\":{prev},\"ts_in\":7,\"data\":{seq}}}"
        )
    };
    let a = format!("\"A\":{}\n", crc(&[&quote("A", 3, 2)]));
    let b = format!("\"B\":{}\n", crc(&[&quote("B", 2, 1)]));
    let messages = play.ask("verify", json!({ "channel": "quote" }));
    let expected = json!({"channel": "quote", "seq": 3, "values": 2, "hash": crc(&[&a, &b])});
    assert_eq!(messages[0]["result"], expected, "{messages:?}");
    let book = |kind: &str, seq: u64, prev: u64| {
        format!(
            "{{\"channel\":\"book\",\"type\":\"{kind}\",\"seq\":{seq},\"prev\":{prev},\
             \"ts_in\":7,\"data\":{seq}}}"
        )
    };
    let line = format!("null:{}\n", crc(&[&book("snapshot", 5, 4), &book("update", 6, 5)]));
    let messages = play.ask("verify", json!({ "channel": "book" }));
    let expected = json!({"channel": "book", "seq": 6, "values": 1, "hash": crc(&[&line])});
    assert_eq!(messages[0]["result"], expected);
    let messages = play.ask("verify", json!({ "channel": "trade" }));
    assert_eq!(
        (&messages[0]["result"]["values"], &messages[0]["result"]["hash"]),
        (&json!(0), &json!("00000000"))
    );
    for (channel, code) in [("quote.*", "channel_invalid"), ("none", "channel_unknown")] {
        let messages = play.ask("verify", json!({ "channel": channel }));
        assert_eq!(messages[0]["error"]["code"], code);
    }
}

#[test]
fn what_is_unsubscribed_in_the_middle_of_a_snapshot_stops() {
    let mut play = Play::new();
    play.publish_some();
    let say = |play: &mut Play, method: &str, channels: &str| {
        let text = json!({ "method": method, "params": { "channels": channels } }).to_string();
        let mut frame = Vec::new();
        write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        play.shard.handle_bytes(play.id, &mut frame, Now::default());
    };
    say(&mut play, "subscribe", ">");
    say(&mut play, "subscribe", "trade");
    say(&mut play, "unsubscribe", ">");
    let expected = [
        "reply 7",
        "reply 7",
        "reply 7",
        "snapshot_begin 7",
        "snapshot_end 7",
        "snapshot_begin 7",
        "snapshot_end 7",
    ];
    assert_eq!(short(&play.read()), expected);
}

#[test]
fn a_sampled_snapshot_is_whole_only_after_the_tick_that_brings_what_has_replaced_its_parts() {
    let mut play = Play::new();
    play.publish("book", None, Kind::Snapshot, "1");
    let params = json!({ "channels": "book", "policy": "latest", "interval_ms": 100 });
    let text = json!({ "method": "subscribe", "params": params }).to_string();
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
    play.shard.handle_bytes(play.id, &mut frame, Now::default());
    // Before the snapshot has begun its only frame is replaced.
    play.publish("book", None, Kind::Snapshot, "2");
    assert_eq!(short(&play.read()), ["reply 1", "snapshot_begin 1"]);
    play.shard.handle_tick(Now { monotonic_ns: 200_000_000, unix_ns: 200_000_000 });
    assert_eq!(short(&play.read()), ["2", "snapshot_end 2"]);
}

#[test]
fn a_snapshot_is_whole_only_with_the_book_that_was_skipped_before_it_was_sent() {
    let mut play = Play::new();
    play.publish("book", None, Kind::Snapshot, "1");
    play.tell("subscribe", json!({ "channels": "book", "policy": "all", "max_lag_bytes": 1_024 }));
    // Before the snapshot has begun its only frame is replaced, and then the client reads no more.
    play.publish("book", None, Kind::Snapshot, "2");
    let is_replaced = |play: &Play| {
        let lag = play.shard.connection(play.id).unwrap().lag.as_ref();
        lag.is_some_and(|lag| !lag.pending.is_empty())
    };
    while !is_replaced(&play) {
        pass(&mut play.shard, usize::MAX);
    }
    pass(&mut play.shard, 0);
    play.publish("book", None, Kind::Snapshot, &format!("\"{}\"", "x".repeat(1_200)));
    play.shard.handle_writable(play.id);
    assert_eq!(short(&play.read()), ["gap 2-3 max_lag_bytes", "3", "snapshot_end 3"]);
}
