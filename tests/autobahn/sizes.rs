//! Messages of 0 B to 16 MiB in both directions: with and without compression, encrypted or not,
//! cut anywhere.
//!
//! Small ones and every header are cut at every byte, large ones at random places; what comes back
//! is taken at once or by the byte. Not here: what the cuts are for the reader alone
//! (`protocol::ws::reader`). Invariant: a seed decides every cut.

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

/// Encrypted and not, with this offer of compression and without.
fn on_every_kind_of_connection(offer: &str, exchange: impl Fn(Talk<Box<dyn Stream>>)) {
    let echo = Echo::start();
    for offer in [None, Some(offer)] {
        exchange(Talk::open(Box::new(echo.connect()), offer));
        exchange(Talk::open(Box::new(echo.connect_tls()), offer));
    }
}

#[test]
fn every_length_comes_back_whole_on_every_kind_of_connection() {
    on_every_kind_of_connection("permessage-deflate", exchange);
}

/// Sends messages of all lengths, each cut at random places, and takes their echoes.
fn exchange(mut talk: Talk<Box<dyn Stream>>) {
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
    on_every_kind_of_connection("permessage-deflate; client_no_context_takeover", cut_anywhere);
}

fn cut_anywhere(mut talk: Talk<Box<dyn Stream>>) {
    let text = String::from_utf8(words(2, 150)).unwrap();
    for at in 0..=talk.message(1, text.as_bytes(), usize::MAX).len() {
        let bytes = talk.message(1, text.as_bytes(), usize::MAX);
        let (front, back) = bytes.split_at(at);
        talk.write(front);
        talk.write(back);
        assert_eq!(talk.next(), Some(Heard::Text(text.clone())), "cut at {at}");
    }
}

/// Bytes of the longest header that a client writes.
const HEADER_BYTES_MAX: usize = 14;

/// The last and the first length of each form of header.
const FORMS: [usize; 6] = [0, 125, 126, 65_535, 65_536, 262_144];

#[test]
fn every_byte_of_every_form_of_header_may_end_a_segment() {
    on_every_kind_of_connection("permessage-deflate; client_no_context_takeover", cut_headers);
}

fn cut_headers(mut talk: Talk<Box<dyn Stream>>) {
    for length in FORMS {
        // It does not compress, so that the frame has the form as well where that was agreed on.
        let message = noise(3, length);
        for at in 0..=HEADER_BYTES_MAX {
            let bytes = talk.message(2, &message, usize::MAX);
            let (front, back) = bytes.split_at(at.min(bytes.len()));
            talk.write(front);
            talk.write(back);
            let heard = talk.next();
            assert!(heard == Some(Heard::Binary(message.clone())), "{length} bytes, cut at {at}");
        }
    }
}

#[test]
fn an_echo_comes_whole_however_little_is_taken_at_a_time() {
    on_every_kind_of_connection("permessage-deflate", take_little);
}

fn take_little(mut talk: Talk<Box<dyn Stream>>) {
    for most in [1, 61, 4_099] {
        talk.takes_at_most(most);
        for length in FORMS {
            for message in [words(4, length), noise(4, length)] {
                let bytes = talk.message(2, &message, usize::MAX);
                talk.write(&bytes);
                let heard = talk.next();
                assert!(heard == Some(Heard::Binary(message)), "{length} bytes by {most}");
            }
        }
    }
}
