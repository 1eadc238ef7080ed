//! Messages of 0 B to 16 MiB in both directions: with and without compression, encrypted or not,
//! cut anywhere.
//!
//! Small ones are cut at every byte, large ones at random places. Not here: what the cuts are for
//! the reader alone (`protocol::ws::reader`). Invariant: a seed decides every cut.

use crate::cases::Heard;
use crate::cases::compression::{noise, words};
use crate::echo::{Echo, Stream};
use crate::random;
use crate::talk::Talk;

/// Around every length at which something changes: headers, buffers, records, windows, the bound.
const LENGTHS: [usize; 16] = [
    0,
    1,
    125,
    126,
    127,
    16_383,
    16_384,
    32_768,
    65_535,
    65_536,
    65_537,
    262_144,
    1 << 20,
    (4 << 20) + 1,
    (16 << 20) - 1,
    16 << 20,
];

#[test]
fn every_length_comes_back_whole_on_every_kind_of_connection() {
    let echo = Echo::start();
    for offer in [None, Some("permessage-deflate")] {
        exchange(Talk::open(echo.connect(), offer));
        exchange(Talk::open(echo.connect_tls(), offer));
    }
}

/// Sends messages of all lengths, each cut at random places, and takes their echoes.
fn exchange(mut talk: Talk<impl Stream>) {
    let mut seed = 9;
    for length in LENGTHS {
        for message in [words(1, length), noise(1, length)] {
            let bytes = talk.message(2, &message, usize::MAX);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let at = usize::try_from(random::next(&mut seed) % rest.len() as u64).unwrap();
                talk.write(&rest[..=at]);
                rest = &rest[at + 1..];
            }
            let agreed = talk.agreed;
            assert!(talk.next() == Some(Heard::Binary(message)), "{length} bytes, {agreed:?}");
        }
    }
}

#[test]
fn a_small_message_may_be_cut_anywhere_on_every_kind_of_connection() {
    let echo = Echo::start();
    for offer in [None, Some("permessage-deflate; client_no_context_takeover")] {
        cut_anywhere(Talk::open(echo.connect(), offer));
        cut_anywhere(Talk::open(echo.connect_tls(), offer));
    }
}

fn cut_anywhere(mut talk: Talk<impl Stream>) {
    let text = String::from_utf8(words(2, 150)).unwrap();
    for at in 0..=talk.message(1, text.as_bytes(), usize::MAX).len() {
        let bytes = talk.message(1, text.as_bytes(), usize::MAX);
        let (front, back) = bytes.split_at(at);
        talk.write(front);
        talk.write(back);
        assert_eq!(talk.next(), Some(Heard::Text(text.clone())), "cut at {at}");
    }
}
