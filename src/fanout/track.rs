//! A log's entries in one further form: a ring of bytes, and where in it each entry is.
//!
//! An entry that has no bytes of its own here is read as JSON: what is not worth being written in
//! this form, what came before anybody wanted it, and what nobody wants. Not here: when entries
//! leave ([`super::log`]), and which are written ([`super::store`]). Invariant: spans are in order
//! of their entries, also those of entries without bytes.

use super::ring::ByteRing;

/// Where an entry's frame is.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    position: u64,
    /// 0: there is none of this form.
    len: u32,
}

/// The entries in one form.
#[derive(Debug)]
pub struct Track {
    ring: ByteRing,
    /// By the numbers of the entries, as the log's index.
    spans: Box<[Span]>,
    /// Number of the entry that is written next; those from it on have no span.
    next: u64,
}

impl Track {
    /// A track for a log of `bytes` bytes and an index of `entries`, both powers of two, in which
    /// entry `next` will be the first.
    #[must_use]
    pub fn new(bytes: usize, entries: usize, next: u64) -> Self {
        Self {
            ring: ByteRing::new(bytes),
            spans: vec![Span::default(); entries].into_boxed_slice(),
            next,
        }
    }

    /// Number of the entry that is written next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Makes room for the frame of entry `number`, which has `len` bytes, or none of this form.
    pub fn reserve(&mut self, number: u64, len: usize) {
        let position = if len == 0 { self.ring.end() } else { self.ring.reserve(len) };
        let len = u32::try_from(len).expect("limits keep frames far below 4 GiB");
        let at = self.place(number);
        self.spans[at] = Span { position, len };
        self.next = number + 1;
    }

    /// The room for the frame of entry `number`, to write it.
    pub fn bytes_mut(&mut self, number: u64) -> &mut [u8] {
        let Span { position, len } = self.spans[self.place(number)];
        self.ring.piece_mut(position, len as usize)
    }

    /// Whether entry `number`, which was written, or one before it, is overwritten.
    #[must_use]
    pub fn is_overwritten(&self, number: u64) -> bool {
        self.spans[self.place(number)].position < self.ring.oldest()
    }

    /// Position and length of entry `number`, which is in the log; none: it is read as JSON.
    #[must_use]
    pub fn find(&self, number: u64) -> Option<(u64, u32)> {
        let span = self.spans[self.place(number)];
        (span.len > 0 && number < self.next).then_some((span.position, span.len))
    }

    /// The bytes at a position, which are not overwritten.
    #[must_use]
    pub fn bytes(&self, position: u64, len: u32) -> &[u8] {
        self.ring.piece(position, len as usize)
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number & (self.spans.len() as u64 - 1)).expect("below the ring's length")
    }
}
