//! Bounds of what operators and clients are told: admin pages, questions to shards, `whoami`.
//!
//! Not here: bounds of the data path ([`super`]). Invariant: as there.

/// Receipts of one client that are kept for its `whoami`, and names of channels of each: some KiB
/// for a client that has lost something.
pub const LOSSES_KEPT: usize = 4;
/// See [`LOSSES_KEPT`].
pub const LOSS_CHANNELS_KEPT: usize = 4;

/// Places of a shard's table that a question of the admin pages looks at in one tick: some tenths
/// of a millisecond.
pub const SURVEY_PLACES: usize = 2_048;

/// Sockets whose kernel is asked in one tick, a microsecond each, for the same.
pub const SURVEY_SOCKETS: usize = 128;

/// Clients whose round trips a shard asks the kernel for at each tick.
pub const RTT_SAMPLES_PER_TICK: usize = 2;

/// Questions that wait for one shard.
pub const LETTERS_MAX: usize = 16;

/// Milliseconds that a shard may take to answer one: what a survey of a million sockets takes.
pub const ANSWER_MS: u64 = 90_000;

/// Rows of a list on an admin page, unless more are asked for, and at most.
pub const ROWS: usize = 100;
/// See [`ROWS`].
pub const ROWS_MAX: usize = 1_000;

/// Admin requests that are served at once.
pub const ADMIN_REQUESTS_MAX: usize = 32;

/// Bytes of an admin token at least: 128 bits as hexadecimal digits.
pub const ADMIN_TOKEN_BYTES_MIN: usize = 32;

/// Channels of a client's set that `whoami` looks at for the newest event: some microseconds.
pub const WHOAMI_CHANNELS: usize = 1_024;

/// Milliseconds without an event on any of a client's channels after which `whoami` says that the
/// feed is quiet: a heartbeat's default.
pub const FEED_QUIET_MS: u64 = 5_000;

/// Bytes of an answer of an admin page: the metrics of a thousand shards.
pub const ADMIN_ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a request to the admin address.
pub const ADMIN_REQUEST_BYTES_MAX: usize = 8 << 10;

/// Milliseconds from accept to the end of an admin request.
pub const ADMIN_MS: u64 = 2_000;

/// Milliseconds between two looks of `fanfare top`: what a person can still follow or wait for.
pub const LOOK_INTERVAL_MS: std::ops::RangeInclusive<u64> = 100..=60_000;
