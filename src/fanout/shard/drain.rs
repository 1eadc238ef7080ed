//! The drain: every client is told to go elsewhere, and closed in its turn.
//!
//! Not here: new connections while it lasts (the shell's), and the closing handshake. Invariant:
//! the closes are spread over the window by the connections' places, so that no two cores and no
//! two moments have more of them than others.

use std::sync::Arc;

use crate::limits::SWEEP_MS;
use crate::protocol::reply;
use crate::protocol::ws::close::CloseReason;

use super::super::Now;
use super::super::connection::ConnectionId;
use super::{Shard, spread};

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    /// Monotonic time of its beginning, nanoseconds.
    began_ns: u64,
    /// Its length, nanoseconds.
    window_ns: u64,
    /// Where clients are told to go; empty: here again.
    to: Arc<[Box<str>]>,
}

impl Shard {
    /// Begins to tell every client to go, and to close connections one by one over `window_ns`
    /// nanoseconds. Clients are told to go to one of `to`; if it is empty, here again. A later call
    /// moves the end, if it comes earlier.
    pub fn handle_drain(&mut self, window_ns: u64, to: Arc<[Box<str>]>, now: Now) {
        let end = now.monotonic_ns.saturating_add(window_ns);
        let ends_later = |drain: &Drain| end < drain.began_ns.saturating_add(drain.window_ns);
        if self.drain.as_ref().is_none_or(ends_later) {
            self.drain = Some(Drain { began_ns: now.monotonic_ns, window_ns, to });
        }
    }

    /// True while the server drains.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Tells a client of the drain, or closes it when its turn has come.
    pub(super) fn drain_one(&mut self, id: ConnectionId, now: Now) {
        let Some(Drain { began_ns, window_ns, to }) = &self.drain else { return };
        let (began_ns, window_ns, to) = (*began_ns, *window_ns, Arc::clone(to));
        // The sweep is up to a round late, and the last ones shall not be.
        let spread_ns = window_ns.saturating_sub(2 * SWEEP_MS * 1_000_000);
        let due_ns = began_ns + spread(id, began_ns, spread_ns);
        let left = |until_ns: u64| until_ns.saturating_sub(now.monotonic_ns) / 1_000_000;
        let Some(connection) = self.connection_mut(id) else { return };
        if !std::mem::replace(&mut connection.life.is_told, true) {
            let deadline_ms = left(began_ns.saturating_add(window_ns));
            self.say(id, |out| reply::drain(out, deadline_ms, left(due_ns), &to));
        } else if due_ns <= now.monotonic_ns {
            self.close(id, CloseReason::Drain, now);
        }
    }
}
