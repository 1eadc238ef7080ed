//! Compresses the payloads of messages (RFC 7692, section 7.2.1).
//!
//! Not here: frames, and their RSV1. Invariant: each payload ends at a byte boundary, so that what
//! follows it can be inflated whatever this one was.

use flate2::{Compress, Compression, FlushCompress};

use super::{COMPRESSOR_BITS_MIN, FLUSHED, WINDOW_BITS_MAX};

/// One compressor, for any number of messages.
#[derive(Debug)]
pub struct Deflater {
    /// Behind a pointer, as that of an [inflater](super::Inflater) is, and for the same reason.
    engine: Box<Compress>,
    keeps_context: bool,
}

impl Deflater {
    /// A compressor of `level` 0 (stores) to 9 (smallest), with a window of 2^`window_bits` bytes,
    /// 9 to 15. One that keeps its context refers to earlier messages, so that its payloads are for
    /// one receiver and only in this order; the payloads of any other one are for everybody.
    #[must_use]
    pub fn new(level: u32, window_bits: u8, keeps_context: bool) -> Self {
        assert!((COMPRESSOR_BITS_MIN..=WINDOW_BITS_MAX).contains(&window_bits));
        let level = Compression::new(level);
        let engine = Box::new(Compress::new_with_window_bits(level, false, window_bits));
        Self { engine, keeps_context }
    }

    /// Appends the compressed payload of `message`. It can be longer than `message`, which may be
    /// sent as it is instead unless the context is kept.
    pub fn deflate(&mut self, mut message: &[u8], out: &mut Vec<u8>) {
        if message.is_empty() {
            // One block without content (RFC 7692, section 7.2.3.6); a second flush writes none.
            return out.push(0);
        }
        out.reserve(message.len() / 4);
        loop {
            // With less, a flush that fills the room exactly would look unfinished.
            out.reserve(64);
            let before = self.engine.total_in();
            self.engine
                .compress_vec(message, out, FlushCompress::Sync)
                .expect("there is room, and the stream is in order");
            let taken = self.engine.total_in() - before;
            message = &message[usize::try_from(taken).expect("no more than there was")..];
            if message.is_empty() && out.len() < out.capacity() {
                break;
            }
        }
        debug_assert!(out.ends_with(&FLUSHED));
        out.truncate(out.len() - FLUSHED.len());
        if !self.keeps_context {
            self.engine.reset();
        }
    }
}
