//! What the clients of one thread received in a window.
//!
//! Not here: whose message it is. Invariant: an event counts for the window in which it was meant
//! to be sent, whenever it comes, and its arrival for the second in which it comes, whenever it was
//! meant; the clock is read once for all that one read brought.

use hdrhistogram::Histogram;

use crate::clock::SECOND_NS;
use crate::histogram;
use crate::orders::{Arrived, Followed, Report, Window};

/// Sampled events that are kept.
const SAMPLES_MAX: u64 = 200_000;

#[derive(Debug)]
pub(super) struct Recorder {
    window: Window,
    length_ns: u64,
    /// Of the second in progress; each message is recorded once.
    current: Histogram<u64>,
    total: Histogram<u64>,
    second_end_ns: u64,
    second_deliveries: u64,
    second_idle_ns: u64,
    seconds: Vec<Arrived>,
    samples: Vec<Sample>,
    /// The place of the first sampled event.
    samples_from: Option<u64>,
    pub(super) deliveries: u64,
    pub(super) duplicates: u64,
    /// What did not come, what of it was told, and what was not: of all clients that are settled.
    pub(super) missing: u64,
    pub(super) told: u64,
    pub(super) lost: u64,
    pub(super) disconnected: u64,
    pub(super) refused: u64,
}

/// The first and the last arrival of an event, and how many there were.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    first_ns: u64,
    last_ns: u64,
    count: u32,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// It is of another window.
    No,
    Yes,
    /// And it is followed: it was here before, at so many clients.
    Place(u32),
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            window: Window::default(),
            length_ns: 0,
            current: histogram::empty(),
            total: histogram::empty(),
            second_end_ns: u64::MAX,
            second_deliveries: 0,
            second_idle_ns: 0,
            seconds: Vec::new(),
            samples: Vec::new(),
            samples_from: None,
            deliveries: 0,
            duplicates: 0,
            missing: 0,
            told: 0,
            lost: 0,
            disconnected: 0,
            refused: 0,
        }
    }

    /// Forgets everything and counts what is of this window.
    pub(super) fn begin(&mut self, window: Window) {
        *self = Self::new();
        self.length_ns = window.to_ns.saturating_sub(window.from_ns);
        self.window = window;
        self.second_end_ns = self.end_of_second(window.from_ns);
    }

    /// When the second that begins then ends: a window's last one may be a part of one.
    fn end_of_second(&self, begin_ns: u64) -> u64 {
        let end_ns = begin_ns + SECOND_NS;
        if begin_ns < self.window.to_ns { end_ns.min(self.window.to_ns) } else { end_ns }
    }

    /// To be called with the time of every read, before its events.
    #[inline]
    pub(super) fn read_at(&mut self, now_ns: u64) {
        while now_ns >= self.second_end_ns {
            self.end_second();
        }
    }

    /// Nothing came for so long, up to now. Only what of it lies in the window counts.
    #[inline]
    pub(super) fn idle(&mut self, idle_ns: u64, now_ns: u64) {
        let from_ns = now_ns.saturating_sub(idle_ns).max(self.window.from_ns);
        self.second_idle_ns += now_ns.min(self.window.to_ns).saturating_sub(from_ns);
    }

    #[inline]
    pub(super) fn event(&mut self, number: u64, intended_ns: u64, now_ns: u64) -> Counted {
        // What was held up in the warm-up is work of the second in which it comes.
        self.second_deliveries += u64::from(now_ns >= self.window.from_ns);
        if intended_ns.wrapping_sub(self.window.from_ns) >= self.length_ns {
            return Counted::No;
        }
        histogram::record(&mut self.current, now_ns.saturating_sub(intended_ns));
        self.deliveries += 1;
        let every = self.window.sample_every;
        if every > 1 && !number.is_multiple_of(every) {
            return Counted::Yes;
        }
        self.follow(number / every.max(1), now_ns)
    }

    fn follow(&mut self, place: u64, now_ns: u64) -> Counted {
        let from = *self.samples_from.get_or_insert(place);
        let Some(place) = place.checked_sub(from).filter(|&place| place < SAMPLES_MAX) else {
            return Counted::Yes;
        };
        let place = usize::try_from(place).expect("it is below the bound");
        if self.samples.len() <= place {
            self.samples.resize(place + 1, Sample::default());
        }
        let sample = &mut self.samples[place];
        if sample.count == 0 {
            sample.first_ns = now_ns;
        }
        sample.last_ns = now_ns;
        sample.count += 1;
        Counted::Place(sample.count - 1)
    }

    fn end_second(&mut self) {
        let latency =
            if self.current.is_empty() { String::new() } else { histogram::to_text(&self.current) };
        self.seconds.push(Arrived {
            deliveries: std::mem::take(&mut self.second_deliveries),
            latency,
            idle_ns: std::mem::take(&mut self.second_idle_ns),
        });
        histogram::add(&mut self.total, &self.current);
        self.current.reset();
        self.second_end_ns = self.end_of_second(self.second_end_ns);
    }

    /// What there is; the window goes on.
    pub(super) fn report(&mut self) -> Report {
        if self.second_deliveries + self.second_idle_ns > 0 {
            self.end_second();
        }
        let every = self.window.sample_every.max(1);
        let from = self.samples_from.unwrap_or(0);
        // One that came once here may have come elsewhere, too.
        let sampled = self.samples.iter().enumerate().filter(|(_, sample)| sample.count > 0);
        Report {
            deliveries: self.deliveries,
            duplicates: self.duplicates,
            missing: self.missing,
            told: self.told,
            lost: self.lost,
            disconnected: self.disconnected,
            refused: self.refused,
            latency: histogram::to_text(&self.total),
            seconds: self.seconds.clone(),
            sampled: sampled
                .map(|(at, sample)| Followed {
                    number: (from + at as u64) * every,
                    first_ns: sample.first_ns,
                    last_ns: sample.last_ns,
                    count: sample.count,
                })
                .collect(),
            by_client: Vec::new(),
            rank: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_the_window_count_whenever_they_come() {
        let mut recorder = Recorder::new();
        let from_ns = 10 * SECOND_NS;
        recorder.begin(Window { from_ns, to_ns: from_ns + 2 * SECOND_NS, sample_every: 2 });
        let mut at = |number, intended_ns: u64, after_ns: u64| {
            recorder.read_at(intended_ns + after_ns);
            recorder.event(number, intended_ns, intended_ns + after_ns)
        };
        assert_eq!(at(1, from_ns - 5000, 4999), Counted::No);
        assert_eq!(at(1, from_ns - 1, 5000), Counted::No);
        assert_eq!(at(2, from_ns, 5000), Counted::Place(0));
        assert_eq!(at(3, from_ns, 7000), Counted::Yes);
        assert_eq!(at(2, from_ns, 9000), Counted::Place(1));
        assert_eq!(at(4, from_ns + 2 * SECOND_NS - 1, 3 * SECOND_NS), Counted::Place(0));
        let report = recorder.report();
        assert_eq!(report.deliveries, 4);
        let seconds: Vec<u64> = report.seconds.iter().map(|second| second.deliveries).collect();
        assert_eq!(seconds, [4, 0, 0, 0, 1], "by the second of their arrival");
        let (first_ns, late_ns) = (from_ns + 5000, from_ns + 5 * SECOND_NS - 1);
        let twice = Followed { number: 2, first_ns, last_ns: from_ns + 9000, count: 2 };
        let once = Followed { number: 4, first_ns: late_ns, last_ns: late_ns, count: 1 };
        assert_eq!(report.sampled, [twice, once]);
        let latency = histogram::of_text(&report.latency).unwrap();
        assert_eq!((latency.len(), latency.min()), (4, 5));
    }

    #[test]
    fn only_idle_time_of_the_window_counts_and_a_part_of_a_second_has_only_its_own() {
        let mut recorder = Recorder::new();
        let from_ns = 10 * SECOND_NS;
        let to_ns = from_ns + SECOND_NS + SECOND_NS / 2;
        recorder.begin(Window { from_ns, to_ns, sample_every: 1 });
        let mut idle = |idle_ns, now_ns| {
            recorder.read_at(now_ns);
            recorder.idle(idle_ns, now_ns);
        };
        idle(3 * SECOND_NS, from_ns - 1);
        idle(1000, from_ns + 600);
        idle(70, from_ns + 700);
        idle(5, from_ns + SECOND_NS + 50);
        idle(400, to_ns + 300);
        idle(7000, to_ns + SECOND_NS);
        let report = recorder.report();
        let seconds: Vec<u64> = report.seconds.iter().map(|second| second.idle_ns).collect();
        assert_eq!(seconds[..2], [670, 5], "nothing of the warm-up, nothing after the end");
        assert_eq!(seconds[2..].iter().sum::<u64>(), 100, "what ends later is no second's");
    }
}
