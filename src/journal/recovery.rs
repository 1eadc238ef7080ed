//! What a journal holds, read at the start: checked first, and then read again as batches.
//!
//! Twice, because the epoch and the sequencer's numbers must be known before the first shard runs,
//! and a journal may be larger than the memory. Not here: what is written ([`super::writer`]).
//! Invariant: after [`recover`] every file of the journal is whole, and each follows from the one
//! before it; what was not is cut off or set aside, never used.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::handoff::batch::Batch;

use super::error::JournalError;
use super::folder::{self, Folder, SegmentFile};
use super::record::{Flaw, Record};
use super::segment::{HEADER_BYTES, Records, Unread};
use super::tables::Tables;

/// What was found.
#[derive(Debug)]
pub struct Recovered {
    /// Names and numbers.
    pub tables: Tables,
    /// Whether what was written in order is all there. A record in whose writing the process died
    /// was not: nobody has seen its events.
    pub is_sound: bool,
    /// Whether such a record was cut off.
    pub is_cut: bool,
    /// The same as batches.
    pub replay: Replay,
}

/// A place from which on files cannot be used.
#[derive(Debug)]
struct Damage {
    path: PathBuf,
    /// Where in the file.
    at: u64,
    /// Bytes of the file.
    bytes: u64,
    /// It is the last record, and not all of it was written.
    is_torn_end: bool,
    /// The segments after that.
    later: Vec<PathBuf>,
}

/// Checks and mends what is in the folder.
///
/// # Errors
/// The kernel's; or a later version has written it.
pub fn recover(folder: &Folder) -> Result<Recovered, JournalError> {
    let path = folder.path();
    for leftover in [folder::checkpoint_new(path), path.join("epoch.new")] {
        remove(&leftover).map_err(JournalError::at(&leftover))?;
    }
    let (mut is_sound, mut is_cut) = (true, false);
    loop {
        match scan(path)? {
            Ok((tables, replay)) => return Ok(Recovered { tables, is_sound, is_cut, replay }),
            Err(damage) if damage.is_torn_end => {
                cut(&damage).map_err(JournalError::at(&damage.path))?;
                is_cut = true;
            }
            Err(damage) => {
                set_aside(folder, &damage).map_err(JournalError::at(&damage.path))?;
                is_sound = false;
            }
        }
    }
}

/// Reads everything once.
fn scan(folder: &Path) -> Result<Result<(Tables, Replay), Damage>, JournalError> {
    let listed = |error| JournalError::at(folder)(error);
    let segments = without_empty_ends(folder::segments(folder).map_err(listed)?)?;
    let mut tables = Tables::default();
    let checkpoint = folder::checkpoint(folder);
    let checkpoint = checkpoint.try_exists().map_err(listed)?.then_some(checkpoint);
    if let Some(path) = &checkpoint
        && let Some((_, bytes, _)) = read(path, |record| tables.handle_record(record).ok())?
    {
        let later = segments.into_iter().map(|segment| segment.path).collect();
        let damage = Damage { path: path.clone(), at: 0, bytes, is_torn_end: false, later };
        return Ok(Err(damage));
    }
    let merged = tables.seq_last;
    let mut used = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let next = segments.get(number + 1);
        let is_used = next.is_none_or(|next| next.seq_first > merged + 1);
        if is_used {
            let flaw = read(&segment.path, |record| match record {
                Record::Batch(batch) if is_merged(batch, merged) => Some(false),
                Record::Batch(batch) => tables.handle_batch(batch).ok().map(|()| false),
                _ => None,
            })?;
            if let Some((at, bytes, flaw)) = flaw {
                let is_torn_end = next.is_none() && flaw == Flaw::Torn;
                let later = segments[number + 1..].iter().map(|later| later.path.clone()).collect();
                let path = segment.path.clone();
                return Ok(Err(Damage { path, at, bytes, is_torn_end, later }));
            }
            if next.is_none() {
                // A process that was killed has not given back the room that it had reserved.
                trim(&segment.path).map_err(JournalError::at(&segment.path))?;
            }
            used.push(segment.path.clone());
        } else {
            // The checkpoint stands for it; the process died before it could be removed.
            remove(&segment.path).map_err(JournalError::at(&segment.path))?;
        }
    }
    let mut files: Vec<_> = checkpoint.iter().cloned().chain(used).collect();
    files.reverse();
    let replay = Replay { has_checkpoint: checkpoint.is_some(), files, open: None, merged };
    Ok(Ok((tables, replay)))
}

/// Removes segments at the end that have no record: their process died before the first one.
fn without_empty_ends(mut segments: Vec<SegmentFile>) -> Result<Vec<SegmentFile>, JournalError> {
    while let Some(last) = segments.last() {
        let failed = |error| JournalError::at(&last.path)(error);
        if fs::metadata(&last.path).map_err(failed)?.len() > HEADER_BYTES as u64 {
            break;
        }
        remove(&last.path).map_err(failed)?;
        segments.pop();
    }
    Ok(segments)
}

/// Shows every record of a file to `take`, which says whether it was to be the last one, or nothing
/// if it does not fit. Where there is no record that fits: its place, the file's bytes, and why.
fn read(
    path: &Path,
    mut take: impl FnMut(&Record) -> Option<bool>,
) -> Result<Option<(u64, u64, Flaw)>, JournalError> {
    let bytes = fs::metadata(path).map_err(JournalError::at(path))?.len();
    let mut at = 0;
    let read = Records::open(path).and_then(|mut records| {
        let mut has_ended = false;
        at = records.at();
        while let Some(record) = records.next()? {
            match take(&record) {
                Some(ends) if !has_ended => has_ended = ends,
                _ => return Err(Unread::Flaw(Flaw::Damaged)),
            }
            at = records.at();
        }
        Ok(has_ended)
    });
    match read {
        // A checkpoint without its last record is not whole.
        Ok(false) if !is_segment(path) => Ok(Some((at, bytes, Flaw::Damaged))),
        Ok(_) => Ok(None),
        Err(Unread::Flaw(flaw)) => Ok(Some((at, bytes, flaw))),
        Err(Unread::Newer(version)) => Err(JournalError::Newer { file: path.to_owned(), version }),
        Err(Unread::Io(error)) => Err(JournalError::at(path)(error)),
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some()
}

/// Whether a checkpoint up to `merged` stands for the batch.
fn is_merged(batch: &Batch, merged: u64) -> bool {
    batch.events.last().is_some_and(|event| event.seq <= merged)
}

/// Cuts off a record that was not written to its end.
fn cut(damage: &Damage) -> io::Result<()> {
    let Damage { path, at, bytes, .. } = damage;
    tracing::warn!(
        "journal {}: its last record was not written to the end; {} bytes are cut off",
        path.display(),
        bytes - at
    );
    truncate(path, *at)
}

/// Takes everything from the damage on out of the journal. The epoch first: if this is broken off,
/// it must not go on either.
fn set_aside(folder: &Folder, damage: &Damage) -> io::Result<()> {
    folder.end_epoch()?;
    let Damage { path, at, bytes, later, .. } = damage;
    tracing::error!(
        "journal {}: damaged at byte {at}; {} bytes of it and {} later segments are not used. What \
         is before is, in a new epoch; *.damaged in the folder can be deleted",
        path.display(),
        bytes - at,
        later.len()
    );
    // From the end, so that what is left never has a hole.
    for segment in later.iter().rev() {
        folder::set_aside(segment)?;
    }
    if *at > HEADER_BYTES as u64 {
        if let Err(error) = folder::copy_aside(path, *at) {
            // The journal is worth more than what can only be looked at.
            tracing::warn!("journal {}: {error}; what is damaged is not kept", path.display());
        }
        truncate(path, *at)?;
    } else {
        folder::set_aside(path)?;
    }
    folder.sync()
}

fn truncate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(bytes)?;
    file.sync_all()
}

fn trim(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(file.metadata()?.len())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The batches of a journal, in order: what the checkpoint has kept, then those of the segments.
#[derive(Debug, Default)]
pub struct Replay {
    /// The first file is a checkpoint.
    has_checkpoint: bool,
    /// The files, the next one last.
    files: Vec<PathBuf>,
    /// The file that is read; and whether it is the checkpoint.
    open: Option<(Records, bool)>,
    /// Batches of segments up to here are in the checkpoint.
    merged: u64,
}

impl Iterator for Replay {
    type Item = io::Result<Batch>;

    fn next(&mut self) -> Option<io::Result<Batch>> {
        self.next_batch().transpose()
    }
}

impl Replay {
    fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        loop {
            let Some((records, is_checkpoint)) = &mut self.open else {
                let Some(path) = self.files.pop() else { return Ok(None) };
                let records = Records::open(&path).map_err(changed)?;
                self.open = Some((records, std::mem::take(&mut self.has_checkpoint)));
                continue;
            };
            let is_sparse = *is_checkpoint;
            match records.next().map_err(changed)? {
                None => self.open = None,
                Some(Record::Batch(batch)) if is_sparse => {
                    return Ok(Some(Batch { is_sparse, ..batch }));
                }
                Some(Record::Batch(batch)) if !is_merged(&batch, self.merged) => {
                    return Ok(Some(batch));
                }
                Some(Record::Broken(books_broken)) => {
                    return Ok(Some(Batch { is_sparse, books_broken, ..Batch::default() }));
                }
                Some(_) => {}
            }
        }
    }
}

/// The error of a file that was whole a moment ago.
fn changed(unread: Unread) -> io::Error {
    match unread {
        Unread::Io(error) => error,
        Unread::Flaw(_) | Unread::Newer(_) => {
            io::Error::new(io::ErrorKind::InvalidData, "it was changed while it was read")
        }
    }
}
