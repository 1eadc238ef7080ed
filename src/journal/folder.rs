//! The folder of a journal: its lock, the names in it, and the epoch that its numbers belong to.
//!
//! ```text
//! lock                                  held by the process that writes; its pid
//! epoch                                 the epoch, the boot, and whether it was closed in order
//! epoch.ended                           the same of an epoch that must not go on
//! checkpoint                            what still counts of the segments that are gone
//! segment-<first seq>.journal           the batches since, in order
//! *.damaged                             what could not be read; nobody needs it
//! ```
//!
//! Not here: what is in segments and checkpoint. Invariant: one process at a time has a [`Folder`].

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::JournalError;

/// Bytes of an epoch: a ULID.
pub const EPOCH_BYTES: usize = 26;

/// A segment's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentFile {
    /// The `seq` of its first event.
    pub seq_first: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// A journal's folder, locked.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// What is noted about the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its name.
    pub name: String,
    /// The boot of the host that it was last written in.
    pub boot: String,
    /// Whether everything was on disk when its writer ended.
    pub is_closed: bool,
}

impl Folder {
    /// Locks the folder, which is made if only its last part is missing.
    ///
    /// # Errors
    /// It is none, it is held, or it cannot be written to.
    pub fn lock(path: &Path) -> Result<Self, JournalError> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(JournalError::at(path)(error));
            }
            _ if !path.is_dir() => return Err(JournalError::NotAFolder(path.to_owned())),
            _ => {}
        }
        let place = path.join("lock");
        let failed = |source| JournalError::at(&place)(source);
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&place);
        let mut lock = opened.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without its number the error still says what is the matter.
                let _ = lock.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "of unknown number".to_owned(),
                    holder => holder.to_owned(),
                };
                return Err(JournalError::Held { folder: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let said = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        said.map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the names in it durable.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> io::Result<()> {
        sync_names(&self.path)
    }

    /// What is noted about the epoch, if it may go on and the note can be read.
    ///
    /// # Errors
    /// The kernel's.
    pub fn epoch(&self) -> io::Result<Option<Epoch>> {
        match fs::read_to_string(self.path.join("epoch")) {
            Ok(text) => Ok(Epoch::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes the epoch, durably; one that has ended is forgotten.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_epoch(&self, epoch: &Epoch) -> io::Result<()> {
        let new = self.path.join("epoch.new");
        let mut file = File::create(&new)?;
        file.write_all(epoch.to_text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.path.join("epoch"))?;
        match fs::remove_file(self.path.join("epoch.ended")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    /// Notes that the epoch must not go on after this process; needs no space on the disk.
    ///
    /// # Errors
    /// The kernel's.
    pub fn end_epoch(&self) -> io::Result<()> {
        match fs::rename(self.path.join("epoch"), self.path.join("epoch.ended")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }
}

impl Epoch {
    fn to_text(&self) -> String {
        let closed = if self.is_closed { "closed\n" } else { "" };
        format!("epoch {}\nboot {}\n{closed}", self.name, self.boot)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let name = lines.next()?.strip_prefix("epoch ")?.to_owned();
        let boot = lines.next()?.strip_prefix("boot ")?.to_owned();
        let is_closed = lines.next() == Some("closed");
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (plain && name.len() == EPOCH_BYTES).then_some(Self { name, boot, is_closed })
    }
}

/// Where the checkpoint of the journal in `folder` is.
#[must_use]
pub fn checkpoint(folder: &Path) -> PathBuf {
    folder.join("checkpoint")
}

/// Where the checkpoint is written before it takes the place of the other.
#[must_use]
pub fn checkpoint_new(folder: &Path) -> PathBuf {
    folder.join("checkpoint.new")
}

/// Where the segment that begins with `seq_first` is.
#[must_use]
pub fn segment(folder: &Path, seq_first: u64) -> PathBuf {
    folder.join(format!("segment-{seq_first:020}.journal"))
}

/// The segments in `folder`, oldest first.
///
/// # Errors
/// The kernel's.
pub fn segments(folder: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("segment-").and_then(|name| name.strip_suffix(".journal"));
        if let Some(seq_first) = number.and_then(|number| number.parse().ok()) {
            found.push(SegmentFile { seq_first, path });
        }
    }
    found.sort();
    Ok(found)
}

/// Takes a file that cannot be read out of the journal, and says where it is now.
///
/// # Errors
/// The kernel's.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = aside(path);
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

/// Keeps what a file has from byte `at` on beside it, for who wants to look at it.
///
/// # Errors
/// The kernel's; then nothing of it is left.
pub fn copy_aside(path: &Path, at: u64) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let aside = aside(path);
    let copied = File::create(&aside).and_then(|mut copy| io::copy(&mut file, &mut copy));
    if copied.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&aside);
    }
    copied.map(drop)
}

/// Makes the names in `folder` durable.
///
/// # Errors
/// The kernel's.
pub fn sync_names(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
