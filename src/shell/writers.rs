//! Turns: how many slow clients may write before news for all is sent.
//!
//! A full socket that took something again is written to by a task of its own. A crowd of them
//! would hold the core for a whole slice of the executor while a batch waits in the ring; here they
//! wait for each other. Not here: the writes. Invariant: whoever is refused is woken after the next
//! turn of the fan-out, which is due when anybody is refused.

use std::collections::VecDeque;
use std::task::Waker;

use crate::limits::WRITES_PER_TURN;

/// The writers of one core.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// How many may still write before the fan-out has its turn.
    left: usize,
    waiting: VecDeque<Waker>,
}

impl Writers {
    /// Whether one may write; if not, `waker` is woken when it may try again. `is_due` says whether
    /// the fan-out has something to do.
    pub(super) fn may_write(&mut self, is_due: bool, waker: &Waker) -> bool {
        if self.left == 0 && !is_due {
            self.left = WRITES_PER_TURN;
        }
        if self.left == 0 {
            self.waiting.push_back(waker.clone());
            return false;
        }
        self.left -= 1;
        true
    }

    /// One that might write found its socket full still.
    pub(super) const fn has_not_written(&mut self) {
        self.left += 1;
    }

    /// The fan-out has had its turn.
    pub(super) fn next_turn(&mut self) {
        self.left = WRITES_PER_TURN;
        let count = self.waiting.len().min(WRITES_PER_TURN);
        self.waiting.drain(..count).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_wait_for_the_fan_out_and_only_for_it() {
        let mut writers = Writers::default();
        let waker = Waker::noop();
        for _ in 0..3 * WRITES_PER_TURN {
            assert!(writers.may_write(false, waker), "nothing else is to be done");
        }
        writers.next_turn();
        for _ in 0..WRITES_PER_TURN {
            assert!(writers.may_write(true, waker));
        }
        assert!(!writers.may_write(true, waker), "it is the fan-out's turn");
        writers.next_turn();
        assert!(writers.may_write(true, waker));
    }
}
