//! Bounds of permessage-deflate, in both directions.
//!
//! Not here: bounds of messages ([`super`]). Invariant: as for all of [`super`].

/// How hard messages are compressed (default): 1 is fastest, 9 smallest. 2 saves two fifths
/// more bytes for nearly three times the CPU time, and from there on hardly anything.
pub const COMPRESSION_LEVEL: u8 = 1;

/// The hardest that can be asked for.
pub const COMPRESSION_LEVEL_MAX: u8 = 9;

/// Bytes of a message that are worth compressing (default): of shorter ones a tenth is saved, at
/// two to four times the CPU time for a byte.
pub const COMPRESSION_MESSAGE_BYTES_MIN: usize = 256;

/// Bytes that inflating a message takes at first; it doubles from there on. Most commands fit.
pub const INFLATE_BYTES_MIN: usize = 1 << 10;

/// Bytes of an inflater's buffer that are kept from one message to the next: the end of the last
/// one, which the next may refer to, and some messages of the usual length.
pub const INFLATE_KEPT_BYTES: usize = 64 << 10;

/// Last blocks of a compressed message before its end. A sender without another way to flush writes
/// one for each piece that it is given; each costs a copy of the window.
pub const DEFLATE_FINALS_MAX: usize = 1_024;
