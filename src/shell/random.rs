//! Random numbers for masks, jitter and nonces: unpredictable enough, and nothing secret.
//!
//! Not here: secrets; those come from the library of the ciphers.

use std::hash::{BuildHasher, RandomState};

/// A number that is not easily foreseen, from the standard library's own source.
#[must_use]
pub fn number() -> u64 {
    RandomState::new().hash_one(0_u8)
}
