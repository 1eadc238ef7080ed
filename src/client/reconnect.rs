//! Whether and when a client connects again.
//!
//! Values in, values out. Not here: where ([`super::route`]), waiting, connecting, the clock and
//! the source of chance. Invariant: no wait passes its bound, whatever a server says.

use crate::limits::{
    RECONNECT_MS, RECONNECT_MS_MAX, RETRY_AFTER_MS_MAX, SILENCE_HEARTBEATS, SILENCE_MS, SWEEP_MS,
    TIMEOUT_MS_MAX,
};
use crate::protocol::ws::client::ClientHandshakeError;
use crate::protocol::ws::close;
use crate::shell::dial::ClientError;
use crate::shell::trust::TrustError;

/// When to connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Not at all: the same would happen again.
    Never,
    /// As the backoff says, and this many milliseconds later.
    After(u64),
    /// At this monotonic time, nanoseconds: the server gave every client a turn of its own.
    At(u64),
}

/// Exponential backoff with full jitter.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Milliseconds to wait before the next attempt: any number, as `random` chooses, up to a bound
    /// that doubles from [`RECONNECT_MS`] to [`RECONNECT_MS_MAX`].
    pub fn next_ms(&mut self, random: u64) -> u64 {
        let factor = 1_u64.checked_shl(self.attempts).unwrap_or(u64::MAX);
        let bound = RECONNECT_MS.saturating_mul(factor).min(RECONNECT_MS_MAX);
        self.attempts = self.attempts.saturating_add(1);
        random % (bound + 1)
    }

    /// The last connection was a good one: the next wait is a short one.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// How long nothing may come before the server, or the way to it, is taken for gone.
#[derive(Debug)]
pub struct Silence {
    limit_ms: u64,
    heard_ns: u64,
}

impl Silence {
    /// For a connection made at `now_ns` (monotonic).
    #[must_use]
    pub const fn new(now_ns: u64) -> Self {
        Self { limit_ms: SILENCE_MS, heard_ns: now_ns }
    }

    /// The server says how often it sends at least.
    pub fn handle_heartbeat_ms(&mut self, heartbeat_ms: u64) {
        // The server's sweep, which sends them, may be late by one round.
        self.limit_ms = SILENCE_HEARTBEATS * heartbeat_ms.min(TIMEOUT_MS_MAX) + SWEEP_MS;
    }

    /// Something came.
    pub const fn handle_bytes(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
    }

    /// The milliseconds that nothing may come, once they are over.
    #[must_use]
    pub fn is_over(&self, now_ns: u64) -> Option<u64> {
        let silent_ms = now_ns.saturating_sub(self.heard_ns) / 1_000_000;
        (silent_ms >= self.limit_ms).then_some(self.limit_ms)
    }
}

/// When to try again after an error of a connection; `was_open`: one has been made before.
///
/// Before that, only a server's own "later" is waited for: an address where nothing answers is
/// more often a mistake than a server that is about to start.
#[must_use]
pub fn after_error(error: &ClientError, was_open: bool) -> When {
    match error {
        // RFC 9110, section 15: of 4xx, only these three are about the moment.
        ClientError::Upgrade(
            _,
            ClientHandshakeError::Refused {
                status: 408 | 425 | 429 | 500..=599,
                retry_after_s,
                ..
            },
        ) => {
            let ms = u64::from(retry_after_s.unwrap_or_default()) * 1_000;
            When::After(ms.min(RETRY_AFTER_MS_MAX))
        }
        ClientError::Refused(_)
        | ClientError::Connect(..)
        | ClientError::UpgradeEnded(..)
        | ClientError::Trust(TrustError::Tls { .. })
        | ClientError::Io(_)
            if was_open =>
        {
            When::After(0)
        }
        _ => When::Never,
    }
}

/// When to try again after a close.
#[must_use]
pub const fn after_close(code: Option<u16>) -> When {
    match code {
        Some(
            close::PROTOCOL_ERROR
            | 1003
            | close::INVALID_PAYLOAD
            | close::POLICY
            | close::TOO_BIG
            | 4000..=4099,
        ) => When::Never,
        _ => When::After(0),
    }
}

/// What a close code means and whether connecting again makes sense.
#[must_use]
pub fn close_text(code: Option<u16>, reason: &str) -> String {
    let Some(code) = code else {
        return "the server closed without a code; a retry makes sense".into();
    };
    let pointless = "a retry is pointless";
    let (meaning, retry) = match code {
        close::NORMAL => ("normal", "a retry makes sense"),
        close::GOING_AWAY => ("the server is stopping", "a retry makes sense, soon"),
        close::SERVICE_RESTART => ("the server drains", "a retry makes sense, in its turn"),
        close::PROTOCOL_ERROR | 1003 | close::INVALID_PAYLOAD => {
            ("this client broke the protocol", pointless)
        }
        close::POLICY => ("against the server's policy", pointless),
        close::TOO_BIG => ("a message was too big", pointless),
        close::INTERNAL_ERROR => ("an error inside the server", "a retry makes sense"),
        close::TRY_AGAIN_LATER => ("the server is overloaded", "a retry makes sense, later"),
        close::AUTH_FAILED => ("the credential is not good", pointless),
        close::AUTH_MISSED => ("no credential in time", "show one with --token-file"),
        close::AUTH_EXPIRED => ("the credential has expired", "a retry needs a new one"),
        close::AUTH_REVOKED => ("the credential was revoked", pointless),
        4004..=4099 => ("not allowed", pointless),
        close::SLOW_CONSUMER => {
            ("this client read too slowly", "a retry makes sense, with fewer channels")
        }
        close::HEARTBEAT_MISSED => ("this client was silent for too long", "a retry makes sense"),
        4102..=4199 => ("temporary", "a retry makes sense"),
        _ => ("unknown to this client", "a retry may help"),
    };
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("the server closed with {code} ({meaning}){reason}; {retry}")
}

#[cfg(test)]
mod tests;
