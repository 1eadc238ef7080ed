//! Bounds of a pass of the fan-out: what a send gathers, how many go to the kernel at once, and
//! what others may do meanwhile.
//!
//! Not here: bounds of the log. Invariant: as for all of [`super`].

/// Slices that one send gathers. The kernel's own bound is 1,024 (`UIO_MAXIOV`); merged runs seldom
/// pass a few dozen.
pub const GATHER_SLICES_MAX: usize = 256;

/// Bytes that one send gathers. Enough to fill a socket buffer; small enough that a client that
/// catches up does not hold the core for long.
pub const GATHER_BYTES_MAX: usize = 256 << 10;

/// Index entries that one visit of a lagging connection looks at, so that a visit that finds
/// nothing wanted stays below about 0.2 ms.
pub const WALK_ENTRIES_MAX: usize = 8_192;

/// Sends in one submission to the kernel.
pub const FLUSH_SENDS_MAX: usize = 256;

/// The same while events come during the pass: they wait for the submission under way.
pub const FLUSH_SENDS_FAST: usize = 64;

/// Sockets of sources that are looked at between two submissions, where they share a thread with a
/// fan-out; a look takes less than a microsecond. The others wait for the end of the pass.
pub const LOOKS_PER_TURN: usize = 16;

/// Writes to sockets that were full, between two turns of the fan-out that wants one: they bring at
/// most as many times [`GATHER_BYTES_MAX`], and seldom more than a tenth of a millisecond.
pub const WRITES_PER_TURN: usize = 2;

/// Ready connections that one pass visits, behind those in sync; the others wait for the next.
pub const READY_PER_PASS: usize = 16;

/// Sends to clients in sync for which one more ready connection is visited in the same pass, and
/// one more socket is written to after it: a fixed number for each pass is a smaller share of the
/// core the longer passes are.
pub const SENDS_PER_OTHER: usize = 16;
