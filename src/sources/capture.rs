//! Reads recorded feeds in the order of their times: blocking, for a thread of its own.
//!
//! Files are plain or gzip (told by their first bytes), and each line is NDJSON or
//! `<ns> <raw JSON>`. Not here: waiting between records, and what a line means. Invariant: without
//! `sort`, one line of each file is in memory; with it, at most [`SORT_BYTES_MAX`] bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::config::mapping::Pointer;
use crate::config::{Replay, ReplayInput};
use crate::limits::SORT_BYTES_MAX;
use crate::sources::error::LineError;
use crate::sources::mapping::FileNames;
use file::CaptureFile;

mod file;

/// Why a replay cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened or its beginning cannot be read.
    #[error("{path}: {source}; give the path of a plain or gzip file that may be read")]
    Open {
        /// The file as it was named.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Reading or unpacking broke off; all lines before were delivered.
    #[error("{path}: cannot read on after line {line}: {source}; test a gzip file with gzip -t")]
    Read {
        /// The file as it was named.
        path: String,
        /// The last line that was read whole.
        line: u64,
        /// What the system or the decoder said.
        source: io::Error,
    },
    /// A line is older than the line before it.
    #[error(
        "{path}: line {line} is {back_ns} ns older than one before it; sort=true sorts by time"
    )]
    Backwards {
        /// The file as it was named.
        path: String,
        /// The line.
        line: u64,
        /// How far the time steps back, nanoseconds.
        back_ns: u64,
    },
    /// Too much to sort.
    #[error(
        "{path}: sort=true holds at most {SORT_BYTES_MAX} bytes, passed at line {line}; sort the \
             files beforehand and leave sort=true out"
    )]
    SortTooLarge {
        /// The file as it was named.
        path: String,
        /// The line.
        line: u64,
    },
}

/// One line of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was recorded, nanoseconds since the Unix epoch; or why that is not known. A record
    /// with an error is for reporting: it comes right after the line before it.
    pub time_ns: Result<u64, LineError>,
    /// The JSON, without the time before it; not judged yet. Empty when the line was too long.
    pub line: &'a [u8],
    /// Where it is from.
    pub file: &'a FileNames,
    /// Its number in the file, from 1.
    pub line_number: u64,
}

/// An open capture: all its files, merged by time. At equal times the order of the files, then of
/// the lines, decides.
#[derive(Debug)]
pub struct Capture {
    files: Vec<CaptureFile>,
    order: Order,
}

#[derive(Debug)]
enum Order {
    Merged(Merge),
    Sorted(Sorted),
}

/// The next line of each file by time and number of the file.
#[derive(Debug, Default)]
struct Merge {
    next: BinaryHeap<Reverse<(u64, usize)>>,
    /// The file whose line was handed out last: it is read on before the next one is chosen.
    handed_out: Option<usize>,
}

/// Everything, in memory.
#[derive(Debug, Default)]
struct Sorted {
    text: Vec<u8>,
    entries: std::vec::IntoIter<Entry>,
    /// Why reading ended early; reported after what was read.
    broken: Option<CaptureError>,
}

#[derive(Debug)]
struct Entry {
    time_ns: u64,
    error: Option<Box<LineError>>,
    start: usize,
    length: usize,
    file: usize,
    line_number: u64,
}

impl Capture {
    /// Opens all files and reads the first line of each; with `sort` reads them whole.
    ///
    /// # Errors
    /// The file that cannot be read or, with `sort`, is too large; and the cure.
    pub fn open(replay: &Replay) -> Result<Self, CaptureError> {
        let files = match &replay.input {
            ReplayInput::Embedded(bytes) => {
                vec![CaptureFile::open(FileNames::embedded(), || Ok(*bytes))?]
            }
            ReplayInput::Files(paths) => paths.iter().map(open_path).collect::<Result<_, _>>()?,
        };
        Self::of_files(files, replay.time.as_ref(), replay.sort)
    }

    /// The same for the bytes of one file in memory, named as an embedded one.
    ///
    /// # Errors
    /// As for [`Capture::open`].
    pub fn of_bytes(bytes: Vec<u8>, sort: bool) -> Result<Self, CaptureError> {
        let file = CaptureFile::open(FileNames::embedded(), || Ok(io::Cursor::new(bytes)))?;
        Self::of_files(vec![file], None, sort)
    }

    fn of_files(
        mut files: Vec<CaptureFile>,
        time: Option<&Pointer>,
        sort: bool,
    ) -> Result<Self, CaptureError> {
        for file in &mut files {
            file.time = time.cloned();
        }
        let order = if sort {
            Order::Sorted(Sorted::read(&mut files, SORT_BYTES_MAX)?)
        } else {
            let mut merge = Merge::default();
            for number in 0..files.len() {
                merge.read_on(&mut files, number)?;
            }
            Order::Merged(merge)
        };
        Ok(Self { files, order })
    }

    /// The next record; `None` at the end of all files. Blocks while a file is read.
    ///
    /// # Errors
    /// What ends the replay: afterwards there are no more records.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        match &mut self.order {
            Order::Merged(merge) => merge.next_record(&mut self.files),
            Order::Sorted(sorted) => sorted.next_record(&self.files),
        }
    }
}

fn open_path(path: &PathBuf) -> Result<CaptureFile, CaptureError> {
    CaptureFile::open(FileNames::of(path), || File::open(path))
}

impl Merge {
    fn read_on(&mut self, files: &mut [CaptureFile], number: usize) -> Result<(), CaptureError> {
        let file = &mut files[number];
        let before_ns = file.time_ns;
        if !file.read_line()? {
            return Ok(());
        }
        if file.time_ns < before_ns {
            return Err(CaptureError::Backwards {
                path: file.names.path.clone(),
                line: file.line_number,
                back_ns: before_ns - file.time_ns,
            });
        }
        self.next.push(Reverse((file.time_ns, number)));
        Ok(())
    }

    fn next_record<'a>(
        &mut self,
        files: &'a mut [CaptureFile],
    ) -> Result<Option<Record<'a>>, CaptureError> {
        if let Some(number) = self.handed_out.take() {
            self.read_on(files, number).inspect_err(|_| self.next.clear())?;
        }
        let Some(Reverse((_, number))) = self.next.pop() else {
            return Ok(None);
        };
        self.handed_out = Some(number);
        let file = &files[number];
        Ok(Some(Record {
            time_ns: file.error.clone().map_or(Ok(file.time_ns), Err),
            line: &file.line,
            file: &file.names,
            line_number: file.line_number,
        }))
    }
}

impl Sorted {
    fn read(files: &mut [CaptureFile], bytes_max: usize) -> Result<Self, CaptureError> {
        let mut sorted = Self::default();
        let mut entries = Vec::new();
        for (number, file) in files.iter_mut().enumerate() {
            loop {
                match file.read_line() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        sorted.broken.get_or_insert(error);
                        break;
                    }
                }
                let start = sorted.text.len();
                sorted.text.extend_from_slice(&file.line);
                entries.push(Entry {
                    time_ns: file.time_ns,
                    error: file.error.take().map(Box::new),
                    start,
                    length: file.line.len(),
                    file: number,
                    line_number: file.line_number,
                });
                if sorted.text.len() + entries.len() * size_of::<Entry>() > bytes_max {
                    let (path, line) = (file.names.path.clone(), file.line_number);
                    return Err(CaptureError::SortTooLarge { path, line });
                }
            }
        }
        entries.sort_by_key(|entry: &Entry| entry.time_ns);
        sorted.entries = entries.into_iter();
        Ok(sorted)
    }

    fn next_record<'a>(
        &'a mut self,
        files: &'a [CaptureFile],
    ) -> Result<Option<Record<'a>>, CaptureError> {
        let Some(entry) = self.entries.next() else {
            return self.broken.take().map_or(Ok(None), Err);
        };
        Ok(Some(Record {
            time_ns: entry.error.map_or(Ok(entry.time_ns), |error| Err(*error)),
            line: &self.text[entry.start..entry.start + entry.length],
            file: &files[entry.file].names,
            line_number: entry.line_number,
        }))
    }
}

#[cfg(test)]
mod tests;
