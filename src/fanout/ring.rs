//! A ring of bytes: pieces one behind the other, the newest over the oldest.
//!
//! Positions grow without end; the ring is their remainder. A piece lies in one stretch, and a
//! piece that begins where another ends lies directly behind it. Not here: what the pieces are, and
//! which of them still count. Invariant: the memory in use never changes.

/// The ring.
#[derive(Debug)]
pub struct ByteRing {
    bytes: Box<[u8]>,
    /// Position at which the next piece begins, unless it would cross the end of the ring.
    next: u64,
}

impl ByteRing {
    /// A ring of `bytes` bytes, which is a power of two.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        debug_assert!(bytes.is_power_of_two(), "positions are cut by a mask");
        Self { bytes: vec![0; bytes].into_boxed_slice(), next: 0 }
    }

    /// Bytes of the ring.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Position behind the newest piece.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.next
    }

    /// Makes room for a piece of `len` bytes and returns its position. Whatever began before
    /// [`Self::oldest`] of now is gone.
    ///
    /// # Panics
    /// When the piece is not shorter than the ring.
    pub fn reserve(&mut self, len: usize) -> u64 {
        let capacity = self.capacity();
        assert!((len as u64) < capacity, "a frame of {len} bytes in a ring of {capacity}");
        let room = capacity - (self.next & (capacity - 1));
        // One that would end exactly at the end of the ring goes to the start as well, so that
        // neighbouring positions are always neighbouring bytes.
        if len as u64 >= room {
            self.next += room;
        }
        let position = self.next;
        self.next += len as u64;
        position
    }

    /// Position before which everything is overwritten.
    #[must_use]
    pub const fn oldest(&self) -> u64 {
        self.next.saturating_sub(self.capacity())
    }

    /// A piece, which is not overwritten.
    #[must_use]
    pub fn piece(&self, position: u64, len: usize) -> &[u8] {
        let start = self.place(position);
        &self.bytes[start..start + len]
    }

    /// The same, to write it.
    pub fn piece_mut(&mut self, position: u64, len: usize) -> &mut [u8] {
        let start = self.place(position);
        &mut self.bytes[start..start + len]
    }

    fn place(&self, position: u64) -> usize {
        usize::try_from(position & (self.capacity() - 1)).expect("below the ring's length")
    }
}
