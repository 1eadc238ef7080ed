//! Counters and gauges of one thing by name: closes by reason, receipts by cause and policy.
//!
//! The names are those of the protocol, which is above this floor; tests there hold both together.
//! Not here: what they mean. Invariant: one thread writes a tally.

use super::Cell;

/// Reasons for which a connection ends.
pub const CLOSES: [&str; 19] = [
    "peer_closed",
    "peer_reset",
    "protocol_violation",
    "message_too_big",
    "owed_too_much",
    "rate_limited",
    "slow_consumer",
    "heartbeat_missed",
    "idle",
    "auth_failed",
    "auth_missed",
    "auth_expired",
    "auth_revoked",
    "drain",
    "shutdown",
    "io",
    "kicked",
    "drill",
    "refused",
];

/// Causes of loss receipts.
pub const CAUSES: [&str; 10] = [
    "slow",
    "max_age",
    "max_lag_bytes",
    "forbidden",
    "snapshot",
    "epoch",
    "too_old",
    "ahead",
    "forgotten",
    "expired",
];

/// Policies of what a receipt is about; `resume` for what is said when a place cannot be gone on
/// from, which is of no policy.
pub const POLICIES: [&str; 6] = ["auto", "all", "latest", "close", "unsubscribe", "resume"];

/// States of a connection: it gets what all of its set get; it gets something of its own; its
/// socket is full; it has sent its close frame.
pub const STATES: [&str; 4] = ["in_sync", "ready", "blocked", "silent"];

/// What clients read: JSON, or the same compressed.
pub const ENCODINGS: [&str; 4] = ["json", "deflate", "binary", "sse"];

/// How far a connection is behind, by the age of the oldest event that it is still to be sent: the
/// smallest of these that is not below it.
pub const LAGS: [&str; 6] = ["none", "100ms", "1s", "10s", "60s", "more"];

/// Milliseconds that [`LAGS`] stand for.
pub const LAGS_MS: [u64; 6] = [0, 100, 1_000, 10_000, 60_000, u64::MAX];

/// One cell for each of `N` names.
#[derive(Debug)]
pub struct Tally<const N: usize>([Cell; N]);

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Cell::default()))
    }
}

impl<const N: usize> Tally<N> {
    /// The cell at a place of the list of names.
    #[must_use]
    pub const fn at(&self, place: usize) -> &Cell {
        &self.0[place]
    }

    /// The cell of a name of `names`, the last one for any other name.
    #[must_use]
    pub fn of(&self, names: &[&str; N], name: &str) -> &Cell {
        &self.0[place(names, name)]
    }

    /// The sum of all.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().map(Cell::value).sum()
    }
}

/// One cell for each cause and policy.
#[derive(Debug, Default)]
pub struct Grid([Tally<{ POLICIES.len() }>; CAUSES.len()]);

impl Grid {
    /// The cell of a cause and a policy.
    #[must_use]
    pub fn of(&self, cause: &str, policy: &str) -> &Cell {
        self.0[place(&CAUSES, cause)].of(&POLICIES, policy)
    }

    /// Every cell with its cause and policy.
    pub fn cells(&self) -> impl Iterator<Item = (&'static str, &'static str, &Cell)> {
        CAUSES.iter().zip(&self.0).flat_map(|(cause, row)| {
            POLICIES.iter().zip(&row.0).map(move |(policy, cell)| (*cause, *policy, cell))
        })
    }
}

fn place(names: &[&str], name: &str) -> usize {
    let place = names.iter().position(|known| *known == name);
    debug_assert!(place.is_some(), "{name} is in the list");
    place.unwrap_or(names.len() - 1)
}
