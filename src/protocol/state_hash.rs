//! The hash of what counts on a channel, which server and client compute each from their own.
//!
//! Not here: which messages count. Invariant: the same messages give the same hash.

/// What stands for the key of a value that has none.
pub const KEYLESS: &str = "null";

/// The hash of values: for each its key as it stands in frames, in the order of the keys' bytes,
/// and the CRC-32 of its messages.
#[must_use]
pub fn of_values<'a>(values: impl IntoIterator<Item = (&'a [u8], u32)>) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    for (key, crc) in values {
        hash.update(key);
        hash.update(format!(":{crc:08x}\n").as_bytes());
    }
    hash.finalize()
}
