//! The client's half of the opening handshake (RFC 6455, section 4.1), for the tools and the tests.
//!
//! Not here: resolving and connecting. Invariant: a response that is accepted is one that every
//! conforming client accepts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::deflate::{Agreed, OFFER, agreed_by_response};
use super::extensions;
use super::handshake::{SUBPROTOCOLS, accept, lists, only, values};
use crate::limits::{UPGRADE_BYTES_MAX, UPGRADE_HEADERS_MAX};

/// Why a server's answer is not an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientHandshakeError {
    /// Not HTTP at all.
    #[error("the server does not speak HTTP/1.1 ({0}); is the address right, and is it wss://?")]
    NotHttp(String),
    /// A head that never ends.
    #[error("the server's response head is longer than {UPGRADE_BYTES_MAX} bytes")]
    HeadTooLarge,
    /// Another status than 101, with the first line of the body if it came along.
    #[error(
        "the server answered '{status} {phrase}'{}{body}",
        if body.is_empty() { "" } else { ": " }
    )]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason phrase.
        phrase: String,
        /// The first line of the body.
        body: String,
        /// Seconds that the server asks to wait (RFC 9110, section 10.2.3); a date is not read.
        retry_after_s: Option<u32>,
    },
    /// 101, but a header is missing or wrong.
    #[error("the server answered '101 {phrase}', but {what}")]
    NotAnUpgrade {
        /// The reason phrase.
        phrase: String,
        /// Which header, and what it should be.
        what: &'static str,
    },
}

/// The `Sec-WebSocket-Key` of 16 random bytes.
#[must_use]
pub fn key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// An upgrade request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// With its port, unless that is the scheme's own.
    pub host: &'a str,
    /// With its query.
    pub path: &'a str,
    /// From [`key`].
    pub key: &'a str,
    /// The sub-protocol to offer.
    pub subprotocol: Option<&'a str>,
    /// A bearer credential (RFC 6750), in printable ASCII.
    pub token: Option<&'a str>,
    /// Whether permessage-deflate is offered (RFC 7692).
    pub deflate: bool,
}

impl Request<'_> {
    /// Appends the request.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Self { host, path, key, .. } = self;
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        if let Some(subprotocol) = self.subprotocol {
            request.push_str(&format!("Sec-WebSocket-Protocol: {subprotocol}\r\n"));
        }
        if self.deflate {
            request.push_str(&format!("Sec-WebSocket-Extensions: {OFFER}\r\n"));
        }
        if let Some(token) = self.token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        request.push_str("\r\n");
        out.extend_from_slice(request.as_bytes());
    }
}

/// Appends a [`Request`] without compression.
pub fn write_request(
    out: &mut Vec<u8>,
    host: &str,
    path: &str,
    key: &str,
    subprotocol: Option<&str>,
    token: Option<&str>,
) {
    Request { host, path, key, subprotocol, token, deflate: false }.write(out);
}

/// A server's consent to an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Bytes of its head, after which frames follow.
    pub head_len: usize,
    /// What holds for compression; none: nothing is compressed.
    pub deflate: Option<Agreed>,
}

/// [`parse_answer`] to a request without compression; the length of its head.
///
/// # Errors
/// What the server answered instead of an upgrade.
pub fn parse_response(bytes: &[u8], key: &str) -> Result<Option<usize>, ClientHandshakeError> {
    let answer = parse_answer(bytes, key, false)?;
    Ok(answer.map(|answer| answer.head_len))
}

/// Looks for the whole answer to the request with this `key`, which offered `deflate` or not, at
/// the front of `bytes`; none when more bytes are needed.
///
/// # Errors
/// What the server answered instead of an upgrade.
pub fn parse_answer(
    bytes: &[u8],
    key: &str,
    deflate: bool,
) -> Result<Option<Answer>, ClientHandshakeError> {
    let mut headers = [httparse::EMPTY_HEADER; UPGRADE_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_len = match response.parse(&bytes[..bytes.len().min(UPGRADE_BYTES_MAX)]) {
        Ok(httparse::Status::Complete(head_len)) => head_len,
        Ok(httparse::Status::Partial) if bytes.len() < UPGRADE_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(ClientHandshakeError::HeadTooLarge);
        }
        Err(error) => return Err(ClientHandshakeError::NotHttp(error.to_string())),
    };
    let status = response.code.unwrap_or_default();
    let phrase = response.reason.unwrap_or_default().to_owned();
    if status != 101 {
        let body = first_line(&bytes[head_len..]);
        let retry_after_s =
            only(response.headers, "Retry-After").and_then(|value| value.parse().ok());
        return Err(ClientHandshakeError::Refused { status, phrase, body, retry_after_s });
    }
    match check(response.headers, key, deflate) {
        Ok(deflate) => Ok(Some(Answer { head_len, deflate })),
        Err(what) => Err(ClientHandshakeError::NotAnUpgrade { phrase, what }),
    }
}

/// What a 101's headers say of compression, or the first thing that is wrong with them (RFC 6455,
/// section 4.1, items 2 to 6).
fn check(
    headers: &[httparse::Header<'_>],
    key: &str,
    deflate: bool,
) -> Result<Option<Agreed>, &'static str> {
    if !lists(headers, "Upgrade", "websocket") {
        return Err("the header 'Upgrade: websocket' is missing");
    }
    if !lists(headers, "Connection", "Upgrade") {
        return Err("the header 'Connection: Upgrade' is missing");
    }
    let accepted = only(headers, "Sec-WebSocket-Accept");
    if accepted.map(str::as_bytes) != Some(&accept(key)) {
        return Err("Sec-WebSocket-Accept does not answer the key that was sent");
    }
    if values(headers, "Sec-WebSocket-Protocol").any(|chosen| !SUBPROTOCOLS.contains(&chosen)) {
        return Err("it chose a sub-protocol that was not offered");
    }
    let mut agreed = None;
    for value in values(headers, "Sec-WebSocket-Extensions") {
        let chosen = extensions::parse(value);
        for extension in chosen.map_err(|_| "Sec-WebSocket-Extensions is not a list")? {
            if !deflate || agreed.is_some() {
                return Err("it chose an extension that was not offered");
            }
            agreed = Some(agreed_by_response(&extension)?);
        }
    }
    Ok(agreed)
}

/// The first line of a body for people, cut to what fits a terminal line or two.
fn first_line(body: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 200;
    let line = body.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = &line[..line.len().min(SHOWN_BYTES_MAX)];
    String::from_utf8_lossy(line).trim_ascii().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::deflate::Terms;
    use super::super::handshake::{Parsed, Rejection, SUBPROTOCOL, parse, write_accept};
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn accepted() -> Vec<u8> {
        let mut request = Vec::new();
        let token = Some("desk-7.secret");
        write_request(&mut request, "localhost:9001", "/v1?a=b", KEY, Some(SUBPROTOCOL), token);
        let Parsed::Request { upgrade, head_len } = parse(&request).unwrap() else {
            panic!("the request is complete");
        };
        assert_eq!(head_len, request.len());
        assert_eq!(upgrade.query.as_deref(), Some("a=b"));
        assert_eq!(upgrade.authorization.as_deref(), Some("Bearer desk-7.secret"));
        let mut response = Vec::new();
        write_accept(&mut response, &upgrade);
        response
    }

    #[test]
    fn our_client_and_our_server_agree_at_every_split_of_the_response() {
        let mut response = accepted();
        let head_len = response.len();
        response.extend_from_slice(b"\x81\x02hi");
        for end in 0..head_len {
            assert_eq!(parse_response(&response[..end], KEY), Ok(None), "{end}");
        }
        for end in head_len..=response.len() {
            assert_eq!(parse_response(&response[..end], KEY), Ok(Some(head_len)), "{end}");
        }
    }

    #[test]
    fn compression_is_agreed_on_if_both_want_it() {
        for (offers, terms, expected) in [
            (false, Some(Terms::shared(15)), "none"),
            (true, None, "none"),
            (true, Some(Terms::own()), "permessage-deflate"),
            (
                true,
                Some(Terms::shared(13)),
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=13",
            ),
        ] {
            let (host, path, key) = ("localhost", "/v1", KEY);
            let mut request = Vec::new();
            Request { host, path, key, subprotocol: None, token: None, deflate: offers }
                .write(&mut request);
            let Parsed::Request { mut upgrade, .. } = parse(&request).unwrap() else {
                panic!("the request is complete");
            };
            if let Some(terms) = terms {
                upgrade.agree(terms);
            }
            let mut response = Vec::new();
            write_accept(&mut response, &upgrade);
            let answer = parse_answer(&response, KEY, offers).unwrap().unwrap();
            let text = answer.deflate.map_or_else(|| "none".into(), |agreed| agreed.to_string());
            assert_eq!((text.as_str(), answer.deflate), (expected, upgrade.deflate));
        }
    }

    #[test]
    fn an_extension_in_the_answer_must_be_one_that_was_offered() {
        let good = String::from_utf8(accepted()).unwrap();
        for (chosen, named) in [
            ("x", "not offered"),
            ("permessage-deflate, permessage-deflate", "not offered"),
            ("permessage-deflate; a", "RFC 7692"),
            ("permessage-deflate;", "not a list"),
        ] {
            let head = format!("\r\nSec-WebSocket-Extensions: {chosen}\r\n\r\n");
            let response = good.replace("\r\n\r\n", &head);
            let error = parse_answer(response.as_bytes(), KEY, true).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_shown_with_its_status_line_and_the_servers_words() {
        let mut response = Vec::new();
        Rejection::AtCapacity { retry_after_s: 5 }.write(&mut response);
        let error = parse_response(&response, KEY).unwrap_err();
        let ClientHandshakeError::Refused { retry_after_s, .. } = error else { panic!("{error}") };
        assert_eq!(retry_after_s, Some(5));
        let error = error.to_string();
        assert!(error.contains("'503 Service Unavailable': at capacity"), "{error}");
    }

    #[test]
    fn a_101_that_does_not_answer_our_request_is_refused_by_name_of_the_header() {
        let good = String::from_utf8(accepted()).unwrap();
        for (from, to, named) in [
            ("Upgrade: websocket", "Upgrade: h2c", "Upgrade: websocket"),
            ("Connection: Upgrade", "Connection: close", "Connection: Upgrade"),
            ("Accept: s3", "Accept: S3", "Sec-WebSocket-Accept"),
            ("fanfare.v1.json", "chat", "sub-protocol"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n", "extension"),
        ] {
            let error = parse_response(good.replace(from, to).as_bytes(), KEY).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
        let error = parse_response(b"SSH-2.0-OpenSSH_9.6\r\n", KEY).unwrap_err();
        assert!(matches!(error, ClientHandshakeError::NotHttp(_)), "{error}");
        let endless = [b"HTTP/1.1 101 x\r\na: ".as_slice(), &[b'x'; UPGRADE_BYTES_MAX]].concat();
        assert_eq!(parse_response(&endless, KEY), Err(ClientHandshakeError::HeadTooLarge));
    }
}
