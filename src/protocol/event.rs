//! A producer's event, as it enters: what a source parsed and the sequencer takes.
//!
//! Not here: how a line becomes an event (`sources`), and what a client is sent
//! ([`crate::protocol::data`]). Invariant: `data` is one complete JSON value, byte for byte as the
//! producer wrote it, without a newline.

use super::json::{write_string, write_u64};

/// What an event does to the events before it on its channel and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    /// One more event; with a key, the newest value of that key.
    #[default]
    Update,
    /// Replaces everything before it on its channel (and key).
    Snapshot,
}

impl Kind {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Update, Self::Snapshot];

    /// The word on the wire: `update` or `snapshot`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Snapshot => "snapshot",
        }
    }
}

/// One event of a producer, borrowed from the parser's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// A valid channel name (see [`crate::protocol::channel::check_name`]).
    pub channel: &'a str,
    /// Present for last-value data: a newer event of the same channel and key supersedes this one.
    pub key: Option<&'a str>,
    /// Update or snapshot.
    pub kind: Kind,
    /// The producer's time, nanoseconds since the Unix epoch.
    pub ts: Option<u64>,
    /// The payload: one JSON value, passed on digit for digit.
    pub data: &'a [u8],
}

impl Event<'_> {
    /// Appends the event as a producer's line, newline included.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"channel\":");
        write_string(out, self.channel);
        if let Some(key) = self.key {
            out.extend_from_slice(b",\"key\":");
            write_string(out, key);
        }
        if let Some(ts) = self.ts {
            out.extend_from_slice(b",\"ts\":");
            write_u64(out, ts);
        }
        if self.kind != Kind::Update {
            out.extend_from_slice(b",\"kind\":");
            write_string(out, self.kind.as_str());
        }
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(self.data);
        out.extend_from_slice(b"}\n");
    }
}
