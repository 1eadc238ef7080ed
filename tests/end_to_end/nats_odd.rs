//! Streams with something in them, or missing from them, that no node may stumble over.
//!
//! What a node that was there makes of it, one that comes later makes of it, too. Without
//! nats-server each of these says SKIPPED.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::nats::{first_there, frames_to, lines, node, resumed, subscribe, values, welcome};
use crate::nats_server::NatsServer;
use crate::support::{Server, eventually};

/// Header lines that are none, and that the client library ends the connection over.
const BROKEN: [&[u8]; 3] = [b"foo bar: 1", b"name: caf\xe9", b"no colon"];

/// What is wrong with each of so many messages is in the log, and all of them are counted.
fn has_refused(server: &Server, count: u64) {
    eventually("they are counted and logged", || {
        let logged = server.log().matches("the header is not").count() as u64;
        server.stats()["ingest"]["lines_bad"] == count && logged == count
    });
}

#[test]
fn messages_with_a_broken_header_are_skipped_and_the_rest_is_read() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", "");
    let there = node(&nats, "");
    let mut client = first_there(&there);
    nats.put("md.a", "1");
    for line in BROKEN {
        nats.put_with("md.a", &[line], "2");
        nats.put_with("md.b", &[line], "2");
        nats.put("md.a", "3");
    }
    let live = frames_to(&mut client, 10);
    let links = |text: &String| {
        let frame: Value = serde_json::from_str(text).unwrap();
        (frame["seq"].as_u64().unwrap(), frame["prev"].as_u64().unwrap())
    };
    let expected = [(1, 0), (4, 1), (7, 4), (10, 7)];
    assert_eq!(live.values().map(links).collect::<Vec<_>>(), expected);
    has_refused(&there, 6);
    // One that comes later, to a stream that ends with such a message, and has lost what was before
    // another one.
    nats.put_with("md.a", &BROKEN[..1], "4");
    nats.delete(2);
    let late = node(&nats, "");
    let place = welcome(&late);
    assert_eq!(place["seq"], 10);
    has_refused(&late, 6);
    let mut client = resumed(&late, (place["epoch"].as_str().unwrap(), 3));
    let expected = live.into_iter().filter(|(seq, _)| *seq > 3).collect();
    assert_eq!(frames_to(&mut client, 10), expected);
}

#[test]
fn a_start_finds_the_values_before_messages_with_a_broken_header() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", "");
    let there = node(&nats, "");
    let mut client = first_there(&there);
    nats.publish("MD", "", &lines(0..40));
    for line in BROKEN {
        for subject in ["md.trade.A", "md.quote.=k%2E1", "md.book", "md.book.@snapshot", "md.b"] {
            nats.put_with(subject, &[line], "[0]");
        }
    }
    // What a book was told between such messages counts.
    nats.put("md.book", "[40]");
    nats.put_with("md.book", &BROKEN[..1], "[0]");
    nats.put("md.end", "1");
    let live = frames_to(&mut client, 120 + 15 + 3);
    let expected = late_as_there(&nats, &there, &live);
    assert_eq!(expected.len(), 3 + 5, "three keys, a snapshot and its updates: {expected:?}");
}

/// A node that comes late gives the values of one that was there, and, from the stream, all that
/// was `live`. Gives the values.
fn late_as_there(nats: &NatsServer, there: &Server, live: &BTreeMap<u64, String>) -> Vec<String> {
    let late = node(nats, "?window=1");
    let (mut of_there, _) = subscribe(there, None);
    let (mut of_late, _) = subscribe(&late, None);
    let expected = values(&mut of_there);
    assert_eq!(values(&mut of_late), expected);
    let epoch = welcome(there)["epoch"].as_str().unwrap().to_owned();
    let mut client = resumed(&late, (&epoch, 0));
    let last = *live.last_key_value().unwrap().0;
    assert_eq!(frames_to(&mut client, last), *live);
    expected
}

#[test]
fn headers_that_a_publisher_wrote_do_not_pass_for_the_streams_own() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", "");
    let there = node(&nats, "");
    let mut client = first_there(&there);
    let forged: [&[u8]; 3] =
        [b"Nats-Sequence: 77", b"Nats-Subject: md.other", b"Nats-Time-Stamp: 2001-01-01T00:00:00Z"];
    for n in 1..=4 {
        nats.put_with("md.a", &forged, &n.to_string());
    }
    let live = frames_to(&mut client, 4);
    late_as_there(&nats, &there, &live);
}

#[test]
fn a_start_does_not_wait_for_messages_that_were_removed_from_the_end() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", &lines(0..2));
    [5, 6].into_iter().for_each(|seq| nats.delete(seq));
    let server = node(&nats, "");
    let place = welcome(&server);
    assert_eq!(place["seq"], 6);
    let mut client = resumed(&server, (place["epoch"].as_str().unwrap(), 6));
    nats.publish("MD", "", &lines(2..3));
    assert_eq!(frames_to(&mut client, 9).into_keys().collect::<Vec<_>>(), [7, 8, 9]);
}
