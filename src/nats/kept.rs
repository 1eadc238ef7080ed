//! One message as the stream keeps it, and as direct get gives it.
//!
//! Not here: which messages are asked for ([`super::past`]). Invariant: its place is the stream's.

use async_nats::Message;
use async_nats::header::{HeaderMap, NATS_SEQUENCE, NATS_SUBJECT, NATS_TIME_STAMP};
use bytes::Bytes;

use super::chunk::{Chunk, Raw};

/// One message that was kept by the stream.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) seq: u64,
    pub(super) prev: Option<u64>,
    ts_in: u64,
    pub(super) subject: String,
    headers: HeaderMap,
    data: Bytes,
}

impl Kept {
    /// From an answer of direct get. A publisher may have written headers of the same names as the
    /// server's, which come last.
    pub(super) fn direct(answer: Message) -> Option<Self> {
        let headers = answer.headers?;
        let text = |name| headers.get_last(name).map(|value| value.as_str());
        let seq = text(NATS_SEQUENCE)?.parse().ok()?;
        let time: jiff::Timestamp = text(NATS_TIME_STAMP)?.parse().ok()?;
        let ts_in = u64::try_from(time.as_nanosecond()).ok()?;
        let subject = text(NATS_SUBJECT)?.to_owned();
        Some(Self { seq, prev: None, ts_in, subject, headers, data: answer.payload })
    }

    /// Adds it to a chunk of a stream whose subjects begin with `prefix`.
    pub(super) fn add_to(&self, chunk: &mut Chunk, prefix: &str) {
        let raw = raw(self.seq, self.ts_in, &self.subject, Some(&self.headers), &self.data);
        chunk.add(&Raw { prev: self.prev, ..raw }, prefix);
    }
}

/// A message with its headers' values.
pub(super) fn raw<'a>(
    seq: u64,
    ts_in: u64,
    subject: &'a str,
    headers: Option<&'a HeaderMap>,
    data: &'a [u8],
) -> Raw<'a> {
    let header = |name| headers.and_then(|headers| headers.get(name)).map(|value| value.as_str());
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
