//! Splits a stream of bytes into lines, one at a time, so that the caller can pause between two.
//!
//! A line that lies whole in a chunk is handed out from there; only a line that crosses chunks is
//! copied. Not here: what a line says. Invariant: at most `line_bytes_max` bytes are kept, whatever
//! arrives.

use memchr::memchr;

use crate::sources::error::LineError;

/// The splitter of one stream.
#[derive(Debug)]
pub struct Lines {
    line_bytes_max: usize,
    /// The beginning of a line whose newline has not arrived, or the line handed out last.
    partial: Vec<u8>,
    /// `partial` was handed out and is to be forgotten.
    handed_out: bool,
    /// An over-long line was reported; its rest is skipped.
    skipping: bool,
    /// Lines that ended, empty ones included.
    ended: u64,
}

/// One line that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number in the stream, from 1; empty lines count.
    pub number: u64,
    /// Its bytes without the newline (`\n` or `\r\n`), or [`LineError::TooLong`].
    pub bytes: Result<&'a [u8], LineError>,
}

/// Where a line was found.
enum Found<'a> {
    InChunk(&'a [u8]),
    InPartial,
    TooLong,
}

impl Lines {
    /// A splitter that refuses lines of more than `line_bytes_max` bytes, newline included.
    #[must_use]
    pub const fn new(line_bytes_max: usize) -> Self {
        let partial = Vec::new();
        Self { line_bytes_max, partial, handed_out: false, skipping: false, ended: 0 }
    }

    /// The next line of `input`, which is moved past it; `None` when `input` has been taken in.
    pub fn next<'line, 'input: 'line>(
        &'line mut self,
        input: &mut &'input [u8],
    ) -> Option<Line<'line>> {
        let found = self.advance(input)?;
        Some(self.line(found))
    }

    /// The last line, where the stream ends without a newline.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        self.forget();
        if std::mem::take(&mut self.skipping) || is_empty(&self.partial) {
            self.partial.clear();
            return None;
        }
        self.ended += 1;
        self.handed_out = true;
        Some(self.line(Found::InPartial))
    }

    /// Lines that ended, empty ones included.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.ended
    }

    fn line<'a>(&'a self, found: Found<'a>) -> Line<'a> {
        let (number, bytes) = match found {
            Found::InChunk(line) => (self.ended, Ok(without_return(line))),
            Found::InPartial => (self.ended, Ok(without_return(&self.partial))),
            // Its newline is still to come.
            Found::TooLong => {
                (self.ended + 1, Err(LineError::TooLong { limit: self.line_bytes_max }))
            }
        };
        Line { number, bytes }
    }

    fn advance<'a>(&mut self, input: &mut &'a [u8]) -> Option<Found<'a>> {
        self.forget();
        while !input.is_empty() {
            let newline = memchr(b'\n', input);
            let (part, rest) = input.split_at(newline.unwrap_or(input.len()));
            if !self.skipping && self.partial.len() + part.len() >= self.line_bytes_max {
                // The input stays at this line: the next call skips to its newline.
                self.skipping = true;
                self.partial.clear();
                return Some(Found::TooLong);
            }
            *input = rest.get(1..).unwrap_or_default();
            if newline.is_none() {
                if !self.skipping {
                    self.partial.extend_from_slice(part);
                }
                return None;
            }
            self.ended += 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.partial.is_empty() {
                if !is_empty(part) {
                    return Some(Found::InChunk(part));
                }
                continue;
            }
            self.partial.extend_from_slice(part);
            self.handed_out = true;
            if !is_empty(&self.partial) {
                return Some(Found::InPartial);
            }
            self.forget();
        }
        None
    }

    fn forget(&mut self) {
        if std::mem::take(&mut self.handed_out) {
            self.partial.clear();
        }
    }
}

fn is_empty(line: &[u8]) -> bool {
    line.first().is_none_or(u8::is_ascii_whitespace) && line.trim_ascii().is_empty()
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 8;

    fn collect(chunks: &[&[u8]]) -> Vec<(u64, Result<String, LineError>)> {
        let mut lines = Lines::new(LIMIT);
        let mut found = Vec::new();
        let mut keep = |line: Line<'_>| {
            let text = line.bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
            found.push((line.number, text));
        };
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(line) = lines.next(&mut input) {
                keep(line);
            }
            assert!(input.is_empty());
            assert!(lines.partial.capacity() <= 4 * LIMIT);
        }
        if let Some(line) = lines.finish() {
            keep(line);
        }
        assert!(lines.finish().is_none());
        found
    }

    #[test]
    fn every_split_of_a_stream_gives_the_same_lines() {
        let stream =
            b"one\ntwo\r\n\n \r\n1234567\n12345678\nsix\r\n\r\n0123456789abcdefghijkl\n7\nlast";
        let too_long = Err(LineError::TooLong { limit: LIMIT });
        let expected = [
            (1, Ok("one".to_owned())),
            (2, Ok("two".to_owned())),
            (5, Ok("1234567".to_owned())),
            (6, too_long.clone()),
            (7, Ok("six".to_owned())),
            (9, too_long),
            (10, Ok("7".to_owned())),
            (11, Ok("last".to_owned())),
        ];
        assert_eq!(collect(&[stream]), expected);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(collect(&bytes), expected);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let parts = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(collect(&parts), expected, "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_over_long_line_is_reported_before_its_end_and_once() {
        let mut lines = Lines::new(LIMIT);
        let mut input = &b"12345678"[..];
        let line = lines.next(&mut input).unwrap();
        assert_eq!((line.number, line.bytes.is_err()), (1, true));
        assert_eq!(lines.next(&mut input), None);
        for _ in 0..100 {
            let mut input = &b"more and more"[..];
            assert_eq!(lines.next(&mut input), None);
        }
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn a_line_inside_a_chunk_is_not_copied() {
        let mut lines = Lines::new(LIMIT);
        let chunk = b"abc\ndef\n".to_vec();
        let mut input = &chunk[..];
        let line = lines.next(&mut input).unwrap().bytes.unwrap();
        assert!(std::ptr::eq(line, &chunk[..3]));
    }
}
