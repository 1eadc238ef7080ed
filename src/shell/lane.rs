//! The lane of handshakes: how much of a core those who are not in yet may take from those who are.
//!
//! A storm of handshakes would hold the core for a whole slice of the executor while a batch waits
//! in the ring. Here each step of a handshake waits for its turn: between two turns of the fan-out
//! that are due, all steps together get a part of the last turn's time. Not here: the steps.
//! Invariant: whoever is refused is woken after the next turn of the fan-out, which is due when
//! anybody is refused, or at the next tick.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::limits::{LANE_NS_MAX, LANE_NS_MIN, LANE_TURN_PARTS, LANE_WAKES};

use super::clock;
use super::shard_loop::Core;

/// Does one step of a handshake when it is its turn.
pub(super) async fn step<T>(core: &Core, work: impl FnOnce() -> T) -> T {
    poll_fn(|context| match core.may_step(context) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
    let begun_ns = clock::now().monotonic_ns;
    let result = work();
    core.lane.borrow_mut().has_stepped(clock::now().monotonic_ns - begun_ns);
    result
}

/// The handshakes of one core.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Time that steps may still take before the fan-out has its turn, nanoseconds.
    left_ns: u64,
    waiting: VecDeque<Waker>,
}

impl Lane {
    /// Whether a step may be made; if not, `waker` is woken when it may try again. `is_due` says
    /// whether the fan-out has something to do.
    pub(super) fn may_step(&mut self, is_due: bool, waker: &Waker) -> bool {
        if self.left_ns == 0 && !is_due {
            self.left_ns = LANE_NS_MAX;
        }
        if self.left_ns == 0 {
            self.waiting.push_back(waker.clone());
        }
        self.left_ns > 0
    }

    /// A step has taken this time; another one may try.
    pub(super) fn has_stepped(&mut self, took_ns: u64) {
        self.left_ns = self.left_ns.saturating_sub(took_ns);
        self.wake(1);
    }

    /// The fan-out has had its turn, which took this time.
    pub(super) fn next_turn(&mut self, took_ns: u64) {
        self.left_ns = (took_ns / LANE_TURN_PARTS).clamp(LANE_NS_MIN, LANE_NS_MAX);
        self.wake(LANE_WAKES);
    }

    /// Wakes some that wait; also at each tick, because one that has given up is woken in vain and
    /// wakes no other.
    pub(super) fn wake(&mut self, count: usize) {
        let count = self.waiting.len().min(count);
        self.waiting.drain(..count).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_a_part_of_the_time_while_the_fan_out_is_due_and_all_of_it_otherwise() {
        let mut lane = Lane::default();
        let waker = Waker::noop();
        for _ in 0..100 {
            assert!(lane.may_step(false, waker), "nothing else is to be done");
            lane.has_stepped(LANE_NS_MAX);
        }
        assert!(!lane.may_step(true, waker), "it is the fan-out's turn");
        for (turn_ns, budget_ns) in
            [(0, LANE_NS_MIN), (2_000_000, 500_000), (u64::MAX, LANE_NS_MAX)]
        {
            lane.next_turn(turn_ns);
            let mut taken_ns = 0;
            while lane.may_step(true, waker) {
                lane.has_stepped(50_000);
                taken_ns += 50_000;
            }
            assert_eq!(taken_ns, budget_ns, "after a turn of {turn_ns} ns");
        }
    }

    #[test]
    fn every_step_that_ends_wakes_another_one() {
        let mut lane = Lane::default();
        (0..2 * LANE_WAKES).for_each(|_| assert!(!lane.may_step(true, Waker::noop())));
        lane.next_turn(0);
        assert_eq!(lane.waiting.len(), LANE_WAKES);
        lane.has_stepped(LANE_NS_MAX);
        assert_eq!(lane.waiting.len(), LANE_WAKES - 1, "also the last one of a turn");
    }
}
