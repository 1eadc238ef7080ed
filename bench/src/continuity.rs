//! Whether a client missed something, or got it twice: one number for each of its channels.
//!
//! Every event names the one before it on its channel, so the last number is all that a client
//! needs to remember. Not here: counting. Invariant: a channel that the client did not ask for
//! counts for nothing.

use crate::payload;

/// A channel of which the first event that comes is the first of all.
const UNKNOWN: u64 = u64::MAX;

/// What one client has of each of its channels.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Sorted by channel: its number, and that of the last event that came.
    entries: Box<[(u32, u64)]>,
}

/// What an event is to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// New, after this many that did not come.
    New { missing: u64 },
    /// It, or a later one, was there before.
    Again,
    /// Of a channel that is not (or no longer) asked for.
    Foreign,
}

impl Ledger {
    /// Of these channels (sorted); `late`: the producer has begun before.
    #[must_use]
    pub fn new(channels: &[u32], late: bool) -> Self {
        let last = if late { UNKNOWN } else { 0 };
        Self { entries: channels.iter().map(|&channel| (channel, last)).collect() }
    }

    /// Takes note of an event. `stride`: how much numbers rise from one event of a channel to the
    /// next, 0 when that varies and a break counts as one.
    #[inline]
    pub fn take(&mut self, event: &[u8], stride: u64) -> Verdict {
        let number = payload::number(event);
        let entry = if let ([only], 1) = (&mut *self.entries, stride) {
            // Numbers rise by one from event to event where there is one channel.
            only
        } else {
            let channel = payload::channel(event);
            match self.entries.binary_search_by_key(&channel, |entry| entry.0) {
                Ok(at) => &mut self.entries[at],
                Err(_) => return Verdict::Foreign,
            }
        };
        let last = entry.1;
        if last == UNKNOWN {
            entry.1 = number;
            return Verdict::New { missing: 0 };
        }
        if number <= last {
            return Verdict::Again;
        }
        entry.1 = number;
        let previous = payload::previous(event);
        Verdict::New { missing: between(last, previous, stride) }
    }

    /// How many never came, when the last numbers of all channels are these.
    pub fn close(&mut self, newest: &[u64], stride: u64) -> u64 {
        let mut missing = 0;
        for (channel, last) in &mut self.entries {
            let newest = newest.get(*channel as usize).copied().unwrap_or(0);
            if *last != UNKNOWN && newest > *last {
                missing += between(*last, newest, stride);
                *last = newest;
            }
        }
        missing
    }

    /// Puts another channel into the place of one; the one that went.
    pub fn exchange(&mut self, place: usize, channel: u32) -> Option<u32> {
        if self.entries.iter().any(|entry| entry.0 == channel) {
            return None;
        }
        let entry = self.entries.get_mut(place)?;
        let gone = std::mem::replace(entry, (channel, UNKNOWN)).0;
        self.entries.sort_unstable();
        Some(gone)
    }

    /// How many channels there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.entries.len()
    }

    /// The channels, in order.
    pub fn channels(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().map(|entry| entry.0)
    }
}

/// Events after `last` up to `newest`.
#[inline]
fn between(last: u64, newest: u64, stride: u64) -> u64 {
    match newest.saturating_sub(last) {
        0 => 0,
        _ if stride == 0 => 1,
        distance => distance.div_ceil(stride),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Said, Template};

    fn event(number: u64, previous: u64, channel: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let said = Said { number, previous, channel, intended_ns: 0 };
        Template::new(payload::BYTES_MIN).unwrap().write(&mut out, said);
        out
    }

    #[test]
    fn losses_and_repetitions_are_counted_exactly() {
        let mut ledger = Ledger::new(&[0], false);
        assert_eq!(ledger.take(&event(1, 0, 0), 1), Verdict::New { missing: 0 });
        assert_eq!(ledger.take(&event(2, 1, 0), 1), Verdict::New { missing: 0 });
        assert_eq!(ledger.take(&event(2, 1, 0), 1), Verdict::Again);
        assert_eq!(ledger.take(&event(6, 5, 0), 1), Verdict::New { missing: 3 });
        assert_eq!(ledger.close(&[9], 1), 3);
        assert_eq!(ledger.close(&[9], 1), 0, "each loss counts once");
    }

    #[test]
    fn each_channel_is_a_chain_of_its_own() {
        let mut ledger = Ledger::new(&[1, 7], false);
        assert_eq!(ledger.take(&event(2, 0, 1), 10), Verdict::New { missing: 0 });
        assert_eq!(ledger.take(&event(8, 0, 7), 10), Verdict::New { missing: 0 });
        assert_eq!(ledger.take(&event(42, 32, 1), 10), Verdict::New { missing: 3 });
        assert_eq!(ledger.take(&event(43, 33, 2), 10), Verdict::Foreign);
        assert_eq!(
            Ledger::new(&[1], false).take(&event(22, 12, 1), 10),
            Verdict::New { missing: 2 }
        );
    }

    #[test]
    fn who_comes_late_misses_nothing_of_what_was_before() {
        let mut ledger = Ledger::new(&[0], true);
        assert_eq!(ledger.close(&[9], 1), 0);
        assert_eq!(ledger.take(&event(17, 16, 0), 1), Verdict::New { missing: 0 });
        assert_eq!(ledger.take(&event(19, 18, 0), 1), Verdict::New { missing: 1 });
    }

    #[test]
    fn after_a_change_of_channel_nothing_of_the_old_one_counts_also_not_of_the_only_one() {
        for channels in [&[0][..], &[0, 9]] {
            let mut ledger = Ledger::new(channels, false);
            assert_eq!(ledger.exchange(0, 4), Some(0));
            assert_eq!(ledger.take(&event(21, 11, 0), 10), Verdict::Foreign, "it was in flight");
            assert_eq!(ledger.take(&event(25, 15, 4), 10), Verdict::New { missing: 0 });
            assert_eq!(ledger.take(&event(45, 35, 4), 10), Verdict::New { missing: 1 });
            assert_eq!(ledger.exchange(0, 4), None, "it has that one");
        }
    }
}
