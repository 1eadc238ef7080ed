//! The hash of a channel's state, by which a client proves its copy.
//!
//! The state is what a snapshot of the channel would send, but for events without a key that are no
//! book: those are a stream, and have none. Each value has the CRC-32 of the messages that make it
//! up; the channel's hash is the CRC-32 of one line `KEY:CRC` for each, sorted. Not here: who may
//! ask. Invariant: the same frames give the same hash, on every core and every client.

use crate::handoff::batch::ChannelId;
use crate::protocol::encoding::Encoding;
use crate::protocol::state_hash::{self, KEYLESS};
use crate::protocol::ws::frame;

use super::channels::Channels;
use super::store::Store;

/// A channel's state right after its newest event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// `seq` of that event.
    pub seq: u64,
    /// Values in the state.
    pub values: u64,
    /// Their hash.
    pub hash: u32,
}

/// The state of `channel`; none when a part of it is not kept any more.
#[must_use]
pub fn state(channel: ChannelId, channels: &Channels, store: &Store) -> Option<State> {
    let mut lines: Vec<(&[u8], u32)> = Vec::new();
    for &id in store.slots.of_channel(channel) {
        let slot = store.slots.slot(id);
        if !slot.is_keyed && !slot.is_book_at(slot.base) {
            continue;
        }
        if !slot.is_whole() {
            return None;
        }
        let mut crc = crc32fast::Hasher::new();
        for number in std::iter::once(slot.base).chain(slot.deltas.iter().copied()) {
            let piece = store.piece(Encoding::Json, number, store.entry(number));
            crc.update(frame::payload(store.bytes(piece)));
        }
        lines.push((channels.key_json(id).unwrap_or(KEYLESS.as_bytes()), crc.finalize()));
    }
    lines.sort_unstable_by_key(|(key, _)| *key);
    let seq = channels.channel(channel).seq_last.into_iter().max().unwrap_or_default();
    Some(State { seq, values: lines.len() as u64, hash: state_hash::of_values(lines) })
}
