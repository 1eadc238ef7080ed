//! Whether all shards are alive, and the service manager that wants to hear of it.
//!
//! A shard is alive while its ticks reach it: one that is stuck anywhere, in our code or in the
//! kernel, takes none. Then the manager hears nothing more, and starts the server anew. The ingest
//! thread is left out: a disk that stands still would be no better after a restart. Not here: the
//! ticks (`ticker`). Invariant: the manager is told only when every shard that has not ended has
//! taken a tick since it was told before.

use std::io;
use std::thread;

use super::supervisor;
use super::ticker::Pulse;

/// Starts a thread that tells the service manager, if it wants to be told, until all shards have
/// ended.
///
/// # Errors
/// The kernel's reason to refuse the thread.
pub fn start(pulses: Vec<Pulse>) -> io::Result<()> {
    let Some(timeout) = supervisor::watchdog_timeout() else { return Ok(()) };
    let watch = move || {
        let mut before = Vec::new();
        loop {
            thread::sleep(timeout / 2);
            let now: Vec<_> = pulses.iter().map(Pulse::ticks).collect();
            if now.iter().all(Option::is_none) {
                return;
            }
            match stuck(&before, &now) {
                None => supervisor::alive(),
                Some(shard) => {
                    tracing::error!(shard, "a shard takes no ticks; the watchdog is not told");
                }
            }
            before = now;
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
}

/// The first shard that has taken no tick between two looks, unless it has ended.
fn stuck(before: &[Option<u64>], now: &[Option<u64>]) -> Option<usize> {
    before.iter().zip(now).position(|(before, now)| now.is_some() && before == now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shard_that_takes_no_ticks_and_has_not_ended_is_stuck() {
        let first = [Some(1), Some(7)];
        assert_eq!(stuck(&[], &first), None, "nothing is known at the first look");
        assert_eq!(stuck(&first, &[Some(2), Some(8)]), None);
        assert_eq!(stuck(&first, &[Some(2), Some(7)]), Some(1));
        assert_eq!(stuck(&first, &[Some(2), None]), None, "it has ended");
        assert_eq!(stuck(&[Some(2), None], &[Some(3), None]), None);
    }
}
