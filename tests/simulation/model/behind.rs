//! For which events a client was behind: those of the time between something that held it up and
//! the moment at which everything that there was had been sent.
//!
//! Only those may be conflated or skipped, however slow the client was before or will be. Not here:
//! what holds it up (a full socket, a recovery, a set that waits for a tick). Invariant: spans are
//! in order.

use std::ops::RangeInclusive;

#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Everything up to here was sent when nothing held it up.
    level: u64,
    is_held_up: bool,
    spans: Vec<RangeInclusive<u64>>,
}

impl Behind {
    /// Something holds it up.
    pub(super) const fn fall(&mut self) {
        self.is_held_up = true;
    }

    /// Nothing holds it up, and the shard has nothing up to `head` that it was not sent.
    pub(super) fn catch_up(&mut self, head: u64) {
        if std::mem::take(&mut self.is_held_up) {
            self.spans.push(self.level + 1..=head);
        }
        self.level = head;
    }

    /// Whether anything ever held it up.
    pub(super) const fn ever(&self) -> bool {
        self.is_held_up || !self.spans.is_empty()
    }

    /// Whether it was behind for any of these.
    pub(super) fn within(&self, seqs: &RangeInclusive<u64>) -> bool {
        let is_open = self.is_held_up && *seqs.end() > self.level;
        let touches =
            |span: &RangeInclusive<u64>| span.start() <= seqs.end() && seqs.start() <= span.end();
        is_open || self.spans.iter().any(touches)
    }

    /// Whether it was behind for this event.
    pub(super) fn at(&self, seq: u64) -> bool {
        self.within(&(seq..=seq))
    }
}
