//! Bounds of our own client's two connections at once.
//!
//! Not here: bounds of each of them (`limits`). Invariant: as there, each has its unit and reason.

/// Events of one of two connections that our own client holds back at most, while the other one is
/// to bring what is missing before them: about a second of a busy feed.
pub const PAIR_HELD_MAX: usize = 10_000;

/// Gaps of one of two connections that our own client keeps in mind, and that may wait for the
/// other one.
pub const PAIR_GAPS_MAX: usize = 64;

/// Reads of one of two connections that may wait for the program; then reading stops, and the
/// policy of the subscription says what the server does.
pub const PAIR_READS_MAX: usize = 64;

/// Milliseconds after which our own client looks again whether a second server counts by the same
/// epoch as the first.
pub const PAIR_SPARE_MS: u64 = 30_000;
