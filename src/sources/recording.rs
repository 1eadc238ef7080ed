//! A recording: events into a gzip file that a replay can play.
//!
//! Each line is `<ns> <producer event>`, in the order of the times. Lines are packed in members of
//! their own, which are complete as soon as they are written, so a file that is cut off can be read
//! up to the cut. Not here: reading it ([`super::capture`]), and where events come from. Invariant:
//! the file has its name only when it is finished; until then `.part` follows it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::limits::{RECORD_MEMBER_BYTES, RECORD_MEMBER_MS};
use crate::protocol::event::Event;
use crate::protocol::json::write_u64;

/// Why a recording cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// There is a file of this name already.
    #[error("`{}` exists already; choose another name, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// There is the rest of a recording that was cut off.
    #[error(
        "`{}` is a recording that is under way or was cut off, and can be replayed up to there; \
         move it, or replace it with --force", .0.display()
    )]
    Cut(PathBuf),
    /// The file cannot be written.
    #[error("cannot write `{}`: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A recording under way.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    /// What it is called until it is finished.
    part: PathBuf,
    file: File,
    may_replace: bool,
    /// Lines that wait to be packed.
    lines: Vec<u8>,
    /// Since when the first of them waits, monotonic nanoseconds.
    waits_ns: Option<u64>,
    /// Of the last line.
    time_ns: u64,
    events: u64,
    bytes: u64,
}

impl Recording {
    /// Begins a file that will be called `path`.
    ///
    /// # Errors
    /// It cannot be made, or is there already and it may not be replaced.
    pub fn create(path: &Path, may_replace: bool) -> Result<Self, RecordingError> {
        if path.exists() && !may_replace {
            return Err(RecordingError::Exists(path.to_owned()));
        }
        let mut part = OsString::from(path);
        part.push(".part");
        let part = PathBuf::from(part);
        let mut options = OpenOptions::new();
        options.write(true).create(true).create_new(!may_replace).truncate(may_replace);
        let file = options.open(&part).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RecordingError::Cut(part.clone()),
            _ => RecordingError::File { path: part.clone(), error },
        })?;
        Ok(Self {
            path: path.to_owned(),
            part,
            file,
            may_replace,
            lines: Vec::new(),
            waits_ns: None,
            time_ns: 0,
            events: 0,
            bytes: 0,
        })
    }

    /// Adds an event of `time_ns`, nanoseconds since the Unix epoch; a time before that of the last
    /// event is taken to be the same. It is `now_ns`, monotonic.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(
        &mut self,
        event: &Event<'_>,
        time_ns: u64,
        now_ns: u64,
    ) -> Result<(), RecordingError> {
        self.time_ns = self.time_ns.max(time_ns);
        write_u64(&mut self.lines, self.time_ns);
        self.lines.push(b' ');
        event.write_line(&mut self.lines);
        self.events += 1;
        self.waits_ns.get_or_insert(now_ns);
        if self.lines.len() >= RECORD_MEMBER_BYTES { self.pack() } else { Ok(()) }
    }

    /// Writes what has waited for long enough.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn handle_time(&mut self, now_ns: u64) -> Result<(), RecordingError> {
        let waited_ns = self.waits_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
        if waited_ns >= RECORD_MEMBER_MS * 1_000_000 { self.pack() } else { Ok(()) }
    }

    /// Events that were added.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Bytes that were written.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the rest, makes it durable and gives the file its name.
    ///
    /// # Errors
    /// The file cannot be written, or another one has taken its name meanwhile.
    pub fn finish(mut self) -> Result<(), RecordingError> {
        if !self.lines.is_empty() || self.bytes == 0 {
            self.pack()?;
        }
        self.file.sync_all().map_err(|error| self.failed(error))?;
        if self.path.exists() && !self.may_replace {
            return Err(RecordingError::Exists(self.path));
        }
        std::fs::rename(&self.part, &self.path).map_err(|error| self.failed(error))
    }

    /// Gives up a recording that has not begun.
    pub fn discard(self) {
        // It is empty: if it stays, it is in nobody's way.
        let _gone = std::fs::remove_file(&self.part);
    }

    /// Writes the lines that wait, as a member of their own.
    fn pack(&mut self) -> Result<(), RecordingError> {
        let packed = || -> io::Result<Vec<u8>> {
            let mut member = GzEncoder::new(Vec::new(), Compression::default());
            member.write_all(&self.lines)?;
            member.finish()
        };
        let member = packed().expect("a vector takes every write");
        self.file.write_all(&member).map_err(|error| self.failed(error))?;
        self.bytes += member.len() as u64;
        self.lines.clear();
        self.waits_ns = None;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> RecordingError {
        RecordingError::File { path: self.part.clone(), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Replay, ReplayInput, Speed};
    use crate::protocol::event::Kind;
    use crate::sources::capture::Capture;

    /// A folder of its own for one test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("fanfare-{test}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn event(data: &[u8]) -> Event<'_> {
        Event { channel: "a", key: Some("k\""), kind: Kind::Snapshot, ts: Some(7), data }
    }

    /// Every line of a capture with its time, and whether it ended in order.
    fn read(path: &Path) -> (Vec<(u64, String)>, bool) {
        let input = ReplayInput::Files(vec![path.to_owned()]);
        let replay = Replay { speed: Speed::Max, ..Replay::new(input) };
        let (mut capture, mut lines) = (Capture::open(&replay).unwrap(), Vec::new());
        loop {
            match capture.next_record() {
                Ok(None) => return (lines, true),
                Err(_) => return (lines, false),
                Ok(Some(record)) => {
                    let line = String::from_utf8(record.line.to_vec()).unwrap();
                    lines.push((record.time_ns.unwrap(), line));
                }
            }
        }
    }

    #[test]
    fn a_recording_plays_back_in_order_and_has_its_name_only_at_the_end() {
        let folder = Folder::new("recording");
        let path = folder.0.join("a.gz");
        let mut recording = Recording::create(&path, false).unwrap();
        recording.add(&event(b"1.10"), 5, 0).unwrap();
        recording.add(&event(b"{ }"), 3, 0).unwrap();
        recording.add(&event(b"[]"), 9, 0).unwrap();
        assert!(!path.exists());
        assert_eq!(recording.events(), 3);
        recording.finish().unwrap();
        let line = |data| {
            format!(r#"{{"channel":"a","key":"k\"","ts":7,"kind":"snapshot","data":{data}}}"#)
        };
        let expected = vec![(5, line("1.10")), (5, line("{ }")), (9, line("[]"))];
        assert_eq!(read(&path), (expected, true));
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "no part is left");
    }

    #[test]
    fn what_is_cut_off_can_be_read_up_to_the_last_second() {
        let folder = Folder::new("cut");
        let path = folder.0.join("a.gz");
        let part = folder.0.join("a.gz.part");
        let mut recording = Recording::create(&path, false).unwrap();
        recording.add(&event(b"1"), 1, 0).unwrap();
        recording.handle_time(RECORD_MEMBER_MS * 1_000_000 - 1).unwrap();
        assert_eq!(recording.bytes(), 0, "it may wait a little");
        recording.handle_time(RECORD_MEMBER_MS * 1_000_000).unwrap();
        recording.add(&event(b"2"), 2, 2_000_000_000).unwrap();
        // As a kill does: what was not packed is gone.
        assert_eq!(read(&part).0.len(), 1);
        assert!(read(&part).1);
        let long = vec![b'1'; RECORD_MEMBER_BYTES / 2];
        recording.add(&event(&long), 3, 2_000_000_000).unwrap();
        recording.add(&event(&long), 3, 2_000_000_000).unwrap();
        drop(recording);
        assert_eq!(read(&part).0.len(), 4, "a full member does not wait");
        let whole = std::fs::read(&part).unwrap();
        std::fs::write(&part, &whole[..whole.len() - 9]).unwrap();
        let (lines, in_order) = read(&part);
        assert!(!lines.is_empty() && !in_order, "a torn member is said");
        let error = Recording::create(&path, false).unwrap_err().to_string();
        assert!(
            error.contains("a.gz.part` is a recording") && error.contains("--force"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_replaced_only_when_that_is_asked_for() {
        let folder = Folder::new("force");
        let path = folder.0.join("a.gz");
        Recording::create(&path, false).unwrap().finish().unwrap();
        assert_eq!(read(&path), (Vec::new(), true), "nothing was recorded, and that can be read");
        let error = Recording::create(&path, false).unwrap_err().to_string();
        assert!(error.contains("exists already") && error.contains("--force"), "{error}");
        let mut recording = Recording::create(&path, true).unwrap();
        recording.add(&event(b"1"), 1, 0).unwrap();
        recording.finish().unwrap();
        assert_eq!(read(&path).0.len(), 1);
        let error = Recording::create(&folder.0.join("absent/a.gz"), false).unwrap_err();
        assert!(matches!(error, RecordingError::File { .. }), "{error}");
        let other = folder.0.join("b.gz");
        Recording::create(&other, false).unwrap().discard();
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    }
}
