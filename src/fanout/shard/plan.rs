//! What a pass hands to the shell, and what comes back.
//!
//! Not here: how a plan comes about, and what follows from the outcomes ([`super::flush`]).
//! Invariant: the runs of a plan are its sends in order, each in one run.

use std::ops::Range;

use super::super::connection::ConnectionId;
use super::super::retained::Piece;

/// A piece of one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice {
    /// All that the connection is owed.
    Owed(ConnectionId),
    /// Frames, shared by every connection that is sent them.
    Frames(Piece),
}

/// Sends of the same bytes, one to each of some connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// To whom: a part of [`Plan::connections`].
    pub sends: Range<usize>,
    /// What: a part of [`Plan::slices`].
    pub slices: Range<usize>,
    /// Bytes of one send.
    pub bytes: usize,
    /// Events of one send.
    pub(super) events: u64,
    /// Number behind the last entry that it brings, or that was looked at.
    pub(super) end: u64,
    /// `ts_in` of its oldest event, nanoseconds; `u64::MAX` where that says nothing of the flush.
    pub(super) ts_in: u64,
}

/// Sends that are made together.
#[derive(Debug, Default)]
pub struct Plan {
    /// The connection of each send.
    pub connections: Vec<ConnectionId>,
    /// The sends, by what they bring.
    pub runs: Vec<Run>,
    /// What they are made of.
    pub slices: Vec<Slice>,
}

impl Plan {
    /// How many sends there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.connections.len()
    }

    /// True when there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Each send: to whom, and what.
    pub fn sends(&self) -> impl Iterator<Item = (ConnectionId, &Run)> {
        let of_run = |run: &Run| self.connections[run.sends.clone()].iter().copied();
        self.runs.iter().flat_map(move |run| of_run(run).map(move |id| (id, run)))
    }

    /// The connections of `run` have been added.
    pub(super) fn end_run(&mut self, run: Option<Run>) {
        if let Some(mut run) = run {
            run.sends.end = self.connections.len();
            self.runs.push(run);
        }
    }

    pub(super) fn clear(&mut self) {
        self.connections.clear();
        self.runs.clear();
        self.slices.clear();
    }
}

/// How long the events of a pass took from ingest to kernel, for those in sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// The oldest event of the first sends, until these were made, nanoseconds.
    pub first_ns: u64,
    /// The longest that an event took until it was sent, nanoseconds. It stands for all sends, so
    /// it never flatters.
    pub last_ns: u64,
    /// Sends with events that were taken in full.
    pub sends: u64,
}

/// What the kernel made of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took this many bytes; fewer than planned, 0 included, means that the socket is full.
    Took(usize),
    /// This many bytes, planned or fewer, were sealed into records and belong to the connection
    /// now.
    Sealed {
        /// Bytes before sealing.
        bytes: usize,
        /// The socket has not taken all records: nothing more is sealed until it has.
        is_full: bool,
    },
    /// The connection is broken.
    Failed,
}

impl Outcome {
    /// What was taken of `planned` bytes, and whether the socket is full; none if it is broken.
    pub(super) const fn taken(self, planned: usize) -> Option<(usize, bool)> {
        match self {
            Self::Took(bytes) => Some((bytes, bytes < planned)),
            Self::Sealed { bytes, is_full } => Some((bytes, is_full)),
            Self::Failed => None,
        }
    }
}
