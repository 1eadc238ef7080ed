//! Bounds of what people and their service managers see: the log, the live view, lists.
//!
//! Not here: bounds of clients and of the feed ([`super`]). Invariant: as for all of [`super`].

/// Milliseconds that a service manager is asked to wait beyond the time that a drain or a stop may
/// take, for the last files and threads.
pub const SUPERVISOR_PATIENCE_MS: u64 = 10_000;

/// Log lines that wait for the live view's next turn; a burst keeps its newest.
pub const HELD_LINES_MAX: usize = 1_000;

/// Log lines that wait for standard error to take them; what comes while so many wait is lost, and
/// counted. The limits of each kind let no more pass in a second, unless somebody debugs.
pub const LOG_LINES_MAX: usize = 4_096;

/// Log lines of one kind (one place in the source) in a second; of more, only the count is logged.
/// What matters is said by then, and a storm does not fill the disk.
pub const LOG_KIND_PER_SECOND: u32 = 20;

/// Ends of connections that are logged one by one in a second (default): each of them in quiet
/// times, and in a storm enough to see what it is about.
pub const LOG_ENDS_PER_SECOND: u32 = 10;

/// Most of them that may be asked for; above it the log is what is in the way.
pub const LOG_ENDS_PER_SECOND_MAX: u32 = 100_000;

/// Milliseconds between two reports of log lines that were left out.
pub const LOG_REPORT_MS: u64 = 1_000;

/// Milliseconds that the end of the process waits for the last log lines to be written.
pub const LOG_END_MS: u64 = 1_000;

/// Looks that the live view's sparklines go back: a minute, and no terminal is much wider.
pub const VIEW_HISTORY_MAX: usize = 120;

/// Lines that `replay` names when it cannot send them; a rule that fits nothing would fill the
/// terminal.
pub const SKIPPED_SHOWN_MAX: u64 = 10;
