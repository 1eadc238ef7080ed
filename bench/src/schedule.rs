//! When each event is meant to be sent, and on which channel: known before anything is sent.
//!
//! Not here: sending. Invariant: nothing that happens to the producer moves an intended time; that
//! is what makes the load an open loop.

use std::sync::Arc;

use crate::payload::Said;

/// How events follow each other.
#[derive(Debug, Clone)]
pub enum Pace {
    /// So many a second, one channel after the other.
    Constant { events_per_s: f64 },
    /// As recorded, again and again.
    Recorded(Arc<Recorded>),
}

/// Times and channels of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// From the beginning, in order; and the channel.
    pub events: Vec<(u64, u32)>,
    /// After which it begins again.
    pub length_ns: u64,
}

/// Numbers of events, which go on from one schedule to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    count: u64,
    /// The newest event of each channel; 0: none.
    pub newest: Vec<u64>,
}

impl Numbers {
    #[must_use]
    pub fn new(channels: u64) -> Self {
        let channels = usize::try_from(channels).expect("channels are few");
        Self { count: 0, newest: vec![0; channels] }
    }
}

/// A part of a run, from one time to another.
#[derive(Debug, Clone)]
pub struct Schedule {
    begin_ns: u64,
    end_ns: u64,
    pace: Pace,
    next: u64,
}

impl Schedule {
    #[must_use]
    pub const fn new(pace: Pace, begin_ns: u64, end_ns: u64) -> Self {
        Self { begin_ns, end_ns, pace, next: 0 }
    }

    /// When the next event is due; none when all are.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        // At a rate of 0 the first event is due at once, and the second never.
        let at_ns = self.begin_ns.saturating_add(self.offset_ns());
        (at_ns < self.end_ns).then_some(at_ns)
    }

    /// The next event, if it is due; its number is taken.
    pub fn due(&mut self, now_ns: u64, numbers: &mut Numbers) -> Option<Said> {
        let intended_ns = self.next_ns().filter(|&at_ns| at_ns <= now_ns)?;
        let channel = match &self.pace {
            Pace::Constant { .. } => {
                let channels = numbers.newest.len() as u64;
                u32::try_from(numbers.count % channels).expect("channels are few")
            }
            Pace::Recorded(feed) => feed.events[feed.place(self.next).1].1,
        };
        self.next += 1;
        numbers.count += 1;
        let newest = &mut numbers.newest[channel as usize];
        let previous = std::mem::replace(newest, numbers.count);
        Some(Said { number: numbers.count, previous, channel, intended_ns })
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 events")]
    fn offset_ns(&self) -> u64 {
        match &self.pace {
            Pace::Constant { events_per_s } => (self.next as f64 * 1e9 / events_per_s) as u64,
            Pace::Recorded(feed) => {
                let (turn, at) = feed.place(self.next);
                turn * feed.length_ns + feed.events[at].0
            }
        }
    }
}

impl Recorded {
    /// Which time over, and which event of it.
    fn place(&self, next: u64) -> (u64, usize) {
        let events = self.events.len() as u64;
        (next / events, usize::try_from(next % events).expect("an index"))
    }

    /// Events a second, on average.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub fn events_per_s(&self) -> f64 {
        self.events.len() as f64 * 1e9 / self.length_ns as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_that_was_held_up_keeps_the_intended_times() {
        let mut numbers = Numbers::new(1);
        let pace = Pace::Constant { events_per_s: 1000.0 };
        let mut schedule = Schedule::new(pace, 5_000_000, 25_000_000);
        assert_eq!(schedule.due(4_999_999, &mut numbers), None);
        // Nothing was taken for ten events: they are due all at once, each with its own time.
        let late: Vec<u64> = std::iter::from_fn(|| schedule.due(14_500_000, &mut numbers))
            .map(|said| said.intended_ns)
            .collect();
        assert_eq!(late, (5..15).map(|ms| ms * 1_000_000).collect::<Vec<_>>());
        assert_eq!(schedule.next_ns(), Some(15_000_000));
        let rest = std::iter::from_fn(|| schedule.due(u64::MAX, &mut numbers));
        assert_eq!(rest.last().unwrap().number, 20, "no event is left out, none is added");
        assert_eq!(schedule.next_ns(), None);
    }

    #[test]
    fn channels_take_turns_and_numbers_go_on_in_the_next_part() {
        let mut numbers = Numbers::new(3);
        let pace = Pace::Constant { events_per_s: 1e9 };
        let mut first = Schedule::new(pace.clone(), 0, 4);
        let mut second = Schedule::new(pace, 10, 12);
        let mut said = Vec::new();
        for schedule in [&mut first, &mut second] {
            while let Some(one) = schedule.due(u64::MAX, &mut numbers) {
                said.push((one.number, one.previous, one.channel));
            }
        }
        assert_eq!(said, [(1, 0, 0), (2, 0, 1), (3, 0, 2), (4, 1, 0), (5, 2, 1), (6, 3, 2)]);
        assert_eq!(numbers.newest, [4, 5, 6]);
    }

    #[test]
    fn at_no_rate_nothing_follows_the_first_event() {
        let mut numbers = Numbers::new(1);
        let mut schedule = Schedule::new(Pace::Constant { events_per_s: 0.0 }, 7, 10);
        assert_eq!(schedule.due(7, &mut numbers).map(|said| said.intended_ns), Some(7));
        assert_eq!(schedule.due(u64::MAX, &mut numbers), None);
    }

    #[test]
    fn a_recorded_feed_begins_again_at_its_end() {
        let feed = Recorded { events: vec![(0, 1), (7, 0)], length_ns: 10 };
        let mut schedule = Schedule::new(Pace::Recorded(Arc::new(feed)), 100, 120);
        let mut numbers = Numbers::new(2);
        let all = std::iter::from_fn(|| schedule.due(u64::MAX, &mut numbers));
        let all: Vec<_> = all.map(|said| (said.intended_ns, said.channel, said.previous)).collect();
        assert_eq!(all, [(100, 1, 0), (107, 0, 0), (110, 1, 1), (117, 0, 2)]);
    }
}
