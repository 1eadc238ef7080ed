//! What a client gets at the start of a subscription, before live events: a snapshot or a replay.
//!
//! A recovery is a stage of a lagging connection ([`super::lag`]) between what was due of its
//! former set and the first live event of its new one. A replay reads the log like any laggard, a
//! snapshot walks the slots ([`super::snapshot`]). Not here: when a stage begins and what is said
//! of it (`shard::recovery`). Invariant: a recovery sends nothing from its stage's end on.

use crate::handoff::batch::{ChannelId, SlotId};
use crate::protocol::reply::{self, Asked, Cause};

use super::channel_set::ChannelSet;
use super::slots::Slots;
use super::snapshot::Walk;

/// A recovery that is wanted or under way.
#[derive(Debug)]
pub struct Recovery {
    /// The client's request.
    pub asked: Asked,
    /// The channels that it is for; none: all of the cohort.
    pub only: Option<ChannelSet>,
    /// What is to be receipted when it begins: everything after this `seq`, for this reason.
    pub lost: Option<(u64, Cause)>,
    /// Present when it is a snapshot.
    pub walk: Option<Walk>,
    /// Present when it began before what the log holds.
    pub past: Option<Past>,
}

/// A replay that begins with what is read back ([`super::reading`]).
#[derive(Debug, Clone, Copy)]
pub struct Past {
    /// The client has everything up to this `seq`.
    pub since: u64,
    /// A snapshot takes its place where it cannot go on.
    pub snapshot: bool,
}

impl Recovery {
    /// Whether it is for events of `channel`.
    #[must_use]
    pub fn concerns(&self, channel: ChannelId) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(channel))
    }

    /// What it is called on the wire.
    #[must_use]
    pub const fn kind(&self) -> reply::Recovery {
        match self.walk {
            Some(_) => reply::Recovery::Snapshot,
            None => reply::Recovery::Replay,
        }
    }
}

/// The notice that a snapshot is whole, which waits until what replaced parts of it is sent.
#[derive(Debug)]
pub struct Pending {
    /// Number behind the last entry that must have been sent.
    pub at: u64,
    /// Last `seq` before `at`.
    pub seq: u64,
    /// The client's request.
    pub asked: Asked,
}

impl Pending {
    /// Something of these books is skipped: a snapshot is not whole before what they go on at was
    /// sent.
    pub fn put_off(all: &mut [Self], slots: &Slots, books: impl Iterator<Item = SlotId>) {
        let newest = books.map(|id| slots.slot(id)).max_by_key(|book| book.base);
        let Some(newest) = newest else { return };
        for pending in all.iter_mut().filter(|pending| pending.at <= newest.base) {
            (pending.at, pending.seq) = (newest.base + 1, newest.seq_base);
        }
    }
}
