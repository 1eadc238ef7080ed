//! What a server is, beside its counters: the object `server` of `/stats`.
//!
//! Not here: why it is not ready, in sentences for probes (`pages`). Invariant: nothing in it is a
//! secret, and what two processes of one server differ in (`pid`, `uptime_ms`) tells them apart.

use std::net::SocketAddr;

use serde::Serialize;

use crate::shell::clock;
use crate::shell::life::Life;

/// What a server is.
#[derive(Debug, Clone)]
pub struct About {
    /// Its name in `welcome`.
    pub node: String,
    /// The numbering of its events.
    pub epoch: String,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The same with TLS, if they can.
    pub tls: Option<SocketAddr>,
    /// Batches that the ring of a shard holds.
    pub ring_batches: usize,
    /// When it was started, nanoseconds of the monotonic clock.
    pub started_ns: u64,
}

/// The same at one moment, as it is shown.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    version: &'static str,
    pid: u32,
    node: &'a str,
    epoch: &'a str,
    /// `ready`, or why newcomers are not welcome.
    state: &'static str,
    uptime_ms: u64,
    listen: SocketAddr,
    tls: Option<SocketAddr>,
    ring_batches: usize,
}

impl About {
    /// What is shown now.
    pub(super) fn shown(&self, life: &Life) -> Shown<'_> {
        let age_ns = clock::now().monotonic_ns.saturating_sub(self.started_ns);
        Shown {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            node: &self.node,
            epoch: &self.epoch,
            state: life.unready().unwrap_or("ready"),
            uptime_ms: age_ns / 1_000_000,
            listen: self.listen,
            tls: self.tls,
            ring_batches: self.ring_batches,
        }
    }
}
