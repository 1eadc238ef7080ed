//! The lists of connections and channels as JSON.
//!
//! Not here: which are listed. Invariant: a credential is named by its id, subject or certificate,
//! never by its secret.

use serde::Serialize;

use crate::fanout::shard::inspect::{ChannelReport, ConnectionReport};
use crate::shell::mailbox::Listed;
use crate::shell::tcp_info::TcpInfo;

use super::pages::show_id;

/// By what connections are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Lag,
    Drops,
    Rtt,
}

#[derive(Serialize)]
struct Connections<'a> {
    /// Open connections of the server.
    total: u64,
    /// Shards that did not answer in time, whose connections are missing.
    shards_silent: &'a [usize],
    connections: Vec<Connection>,
}

#[derive(Serialize)]
struct Connection {
    id: String,
    shard: usize,
    address: Option<String>,
    identity: String,
    encoding: &'static str,
    state: &'static str,
    open_ms: u64,
    patterns: usize,
    channels: usize,
    tier_ms: Option<u64>,
    lag: Lag,
    owed_bytes: usize,
    receipts: u64,
    missed: u64,
    quiet_ms: u64,
    unsent_ms: u64,
    cipher: Option<String>,
    tcp: Option<Tcp>,
}

#[derive(Serialize)]
struct Lag {
    events: u64,
    bytes: u64,
    ms: u64,
}

#[derive(Serialize)]
struct Tcp {
    rtt_us: u32,
    rtt_variance_us: u32,
    retransmits: u32,
    unacked: u32,
    unsent_bytes: u32,
    window_bytes: u32,
    delivery_rate: u64,
    busy_us: u64,
    window_limited_us: u64,
    buffer_limited_us: u64,
    sent_bytes: u64,
}

#[derive(Serialize)]
struct Channels<'a> {
    /// Channels of the server.
    total: u64,
    channels: Vec<Channel<'a>>,
}

#[derive(Serialize)]
struct Channel<'a> {
    channel: &'a str,
    rate: u64,
    seq: u64,
    subscribers: u64,
}

/// The first `limit` of `rows` in `order`, with the shards that they are of.
pub(super) fn connections(
    mut rows: Vec<(usize, Listed)>,
    order: Order,
    limit: usize,
    total: u64,
    shards_silent: &[usize],
) -> String {
    let key = |listed: &Listed| match order {
        Order::Lag => listed.report.behind.ms,
        Order::Drops => listed.report.missed,
        Order::Rtt => listed.tcp.map_or(0, |tcp| u64::from(tcp.rtt_us)),
    };
    rows.sort_by_key(|(_, listed)| std::cmp::Reverse(key(listed)));
    rows.truncate(limit);
    let connections = rows.into_iter().map(|(shard, listed)| row(shard, listed)).collect();
    line(&Connections { total, shards_silent, connections })
}

/// Channels and how many connections have each in their sets.
pub(super) fn channels(reports: &[ChannelReport], subscribers: &[u64], total: u64) -> String {
    let rows = reports.iter().zip(subscribers).map(|(report, &subscribers)| Channel {
        channel: &report.name,
        rate: report.rate,
        seq: report.seq,
        subscribers,
    });
    line(&Channels { total, channels: rows.collect() })
}

fn row(shard: usize, listed: Listed) -> Connection {
    let ConnectionReport { id, identity, state, behind, .. } = listed.report;
    Connection {
        id: show_id(shard, id),
        shard,
        address: listed.peer.map(|peer| peer.to_string()),
        identity: identity.to_string(),
        encoding: listed.report.encoding,
        state,
        open_ms: listed.open_ms,
        patterns: listed.report.patterns,
        channels: listed.report.channels,
        tier_ms: listed.report.tier_ms,
        lag: Lag { events: behind.events, bytes: behind.bytes, ms: behind.ms },
        owed_bytes: listed.report.owed_bytes,
        receipts: listed.report.receipts,
        missed: listed.report.missed,
        quiet_ms: listed.report.quiet_ms,
        unsent_ms: listed.report.unsent_ms,
        cipher: listed.cipher,
        tcp: listed.tcp.map(Tcp::from),
    }
}

impl From<TcpInfo> for Tcp {
    fn from(info: TcpInfo) -> Self {
        Self {
            rtt_us: info.rtt_us,
            rtt_variance_us: info.rtt_variance_us,
            retransmits: info.retransmits,
            unacked: info.unacked,
            unsent_bytes: info.unsent_bytes,
            window_bytes: info.window_bytes,
            delivery_rate: info.delivery_rate,
            busy_us: info.busy_us,
            window_limited_us: info.window_limited_us,
            buffer_limited_us: info.buffer_limited_us,
            sent_bytes: info.sent_bytes,
        }
    }
}

fn line(rows: &impl Serialize) -> String {
    let mut line = simd_json::serde::to_string(rows).expect("all keys are strings");
    line.push('\n');
    line
}
