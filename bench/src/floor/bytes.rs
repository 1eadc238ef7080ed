//! The floor's log: a bounded ring of finished frames.
//!
//! Not here: who gets them. Invariant: its memory is never freed, so that the kernel has no pointer
//! to what is gone.

use fanfare::protocol::ws::frame::{Opcode, header, header_len};

/// Finished frames, one after the other; a position counts every byte there ever was.
pub(super) struct Bytes {
    ring: &'static mut [u8],
    pub(super) end: u64,
}

impl Bytes {
    pub(super) fn new(length: usize) -> Self {
        Self { ring: Box::leak(vec![0; length].into_boxed_slice()), end: 0 }
    }

    pub(super) fn append_frame(&mut self, payload: &[u8]) {
        self.append(&header(Opcode::Text, payload.len())[..header_len(payload.len())]);
        self.append(payload);
    }

    fn append(&mut self, bytes: &[u8]) {
        let begin = self.index(self.end);
        let first = bytes.len().min(self.ring.len() - begin);
        self.ring[begin..begin + first].copy_from_slice(&bytes[..first]);
        self.ring[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.end += bytes.len() as u64;
    }

    /// What is behind `position`, as far as it lies in one piece.
    pub(super) fn rest(&self, position: u64) -> &[u8] {
        let begin = self.index(position);
        let length = usize::try_from(self.end - position).expect("within the ring");
        &self.ring[begin..self.ring.len().min(begin + length)]
    }

    /// The position of the oldest byte that is still there.
    pub(super) fn oldest(&self) -> u64 {
        self.end.saturating_sub(self.ring.len() as u64)
    }

    fn index(&self, position: u64) -> usize {
        usize::try_from(position % self.ring.len() as u64).expect("an index of the ring")
    }
}
