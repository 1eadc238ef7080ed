//! What one client was told that it will not get: sums, and the last receipts.
//!
//! For the operator's list of connections and the client's own `whoami`. Not here: when something
//! is skipped (`shard::slow`). Invariant: a connection without receipts has none of this, and one
//! with any number of them a bounded amount.

use std::collections::VecDeque;

use crate::limits::{LOSS_CHANNELS_KEPT, LOSSES_KEPT};
use crate::protocol::reply::{Cause, Gap};

/// What receipts told one client.
#[derive(Debug, Default)]
pub struct Losses {
    /// How many there were.
    pub receipts: u64,
    /// Events that they covered, where they said how many.
    pub missed: u64,
    /// The last ones, oldest first.
    pub last: VecDeque<Loss>,
}

/// What is kept of one receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The first of its channels or patterns.
    pub channels: Box<[Box<str>]>,
    /// How many it names beside them.
    pub more: usize,
    /// First and last `seq` of what was skipped.
    pub range: (u64, u64),
    /// Events that will never come; none: nobody knows.
    pub missed: Option<u64>,
    /// Why.
    pub cause: Cause,
}

impl Losses {
    /// Notes a receipt.
    pub fn note(&mut self, gap: &Gap<'_>) {
        self.receipts += 1;
        self.missed += gap.missed.unwrap_or_default();
        if self.last.len() >= LOSSES_KEPT {
            self.last.pop_front();
        }
        let channels: Box<[_]> =
            gap.channels.iter().take(LOSS_CHANNELS_KEPT).map(|&name| name.into()).collect();
        self.last.push_back(Loss {
            more: gap.channels.len() - channels.len(),
            channels,
            range: (gap.from, gap.to),
            missed: gap.missed,
            cause: gap.cause,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_on_and_only_the_last_receipts_are_kept() {
        let mut losses = Losses::default();
        let names = ["a"; LOSS_CHANNELS_KEPT + 3];
        for seq in 0..10 * LOSSES_KEPT as u64 {
            let gap =
                Gap { channels: &names, from: seq, to: seq, missed: Some(2), cause: Cause::Slow };
            losses.note(&gap);
        }
        let count = 10 * LOSSES_KEPT as u64;
        assert_eq!((losses.receipts, losses.missed), (count, 2 * count));
        assert_eq!(losses.last.len(), LOSSES_KEPT);
        let last = losses.last.back().unwrap();
        assert_eq!((last.range, last.more), ((count - 1, count - 1), 3));
    }
}
