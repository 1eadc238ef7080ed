//! The journal of a running server, as its ingest thread has it: each batch is written before
//! anybody sees it.
//!
//! A write that fails suspends the journal: the feed goes on, the epoch is marked as ended, and
//! after a while a new journal begins with names and numbers alone. Not here: what needs no answer
//! at once ([`super::worker`]). Invariant: while `epoch` is there, every `seq` that was given out
//! is in the segments or in the checkpoint.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::JournalSettings;
use crate::handoff::batch::Batch;
use crate::limits::{JOURNAL_RETRY_MS, JOURNAL_SEGMENT_BYTES};

use super::checkpoint::Checkpoint;
use super::error::cure;
use super::folder::{self, Epoch, Folder};
use super::record;
use super::segment::Segment;
use super::tables::Tables;
use super::worker::{Clock, Shared, Worker};

/// The journal of a running server.
#[derive(Debug)]
pub struct Journal {
    folder: Folder,
    /// As the folder has it, but for its end.
    epoch: Epoch,
    settings: JournalSettings,
    segment_bytes: u64,
    tables: Tables,
    stage: Stage,
    /// The batch that is written.
    buffer: Vec<u8>,
    /// It was suspended once, so its epoch has ended.
    has_ended: bool,
    shared: Arc<Shared>,
    worker: Option<Worker>,
}

#[derive(Debug)]
enum Stage {
    /// To this segment, the newest one.
    Writing(Segment),
    /// Nothing is written since an error.
    Suspended {
        /// When it is tried again, nanoseconds of the monotonic clock.
        retry_ns: u64,
        /// Whether the folder says that the epoch has ended.
        is_marked: bool,
    },
}

impl Journal {
    /// A journal that goes on after what `tables` have, in an epoch that the folder may have as
    /// closed.
    ///
    /// # Errors
    /// The kernel's: the first segment cannot be made.
    pub(super) fn new(
        folder: Folder,
        epoch: Epoch,
        settings: JournalSettings,
        tables: Tables,
    ) -> io::Result<Self> {
        let segment_bytes = JOURNAL_SEGMENT_BYTES.min(settings.bytes / 4);
        let first = tables.seq_last + 1;
        let segment = Segment::create(folder.path(), first, &epoch.name, segment_bytes)?;
        Ok(Self {
            folder,
            epoch,
            settings,
            segment_bytes,
            tables,
            stage: Stage::Writing(segment),
            buffer: Vec::new(),
            has_ended: false,
            shared: Arc::default(),
            worker: None,
        })
    }

    /// Starts the thread that makes what is written durable and small. Not before everything was
    /// read that is to be read.
    pub fn start_worker(&mut self, clock: Clock) {
        let (folder, epoch) = (self.folder.path().to_owned(), self.epoch.name.clone());
        match Worker::start(folder, epoch, &self.settings, Arc::clone(&self.shared), clock) {
            Ok(worker) => self.worker = Some(worker),
            Err(error) => self.shared.fail(self.folder.path(), error),
        }
    }

    /// Writes the batch that follows, and says how many bytes that took; none while the journal is
    /// suspended. `now_ns` is of the monotonic clock.
    pub fn append(&mut self, batch: &Batch, now_ns: u64) -> u64 {
        let follows = self.tables.handle_batch(batch);
        debug_assert_eq!(follows, Ok(()), "the sequencer went on from the same tables");
        if matches!(self.stage, Stage::Writing(_))
            && let Some((path, error)) = self.shared.take_failure()
        {
            self.suspend(&path, &error, now_ns);
        }
        match &self.stage {
            Stage::Writing(_) => match self.note_open().and_then(|()| self.write(batch)) {
                Ok(bytes) => return bytes,
                Err((path, error)) => self.suspend(&path, &error, now_ns),
            },
            Stage::Suspended { retry_ns, .. } if now_ns >= *retry_ns => self.resume(now_ns),
            Stage::Suspended { .. } => {}
        }
        0
    }

    /// Whether nothing is written since an error.
    #[must_use]
    pub const fn is_suspended(&self) -> bool {
        matches!(self.stage, Stage::Suspended { .. })
    }

    /// Makes everything durable, and notes that it is unless the epoch has ended. For the end of a
    /// server.
    pub fn close(mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop();
        }
        if let Stage::Suspended { is_marked: false, .. } = self.stage {
            self.mark();
        }
        let Stage::Writing(segment) = &self.stage else { return };
        if let Some((path, error)) = self.shared.take_failure() {
            return self.suspend(&path, &error, 0);
        }
        // What the worker has not come to yet, and then the mark.
        let closed = segment.trim().and_then(|()| segment.sync()).and_then(|()| {
            super::worker::sync_segments(self.folder.path(), 0)?;
            if self.has_ended {
                return self.folder.sync();
            }
            self.folder.write_epoch(&Epoch { is_closed: true, ..self.epoch.clone() })
        });
        if let Err(error) = closed {
            let path = self.folder.path().display();
            tracing::error!("journal {path}: {error}; after a power loss the epoch is a new one");
        }
    }

    /// Notes that the epoch is not closed any more, before anything is written.
    fn note_open(&mut self) -> Result<(), (PathBuf, io::Error)> {
        if !std::mem::take(&mut self.epoch.is_closed) {
            return Ok(());
        }
        let noted = self.folder.write_epoch(&self.epoch);
        noted.map_err(|error| (self.folder.path().to_owned(), error))
    }

    /// Writes a batch, to a new segment if the present one is full.
    fn write(&mut self, batch: &Batch) -> Result<u64, (PathBuf, io::Error)> {
        let Stage::Writing(segment) = &mut self.stage else { return Ok(0) };
        self.buffer.clear();
        record::write_batch(&mut self.buffer, batch);
        let bytes = self.buffer.len() as u64;
        if segment.has_records() && segment.bytes() + bytes > self.segment_bytes {
            let first = batch.events.first().map_or(self.tables.seq_last, |event| event.seq);
            let path = self.folder.path();
            let room = self.segment_bytes;
            let next =
                segment.trim().and_then(|()| Segment::create(path, first, &self.epoch.name, room));
            *segment = next.map_err(|error| (folder::segment(path, first), error))?;
        }
        segment.append(&self.buffer).map_err(|error| (segment.path().to_owned(), error))?;
        Ok(bytes)
    }

    /// Goes on without a journal, and marks the epoch, before anybody sees what is not written.
    fn suspend(&mut self, path: &std::path::Path, error: &io::Error, now_ns: u64) {
        self.shared.pause();
        (self.has_ended, self.epoch.is_closed) = (true, false);
        let is_marked = self.mark();
        let retry_ns = now_ns + JOURNAL_RETRY_MS * 1_000_000;
        self.stage = Stage::Suspended { retry_ns, is_marked };
        tracing::error!(
            "journal {}: {error}; the feed goes on without a journal, and after a restart clients \
             begin anew{}",
            path.display(),
            cure(path, error)
        );
    }

    /// Notes in the folder that the epoch must not go on after this process.
    fn mark(&self) -> bool {
        let marked = self.folder.end_epoch();
        if let Err(error) = &marked {
            let path = self.folder.path().display();
            tracing::error!(
                "journal {path}: {error}; it cannot be marked as ended: delete the folder before \
                 the next start"
            );
        }
        marked.is_ok()
    }

    /// Begins a new journal behind what could not be written, if that is possible now.
    fn resume(&mut self, now_ns: u64) {
        let Stage::Suspended { retry_ns, is_marked } = &mut self.stage else { return };
        *retry_ns = now_ns + JOURNAL_RETRY_MS * 1_000_000;
        if !*is_marked {
            let is_marked_now = self.mark();
            if let Stage::Suspended { is_marked, .. } = &mut self.stage {
                *is_marked = is_marked_now;
            }
            return;
        }
        match self.begin_anew() {
            Ok(None) => {}
            Ok(Some(segment)) => {
                self.stage = Stage::Writing(segment);
                self.shared.go_on();
                tracing::warn!(
                    "journal {}: it is written again; after a restart what came before is missing, \
                     and clients begin anew",
                    self.folder.path().display()
                );
            }
            Err(error) => {
                let path = self.folder.path();
                tracing::error!(
                    "journal {}: {error}; the feed still goes on without a journal{}",
                    path.display(),
                    cure(&path.join("."), &error)
                );
            }
        }
    }

    /// Replaces everything in the folder by names and numbers, and begins a segment after them;
    /// none while the worker is busy there.
    fn begin_anew(&self) -> io::Result<Option<Segment>> {
        let Some(_busy) = self.shared.try_begin() else { return Ok(None) };
        let (path, epoch) = (self.folder.path(), &self.epoch.name);
        let old = folder::segments(path)?;
        // The segment first: it asks for the room.
        let first = self.tables.seq_last + 1;
        let segment = Segment::create(path, first, epoch, self.segment_bytes)?;
        let checkpoint = Checkpoint::without_values(&self.tables);
        if let Err(error) = checkpoint.write(path, epoch, false, &mut || Ok(())) {
            std::fs::remove_file(segment.path())?;
            return Err(error);
        }
        for old in old {
            std::fs::remove_file(old.path)?;
        }
        Ok(Some(segment))
    }

    /// Makes every write from now on fail as on a full disk.
    #[cfg(test)]
    pub(super) fn fill_disk(&mut self) {
        let full = std::fs::File::options().write(true).open("/dev/full");
        if let Stage::Writing(segment) = &mut self.stage {
            segment.replace_file(full.expect("Linux has /dev/full"));
        }
    }

    /// Makes it as if the worker had failed.
    #[cfg(test)]
    pub(super) fn fail_worker(&self, error: io::Error) {
        self.shared.fail(self.folder.path(), error);
    }
}
