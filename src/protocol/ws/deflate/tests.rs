//! The examples of RFC 7692, round trips in every mode, hostile payloads, and offers as a table.

use flate2::{Decompress, FlushDecompress};
use proptest::prelude::*;

use super::super::extensions::parse;
use super::*;
use crate::limits;

const BYTES_MAX: usize = 1 << 20;

fn inflated(payload: &[u8]) -> Result<Vec<u8>, InflateError> {
    Inflater::new(false).inflate(payload, BYTES_MAX).map(<[u8]>::to_vec)
}

#[test]
fn the_examples_of_section_7_2_3_are_read() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    for payload in [&hello[..], &stored, &last, &two_blocks] {
        assert_eq!(inflated(payload).as_deref(), Ok(&b"Hello"[..]), "{payload:02x?}");
    }
    assert_eq!(inflated(&[0x00]).as_deref(), Ok(&b""[..]));

    let mut inflater = Inflater::new(true);
    assert_eq!(inflater.inflate(&hello, BYTES_MAX), Ok(&b"Hello"[..]));
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(inflater.inflate(&again, BYTES_MAX), Ok(&b"Hello"[..]));
    assert_eq!(inflated(&again), Err(InflateError::Corrupt), "there is nothing to refer to");
}

#[test]
fn the_examples_of_section_7_2_3_are_written() {
    let mut deflater = Deflater::new(6, 15, true);
    let mut out = Vec::new();
    deflater.deflate(b"Hello", &mut out);
    assert_eq!(out, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    out.clear();
    deflater.deflate(b"Hello", &mut out);
    assert_eq!(out, [0xf2, 0x00, 0x11, 0x00, 0x00]);
    out.clear();
    deflater.deflate(b"", &mut out);
    assert_eq!(out, [0x00]);
    let mut deflater = Deflater::new(6, 15, false);
    for _ in 0..2 {
        out.clear();
        deflater.deflate(b"Hello", &mut out);
        assert_eq!(out, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    }
}

#[test]
fn a_last_block_ends_neither_the_message_nor_what_may_be_referred_to() {
    let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    // The second part refers five bytes back, beyond the last block of the first.
    let both = [&hello[..], &[0xf2, 0x00, 0x11, 0x00, 0x00]].concat();
    let mut inflater = Inflater::new(true);
    assert_eq!(inflater.inflate(&both, BYTES_MAX), Ok(&b"HelloHello"[..]));
    assert_eq!(inflater.inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], BYTES_MAX), Ok(&b"Hello"[..]));
    assert_eq!(inflated(&hello).as_deref(), Ok(&b"Hello"[..]), "without the empty block");
    let many = hello.repeat(limits::DEFLATE_FINALS_MAX + 1);
    assert_eq!(inflated(&many).map(|message| message.len()), Ok(5 * 1_025));
    let more = hello.repeat(limits::DEFLATE_FINALS_MAX + 2);
    assert_eq!(inflated(&more), Err(InflateError::Corrupt));
}

#[test]
fn a_payload_that_breaks_off_or_is_changed_is_refused() {
    let len = if cfg!(miri) { 300 } else { 10_000 };
    let mut whole = Vec::new();
    Deflater::new(9, 15, false).deflate(&text(len), &mut whole);
    for end in 0..whole.len() {
        assert_eq!(inflated(&whole[..end]), Err(InflateError::Corrupt), "{end}");
    }
    for payload in [&[0x06][..], &[0x07; 9], &[0xff; 100], b"\0\x05\0\xfa\xfeHello\0"] {
        assert_eq!(inflated(payload), Err(InflateError::Corrupt), "{payload:02x?}");
    }
    assert_eq!(
        inflated(&[&whole[..], &FLUSHED, &whole].concat()).map(|both| both.len()),
        Ok(2 * len)
    );
    let joined = [&whole[..], &whole].concat();
    assert_eq!(inflated(&joined), Err(InflateError::Corrupt), "a flush was cut off between them");
}

#[test]
#[cfg_attr(miri, ignore = "a message of 64 MiB")]
fn a_bomb_costs_no_more_than_its_bound() {
    let mut bomb = Vec::new();
    Deflater::new(9, 15, false).deflate(&vec![0; 64 << 20], &mut bomb);
    assert!(bomb.len() < 70_000, "{} bytes", bomb.len());
    for bytes_max in [0, 1, 1_000, 65_536, BYTES_MAX] {
        let mut inflater = Inflater::new(false);
        assert_eq!(inflater.inflate(&bomb, bytes_max), Err(InflateError::TooBig));
        let allocated = inflater.allocated();
        assert!(allocated <= (2 * bytes_max).max(limits::INFLATE_BYTES_MIN), "{allocated}");
        assert_eq!(inflater.inflate(&[0x00], bytes_max), Ok(&b""[..]));
        assert!(inflater.allocated() <= limits::INFLATE_KEPT_BYTES);
    }
}

#[test]
fn a_message_of_just_the_bound_passes_and_one_of_a_byte_more_does_not() {
    for len in [0, 1, 1_023, 1_024, 1_025, 65_536, 100_000] {
        if cfg!(miri) && len > 2_000 {
            continue; // Miri would take minutes.
        }
        let mut payload = Vec::new();
        Deflater::new(1, 15, false).deflate(&text(len), &mut payload);
        let mut inflater = Inflater::new(false);
        assert_eq!(inflater.inflate(&payload, len), Ok(&text(len)[..]));
        if len > 0 {
            assert_eq!(inflater.inflate(&payload, len - 1), Err(InflateError::TooBig));
        }
    }
}

/// What Miri found in zlib-rs (its issue 491).
#[test]
fn engines_may_be_given_to_who_drops_them() {
    drop(Inflater::new(true));
    drop(Deflater::new(1, 15, true));
}

/// The strictest reader: one with no larger window than was agreed on.
fn inflated_within(window_bits: u8, payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut engine = Decompress::new_with_window_bits(false, window_bits);
    let mut out = Vec::with_capacity(BYTES_MAX);
    for payload in payloads {
        for part in [&payload[..], &FLUSHED] {
            engine.decompress_vec(part, &mut out, FlushDecompress::Sync).unwrap();
        }
    }
    out
}

#[test]
#[cfg_attr(miri, ignore = "megabytes")]
fn nothing_refers_further_back_than_the_window() {
    for window_bits in COMPRESSOR_BITS_MIN..=WINDOW_BITS_MAX {
        for level in [0, 1, 6, 9] {
            let mut deflater = Deflater::new(level, window_bits, true);
            // What repeats does so at distances around each window's size.
            let messages: Vec<_> = (0..40).map(|n| text(500 + n * 150)).collect();
            let payloads: Vec<_> = (messages.iter())
                .map(|message| {
                    let mut payload = Vec::new();
                    deflater.deflate(message, &mut payload);
                    payload
                })
                .collect();
            assert!(inflated_within(window_bits, &payloads) == messages.concat());
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "a compressor for every window")]
fn a_message_no_longer_than_the_window_can_be_compressed_with_any_window() {
    for bits in COMPRESSOR_BITS_MIN..WINDOW_BITS_MAX {
        let offer = format!("{NAME}; server_max_window_bits={bits}");
        let offer = Offer::read(&parse(&offer).expect("a list")[0]).expect("an offer");
        let agreed = Terms::shared(15).agree(&[offer]).expect("any window is good");
        for repeated in [1, 17, agreed.message_bytes_max() / 2, agreed.message_bytes_max() - 3] {
            let message = noise(repeated);
            let message: Vec<_> =
                message.into_iter().cycle().take(agreed.message_bytes_max()).collect();
            let mut payload = Vec::new();
            Deflater::new(9, 15, false).deflate(&message, &mut payload);
            assert!(inflated_within(bits, &[payload]) == message);
        }
    }
    assert_eq!(
        Terms::shared(15).agree(&[Offer::default()]).unwrap().message_bytes_max(),
        usize::MAX
    );
}

#[test]
#[cfg_attr(miri, ignore = "messages of 16 MiB")]
fn sizes_up_to_the_largest_frame_come_back_whole() {
    for (len, keeps_context) in [(1 << 16, true), ((1 << 20) + 1, false), (16 << 20, true)] {
        for message in [text(len), noise(len), vec![b'x'; len]] {
            let mut deflater = Deflater::new(1, 15, keeps_context);
            let mut inflater = Inflater::new(keeps_context);
            for _ in 0..2 {
                let mut payload = Vec::new();
                deflater.deflate(&message, &mut payload);
                assert!(payload.len() <= len + len / 8 + 64, "{} of {len}", payload.len());
                assert!(inflater.inflate(&payload, len) == Ok(&message[..]));
            }
        }
    }
}

/// Words that repeat, at changing distances.
fn text(len: usize) -> Vec<u8> {
    let words =
        (0..).map(|n: usize| format!("{{\"price\":{},\"size\":{}}} ", n * n % 1_013, n % 7));
    words.flat_map(String::into_bytes).take(len).collect()
}

/// Bytes without a pattern.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

proptest! {
    #[test]
    fn what_was_compressed_comes_back(
        level in 0u32..10,
        window_bits in COMPRESSOR_BITS_MIN..=WINDOW_BITS_MAX,
        keeps_context: bool,
        messages in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..2_000),
                prop::collection::vec(0u8..3, 0..5_000),
            ],
            1..12,
        ),
    ) {
        let mut deflater = Deflater::new(level, window_bits, keeps_context);
        let mut inflater = Inflater::new(keeps_context);
        for message in &messages {
            let mut payload = b"in front".to_vec();
            deflater.deflate(message, &mut payload);
            prop_assert_eq!(inflater.inflate(&payload[8..], message.len()), Ok(&message[..]));
        }
    }

    #[test]
    fn any_payload_gives_the_same_whatever_came_before(
        before: Vec<u8>,
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut used = Inflater::new(false);
        let _any = used.inflate(&before, 1_000).is_ok();
        let alone = Inflater::new(false).inflate(&payload, 1_000).map(<[u8]>::to_vec);
        prop_assert_eq!(used.inflate(&payload, 1_000).map(<[u8]>::to_vec), alone);
    }
}

/// The answer to a header, on these terms.
fn answer(terms: Terms, header: &str) -> String {
    let extensions = parse(header).expect("the grammar is followed");
    let offers: Vec<_> = extensions.iter().filter_map(Offer::read).collect();
    terms.agree(&offers).map_or_else(|| "none".into(), |agreed| agreed.to_string())
}

#[test]
fn offers_are_answered_as_section_7_1_allows() {
    const SHARED: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let own = Terms::own();
    let shared = Terms::shared(15);
    let small = Terms::shared(12);
    for (terms, header, expected) in [
        (own, "", "none"),
        (own, "permessage-bzip2", "none"),
        (own, "permessage-deflate", "permessage-deflate"),
        (own, "permessage-deflate; client_max_window_bits", "permessage-deflate"),
        (own, "permessage-deflate; client_max_window_bits=10", "permessage-deflate"),
        (
            own,
            "permessage-deflate; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9",
        ),
        (
            own,
            "permessage-deflate; server_max_window_bits=\"15\"",
            "permessage-deflate; server_max_window_bits=15",
        ),
        (own, "permessage-deflate; server_max_window_bits=8", "none"),
        (
            own,
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            "permessage-deflate",
        ),
        (
            own,
            "x, permessage-deflate; y, permessage-deflate; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover",
        ),
        (own, "permessage-deflate; client_no_context_takeover; server_no_context_takeover", SHARED),
        (shared, "permessage-deflate", SHARED),
        (
            shared,
            "permessage-deflate; server_max_window_bits=8",
            &format!("{SHARED}; server_max_window_bits=8"),
        ),
        (small, "permessage-deflate", &format!("{SHARED}; server_max_window_bits=12")),
        (
            small,
            "permessage-deflate; server_max_window_bits=14",
            &format!("{SHARED}; server_max_window_bits=12"),
        ),
        (
            small,
            "permessage-deflate; server_max_window_bits=11",
            &format!("{SHARED}; server_max_window_bits=11"),
        ),
    ] {
        assert_eq!(answer(terms, header), expected, "{header}");
    }
}

#[test]
fn an_offer_that_section_7_1_forbids_is_declined_alone() {
    for parameters in [
        "unknown",
        "server_no_context_takeover=1",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover=\"true\"",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=010",
        "server_max_window_bits=+9",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=0",
        "client_max_window_bits=1000",
        "client_max_window_bits=ten",
        "client_max_window_bits; client_max_window_bits=10",
        "Server_No_Context_Takeover",
    ] {
        let header = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(Terms::own(), &header), "none", "{header}");
        let header = format!("{header}, permessage-deflate; server_no_context_takeover");
        let expected = "permessage-deflate; server_no_context_takeover";
        assert_eq!(answer(Terms::own(), &header), expected, "{header}");
    }
}

#[test]
fn our_own_client_takes_what_a_server_may_answer_and_nothing_else() {
    let read = |header: &str| agreed_by_response(&parse(header).expect("a list")[0]);
    let plain =
        Agreed { server_context: true, client_context: true, server_bits: None, client_bits: None };
    for (header, agreed) in [
        ("permessage-deflate", plain),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            Agreed { server_context: false, client_context: false, ..plain },
        ),
        (
            "permessage-deflate; server_max_window_bits=8; client_max_window_bits=\"9\"",
            Agreed { server_bits: Some(8), client_bits: Some(9), ..plain },
        ),
    ] {
        assert_eq!(read(header), Ok(agreed), "{header}");
    }
    for (header, named) in [
        ("x-webkit-deflate-frame", "not offered"),
        ("permessage-deflate; client_max_window_bits", "RFC 7692"),
        ("permessage-deflate; server_max_window_bits", "RFC 7692"),
        ("permessage-deflate; mystery=1", "RFC 7692"),
    ] {
        let error = read(header).unwrap_err();
        assert!(error.contains(named), "{header}: {error}");
    }
    assert_eq!(answer(Terms::own(), OFFER), "permessage-deflate", "our server takes our offer");
}
