//! Random numbers for masks, jitter and nonces: unpredictable enough, and nothing secret.
//!
//! Not here: secrets; those come from the library of the ciphers.

use std::hash::{BuildHasher, RandomState};

/// A number that is not easily foreseen, from the standard library's own source.
#[must_use]
pub fn number() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// What a `Sec-WebSocket-Key` is made from (RFC 6455, section 4.1).
#[must_use]
pub fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&number().to_ne_bytes());
    nonce[8..].copy_from_slice(&number().to_ne_bytes());
    nonce
}

/// A fresh mask (RFC 6455, section 5.3), which is to keep proxies from being fooled.
#[must_use]
pub fn mask() -> [u8; 4] {
    let [first, second, third, fourth, ..] = number().to_ne_bytes();
    [first, second, third, fourth]
}
