//! One open connection: a cursor into the log, a few bytes that are owed, and no queue.
//!
//! Not here: its socket (the shell's) and its subscriptions (its cohort's). Invariant: `taken` plus
//! the wanted entries in `cursor..head` is the cohort's `wanted`; a member of a cohort is owed
//! nothing and wants nothing between its cursor and the cohort's gather list.

use slab::Slab;

use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::reader::Reader;

use super::cohorts::{Cohort, CohortId};
use super::log::FrameLog;

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
    /// Number of the next log entry to look at.
    pub cursor: u64,
    /// The cohort's `wanted` as it was when this connection's cursor was at the head. Wraps below
    /// zero where the cursor is older than the cohort; only differences mean something.
    pub taken: u64,
    /// Last `seq` behind the cursor, kept while the connection is not in sync, so that a receipt
    /// can name it after the log has overwritten the entry.
    pub seq_passed: u64,
    /// Monotonic time of the last byte that the kernel took, nanoseconds.
    pub sent_ns: u64,
    /// The subscription set.
    pub cohort: CohortId,
    /// How it gets its next bytes.
    pub lane: Lane,
    /// Tells connections of the same place apart.
    pub generation: u32,
    /// Open or closing.
    pub phase: Phase,
    /// The rest of a frame in flight, then control frames; always sent before the log.
    pub owed: Owed,
    /// Reassembles the client's messages.
    pub reader: Reader,
}

impl Connection {
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
        }
        taken
    }
}

/// Panics when a connection at `index` of its table breaks this module's invariant.
pub(super) fn check(index: usize, connection: &Connection, cohort: &Cohort, log: &FrameLog) {
    if let Lane::InSync(place) = connection.lane {
        let member = cohort.members[place as usize];
        assert_eq!((member.index as usize, member.generation), (index, connection.generation));
        assert!(connection.owed.is_empty() && !connection.is_closing());
        let pending: u64 = (cohort.gather.chunks().iter())
            .filter(|chunk| chunk.first >= connection.cursor)
            .map(|chunk| chunk.events)
            .sum();
        assert_eq!(connection.taken.wrapping_add(pending), cohort.wanted);
    } else if connection.cursor >= log.tail() && !connection.is_closing() {
        let ahead = (connection.cursor..log.head())
            .filter(|&number| cohort.wants(log.entry(number).channel))
            .count();
        assert_eq!(connection.taken.wrapping_add(ahead as u64), cohort.wanted);
        assert_eq!(connection.seq_passed, log.seq_before(connection.cursor));
    }
}

const _: () = assert!(size_of::<Connection>() <= 256, "an idle connection stays small");
