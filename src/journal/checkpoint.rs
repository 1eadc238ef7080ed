//! What still counts of the segments that are gone: names, numbers and newest events.
//!
//! Of a slot the newest event counts, and of a book the newest snapshot and all that came since. It
//! is held in memory only while segments are merged into it. Not here: when that is done
//! ([`super::worker`]). Invariant: a book is whole, or nothing of it is here and it is marked as
//! broken.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::handoff::batch::{Batch, Sequenced};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, JOURNAL_READ_BYTES, JOURNAL_TABLE_ENTRIES,
    RETAINED_BOOK_BYTES_MAX,
};
use crate::protocol::event::Kind;

use super::folder;
use super::record::{self, EVENT_BYTES, Record};
use super::segment::{self, Records, Unread};
use super::tables::{Misfit, Shape, Tables};

/// Why segments could not be merged.
#[derive(Debug)]
pub enum MergeError {
    /// A file cannot be read.
    Unread(Unread),
    /// What it says does not follow from what is before it.
    Misfit,
}

impl From<Unread> for MergeError {
    fn from(error: Unread) -> Self {
        Self::Unread(error)
    }
}

impl From<Misfit> for MergeError {
    fn from(Misfit: Misfit) -> Self {
        Self::Misfit
    }
}

/// What is done between the parts of long work; its error ends that.
pub type Step<'a> = dyn FnMut() -> io::Result<()> + 'a;

/// An event that counts.
#[derive(Debug)]
struct Kept {
    /// Where its data was means nothing any more.
    event: Sequenced,
    data: Box<[u8]>,
}

/// The events of one slot that count.
#[derive(Debug, Default)]
struct Value {
    kept: Vec<Kept>,
    /// Of their data.
    bytes: usize,
}

impl Value {
    /// What they take of a file.
    const fn file_bytes(&self) -> usize {
        self.bytes + self.kept.len() * EVENT_BYTES
    }
}

/// Everything that counts up to one `seq`.
#[derive(Debug)]
pub struct Checkpoint {
    tables: Tables,
    /// By slot.
    values: Vec<Value>,
    /// What all of them take of a file, and may take.
    bytes: usize,
    bytes_max: usize,
}

impl Checkpoint {
    /// Nothing; with room for `bytes_max` bytes of events.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { tables: Tables::default(), values: Vec::new(), bytes: 0, bytes_max }
    }

    /// Numbers and names without any value.
    #[must_use]
    pub fn without_values(tables: &Tables) -> Self {
        let tables = tables.without_values();
        Self { tables, values: Vec::new(), bytes: 0, bytes_max: 0 }
    }

    /// The checkpoint in `folder`, or nothing if there is none.
    ///
    /// # Errors
    /// It cannot be read, or a step has failed.
    pub fn load(folder: &Path, bytes_max: usize, step: &mut Step<'_>) -> Result<Self, MergeError> {
        let mut checkpoint = Self::new(bytes_max);
        let path = folder::checkpoint(folder);
        if !path.try_exists().map_err(Unread::Io)? {
            return Ok(checkpoint);
        }
        let mut records = Records::open(&path)?;
        while let Some(record) = records.next()? {
            step().map_err(Unread::Io)?;
            checkpoint.tables.handle_record(&record)?;
            checkpoint.values.resize_with(checkpoint.tables.slots.len(), Value::default);
            match record {
                Record::Batch(batch) => checkpoint.keep(&batch),
                Record::Broken(_) | Record::Ends { .. } | Record::Closing(_) => {}
            }
        }
        Ok(checkpoint)
    }

    /// The last `seq` that it stands for.
    #[must_use]
    pub const fn seq_last(&self) -> u64 {
        self.tables.seq_last
    }

    /// Takes in a segment.
    ///
    /// # Errors
    /// It cannot be read, is not the one that follows, or a step has failed.
    pub fn merge(&mut self, path: &Path, step: &mut Step<'_>) -> Result<(), MergeError> {
        let mut records = Records::open(path)?;
        while let Some(record) = records.next()? {
            step().map_err(Unread::Io)?;
            let Record::Batch(batch) = record else { return Err(MergeError::Misfit) };
            // Of a segment that was merged before, and outlived that.
            if batch.events.last().is_some_and(|event| event.seq <= self.tables.seq_last) {
                continue;
            }
            self.handle_batch(&batch)?;
        }
        Ok(())
    }

    /// Takes in the batch that follows.
    ///
    /// # Errors
    /// It is not the one that follows.
    pub fn handle_batch(&mut self, batch: &Batch) -> Result<(), Misfit> {
        self.tables.handle_batch(batch)?;
        self.values.resize_with(self.tables.slots.len(), Value::default);
        self.keep(batch);
        Ok(())
    }

    /// Keeps the events of a batch that is in the tables already.
    fn keep(&mut self, batch: &Batch) {
        for event in &batch.events {
            let slot = event.slot as usize;
            let shape = &mut self.tables.slots[slot].shape;
            // What follows in the batch may have changed it already.
            if event.kind == Kind::Snapshot {
                *shape = Shape::Book;
            }
            let is_book = match *shape {
                Shape::Values => false,
                Shape::Book => true,
                Shape::Broken => continue,
            };
            if event.kind == Kind::Snapshot || !is_book {
                self.release(slot);
            }
            let data = batch.data(event);
            let value = &mut self.values[slot];
            let fits = self.bytes + data.len() + EVENT_BYTES <= self.bytes_max
                && value.bytes + data.len() <= RETAINED_BOOK_BYTES_MAX.max(data.len());
            if !fits {
                self.release(slot);
                if is_book {
                    self.tables.slots[slot].shape = Shape::Broken;
                }
                continue;
            }
            value.bytes += data.len();
            value.kept.push(Kept { event: event.clone(), data: data.into() });
            self.bytes += data.len() + EVENT_BYTES;
        }
    }

    fn release(&mut self, slot: usize) {
        let value = std::mem::take(&mut self.values[slot]);
        self.bytes -= value.file_bytes();
    }

    /// Writes it beside the one in `folder` and then puts it in its place, durably if `is_durable`.
    ///
    /// # Errors
    /// The kernel's, or a step has failed; then the one that was there is still there.
    pub fn write(
        &self,
        folder: &Path,
        epoch: &str,
        is_durable: bool,
        step: &mut Step<'_>,
    ) -> io::Result<()> {
        let new = folder::checkpoint_new(folder);
        let written = self.write_file(&new, epoch, is_durable, step).and_then(|()| {
            std::fs::rename(&new, folder::checkpoint(folder))?;
            if is_durable { folder::sync_names(folder) } else { Ok(()) }
        });
        if written.is_err() {
            // The next start removes it as well.
            let _ = std::fs::remove_file(&new);
        }
        written
    }

    fn write_file(
        &self,
        path: &Path,
        epoch: &str,
        is_durable: bool,
        step: &mut Step<'_>,
    ) -> io::Result<()> {
        let file = BufWriter::with_capacity(JOURNAL_READ_BYTES, File::create(path)?);
        let mut out = Output { file, record: Vec::new(), step };
        out.file.write_all(&segment::header(epoch))?;
        self.write_names(&mut out)?;
        self.write_events(&mut out)?;
        let mut from = 0;
        for channels in self.tables.channels.chunks(JOURNAL_TABLE_ENTRIES) {
            let seqs = channels.iter().map(|channel| channel.seq_last);
            record::write_ends(&mut out.record, from, seqs);
            from += u32::try_from(channels.len()).expect("ids have 32 bits");
            out.flush()?;
        }
        let broken: Vec<_> = self.tables.broken().collect();
        for slots in broken.chunks(JOURNAL_TABLE_ENTRIES) {
            record::write_broken(&mut out.record, slots);
            out.flush()?;
        }
        record::write_closing(&mut out.record, self.tables.seq_last);
        out.flush()?;
        let file = out.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if is_durable { file.sync_all() } else { Ok(()) }
    }

    /// Announces every channel and slot.
    fn write_names(&self, out: &mut Output<'_>) -> io::Result<()> {
        for channels in self.tables.channels.chunks(BATCH_EVENTS_MAX) {
            let channels = channels.iter().map(|channel| channel.name.clone()).collect();
            record::write_batch(&mut out.record, &Batch { channels, ..Batch::default() });
            out.flush()?;
        }
        for slots in self.tables.slots.chunks(BATCH_EVENTS_MAX) {
            let slots = slots.iter().map(|slot| slot.named.clone()).collect();
            record::write_batch(&mut out.record, &Batch { slots, ..Batch::default() });
            out.flush()?;
        }
        Ok(())
    }

    /// Writes what counts in the order of `seq`, in batches no larger than those of a sequencer.
    fn write_events(&self, out: &mut Output<'_>) -> io::Result<()> {
        let mut kept: Vec<_> = self.values.iter().flat_map(|value| &value.kept).collect();
        kept.sort_unstable_by_key(|kept| kept.event.seq);
        let mut batch = Batch::default();
        for Kept { event, data } in kept {
            let start = u32::try_from(batch.bytes.len()).expect("a batch is bounded");
            batch.bytes.extend_from_slice(data);
            let end = u32::try_from(batch.bytes.len()).expect("a batch is bounded");
            batch.events.push(Sequenced { data: start..end, ..event.clone() });
            let is_full =
                batch.events.len() >= BATCH_EVENTS_MAX || batch.bytes.len() >= BATCH_BYTES_MAX;
            if is_full {
                record::write_batch(&mut out.record, &std::mem::take(&mut batch));
                out.flush()?;
            }
        }
        if !batch.events.is_empty() {
            record::write_batch(&mut out.record, &batch);
        }
        out.flush()
    }
}

/// A file that is written record by record.
struct Output<'a> {
    file: BufWriter<File>,
    record: Vec<u8>,
    step: &'a mut Step<'a>,
}

impl Output<'_> {
    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.record)?;
        self.record.clear();
        (self.step)()
    }
}
