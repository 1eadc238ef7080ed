//! Who gets what: the sequencer that orders events, and the shard that brings them to clients.
//!
//! Pure: values in, values out, time as an argument. Nothing here names a socket, an executor or a
//! clock; the shell drives a [`shard::Shard`], and so does the simulation in `tests/simulation`.

pub mod channel_set;
pub mod channels;
pub mod classes;
pub mod cohort_key;
pub mod cohorts;
pub mod connection;
pub mod cut;
pub mod due;
pub mod encoders;
pub mod gather;
pub mod lag;
pub mod log;
pub mod losses;
pub mod pattern_index;
pub mod reading;
pub mod recovery;
pub mod retained;
pub mod ring;
pub mod send;
pub mod sequencer;
pub mod shard;
pub mod shelves;
pub mod slots;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod track;

/// The time of one turn, read once by the shell and handed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Nanoseconds of a clock that never steps; for deadlines.
    pub monotonic_ns: u64,
    /// Nanoseconds since the Unix epoch; for time stamps.
    pub unix_ns: u64,
}
