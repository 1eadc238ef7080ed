//! The parts of an event's message, found again in the text that [`super::frame`] wrote.
//!
//! Other forms of a message ([`crate::protocol::binary`], [`crate::protocol::sse`]) are made of
//! it. Not here: JSON of anybody else, which has its members in any order. Invariant: the parts of
//! what was written are those that it was written from, byte for byte.

use super::super::event::Kind;
use super::{CHANNEL, DATA, KEY, PREV, SEQ, TS, TS_IN, TYPE};

/// What an event's message says; texts are slices of it. `C` is what it has for its channel: the
/// name, or in the binary form the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a, C = &'a str> {
    /// Its channel.
    pub channel: C,
    /// Update or snapshot.
    pub kind: Kind,
    /// Its key as a JSON string, with the quotes.
    pub key_json: Option<&'a [u8]>,
    /// Its place in the total order.
    pub seq: u64,
    /// The place of the event before it on its channel, 0 if there was none.
    pub prev: u64,
    /// The producer's time, nanoseconds since the Unix epoch.
    pub ts: Option<u64>,
    /// The time of ingest, nanoseconds since the Unix epoch.
    pub ts_in: u64,
    /// The producer's bytes.
    pub data: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Finds the parts of a message's text; none if this program has not written it.
    #[must_use]
    pub fn find(text: &'a [u8]) -> Option<Self> {
        let mut rest = text.strip_prefix(CHANNEL)?;
        // A channel's name needs no escapes.
        let channel = std::str::from_utf8(take_string(&mut rest)?).ok()?;
        let channel = channel.get(1..channel.len() - 1)?;
        take(&mut rest, TYPE)?;
        let kind = Kind::ALL.into_iter().find(|kind| take(&mut rest, kind.as_str()).is_some())?;
        take(&mut rest, "\"")?;
        let key_json = match take(&mut rest, KEY) {
            Some(()) => Some(take_string(&mut rest)?),
            None => None,
        };
        take(&mut rest, SEQ)?;
        let seq = take_number(&mut rest)?;
        take(&mut rest, PREV)?;
        let prev = take_number(&mut rest)?;
        let ts = match take(&mut rest, TS) {
            Some(()) => Some(take_number(&mut rest)?),
            None => None,
        };
        take(&mut rest, TS_IN)?;
        let ts_in = take_number(&mut rest)?;
        take(&mut rest, DATA)?;
        let data = rest.strip_suffix(b"}")?;
        Some(Self { channel, kind, key_json, seq, prev, ts, ts_in, data })
    }
}

/// Steps over `bytes`, if they are next.
fn take(rest: &mut &[u8], bytes: impl AsRef<[u8]>) -> Option<()> {
    *rest = rest.strip_prefix(bytes.as_ref())?;
    Some(())
}

/// Steps over a JSON string, and returns it with its quotes.
fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    rest.first().filter(|&&byte| byte == b'"')?;
    let mut at = 1;
    while *rest.get(at)? != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    let (string, behind) = rest.split_at(at + 1);
    *rest = behind;
    Some(string)
}

/// Steps over a number without sign.
fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, behind) = rest.split_at(len);
    *rest = behind;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::Sample;
    use super::*;

    proptest! {
        #[test]
        fn the_parts_of_a_message_are_those_it_was_written_from(sample in Sample::any()) {
            let text = sample.text();
            prop_assert_eq!(Envelope::find(&text), Some(sample.envelope()));
        }

        #[test]
        fn a_message_that_is_cut_has_no_parts(sample in Sample::any(), at: prop::sample::Index) {
            let text = sample.text();
            let cut = &text[..at.index(text.len())];
            // A cut inside of the data may leave what looks like a whole message.
            if let Some(found) = Envelope::find(cut) {
                prop_assert!(found.data.len() < sample.envelope().data.len());
            }
        }

        #[test]
        fn other_texts_have_no_parts(text in "\\PC{0,80}|\\{\"channel\":\"[a-z\"\\\\,:]{0,40}") {
            prop_assert_eq!(Envelope::find(text.as_bytes()), None);
        }
    }

    #[test]
    fn a_control_message_has_no_parts() {
        let heartbeat = br#"{"channel":"control","type":"heartbeat","seq":9}"#;
        assert_eq!(Envelope::find(heartbeat), None);
    }
}
