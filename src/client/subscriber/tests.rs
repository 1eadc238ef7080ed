//! The stream of items against a small server that plays one scene after the other.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use super::*;
use crate::client::item::Notice;
use crate::limits::RECONNECT_MS;
use crate::protocol::ws::close::write_close;
use crate::protocol::ws::frame::{Opcode, write_frame};
use crate::shell::dial::Producer;
use crate::shell::fake::{listen_times, nobody, upgrade};

const WELCOME: &str = r#"{"channel":"control","type":"welcome","epoch":"01A","seq":2}"#;

fn reply(seq: u64, more: &str) -> String {
    format!(
        r#"{{"method":"subscribe","success":true,"result":[
            {{"channel":"a","policy":"all","seq":{seq}{more}}}]}}"#
    )
}

fn end(kind: &str, seq: u64) -> String {
    format!(r#"{{"channel":"control","type":"{kind}","channels":["a"],"seq":{seq}}}"#)
}

fn event(seq: u64) -> String {
    let prev = seq - 1;
    format!(r#"{{"channel":"a","type":"update","seq":{seq},"prev":{prev},"data":[{seq}]}}"#)
}

/// A server of as many connections as there are scenes; it goes away after each, with a close code
/// after the last.
fn subscription(scenes: Vec<Vec<String>>) -> Subscription {
    let count = scenes.len();
    let (address, _played) = listen_times(count, move |time, mut stream: Producer| {
        upgrade(&mut stream, WELCOME);
        // The request; what is in it is tested elsewhere.
        let _asked = stream.read(&mut [0; 4096]);
        let mut out = Vec::new();
        for text in &scenes[time] {
            write_frame(&mut out, Opcode::Text, text.as_bytes());
        }
        if time + 1 == count {
            write_close(&mut out, 4003, "enough");
        }
        stream.write_all(&out).unwrap();
    });
    Subscription::new(format!("ws://{address}"), ["a"])
}

#[test]
fn an_iterator_gives_each_event_once_over_all_connections_then_the_error_then_nothing() {
    let subscription = subscription(vec![
        vec![reply(2, ""), event(1), event(2), end("snapshot_end", 2), event(3)],
        vec![reply(5, r#","resumed":true"#), event(4), event(5), end("replay_end", 5), event(6)],
    ]);
    let mut subscriber = subscription.start().unwrap();
    let (mut events, mut notices, mut error) = (Vec::new(), Vec::new(), None);
    for item in &mut subscriber {
        match item {
            Ok(Item::Event(event)) => events.push((event.seq, event.data().to_owned())),
            Ok(Item::Notice(notice)) => notices.push(notice),
            Ok(other) => panic!("{other:?}"),
            Err(failed) => error = Some(failed),
        }
    }
    let expected: Vec<_> = (1..=6).map(|seq| (seq, format!("[{seq}]"))).collect();
    assert_eq!(events, expected);
    assert!(notices.contains(&Notice::Resumed { seq: 3 }), "{notices:?}");
    assert!(error.unwrap().to_string().contains("4003"));
    assert!(subscriber.next().is_none());
    assert_eq!(subscriber.place().unwrap().to_string(), "01A:6");
    let over = subscriber.read(STEP, |_| panic!("nothing more is given")).unwrap_err();
    assert!(matches!(over, Error::Over));
}

#[test]
fn where_a_node_ends_another_one_goes_on_also_one_that_is_behind() {
    // Whichever is come to first plays the first scene.
    let scenes = Arc::new([
        vec![reply(2, ""), event(1), event(2), end("snapshot_end", 2), event(3)],
        vec![reply(1, r#","resumed":true"#), end("replay_end", 1), event(4)],
    ]);
    let played: Arc<Mutex<Vec<usize>>> = Arc::default();
    let node = |number| {
        let (scenes, played) = (Arc::clone(&scenes), Arc::clone(&played));
        let (address, _played) = listen_times(1, move |_, mut stream: Producer| {
            upgrade(&mut stream, WELCOME);
            let _asked = stream.read(&mut [0; 4096]);
            let time = {
                let mut played = played.lock().unwrap();
                played.push(number);
                played.len() - 1
            };
            let mut out = Vec::new();
            for text in &scenes[time] {
                write_frame(&mut out, Opcode::Text, text.as_bytes());
            }
            if time == 1 {
                write_close(&mut out, 4003, "enough");
            }
            stream.write_all(&out).unwrap();
        });
        format!("ws://{address}")
    };
    let nodes = [node(0), node(1)].join(",");
    let mut seqs = Vec::new();
    for item in Subscription::new(nodes, ["a"]).start().unwrap() {
        match item {
            Ok(Item::Event(event)) => seqs.push(event.seq),
            Ok(Item::Gap(gap)) => panic!("{gap}"),
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("4003"), "{error}"),
        }
    }
    assert_eq!(seqs, [1, 2, 3, 4]);
    let mut played = played.lock().unwrap().clone();
    played.sort_unstable();
    assert_eq!(played, [0, 1]);
}

#[test]
fn a_node_that_is_not_there_at_the_start_is_passed_over() {
    let there = subscription(vec![vec![reply(0, ""), end("snapshot_end", 0), event(1)]]);
    let nodes = format!("ws://{},{},ws://{}", nobody(), there.url, nobody());
    let mut subscriber = Subscription::new(nodes, ["a"]).start().unwrap();
    let first = subscriber.find_map(|item| match item {
        Ok(Item::Event(event)) => Some(event.seq),
        _ => None,
    });
    assert_eq!(first, Some(1));
}

#[test]
fn while_an_iterator_gives_what_one_read_brought_its_place_is_before_that() {
    let scene = vec![reply(0, ""), end("snapshot_end", 0), event(1), event(2)];
    let mut subscriber = subscription(vec![scene]).start().unwrap();
    let is_last = |item: &Item<'_>| matches!(item, Item::Event(event) if event.seq == 2);
    loop {
        let item = subscriber.next().unwrap().unwrap();
        let place = subscriber.place().map_or(0, |place| place.seq);
        if is_last(&item) {
            assert_eq!(place, 2);
            break;
        }
        assert!(!matches!(item, Item::Event(event) if place > event.seq), "{place}");
    }
}

#[test]
fn where_nobody_listens_the_first_thing_given_is_the_error() {
    let subscription = Subscription::new(format!("ws://{}", nobody()), ["a"]);
    let mut subscriber = subscription.start().unwrap();
    assert!(matches!(subscriber.next(), Some(Err(Error::Connection(ClientError::Refused(_))))));
    assert!(subscriber.next().is_none());
}

#[test]
fn waits_grow_while_nobody_answers_however_long_the_last_connection_was() {
    let subscription = Subscription::new(format!("ws://{}", nobody()), ["a"]);
    let mut subscriber = subscription.start().unwrap();
    // One that was made when the clock began, and has ended.
    subscriber.connector.opened(0);
    let mut waits_ms = Vec::new();
    while waits_ms.len() < 40 {
        if let Link::Waiting(due_ns) = &mut subscriber.link {
            *due_ns = 0;
        }
        let note = |item: Item<'_>| {
            if let Item::Notice(Notice::Lost { retry_ms, .. }) = item {
                waits_ms.push(retry_ms);
            }
        };
        subscriber.read(STEP, note).unwrap();
    }
    // Thirty of them are below half a minute, as chance has it.
    assert!(waits_ms.iter().any(|ms| *ms > RECONNECT_MS), "{waits_ms:?}");
}
