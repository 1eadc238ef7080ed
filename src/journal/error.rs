//! Why a journal could not be opened: cause and cure.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal could not be opened: cause and cure.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process writes to it.
    #[error(
        "journal {folder}: process {holder} writes to it; stop that one first, or give this one \
         a folder of its own (a successor by take_over cannot have the folder of the server that \
         it takes over from)",
        folder = .folder.display()
    )]
    Held {
        /// The journal.
        folder: PathBuf,
        /// The process, as far as it has said so.
        holder: String,
    },
    /// There is something else.
    #[error("journal {}: it is no folder; name a folder of its own", .0.display())]
    NotAFolder(PathBuf),
    /// A later version has written it.
    #[error(
        "journal {file}: written in format {version}, this program reads format {known}; run the \
         newer program, or move the folder away",
        file = .file.display(),
        known = super::segment::VERSION
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        version: u32,
    },
    /// The file system refuses.
    #[error("journal {path}: {source}{cure}", path = .path.display(), cure = cure(.path, .source))]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl JournalError {
    /// The error of an operation on `path`.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// What helps against the kernel's reason, as the end of a sentence.
pub(super) fn cure(path: &Path, error: &io::Error) -> String {
    let parent = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("; create its folder with: mkdir -p {parent}"),
        io::ErrorKind::PermissionDenied => {
            format!("; this user must be able to write there: chown it, or see ls -ld {parent}")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("; free some space there (df -h {parent}), or lower journal_bytes")
        }
        io::ErrorKind::FileTooLarge => "; raise the limit of file sizes (ulimit -f)".into(),
        io::ErrorKind::ReadOnlyFilesystem => "; mount its file system for writing".into(),
        _ => "; see dmesg for what the disk says".into(),
    }
}
