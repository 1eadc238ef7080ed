//! When a command ends that follows a feed.
//!
//! Not here: signals and what is done at the end. Invariant: what was not asked for never comes.

use std::time::Duration;

use crate::shell::clock;

/// How long one read or wait takes before signals and the clock are looked at.
pub const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// The ends that can be asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EndFlags {
    /// End after this many events [default: never]
    #[arg(long, value_name = "EVENTS")]
    pub count: Option<u64>,
    /// End after this many seconds [default: never]
    #[arg(long)]
    pub seconds: Option<f64>,
}

impl EndFlags {
    /// Events at most.
    #[must_use]
    pub fn count_max(&self) -> u64 {
        self.count.unwrap_or(u64::MAX)
    }

    /// The monotonic time of the end of a command that began at `start_ns`, nanoseconds.
    #[must_use]
    pub fn end_ns(&self, start_ns: u64) -> u64 {
        self.seconds.map_or(u64::MAX, |seconds| start_ns.saturating_add(seconds_ns(seconds)))
    }
}

/// Seconds as they are typed, in nanoseconds.
#[must_use]
pub fn seconds_ns(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(u64::MAX, clock::nanoseconds)
}
