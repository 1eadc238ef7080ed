//! Filling a slice of exactly the right length, piece by piece.
//!
//! Not here: what the pieces are, which each form of an event says for itself. Invariant: every
//! byte is written once.

/// What of a slice is still to be filled.
#[derive(Debug)]
pub(super) struct Room<'a>(&'a mut [u8]);

impl<'a> Room<'a> {
    /// All of `out`.
    ///
    /// # Panics
    /// When `out` is not `len` bytes long.
    #[inline]
    pub(super) fn of(out: &'a mut [u8], len: usize) -> Self {
        assert_eq!(out.len(), len, "the caller makes room of exactly len()");
        Self(out)
    }

    /// Copies bytes behind those before.
    ///
    /// # Panics
    /// When there is no room for them.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let (front, back) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        front.copy_from_slice(bytes);
        self.0 = back;
    }

    /// Everything was put.
    #[inline]
    pub(super) fn end(self) {
        debug_assert!(self.0.is_empty(), "len() counts what is written");
    }
}
