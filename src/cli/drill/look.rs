//! One look at `/stats`: the sums that a drill is judged by.
//!
//! Not here: what is made of two of them. Invariant: all but the gauges only grow.

use serde::Deserialize;

use crate::cli::buckets::Buckets;
use crate::cli::failure::Failure;
use crate::cli::operator::failed;
use crate::shell::inquiry::Inquiry;

/// What a server has done so far, and how many clients it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Gauges: open connections, and those with a subscription.
    pub(super) connections: u64,
    pub(super) subscribed: u64,
    pub(super) opened: u64,
    pub(super) drilled: u64,
    pub(super) tls_handshakes: u64,
    pub(super) tls_resumed: u64,
    /// Sends by the time from ingest to the last one of their pass, nanoseconds.
    last_send: Buckets,
}

#[derive(Deserialize)]
struct Stats {
    shards: Vec<Shard>,
}

#[derive(Deserialize)]
struct Shard {
    connections: u64,
    subscribed: u64,
    opened: u64,
    tls_handshakes: u64,
    tls_resumed: u64,
    closes: Closes,
    histograms: Histograms,
}

#[derive(Deserialize)]
struct Closes {
    drill: u64,
}

#[derive(Deserialize)]
struct Histograms {
    last_send_ns: Histogram,
}

#[derive(Deserialize)]
struct Histogram {
    buckets: Buckets,
}

impl Look {
    /// Looks at a server.
    ///
    /// # Errors
    /// It cannot be reached, refuses, or is no server of this version.
    pub(super) fn at(admin: &Inquiry) -> Result<Self, Failure> {
        let mut body = admin.ask("GET", "/stats").map_err(failed)?;
        Self::read(&mut body)
            .map_err(|error| Failure::Run(format!("{}: /stats: {error}", admin.address())))
    }

    fn read(body: &mut [u8]) -> Result<Self, simd_json::Error> {
        let stats: Stats = simd_json::serde::from_slice(body)?;
        let mut look = Self::default();
        for shard in stats.shards {
            look.connections += shard.connections;
            look.subscribed += shard.subscribed;
            look.opened += shard.opened;
            look.drilled += shard.closes.drill;
            look.tls_handshakes += shard.tls_handshakes;
            look.tls_resumed += shard.tls_resumed;
            look.last_send.add(&shard.histograms.last_send_ns.buckets);
        }
        Ok(look)
    }

    /// Whether it is a later look at the same process: what it has done so far only grows.
    pub(super) const fn follows(&self, before: &Self) -> bool {
        self.opened >= before.opened
            && self.drilled >= before.drilled
            && self.tls_handshakes >= before.tls_handshakes
            && self.tls_resumed >= before.tls_resumed
    }

    /// A bound that 99 in 100 sends since `before` did not pass, microseconds; none without sends.
    pub(super) fn last_send_p99_us(&self, before: &Self) -> Option<u64> {
        let p99_ns = self.last_send.since(&before.last_send).quantile(0.99);
        p99_ns.map(|ns| ns / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Telemetry;

    #[test]
    fn two_looks_at_a_server_tell_what_happened_between_them() {
        let telemetry = Telemetry::new(2);
        let look = || Look::read(&mut telemetry.to_json(&()).into_bytes()).unwrap();
        for shard in &telemetry.shards {
            shard.times.last_send_ns.record_n(1 << 12, 1_000);
            shard.opened.add(5);
        }
        let before = look();
        telemetry.shards[0].times.last_send_ns.record_n(1 << 20, 98);
        telemetry.shards[1].times.last_send_ns.record_n(1 << 30, 2);
        telemetry.shards[1].opened.add(7);
        telemetry.shards[1].subscribed.set(3);
        let after = look();
        assert_eq!((before.opened, after.opened, after.subscribed), (10, 17, 3));
        assert_eq!(before.last_send_p99_us(&Look::default()), Some(4));
        assert_eq!(after.last_send_p99_us(&before), Some((1 << 30) / 1_000));
        assert_eq!(after.last_send_p99_us(&after), None);
        assert!(after.follows(&before) && !before.follows(&after));
    }
}
