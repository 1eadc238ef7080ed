//! What the coordinator and the subscribers' processes say to each other: one JSON line each.
//!
//! Not here: doing it. Invariant: every order but [`Order::Window`] and [`Order::Quit`] is
//! answered, by each process, in their order; [`Answer::Progress`] may come before any answer.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::scenario::Readers;
use crate::server::Subscribe;

/// From the coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Open all connections, and subscribe unless the plan says later: [`Answer::Ready`].
    Connect(Box<Plan>),
    /// Subscribe now: [`Answer::Ready`].
    Subscribe,
    /// From here on, count events of this time only.
    Window(Window),
    /// [`Answer::Count`].
    Count,
    /// All clients but those that stay are gone, and come back: [`Answer::Ready`] at once.
    Drop { jitter_s: f64 },
    /// What came of the window, when the newest events of all channels are these:
    /// [`Answer::Report`].
    Report { newest: Vec<u64> },
    /// The end.
    Quit,
}

/// Who the clients of a process are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub server: SocketAddr,
    pub kind: Subscribe,
    pub path: String,
    /// Where events are published, for NATS.
    pub subject: String,
    /// Messages may be compressed.
    pub deflate: bool,
    /// With TLS: what to trust.
    pub certificate: Option<String>,
    pub payload_bytes: usize,
    /// One thread on each.
    pub cpus: Vec<usize>,
    /// The first client's number, and how many there are.
    pub first: u64,
    pub count: u64,
    pub channels: u64,
    pub channels_per_client: u64,
    /// Clients want different mixtures of channels.
    pub mixed: bool,
    pub stalled: f64,
    /// So many clients, those with the lowest numbers, stay in a storm, and only they are measured.
    pub stay: Option<u64>,
    /// Of this process.
    pub churn_per_s: f64,
    pub changes_per_s: f64,
    /// See [`crate::continuity::Ledger::take`].
    pub stride: u64,
    /// Subscribe as soon as connected.
    pub subscribe: bool,
    /// From the first window on.
    pub readers: Readers,
}

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub from_ns: u64,
    pub to_ns: u64,
    /// Of so many events, one is followed to all clients.
    pub sample_every: u64,
}

/// From a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Progress {
        live: u64,
    },
    Ready,
    Count(Count),
    /// One of each thread.
    Report(Vec<Report>),
    Failed(String),
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Messages of the window.
    pub deliveries: u64,
    /// Clients that were dropped and have not received a message since.
    pub away: u64,
    /// When the last of them did.
    pub back_ns: u64,
    pub disconnected: u64,
}

/// What came of a window, at the clients of one thread.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    pub deliveries: u64,
    pub duplicates: u64,
    /// What did not come since the last report, and what of it the server has told.
    pub missing: u64,
    pub told: u64,
    /// What did not come and was not told, each client for itself.
    pub lost: u64,
    pub disconnected: u64,
    /// Attempts to come back that failed.
    pub refused: u64,
    /// V2, deflated, base64: ns of the window's events until they were read, in µs.
    pub latency: String,
    /// By second of arrival.
    pub seconds: Vec<Arrived>,
    /// Sampled events.
    pub sampled: Vec<Followed>,
    /// Deliveries of each measured client.
    pub by_client: Vec<u64>,
    /// Their mean places, of those that have one: the lowest and the highest.
    pub rank: Option<(f64, f64)>,
}

/// An event that is followed from its first client to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    pub number: u64,
    /// Its first and its last arrival here, and how many there were.
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u32,
}

/// A second of one thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// What came in it, also of events that were meant for the time before the window.
    pub deliveries: u64,
    /// As [`Report::latency`]; empty when nothing of the window came.
    pub latency: String,
    /// For how long the thread asked in vain, if it does not sleep.
    pub idle_ns: u64,
}

/// Whether this client is one of the share that stops reading; they are spread evenly.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "clients are few")]
pub fn is_stalled(client: u64, share: f64) -> bool {
    ((client + 1) as f64 * share).floor() > (client as f64 * share).floor()
}

/// The channels of a client, in order.
#[must_use]
pub fn channels_of(client: u64, channels: u64, per_client: u64, mixed: bool) -> Vec<u32> {
    let number = |channel: u64| u32::try_from(channel).expect("channels are few");
    let mut list: Vec<u32> = match (mixed, client % 4) {
        // Everything; one channel; every second one; the first half.
        (true, 0) => (0..channels).map(number).collect(),
        (true, 1) => vec![number(client / 4 % channels)],
        (true, 2) => (0..channels).step_by(2).map(number).collect(),
        (true, _) => (0..channels.div_ceil(2)).map(number).collect(),
        (false, _) => {
            let wanted = per_client.min(channels);
            (0..wanted).map(|place| number((client * per_client + place) % channels)).collect()
        }
    };
    list.sort_unstable();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_the_channels_and_the_stalls_that_were_asked_for() {
        assert_eq!(channels_of(7, 1, 1, false), [0]);
        assert_eq!(channels_of(3, 5, 2, false), [1, 2]);
        assert_eq!(channels_of(2, 5, 2, false), [0, 4]);
        assert_eq!(channels_of(0, 3, 1, true), [0, 1, 2]);
        assert_eq!(channels_of(9, 3, 1, true), [2]);
        assert_eq!(channels_of(2, 3, 1, true), [0, 2]);
        assert_eq!(channels_of(3, 3, 1, true), [0, 1]);
        assert_eq!((0..1000).filter(|&client| is_stalled(client, 0.3)).count(), 300);
        assert_eq!((0..10).filter(|&client| is_stalled(client, 0.0)).count(), 0);
    }
}
