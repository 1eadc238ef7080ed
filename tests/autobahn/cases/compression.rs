//! Parts 12 and 13: compressed messages on every kind of agreement, whole and in fragments.
//!
//! Messages are the suite's lengths of what compresses well, badly and not at all; each side keeps
//! its context where that was agreed on.

use std::io::Write;

use super::{FIN, Heard};
use crate::echo::Echo;
use crate::random;
use crate::talk::{Talk, masked};

/// What a client offers, and what the endpoint answers.
pub(crate) const OFFERS: [(&str, &str); 8] = [
    ("permessage-deflate", "permessage-deflate"),
    ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
    (
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; client_no_context_takeover",
    ),
    (
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover",
    ),
    (
        "permessage-deflate; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=9",
    ),
    (
        "permessage-deflate; server_max_window_bits=15",
        "permessage-deflate; server_max_window_bits=15",
    ),
    (
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=\"9\"",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
    ),
    (
        "permessage-deflate; server_max_window_bits=8, permessage-deflate; \
         server_no_context_takeover; server_max_window_bits=12",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=12",
    ),
];

/// Lengths of messages, and of their fragments.
const LENGTHS: [(usize, usize); 11] = [
    (0, usize::MAX),
    (16, usize::MAX),
    (64, 1),
    (256, usize::MAX),
    (1 << 10, 100),
    (4 << 10, usize::MAX),
    (16 << 10, 256),
    (32 << 10, usize::MAX),
    (64 << 10, 256),
    (128 << 10, 4 << 10),
    (128 << 10, usize::MAX),
];

/// Rounds of all lengths, so that contexts reach from one message to the next.
const ROUNDS: u64 = 4;

/// Sends messages and takes their echoes, on this agreement.
pub(crate) fn run(echo: &Echo, (offer, answer): (&str, &str)) {
    let mut talk = Talk::open(echo.connect(), Some(offer));
    let agreed = talk.agreed.expect("the endpoint compresses");
    assert_eq!(agreed.to_string(), answer, "{offer}");
    for round in 0..ROUNDS {
        for (length, fragment) in LENGTHS {
            let text = String::from_utf8(words(round, length)).unwrap();
            let bytes = talk.message(1, text.as_bytes(), fragment);
            talk.write(&bytes);
            assert!(talk.next() == Some(Heard::Text(text)), "{length} in {fragment}, {offer}");
            let noise = noise(round, length);
            let bytes = talk.message(2, &noise, fragment);
            talk.write(&bytes);
            assert!(talk.next() == Some(Heard::Binary(noise)), "{length} in {fragment}, {offer}");
            // One that is not compressed is allowed at any time.
            talk.write(&masked(FIN | 1, b"plain"));
            assert_eq!(talk.next(), Some(Heard::Text("plain".into())));
        }
    }
}

/// Text that compresses well, and refers to what was in earlier rounds.
pub(crate) fn words(round: u64, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 64);
    let mut state = round % 2;
    while out.len() < length {
        let number = random::next(&mut state);
        let (price, size) = (number % 90_000, number >> 50);
        write!(out, "{{\"price\":\"{price}.50\",\"size\":{size},\"side\":\"buy\"}}").unwrap();
    }
    out.truncate(length);
    out
}

/// Bytes that do not compress.
pub(crate) fn noise(round: u64, length: usize) -> Vec<u8> {
    let mut state = round;
    let numbers = std::iter::repeat_with(|| random::next(&mut state).to_le_bytes());
    numbers.flatten().take(length).collect()
}
