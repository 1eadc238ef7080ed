//! The files of records: a header, then records; written at the end, read from the beginning.
//!
//! Segments and checkpoints are both such files. Not here: which files there are
//! ([`super::folder`]), and what follows from a flaw ([`super::recovery`]). Invariant: a
//! [`Segment`]'s file ends with a whole record, or is given up.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::limits::JOURNAL_READ_BYTES;

use super::folder::{self, EPOCH_BYTES};
use super::record::{self, Flaw, PREFIX_BYTES, Record};

/// The format that this program writes and reads.
pub const VERSION: u32 = 1;

/// Bytes of a header: magic, version, epoch, checksum.
pub const HEADER_BYTES: usize = 8 + 4 + EPOCH_BYTES + 4;

const MAGIC: &[u8; 8] = b"fanfareJ";

/// A file that is written to.
#[derive(Debug)]
pub struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Segment {
    /// Makes the segment that begins with `seq_first`, with room for `bytes`.
    ///
    /// # Errors
    /// The kernel's: there is no room, for one. Then nothing is left behind.
    pub fn create(folder: &Path, seq_first: u64, epoch: &str, bytes: u64) -> io::Result<Self> {
        let path = folder::segment(folder, seq_first);
        let file = File::create_new(&path)?;
        let mut segment = Self { file, path, bytes: 0 };
        let made = reserve(&segment.file, bytes).and_then(|()| segment.append(&header(epoch)));
        if let Err(error) = made {
            // It is empty: the next start would remove it as well.
            let _ = std::fs::remove_file(&segment.path);
            return Err(error);
        }
        Ok(segment)
    }

    /// Adds records at the end, with one write.
    ///
    /// # Errors
    /// The kernel's; what was written of them is taken back if that is possible.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(records) {
            // A torn end is cut at the next start anyway.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += records.len() as u64;
        Ok(())
    }

    /// Bytes written.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is a record in it.
    #[must_use]
    pub const fn has_records(&self) -> bool {
        self.bytes > HEADER_BYTES as u64
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives back the room that was not used.
    ///
    /// # Errors
    /// The kernel's.
    pub fn trim(&self) -> io::Result<()> {
        self.file.set_len(self.bytes)
    }

    /// Makes everything in it durable.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Puts another file in the place of its own: one that fails.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = file;
    }
}

/// Reserves room; the length stays, so that a record that was cut off ends where the file does.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        // Some file systems cannot; a full disk is then noticed when it is written to.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The header of a file whose numbers belong to `epoch`.
#[must_use]
pub fn header(epoch: &str) -> Vec<u8> {
    debug_assert_eq!(epoch.len(), EPOCH_BYTES, "an epoch is a ULID");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(epoch.as_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Why the next record of a file cannot be had.
#[derive(Debug)]
pub enum Unread {
    /// What is there is none, or the end of the file is in it.
    Flaw(Flaw),
    /// A later version has written the file.
    Newer(u32),
    /// The kernel's reason.
    Io(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the records of a file.
#[derive(Debug)]
pub struct Records {
    file: BufReader<File>,
    /// The record that is read.
    buffer: Vec<u8>,
    /// Where the next one begins.
    at: u64,
    bytes: u64,
}

impl Records {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// As of [`Self::next`]; torn if the header is not whole.
    pub fn open(path: &Path) -> Result<Self, Unread> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let file = BufReader::with_capacity(JOURNAL_READ_BYTES, file);
        let mut records = Self { file, buffer: Vec::new(), at: 0, bytes };
        records.fill(HEADER_BYTES)?;
        let header = &records.buffer;
        if header.len() < HEADER_BYTES {
            return Err(Unread::Flaw(Flaw::Torn));
        }
        let (said, checksum) = header.split_at(HEADER_BYTES - 4);
        if !said.starts_with(MAGIC) || crc32fast::hash(said).to_le_bytes() != checksum {
            return Err(Unread::Flaw(Flaw::Damaged));
        }
        let version = u32::from_le_bytes([said[8], said[9], said[10], said[11]]);
        if version != VERSION {
            return Err(Unread::Newer(version));
        }
        records.at = HEADER_BYTES as u64;
        Ok(records)
    }

    /// The next record; none at the end.
    ///
    /// # Errors
    /// There is something else; it begins at [`Self::at`].
    #[expect(clippy::should_implement_trait, reason = "an error ends it")]
    pub fn next(&mut self) -> Result<Option<Record>, Unread> {
        self.buffer.clear();
        self.fill(PREFIX_BYTES)?;
        if self.buffer.len() == PREFIX_BYTES {
            let body = record::body_bytes(&self.buffer).map_err(Unread::Flaw)?;
            self.fill(body)?;
        }
        let Some((record, length)) = record::read(&self.buffer).map_err(Unread::Flaw)? else {
            return Ok(None);
        };
        self.at += length as u64;
        Ok(Some(record))
    }

    /// Where the next record begins: everything before it is whole.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// Bytes of the file when it was opened.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads `count` bytes more into the buffer, or what is left.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        (&mut self.file).take(count as u64).read_to_end(&mut self.buffer).map(drop)
    }
}
