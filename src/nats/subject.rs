//! Subjects of a stream and what they stand for: a channel, a key, a kind.
//!
//! ```text
//! md.quote.BTCUSDT                      an update, without a key
//! md.quote.BTCUSDT.=BTCUSDT             an update of the key BTCUSDT
//! md.book.BTCUSDT.@snapshot             a snapshot; also behind a key
//! ```
//!
//! Each key, and the snapshots of each book, have a subject of their own, so that the stream's last
//! message of each subject is the state of the feed. Bytes of a key that a subject cannot hold are
//! `%` and two hexadecimal digits. Not here: which streams there are. Invariant: what
//! [`write()`] makes, [`Address::parse`] takes apart again, and no two slots have the same subject.

use std::borrow::Cow;
use std::fmt::Write;

use crate::limits::KEY_BYTES_MAX;
use crate::protocol::channel::{NameError, check_name, is_token_byte};
use crate::protocol::event::Kind;

/// Why a message is no event; the text names the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The subject has another beginning.
    #[error("subject {0:?}: it does not begin as the source's `subject` does")]
    Prefix(String),
    /// The subject names no channel.
    #[error("subject {0:?}: {1}")]
    Channel(String, NameError),
    /// The last tokens of the subject are neither a key nor a kind.
    #[error(
        "subject {0:?}: behind the channel come .=KEY (1 to {KEY_BYTES_MAX} bytes, those beside \
         a-z A-Z 0-9 _ - as %2E) and .@snapshot"
    )]
    Suffix(String),
    /// The header is not one of NATS.
    #[error("subject {0:?}: the header is not UTF-8 with lines NAME: VALUE, no space in NAME")]
    Header(String),
    /// The header `kind` has another word.
    #[error("header kind: update or snapshot, not {0:?}")]
    Kind(String),
    /// The header `key` is empty or too long.
    #[error("header key: 1 to {KEY_BYTES_MAX} bytes, not {0}")]
    Key(usize),
    /// The header `ts` is no time.
    #[error("header ts: an integer (nanoseconds since 1970), not {0:?}")]
    Time(String),
}

/// What a subject stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The key, if the subject names one.
    pub key: Option<Cow<'a, str>>,
    /// Update, unless the subject says snapshot.
    pub kind: Kind,
}

/// The token of a snapshot.
const SNAPSHOT: &str = "@snapshot";

impl<'a> Address<'a> {
    /// Takes a subject apart that begins with `prefix`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(subject: &'a str, prefix: &str) -> Result<Self, Flaw> {
        let name = subject.strip_prefix(prefix).ok_or_else(|| Flaw::Prefix(subject.to_owned()))?;
        let (name, kind) = match name.rsplit_once('.') {
            Some((name, SNAPSHOT)) => (name, Kind::Snapshot),
            _ => (name, Kind::Update),
        };
        let (channel, key) = match name.split_once(".=") {
            Some((channel, key)) => {
                let key = unescape(key).filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
                (channel, Some(key.ok_or_else(|| Flaw::Suffix(subject.to_owned()))?))
            }
            None => (name, None),
        };
        check_name(channel).map_err(|why| Flaw::Channel(subject.to_owned(), why))?;
        Ok(Self { channel, key, kind })
    }
}

/// Appends the subject of an event.
pub fn write(out: &mut String, prefix: &str, channel: &str, key: Option<&str>, kind: Kind) {
    out.push_str(prefix);
    out.push_str(channel);
    if let Some(key) = key {
        out.push_str(".=");
        for byte in key.bytes() {
            if is_token_byte(byte) {
                out.push(char::from(byte));
            } else {
                write!(out, "%{byte:02X}").expect("a string takes everything");
            }
        }
    }
    if kind == Kind::Snapshot {
        out.push('.');
        out.push_str(SNAPSHOT);
    }
}

/// A key's text; none if it is not as [`write()`] writes it.
fn unescape(token: &str) -> Option<Cow<'_, str>> {
    if token.bytes().all(is_token_byte) {
        return Some(Cow::Borrowed(token));
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            // Only one spelling of each key, so that it has one subject.
            bytes.push(Some(byte).filter(|&byte| is_token_byte(byte))?);
            continue;
        }
        let mut digit = || match rest.next()? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        };
        let byte = digit()? << 4 | digit()?;
        bytes.push(Some(byte).filter(|&byte| !is_token_byte(byte))?);
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subject(channel: &str, key: Option<&str>, kind: Kind) -> String {
        let mut out = String::new();
        write(&mut out, "md.", channel, key, kind);
        out
    }

    #[test]
    fn a_slot_has_the_subject_that_the_head_of_this_file_shows() {
        let of = |key, kind| subject("quote.BTCUSDT", key, kind);
        assert_eq!(of(None, Kind::Update), "md.quote.BTCUSDT");
        assert_eq!(of(Some("BTCUSDT"), Kind::Update), "md.quote.BTCUSDT.=BTCUSDT");
        assert_eq!(of(None, Kind::Snapshot), "md.quote.BTCUSDT.@snapshot");
        assert_eq!(of(Some("a.é "), Kind::Snapshot), "md.quote.BTCUSDT.=a%2E%C3%A9%20.@snapshot");
    }

    #[test]
    fn what_is_no_event_says_why() {
        let parse = |subject| Address::parse(subject, "md.").unwrap_err();
        assert_eq!(parse("mdx.a"), Flaw::Prefix("mdx.a".into()));
        assert!(matches!(parse("md.a b"), Flaw::Channel(_, NameError::Character)));
        assert!(matches!(parse("md.control.a"), Flaw::Channel(_, NameError::Reserved)));
        assert!(matches!(parse("md.a.@snap"), Flaw::Channel(_, NameError::Character)));
        for twice in ["md.a.=", "md.a.=%41", "md.a.=%2e", "md.a.=%2", "md.a.=%FF", "md.a.=b.c"] {
            assert_eq!(parse(twice), Flaw::Suffix(twice.into()));
        }
    }

    proptest! {
        #[test]
        fn every_slot_comes_back_from_its_subject(
            channel in "[a-z]{1,4}(\\.[A-Z0-9_-]{1,5}){0,3}",
            key in prop::option::of("\\PC{1,40}"),
            is_snapshot: bool,
        ) {
            let kind = if is_snapshot { Kind::Snapshot } else { Kind::Update };
            let subject = subject(&channel, key.as_deref(), kind);
            prop_assert!(subject.bytes().all(|byte| byte.is_ascii_graphic()));
            let channel = &*channel;
            let expected = Address { channel, key: key.map(Cow::Owned), kind };
            prop_assert_eq!(Address::parse(&subject, "md."), Ok(expected));
        }
    }
}
