//! What must hold for every input of a protocol parser: one function a parser, which panics when it
//! does not.
//!
//! `cargo fuzz run NAME` searches for a counter-example; `tests/fuzz_properties.rs` runs the seeds
//! and random bytes through the same functions on every test run. Not here: examples with known
//! answers, which stand beside each parser.

use fanfare::journal::record::{self, Flaw};
use fanfare::protocol::channel::{Pattern, check_name};
use fanfare::protocol::ws::client::{ClientHandshakeError, parse_response};
use fanfare::protocol::ws::handshake::{self, Parsed};
use fanfare::protocol::ws::reader::{Message, Reader, Role, Violation};
use fanfare::protocol::{command, reply};

/// The `Sec-WebSocket-Key` of RFC 6455, section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Small enough that random lengths often pass it.
const MESSAGE_BYTES_MAX: usize = 1 << 12;

/// Input: a role, a number of cuts, the lengths between them, then the stream.
pub fn ws_reader(data: &[u8]) {
    let [role, cuts, rest @ ..] = data else { return };
    let role = if role & 1 == 0 { Role::Server } else { Role::Client };
    let (cuts, stream) = rest.split_at(usize::from(*cuts).min(rest.len()));
    let mut pieces = Vec::new();
    let mut left = stream;
    for cut in cuts {
        let (piece, back) = left.split_at(usize::from(*cut).min(left.len()));
        pieces.push(piece);
        left = back;
    }
    pieces.push(left);
    let whole = messages(role, [stream]);
    assert_eq!(messages(role, pieces), whole);
    assert_eq!(messages(role, stream.chunks(1)), whole);
}

/// The messages of a stream as text, and how it went wrong.
fn messages<'a>(
    role: Role,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<Violation>) {
    let mut reader = Reader::new(role, MESSAGE_BYTES_MAX);
    let mut messages = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let mut used = 0;
            match reader.next_message(&mut piece[at..], &mut used) {
                Ok(Some(message)) => {
                    if let Message::Text(text) = message {
                        assert!(text.len() <= MESSAGE_BYTES_MAX);
                    }
                    messages.push(format!("{message:?}"));
                }
                Ok(None) => {
                    assert_eq!(at + used, piece.len());
                    break;
                }
                Err(violation) => return (messages, Some(violation)),
            }
            at += used;
        }
    }
    (messages, None)
}

/// Input: what a client sends after connecting.
pub fn upgrade(data: &[u8]) {
    match handshake::parse(data) {
        Ok(Parsed::Incomplete) => {}
        Ok(Parsed::Request { upgrade, head_len }) => {
            let head = &data[..head_len];
            assert_eq!(handshake::parse(&head[..head_len - 1]), Ok(Parsed::Incomplete));
            let request = Parsed::Request { upgrade: upgrade.clone(), head_len };
            assert_eq!(handshake::parse(head), Ok(request));
            let mut response = Vec::new();
            handshake::write_accept(&mut response, &upgrade);
            assert!(response.starts_with(b"HTTP/1.1 101 ") && response.ends_with(b"\r\n\r\n"));
        }
        Err(rejection) => {
            let mut response = Vec::new();
            rejection.write(&mut response);
            match parse_response(&response, KEY) {
                Err(ClientHandshakeError::Refused { status, .. }) => {
                    assert_eq!(status, rejection.status());
                }
                other => panic!("a refusal is an HTTP response, not {other:?}"),
            }
        }
    }
}

/// Input: a client's text message.
pub fn command(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut scratch = b"left by the message before".to_vec();
    let parsed = command::parse(text, &mut scratch);
    assert_eq!(command::parse(text, &mut Vec::new()), parsed, "the scratch does not matter");
    let mut out = Vec::new();
    match parsed {
        Ok(request) => reply::pong(&mut out, request.req_id.as_ref(), 1, 2),
        Err(refusal) => reply::refused(&mut out, &refusal, 1, 2),
    }
    serde_json::from_slice::<serde_json::Value>(&out).expect("a reply is valid JSON");
}

/// Input: a pattern, a line break, a channel.
pub fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((pattern, channel)) = text.split_once('\n') else { return };
    let Ok(parsed) = Pattern::parse(pattern) else {
        assert!(check_name(pattern).is_err(), "a channel's name is a pattern");
        return;
    };
    assert_eq!(check_name(pattern).is_ok(), parsed.is_exact());
    if check_name(channel).is_err() {
        return;
    }
    let tokens: Vec<_> = pattern.split('.').collect();
    let names: Vec<_> = channel.split('.').collect();
    assert_eq!(parsed.matches(channel), naive(&tokens, &names));
    assert!(!parsed.is_exact() || parsed.matches(channel) == (pattern == channel));
    assert!(!parsed.is_everything() || parsed.matches(channel));
}

fn naive(tokens: &[&str], names: &[&str]) -> bool {
    match (tokens, names) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        ([token, tokens @ ..], [name, names @ ..]) => {
            (token == name || *token == "*") && naive(tokens, names)
        }
        _ => false,
    }
}

/// Input: what a server answers to an upgrade request with [`KEY`].
pub fn client_response(data: &[u8]) {
    match parse_response(data, KEY) {
        Ok(None) => {}
        Ok(Some(head_len)) => {
            assert_eq!(parse_response(&data[..head_len], KEY), Ok(Some(head_len)));
            assert_eq!(parse_response(&data[..head_len - 1], KEY), Ok(None));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Input: the rest of a journal's file; and the body of a record.
pub fn journal_record(data: &[u8]) {
    check_record(data);
    if (1..1 << 20).contains(&data.len()) {
        let mut sealed = Vec::new();
        record::write_body(&mut sealed, data);
        check_record(&sealed);
    }
}

/// What decodes encodes to the same bytes, and no beginning of it does.
fn check_record(bytes: &[u8]) {
    let Ok(Some((found, length))) = record::read(bytes) else { return };
    let mut again = Vec::new();
    record::write(&mut again, &found);
    assert_eq!(again, bytes[..length]);
    for end in [1, length / 2, length - 1] {
        assert_eq!(record::read(&bytes[..end]), Err(Flaw::Torn));
    }
}
