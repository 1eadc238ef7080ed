//! Wakes the other end of a ring when it is parked.
//!
//! The waiting side registers its waker and then looks again; the other side changes the state and
//! then rings. Whatever the interleaving, either the second look sees the change or the ring finds
//! the waker, so no wake-up is lost (`tests/doorbell_loom.rs` runs every interleaving). Not here:
//! the state itself. Invariant: at most one task waits at a doorbell.

use std::task::{Context, Poll};

use super::sync::AtomicWaker;

/// One side waits, the other rings.
#[derive(Debug, Default)]
pub struct Doorbell {
    waker: AtomicWaker,
}

impl Doorbell {
    /// Wakes the waiting side, if it waits. Call it after the change it waits for.
    pub fn ring(&self) {
        self.waker.wake();
    }

    /// Ready once `look` returns something; otherwise the task sleeps until the next ring.
    pub fn poll_wait<T>(
        &self,
        context: &Context<'_>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Poll<T> {
        if let Some(seen) = look() {
            return Poll::Ready(seen);
        }
        self.waker.register(context.waker());
        // Between the first look and the registration the other side may have rung in vain.
        look().map_or(Poll::Pending, Poll::Ready)
    }
}
