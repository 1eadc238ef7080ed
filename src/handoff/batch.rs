//! A batch of sequenced events: written once by the sequencer, then shared read-only by every core.
//!
//! One allocation for the records and one for their bytes, whatever the number of cores, clients or
//! events. Not here: frames, each core encodes its own; and batches on disk (`journal`). Invariant:
//! `events` are in strictly increasing `seq` order, and every channel and slot id they use was
//! announced in this batch or an earlier one.

use std::ops::Range;
use std::sync::Arc;

use crate::protocol::event::Kind;

/// A channel's number, the same on every core of a server; dense, from 0, in order of appearance.
pub type ChannelId = u32;

/// The number of a slot, the same on every core; dense, from 0. A slot is a (channel, key) pair, or
/// the events of a channel that have no key.
pub type SlotId = u32;

/// A slot that appears for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSlot {
    /// The channel, already announced.
    pub channel: ChannelId,
    /// The key as the producer wrote it, unescaped; none for events without one.
    pub key: Option<Arc<str>>,
}

/// One event with its place in the total order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequenced {
    /// Position in the total order; strictly increasing.
    pub seq: u64,
    /// The previous `seq` on the same channel, 0 if none.
    pub prev: u64,
    /// The producer's time, nanoseconds since the Unix epoch.
    pub ts: Option<u64>,
    /// The time of ingest, nanoseconds since the Unix epoch.
    pub ts_in: u64,
    /// The channel.
    pub channel: ChannelId,
    /// The (channel, key) pair; the newest value of which the event is.
    pub slot: SlotId,
    /// Update or snapshot.
    pub kind: Kind,
    /// Where the producer's bytes are in [`Batch::bytes`].
    pub data: Range<u32>,
}

/// Events that travel together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Names of channels that appear for the first time; their ids follow those announced before.
    pub channels: Vec<Arc<str>>,
    /// Slots that appear for the first time; their ids follow those announced before.
    pub slots: Vec<NewSlot>,
    /// The events.
    pub events: Vec<Sequenced>,
    /// The producers' bytes of all events.
    pub bytes: Vec<u8>,
    /// Events are missing between these: a log is whole only after them. True of what a journal has
    /// kept of the time before its segments.
    pub is_sparse: bool,
    /// Slots that are books of which the beginning is lost: their updates mean nothing before their
    /// next snapshot.
    pub books_broken: Vec<SlotId>,
    /// First and last `seq` of what will never come and nobody knows, before these.
    pub lost: Option<(u64, u64)>,
}

impl Batch {
    /// The producer's bytes of `event`, which is one of this batch's.
    #[must_use]
    pub fn data(&self, event: &Sequenced) -> &[u8] {
        &self.bytes[event.data.start as usize..event.data.end as usize]
    }
}
