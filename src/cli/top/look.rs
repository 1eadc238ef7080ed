//! One look at a server over its admin address, and what happened between two.
//!
//! Only the fields that are shown are read; others may come without harm. Not here: asking
//! (`super`), and drawing (`board`). Invariant: rates are over the server's own time.

use serde::Deserialize;

use crate::cli::buckets::Buckets;

/// `/stats`, `/channels` and `/connections`, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The counters.
    pub stats: Stats,
    /// The busiest channels.
    pub channels: Vec<Channel>,
    /// The first connections of the order that was asked for.
    pub connections: Vec<Connection>,
}

/// What is read of `/stats`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Stats {
    /// The server.
    pub server: Server,
    /// Counters of the ingest thread.
    pub ingest: Ingest,
    /// Counters of each core.
    pub shards: Vec<Shard>,
}

/// What a server is.
#[derive(Debug, Clone, Default, Deserialize)]
#[expect(missing_docs, reason = "named as in docs/METRICS.md")]
pub struct Server {
    pub version: String,
    pub pid: u32,
    pub node: String,
    pub epoch: String,
    pub state: String,
    pub uptime_ms: u64,
    pub ring_batches: u64,
}

/// Counters of the ingest thread.
#[derive(Debug, Clone, Default, Deserialize)]
#[expect(missing_docs, reason = "named as in docs/METRICS.md")]
pub struct Ingest {
    pub events: u64,
    pub lines_bad: u64,
    pub channels: u64,
}

/// Counters of a core.
#[derive(Debug, Clone, Default, Deserialize)]
#[expect(missing_docs, reason = "named as in docs/METRICS.md")]
pub struct Shard {
    pub connections: u64,
    pub blocked: u64,
    pub deliveries: u64,
    pub bytes_sent: u64,
    pub missed: u64,
    pub ring_depth: u64,
    pub log_bytes: u64,
    pub log_capacity_bytes: u64,
    pub histograms: Histograms,
}

/// Distributions of a core.
#[derive(Debug, Clone, Default, Deserialize)]
#[expect(missing_docs, reason = "named as in docs/METRICS.md")]
pub struct Histograms {
    pub last_send_ns: Times,
    pub turn_ns: Times,
}

/// A distribution of times, nanoseconds.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Times {
    /// Their sum.
    pub sum: u64,
    /// How many there are of each size.
    pub buckets: Buckets,
}

/// What is read of `/channels`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Channels {
    /// The busiest first.
    pub channels: Vec<Channel>,
}

/// A channel.
#[derive(Debug, Clone, Default, Deserialize)]
#[expect(missing_docs, reason = "named as in docs/METRICS.md")]
pub struct Channel {
    pub channel: String,
    pub rate: u64,
    pub seq: u64,
    pub subscribers: u64,
}

/// What is read of `/connections`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Connections {
    /// In the order that was asked for.
    pub connections: Vec<Connection>,
}

/// A connection.
#[derive(Debug, Clone, Default, Deserialize)]
#[expect(missing_docs, reason = "named as in docs/METRICS.md")]
pub struct Connection {
    pub id: String,
    pub address: Option<String>,
    pub identity: String,
    pub state: String,
    pub lag: Lag,
    pub missed: u64,
    pub tcp: Option<Tcp>,
}

/// How far a connection is behind.
#[derive(Debug, Clone, Default, Deserialize)]
#[expect(missing_docs, reason = "named as in docs/METRICS.md")]
pub struct Lag {
    pub events: u64,
    pub bytes: u64,
    pub ms: u64,
}

/// What the kernel says of a connection.
#[derive(Debug, Clone, Default, Deserialize)]
#[expect(missing_docs, reason = "named as in docs/METRICS.md")]
pub struct Tcp {
    pub rtt_us: u64,
}

/// What happened between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    /// Events in, a second.
    pub events: f64,
    /// Deliveries, a second.
    pub deliveries: f64,
    /// Bytes sent, a second.
    pub bytes: f64,
    /// Median and 99th percentile of the time from ingest to the last client, nanoseconds.
    pub lag_ns: Option<(u64, u64)>,
    /// Each core's part.
    pub cores: Vec<CoreRates>,
}

/// What a core did between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CoreRates {
    /// Deliveries, a second.
    pub deliveries: f64,
    /// The part of the time in turns of the fan-out loop.
    pub busy: f64,
    /// The longest of them, nanoseconds, as the bound of its bucket.
    pub longest_ns: Option<u64>,
}

impl Stats {
    /// A counter over all cores.
    #[must_use]
    pub fn sum(&self, counter: fn(&Shard) -> u64) -> u64 {
        self.shards.iter().map(counter).sum()
    }

    /// What happened since `before`; none if that was another process, or no time has passed.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    pub fn since(&self, before: &Self) -> Option<Rates> {
        let is_same = self.server.pid == before.server.pid
            && self.server.epoch == before.server.epoch
            && self.shards.len() == before.shards.len();
        let ms = self.server.uptime_ms.checked_sub(before.server.uptime_ms);
        let seconds = ms.filter(|&ms| is_same && ms > 0)? as f64 / 1e3;
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let mut lags = Buckets::default();
        let cores = self.shards.iter().zip(&before.shards).map(|(now, then)| {
            let (turns, turns_then) = (&now.histograms.turn_ns, &then.histograms.turn_ns);
            let (last, last_then) = (&now.histograms.last_send_ns, &then.histograms.last_send_ns);
            lags.add(&last.buckets.since(&last_then.buckets));
            CoreRates {
                deliveries: rate(now.deliveries, then.deliveries),
                busy: (rate(turns.sum, turns_then.sum) / 1e9).min(1.0),
                longest_ns: turns.buckets.since(&turns_then.buckets).quantile(1.0),
            }
        });
        let cores = cores.collect();
        let sum_rate = |counter: fn(&Shard) -> u64| rate(self.sum(counter), before.sum(counter));
        Some(Rates {
            events: rate(self.ingest.events, before.ingest.events),
            deliveries: sum_rate(|shard| shard.deliveries),
            bytes: sum_rate(|shard| shard.bytes_sent),
            lag_ns: lags.quantile(0.5).zip(lags.quantile(0.99)),
            cores,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(pid: u32, uptime_ms: u64, events: u64, fast: u64, slow: u64) -> Stats {
        let mut text = format!(
            r#"{{"server":{{"version":"1","pid":{pid},"node":"n","epoch":"E","state":"ready",
            "uptime_ms":{uptime_ms},"listen":"127.0.0.1:1","tls":null,"ring_batches":64}},
            "ingest":{{"events":{events},"lines_bad":0,"channels":2,"new":1}},"shards":[{{
            "connections":3,"blocked":0,"deliveries":{},"bytes_sent":0,"missed":0,"ring_depth":0,
            "log_bytes":1,"log_capacity_bytes":4,"histograms":{{
            "last_send_ns":{{"sum":0,"p50":null,"buckets":[[1000,{fast}],[null,{slow}]]}},
            "turn_ns":{{"sum":{},"buckets":[[2000,{fast}]]}}}}}}]}}"#,
            events * 3,
            uptime_ms * 250_000
        )
        .into_bytes();
        simd_json::serde::from_slice(&mut text).unwrap()
    }

    #[test]
    fn rates_are_differences_over_the_servers_time() {
        let (before, after) = (stats(1, 1_000, 100, 10, 0), stats(1, 3_000, 500, 109, 1));
        let rates = after.since(&before).unwrap();
        assert_eq!((rates.events, rates.deliveries), (200.0, 600.0));
        assert_eq!(rates.lag_ns, Some((1_000, 1_000)));
        let core = CoreRates { deliveries: 600.0, busy: 0.25, longest_ns: Some(2_000) };
        assert_eq!(rates.cores, [core]);
        let slower = stats(1, 4_000, 500, 110, 10);
        assert_eq!(slower.since(&after).unwrap().lag_ns, Some((u64::MAX, u64::MAX)));
    }

    #[test]
    fn another_process_and_no_time_are_no_interval() {
        let first = stats(1, 1_000, 100, 10, 0);
        assert_eq!(first.since(&first), None);
        assert_eq!(stats(2, 2_000, 100, 10, 0).since(&first), None);
        let quiet = stats(1, 2_000, 100, 10, 0).since(&first).unwrap();
        assert_eq!((quiet.lag_ns, quiet.cores[0].longest_ns), (None, None));
    }
}
