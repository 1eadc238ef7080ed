//! One message as the stream keeps it: as direct get gives it, or as JetStream's own API does.
//!
//! The client library ends the connection at a header that it cannot read: a line without a colon,
//! a name with a space, bytes that are no UTF-8. The API gives a header as base64, so there such a
//! message can be found out. Not here: which messages are asked for ([`super::past`],
//! [`super::reader`]). Invariant: a header is read here as the library reads it, or not at all.

use std::str::FromStr;

use async_nats::Message;
use async_nats::header::{
    HeaderMap, HeaderName, HeaderValue, NATS_SEQUENCE, NATS_SUBJECT, NATS_TIME_STAMP,
};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::RawMessage;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::chunk::{Chunk, Raw};
use super::connection::Connection;
use super::error::NatsError;
use super::subject::Flaw;
use crate::fanout::sequencer::Place;

/// One message that was kept by the stream.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) seq: u64,
    pub(super) prev: Option<u64>,
    ts_in: u64,
    pub(super) subject: String,
    /// None where they cannot be read.
    headers: Option<HeaderMap>,
    data: Bytes,
}

impl Kept {
    /// From an answer of direct get. A publisher may have written headers of the same names as the
    /// server's, which come last.
    pub(super) fn direct(answer: Message) -> Option<Self> {
        let headers = answer.headers?;
        let text = |name| headers.get_last(name).map(HeaderValue::as_str);
        let seq = text(NATS_SEQUENCE)?.parse().ok()?;
        let time: jiff::Timestamp = text(NATS_TIME_STAMP)?.parse().ok()?;
        let ts_in = u64::try_from(time.as_nanosecond()).ok()?;
        let subject = text(NATS_SUBJECT)?.to_owned();
        let (headers, data) = (Some(headers), answer.payload);
        Some(Self { seq, prev: None, ts_in, subject, headers, data })
    }

    /// The first message from `seq` on whose subject fits, whatever its header is; none if there is
    /// none.
    ///
    /// # Errors
    /// No answer, or one that is not understood.
    pub(super) async fn find(
        connection: &Connection,
        stream: &str,
        subject: &str,
        seq: u64,
    ) -> Result<Option<Self>, NatsError> {
        let failed = |reason: String| NatsError::Refused {
            stream: stream.to_owned(),
            what: "one of its messages",
            reason,
        };
        let wanted = Wanted { seq, next_by_subj: subject };
        let answer = connection.jetstream.request(format!("STREAM.MSG.GET.{stream}"), &wanted);
        match answer.await.map_err(|error| failed(error.to_string()))? {
            Response::Ok(Found { message }) => {
                let kept = Self::stored(message);
                kept.map(Some).ok_or_else(|| failed("not understood".into()))
            }
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                Ok(None)
            }
            Response::Err { error } => Err(failed(error.to_string())),
        }
    }

    fn stored(message: RawMessage) -> Option<Self> {
        let ts_in = u64::try_from(message.time.unix_timestamp_nanos()).ok()?;
        let headers = match message.headers {
            Some(text) => headers(&BASE64_STANDARD.decode(text).ok()?),
            None => Some(HeaderMap::new()),
        };
        let data = BASE64_STANDARD.decode(message.payload).ok()?.into();
        let (seq, subject) = (message.sequence, message.subject);
        Some(Self { seq, prev: None, ts_in, subject, headers, data })
    }

    /// Whether the client library can read it.
    pub(super) const fn is_readable(&self) -> bool {
        self.headers.is_some()
    }

    /// Adds it to a chunk of a stream whose subjects begin with `prefix`; refused if it cannot be
    /// read.
    pub(super) fn add_to(&self, chunk: &mut Chunk, prefix: &str) {
        match &self.headers {
            Some(headers) => {
                let raw = raw(self.seq, self.ts_in, &self.subject, Some(headers), &self.data);
                chunk.add(&Raw { prev: self.prev, ..raw }, prefix);
            }
            None => {
                let place = Place { seq: self.seq, prev: self.prev, ts_in: self.ts_in };
                chunk.refuse(place, Flaw::Header(self.subject.clone()));
            }
        }
    }
}

/// What the API is asked for.
#[derive(Serialize)]
struct Wanted<'a> {
    seq: u64,
    next_by_subj: &'a str,
}

#[derive(Deserialize)]
struct Found {
    message: RawMessage,
}

/// A message with its headers' values.
pub(super) fn raw<'a>(
    seq: u64,
    ts_in: u64,
    subject: &'a str,
    headers: Option<&'a HeaderMap>,
    data: &'a [u8],
) -> Raw<'a> {
    let header = |name| headers.and_then(|headers| headers.get(name)).map(HeaderValue::as_str);
    Raw {
        seq,
        ts_in,
        prev: None,
        subject,
        key: header("key"),
        kind: header("kind"),
        ts: header("ts"),
        data,
    }
}

/// What the client library makes of a header; none where it ends the connection.
fn headers(block: &[u8]) -> Option<HeaderMap> {
    let mut lines = std::str::from_utf8(block).ok()?.lines().peekable();
    // What else may be on the first line is for answers of the server.
    if lines.next()?.trim_end() != "NATS/1.0" {
        return None;
    }
    let mut headers = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        let name = HeaderName::from_str(name).ok()?;
        headers.append(name, HeaderValue::from_str(value.trim_end()).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_the_client_library_reads_it() {
        for (block, expected) in [
            (&b"NATS/1.0\r\nts: 12\r\nkey:k\r\n\r\n"[..], Some([Some("12"), Some("k")])),
            (b"NATS/1.0\r\nts: 1\r\nts: 2\r\n\r\n", Some([Some("1"), None])),
            (b"NATS/1.0\r\nkey: a\r\n b \r\n\r\n", Some([None, Some("a b")])),
            (b"NATS/1.0\r\nkey: \r\n", Some([None, Some("")])),
            (b"NATS/1.0", Some([None, None])),
            (b"NATS/1.0 503\r\n\r\n", None),
            (b"HTTP/1.1\r\n\r\n", None),
            (b"NATS/1.0\r\nfoo bar: 1\r\n\r\n", None),
            (b"NATS/1.0\r\nno colon\r\n\r\n", None),
            (b"NATS/1.0\r\nkey: caf\xe9\r\n\r\n", None),
            (b"NATS/1.0\r\nkey: a\rb\r\n\r\n", None),
            (b"", None),
        ] {
            let found = headers(block).map(|headers| {
                ["ts", "key"].map(|name| Some(headers.get(name)?.as_str().to_owned()))
            });
            let expected = expected.map(|values| values.map(|value| value.map(str::to_owned)));
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(block));
        }
    }
}
