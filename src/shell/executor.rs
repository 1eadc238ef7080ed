//! One glommio executor on one core, and the few things that tasks on it ask for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use glommio::{
    ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle,
};

use crate::limits::{PREEMPT_MS, PREEMPT_START_MS};

/// Memory that glommio registers for file I/O; fanfare does none with it, so this is its minimum.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// A thread that was started by [`start`]; join it to get its result.
#[derive(Debug)]
pub struct Thread<T: Send + 'static> {
    handle: ExecutorJoinHandle<T>,
    done: Arc<AtomicBool>,
}

/// Work that is begun on a thread of other work, which ends after it.
pub type Guest = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Says that a thread's work is done when it is dropped, also by a panic.
struct Done(Arc<AtomicBool>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl<T: Send + 'static> Thread<T> {
    /// True once the thread's work is done, so that [`Self::join`] does not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Waits for the thread's end.
    ///
    /// # Errors
    /// The executor's words, when it could not start or its thread panicked.
    pub fn join(self) -> Result<T, String> {
        self.handle.join().map_err(|error| error.to_string())
    }
}

/// Starts an executor that runs `main` and ends with it, pinned to `core` when there is one.
///
/// # Errors
/// The executor's words, when its thread could not be started.
pub fn start<F, T>(
    name: &str,
    core: Option<usize>,
    main: impl FnOnce() -> F + Send + 'static,
) -> Result<Thread<T>, String>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let done = Arc::new(AtomicBool::new(false));
    let guard = Done(Arc::clone(&done));
    LocalExecutorBuilder::new(core.map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(Duration::from_millis(PREEMPT_START_MS))
        .spawn(move || {
            let work = main();
            async move {
                let _guard = guard;
                glommio::spawn_local_into(work, queue(1_000, "main").0)
                    .expect("the queue was just made")
                    .await
            }
        })
        .map(|handle| Thread { handle, done })
        .map_err(|error| error.to_string())
}

/// A task queue; queues share the core by their shares.
#[derive(Debug, Clone, Copy)]
pub struct Queue(TaskQueueHandle);

/// Makes a queue with `shares` of the core (1 to 1,000).
#[must_use]
pub fn queue(shares: usize, name: &str) -> Queue {
    let shares = Shares::Static(shares);
    let latency = Latency::Matters(Duration::from_millis(PREEMPT_MS));
    Queue(glommio::executor().create_task_queue(shares, latency, name))
}

/// Runs a task in `queue` until it ends by itself.
pub fn spawn_into(queue: Queue, task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local_into(task, queue.0).expect("queues live as long as the executor").detach();
}

/// Runs a task in `queue`; wait for its end with what this returns, and do not drop that before.
pub fn begin_into<T: 'static>(
    queue: Queue,
    task: impl Future<Output = T> + 'static,
) -> impl Future<Output = T> {
    glommio::spawn_local_into(task, queue.0).expect("queues live as long as the executor")
}

/// Runs a task in the current queue until it ends by itself.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

/// Sleeps without holding the core.
pub async fn sleep(time: Duration) {
    glommio::timer::sleep(time).await;
}

/// Lets other tasks run when it is their turn.
pub async fn yield_if_needed() {
    glommio::yield_if_needed().await;
}

/// Lets another queue run that has something to do: at once, or when it is its turn.
pub async fn yield_queue(at_once: bool) {
    if at_once {
        glommio::executor().yield_task_queue_now().await;
    } else {
        yield_if_needed().await;
    }
}

/// Gives `task` this much time; `None` when it was not enough.
pub async fn within<T>(time: Duration, task: impl Future<Output = T>) -> Option<T> {
    glommio::timer::timeout(time, async { Ok::<_, glommio::GlommioError<()>>(task.await) })
        .await
        .ok()
}
