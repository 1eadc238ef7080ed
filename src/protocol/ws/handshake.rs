//! The server's half of the opening handshake (RFC 6455, section 4.2) over HTTP/1.1.
//!
//! Not here: reading, deadlines and what an [`Upgrade`] leads to. Invariant: every request gets
//! exactly one answer, and every refusal is a complete HTTP response that says what was wrong and
//! the cure.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::super::binary;
use super::super::encoding::Encoding;
use super::super::refusal::ErrorCode;
use super::super::sse::MEDIA_TYPE;
use super::deflate::{Agreed, Offer, Terms};
use super::extensions::{self, Malformed};
use crate::limits::{UPGRADE_BYTES_MAX, UPGRADE_HEADERS_MAX};

/// The path that is upgraded.
pub const PATH: &str = "/v1";

/// The same under the name that clients with the subscription in the URL expect.
const PATH_STREAM: &str = "/stream";

/// An event stream, whatever the client accepts.
const PATH_EVENTS: &str = "/v1/sse";

/// The sub-protocol spoken after the upgrade, and when none is asked for.
pub const SUBPROTOCOL: &str = "fanfare.v1.json";

/// Those that may be asked for.
pub(super) const SUBPROTOCOLS: [&str; 2] = [SUBPROTOCOL, binary::SUBPROTOCOL];

/// The only version that RFC 6455 defines.
const VERSION: &str = "13";

/// What a request's bytes came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The head is not complete; call again with more bytes.
    Incomplete,
    /// A request to be answered with [`write_accept`].
    Request {
        /// What was asked for.
        upgrade: Upgrade,
        /// Bytes of the head; whatever follows are WebSocket frames.
        head_len: usize,
    },
    /// A request for a stream of Server-Sent Events.
    Events(Events),
}

/// An upgrade request that may be accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: [u8; 28],
    /// The first that the client offered of those that are spoken here.
    pub subprotocol: Option<&'static str>,
    /// What the client offers for permessage-deflate, what it prefers first.
    pub offers: Vec<Offer>,
    /// What is answered to that; see [`Upgrade::agree`].
    pub deflate: Option<Agreed>,
    /// What follows the `?` of the request's target; it may hold a credential.
    pub query: Option<String>,
    /// The value of `Authorization`, which is one.
    pub authorization: Option<String>,
    /// The page that a browser connects from.
    pub origin: Option<String>,
}

impl Upgrade {
    /// Agrees to the first offer of compression that `terms` allow, if there is one; binary
    /// messages are not compressed.
    pub fn agree(&mut self, terms: Terms) {
        if !self.is_binary() {
            self.deflate = terms.agree(&self.offers);
        }
    }

    /// How the client gets its events.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        if self.is_binary() { Encoding::Binary } else { Encoding::of(self.deflate) }
    }

    fn is_binary(&self) -> bool {
        self.subprotocol == Some(binary::SUBPROTOCOL)
    }
}

impl fmt::Debug for Upgrade {
    /// Without what may hold a credential.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (out.debug_struct("Upgrade"))
            .field("subprotocol", &self.subprotocol)
            .field("deflate", &self.deflate)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// A request for a stream of Server-Sent Events (WHATWG HTML, section 9.2) that may be accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct Events {
    /// What follows the `?` of the request's target: the subscription, and maybe a credential.
    pub query: Option<String>,
    /// The place that the client goes on from.
    pub last_event_id: Option<String>,
    /// The value of `Authorization`, which is a credential.
    pub authorization: Option<String>,
    /// The page that a browser connects from.
    pub origin: Option<String>,
}

impl fmt::Debug for Events {
    /// Without what may hold a credential.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (out.debug_struct("Events"))
            .field("last_event_id", &self.last_event_id)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// 400: not HTTP/1.1, or not the handshake of RFC 6455.
    #[error("bad request: {0}")]
    Malformed(&'static str),
    /// 404: another path.
    #[error("not found: the paths here are {PATH}, {PATH_STREAM} and {PATH_EVENTS}")]
    NotFound,
    /// 405: another method than GET.
    #[error("method not allowed: open a WebSocket with GET {PATH}")]
    MethodNotAllowed,
    /// 426: a plain HTTP request.
    #[error(
        "upgrade required: this is a WebSocket server; connect with ws:// or wss:// and send \
         the headers 'Upgrade: websocket' and 'Connection: Upgrade', or ask for {PATH_EVENTS}"
    )]
    UpgradeRequired,
    /// 426: a WebSocket version other than 13 (RFC 6455, section 4.4).
    #[error("upgrade required: the only version here is 'Sec-WebSocket-Version: {VERSION}'")]
    VersionUnsupported,
    /// 431: more than [`UPGRADE_BYTES_MAX`] bytes or [`UPGRADE_HEADERS_MAX`] headers.
    #[error(
        "request header fields too large: send at most {UPGRADE_BYTES_MAX} bytes and \
         {UPGRADE_HEADERS_MAX} headers"
    )]
    HeadTooLarge,
    /// 408: the head was not complete in time.
    #[error("request timeout: send the whole upgrade request at once")]
    Timeout,
    /// 401: no credential where one is needed, or one that is not good.
    #[error("unauthorized: {0}")]
    Unauthorized(&'static str),
    /// 403: a page of this origin may not connect.
    #[error(
        "forbidden: pages of this origin may not connect; the operator's list of origins decides"
    )]
    OriginForbidden,
    /// 429: more connections, or new ones, than this client may have.
    #[error("too many requests: {reason}; try again in {retry_after_s} s")]
    TooMany {
        /// What there is too much of.
        reason: &'static str,
        /// Seconds to wait.
        retry_after_s: u32,
    },
    /// 503: no room for one more connection, or the server stops.
    #[error("at capacity, or stopping: try again in {retry_after_s} s, or on another node")]
    AtCapacity {
        /// Seconds to wait.
        retry_after_s: u32,
    },
}

impl Rejection {
    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::UpgradeRequired | Self::VersionUnsupported => 426,
            Self::HeadTooLarge => 431,
            Self::Unauthorized(_) => 401,
            Self::OriginForbidden => 403,
            Self::TooMany { .. } => 429,
            Self::AtCapacity { .. } => 503,
        }
    }

    /// Appends the whole HTTP response.
    pub fn write(self, out: &mut Vec<u8>) {
        let (phrase, extra) = match self {
            Self::Malformed(_) => ("Bad Request", String::new()),
            Self::NotFound => ("Not Found", String::new()),
            Self::MethodNotAllowed => ("Method Not Allowed", "Allow: GET\r\n".into()),
            Self::Timeout => ("Request Timeout", String::new()),
            Self::UpgradeRequired => ("Upgrade Required", "Upgrade: websocket\r\n".into()),
            Self::VersionUnsupported => (
                "Upgrade Required",
                format!("Upgrade: websocket\r\nSec-WebSocket-Version: {VERSION}\r\n"),
            ),
            Self::HeadTooLarge => ("Request Header Fields Too Large", String::new()),
            Self::Unauthorized(_) => ("Unauthorized", "WWW-Authenticate: Bearer\r\n".into()),
            Self::OriginForbidden => ("Forbidden", String::new()),
            Self::TooMany { retry_after_s, .. } => {
                ("Too Many Requests", format!("Retry-After: {retry_after_s}\r\n"))
            }
            Self::AtCapacity { retry_after_s } => {
                ("Service Unavailable", format!("Retry-After: {retry_after_s}\r\n"))
            }
        };
        let body = format!("{self}\n");
        let head = format_args!(
            "HTTP/1.1 {} {phrase}\r\n{extra}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.status(),
            body.len(),
        );
        append(out, head);
    }
}

/// Appends the head of an event stream's response, which has no end but that of the connection.
/// `origin` is that of a page that may read it.
pub fn write_events_accept(out: &mut Vec<u8>, origin: Option<&str>) {
    append(
        out,
        format_args!(
            "HTTP/1.1 200 OK\r\nContent-Type: {MEDIA_TYPE}\r\nCache-Control: no-store\r\n\
             X-Accel-Buffering: no\r\nConnection: close\r\n"
        ),
    );
    if let Some(origin) = origin {
        let allowed = format_args!("Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n");
        append(out, allowed);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the whole response to a request for an event stream whose subscription is refused with
/// `code`; `body` is the reply.
pub fn write_events_refusal(out: &mut Vec<u8>, code: ErrorCode, body: &[u8]) {
    let status = match code {
        ErrorCode::Forbidden => "403 Forbidden",
        ErrorCode::AuthRequired | ErrorCode::AuthFailed => "401 Unauthorized",
        _ => "400 Bad Request",
    };
    append(
        out,
        format_args!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len(),
        ),
    );
    out.extend_from_slice(body);
}

/// Appends the 101 response. A sub-protocol is named only if the client offered ours: what to do
/// without is the client's choice (RFC 6455, section 4.2.2).
pub fn write_accept(out: &mut Vec<u8>, upgrade: &Upgrade) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&upgrade.accept);
    if let Some(subprotocol) = upgrade.subprotocol {
        append(out, format_args!("\r\nSec-WebSocket-Protocol: {subprotocol}"));
    }
    if let Some(agreed) = upgrade.deflate {
        append(out, format_args!("\r\nSec-WebSocket-Extensions: {agreed}"));
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// The answer to a `Sec-WebSocket-Key` (RFC 6455, section 4.2.2, item 5.4).
#[must_use]
pub fn accept(key: &str) -> [u8; 28] {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut text = [0; 28];
    STANDARD.encode_slice(hash.finalize(), &mut text).expect("20 bytes are 28 in base64");
    text
}

/// Whether [`parse`] may find more in `bytes` than in the first `before` of them: an empty line has
/// come, or twice as much as before. Without this, a request that comes byte by byte would be read
/// from its start for each of them.
#[must_use]
pub fn is_worth_parsing(bytes: &[u8], before: usize) -> bool {
    let ends = |end: &[u8]| {
        let tail = &bytes[before.saturating_sub(end.len() - 1)..];
        tail.windows(end.len()).any(|window| window == end)
    };
    before.checked_ilog2() != bytes.len().checked_ilog2() || ends(b"\n\r\n") || ends(b"\n\n")
}

/// Looks for a whole upgrade request at the front of `bytes`.
///
/// # Errors
/// The refusal to answer with; the connection ends after it.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Rejection> {
    let mut headers = [httparse::EMPTY_HEADER; UPGRADE_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(&bytes[..bytes.len().min(UPGRADE_BYTES_MAX)]) {
        Ok(httparse::Status::Complete(head_len)) => head_len,
        Ok(httparse::Status::Partial) if bytes.len() < UPGRADE_BYTES_MAX => {
            return Ok(Parsed::Incomplete);
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Rejection::HeadTooLarge);
        }
        Err(error) => return Err(Rejection::Malformed(malformed(error))),
    };
    let query = check(&request)?;
    let headers = &*request.headers;
    if wants_events(&request) {
        return Ok(Parsed::Events(Events {
            query,
            last_event_id: only(headers, "Last-Event-ID").map(str::to_owned),
            authorization: only(headers, "Authorization").map(str::to_owned),
            origin: only(headers, "Origin").map(str::to_owned),
        }));
    }
    Ok(Parsed::Request { upgrade: upgrade(headers, query)?, head_len })
}

/// Whether a request is for an event stream: by its path, or by what it accepts.
fn wants_events(request: &httparse::Request<'_, '_>) -> bool {
    let headers = &*request.headers;
    let (path, _) = split_target(request.path.unwrap_or_default());
    let is_accepted = || {
        let types = tokens(headers, "Accept").filter_map(|range| range.split(';').next());
        types.map(str::trim_ascii).any(|found| found.eq_ignore_ascii_case(MEDIA_TYPE))
    };
    path == PATH_EVENTS || (values(headers, "Upgrade").next().is_none() && is_accepted())
}

const fn malformed(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header name holds a byte that is not allowed",
        httparse::Error::HeaderValue => "a header value holds a byte that is not allowed",
        httparse::Error::NewLine => "a line must end with CR LF",
        httparse::Error::Version => "the HTTP version must be HTTP/1.1",
        httparse::Error::Token => "the request line must be 'GET /v1 HTTP/1.1'; is this TLS?",
        _ => "this is not an HTTP/1.1 request",
    }
}

/// Checks what every request has to keep to, and returns its query.
fn check(request: &httparse::Request<'_, '_>) -> Result<Option<String>, Rejection> {
    if request.version != Some(1) {
        return Err(Rejection::Malformed("the HTTP version must be HTTP/1.1"));
    }
    let (path, query) = split_target(request.path.unwrap_or_default());
    if ![PATH, PATH_STREAM, PATH_EVENTS].contains(&path) {
        return Err(Rejection::NotFound);
    }
    if request.method != Some("GET") {
        return Err(Rejection::MethodNotAllowed);
    }
    check_body(request.headers)?;
    // RFC 9112, section 3.2.
    if only(request.headers, "Host").is_none() {
        return Err(Rejection::Malformed("exactly one Host header is needed"));
    }
    Ok(query.map(str::to_owned))
}

/// Checks the rest of an upgrade request.
fn upgrade(headers: &[httparse::Header<'_>], query: Option<String>) -> Result<Upgrade, Rejection> {
    if !lists(headers, "Upgrade", "websocket") || !lists(headers, "Connection", "Upgrade") {
        return Err(Rejection::UpgradeRequired);
    }
    if only(headers, "Sec-WebSocket-Version") != Some(VERSION) {
        return Err(Rejection::VersionUnsupported);
    }
    let key = only(headers, "Sec-WebSocket-Key")
        .filter(|key| key_is_valid(key))
        .ok_or(Rejection::Malformed("one Sec-WebSocket-Key of 16 bytes in base64 is needed"))?;
    let offers = offers(headers).map_err(|_| {
        Rejection::Malformed("Sec-WebSocket-Extensions must be a list of extensions")
    })?;
    Ok(Upgrade {
        accept: accept(key),
        offers,
        deflate: None,
        subprotocol: tokens(headers, "Sec-WebSocket-Protocol")
            .find_map(|offered| SUBPROTOCOLS.into_iter().find(|known| *known == offered)),
        query,
        authorization: only(headers, "Authorization").map(str::to_owned),
        origin: only(headers, "Origin").map(str::to_owned),
    })
}

/// Path and query of a request target in origin or absolute form (RFC 9112, section 3.2).
fn split_target(target: &str) -> (&str, Option<&str>) {
    let origin = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        _ => target,
    };
    match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    }
}

/// Bytes of a body would be taken for frames.
fn check_body(headers: &[httparse::Header<'_>]) -> Result<(), Rejection> {
    let no_length = values(headers, "Content-Length").all(|length| length == "0");
    if no_length && values(headers, "Transfer-Encoding").next().is_none() {
        Ok(())
    } else {
        Err(Rejection::Malformed("an upgrade request must not have a body"))
    }
}

/// The client's offers of permessage-deflate; other extensions are declined.
fn offers(headers: &[httparse::Header<'_>]) -> Result<Vec<Offer>, Malformed> {
    let mut offers = Vec::new();
    for value in values(headers, "Sec-WebSocket-Extensions") {
        offers.extend(extensions::parse(value)?.iter().filter_map(Offer::read));
    }
    Ok(offers)
}

fn key_is_valid(key: &str) -> bool {
    let mut nonce = [0; 18];
    matches!(STANDARD.decode_slice(key, &mut nonce), Ok(16))
}

/// The values of all headers of this name; a value that is not UTF-8 reads as empty.
pub(super) fn values<'a>(
    headers: &'a [httparse::Header<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim_ascii())
}

/// The value of the header of this name, unless there are none or several.
pub(super) fn only<'a>(headers: &'a [httparse::Header<'a>], name: &'a str) -> Option<&'a str> {
    let mut values = values(headers, name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// The comma-separated tokens of all headers of this name.
fn tokens<'a>(headers: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    values(headers, name).flat_map(|value| value.split(',')).map(str::trim_ascii)
}

/// Whether the comma-separated tokens hold `token`, whatever its case.
pub(super) fn lists(headers: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    tokens(headers, name).any(|listed| listed.eq_ignore_ascii_case(token))
}

fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.extend_from_slice(fmt::format(text).as_bytes());
}

#[cfg(test)]
mod tests;
