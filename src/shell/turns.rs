//! Lets those who wait for a socket on a shard's thread look at it between two submissions of the
//! shard's fan-out.
//!
//! The executor looks at its own rings only when its tasks have nothing to do, or a slice is over:
//! a pass over many clients would hold up the events that come meanwhile. Not here: how a socket is
//! waited for otherwise ([`super::net`]). Invariant: no more than [`LOOKS_PER_TURN`] are kept, and
//! none on threads without a fan-out; whoever is not kept waits as everywhere.

use std::cell::RefCell;
use std::task::Waker;

use crate::limits::LOOKS_PER_TURN;

use super::executor;

thread_local! {
    /// Who waits; none where nobody gives turns.
    static WAITING: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// From now on turns are given on this thread.
pub(super) fn begin() {
    WAITING.set(Some(Vec::with_capacity(LOOKS_PER_TURN)));
}

/// Whether turns are given on this thread.
pub(super) fn are_given() -> bool {
    WAITING.with_borrow(Option::is_some)
}

/// Asks for the next turn, if turns are given here.
pub(super) fn wait(waker: &Waker) {
    WAITING.with_borrow_mut(|waiting| {
        let Some(waiting) = waiting else { return };
        if waiting.len() < LOOKS_PER_TURN && !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    });
}

/// Gives all who wait their turn; without any, other tasks go on when it is theirs.
pub(super) async fn give() {
    executor::yield_queue(wake_all()).await;
}

/// Wakes all who wait, and says whether anybody did.
fn wake_all() -> bool {
    WAITING.with_borrow_mut(|waiting| {
        let Some(waiting) = waiting.as_mut().filter(|waiting| !waiting.is_empty()) else {
            return false;
        };
        waiting.drain(..).for_each(Waker::wake);
        true
    })
}

/// Lets the fan-out go on, where turns are given; elsewhere other tasks when it is their turn.
pub async fn give_way() {
    executor::yield_queue(are_given()).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_waits_has_one_turn_and_nobody_is_kept_where_none_are_given() {
        let woken: Vec<_> = (0..=LOOKS_PER_TURN).map(|_| Arc::<Woken>::default()).collect();
        let wait_all = || woken.iter().for_each(|task| wait(&Arc::clone(task).into()));
        wait_all();
        assert!(!wake_all(), "turns are not given here yet");
        begin();
        assert!(!wake_all(), "nobody waits");
        wait_all();
        wait(&Arc::clone(&woken[0]).into());
        assert!(wake_all());
        assert!(!wake_all(), "all have had theirs");
        let turns: Vec<_> = woken.iter().map(|task| task.0.load(Ordering::Relaxed)).collect();
        assert_eq!(turns[..LOOKS_PER_TURN], [1; LOOKS_PER_TURN], "once each");
        assert_eq!(turns[LOOKS_PER_TURN], 0, "no more than the bound");
    }
}
