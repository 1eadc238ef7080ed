//! Turns: how many slow clients may write before news for all is sent.
//!
//! A crowd of sockets that take something again would hold the core for a whole slice of the
//! executor while a batch waits in the ring; here they wait for each other. Not here: the writes.
//! Invariant: where somebody waits and is refused, the fan-out has something to do, and its next
//! turn wakes whoever serves them.

use std::collections::VecDeque;
use std::task::Waker;

use crate::fanout::connection::ConnectionId;
use crate::limits::{SENDS_PER_OTHER, WRITES_PER_TURN};

/// The writers of one core.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// How many may still write before the fan-out has its turn.
    left: usize,
    waiting: VecDeque<ConnectionId>,
    /// Who is woken when somebody may write.
    waker: Option<Waker>,
}

impl Writers {
    /// The socket of `id` has room again.
    pub(super) fn add(&mut self, id: ConnectionId) {
        self.waiting.push_back(id);
    }

    /// Who writes next, if anybody may. `is_due` says whether the fan-out has something to do.
    pub(super) fn next(&mut self, is_due: bool) -> Option<ConnectionId> {
        if self.left == 0 && !is_due {
            self.left = WRITES_PER_TURN;
        }
        if self.left == 0 {
            return None;
        }
        let id = self.waiting.pop_front()?;
        self.left -= 1;
        Some(id)
    }

    /// Whether somebody may write; if not, `waker` is woken when somebody may.
    pub(super) fn is_ready(&mut self, is_due: bool, waker: &Waker) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        if self.left == 0 && is_due {
            self.waker = Some(waker.clone());
            return false;
        }
        true
    }

    /// One that might write had nothing to write, or found its socket full still.
    pub(super) const fn has_not_written(&mut self) {
        self.left += 1;
    }

    /// The fan-out has had its turn, with so many sends: the more, the more may write after it.
    pub(super) fn next_turn(&mut self, sends: usize) {
        self.left = WRITES_PER_TURN + sends / SENDS_PER_OTHER;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_wait_for_the_fan_out_and_only_for_it() {
        let mut writers = Writers::default();
        let id = |index| ConnectionId { index, generation: 0 };
        assert!(!writers.is_ready(false, Waker::noop()), "nobody is there");
        (0..50).for_each(|index| writers.add(id(index)));
        for index in 0..3 * u32::try_from(WRITES_PER_TURN).unwrap() {
            assert_eq!(writers.next(false), Some(id(index)), "nothing else is to be done");
        }
        writers.next_turn(2 * SENDS_PER_OTHER);
        for _ in 0..WRITES_PER_TURN + 2 {
            assert!(writers.is_ready(true, Waker::noop()));
            assert!(writers.next(true).is_some());
        }
        assert!(!writers.is_ready(true, Waker::noop()));
        assert_eq!(writers.next(true), None, "it is the fan-out's turn");
        assert!(writers.waker.is_some());
        writers.next_turn(0);
        assert!(writers.waker.is_none(), "it was woken");
        assert!(writers.next(true).is_some());
    }
}
