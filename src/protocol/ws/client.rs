//! The client's half of the opening handshake (RFC 6455, section 4.1), for the tools and the tests.
//!
//! Not here: resolving and connecting. Invariant: a response that is accepted is one that every
//! conforming client accepts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::handshake::{SUBPROTOCOL, accept, lists, only, values};
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

/// Appends an upgrade request. `host` with its port unless that is the scheme's own, `path` with
/// its query, `key` from [`key`], `token` (printable ASCII) as a bearer credential (RFC 6750).
pub fn write_request(
    out: &mut Vec<u8>,
    host: &str,
    path: &str,
    key: &str,
    subprotocol: Option<&str>,
    token: Option<&str>,
) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    out.extend_from_slice(request.as_bytes());
    if let Some(subprotocol) = subprotocol {
        out.extend_from_slice(format!("Sec-WebSocket-Protocol: {subprotocol}\r\n").as_bytes());
    }
    if let Some(token) = token {
        out.extend_from_slice(format!("Authorization: Bearer {token}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Looks for the whole answer to the request with this `key` at the front of `bytes`; the length
/// of its head, after which frames follow, or `None` when more bytes are needed.
///
/// # Errors
/// What the server answered instead of an upgrade.
pub fn parse_response(bytes: &[u8], key: &str) -> Result<Option<usize>, ClientHandshakeError> {
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
    match wrong(response.headers, key) {
        None => Ok(Some(head_len)),
        Some(what) => Err(ClientHandshakeError::NotAnUpgrade { phrase, what }),
    }
}

/// The first thing that is wrong with a 101's headers (RFC 6455, section 4.1, items 2 to 6).
fn wrong(headers: &[httparse::Header<'_>], key: &str) -> Option<&'static str> {
    if !lists(headers, "Upgrade", "websocket") {
        return Some("the header 'Upgrade: websocket' is missing");
    }
    if !lists(headers, "Connection", "Upgrade") {
        return Some("the header 'Connection: Upgrade' is missing");
    }
    let accepted = only(headers, "Sec-WebSocket-Accept");
    if accepted.map(str::as_bytes) != Some(&accept(key)) {
        return Some("Sec-WebSocket-Accept does not answer the key that was sent");
    }
    if values(headers, "Sec-WebSocket-Extensions").next().is_some() {
        return Some("it chose an extension that was not offered");
    }
    if values(headers, "Sec-WebSocket-Protocol").any(|chosen| chosen != SUBPROTOCOL) {
        return Some("it chose a sub-protocol that was not offered");
    }
    None
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
    use super::super::handshake::{Parsed, Rejection, parse, write_accept};
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
