//! What a shard must hold against any input, checked on one without sockets.

use super::super::*;
use super::{drain, pass, shard};
use crate::access::Member;
use crate::fanout::Now;
use crate::fanout::retained::Retained;
use crate::fanout::sequencer::Sequencer;
use crate::limits::{
    BATCH_EVENTS_MAX, OWED_BYTES_MAX, READ_BYTES, READ_BYTES_LAGGING, TURN_BYTES_MAX,
};
use crate::protocol::encoding::Encoding;
use crate::protocol::event::{Event, Kind};
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::frame::{Opcode, write_masked};
use crate::protocol::ws::reader::{Message, Reader, Role};

fn say(shard: &mut Shard, id: ConnectionId, text: &str) {
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
    shard.handle_bytes(id, &mut frame, Now::default());
}

fn subscribe(shard: &mut Shard, id: ConnectionId, channel: &str) {
    let params = format!(r#"{{"channels":["{channel}"],"snapshot":false}}"#);
    say(shard, id, &format!(r#"{{"method":"subscribe","params":{params}}}"#));
}

fn event(sequencer: &mut Sequencer, channel: &str, key: Option<&str>, data: &str) {
    let event = Event { channel, key, kind: Kind::Update, ts: None, data: data.as_bytes() };
    sequencer.handle_event(&event, 1_700_000_000_000_000_000).unwrap();
}

#[test]
fn a_turn_of_tiny_events_with_long_names_is_still_in_the_log_when_it_is_flushed() {
    let (mut shard, mut sequencer) = (shard(), Sequencer::new(10, 10));
    let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    subscribe(&mut shard, id, ">");
    drain(&mut shard);
    let (channel, key) = ("c".repeat(255), "\u{1}".repeat(255));
    let (mut appended, mut events) = (0, 0);
    for _ in 0..64 {
        if appended >= TURN_BYTES_MAX {
            break;
        }
        for _ in 0..BATCH_EVENTS_MAX {
            event(&mut sequencer, &channel, Some(&key), "1");
            events += 1;
        }
        appended += shard.handle_batch(&sequencer.next_batch().unwrap(), Now::default());
    }
    let mut bytes = drain(&mut shard);
    let (mut reader, mut at, mut seq) = (Reader::new(Role::Client, 4_096), 0, 0);
    loop {
        let mut used = 0;
        match reader.next_message(&mut bytes[at..], &mut used).unwrap() {
            Some(Message::Text(text)) => {
                seq += 1;
                assert!(text.contains(&format!("\"seq\":{seq},")), "{text}");
            }
            Some(other) => panic!("{other:?}"),
            None => break,
        }
        at += used;
    }
    assert_eq!(seq, events);
}

#[test]
fn sets_that_nobody_holds_are_forgotten_although_the_feed_is_quiet() {
    let mut shard = shard();
    let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    for number in 0..1_000 {
        subscribe(&mut shard, id, &format!("a.{number}"));
        drain(&mut shard);
        shard.handle_tick(Now::default());
        assert!(shard.cohorts.len() <= 3, "{} sets after {number} commands", shard.cohorts.len());
    }
}

#[test]
fn a_client_that_asks_on_leaves_nothing_behind_in_its_cohort() {
    let (mut shard, mut sequencer) = (shard(), Sequencer::new(10, 10));
    let sampled = r#"{"method":"subscribe",
        "params":{"channels":["quiet"],"snapshot":false,"interval_ms":1000}}"#;
    let first = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    say(&mut shard, first, sampled);
    event(&mut sequencer, "other", None, "1");
    shard.handle_batch(&sequencer.next_batch().unwrap(), Now::default());
    let second = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    say(&mut shard, second, sampled);
    for _ in 0..100 {
        say(&mut shard, second, r#"{"method":"ping"}"#);
        drain(&mut shard);
    }
    let cohort = shard.cohorts.cohort(shard.connection(second).unwrap().cohort);
    assert_eq!((cohort.members.len(), cohort.joined.len()), (2, 0));
}

#[test]
fn receipts_for_many_lost_values_are_not_collected_in_memory() {
    let (mut shard, mut sequencer) = (shard(), Sequencer::new(10, 10_000));
    shard.store.retained = Retained::new(0);
    let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    subscribe(&mut shard, id, "a");
    drain(&mut shard);
    for number in 0..5_000 {
        event(&mut sequencer, "a", Some(&number.to_string()), "1");
        if number % 1_000 == 999 {
            shard.handle_batch(&sequencer.next_batch().unwrap(), Now::default());
            pass(&mut shard, 10);
        }
    }
    for _ in 0..10 {
        event(&mut sequencer, "b", None, &format!("\"{}\"", "x".repeat(900 << 10)));
        shard.handle_batch(&sequencer.next_batch().unwrap(), Now::default());
    }
    shard.handle_writable(id);
    shard.keep_up(id);
    assert!(shard.connection(id).unwrap().owed.bytes().len() < OWED_BYTES_MAX);
    let told = String::from_utf8_lossy(&drain(&mut shard)).matches(r#""missed":1,"#).count();
    assert_eq!(told, 4_999, "all but the one that was begun");
}

#[test]
fn a_client_that_is_in_the_middle_of_a_large_event_may_ask() {
    let (mut shard, mut sequencer) = (shard(), Sequencer::new(10, 10));
    let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    subscribe(&mut shard, id, ">");
    drain(&mut shard);
    event(&mut sequencer, "a", None, &format!("\"{}\"", "x".repeat(900 << 10)));
    shard.handle_batch(&sequencer.next_batch().unwrap(), Now::default());
    pass(&mut shard, 10_000);
    assert!(shard.connection(id).unwrap().owed.bytes().len() > OWED_BYTES_MAX);
    for _ in 0..10 {
        say(&mut shard, id, r#"{"method":"ping"}"#);
    }
    assert!(!shard.connection(id).unwrap().is_closing());
    for _ in 0..10_000 {
        say(&mut shard, id, r#"{"method":"ping"}"#);
    }
    assert!(shard.connection(id).unwrap().is_closing(), "it never reads the answers");
}

#[test]
fn one_long_answer_does_not_close_a_client_that_reads() {
    let mut shard = shard();
    let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    for number in 0..1_024 {
        subscribe(&mut shard, id, &format!("{}{number:04}", "x".repeat(251)));
        drain(&mut shard);
    }
    say(&mut shard, id, r#"{"method":"list"}"#);
    assert!(shard.connection(id).unwrap().owed.bytes().len() > OWED_BYTES_MAX);
    drain(&mut shard);
    say(&mut shard, id, r#"{"method":"ping"}"#);
    assert!(!shard.connection(id).unwrap().is_closing());
}

#[test]
fn a_peer_that_ends_right_behind_its_close_frame_gets_ours() {
    let mut shard = shard();
    let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    drain(&mut shard);
    let mut close = Vec::new();
    write_masked(&mut close, Opcode::Close, &1000_u16.to_be_bytes(), [1, 2, 3, 4]);
    shard.handle_bytes(id, &mut close, Now::default());
    shard.handle_end(id, CloseReason::PeerReset);
    assert!(shard.next_closed().is_none());
    assert_eq!(drain(&mut shard), [0x88, 2, 0x03, 0xe8]);
    let ended = shard.next_closed().unwrap();
    assert_eq!((ended.id, ended.reason), (id, CloseReason::PeerClosed));
}

#[test]
fn a_client_that_lags_is_heard_in_small_pieces() {
    let (mut shard, mut sequencer) = (shard(), Sequencer::new(10, 10));
    let id = shard.handle_open(Member::anyone(), Encoding::Json, Now::default());
    subscribe(&mut shard, id, "a");
    drain(&mut shard);
    assert_eq!(shard.read_bytes_max(id), READ_BYTES);
    for _ in 0..20 {
        for _ in 0..BATCH_EVENTS_MAX {
            event(&mut sequencer, "a", None, "1");
        }
        shard.handle_batch(&sequencer.next_batch().unwrap(), Now::default());
        pass(&mut shard, 10);
    }
    assert_eq!(shard.read_bytes_max(id), READ_BYTES_LAGGING);
    // The socket takes everything again.
    shard.handle_writable(id);
    drain(&mut shard);
    assert_eq!(shard.read_bytes_max(id), READ_BYTES);
}
