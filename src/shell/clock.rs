//! Reads the clocks; everything below is handed the time.
//!
//! Not here: timers of the executors. Invariant: `monotonic_ns` never goes back, and readings of
//! different threads can be compared.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use crate::fanout::Now;

/// The time now; `monotonic_ns` counts from the first reading of this process.
#[must_use]
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { monotonic_ns: nanoseconds(start().elapsed()), unix_ns: nanoseconds(unix) }
}

/// Blocks until `monotonic_ns`; returns at once when that is past.
pub fn sleep_until(monotonic_ns: u64) {
    let elapsed = nanoseconds(start().elapsed());
    if monotonic_ns > elapsed {
        std::thread::sleep(Duration::from_nanos(monotonic_ns - elapsed));
    }
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// A time in nanoseconds; more than 64 bits hold (584 years) is as good as for ever.
#[must_use]
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_ends_no_earlier_than_asked() {
        let until = now().monotonic_ns + 2_000_000;
        sleep_until(until);
        assert!(now().monotonic_ns >= until);
        sleep_until(0);
    }
}
