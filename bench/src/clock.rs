//! The clock of every process of a run: `CLOCK_MONOTONIC` in nanoseconds, the same for all of them.
//!
//! Not here: dates. Invariant: two readings of one host can be subtracted, whoever made them.

use std::time::Duration;

/// One second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Now.
#[must_use]
#[inline]
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// How far the clock on the wall is ahead of the monotonic one: it changes when somebody sets it.
#[must_use]
pub fn wall_offset_ns() -> i128 {
    i128::from(read(libc::CLOCK_REALTIME)) - i128::from(now_ns())
}

/// Seconds as nanoseconds.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "settings are small")]
pub fn ns(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}

/// Sleeps until then; not at all when it has passed.
pub fn sleep_until(at_ns: u64) {
    let left = at_ns.saturating_sub(now_ns());
    if left > 0 {
        std::thread::sleep(Duration::from_nanos(left));
    }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable for the length of the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let part = |value: i64| u64::try_from(value).expect("clocks of Linux are not negative");
    part(time.tv_sec) * SECOND_NS + part(time.tv_nsec)
}
