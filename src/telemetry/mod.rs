//! What the server counts: one set of counters a core, merged when somebody looks.
//!
//! Every counter has a single writer (its core) and any number of readers; a write is a plain load
//! and store, never a locked instruction. Latencies are recorded in the core's own histogram and
//! added to the shared one a few times a second, off the data path. Not here: how figures are
//! shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;

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

/// Counters of the ingest thread.
#[derive(Debug, Default)]
pub struct IngestCounters {
    /// Events that got a `seq`.
    pub events: Cell,
    /// The last `seq` given (gauge).
    pub head_seq: Cell,
    /// Lines that were refused, with a reply where the source can be replied to.
    pub lines_bad: Cell,
    /// Bytes read from sources.
    pub bytes: Cell,
    /// Producers connected now (gauge).
    pub producers: Cell,
    /// Channels known (gauge).
    pub channels: Cell,
    /// Times that a full ring paused the sources.
    pub pauses: Cell,
    /// Bytes written to the journal.
    pub journal_bytes: Cell,
    /// Last `seq` in the journal (gauge).
    pub journal_seq: Cell,
    /// 1 while the journal cannot be written and the feed goes on without it (gauge).
    pub journal_is_degraded: Cell,
    /// Replays that ended early because a file could not be read on.
    pub replays_broken: Cell,
}

impl IngestCounters {
    /// Every counter with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, &Cell); 11] {
        [
            ("events", &self.events),
            ("head_seq", &self.head_seq),
            ("lines_bad", &self.lines_bad),
            ("bytes", &self.bytes),
            ("producers", &self.producers),
            ("channels", &self.channels),
            ("pauses", &self.pauses),
            ("journal_bytes", &self.journal_bytes),
            ("journal_seq", &self.journal_seq),
            ("journal_is_degraded", &self.journal_is_degraded),
            ("replays_broken", &self.replays_broken),
        ]
    }
}

/// Counters of one shard.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Connections whose channel is open (gauge).
    pub connections: Cell,
    /// Those of them that have subscribed to something (gauge).
    pub subscribed: Cell,
    /// Upgrades answered with 101.
    pub opened: Cell,
    /// Connections that ended after a 101.
    pub closed: Cell,
    /// Handshakes under way (gauge).
    pub handshakes: Cell,
    /// Upgrade requests refused, or given up before they were complete.
    pub refused: Cell,
    /// Those of them for which there was no room, or no time before a stop.
    pub refused_capacity: Cell,
    /// Those whose address or credential has as many connections as it may have.
    pub refused_limit: Cell,
    /// Those without a good credential, or of an origin that may not connect.
    pub refused_access: Cell,
    /// Those whose request was not one, or never came.
    pub refused_request: Cell,
    /// Events appended to the log.
    pub events: Cell,
    /// Data frames handed to the kernel in full, one for each event and client.
    pub deliveries: Cell,
    /// Sends made, io_uring and writer task together.
    pub sends: Cell,
    /// Bytes that the kernel took.
    pub bytes_sent: Cell,
    /// Connections waiting for a full socket (gauge).
    pub blocked: Cell,
    /// Loss receipts sent.
    pub gaps: Cell,
    /// Events that loss receipts covered.
    pub missed: Cell,
    /// Subscriptions that policy `unsubscribe` has ended.
    pub dropped: Cell,
    /// Moves of clients between tiers.
    pub tier_moves: Cell,
    /// Pings sent to clients that were quiet.
    pub pings: Cell,
    /// Clients that did not answer one.
    pub heartbeats_missed: Cell,
    /// Credentials that were not good.
    pub auth_failures: Cell,
    /// Messages from clients over the allowed rate.
    pub rate_limited: Cell,
    /// TLS handshakes that were done.
    pub tls_handshakes: Cell,
    /// Those of them that a ticket of an earlier session shortened.
    pub tls_resumed: Cell,
    /// TLS handshakes that failed.
    pub tls_failed: Cell,
    /// Bytes of frames kept beside the log (gauge).
    pub retained_bytes: Cell,
    /// Commands from clients.
    pub commands: Cell,
    /// Batches waiting in the ring (gauge).
    pub ring_depth: Cell,
    /// Last `seq` appended (gauge).
    pub head_seq: Cell,
    /// Last `seq` up to which every client was sent everything (gauge).
    pub settled_seq: Cell,
    /// Longest turn of the fan-out loop since the start, microseconds (gauge).
    pub turn_us_max: Cell,
    lag: Mutex<Option<Histogram<u64>>>,
}

impl ShardCounters {
    /// Every counter with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, &Cell); 32] {
        [
            ("connections", &self.connections),
            ("subscribed", &self.subscribed),
            ("opened", &self.opened),
            ("closed", &self.closed),
            ("handshakes", &self.handshakes),
            ("refused", &self.refused),
            ("refused_capacity", &self.refused_capacity),
            ("refused_limit", &self.refused_limit),
            ("refused_access", &self.refused_access),
            ("refused_request", &self.refused_request),
            ("events", &self.events),
            ("deliveries", &self.deliveries),
            ("sends", &self.sends),
            ("bytes_sent", &self.bytes_sent),
            ("blocked", &self.blocked),
            ("gaps", &self.gaps),
            ("missed", &self.missed),
            ("dropped", &self.dropped),
            ("tier_moves", &self.tier_moves),
            ("pings", &self.pings),
            ("heartbeats_missed", &self.heartbeats_missed),
            ("auth_failures", &self.auth_failures),
            ("rate_limited", &self.rate_limited),
            ("tls_handshakes", &self.tls_handshakes),
            ("tls_resumed", &self.tls_resumed),
            ("tls_failed", &self.tls_failed),
            ("retained_bytes", &self.retained_bytes),
            ("commands", &self.commands),
            ("ring_depth", &self.ring_depth),
            ("head_seq", &self.head_seq),
            ("settled_seq", &self.settled_seq),
            ("turn_us_max", &self.turn_us_max),
        ]
    }

    /// Adds an interval's latencies (ingest to the kernel, microseconds) and clears `local`.
    pub fn merge_lag(&self, local: &mut Histogram<u64>) {
        if local.is_empty() {
            return;
        }
        let mut shared = lock(&self.lag);
        shared.get_or_insert_with(new_lag).add(&*local).expect("both have the bounds of new_lag");
        local.reset();
    }
}

/// An empty latency histogram: 1 µs to 60 s, two significant digits.
#[must_use]
pub fn new_lag() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are constants")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All counters of one server.
#[derive(Debug)]
pub struct Telemetry {
    /// The ingest thread's.
    pub ingest: CachePadded<IngestCounters>,
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
        Self {
            ingest: CachePadded::default(),
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
        }
    }

    /// The counters as one JSON object: `ingest`, and `shards` by number.
    #[must_use]
    pub fn to_json(&self) -> String {
        let ingest = object(&self.ingest.named());
        let shards: Vec<_> = self.shards.iter().map(|shard| object(&shard.named())).collect();
        format!("{{\"ingest\":{ingest},\"shards\":[{}]}}\n", shards.join(","))
    }

    /// Merges all cores. The latencies are those since the previous call, so one caller at a time.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let sum = |cell: fn(&ShardCounters) -> &Cell| -> u64 {
            self.shards.iter().map(|shard| cell(shard).value()).sum()
        };
        let mut lag = new_lag();
        for shard in &self.shards {
            if let Some(part) = lock(&shard.lag).take() {
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

fn object(named: &[(&str, &Cell)]) -> String {
    let fields: Vec<_> =
        named.iter().map(|(name, cell)| format!("\"{name}\":{}", cell.value())).collect();
    format!("{{{}}}", fields.join(","))
}
