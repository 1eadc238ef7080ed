//! What one round of one scenario against one server came to.
//!
//! Not here: how it is measured, and how it is shown. Invariant: every figure has its unit in its
//! name, and one that was not measured is `None`, never zero.

use serde::{Deserialize, Serialize};

/// One round. A run is a list of them, `rounds.json` in its folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The server's name (`fanfare`, `floor`, a peer's), which identifies it in a run.
    pub server: String,
    /// The server as it names itself, with its version.
    pub server_version: String,
    /// How it was started.
    pub server_command: String,
    /// Counted from 1; rounds of all servers take turns.
    pub round: u32,
    /// When the measured part began (RFC 3339).
    pub began: String,
    /// How long the measured part took.
    pub seconds: f64,
    /// Subscribers.
    pub clients: u64,
    /// Bytes of an event's payload.
    pub payload_bytes: u64,
    /// Events that should have been sent each second.
    pub intended_events_per_s: f64,
    /// Events sent in the measured part.
    pub events: u64,
    /// Messages that subscribers received of them.
    pub deliveries: u64,
    /// Messages that they should have received.
    pub expected: u64,
    /// Messages that came twice.
    pub duplicates: u64,
    /// Messages that never came, although nobody was told (a server's own receipt counts as told).
    pub lost: u64,
    /// Messages that did not come, and the client was told so.
    pub told_missing: u64,
    /// Connections that ended before the round did.
    pub disconnected: u64,
    /// From the intended time of an event to the last byte of it at a client.
    pub latency_us: Quantiles,
    /// From the first client of an event to its last.
    pub spread_us: Option<Quantiles>,
    /// Deliveries of a client.
    pub fairness: Option<Fairness>,
    /// What the server used.
    pub server_use: Use,
    /// What the load generator used.
    pub load_use: Use,
    /// Memory, at the end of the measured part.
    pub memory: Memory,
    /// The measured part, second by second.
    pub series: Vec<Second>,
    /// Figures that only this scenario has (`recovery_s`, `leak_bytes_per_min`, `capacity`, …).
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Why this round does not count; empty: it does.
    pub invalid: Vec<String>,
    /// What of it is the server's doing: it ended, or did nothing any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<String>,
}

impl Outcome {
    /// Whether the round counts.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.invalid.is_empty()
    }

    /// Notes that the server itself has spoilt the round.
    pub fn fail(&mut self, why: String) {
        self.invalid.push(why.clone());
        self.broken.push(why);
    }

    /// Notes what the server did not manage. In a round that something else has spoilt it is not
    /// known whose doing that was.
    pub fn fell_short(&mut self, why: String) {
        if self.is_valid() { self.fail(why) } else { self.invalid.push(why) }
    }

    /// Why the round does not count, but for what the server did.
    pub fn spoilt(&self) -> impl Iterator<Item = &String> {
        self.invalid.iter().filter(|why| !self.broken.contains(why))
    }

    /// Takes over what went wrong in another part of the round, which is named.
    pub fn inherit(&mut self, part: &str, other: &Self) {
        self.lost += other.lost;
        self.told_missing += other.told_missing;
        self.duplicates += other.duplicates;
        self.disconnected += other.disconnected;
        let in_part = |whys: &[String]| -> Vec<String> {
            whys.iter().map(|why| format!("{part}: {why}")).collect()
        };
        self.invalid.extend(in_part(&other.invalid));
        self.broken.extend(in_part(&other.broken));
    }

    /// Messages that came in the measured time, which is what its CPU time was spent on. Of a
    /// server that falls behind they are fewer than the deliveries, which may come long after its
    /// end.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        if self.series.is_empty() {
            return self.deliveries;
        }
        self.series.iter().map(|second| second.deliveries).sum()
    }
}

/// Quantiles of a histogram, in µs.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// How evenly clients were served.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Fairness {
    /// Deliveries of the client that got fewest, of the median one and of the one that got most.
    pub min: u64,
    pub median: u64,
    pub max: u64,
    /// The mean place of a client among all, for each event, as a share of 0 (first) to 1 (last):
    /// that of the client served earliest on average, and of the one served latest. Where the order
    /// rotates both are near 0.5.
    pub rank_min: f64,
    pub rank_max: f64,
}

/// What a process used in the measured part.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Use {
    pub user_s: f64,
    pub system_s: f64,
    /// Of the CPUs that it was given, from 0 to 1; of a load that does not sleep, of its busiest
    /// thread.
    pub busy: f64,
    pub switches_voluntary: u64,
    pub switches_involuntary: u64,
    /// System calls for each delivery, where they could be counted.
    pub syscalls_per_delivery: Option<f64>,
}

/// What the server and its sockets hold.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Anonymous memory of the server before the first client, and with all of them.
    pub user_bytes_before: u64,
    pub user_bytes: u64,
    /// Buffers of all TCP sockets of the host (both ends), `mem` of `/proc/net/sockstat`.
    pub socket_bytes: u64,
}

/// One second of the measured part.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Second {
    pub at_s: f64,
    pub events: u64,
    /// Messages that came in it, also of events before the measured part (before 2026-11-28 only
    /// of those in it).
    pub deliveries: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    pub server_busy: f64,
    pub load_busy: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_in_another_part_is_the_rounds() {
        let mut before = Outcome { lost: 3, disconnected: 1, ..Outcome::default() };
        before.invalid.push("others".into());
        before.fail("it ended".into());
        let mut round = Outcome { lost: 1, ..Outcome::default() };
        round.inherit("before", &before);
        assert_eq!((round.lost, round.disconnected), (4, 1));
        assert_eq!(round.invalid, ["before: others", "before: it ended"]);
        assert_eq!(round.broken, ["before: it ended"]);
        assert_eq!(round.spoilt().collect::<Vec<_>>(), ["before: others"]);
    }
}
