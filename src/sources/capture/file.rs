//! One file of a capture: unpacks it, splits it, and finds each line's time.
//!
//! Not here: the order between files. Invariant: `line` is the last line that was read, and
//! `time_ns` the last time that was known.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::{CaptureError, Pointer};
use crate::config::mapping::TimeUnit;
use crate::limits::{LINE_BYTES_MAX, READ_BYTES};
use crate::sources::error::{LineError, bounded};
use crate::sources::lines::Lines;
use crate::sources::mapping::{FileNames, TIME_FORMS_NATIVE, time_at};
use crate::sources::parser::native_time;
use crate::sources::span::{Scanner, string_is};

/// First bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

pub(super) struct CaptureFile {
    pub(super) names: FileNames,
    /// Where the time of an NDJSON line is; the top-level `ts` when absent.
    pub(super) time: Option<Pointer>,
    /// The JSON of the line that was read last.
    pub(super) line: Vec<u8>,
    pub(super) line_number: u64,
    /// The time of that line or, where it has none, of the line before it.
    pub(super) time_ns: u64,
    /// Why the line has no time.
    pub(super) error: Option<LineError>,
    bytes: Box<dyn Read + Send>,
    chunk: Box<[u8]>,
    /// The part of `chunk` that is not split yet.
    unsplit: std::ops::Range<usize>,
    lines: Lines,
    scanner: Scanner,
}

impl std::fmt::Debug for CaptureFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureFile")
            .field("path", &self.names.path)
            .field("line_number", &self.line_number)
            .finish_non_exhaustive()
    }
}

impl CaptureFile {
    pub(super) fn open<R: Read + Send + 'static>(
        names: FileNames,
        open: impl FnOnce() -> io::Result<R>,
    ) -> Result<Self, CaptureError> {
        let bytes = open()
            .and_then(unpacked)
            .map_err(|source| CaptureError::Open { path: names.path.clone(), source })?;
        Ok(Self {
            names,
            time: None,
            line: Vec::new(),
            line_number: 0,
            time_ns: 0,
            error: None,
            bytes,
            chunk: vec![0; READ_BYTES].into(),
            unsplit: 0..0,
            lines: Lines::new(LINE_BYTES_MAX),
            scanner: Scanner::default(),
        })
    }

    /// Reads the next line; false at the end of the file.
    pub(super) fn read_line(&mut self) -> Result<bool, CaptureError> {
        loop {
            let mut input = &self.chunk[self.unsplit.clone()];
            let next = self.lines.next(&mut input);
            self.unsplit.start = self.unsplit.end - input.len();
            if let Some(line) = next {
                self.line_number = line.number;
                self.error = keep(line.bytes, &mut self.line);
                break;
            }
            let bytes_read = self.fill()?;
            if bytes_read == 0 {
                let Some(line) = self.lines.finish() else {
                    return Ok(false);
                };
                self.line_number = line.number;
                self.error = keep(line.bytes, &mut self.line);
                break;
            }
            self.unsplit = 0..bytes_read;
        }
        if self.error.is_none() {
            match self.find_time() {
                Ok(time_ns) => self.time_ns = time_ns,
                Err(error) => self.error = Some(error),
            }
        }
        Ok(true)
    }

    fn fill(&mut self) -> Result<usize, CaptureError> {
        loop {
            match self.bytes.read(&mut self.chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(bytes) => return Ok(bytes),
                Err(source) => {
                    let (path, line) = (self.names.path.clone(), self.lines.ended());
                    return Err(CaptureError::Read { path, line, source });
                }
            }
        }
    }

    /// The line's time; takes it off a `<ns> <raw JSON>` line.
    fn find_time(&mut self) -> Result<u64, LineError> {
        let digits = self.line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 && self.line.get(digits) == Some(&b' ') {
            let text = String::from_utf8_lossy(&self.line[..digits]);
            let time = text.parse().map_err(|_| LineError::Time {
                at: "the time before the JSON".into(),
                found: bounded(&text),
                allowed: TIME_FORMS_NATIVE,
            });
            self.line.drain(..=digits);
            return time;
        }
        let document = self.scanner.scan(&self.line)?;
        if let Some(pointer) = &self.time {
            return time_at(&document, pointer, TimeUnit::Ns);
        }
        document
            .members(document.root())
            .find(|(name, _)| string_is(name, b"ts"))
            .map_or(Err(LineError::NoTime), |(_, value)| native_time(document, value))
    }
}

fn keep(bytes: Result<&[u8], LineError>, line: &mut Vec<u8>) -> Option<LineError> {
    line.clear();
    bytes.map(|bytes| line.extend_from_slice(bytes)).err()
}

/// The bytes of a plain file, or what a gzip file (of one member or several) holds.
fn unpacked(mut file: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::with_capacity(GZIP_MAGIC.len());
    (&mut file).take(GZIP_MAGIC.len() as u64).read_to_end(&mut head)?;
    let packed = head == GZIP_MAGIC;
    let whole = BufReader::with_capacity(READ_BYTES, Cursor::new(head).chain(file));
    Ok(if packed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}
