//! The table of metrics: name, unit, meaning, and where each is read.
//!
//! Not here: how they are written. Invariant: every counter of [`super::super::counters`] is in it.

use std::fmt;

use prometheus_client::metrics::MetricType::{Counter, Gauge};

use super::Read::{Build, ByLabel, Ingest, IngestTimes, Shard, Source, Stream, Times};
use super::{Metric, Read, Samples};
use crate::telemetry::ShardCounters;
use crate::telemetry::tally::{CLOSES, ENCODINGS, LAGS, STATES};

const NS: f64 = 1e-9;
const US: f64 = 1e-6;
const MS: f64 = 1e-3;

const SECONDS: Option<&str> = Some("seconds");
const BYTES: Option<&str> = Some("bytes");

const fn metric(
    name: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
    read: Read,
) -> Metric {
    Metric { name, unit, help, read }
}

/// Every metric, in the order of `/metrics` and of `docs/METRICS.md`.
pub const METRICS: &[Metric] = &[
    metric("fanfare_build", None, "Always 1; the label `version` is the program's", Build),
    metric(
        "fanfare_ingest_events",
        None,
        "Events that got a `seq`",
        Ingest(Counter, |ingest| &ingest.events),
    ),
    metric(
        "fanfare_ingest_lines_refused",
        None,
        "Lines of producers that were refused",
        Ingest(Counter, |ingest| &ingest.lines_bad),
    ),
    metric("fanfare_ingest", BYTES, "Bytes read from sources", Ingest(Counter, |i| &i.bytes)),
    metric(
        "fanfare_ingest_pauses",
        None,
        "Times that a full ring has made the sources wait",
        Ingest(Counter, |ingest| &ingest.pauses),
    ),
    metric(
        "fanfare_ingest_seq",
        None,
        "The last `seq` given",
        Ingest(Gauge, |ingest| &ingest.head_seq),
    ),
    metric(
        "fanfare_producers",
        None,
        "Producers connected; who has a credential still to show is none yet",
        Ingest(Gauge, |i| &i.producers),
    ),
    metric("fanfare_channels", None, "Channels known", Ingest(Gauge, |ingest| &ingest.channels)),
    metric(
        "fanfare_replays_broken",
        None,
        "Replays that ended early because a file could not be read on",
        Ingest(Counter, |ingest| &ingest.replays_broken),
    ),
    metric(
        "fanfare_journal",
        BYTES,
        "Bytes written to the journal",
        Ingest(Counter, |ingest| &ingest.journal_bytes),
    ),
    metric(
        "fanfare_journal_seq",
        None,
        "The last `seq` in the journal",
        Ingest(Gauge, |ingest| &ingest.journal_seq),
    ),
    metric(
        "fanfare_journal_degraded",
        None,
        "1 while the journal cannot be written and the feed goes on without it",
        Ingest(Gauge, |ingest| &ingest.journal_is_degraded),
    ),
    metric(
        "fanfare_journal_append",
        SECONDS,
        "Time that the journal took for a batch, before any client was sent it",
        IngestTimes(|ingest| &ingest.journal_append_ns, NS),
    ),
    metric(
        "fanfare_stream_up",
        None,
        "1 while the stream that events come from can be read",
        Stream(Gauge, |stream| &stream.is_up),
    ),
    metric(
        "fanfare_stream_messages",
        None,
        "Messages read from the stream",
        Stream(Counter, |stream| &stream.messages),
    ),
    metric(
        "fanfare_stream_pending",
        None,
        "Messages that the stream has and that are still to be read",
        Stream(Gauge, |stream| &stream.pending),
    ),
    metric(
        "fanfare_stream_first_seq",
        None,
        "The first `seq` that the stream has",
        Stream(Gauge, |stream| &stream.first_seq),
    ),
    metric(
        "fanfare_stream_last_seq",
        None,
        "The last `seq` that the stream has",
        Stream(Gauge, |stream| &stream.last_seq),
    ),
    metric(
        "fanfare_stream_restarts",
        None,
        "Times that reading began again, where it had come to: a lost connection, a new leader",
        Stream(Counter, |stream| &stream.restarts),
    ),
    metric(
        "fanfare_stream_lost",
        None,
        "Messages that the stream had no longer when they were to be read",
        Stream(Counter, |stream| &stream.lost),
    ),
    metric(
        "fanfare_stream_unsettled",
        None,
        "Events that wait to be published to the stream, or for its acknowledgement",
        Stream(Gauge, |stream| &stream.unsettled),
    ),
    metric(
        "fanfare_stream_acknowledged",
        None,
        "Events that the stream has acknowledged",
        Stream(Counter, |stream| &stream.acknowledged),
    ),
    metric(
        "fanfare_stream_duplicates",
        None,
        "Acknowledged events that the stream had already",
        Stream(Counter, |stream| &stream.duplicates),
    ),
    metric(
        "fanfare_stream_unacknowledged",
        None,
        "Events published without asking for an acknowledgement",
        Stream(Counter, |stream| &stream.unacknowledged),
    ),
    metric(
        "fanfare_stream_retries",
        None,
        "Times that an event was published again, because no acknowledgement came",
        Stream(Counter, |stream| &stream.retries),
    ),
    metric(
        "fanfare_stream_refused",
        None,
        "Events that the stream will not take",
        Stream(Counter, |stream| &stream.refused),
    ),
    metric(
        "fanfare_stream_read_back",
        None,
        "Messages read again from the stream, for clients whose place is older than a core's log",
        Stream(Counter, |stream| &stream.read_back),
    ),
    metric(
        "fanfare_stream_read_back_failures",
        None,
        "Passages that were to be read again and that the stream did not give",
        Stream(Counter, |stream| &stream.read_back_failures),
    ),
    metric(
        "fanfare_source_up",
        None,
        "1 while a producer is connected to the source, or while its file or pipe has not ended",
        Source(Gauge, |source| &source.is_up, 1.0),
    ),
    metric(
        "fanfare_source_producers",
        None,
        "Producers connected to the source",
        Source(Gauge, |source| &source.producers, 1.0),
    ),
    metric(
        "fanfare_source_refused",
        None,
        "Connections to the source that were refused for want of a place",
        Source(Counter, |source| &source.refused, 1.0),
    ),
    metric(
        "fanfare_source_events",
        None,
        "Events that the source brought",
        Source(Counter, |source| &source.events, 1.0),
    ),
    metric(
        "fanfare_source_lines_refused",
        None,
        "Lines of the source that were refused",
        Source(Counter, |source| &source.lines_bad, 1.0),
    ),
    metric(
        "fanfare_source_last_event_timestamp",
        SECONDS,
        "Unix time of the source's last event; 0 before the first",
        Source(Gauge, |source| &source.event_ns, NS),
    ),
    metric(
        "fanfare_connections",
        None,
        "Open connections",
        Shard(Gauge, |shard| &shard.connections, 1.0),
    ),
    metric(
        "fanfare_subscribed",
        None,
        "Connections that have subscribed to something",
        Shard(Gauge, |shard| &shard.subscribed, 1.0),
    ),
    metric(
        "fanfare_connections_by_encoding",
        None,
        "Open connections by the `encoding` that they read",
        ByLabel(Gauge, encodings),
    ),
    metric(
        "fanfare_connections_by_state",
        None,
        "Connections by `state`, as the last round of the sweep (a second) found them",
        ByLabel(Gauge, states),
    ),
    metric(
        "fanfare_connections_by_lag",
        None,
        "Connections by how far they are behind, at the last round of the sweep: `lag` is an upper \
        bound of the age of the oldest event that they are still to be sent",
        ByLabel(Gauge, lags),
    ),
    metric(
        "fanfare_blocked",
        None,
        "Connections that wait for a full socket",
        Shard(Gauge, |shard| &shard.blocked, 1.0),
    ),
    metric(
        "fanfare_reading_back",
        None,
        "Connections that are sent what is read back from the stream",
        Shard(Gauge, |shard| &shard.reading_back, 1.0),
    ),
    metric(
        "fanfare_read_backs_refused",
        None,
        "Clients that got a snapshot, because too many others were reading back",
        Shard(Counter, |shard| &shard.read_backs_refused, 1.0),
    ),
    metric(
        "fanfare_handshakes_in_progress",
        None,
        "Handshakes under way",
        Shard(Gauge, |shard| &shard.handshakes, 1.0),
    ),
    metric(
        "fanfare_upgrades",
        None,
        "Clients that came in: WebSockets and event streams that were opened",
        Shard(Counter, |shard| &shard.opened, 1.0),
    ),
    metric(
        "fanfare_upgrades_refused",
        None,
        "Upgrade requests that were refused, by `reason`; `gone`: given up by the peer",
        ByLabel(Counter, refusals),
    ),
    metric(
        "fanfare_tls_handshakes",
        None,
        "TLS handshakes that were done, by `kind`: `full`, or `resumed` with a ticket",
        ByLabel(Counter, handshakes),
    ),
    metric(
        "fanfare_tls_handshakes_failed",
        None,
        "TLS handshakes that failed",
        Shard(Counter, |shard| &shard.tls_failed, 1.0),
    ),
    metric("fanfare_closes", None, "Connections that ended, by `reason`", ByLabel(Counter, closes)),
    metric(
        "fanfare_receipts",
        None,
        "Loss receipts sent, by `cause` and `policy`",
        ByLabel(Counter, receipts),
    ),
    metric(
        "fanfare_missed_events",
        None,
        "Events that loss receipts covered, by `cause` and `policy`",
        ByLabel(Counter, losses),
    ),
    metric(
        "fanfare_subscriptions_dropped",
        None,
        "Subscriptions that the server has ended: policy `unsubscribe`, or other access rules",
        Shard(Counter, |shard| &shard.dropped, 1.0),
    ),
    metric(
        "fanfare_tier_moves",
        None,
        "Moves of clients between tiers",
        Shard(Counter, |shard| &shard.tier_moves, 1.0),
    ),
    metric("fanfare_commands", None, "Commands of clients", Shard(Counter, |s| &s.commands, 1.0)),
    metric(
        "fanfare_rate_limited",
        None,
        "Messages of clients over the allowed rate",
        Shard(Counter, |shard| &shard.rate_limited, 1.0),
    ),
    metric(
        "fanfare_auth_failures",
        None,
        "Credentials that were not good",
        Shard(Counter, |shard| &shard.auth_failures, 1.0),
    ),
    metric("fanfare_pings", None, "Pings to quiet clients", Shard(Counter, |s| &s.pings, 1.0)),
    metric(
        "fanfare_pings_unanswered",
        None,
        "Pings that were not answered in time",
        Shard(Counter, |shard| &shard.heartbeats_missed, 1.0),
    ),
    metric(
        "fanfare_log_events",
        None,
        "Events appended to the log",
        Shard(Counter, |shard| &shard.events, 1.0),
    ),
    metric(
        "fanfare_head_seq",
        None,
        "The last `seq` in the log",
        Shard(Gauge, |shard| &shard.head_seq, 1.0),
    ),
    metric(
        "fanfare_settled_seq",
        None,
        "The last `seq` up to which every client was sent everything",
        Shard(Gauge, |shard| &shard.settled_seq, 1.0),
    ),
    metric(
        "fanfare_log_used",
        BYTES,
        "The log's frames of JSON",
        Shard(Gauge, |s| &s.log_bytes, 1.0),
    ),
    metric(
        "fanfare_log_capacity",
        BYTES,
        "The log's size",
        Shard(Gauge, |shard| &shard.log_capacity_bytes, 1.0),
    ),
    metric(
        "fanfare_log_reach",
        SECONDS,
        "Age of the oldest frame in the log: how far a client may be behind and miss nothing",
        Shard(Gauge, |shard| &shard.log_reach_ms, MS),
    ),
    metric(
        "fanfare_retained",
        BYTES,
        "Frames of JSON that are kept beside the log",
        Shard(Gauge, |shard| &shard.retained_bytes, 1.0),
    ),
    metric(
        "fanfare_compressed_messages",
        None,
        "Messages that were compressed, once for all clients of the core that read them so",
        Shard(Counter, |shard| &shard.compressed, 1.0),
    ),
    metric(
        "fanfare_uncompressed_messages",
        None,
        "Messages that such clients read uncompressed, because that is hardly longer",
        Shard(Counter, |shard| &shard.uncompressed, 1.0),
    ),
    metric(
        "fanfare_compression_in",
        BYTES,
        "Both of them, before",
        Shard(Counter, |shard| &shard.compression_bytes_in, 1.0),
    ),
    metric(
        "fanfare_compression_out",
        BYTES,
        "Both of them, after",
        Shard(Counter, |shard| &shard.compression_bytes_out, 1.0),
    ),
    metric(
        "fanfare_ring_batches",
        None,
        "Batches that wait in the ring",
        Shard(Gauge, |shard| &shard.ring_depth, 1.0),
    ),
    metric(
        "fanfare_ring_wait",
        SECONDS,
        "From the ingest of a batch's first event until the shard took the batch",
        Times(|times| &times.ring_wait_ns, NS),
    ),
    metric(
        "fanfare_first_send",
        SECONDS,
        "From the ingest of the oldest event of a pass's first sends until these were made (up to \
        256 in one system call)",
        Times(|times| &times.first_send_ns, NS),
    ),
    metric(
        "fanfare_last_send",
        SECONDS,
        "The longest time in a pass from the ingest of an event until it was sent, one for each \
        send of the pass: no client was sent an event later",
        Times(|times| &times.last_send_ns, NS),
    ),
    metric(
        "fanfare_spread",
        SECONDS,
        "From the first clients of a pass to the last",
        Times(|times| &times.spread_ns, NS),
    ),
    metric(
        "fanfare_pass_sends",
        None,
        "Sends of a pass with events",
        Times(|times| &times.pass_sends, 1.0),
    ),
    metric(
        "fanfare_send_events",
        None,
        "Events of a send: the mean of each pass",
        Times(|times| &times.send_events, 1.0),
    ),
    metric("fanfare_turn", SECONDS, "Turns of the fan-out loop", Times(|times| &times.turn_ns, NS)),
    metric(
        "fanfare_turn_max",
        SECONDS,
        "The longest turn of the fan-out loop since the start",
        Shard(Gauge, |shard| &shard.turn_us_max, US),
    ),
    metric(
        "fanfare_deliveries",
        None,
        "Data frames handed to the kernel in full, one for each event and client",
        Shard(Counter, |shard| &shard.deliveries, 1.0),
    ),
    metric("fanfare_sends", None, "Sends to clients", Shard(Counter, |s| &s.sends, 1.0)),
    metric(
        "fanfare_flush_calls",
        None,
        "System calls that the flush made its sends with",
        Shard(Counter, |shard| &shard.flush_calls, 1.0),
    ),
    metric(
        "fanfare_sent",
        BYTES,
        "Bytes that the kernel took, before TLS",
        Shard(Counter, |shard| &shard.bytes_sent, 1.0),
    ),
    metric(
        "fanfare_wire",
        BYTES,
        "The same after TLS: what goes over the wire, without TCP and IP",
        ByLabel(Counter, |shard, each| {
            each(&[], shard.bytes_sent.value() + shard.tls_overhead_bytes.value())
        }),
    ),
    metric(
        "fanfare_client_rtt",
        SECONDS,
        "Round trips to clients as the kernel has measured them, a few clients sampled at each \
        tick",
        Times(|times| &times.rtt_us, US),
    ),
];

fn states(shard: &ShardCounters, each: &mut Samples<'_>) -> fmt::Result {
    let mut states = STATES.iter().enumerate();
    states.try_for_each(|(at, state)| each(&[("state", state)], shard.states.at(at).value()))?;
    each(&[("state", "handshaking")], shard.handshakes.value())
}

fn encodings(shard: &ShardCounters, each: &mut Samples<'_>) -> fmt::Result {
    let mut encodings = ENCODINGS.iter().enumerate();
    encodings.try_for_each(|(at, encoding)| {
        each(&[("encoding", encoding)], shard.encodings.at(at).value())
    })
}

fn lags(shard: &ShardCounters, each: &mut Samples<'_>) -> fmt::Result {
    let mut lags = LAGS.iter().enumerate();
    lags.try_for_each(|(at, lag)| each(&[("lag", lag)], shard.lags.at(at).value()))
}

fn closes(shard: &ShardCounters, each: &mut Samples<'_>) -> fmt::Result {
    let mut closes = CLOSES.iter().enumerate();
    closes.try_for_each(|(at, reason)| each(&[("reason", reason)], shard.closes.at(at).value()))
}

fn refusals(shard: &ShardCounters, each: &mut Samples<'_>) -> fmt::Result {
    let reasons = [
        ("capacity", shard.refused_capacity.value()),
        ("limit", shard.refused_limit.value()),
        ("access", shard.refused_access.value()),
        ("request", shard.refused_request.value()),
        ("gone", shard.refused_gone.value()),
    ];
    reasons.into_iter().try_for_each(|(reason, count)| each(&[("reason", reason)], count))
}

fn handshakes(shard: &ShardCounters, each: &mut Samples<'_>) -> fmt::Result {
    each(&[("kind", "full")], shard.tls_full.value())?;
    each(&[("kind", "resumed")], shard.tls_resumed.value())
}

fn receipts(shard: &ShardCounters, each: &mut Samples<'_>) -> fmt::Result {
    let mut cells = shard.receipts.cells();
    cells.try_for_each(|(cause, policy, cell)| {
        each(&[("cause", cause), ("policy", policy)], cell.value())
    })
}

fn losses(shard: &ShardCounters, each: &mut Samples<'_>) -> fmt::Result {
    let mut cells = shard.losses.cells();
    cells.try_for_each(|(cause, policy, cell)| {
        each(&[("cause", cause), ("policy", policy)], cell.value())
    })
}
