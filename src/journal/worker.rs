//! The thread beside a journal: makes what is written durable, and merges what is old.
//!
//! It shares the folder with the writer and looks what is there, so the writer never waits for it
//! and never tells it anything but to stop or to pause. Not here: what a merge keeps
//! ([`super::checkpoint`]). Invariant: the newest segment is the writer's alone, and a segment is
//! removed only when a checkpoint that stands for it is on disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::JournalSettings;
use crate::limits::JOURNAL_LOOK_MS;

use super::checkpoint::{Checkpoint, MergeError, Step};
use super::folder::{self, SegmentFile};
use super::segment::{HEADER_BYTES, Unread};

/// The monotonic time, in nanoseconds.
pub type Clock = fn() -> u64;

/// What writer and worker know of each other.
#[derive(Debug, Default)]
pub struct Shared {
    /// The worker is to end.
    is_stopping: Mutex<bool>,
    stopped: Condvar,
    /// The worker is to leave the folder alone: it has failed, or the writer has.
    is_paused: AtomicBool,
    /// Held by whoever changes more in the folder than the newest segment.
    busy: Mutex<()>,
    /// Why the worker has failed, until the writer has seen it.
    failure: Mutex<Option<(PathBuf, io::Error)>>,
    has_failed: AtomicBool,
}

impl Shared {
    /// The writer has failed: there is nothing to do.
    pub(super) fn pause(&self) {
        self.is_paused.store(true, Ordering::Release);
    }

    /// The writer writes again, and nothing is left of what the worker has failed at.
    pub(super) fn go_on(&self) {
        drop(self.take_failure());
        self.is_paused.store(false, Ordering::Release);
    }

    /// The worker has failed; the writer is to know.
    pub(super) fn fail(&self, path: &Path, error: io::Error) {
        self.pause();
        *lock(&self.failure) = Some((path.to_owned(), error));
        self.has_failed.store(true, Ordering::Release);
    }

    /// Why the worker has failed, once.
    pub(super) fn take_failure(&self) -> Option<(PathBuf, io::Error)> {
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        self.has_failed.store(false, Ordering::Release);
        lock(&self.failure).take()
    }

    /// The right to change files, if nobody has it.
    pub(super) fn try_begin(&self) -> Option<MutexGuard<'_, ()>> {
        self.busy.try_lock().ok()
    }

    fn is_stopping(&self) -> bool {
        *lock(&self.is_stopping)
    }

    /// Waits; true if it is time to end.
    fn wait(&self, time: Duration) -> bool {
        let waited = self.stopped.wait_timeout_while(lock(&self.is_stopping), time, |stop| !*stop);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread; dropping it lets it end by itself.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread for the journal in `folder`.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn start(
        folder: PathBuf,
        epoch: String,
        settings: &JournalSettings,
        shared: Arc<Shared>,
        clock: Clock,
    ) -> io::Result<Self> {
        let look = Duration::from_millis(JOURNAL_LOOK_MS);
        let bytes_max = settings.bytes;
        let mut syncing = Syncing::new(folder.clone(), settings.sync, clock);
        let known = Arc::clone(&shared);
        let work = move || {
            while !known.wait(syncing.left().min(look)) {
                let _busy = lock(&known.busy);
                if known.is_paused.load(Ordering::Acquire) {
                    syncing.put_off();
                    continue;
                }
                let mut step = || match known.is_stopping() {
                    true => Err(io::ErrorKind::Interrupted.into()),
                    false => syncing.sync_if_due(),
                };
                let done =
                    step().and_then(|()| compact(&folder, &epoch, bytes_max, bytes_max, &mut step));
                match done {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => known.fail(&folder, error),
                    Ok(()) => {}
                }
            }
        };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(work)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Ends the thread and waits for that; it breaks off what takes long.
    pub(super) fn stop(mut self) {
        self.tell();
        if let Some(thread) = self.thread.take() {
            // It has panicked only if a test has failed; there is nothing to do about it here.
            let _ = thread.join();
        }
    }

    fn tell(&self) {
        *lock(&self.shared.is_stopping) = true;
        self.shared.stopped.notify_all();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tell();
    }
}

/// When what is written is made durable.
#[derive(Debug)]
struct Syncing {
    folder: PathBuf,
    /// Zero: never.
    period: Duration,
    /// What the newest segment began with the last time.
    newest: u64,
    last_ns: u64,
    clock: Clock,
}

impl Syncing {
    fn new(folder: PathBuf, period: Duration, clock: Clock) -> Self {
        Self { folder, period, newest: 0, last_ns: clock(), clock }
    }

    /// How long it is until then.
    fn left(&self) -> Duration {
        match self.period.is_zero() {
            true => Duration::MAX,
            false => {
                let age_ns = (self.clock)().saturating_sub(self.last_ns);
                self.period.saturating_sub(Duration::from_nanos(age_ns))
            }
        }
    }

    fn put_off(&mut self) {
        self.last_ns = (self.clock)();
    }

    fn sync_if_due(&mut self) -> io::Result<()> {
        if self.left().is_zero() {
            self.newest = sync_segments(&self.folder, self.newest)?;
            self.put_off();
        }
        Ok(())
    }
}

/// Makes the segments durable that begin with `from` or later, and what they rest on if there are
/// new ones; says with what the newest begins.
///
/// # Errors
/// The kernel's.
pub(super) fn sync_segments(folder: &Path, from: u64) -> io::Result<u64> {
    let mut newest = from;
    for segment in folder::segments(folder)?.iter().filter(|segment| segment.seq_first >= from) {
        File::open(&segment.path)?.sync_data()?;
        newest = segment.seq_first;
    }
    if newest != from {
        // One that replaced a journal on a full disk was not made durable then.
        match File::open(folder::checkpoint(folder)).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => folder::sync_names(folder)?,
        }
    }
    Ok(newest)
}

/// Merges the oldest segments with the checkpoint until the others have `bytes_max` bytes at most;
/// it keeps `values_max` bytes of events.
///
/// # Errors
/// The kernel's; a segment is damaged; or a step has failed, and nothing has changed.
pub(super) fn compact(
    folder: &Path,
    epoch: &str,
    bytes_max: u64,
    values_max: u64,
    step: &mut Step<'_>,
) -> io::Result<()> {
    let old = old_segments(folder, bytes_max)?;
    if old.is_empty() {
        return Ok(());
    }
    let room = usize::try_from(values_max).unwrap_or(usize::MAX);
    let mut checkpoint = Checkpoint::load(folder, room, step).map_err(unmerged)?;
    for segment in &old {
        checkpoint.merge(&segment.path, step).map_err(unmerged)?;
    }
    checkpoint.write(folder, epoch, true, step)?;
    for segment in &old {
        fs::remove_file(&segment.path)?;
    }
    tracing::debug!(segments = old.len(), seq = checkpoint.seq_last(), "journal: merged");
    Ok(())
}

/// The segments that are to go, oldest first; never the one that is written to, and none while
/// that one is empty, so that the newest event is always in a segment.
fn old_segments(folder: &Path, bytes_max: u64) -> io::Result<Vec<SegmentFile>> {
    let mut segments = folder::segments(folder)?;
    let bytes: Vec<u64> = (segments.iter())
        .map(|segment| fs::metadata(&segment.path).map(|file| file.len()))
        .collect::<Result<_, _>>()?;
    if bytes.last().is_none_or(|&bytes| bytes <= HEADER_BYTES as u64) {
        return Ok(Vec::new());
    }
    let mut left: u64 = bytes.iter().sum();
    let mut count = 0;
    while left > bytes_max && count + 1 < segments.len() {
        left -= bytes[count];
        count += 1;
    }
    segments.truncate(count);
    Ok(segments)
}

fn unmerged(error: MergeError) -> io::Error {
    let text = match error {
        MergeError::Unread(Unread::Io(error)) => return error,
        MergeError::Unread(Unread::Flaw(_) | Unread::Newer(_)) => "a segment is damaged",
        MergeError::Misfit => "a segment does not follow from the one before it",
    };
    io::Error::new(io::ErrorKind::InvalidData, text)
}
