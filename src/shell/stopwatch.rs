//! Times the turns of a core's fan-out loop and the passes in them.
//!
//! The clock is read once for each pass beside what the loop reads anyway; nothing is done for each
//! send. Not here: the histograms ([`crate::telemetry`]). Invariant: a pass without events counts
//! as a turn and as nothing else.

use hdrhistogram::Histogram;

use crate::fanout::Now;
use crate::fanout::shard::Latency;
use crate::limits::LAG_MERGE_MS;
use crate::telemetry::{ShardCounters, new_lag};

use super::clock;

/// One core's.
#[derive(Debug)]
pub(super) struct Stopwatch {
    /// When the first sends of the pass were made, nanoseconds of the monotonic clock.
    first_ns: Option<u64>,
    /// Sends and deliveries when the pass began.
    sends: u64,
    deliveries: u64,
    /// Latencies that the live view has not seen, microseconds.
    lag: Histogram<u64>,
    merged_ns: u64,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { first_ns: None, sends: 0, deliveries: 0, lag: new_lag(), merged_ns: 0 }
    }
}

impl Stopwatch {
    /// A turn begins.
    pub(super) fn begin(&mut self, counters: &ShardCounters) {
        self.first_ns = None;
        (self.sends, self.deliveries) = (counters.sends.value(), counters.deliveries.value());
    }

    /// Sends were made.
    pub(super) fn has_sent(&mut self) {
        self.first_ns.get_or_insert_with(|| clock::now().monotonic_ns);
    }

    /// A turn that began at `begun` ends at `now`; `pass` says how long its events took, if there
    /// were any.
    pub(super) fn end(
        &mut self,
        counters: &ShardCounters,
        pass: Option<Latency>,
        begun: Now,
        now: Now,
    ) {
        let times = &counters.times;
        if let (Some(pass), Some(began_ns)) = (pass, self.first_ns) {
            let Latency { first_ns, last_ns, sends } = pass;
            let spread_ns = now.monotonic_ns - began_ns;
            self.lag.saturating_record_n((last_ns / 1_000).max(1), sends);
            times.last_send_ns.record_n(last_ns, sends);
            times.first_send_ns.record(first_ns);
            times.spread_ns.record(spread_ns);
            times.pass_sends.record(sends);
            let made = counters.sends.value() - self.sends;
            let events = counters.deliveries.value() - self.deliveries;
            times.send_events.record(events.checked_div(made).unwrap_or(0));
        }
        if now.monotonic_ns - self.merged_ns > LAG_MERGE_MS * 1_000_000 {
            counters.merge_lag(&mut self.lag);
            self.merged_ns = now.monotonic_ns;
        }
        let turn_ns = now.monotonic_ns - begun.monotonic_ns;
        times.turn_ns.record(turn_ns);
        counters.turn_us_max.set(counters.turn_us_max.value().max(turn_ns / 1_000));
    }
}
