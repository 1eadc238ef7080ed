//! Every interleaving of the doorbell: no wake-up is lost.
//!
//! Goal: a task that waits for a change is always woken by the change. Method: the real source file
//! is compiled against loom's waker, and loom runs all schedules. The twin test at the end leaves
//! out the second look and shows that loom finds the lost wake-up.

use std::task::Context;

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

mod sync {
    /// `loom::future::AtomicWaker` under the signature of the `atomic-waker` crate.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn register(&self, waker: &std::task::Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }
    }
}

#[expect(unreachable_pub, reason = "the file is public in its own crate")]
#[path = "../src/handoff/doorbell.rs"]
mod doorbell;

#[derive(Default)]
struct Flag {
    bell: doorbell::Doorbell,
    set: AtomicBool,
}

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Self { bell: doorbell::Doorbell::default(), set: AtomicBool::new(false) })
    }

    fn look(&self) -> Option<()> {
        self.set.load(Ordering::Acquire).then_some(())
    }
}

#[test]
fn a_change_always_wakes_the_task_that_waits_for_it() {
    loom::model(|| {
        let flag = Flag::new();
        let ringer = Arc::clone(&flag);
        let thread = thread::spawn(move || {
            ringer.set.store(true, Ordering::Release);
            ringer.bell.ring();
        });
        // loom fails the model with a deadlock if this never returns.
        block_on(std::future::poll_fn(|context: &mut Context<'_>| {
            flag.bell.poll_wait(context, || flag.look())
        }));
        thread.join().unwrap();
    });
}

/// Notes that it was woken.
#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn without_the_second_look_loom_finds_the_lost_wake_up() {
    static LOST: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    loom::model(|| {
        let flag = Flag::new();
        let bell = Arc::new(sync::AtomicWaker::default());
        let (ringer, ringing) = (Arc::clone(&flag), Arc::clone(&bell));
        let thread = thread::spawn(move || {
            ringer.set.store(true, Ordering::Release);
            ringing.wake();
        });
        let woken = std::sync::Arc::new(Woken::default());
        let waits = flag.look().is_none();
        if waits {
            bell.register(&std::task::Waker::from(std::sync::Arc::clone(&woken)));
        }
        thread.join().unwrap();
        if waits && !woken.0.load(Ordering::Relaxed) {
            LOST.store(true, Ordering::Relaxed);
        }
    });
    assert!(LOST.load(Ordering::Relaxed), "one schedule rings between the look and the waker");
}
