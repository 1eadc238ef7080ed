//! One open connection: a cursor into the log, a few bytes that are owed, and no queue.
//!
//! Not here: its socket (the shell's) and its subscriptions (its cohort's). Invariant: a connection
//! that is in sync has no [`Lag`], is owed nothing, and has been sent everything but what its
//! cohort's gather list holds from its cursor on; any other one has a lag.

use std::num::NonZeroU64;

use slab::Slab;

use crate::access::Member;
use crate::handoff::batch::ChannelId;
use crate::protocol::terms::Interval;
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::reader::Reader;

use super::cohorts::CohortId;
use super::lag::{Lag, View};

/// Names one connection of one shard; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Its place in the shard's table; reused after the connection is gone.
    pub index: u32,
    /// Tells connections of the same place apart.
    pub generation: u32,
}

impl ConnectionId {
    /// The id of the connection at `index` of its shard's table.
    pub(super) fn new(index: usize, generation: u32) -> Self {
        Self { index: u32::try_from(index).expect("connections_max fits 32 bits"), generation }
    }
}

/// The connection `id` of `table`, unless it is gone.
pub(super) fn find(table: &Slab<Connection>, id: ConnectionId) -> Option<&Connection> {
    table.get(id.index as usize).filter(|connection| connection.generation == id.generation)
}

/// The connection `id` of `table`, to change it, unless it is gone.
pub(super) fn find_mut(table: &mut Slab<Connection>, id: ConnectionId) -> Option<&mut Connection> {
    table.get_mut(id.index as usize).filter(|connection| connection.generation == id.generation)
}

/// How a connection gets its next bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A member of its cohort, at this place of the member list: the next pass sends the shared
    /// gather list.
    InSync(u32),
    /// In the shard's ready list: the next pass sends what it is owed and what it lags.
    Ready,
    /// Its socket is full: the shell's writer brings it back.
    Blocked,
    /// It has said its last word and waits for the peer's.
    Silent,
}

/// How far the closing handshake (RFC 6455, section 7) has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Messages flow.
    Open,
    /// A close frame is queued; no data follows it.
    Closing {
        /// Why.
        reason: CloseReason,
        /// The peer's close frame has been seen, so ours is the last word.
        peer_closed: bool,
        /// Monotonic time at which patience ends, nanoseconds.
        deadline_ns: u64,
    },
}

/// Everything a shard keeps for one connection.
#[derive(Debug)]
pub struct Connection {
    /// While it is in sync: it has everything before this log entry. What is in front of its
    /// cohort's gather list it has as well.
    pub cursor: u64,
    /// While it is in sync: a pass, and the same for the samples that were sent in it.
    pub sampled: (u64, u64),
    /// Number of the log entry from which on its present set holds.
    pub joined_at: u64,
    /// While it is not in sync: where it stands.
    pub lag: Option<Box<Lag>>,
    /// Monotonic time of the last byte that the kernel took, nanoseconds.
    pub sent_ns: u64,
    /// The subscription set.
    pub cohort: CohortId,
    /// How it gets its next bytes.
    pub lane: Lane,
    /// The tier that the server moved it to.
    pub tier: Option<Interval>,
    /// Looks of the sweep in a row that found it behind, or if negative, caught up.
    pub looks: i8,
    /// Monotonic time at which its messages so far would have come at the allowed rate,
    /// nanoseconds.
    pub messages_ns: u64,
    /// Tells connections of the same place apart.
    pub generation: u32,
    /// Open or closing.
    pub phase: Phase,
    /// The rest of a frame in flight, then control frames; always sent before the log.
    pub owed: Owed,
    /// The client may compress its messages.
    pub inflates: bool,
    /// Puts the client's messages together; present while one has begun and not ended.
    pub reader: Option<Box<Reader>>,
    /// Who it is, and what it may do.
    pub member: Member,
    /// Signs of life.
    pub life: Life,
    /// What it was sent, for the log.
    pub sent: Sent,
    /// If it reads ids of channels: it was told those of all channels below this one that it wants.
    pub told: ChannelId,
}

/// What a connection was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Data frames that the kernel took in full.
    pub events: u64,
    /// Bytes that the kernel took, before TLS.
    pub bytes: u64,
}

/// A connection that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Which one.
    pub id: ConnectionId,
    /// Why.
    pub reason: CloseReason,
    /// Who it was; counted as connected until this is dropped.
    pub member: Member,
    /// What it was sent.
    pub sent: Sent,
    /// Events that its loss receipts counted.
    pub missed: u64,
}

/// When a connection's client was heard, and what it was told of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Life {
    /// Monotonic time of the last byte from the client, nanoseconds.
    pub heard_ns: u64,
    /// Monotonic time of a ping that nothing has followed yet, nanoseconds.
    pub pinged_ns: Option<NonZeroU64>,
    /// Monotonic time since which it has had no subscription, nanoseconds.
    pub idle_since_ns: Option<NonZeroU64>,
    /// It was warned that its credential ends.
    pub is_warned: bool,
    /// It was told that the server drains.
    pub is_told: bool,
}

impl Connection {
    /// Number of the next log entry that the tick of pass `turn` has for it.
    #[must_use]
    pub const fn sampled_to(&self, turn: u64) -> u64 {
        if self.sampled.0 == turn { self.sampled.1 } else { 0 }
    }

    /// True once a close frame is queued.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }
}

/// Bytes that must be sent before anything else; empty and without memory almost always.
#[derive(Debug, Default)]
pub struct Owed {
    bytes: Vec<u8>,
    sent: usize,
    /// Where the rest of a data frame in flight ends; control frames follow.
    frame_end: usize,
}

impl Owed {
    /// What is still to be sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// True when nothing is owed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of control frames that are still to be sent.
    #[must_use]
    pub fn control_bytes(&self) -> usize {
        self.bytes.len() - self.sent.max(self.frame_end)
    }

    /// Owes the rest of a data frame of which the socket took the beginning.
    pub fn owe_rest(&mut self, rest: &[u8]) {
        debug_assert!(self.is_empty(), "a data frame begins when nothing else is owed");
        self.bytes.extend_from_slice(rest);
        self.frame_end = rest.len();
    }

    /// The buffer, to append control frames to.
    pub const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes up to `count` bytes off the front and returns how many there were to take.
    pub fn consume(&mut self, count: usize) -> usize {
        let taken = count.min(self.bytes().len());
        self.sent += taken;
        if self.sent == self.bytes.len() {
            *self = Self::default();
        } else if self.sent > self.bytes.len() / 2 {
            // A client that is always owed something would never let go of what it got.
            self.bytes.drain(..self.sent);
            self.frame_end = self.frame_end.saturating_sub(self.sent);
            self.sent = 0;
        }
        taken
    }
}

/// Panics when a connection at `index` of its table breaks this module's invariant.
pub(super) fn check(index: usize, connection: &Connection, view: &View<'_>) {
    match (&connection.lag, connection.lane) {
        (None, Lane::InSync(place)) => {
            let member = view.cohort.members[place as usize];
            assert_eq!((member.index as usize, member.generation), (index, connection.generation));
            assert!(connection.owed.is_empty() && !connection.is_closing());
        }
        (Some(lag), Lane::Ready | Lane::Blocked) => {
            if !connection.is_closing() && lag.places.len() == view.cohort.classes.list().len() {
                view.check(lag);
            }
        }
        (_, Lane::Silent) => {}
        other => panic!("lag and lane do not agree: {other:?}"),
    }
}

const _: () = assert!(size_of::<Connection>() <= 216, "an idle connection stays small");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_let_go_of_although_something_is_always_owed() {
        let mut owed = Owed::default();
        owed.owe_rest(&[1; 100]);
        for _ in 0..1_000 {
            owed.buffer().extend_from_slice(&[2; 100]);
            assert_eq!(owed.consume(100), 100);
            assert_eq!((owed.control_bytes(), owed.bytes()), (100, &[2; 100][..]));
        }
        assert!(owed.bytes.len() <= 200, "{} bytes are kept", owed.bytes.len());
    }
}
