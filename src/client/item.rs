//! What a subscriber is given: events, gaps, and notices about its connection.
//!
//! Not here: how they are told apart ([`super::progress`]). Invariant: an event's `data` is the
//! producer's bytes.

use std::borrow::Cow;
use std::fmt;

use super::frame::Frame;
use crate::protocol::event::Kind;

/// One thing that a subscriber is given, in the order in which it happened.
#[derive(Debug)]
pub enum Item<'a> {
    /// An event.
    Event(Event<'a>),
    /// Events that will not come.
    Gap(Gap),
    /// Something about the connection or the subscription.
    Notice(Notice),
    /// A frame that is no event, as it came. An iterator does not give these.
    Control(Control<'a>),
}

/// A frame of the server that is no event.
#[derive(Debug, Clone, Copy)]
pub struct Control<'a> {
    /// What it says.
    pub frame: &'a Frame<'a>,
    /// Its JSON text.
    pub text: &'a str,
}

impl Item<'_> {
    /// The same, without what it borrows; nothing for a control frame.
    #[must_use]
    pub fn into_owned(self) -> Option<Item<'static>> {
        match self {
            Self::Event(event) => Some(Item::Event(event.into_owned())),
            Self::Gap(gap) => Some(Item::Gap(gap)),
            Self::Notice(notice) => Some(Item::Notice(notice)),
            Self::Control(_) => None,
        }
    }
}

/// How an event stands to the one before it on its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It follows it: nothing was left out.
    Follows,
    /// It belongs to a snapshot, or to a replay of what was missed; links say nothing there.
    Recovered,
    /// Newer events stand for some that were left out, as was agreed.
    Skips,
    /// Something was left out that was promised; a [`Gap`] came before it.
    Breaks,
}

/// An event, as the server has sent it.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Its channel.
    pub channel: Cow<'a, str>,
    /// Of last-value data: what this is the newest value of.
    pub key: Option<Cow<'a, str>>,
    /// A snapshot replaces everything before it on its channel (and key).
    pub kind: Kind,
    /// Its place in the total order of the server.
    pub seq: u64,
    /// The place of the event before it on the channel, 0 if there is none.
    pub prev: u64,
    /// The producer's time, nanoseconds since the Unix epoch.
    pub ts: Option<u64>,
    /// When the server read it, nanoseconds since the Unix epoch.
    pub ts_in: Option<u64>,
    /// How it stands to the event before it.
    pub link: Link,
    text: Cow<'a, str>,
}

impl<'a> Event<'a> {
    /// The event of a data frame whose JSON text is `text`.
    #[must_use]
    pub fn of(frame: &Frame<'a>, text: &'a str, link: Link) -> Self {
        Self {
            channel: Cow::Borrowed(frame.channel.unwrap_or_default()),
            key: frame.key.map(Cow::Borrowed),
            kind: if frame.kind == Some("snapshot") { Kind::Snapshot } else { Kind::Update },
            seq: frame.seq.unwrap_or_default(),
            prev: frame.prev.unwrap_or_default(),
            ts: frame.ts,
            ts_in: frame.ts_in,
            link,
            text: Cow::Borrowed(text),
        }
    }

    /// The JSON text of the whole frame.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the producer sent, byte for byte: the last member of the frame.
    #[must_use]
    pub fn data(&self) -> &str {
        // Inside a string its name would have its quotes escaped, so the first match is the member.
        const MEMBER: &str = ",\"data\":";
        match self.text.find(MEMBER) {
            Some(at) => {
                let rest = self.text[at + MEMBER.len()..].trim_end();
                rest.strip_suffix('}').unwrap_or_default()
            }
            None => "",
        }
    }

    /// The key as the frame has it, with its quotes and escapes.
    #[must_use]
    pub fn key_json(&self) -> Option<&str> {
        self.key.as_ref()?;
        const MEMBER: &str = ",\"key\":";
        let key = &self.text[self.text.find(MEMBER)? + MEMBER.len()..];
        let mut is_escaped = false;
        let end = key.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        })?;
        Some(&key[..end + 2])
    }

    fn into_owned(self) -> Event<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Event {
            channel: owned(self.channel),
            key: self.key.map(owned),
            text: owned(self.text),
            ..self
        }
    }
}

/// Events that will not come.
///
/// What was kept of its channels is out of date. Where a snapshot follows, it is given whole, also
/// what of it was given before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Names or patterns; something may be missing on each of them.
    pub channels: Vec<String>,
    /// The first `seq` of the range. It counts all channels, these and others.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// How many events of these channels will not come; none: nobody knows.
    pub missed: Option<u64>,
    /// Why.
    pub cause: Cause,
}

/// Why events are missing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The server says so, with this word; `docs/PROTOCOL.md` explains them.
    Server(String),
    /// The connection ended before there was a place to go on at.
    Reconnect,
    /// An event names one before it that never came, and no receipt covers it.
    Hole,
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Server(word) => word,
            Self::Reconnect => "reconnect",
            Self::Hole => "hole",
        })
    }
}

impl Gap {
    /// What a receipt of the server says.
    pub(super) fn of(frame: &Frame<'_>) -> Self {
        Self {
            channels: owned(frame.channels.as_deref()),
            from: frame.from.unwrap_or_default(),
            to: frame.to_seq().unwrap_or_default(),
            missed: frame.missed,
            cause: Cause::Server(frame.cause.unwrap_or("unknown").to_owned()),
        }
    }

    /// Whether it lies between two connections, or the server is to blame: a reader that keeps up
    /// sees no other kind.
    #[must_use]
    pub fn is_unexpected(&self) -> bool {
        match &self.cause {
            Cause::Server(word) => NOT_HEALED.contains(&word.as_str()),
            Cause::Reconnect | Cause::Hole => true,
        }
    }
}

/// Causes of receipts for what nothing brings back.
const NOT_HEALED: [&str; 4] = ["epoch", "too_old", "expired", "forgotten"];

impl fmt::Display for Gap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channels, cause) = (Names(&self.channels), &self.cause);
        match self.missed {
            Some(missed) => write!(out, "gap: {missed} events missed on {channels}, cause {cause}"),
            None => {
                let Self { from, to, .. } = self;
                write!(
                    out,
                    "gap: events from seq {from} to seq {to} may be missing on {channels}, cause \
                     {cause}"
                )
            }
        }
    }
}

/// Something about the connection or the subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A server has greeted.
    Connected {
        /// The last `seq` that it has given out.
        seq: u64,
        /// There was a connection before this one.
        is_again: bool,
        /// How it is secured, such as `TLS 1.3`; none: not at all.
        security: Option<String>,
    },
    /// The server has another epoch than before: its `seq` have nothing to do with those before.
    Anew,
    /// The new connection goes on after this `seq`: nothing was missed.
    Resumed {
        /// The last `seq` that was given before, with everything up to it.
        seq: u64,
    },
    /// The server does not have everything since the last connection: what cannot be had comes as
    /// a [`Gap`], and then a snapshot, if one is wanted.
    NotResumed {
        /// `epoch`, `too_old`, `expired` or `ahead`; `docs/PROTOCOL.md` explains them.
        why: String,
    },
    /// A snapshot or a replay has ended: everything up to this `seq` was given.
    Whole {
        /// The last `seq` of it.
        seq: u64,
    },
    /// The server has ended subscriptions; the others go on.
    Unsubscribed {
        /// Their patterns.
        channels: Vec<String>,
        /// Nothing after it comes.
        seq: u64,
        /// Why; the same words as in receipts.
        cause: String,
    },
    /// The connection has ended, or could not be made; another attempt follows.
    Lost {
        /// Why.
        why: String,
        /// Where to, without the query.
        address: String,
        /// Milliseconds until the attempt.
        retry_ms: u64,
    },
    /// One of two connections counts by another epoch, and is left until the other one has ended.
    Spare,
    /// One of two connections has ended for good; the other one goes on.
    Ended {
        /// Why.
        why: String,
    },
    /// The token is about to go to this address without encryption.
    Exposed {
        /// Where to, without the query.
        address: String,
    },
    /// The token cannot be read; the one from before is shown again.
    TokenKept {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { seq, security, .. } => {
                write!(out, "connected at seq {seq}")?;
                security.iter().try_for_each(|how| write!(out, ", {how}"))
            }
            Self::Anew => out.write_str(
                "the server has begun anew: its seq have nothing to do with those before, and \
                 events in between may have been missed",
            ),
            Self::Resumed { seq } => write!(out, "resumed after seq {seq}, nothing missed"),
            Self::NotResumed { why } => {
                let meaning = match why.as_str() {
                    "epoch" => "its seq have begun anew",
                    "expired" => "the stream behind it has no longer what came then",
                    "too_old" => "its log does not go back that far",
                    "ahead" => "it has not come that far",
                    _ => "it says no more",
                };
                write!(out, "the server cannot resume there ({why}: {meaning})")
            }
            Self::Whole { seq } => write!(out, "everything up to seq {seq} is there"),
            Self::Unsubscribed { channels, seq, cause } => {
                let channels = Names(channels);
                write!(out, "unsubscribed: the server ended {channels} at seq {seq}, cause {cause}")
            }
            Self::Lost { why, address, retry_ms } => {
                #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
                let seconds = *retry_ms as f64 / 1e3;
                write!(out, "{why}; connecting to {address} in {seconds:.1} s")
            }
            Self::Spare => out.write_str(
                "the second connection counts by another epoch; it is left until the first ends",
            ),
            Self::Ended { why } => write!(out, "{why}; the other connection goes on alone"),
            Self::Exposed { address } => {
                write!(out, "the token goes to {address} in the clear; wss:// keeps it secret")
            }
            Self::TokenKept { why } => write!(out, "{why}; the token from before is shown again"),
        }
    }
}

/// The first of some channels, and how many more there are.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => out.write_str("unnamed channels"),
            [one] => out.write_str(one),
            [first, rest @ ..] => write!(out, "{first} and {} more", rest.len()),
        }
    }
}

pub(super) fn owned(names: Option<&[&str]>) -> Vec<String> {
    names.unwrap_or_default().iter().map(|&name| name.to_owned()).collect()
}
