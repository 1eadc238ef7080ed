//! RFC 6455 vectors, every violation and random conversations, each at every split of the bytes.

use proptest::prelude::*;

use super::super::deflate::Deflater;
use super::super::frame::{write_frame, write_masked};
use super::*;

const BYTES_MAX: usize = 70_000;

/// A message that owns its bytes, so that those of several calls can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes.into()),
            Message::Ping(bytes) => Self::Ping(bytes.into()),
            Message::Pong(bytes) => Self::Pong(bytes.into()),
            Message::Close { code, reason } => Self::Close(code, reason.into()),
        }
    }
}

type Outcome = (Vec<Owned>, Option<Violation>);

/// Feeds one reader with pieces; checks that nothing is left unread and no memory is kept.
fn feed<'a>(role: Role, bytes_max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    feed_with(None, role, bytes_max, pieces)
}

/// The same with permessage-deflate, if there is an inflater.
fn feed_with<'a>(
    mut inflater: Option<Inflater>,
    role: Role,
    bytes_max: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut reader = Reader::new(role, bytes_max);
    let mut messages = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let mut used = 0;
            match reader.next_message_of(&mut piece[at..], &mut used, inflater.as_mut()) {
                Ok(Some(message)) => messages.push(message.into()),
                Ok(None) => {
                    assert_eq!(at + used, piece.len(), "None means that all was taken");
                    break;
                }
                Err(violation) => return (messages, Some(violation)),
            }
            at += used;
        }
        let is_idle = reader.frame.is_none() && reader.message.is_none();
        assert_eq!(reader.is_between_messages(), is_idle && reader.header_len == 0);
        if is_idle {
            assert_eq!(reader.collected.capacity(), 0, "an idle reader keeps no memory");
        }
    }
    (messages, None)
}

fn feed_at_every_split(role: Role, bytes: &[u8]) -> Outcome {
    let whole = feed(role, BYTES_MAX, [bytes]);
    for at in 0..=bytes.len() {
        let (front, back) = bytes.split_at(at);
        assert_eq!(feed(role, BYTES_MAX, [front, back]), whole, "split at {at} of {bytes:02x?}");
    }
    assert_eq!(feed(role, BYTES_MAX, bytes.chunks(1)), whole, "byte by byte: {bytes:02x?}");
    whole
}

fn text(text: &str) -> Owned {
    Owned::Text(text.into())
}

#[test]
fn an_idle_reader_is_small() {
    assert!(size_of::<Reader>() <= 96, "{}", size_of::<Reader>());
}

#[test]
fn the_examples_of_section_5_7_are_read_at_every_split() {
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(feed_at_every_split(Role::Server, hello), (vec![text("Hello")], None));
    for (bytes, expected) in [
        (b"\x81\x05Hello".as_slice(), text("Hello")),
        (b"\x01\x03Hel\x80\x02lo", text("Hello")),
        (b"\x89\x05Hello", Owned::Ping(b"Hello".into())),
        (b"\x8a\x05Hello", Owned::Pong(b"Hello".into())),
    ] {
        assert_eq!(feed_at_every_split(Role::Client, bytes), (vec![expected], None));
    }
    let pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let expected = (vec![Owned::Pong(b"Hello".into())], None);
    assert_eq!(feed_at_every_split(Role::Server, pong), expected);
    let medium = [b"\x82\x7e\x01\0".as_slice(), &[7; 256]].concat();
    let expected = (vec![Owned::Binary(vec![7; 256])], None);
    assert_eq!(feed_at_every_split(Role::Client, &medium), expected);
    let long = [b"\x82\x7f\0\0\0\0\0\x01\0\0".as_slice(), &[7; 65_536]].concat();
    let expected = (vec![Owned::Binary(vec![7; 65_536])], None);
    // Byte by byte is too long for Miri.
    for piece in [1, 1_000, 65_545, 65_546].into_iter().skip(usize::from(cfg!(miri))) {
        assert_eq!(feed(Role::Client, BYTES_MAX, long.chunks(piece)), expected);
    }
}

#[test]
fn empty_frames_control_frames_between_fragments_and_cut_characters_are_read() {
    for (bytes, expected) in [
        (
            b"\x81\0\x82\0\x89\0".as_slice(),
            vec![text(""), Owned::Binary(vec![]), Owned::Ping(vec![])],
        ),
        (b"\x01\0\x00\0\x80\0", vec![text("")]),
        (
            b"\x01\x02a\xc3\x89\x02hi\x00\x01\xa9\x8a\0\x80\x01b\x81\x01c",
            vec![Owned::Ping(b"hi".into()), Owned::Pong(vec![]), text("aéb"), text("c")],
        ),
        (b"\x88\0", vec![Owned::Close(None, String::new())]),
        (b"\x88\x02\x03\xe8", vec![Owned::Close(Some(1000), String::new())]),
        (b"\x88\x05\x10\x04bye", vec![Owned::Close(Some(4100), "bye".into())]),
        (b"\x02\x01x\x88\x02\x03\xe9", vec![Owned::Close(Some(1001), String::new())]),
    ] {
        assert_eq!(feed_at_every_split(Role::Client, bytes), (expected, None));
    }
}

#[test]
fn every_violation_is_named_and_gets_its_close_code_at_every_split() {
    use Violation as V;
    let long_ping = [b"\x89\x7e\0\x7e".as_slice(), &[0; 126]].concat();
    for (bytes, violation, code) in [
        (b"\xc1\0".as_slice(), V::ReservedBits, 1002),
        (b"\xa1\0", V::ReservedBits, 1002),
        (b"\x91\0", V::ReservedBits, 1002),
        (b"\x83\0", V::ReservedOpcode(3), 1002),
        (b"\x8f\0", V::ReservedOpcode(15), 1002),
        (b"\x81\x80\0\0\0\0", V::Masked, 1002),
        (b"\x09\0", V::ControlFragmented, 1002),
        (&long_ping, V::ControlTooLong, 1002),
        (b"\x88\x7f\0\0\0\0\0\x01\0\0", V::ControlTooLong, 1002),
        (b"\x80\0", V::NothingToContinue, 1002),
        (b"\x01\0\x80\0\x80\0", V::NothingToContinue, 1002),
        (b"\x01\0\x89\0\x81\0", V::MessageUnfinished, 1002),
        (b"\x02\0\x02\0", V::MessageUnfinished, 1002),
        (b"\x81\x7e\0\x7d", V::LengthNotMinimal, 1002),
        (b"\x81\x7f\0\0\0\0\0\0\xff\xff", V::LengthNotMinimal, 1002),
        (b"\x81\x7f\x80\0\0\0\0\0\0\0", V::LengthTooLarge, 1002),
        (b"\x88\x01\x03", V::ClosePayload, 1002),
        (b"\x88\x02\x03\xe7", V::CloseCode(999), 1002),
        (b"\x88\x02\x03\xec", V::CloseCode(1004), 1002),
        (b"\x88\x02\x03\xed", V::CloseCode(1005), 1002),
        (b"\x88\x02\x03\xee", V::CloseCode(1006), 1002),
        (b"\x88\x02\x03\xf7", V::CloseCode(1015), 1002),
        (b"\x88\x02\x0b\xb7", V::CloseCode(2999), 1002),
        (b"\x88\x02\x13\x88", V::CloseCode(5000), 1002),
        (b"\x88\x04\x03\xe8\xc3\x28", V::NotUtf8, 1007),
        (b"\x81\x02\xc3\x28", V::NotUtf8, 1007),
        (b"\x81\x01\xc3", V::NotUtf8, 1007),
        (b"\x81\x03\xed\xa0\x80", V::NotUtf8, 1007),
        (b"\x01\x01\xc3\x80\x01\x28", V::NotUtf8, 1007),
        (b"\x01\x01\xc3\x80\0", V::NotUtf8, 1007),
        (b"\x01\x01\xff", V::NotUtf8, 1007),
        (b"\x82\x7f\0\0\0\0\0\x02\0\0", V::MessageTooBig, 1009),
        (b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", V::MessageTooBig, 1009),
    ] {
        let (_, found) = feed_at_every_split(Role::Client, bytes);
        assert_eq!(found, Some(violation), "{bytes:02x?}");
        assert_eq!(violation.close_code(), code, "{violation}");
    }
    assert_eq!(feed_at_every_split(Role::Server, b"\x81\0").1, Some(V::Unmasked));
    assert_eq!(V::Unmasked.close_code(), 1002);
}

#[test]
fn messages_up_to_the_limit_pass_and_the_header_of_one_byte_more_is_refused() {
    let bytes = b"\x82\x03abc\x02\x02ab\x89\x05hello\x80\x01c";
    assert_eq!(feed(Role::Client, 3, [bytes.as_slice()]).1, None);
    for bytes in [b"\x82\x04".as_slice(), b"\x02\x02ab\x80\x02"] {
        assert_eq!(feed(Role::Client, 3, [bytes]).1, Some(Violation::MessageTooBig));
    }
}

#[test]
fn a_message_in_one_frame_and_one_read_is_not_copied() {
    let mut bytes = b"\x81\x05Hello".to_vec();
    let expected = bytes[2..].as_ptr();
    let mut reader = Reader::new(Role::Client, BYTES_MAX);
    let Ok(Some(Message::Text(text))) = reader.next_message(&mut bytes, &mut 0) else {
        panic!("the message is complete");
    };
    assert_eq!(text.as_ptr(), expected);
}

/// A compressed message in frames of these lengths and a rest, as a server sends it.
fn deflated(deflater: &mut Deflater, opcode: Opcode, message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut payload = Vec::new();
    deflater.deflate(message, &mut payload);
    let (mut out, mut rest, mut first) = (Vec::new(), &payload[..], opcode as u8 | RSV1);
    for &length in lengths {
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        let start = out.len();
        write_frame(&mut out, Opcode::Continuation, piece);
        out[start] = first;
        (rest, first) = (behind, Opcode::Continuation as u8);
    }
    let start = out.len();
    write_frame(&mut out, Opcode::Continuation, rest);
    out[start] = first | FIN;
    out
}

#[test]
fn compressed_messages_are_read_at_every_split_beside_others() {
    for keeps_context in [false, true] {
        let mut deflater = Deflater::new(6, 15, keeps_context);
        let mut bytes = Vec::new();
        for (opcode, message, lengths) in [
            (Opcode::Text, "a price, a size, a price: é".as_bytes(), &[][..]),
            (Opcode::Binary, b"a price, a size, a price".as_slice(), &[0, 1, 7]),
            (Opcode::Text, b"", &[0]),
        ] {
            bytes.extend_from_slice(&deflated(&mut deflater, opcode, message, lengths));
            bytes.extend_from_slice(b"\x89\x02hi\x81\x05plain");
        }
        let between = [Owned::Ping(b"hi".into()), text("plain")];
        let messages = [
            text("a price, a size, a price: é"),
            Owned::Binary(b"a price, a size, a price".into()),
            text(""),
        ];
        let expected: Vec<_> =
            messages.into_iter().flat_map(|m| [m].into_iter().chain(between.clone())).collect();
        let read = |pieces: &[&[u8]]| {
            let inflater = Some(Inflater::new(keeps_context));
            feed_with(inflater, Role::Client, BYTES_MAX, pieces.iter().copied())
        };
        for at in 0..=bytes.len() {
            let (front, back) = bytes.split_at(at);
            assert_eq!(read(&[front, back]), (expected.clone(), None), "split at {at}");
        }
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), (expected, None));
    }
}

/// A payload of this length in one frame as this role hears it, compressed if there is a deflater.
fn one_frame(deflater: Option<&mut Deflater>, role: Role, payload: &[u8]) -> Vec<u8> {
    let (mut compressed, mut bytes, mut first) = (Vec::new(), Vec::new(), 0);
    let payload = match deflater {
        Some(deflater) => {
            deflater.deflate(payload, &mut compressed);
            first = RSV1;
            &compressed
        }
        None => payload,
    };
    match role {
        Role::Server => write_masked(&mut bytes, Opcode::Binary, payload, *b"mask"),
        Role::Client => write_frame(&mut bytes, Opcode::Binary, payload),
    }
    bytes[0] |= first;
    bytes
}

#[test]
#[cfg_attr(miri, ignore = "messages of 16 MiB")]
fn frames_of_0_b_to_16_mib_are_read_at_every_split_of_header_and_end() {
    const LARGEST: usize = 16 << 20;
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, (1 << 20) + 1, LARGEST] {
        // It hardly compresses, so that the frame stays as long.
        let numbers = (0..).map(|n: u32| n.wrapping_mul(0x9E37_79B1).to_be_bytes()[0]);
        let payload: Vec<_> = numbers.take(len).collect();
        for role in [Role::Server, Role::Client] {
            for is_compressed in [false, true] {
                let mut deflater = is_compressed.then(|| Deflater::new(1, 15, false));
                let bytes = one_frame(deflater.as_mut(), role, &payload);
                let behind_header = (HEADER_BYTES_MAX + 2).min(bytes.len());
                let before_end = bytes.len().saturating_sub(2).max(behind_header);
                for at in
                    (0..=behind_header).chain([bytes.len() / 2]).chain(before_end..bytes.len())
                {
                    let (front, back) = bytes.split_at(at);
                    let inflater = is_compressed.then(|| Inflater::new(false));
                    let read = feed_with(inflater, role, LARGEST, [front, back]);
                    let what = format!("{len} bytes for {role:?}, {is_compressed}, split at {at}");
                    assert_eq!(read.1, None, "{what}");
                    assert!(read.0 == [Owned::Binary(payload.clone())], "{what}");
                }
            }
        }
    }
}

#[test]
fn a_compressed_message_is_held_to_every_rule_of_others() {
    use Violation as V;
    let mut deflater = Deflater::new(6, 15, false);
    let mut deflate = |opcode, message: &[u8], lengths: &[usize]| {
        deflated(&mut deflater, opcode, message, lengths)
    };
    let zeros = vec![b'0'; BYTES_MAX + 1];
    let random: Vec<_> =
        (0..9_000u32).map(|n| n.wrapping_mul(0x9E37_79B1).to_be_bytes()[0]).collect();
    let mut broken = deflate(Opcode::Text, b"Hello", &[]);
    broken[2] ^= 4; // a block of a kind that does not exist
    for (bytes, violation) in [
        (deflate(Opcode::Text, b"\xc3\x28", &[]), V::NotUtf8),
        (deflate(Opcode::Text, b"\xc3", &[1]), V::NotUtf8),
        (deflate(Opcode::Binary, &zeros, &[]), V::MessageTooBig),
        (deflate(Opcode::Binary, &zeros, &[10, 10]), V::MessageTooBig),
        (b"\xc1\x01\x07".to_vec(), V::NotDeflate),
        (broken, V::NotDeflate),
        (b"\xc9\0".to_vec(), V::ReservedBits),
        (b"\xc8\0".to_vec(), V::ReservedBits),
        (b"\x41\0\xc0\x01\0".to_vec(), V::ReservedBits),
        (b"\x01\0\xc0\x01\0".to_vec(), V::ReservedBits),
        (b"\xe1\0".to_vec(), V::ReservedBits),
        (b"\xa1\0".to_vec(), V::ReservedBits),
        (b"\xc3\0".to_vec(), V::ReservedBits),
    ] {
        for piece in [1, 3, bytes.len()] {
            let inflater = Some(Inflater::new(false));
            let (_, found) = feed_with(inflater, Role::Client, BYTES_MAX, bytes.chunks(piece));
            assert_eq!(found, Some(violation), "{:02x?}", &bytes[..bytes.len().min(20)]);
        }
    }
    assert_eq!(V::NotDeflate.close_code(), 1007);
    // What cannot be compressed may be a little longer on its way than it is.
    let bytes = deflate(Opcode::Binary, &random, &[4_000]);
    let inflater = || Some(Inflater::new(false));
    let read = feed_with(inflater(), Role::Client, random.len(), [&bytes[..]]);
    assert_eq!(read, (vec![Owned::Binary(random.clone())], None));
    let read = feed_with(inflater(), Role::Client, random.len() - 1, [&bytes[..]]);
    assert_eq!(read.1, Some(V::MessageTooBig));
}

/// A message to send: its kind, its payload, and where a sender may cut it.
fn messages() -> impl Strategy<Value = Vec<(Owned, Vec<usize>)>> {
    let control = || prop::collection::vec(any::<u8>(), 0..125);
    let message = prop_oneof![
        4 => "\\PC{0,200}".prop_map(Owned::Text),
        2 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Owned::Binary),
        1 => control().prop_map(Owned::Ping),
        1 => control().prop_map(Owned::Pong),
        1 => (3000u16..5000, "[a-zé]{0,60}").prop_map(|(code, why)| Owned::Close(Some(code), why)),
    ];
    prop::collection::vec((message, prop::collection::vec(0usize..300, 0..4)), 1..8)
}

/// Appends a message, data in fragments with a ping after each but the last.
fn send(
    out: &mut Vec<u8>,
    read: &mut Vec<Owned>,
    message: &Owned,
    cuts: &[usize],
    mask: Option<[u8; 4]>,
) {
    let mut close = Vec::new();
    let (opcode, payload) = match message {
        Owned::Text(text) => (Opcode::Text, text.as_bytes()),
        Owned::Binary(bytes) => (Opcode::Binary, bytes.as_slice()),
        Owned::Ping(bytes) => (Opcode::Ping, bytes.as_slice()),
        Owned::Pong(bytes) => (Opcode::Pong, bytes.as_slice()),
        Owned::Close(code, reason) => {
            close::write_close_payload(&mut close, code.unwrap(), reason);
            (Opcode::Close, close.as_slice())
        }
    };
    let mut frame = |opcode, payload: &[u8], fin: bool| {
        let start = out.len();
        match mask {
            Some(mask) => write_masked(out, opcode, payload, mask),
            None => write_frame(out, opcode, payload),
        }
        if !fin {
            out[start] &= !FIN;
        }
    };
    let mut opcode = opcode;
    let mut start = 0;
    if !opcode.is_control() {
        let mut cuts: Vec<_> = cuts.iter().map(|&cut| cut.min(payload.len())).collect();
        cuts.sort_unstable();
        for cut in cuts {
            frame(opcode, &payload[start..cut], false);
            frame(Opcode::Ping, b"between", true);
            read.push(Owned::Ping(b"between".into()));
            (opcode, start) = (Opcode::Continuation, cut);
        }
    }
    frame(opcode, &payload[start..], true);
    read.push(message.clone());
}

proptest! {
    #[test]
    fn what_one_side_writes_the_other_reads_however_it_is_cut(
        messages in messages(),
        mask: Option<[u8; 4]>,
        piece in 1usize..64,
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (message, cuts) in &messages {
            send(&mut bytes, &mut expected, message, cuts, mask);
        }
        let role = if mask.is_some() { Role::Server } else { Role::Client };
        let expected = (expected, None);
        prop_assert_eq!(&feed(role, BYTES_MAX, [bytes.as_slice()]), &expected);
        prop_assert_eq!(&feed(role, BYTES_MAX, bytes.chunks(piece)), &expected);
    }
}
