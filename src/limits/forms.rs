//! Bounds of the forms of events beside JSON: how they begin, are announced, and end.
//!
//! Not here: bounds of compression (`compression`). Invariant: as for all of [`super`].

use super::{CHANNEL_BYTES_MAX, OWED_BYTES_MAX};

/// Bytes of JSON that are written in a form that begins while events flow, at one turn of a core,
/// beside what the turn brings: half a millisecond or less.
pub const FILL_BYTES: usize = 64 << 10;

/// Milliseconds after which a form that nobody reads ends, and its memory is given back: longer
/// than clients take to come back, because it is filled anew for the next one.
pub const FORM_IDLE_MS: u64 = 60_000;

/// Frames of a form that has ended that are freed at one tick: some 100 µs.
pub const FREED_FRAMES: usize = 1_024;

/// Ids of channels in one message.
pub const IDS_MAX: usize = 256;

/// Bytes of control frames that a connection may be owed when it is told more ids: the rest waits
/// until those are sent.
pub const OWED_BYTES_FOR_IDS: usize = OWED_BYTES_MAX / 4;

/// Bytes of one id beside the channel's name: quotes, a colon, a comma and the number.
const ID_BYTES_MAX: usize = 2 + 1 + 1 + 10;

const _: () = assert!(
    // A notice, and the reply to a request that comes right after it.
    OWED_BYTES_FOR_IDS + 2 * IDS_MAX * (CHANNEL_BYTES_MAX + ID_BYTES_MAX) <= OWED_BYTES_MAX,
    "nobody is closed because of ids"
);
