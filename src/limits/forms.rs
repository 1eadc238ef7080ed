//! Bounds of the forms of events beside JSON: what is said of them.
//!
//! Not here: bounds of compression (`compression`). Invariant: as for all of [`super`].

use super::{CHANNEL_BYTES_MAX, OWED_BYTES_MAX};

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
