//! What a file was like when it was looked at, so that a change is noticed without reading it.
//!
//! Not here: when to look, and what then. Invariant: whatever changes what a read gives, or whether
//! it is allowed, changes the stamp: the kernel's own time of change cannot be set back.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which file is at a path, when it, its owner or its mode was last changed (seconds, nanoseconds),
/// and its length; none if it cannot be looked at.
pub type Stamp = Option<(u64, (i64, i64), u64)>;

/// The file at `path` as it is now.
#[must_use]
pub fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), (file.ctime(), file.ctime_nsec()), file.len()))
}
