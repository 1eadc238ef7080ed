//! The server's tick: one thread that wakes every executor at a steady pace, from outside.
//!
//! The sweep, the stop and everything else that must happen in time hang on it, and not on the
//! executors' own timers, because an executor may park although a task is ready
//! (`docs/adr/0006-a-tick-from-outside-the-executors.md`). Not here: what is done at a tick.
//! Invariant: every tick wakes every executor, whether or not its task has seen the last one.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::limits::SWEEP_STEP_MS;

#[derive(Debug, Default)]
struct Beat {
    count: AtomicU64,
    /// The count that the executor's task saw last.
    seen: AtomicU64,
    /// Kept, unlike a doorbell's, so that a tick reaches an executor whose task was woken before.
    waker: Mutex<Option<Waker>>,
}

impl Beat {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One executor's end: its task waits for ticks.
#[derive(Debug)]
pub struct Ticks {
    beat: Arc<Beat>,
    seen: u64,
}

/// How many ticks an executor has taken, as other threads see it.
#[derive(Debug)]
pub struct Pulse(Weak<Beat>);

impl Pulse {
    /// The ticks so far; none once the executor has ended.
    #[must_use]
    pub fn ticks(&self) -> Option<u64> {
        self.0.upgrade().map(|beat| beat.seen.load(Ordering::Relaxed))
    }
}

impl Ticks {
    /// Shows whether its executor is alive.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(Arc::downgrade(&self.beat))
    }

    /// Waits for the next tick; returns at once when one came since the last call. Always call it
    /// from the same task.
    pub async fn next(&mut self) {
        let Self { beat, seen } = self;
        *seen = poll_fn(|context| {
            beat.waker().get_or_insert_with(|| context.waker().clone());
            // After the waker is there, so that a tick in between is seen here or wakes the task.
            let count = beat.count.load(Ordering::Acquire);
            if count == *seen { Poll::Pending } else { Poll::Ready(count) }
        })
        .await;
        beat.seen.store(*seen, Ordering::Relaxed);
    }
}

impl Drop for Ticks {
    /// The waker belongs to the executor and ends on its thread.
    fn drop(&mut self) {
        self.beat.waker().take();
    }
}

/// Starts the thread and returns an end for each of `count` executors; it ends with the last of
/// them.
///
/// # Errors
/// The kernel's reason to refuse the thread.
pub fn start(count: usize) -> io::Result<Vec<Ticks>> {
    let ticks: Vec<_> = (0..count).map(|_| Ticks { beat: Arc::default(), seen: 0 }).collect();
    let beats: Vec<_> = ticks.iter().map(|ticks| Arc::downgrade(&ticks.beat)).collect();
    thread::Builder::new().name("ticker".into()).spawn(move || tick(&beats))?;
    Ok(ticks)
}

fn tick(beats: &[Weak<Beat>]) {
    loop {
        thread::sleep(Duration::from_millis(SWEEP_STEP_MS));
        let mut alive = false;
        for beat in beats.iter().filter_map(Weak::upgrade) {
            beat.count.fetch_add(1, Ordering::Release);
            if let Some(waker) = &*beat.waker() {
                waker.wake_by_ref();
            }
            alive = true;
        }
        if !alive {
            return;
        }
    }
}
