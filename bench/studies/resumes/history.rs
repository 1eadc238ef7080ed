//! The events that are replayed: numbered without end, and as large as a quote is.
//!
//! Not here: who asks for them. Invariant: each event ends with its number, in digits of a fixed
//! count, so that a reader finds it without parsing.

use std::fmt::Write as _;
use std::ops::Range;

use crate::support::{Client, Server};

/// Their channel.
pub(crate) const CHANNEL: &str = "history";

/// What a frame of it begins with.
const START: &[u8] = br#"{"channel":"history","#;

/// Bytes of a frame, about: those of a quote with prices and sizes.
pub(crate) const FRAME_BYTES: usize = 200;

/// Bytes of a frame beside its data.
const ENVELOPE_BYTES: usize = 110;

const DIGITS: usize = 10;

/// Digits, and `"}` behind them.
const TAIL_BYTES: usize = DIGITS + 2;

/// Publishes events with these numbers, and waits until the shard has them.
pub(crate) fn publish(server: &Server, numbers: Range<u64>) {
    let mut witness = Client::subscribed_to_all(server, "mark");
    let mut producer = server.producer();
    let pad = "x".repeat(FRAME_BYTES - ENVELOPE_BYTES - DIGITS);
    let mut lines = String::new();
    for number in numbers {
        let _ = writeln!(lines, r#"{{"channel":"{CHANNEL}","data":"{pad}{number:0DIGITS$}"}}"#);
        if lines.len() > 64 << 10 {
            producer.send(&lines);
            lines.clear();
        }
    }
    producer.send(&lines);
    producer.publish("mark", "1");
    while witness.json()["channel"] != "mark" {}
}

/// Whether a message is one of them.
pub(crate) fn is_of_it(text: &[u8]) -> bool {
    text.starts_with(START)
}

/// The number of one of them.
pub(crate) fn number(text: &[u8]) -> u64 {
    let digits = &text[text.len() - TAIL_BYTES..text.len() - 2];
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
