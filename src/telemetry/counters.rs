//! Counters of each part of a server.
//!
//! Not here: what they are called in `/metrics` ([`super::metrics`]). Invariant: one thread writes
//! each of them, and none is written for each delivery but the four that a send ends with.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::histogram::Histogram;
use super::tally::{CLOSES, ENCODINGS, Grid, LAGS, STATES, Tally};
use super::{Cell, new_lag};

/// Counters of the ingest thread.
#[derive(Debug)]
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
    /// Time that the journal took for a batch, nanoseconds.
    pub journal_append_ns: Histogram,
}

impl Default for IngestCounters {
    fn default() -> Self {
        Self {
            events: Cell::default(),
            head_seq: Cell::default(),
            lines_bad: Cell::default(),
            bytes: Cell::default(),
            producers: Cell::default(),
            channels: Cell::default(),
            pauses: Cell::default(),
            journal_bytes: Cell::default(),
            journal_seq: Cell::default(),
            journal_is_degraded: Cell::default(),
            replays_broken: Cell::default(),
            journal_append_ns: times(),
        }
    }
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

/// Counters of one source; the ingest thread writes them.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Its URL.
    pub url: String,
    /// 1 while something can come from it: a producer is connected, or it has not ended (gauge).
    pub is_up: Cell,
    /// Producers that are connected to it (gauge).
    pub producers: Cell,
    /// Connections to it that were refused for want of a place.
    pub refused: Cell,
    /// Events that it brought.
    pub events: Cell,
    /// Lines of it that were refused.
    pub lines_bad: Cell,
    /// When its last event came, nanoseconds since the Unix epoch; 0: none has (gauge).
    pub event_ns: Cell,
}

impl SourceCounters {
    /// Every counter with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, &Cell); 6] {
        [
            ("is_up", &self.is_up),
            ("producers", &self.producers),
            ("refused", &self.refused),
            ("events", &self.events),
            ("lines_bad", &self.lines_bad),
            ("event_ns", &self.event_ns),
        ]
    }
}

/// Counters of the stream that events come from, if they come from one; the NATS thread writes
/// them.
#[derive(Debug, Default)]
pub struct StreamCounters {
    /// 1 while there is a connection and the stream (gauge).
    pub is_up: Cell,
    /// Messages that were read.
    pub messages: Cell,
    /// Messages that the stream has and that are still to be read (gauge).
    pub pending: Cell,
    /// The stream's first `seq`, a moment ago (gauge).
    pub first_seq: Cell,
    /// The stream's last `seq`, a moment ago (gauge).
    pub last_seq: Cell,
    /// Times that reading had to begin again, where it had come to.
    pub restarts: Cell,
    /// Messages that the stream had no longer when they were to be read.
    pub lost: Cell,
    /// Events that wait to be published, or for their acknowledgement (gauge).
    pub unsettled: Cell,
    /// Events that the stream has acknowledged.
    pub acknowledged: Cell,
    /// Those of them that it had already.
    pub duplicates: Cell,
    /// Events that were sent without asking for an acknowledgement.
    pub unacknowledged: Cell,
    /// Times that an event was sent again.
    pub retries: Cell,
    /// Events that the stream will not take.
    pub refused: Cell,
    /// Messages that were read again, for clients whose place is older than a log.
    pub read_back: Cell,
    /// Questions for such messages that had no answer.
    pub read_back_failures: Cell,
}

impl StreamCounters {
    /// Every counter with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, &Cell); 15] {
        [
            ("is_up", &self.is_up),
            ("messages", &self.messages),
            ("pending", &self.pending),
            ("first_seq", &self.first_seq),
            ("last_seq", &self.last_seq),
            ("restarts", &self.restarts),
            ("lost", &self.lost),
            ("unsettled", &self.unsettled),
            ("acknowledged", &self.acknowledged),
            ("duplicates", &self.duplicates),
            ("unacknowledged", &self.unacknowledged),
            ("retries", &self.retries),
            ("refused", &self.refused),
            ("read_back", &self.read_back),
            ("read_back_failures", &self.read_back_failures),
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
    /// Those that were given up by the peer.
    pub refused_gone: Cell,
    /// Events appended to the log.
    pub events: Cell,
    /// Data frames handed to the kernel in full, one for each event and client.
    pub deliveries: Cell,
    /// Sends made, io_uring and writer task together.
    pub sends: Cell,
    /// Bytes that the kernel took, before TLS.
    pub bytes_sent: Cell,
    /// Bytes by which records of TLS were longer than what is in them.
    pub tls_overhead_bytes: Cell,
    /// System calls of the flush.
    pub flush_calls: Cell,
    /// Connections waiting for a full socket (gauge).
    pub blocked: Cell,
    /// Connections that are sent what is read back from a stream (gauge).
    pub reading_back: Cell,
    /// Clients that wanted to be and for whom there was no room.
    pub read_backs_refused: Cell,
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
    /// Those of them that were whole.
    pub tls_full: Cell,
    /// Those of them that a ticket of an earlier session shortened.
    pub tls_resumed: Cell,
    /// TLS handshakes that failed.
    pub tls_failed: Cell,
    /// Bytes of frames kept beside the log (gauge).
    pub retained_bytes: Cell,
    /// Messages that were compressed, once for all clients that read them so.
    pub compressed: Cell,
    /// Messages that somebody would have read compressed, and that were not worth it.
    pub uncompressed: Cell,
    /// Bytes of both before.
    pub compression_bytes_in: Cell,
    /// Bytes of both after.
    pub compression_bytes_out: Cell,
    /// Commands from clients.
    pub commands: Cell,
    /// Batches waiting in the ring (gauge).
    pub ring_depth: Cell,
    /// Last `seq` appended (gauge).
    pub head_seq: Cell,
    /// Last `seq` up to which every client was sent everything (gauge).
    pub settled_seq: Cell,
    /// Bytes of the log that hold frames (gauge).
    pub log_bytes: Cell,
    /// Size of the log, bytes (gauge).
    pub log_capacity_bytes: Cell,
    /// Age of the oldest frame in the log, milliseconds (gauge).
    pub log_reach_ms: Cell,
    /// Longest turn of the fan-out loop since the start, microseconds (gauge).
    pub turn_us_max: Cell,
    /// Connections that ended, by reason.
    pub closes: Tally<{ CLOSES.len() }>,
    /// Loss receipts sent, by cause and policy.
    pub receipts: Grid,
    /// Events that loss receipts covered, by cause and policy.
    pub losses: Grid,
    /// Connections by what they read (gauges).
    pub encodings: Tally<{ ENCODINGS.len() }>,
    /// Connections at the last round of the sweep, by state (gauges).
    pub states: Tally<{ STATES.len() }>,
    /// Connections at the last round of the sweep, by how far they were behind (gauges).
    pub lags: Tally<{ LAGS.len() }>,
    /// Distributions.
    pub times: ShardHistograms,
    lag: Mutex<Option<hdrhistogram::Histogram<u64>>>,
}

impl ShardCounters {
    /// Every counter with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, &Cell); 45] {
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
            ("refused_gone", &self.refused_gone),
            ("events", &self.events),
            ("deliveries", &self.deliveries),
            ("sends", &self.sends),
            ("bytes_sent", &self.bytes_sent),
            ("tls_overhead_bytes", &self.tls_overhead_bytes),
            ("flush_calls", &self.flush_calls),
            ("blocked", &self.blocked),
            ("reading_back", &self.reading_back),
            ("read_backs_refused", &self.read_backs_refused),
            ("gaps", &self.gaps),
            ("missed", &self.missed),
            ("dropped", &self.dropped),
            ("tier_moves", &self.tier_moves),
            ("pings", &self.pings),
            ("heartbeats_missed", &self.heartbeats_missed),
            ("auth_failures", &self.auth_failures),
            ("rate_limited", &self.rate_limited),
            ("tls_handshakes", &self.tls_handshakes),
            ("tls_full", &self.tls_full),
            ("tls_resumed", &self.tls_resumed),
            ("tls_failed", &self.tls_failed),
            ("retained_bytes", &self.retained_bytes),
            ("compressed", &self.compressed),
            ("uncompressed", &self.uncompressed),
            ("compression_bytes_in", &self.compression_bytes_in),
            ("compression_bytes_out", &self.compression_bytes_out),
            ("commands", &self.commands),
            ("ring_depth", &self.ring_depth),
            ("head_seq", &self.head_seq),
            ("settled_seq", &self.settled_seq),
            ("log_bytes", &self.log_bytes),
            ("log_capacity_bytes", &self.log_capacity_bytes),
            ("log_reach_ms", &self.log_reach_ms),
            ("turn_us_max", &self.turn_us_max),
        ]
    }

    /// Adds an interval's latencies (ingest to the kernel, microseconds) and clears `local`.
    pub fn merge_lag(&self, local: &mut hdrhistogram::Histogram<u64>) {
        if local.is_empty() {
            return;
        }
        let mut shared = lock(&self.lag);
        shared.get_or_insert_with(new_lag).add(&*local).expect("both have the bounds of new_lag");
        local.reset();
    }

    /// Takes the latencies since the last call; none when there are none.
    pub(super) fn take_lag(&self) -> Option<hdrhistogram::Histogram<u64>> {
        lock(&self.lag).take()
    }
}

/// Distributions of one shard, recorded for each pass or turn, never for each delivery.
#[derive(Debug)]
pub struct ShardHistograms {
    /// Ingest of the oldest event of a pass's first sends until these were made, nanoseconds.
    pub first_send_ns: Histogram,
    /// The longest time in a pass from ingest until an event was sent, one for each send of the
    /// pass, nanoseconds.
    pub last_send_ns: Histogram,
    /// From the first to the last client of a pass, nanoseconds.
    pub spread_ns: Histogram,
    /// Sends of a pass.
    pub pass_sends: Histogram,
    /// Events of a send, the mean of a pass.
    pub send_events: Histogram,
    /// Ingest of a batch's first event until the shard took it, nanoseconds.
    pub ring_wait_ns: Histogram,
    /// Turns of the fan-out loop, nanoseconds.
    pub turn_ns: Histogram,
    /// Round trips to clients, as the kernel has measured them, microseconds.
    pub rtt_us: Histogram,
}

impl Default for ShardHistograms {
    fn default() -> Self {
        Self {
            first_send_ns: times(),
            last_send_ns: times(),
            spread_ns: times(),
            pass_sends: Histogram::new(0, 20),
            send_events: Histogram::new(0, 16),
            ring_wait_ns: times(),
            turn_ns: times(),
            rtt_us: Histogram::new(4, 26),
        }
    }
}

impl ShardHistograms {
    /// Every one with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, &Histogram); 8] {
        [
            ("first_send_ns", &self.first_send_ns),
            ("last_send_ns", &self.last_send_ns),
            ("spread_ns", &self.spread_ns),
            ("pass_sends", &self.pass_sends),
            ("send_events", &self.send_events),
            ("ring_wait_ns", &self.ring_wait_ns),
            ("turn_ns", &self.turn_ns),
            ("rtt_us", &self.rtt_us),
        ]
    }
}

/// A histogram of nanoseconds from a microsecond to a minute.
fn times() -> Histogram {
    Histogram::new(10, 36)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
