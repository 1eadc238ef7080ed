//! permessage-deflate (RFC 7692): what both sides agree on, and payloads of compressed messages.
//!
//! RSV1 in a message's first frame says that its payload is what a [`Deflater`] has written; the
//! [`Reader`](super::reader::Reader) gives it to an [`Inflater`] when its last byte has come. Not
//! here: which messages are worth it. Invariant: neither side refers to earlier messages where
//! that was not agreed on, and nothing inflates beyond the bound that its caller gave.

mod deflater;
mod inflater;
mod negotiation;
#[cfg(test)]
mod tests;

pub use deflater::Deflater;
pub use inflater::{InflateError, Inflater};
pub use negotiation::{Agreed, NAME, OFFER, Offer, Terms, agreed_by_response};

/// Base-2 logarithm of the largest window, which who says nothing else may use (RFC 7692, section
/// 7.1.2).
pub const WINDOW_BITS_MAX: u8 = 15;

/// Base-2 logarithm of the smallest window that can be asked for.
pub const WINDOW_BITS_MIN: u8 = 8;

/// Base-2 logarithm of the smallest window that the compressor has.
pub const COMPRESSOR_BITS_MIN: u8 = 9;

/// What a flush ends with; it is left out of the message (RFC 7692, section 7.2.1).
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];
