//! A client that does not read: what it lost is named, what others get is untouched.

use std::io::{Read, Write};

use fanfare::protocol::ws::frame::{Opcode, write_masked};
use serde_json::{Value, json};

use crate::support::{Client, Heard, Server, connect_narrow, eventually, line};

/// A subscriber whose socket holds little, so that the kernel does not do the reading for it.
fn narrow(server: &Server, pattern: &str) -> Client {
    let mut client = Client::upgrade(connect_narrow(server.listen));
    assert_eq!(client.json()["type"], "welcome");
    assert_eq!(client.subscribe(&[pattern])["success"], true);
    client
}

/// Publishes events of 8 KiB until the 8 MiB log has gone round `rounds` times; `witness` reads
/// each piece before the next is sent, so that it never lags. Every other event is on `odd`.
fn publish_rounds(server: &Server, witness: &mut Client, rounds: u64) -> u64 {
    const PIECE: u64 = 32;
    let data = format!("\"{}\"", "x".repeat(8 << 10));
    let mut producer = server.producer();
    let pieces = rounds * (8 << 20) / (8 << 10) / PIECE;
    for piece in 0..pieces {
        let pair = line("even", &data) + &line("odd", &data);
        for _ in 0..PIECE / 2 {
            producer.send(&pair);
        }
        for number in 1..=PIECE {
            let event = witness.event();
            assert_eq!(event.seq, piece * PIECE + number);
            assert_eq!(event.data().len(), data.len());
        }
    }
    pieces * PIECE
}

#[test]
fn a_client_that_falls_off_the_log_is_told_what_it_missed_and_goes_on_at_the_head() {
    let server = Server::start("--log-bytes 8MiB --send-buffer-bytes 16KiB --heartbeat 5m");
    let slow = narrow(&server, "odd");
    falls_off_the_log(&server, slow);
}

/// Publishes more than the log holds while `slow`, a subscriber of `odd`, does not read; then holds
/// what it gets against what was published.
pub(crate) fn falls_off_the_log<S: Read + Write>(server: &Server, mut slow: Client<S>) {
    let mut witness = Client::subscribed(server, ">");
    let last = publish_rounds(server, &mut witness, 3);
    let (mut seen, mut missed, mut receipts, mut passed) = (0, 0, 0, 0);
    while passed < last {
        let Heard::Text(text) = slow.hear() else { panic!("text was due") };
        let message: Value = serde_json::from_str(&text).unwrap();
        let number = |name: &str| message[name].as_u64().unwrap();
        if message["type"] == "gap" {
            assert_eq!(
                (&message["cause"], &message["channels"]),
                (&json!("slow"), &json!(["odd"]))
            );
            let first_missed = passed - passed % 2 + 2;
            assert!((passed + 1..=first_missed).contains(&number("from")), "{text}");
            // Events 2, 4, 6, … are on `odd`.
            assert_eq!(number("missed"), number("to") / 2 - passed / 2, "{text}");
            missed += number("missed");
            receipts += 1;
            passed = number("to");
        } else {
            assert_eq!(number("prev"), passed - passed % 2, "{}", &text[..100]);
            assert_eq!(number("seq"), passed - passed % 2 + 2, "{}", &text[..100]);
            seen += 1;
            passed = number("seq");
        }
    }
    assert_eq!(seen + missed, last / 2, "everything is accounted for");
    assert!(receipts >= 1 && missed > seen, "{receipts} receipts, {seen} seen, {missed} missed");
    server.producer().publish("odd", "\"live\"");
    assert_eq!((slow.data(), witness.data()), ("\"live\"".into(), "\"live\"".into()));
    assert_eq!((server.counter("gaps"), server.counter("missed")), (receipts, missed));
    slow.hears_nothing_more();
    witness.hears_nothing_more();
}

#[test]
fn a_client_that_asks_without_reading_is_closed_and_costs_nobody_else() {
    let server = Server::start("--send-buffer-bytes 16KiB");
    let mut witness = Client::subscribed(&server, ">");
    let mut greedy = narrow(&server, ">");
    let mut commands = Vec::new();
    for _ in 0..500 {
        write_masked(&mut commands, Opcode::Text, br#"{"method":"list"}"#, [5; 4]);
    }
    eventually("the greedy one is closed", || {
        // Its writes fail once it has been cut off.
        let _ = greedy.stream.write_all(&commands);
        server.counter("closed") == 1
    });
    server.producer().publish("a", "1");
    assert_eq!(witness.data(), "1");
}
