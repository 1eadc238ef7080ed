//! Where every decision of a run comes from: a seed, or bytes that a fuzzer makes up.
//!
//! Invariant: the same seed or bytes give the same decisions; behind the last byte a fixed seed
//! goes on.

use crate::random;

/// What decides.
pub(super) struct Random {
    state: u64,
    bytes: Box<[u8]>,
    /// Bytes that have decided something.
    used: usize,
}

impl Random {
    pub(super) fn of_seed(seed: u64) -> Self {
        Self { state: seed, bytes: Box::default(), used: 0 }
    }

    /// A decision takes as few of `bytes` as it needs, so that a change of one changes little else.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self { state: 0, bytes: bytes.into(), used: 0 }
    }

    /// Whether there are bytes that have decided nothing yet.
    pub(super) fn has_bytes(&self) -> bool {
        self.used < self.bytes.len()
    }

    pub(super) fn next(&mut self) -> u64 {
        self.take(8)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        let width = match bound {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        usize::try_from(self.take(width) % bound.max(1) as u64).unwrap()
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A number of so many bytes; from the seed, one of eight.
    fn take(&mut self, width: usize) -> u64 {
        if !self.has_bytes() {
            return random::next(&mut self.state);
        }
        let left = &self.bytes[self.used..];
        let taken = &left[..width.min(left.len())];
        self.used += taken.len();
        taken.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}
