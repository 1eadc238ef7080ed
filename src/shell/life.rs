//! The stage that a server is in, as all of its threads see it: restoring, serving, draining,
//! stopping.
//!
//! Not here: what follows from a stage; each thread looks at its next tick. Invariant: stages only
//! go forward, and the end of a drain only moves closer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::clock;

/// No drain yet.
const NEVER: u64 = u64::MAX;

/// The stage that a server is in.
#[derive(Debug)]
pub struct Life {
    /// When the drain ends, nanoseconds of the monotonic clock.
    drain_end_ns: AtomicU64,
    is_restoring: AtomicBool,
    /// Why the server cannot go on.
    failure: OnceLock<String>,
    is_handed_over: AtomicBool,
    is_stopping: AtomicBool,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            drain_end_ns: AtomicU64::new(NEVER),
            is_restoring: AtomicBool::new(false),
            failure: OnceLock::new(),
            is_handed_over: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }
}

impl Life {
    /// A life that begins with taking in a journal, or the state of a stream.
    #[must_use]
    pub fn restoring() -> Self {
        Self { is_restoring: AtomicBool::new(true), ..Self::default() }
    }

    /// Every shard has taken in what was before: clients may come.
    pub fn open(&self) {
        self.is_restoring.store(false, Ordering::Release);
    }

    /// Whether clients have to wait until what was before is taken in.
    #[must_use]
    pub fn is_restoring(&self) -> bool {
        self.is_restoring.load(Ordering::Acquire)
    }

    /// Begins a drain that ends in `window`, or moves the end of the one under way closer.
    pub fn drain(&self, window: Duration) {
        let now_ns = clock::now().monotonic_ns;
        let end_ns = now_ns.saturating_add(clock::nanoseconds(window)).min(NEVER - 1);
        self.drain_end_ns.fetch_min(end_ns, Ordering::Relaxed);
    }

    /// When the drain under way ends, nanoseconds of the monotonic clock.
    #[must_use]
    pub fn drain_end_ns(&self) -> Option<u64> {
        let end_ns = self.drain_end_ns.load(Ordering::Relaxed);
        (end_ns != NEVER).then_some(end_ns)
    }

    /// A successor has the listeners: nobody is accepted any more, and nobody is refused.
    pub fn hand_over(&self) {
        self.is_handed_over.store(true, Ordering::Relaxed);
    }

    /// Whether a successor has the listeners.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(Ordering::Relaxed)
    }

    /// Notes why the server cannot go on; who runs it then ends it.
    pub fn fail(&self, why: String) {
        // The first reason is the one that the others follow from.
        let _ = self.failure.set(why);
    }

    /// Why the server cannot go on, if it cannot.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Ends everything in order.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the server stops.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Whether newcomers are welcome here: everything was taken in, and neither a drain nor a stop
    /// is under way.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.unready().is_none()
    }

    /// Why newcomers are not welcome here, if they are not.
    #[must_use]
    pub fn unready(&self) -> Option<&'static str> {
        if self.is_stopping() {
            Some("stopping")
        } else if self.failure().is_some() {
            Some("failed")
        } else if self.drain_end_ns().is_some() {
            Some("draining")
        } else {
            self.is_restoring().then_some("restoring")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_drain_only_moves_closer() {
        let life = Life::default();
        assert!(life.is_ready() && life.drain_end_ns().is_none());
        life.drain(Duration::from_secs(60));
        let end_ns = life.drain_end_ns().unwrap();
        life.drain(Duration::MAX);
        assert_eq!(life.drain_end_ns(), Some(end_ns));
        life.drain(Duration::ZERO);
        assert!(life.drain_end_ns().unwrap() < end_ns && !life.is_ready());
        assert!(!life.is_stopping() && !life.is_handed_over());
    }

    #[test]
    fn nobody_is_welcome_before_the_journal_was_taken_in() {
        let life = Life::restoring();
        assert!(!life.is_ready());
        life.open();
        assert!(life.is_ready() && !life.is_restoring());
    }
}
