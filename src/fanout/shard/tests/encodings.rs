//! What the encodings of clients change, and what not; the simulation compares their events.

use std::sync::Arc;

use super::super::*;
use super::{drain, pass, settings};
use crate::access::Member;
use crate::fanout::sequencer::Sequencer;
use crate::protocol::encoding::Encoding;
use crate::protocol::event::{Event, Kind};
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::frame::{Opcode, RSV1, write_masked};

/// A shard and what feeds it.
struct Play {
    shard: Shard,
    sequencer: Sequencer,
}

impl Play {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: ShardSettings) -> Self {
        let shard = Shard::new(settings, Arc::new(Telemetry::new(1)), 0);
        Self { shard, sequencer: Sequencer::new(1_000, 1_000) }
    }

    fn publish(&mut self, channel: &str, data: &str) {
        let data = data.as_bytes();
        let event = Event { channel, key: None, kind: Kind::Update, ts: None, data };
        self.sequencer.handle_event(&event, 7).unwrap();
        self.shard.handle_batch(&self.sequencer.next_batch().unwrap(), Now::default());
    }

    /// A client of `channels`, a list in JSON; returns the reply to its subscription.
    fn subscriber(&mut self, encoding: Encoding, channels: &str) -> (ConnectionId, Vec<u8>) {
        let id = self.shard.handle_open(Member::anyone(), encoding, Now::default());
        drain(&mut self.shard);
        (id, self.subscribe(id, channels))
    }

    fn subscribe(&mut self, id: ConnectionId, channels: &str) -> Vec<u8> {
        let text = format!(
            r#"{{"method":"subscribe","params":{{"channels":{channels},"snapshot":false}}}}"#
        );
        let mut frame = Vec::new();
        write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        self.shard.handle_bytes(id, &mut frame, Now::default());
        drain(&mut self.shard)
    }

    fn read(&mut self) -> Vec<u8> {
        drain(&mut self.shard)
    }

    fn counters(&self) -> &ShardCounters {
        self.shard.counters()
    }
}

const DEFLATE: Encoding = Encoding::Deflate { window_bits: 15 };

fn long(bytes: usize) -> String {
    format!("\"{}\"", "ab".repeat(bytes / 2))
}

/// Whether `bytes` hold `text` somewhere.
fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_message_is_compressed_once_for_all_who_read_it_so_and_never_for_others() {
    let mut play = Play::new();
    let (first, _) = play.subscriber(DEFLATE, r#""a""#);
    play.subscriber(DEFLATE, r#""a""#);
    play.subscriber(Encoding::Json, r#"["a","b"]"#);
    play.publish("a", &long(500));
    play.publish("b", &long(500));
    let bytes = play.read();
    let rsv1 = Opcode::Text as u8 | 0x80 | RSV1;
    assert_eq!(bytes.iter().filter(|&&byte| byte == rsv1).count(), 2, "each of the two got one");
    assert_eq!((play.counters().compressed.value(), play.counters().uncompressed.value()), (1, 0));
    let counters = play.counters();
    assert!(counters.compression_bytes_out.value() < counters.compression_bytes_in.value() / 4);
    play.publish("a", "1");
    assert!(has(&play.read(), r#""data":1}"#), "a short one comes as it is");
    assert_eq!(play.counters().uncompressed.value(), 1);
    assert_eq!(play.counters().encodings.at(1).value(), 2);
    play.shard.handle_end(first, CloseReason::PeerReset);
    assert_eq!(play.counters().encodings.at(1).value(), 1);
}

#[test]
fn what_is_longer_than_a_clients_window_comes_as_it_is_and_is_compressed_for_nobody() {
    let mut play = Play::new();
    play.subscriber(Encoding::Deflate { window_bits: 9 }, r#""a""#);
    play.publish("a", &long(600));
    assert!(has(&play.read(), "abab"));
    assert_eq!(play.counters().compressed.value(), 0);
    play.publish("a", &long(300));
    assert!(!has(&play.read(), "ababababababababab"));
    assert_eq!(play.counters().compressed.value(), 1);
}

#[test]
fn ids_of_channels_are_in_the_reply_once_and_of_new_channels_before_their_first_event() {
    let mut play = Play::new();
    play.publish("a.x", "1");
    play.publish("b.x", "2");
    let (id, reply) = play.subscriber(Encoding::Binary, r#"["a.*","a.x",">"]"#);
    let reply = String::from_utf8_lossy(&reply);
    for ids in [r#""ids":{}"#, r#""ids":{"a.x":0}"#, r#""ids":{"b.x":1}"#] {
        assert_eq!(reply.matches(ids).count(), 1, "{ids}: {reply}");
    }
    play.publish("c.x", "\"three\"");
    play.publish("d.x", "\"four\"");
    let bytes = play.read();
    let notice = r#"{"channel":"control","type":"channels","ids":{"c.x":2,"d.x":3}}"#;
    let at = bytes.windows(notice.len()).position(|window| window == notice.as_bytes());
    let event = bytes.windows(7).position(|window| window == b"\"three\"");
    assert!(at.unwrap() < event.unwrap());
    // A later subscription names what it matches, and what came in between was told.
    play.publish("e.x", "5");
    let reply = play.subscribe(id, r#""e.x""#);
    let reply = String::from_utf8_lossy(&reply);
    assert!(reply.contains(r#""ids":{"e.x":4}"#), "{reply}");
    let (_, reply) = play.subscriber(Encoding::Json, r#""a.x""#);
    assert!(!has(&reply, "ids"), "who reads names needs none");
}

#[test]
fn a_form_that_begins_late_has_what_the_log_has() {
    let mut play = Play::new();
    play.publish("a", "\"before\"");
    let id = play.shard.handle_open(Member::anyone(), Encoding::Binary, Now::default());
    drain(&mut play.shard);
    let resume =
        r#"{"method":"subscribe","params":{"channels":"a","resume":{"epoch":"epoch","seq":0}}}"#;
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Text, resume.as_bytes(), [1, 2, 3, 4]);
    play.shard.handle_bytes(id, &mut frame, Now::default());
    let bytes = play.read();
    assert!(has(&bytes, "\"before\"") && !has(&bytes, r#""data":"before""#));
}

#[test]
fn who_is_first_to_read_a_form_waits_until_it_is_filled_and_nobody_else_does() {
    let mut play = Play::with(ShardSettings { fill_bytes: 1_000, ..settings() });
    play.subscriber(Encoding::Json, r#""a""#);
    for _ in 0..100 {
        play.publish("a", &long(200));
        play.read();
    }
    play.shard.handle_open(Member::anyone(), Encoding::Binary, Now::default());
    let mut turns = 0;
    loop {
        play.publish("a", r#""as ever""#);
        let bytes = pass(&mut play.shard, usize::MAX);
        assert!(has(&bytes, "as ever"), "those who read JSON are sent each event at its turn");
        turns += 1;
        if !play.shard.is_filling(Form::Binary) {
            assert!(has(&bytes, "welcome"));
            break;
        }
        assert!(!has(&bytes, "welcome"), "it is sent nothing before there is all of it");
    }
    assert!((20..40).contains(&turns), "{turns} turns for 27,000 bytes, 1,000 of them at each");
}

#[test]
fn a_form_is_filled_at_once_where_it_is_there_from_the_start() {
    let forms = vec![Form::Binary];
    let mut play = Play::with(ShardSettings { fill_bytes: 1_000, forms, ..settings() });
    (0..100).for_each(|_| play.publish("a", &long(200)));
    play.shard.handle_open(Member::anyone(), Encoding::Binary, Now::default());
    assert!(!play.shard.is_filling(Form::Binary));
    assert!(has(&pass(&mut play.shard, usize::MAX), "welcome"));
}

#[test]
fn a_form_ends_when_nobody_has_read_it_for_long_and_begins_anew() {
    let second_ns = 1_000_000_000;
    let forms = vec![Form::Sse];
    let mut play = Play::with(ShardSettings { form_idle_ns: 5 * second_ns, forms, ..settings() });
    play.publish("a", r#""kept""#);
    let (id, _) = play.subscriber(Encoding::Binary, r#""a""#);
    let mut now = Now::default();
    let mut wait = |play: &mut Play, seconds: u64| {
        for _ in 0..seconds * 20 {
            now.monotonic_ns += second_ns / 20;
            play.shard.handle_tick(now);
            play.read();
        }
    };
    wait(&mut play, 20);
    assert_eq!(play.shard.form_count(), 2, "somebody reads it");
    play.shard.handle_end(id, CloseReason::PeerReset);
    wait(&mut play, 2);
    assert_eq!(play.shard.form_count(), 2, "it may come back");
    wait(&mut play, 10);
    assert_eq!(play.shard.form_count(), 1, "what was there from the start stays");
    play.publish("a", r#""new""#);
    play.subscriber(Encoding::Binary, r#""a""#);
    play.publish("a", r#""newest""#);
    assert!(has(&play.read(), r#""newest""#));
}

#[test]
fn ids_of_very_many_channels_come_in_several_messages_and_before_the_first_event() {
    let mut play = Play::new();
    (0..600).for_each(|number| play.publish(&format!("c.{number}"), "1"));
    let id = play.shard.handle_open(Member::anyone(), Encoding::Binary, Now::default());
    play.read();
    let mut frame = Vec::new();
    let text = br#"{"method":"subscribe","params":{"channels":["c.7",">"]}}"#;
    write_masked(&mut frame, Opcode::Text, text, [1, 2, 3, 4]);
    play.shard.handle_bytes(id, &mut frame, Now::default());
    play.publish("c.599", r#""first""#);
    play.publish("late", r#""second""#);
    let bytes = play.read();
    let text = String::from_utf8_lossy(&bytes);
    let ids = |text: &str| text.split(r#""ids":{"#).skip(1).map(count_ids).collect::<Vec<_>>();
    let (before, _) = text.split_once(r#""first""#).unwrap();
    assert_eq!(ids(before), [1, 255, 256, 89]);
    assert_eq!(ids(&text), ids(before), "each id once");
    for number in 0..600 {
        assert!(before.contains(&format!(r#""c.{number}":{number}"#)), "{number}");
    }
    assert!(before.contains(r#""late":600"#));
}

/// Ids of a list whose beginning was cut off.
fn count_ids(text: &str) -> usize {
    text.split('}').next().map_or(0, |list| list.matches(':').count())
}
