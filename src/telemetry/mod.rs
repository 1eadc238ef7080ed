//! What the server counts: one set of counters a core, merged when somebody looks.
//!
//! Every counter has a single writer (its core) and any number of readers; a write is a plain load
//! and store, never a locked instruction. Latencies are recorded in the core's own histogram and
//! added to the shared one a few times a second, off the data path. Not here: how figures are
//! shown.

mod counters;
pub mod histogram;
mod json;
pub mod metrics;
pub mod tally;

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;

pub use counters::{
    IngestCounters, ShardCounters, ShardHistograms, SourceCounters, StreamCounters,
};
/// The target of log lines about connections that have ended; a setting says how many there are.
pub const ENDS_TARGET: &str = "fanfare::connections";

/// A number with one writer: a counter (`add`) or a gauge (`set`, or `add` and `sub`).
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds to a counter or gauge. Only the owning thread may call it.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Takes from a gauge. Only the owning thread may call it.
    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(amount), Ordering::Relaxed);
    }

    /// Sets a gauge. Only the owning thread may call it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now, from any thread.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An empty latency histogram: 1 µs to 60 s, two significant digits.
#[must_use]
pub fn new_lag() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are constants")
}

/// All counters of one server.
#[derive(Debug)]
pub struct Telemetry {
    /// The ingest thread's.
    pub ingest: CachePadded<IngestCounters>,
    /// The NATS thread's.
    pub stream: CachePadded<StreamCounters>,
    /// One for each source.
    pub sources: Box<[SourceCounters]>,
    /// One for each shard.
    pub shards: Box<[CachePadded<ShardCounters>]>,
}

/// A view of all counters at one moment; each number is exact, their set is not one instant's.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Events that got a `seq`.
    pub events_in: u64,
    /// Lines refused.
    pub lines_bad: u64,
    /// Producers connected.
    pub producers: u64,
    /// Channels known.
    pub channels: u64,
    /// Times that a full ring paused the sources.
    pub pauses: u64,
    /// Open connections.
    pub connections: u64,
    /// Connections waiting for a full socket.
    pub blocked: u64,
    /// Data frames delivered.
    pub deliveries: u64,
    /// Sends made.
    pub sends: u64,
    /// Bytes that the kernel took.
    pub bytes_sent: u64,
    /// Loss receipts sent.
    pub gaps: u64,
    /// Events that loss receipts covered.
    pub missed: u64,
    /// Open connections of each shard.
    pub connections_by_shard: Vec<u64>,
    /// Ingest to kernel since the last look, microseconds: median, 99th percentile, maximum.
    pub lag_us: Option<(u64, u64, u64)>,
}

impl Snapshot {
    /// How uneven the shards are: connections of the largest one in percent of the mean, so that
    /// 100 is even. None where there is nothing to compare.
    #[must_use]
    pub fn spread_percent(&self) -> Option<u64> {
        let largest = *self.connections_by_shard.iter().max()?;
        let shards = self.connections_by_shard.len() as u64;
        (largest * shards * 100).checked_div(self.connections).filter(|_| shards > 1)
    }
}

impl Telemetry {
    /// Counters for a server of `shards` shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self::with_sources(shards, &[])
    }

    /// Counters for a server of `shards` shards with these sources.
    #[must_use]
    pub fn with_sources(shards: usize, urls: &[String]) -> Self {
        let source = |url: &String| SourceCounters { url: url.clone(), ..Default::default() };
        Self {
            ingest: CachePadded::default(),
            stream: CachePadded::default(),
            sources: urls.iter().map(source).collect(),
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Merges all cores. The latencies are those since the previous call, so one caller at a time.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let sum = |cell: fn(&ShardCounters) -> &Cell| -> u64 {
            self.shards.iter().map(|shard| cell(shard).value()).sum()
        };
        let mut lag = new_lag();
        for shard in &self.shards {
            if let Some(part) = shard.take_lag() {
                lag.add(part).expect("both have the bounds of new_lag");
            }
        }
        Snapshot {
            events_in: self.ingest.events.value(),
            lines_bad: self.ingest.lines_bad.value(),
            producers: self.ingest.producers.value(),
            channels: self.ingest.channels.value(),
            pauses: self.ingest.pauses.value(),
            connections: sum(|shard| &shard.connections),
            blocked: sum(|shard| &shard.blocked),
            deliveries: sum(|shard| &shard.deliveries),
            sends: sum(|shard| &shard.sends),
            bytes_sent: sum(|shard| &shard.bytes_sent),
            gaps: sum(|shard| &shard.gaps),
            missed: sum(|shard| &shard.missed),
            connections_by_shard: self.shards.iter().map(|s| s.connections.value()).collect(),
            lag_us: (!lag.is_empty())
                .then(|| (lag.value_at_quantile(0.5), lag.value_at_quantile(0.99), lag.max())),
        }
    }
}
