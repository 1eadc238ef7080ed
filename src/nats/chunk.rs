//! Messages on their way from the NATS thread to the ingest thread.
//!
//! One allocation for the records and one for their bytes. Not here: whether a body is JSON; who
//! takes a chunk judges it. Invariant: `seq` rises from message to message and from chunk to chunk.

use std::ops::Range;

use super::subject::{Address, Flaw};
use crate::fanout::sequencer::Place;
use crate::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, KEY_BYTES_MAX};
use crate::protocol::event::{Event, Kind};

/// A message as the stream has it.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// Its place in the stream.
    pub seq: u64,
    /// When the stream took it, nanoseconds since the Unix epoch.
    pub ts_in: u64,
    /// The event's predecessor on its channel, where it is known better than from what came before.
    pub prev: Option<u64>,
    /// Its subject.
    pub subject: &'a str,
    /// The header `key`.
    pub key: Option<&'a str>,
    /// The header `kind`.
    pub kind: Option<&'a str>,
    /// The header `ts`.
    pub ts: Option<&'a str>,
    /// Its body.
    pub data: &'a [u8],
}

/// Messages that lie side by side in the stream.
#[derive(Debug, Default)]
pub struct Chunk {
    pub(super) messages: Vec<Message>,
    pub(super) bytes: Vec<u8>,
    /// Some of what the stream once had is missing between these messages: values of the time
    /// before what is read whole.
    pub is_sparse: bool,
    /// First and last `seq` that the stream had no longer when this chunk was read, before its
    /// messages.
    pub lost: Option<(u64, u64)>,
    /// Books whose snapshot is known and not all of their updates.
    pub books_broken: Vec<(Box<str>, Option<Box<str>>)>,
    /// The stream's last message of when the start began is in this chunk or an earlier one.
    pub is_caught_up: bool,
    /// The stream is another one now, so nothing can follow; why.
    pub ended: Option<String>,
}

#[derive(Debug)]
pub(super) struct Message {
    place: Place,
    parsed: Result<Parsed, Flaw>,
    data: Range<usize>,
}

#[derive(Debug)]
struct Parsed {
    channel: Range<usize>,
    key: Option<Range<usize>>,
    kind: Kind,
    ts: Option<u64>,
}

impl Chunk {
    /// The last one of a stream, and why.
    pub(super) fn end(why: String) -> Self {
        Self { ended: Some(why), ..Self::default() }
    }

    /// Adds a message of a stream whose subjects begin with `prefix`.
    pub fn add(&mut self, raw: &Raw<'_>, prefix: &str) {
        let parsed = self.parse(raw, prefix);
        let data = self.keep(raw.data.trim_ascii());
        let place = Place { seq: raw.seq, prev: raw.prev, ts_in: raw.ts_in };
        self.messages.push(Message { place, parsed, data });
    }

    /// Adds a message that is no event.
    pub(super) fn refuse(&mut self, place: Place, flaw: Flaw) {
        self.messages.push(Message { place, parsed: Err(flaw), data: 0..0 });
    }

    fn parse(&mut self, raw: &Raw<'_>, prefix: &str) -> Result<Parsed, Flaw> {
        let address = Address::parse(raw.subject, prefix)?;
        let kind = match raw.kind {
            None => address.kind,
            Some("update") => Kind::Update,
            Some("snapshot") => Kind::Snapshot,
            Some(other) => return Err(Flaw::Kind(other.to_owned())),
        };
        let time = |text: &str| text.parse().map_err(|_| Flaw::Time(text.to_owned()));
        let ts = raw.ts.map(time).transpose()?;
        let key = match (&address.key, raw.key) {
            (Some(key), _) => Some(&**key),
            (None, Some(key)) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Some(key),
            (None, Some(key)) => return Err(Flaw::Key(key.len())),
            (None, None) => None,
        };
        let channel = self.keep(address.channel.as_bytes());
        Ok(Parsed { channel, key: key.map(|key| self.keep(key.as_bytes())), kind, ts })
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// True when it should be handed over before another message.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_EVENTS_MAX || self.bytes.len() >= BATCH_BYTES_MAX
    }

    /// True when it has nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.lost.is_none()
            && self.books_broken.is_empty()
            && !self.is_caught_up
            && self.ended.is_none()
    }

    /// Bytes of its messages.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Each message: where it comes in, and the event or what is wrong with it.
    pub fn events(&self) -> impl Iterator<Item = (Place, Result<Event<'_>, &Flaw>)> {
        self.messages.iter().map(|message| {
            let event = message.parsed.as_ref().map(|parsed| Event {
                channel: self.text(&parsed.channel),
                key: parsed.key.as_ref().map(|key| self.text(key)),
                kind: parsed.kind,
                ts: parsed.ts,
                data: &self.bytes[message.data.clone()],
            });
            (message.place, event)
        })
    }

    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes[range.clone()]).expect("it was text when it was kept")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_the_subject_does_not() {
        let raw = |subject, key, kind, ts| Raw {
            seq: 7,
            ts_in: 9,
            prev: None,
            subject,
            key,
            kind,
            ts,
            data: b" {\"p\":1}\n",
        };
        let mut chunk = Chunk::default();
        chunk.add(&raw("md.q.A", Some("A b"), Some("snapshot"), Some("12")), "md.");
        chunk.add(&raw("md.q.A.=x%2Ey", None, None, None), "md.");
        chunk.add(&raw("md.q.A", None, Some("other"), None), "md.");
        chunk.add(&raw("md.q.A", Some(""), None, None), "md.");
        chunk.add(&raw("md.q.A", None, None, Some("-1")), "md.");
        let events: Vec<_> = chunk.events().collect();
        let first = Event {
            channel: "q.A",
            key: Some("A b"),
            kind: Kind::Snapshot,
            ts: Some(12),
            data: b"{\"p\":1}",
        };
        assert_eq!(events[0], (Place { seq: 7, prev: None, ts_in: 9 }, Ok(first)));
        let second = Event { key: Some("x.y"), kind: Kind::Update, ts: None, ..first };
        assert_eq!(events[1].1, Ok(second));
        assert_eq!(events[2].1, Err(&Flaw::Kind("other".into())));
        assert_eq!(events[3].1, Err(&Flaw::Key(0)));
        assert_eq!(events[4].1, Err(&Flaw::Time("-1".into())));
    }
}
