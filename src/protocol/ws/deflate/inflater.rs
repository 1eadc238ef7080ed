//! Decompresses the payloads of messages (RFC 7692, section 7.2.2), bounded.
//!
//! Each payload is a stream of its own for the engine, which is given the end of what came before
//! as a dictionary where the context is kept. So a payload that breaks off is told from a whole
//! one, and one engine can serve any number of connections that keep none. Not here: frames, and
//! whether text is UTF-8. Invariant: the engine holds nothing of a message when the next begins.

use flate2::{Decompress, FlushDecompress, Status};

use crate::limits::{DEFLATE_FINALS_MAX, INFLATE_BYTES_MIN, INFLATE_KEPT_BYTES};

use super::{FLUSHED, WINDOW_BITS_MAX};

/// What follows the payload: what its flush ended with, and a last block without content, which is
/// reached only if every block before it was whole.
const END: [u8; 9] = [FLUSHED[0], FLUSHED[1], FLUSHED[2], FLUSHED[3], 1, 0, 0, 0xff, 0xff];

/// Bytes that a payload may refer back to.
const WINDOW_BYTES: usize = 1 << WINDOW_BITS_MAX;

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// The payload is not what a compressor writes, or breaks off.
    Corrupt,
    /// It would be longer than the bound.
    TooBig,
}

/// One decompressor, for any number of messages, of any window.
#[derive(Debug)]
pub struct Inflater {
    /// Behind a pointer, because zlib-rs frees what a reference in it points to when it is dropped:
    /// a value that is given to who drops it must not have that (zlib-rs, issue 491).
    engine: Box<Decompress>,
    keeps_context: bool,
    /// What earlier messages ended with if the context is kept, then the message.
    buffer: Vec<u8>,
    /// Bytes of the former.
    earlier: usize,
}

impl Inflater {
    /// A decompressor for messages of one sender that keeps its context, or for those of any
    /// senders that do not.
    #[must_use]
    pub fn new(keeps_context: bool) -> Self {
        let engine = Box::new(Decompress::new_with_window_bits(false, WINDOW_BITS_MAX));
        Self { engine, keeps_context, buffer: Vec::new(), earlier: 0 }
    }

    /// The message of a compressed `payload`, of at most `bytes_max` bytes. No more than that, and
    /// no more than twice what has come out so far, is ever allocated for it.
    ///
    /// # Errors
    /// The payload's fault; the inflater is not to be used again if it keeps its context.
    pub fn inflate(&mut self, payload: &[u8], bytes_max: usize) -> Result<&[u8], InflateError> {
        self.forget();
        self.begin_stream()?;
        // A payload may end with a last block of its own, if it ends with its last byte.
        let is_whole = self.feed(payload, bytes_max)? || self.feed(&END, bytes_max)?;
        if is_whole { Ok(&self.buffer[self.earlier..]) } else { Err(InflateError::Corrupt) }
    }

    /// Bytes that are allocated for messages.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.buffer.capacity()
    }

    /// Lets go of the latest message, but for what the next one may refer to.
    fn forget(&mut self) {
        let kept = if self.keeps_context { WINDOW_BYTES } else { 0 };
        self.buffer.drain(..self.buffer.len().saturating_sub(kept));
        if self.buffer.capacity() > INFLATE_KEPT_BYTES {
            self.buffer.shrink_to(INFLATE_KEPT_BYTES);
        }
        self.earlier = self.buffer.len();
    }

    /// Begins a stream that may refer to what is in the buffer.
    fn begin_stream(&mut self) -> Result<(), InflateError> {
        self.engine.reset(false);
        let window = &self.buffer[self.buffer.len().saturating_sub(WINDOW_BYTES)..];
        if !window.is_empty() {
            self.engine.set_dictionary(window).map_err(|_| InflateError::Corrupt)?;
        }
        Ok(())
    }

    /// Inflates all of `input`; true if a last block ends with it.
    fn feed(&mut self, mut input: &[u8], bytes_max: usize) -> Result<bool, InflateError> {
        let mut finals = 0;
        loop {
            let made = self.buffer.len() - self.earlier;
            if made > bytes_max {
                return Err(InflateError::TooBig);
            }
            if self.buffer.len() == self.buffer.capacity() {
                // One byte past the bound is enough to see that it is passed.
                let room = (bytes_max - made + 1).min(made.max(INFLATE_BYTES_MIN));
                self.buffer.reserve_exact(room);
            }
            let before = self.engine.total_in();
            let inflated =
                self.engine.decompress_vec(input, &mut self.buffer, FlushDecompress::None);
            let status = inflated.map_err(|_| InflateError::Corrupt)?;
            let taken = self.engine.total_in() - before;
            input = &input[usize::try_from(taken).expect("no more than there was")..];
            let is_full = self.buffer.len() == self.buffer.capacity();
            match status {
                Status::StreamEnd if input.is_empty() => {
                    let made = self.buffer.len() - self.earlier;
                    return if made > bytes_max { Err(InflateError::TooBig) } else { Ok(true) };
                }
                // Blocks may follow a last one (RFC 7692, section 7.2.3.4).
                Status::StreamEnd if finals == DEFLATE_FINALS_MAX => {
                    return Err(InflateError::Corrupt);
                }
                Status::StreamEnd => {
                    finals += 1;
                    self.begin_stream()?;
                }
                Status::Ok | Status::BufError if is_full => {}
                Status::Ok if !input.is_empty() => {}
                Status::Ok | Status::BufError => return Ok(false),
            }
        }
    }
}
