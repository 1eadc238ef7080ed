//! What must hold for every input of a protocol parser: one function a parser, which panics when it
//! does not.
//!
//! `cargo fuzz run NAME` searches for a counter-example; `tests/fuzz_properties.rs` runs the seeds
//! and random bytes through the same functions on every test run. Not here: examples with known
//! answers, which stand beside each parser.

use fanfare::journal::record::{self, Flaw};
use fanfare::protocol::channel::{Pattern, check_name};
use fanfare::protocol::data::envelope::Envelope;
use fanfare::protocol::event::Kind;
use fanfare::protocol::ws::client::{ClientHandshakeError, parse_response};
use fanfare::protocol::ws::deflate::{
    Agreed, COMPRESSOR_BITS_MIN, Deflater, InflateError, Inflater, Offer, Terms, agreed_by_response,
};
use fanfare::protocol::ws::extensions;
use fanfare::protocol::ws::handshake::{self, Parsed};
use fanfare::protocol::ws::reader::{Message, Reader, Role, Violation};
use fanfare::protocol::{binary, command, query, reply};

pub use self::tls::tls_session;

mod tls;

/// The `Sec-WebSocket-Key` of RFC 6455, section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Small enough that random lengths often pass it.
const MESSAGE_BYTES_MAX: usize = 1 << 12;

/// Input: a role and what was agreed on, a number of cuts, the lengths between them, then the
/// stream.
pub fn ws_reader(data: &[u8]) {
    let [flags, cuts, rest @ ..] = data else { return };
    let role = if flags & 1 == 0 { Role::Server } else { Role::Client };
    let context = (flags & 2 != 0).then_some(flags & 4 != 0);
    let (cuts, stream) = rest.split_at(usize::from(*cuts).min(rest.len()));
    let mut pieces = Vec::new();
    let mut left = stream;
    for cut in cuts {
        let (piece, back) = left.split_at(usize::from(*cut).min(left.len()));
        pieces.push(piece);
        left = back;
    }
    pieces.push(left);
    let whole = messages(role, context, [stream]);
    assert_eq!(messages(role, context, pieces), whole);
    assert_eq!(messages(role, context, stream.chunks(1)), whole);
}

/// The messages of a stream as text, and how it went wrong; with compression if there is a
/// `context`, which is kept or not.
fn messages<'a>(
    role: Role,
    context: Option<bool>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<Violation>) {
    let mut reader = Reader::new(role, MESSAGE_BYTES_MAX);
    let mut inflater = context.map(Inflater::new);
    let mut messages = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let mut used = 0;
            match reader.next_message_of(&mut piece[at..], &mut used, inflater.as_mut()) {
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

/// Input: what is set, how long the first of two payloads is, then both.
pub fn inflate(data: &[u8]) {
    let [flags, length, rest @ ..] = data else { return };
    let keeps_context = flags & 1 != 0;
    let (first, second) = rest.split_at(usize::from(*length).min(rest.len()));
    // As payloads: what came before counts only where the context is kept, and then exactly so.
    let mut inflater = Inflater::new(keeps_context);
    let before = inflated(&mut inflater, first);
    if !keeps_context || before.is_ok() {
        let after = inflated(&mut inflater, second);
        let mut again = Inflater::new(keeps_context);
        if keeps_context {
            assert_eq!(inflated(&mut again, first), before);
        }
        assert_eq!(inflated(&mut again, second), after);
    }
    // As messages: they come back.
    let window_bits = COMPRESSOR_BITS_MIN + (flags >> 1) % 7;
    let mut deflater = Deflater::new(u32::from(flags >> 4) % 10, window_bits, keeps_context);
    let mut inflater = Inflater::new(keeps_context);
    for message in [first, second, first] {
        let mut payload = Vec::new();
        deflater.deflate(message, &mut payload);
        assert_eq!(inflater.inflate(&payload, message.len()), Ok(message));
    }
}

fn inflated(inflater: &mut Inflater, payload: &[u8]) -> Result<Vec<u8>, InflateError> {
    let inflated = inflater.inflate(payload, MESSAGE_BYTES_MAX);
    inflated.inspect(|message| assert!(message.len() <= MESSAGE_BYTES_MAX)).map(<[u8]>::to_vec)
}

/// Input: a value of `Sec-WebSocket-Extensions`.
pub fn extensions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(list) = extensions::parse(text) else { return };
    let offers: Vec<_> = list.iter().filter_map(Offer::read).collect();
    for terms in [Terms::own(), Terms::shared(15), Terms::shared(10)] {
        let Some(agreed) = terms.agree(&offers) else { continue };
        assert!(!offers.is_empty(), "nothing is agreed to without an offer");
        let answer = agreed.to_string();
        let answer = extensions::parse(&answer).expect("an answer follows the grammar");
        assert_eq!(agreed_by_response(&answer[0]), Ok(agreed), "a client understands it so");
        let Agreed { server_context, client_context, .. } = agreed;
        assert!(terms.is_own || !server_context && !client_context);
        assert!(agreed.server_window_bits() <= terms.window_bits);
    }
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
            if let Some(text) = upgrade.query.as_deref().and_then(query::subscription) {
                command(text.as_bytes());
            }
        }
        Ok(Parsed::Events(events)) => {
            let mut response = Vec::new();
            handshake::write_events_accept(&mut response, events.origin.as_deref());
            let text = std::str::from_utf8(&response).expect("a head is text");
            assert_eq!(text.find("\r\n\r\n"), Some(text.len() - 4), "one head, nothing else");
            let place = events.last_event_id.as_deref();
            command(query::stream(&events.query.unwrap_or_default(), place).as_bytes());
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

/// Input: a binary message of a server.
pub fn binary(data: &[u8]) {
    let Ok(Some(event)) = binary::read(data) else { return };
    assert!(event.key_json.map_or(0, <[u8]>::len) + event.data.len() < data.len());
    let (mut text, is_update) = (Vec::new(), event.kind == Kind::Update);
    let text = event.json_text("a.b", &mut text);
    let Some(envelope) = Envelope::find(text) else {
        // A server's key is a JSON string; only another one than ours can have sent this.
        assert!(event.key_json.is_some());
        return;
    };
    if envelope.key_json == event.key_json {
        assert_eq!((envelope.seq, envelope.ts), (event.seq, event.ts));
        assert_eq!((envelope.kind == Kind::Update, envelope.data), (is_update, event.data));
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
