//! Who may begin a handshake: the pace of a shard, its room, and the limits of addresses.
//!
//! Not here: the handshake itself, and credentials. Invariant: a connection is counted as a
//! handshake from the moment it is taken until it is open or gone.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::access::{AddressLimits, Addresses, Network, Permit};
use crate::limits::{
    ACCEPT_AHEAD_MS, REFUSALS_MAX, RETRY_AFTER_SECONDS_MAX, RETRY_AFTER_SECONDS_MIN,
};
use crate::protocol::ws::handshake::Rejection;

use super::changeable::InForce;
use super::clock;
use super::executor;
use super::random;
use super::shard_loop::Core;

/// What one shard knows of those who come.
#[derive(Debug)]
pub(super) struct Admission {
    in_force: Arc<InForce>,
    addresses: Arc<Addresses>,
    /// When the next connection is due at the allowed rate, nanoseconds of the monotonic clock.
    next_ns: Cell<u64>,
    /// Handshakes under way.
    under_way: Cell<usize>,
    /// Refused connections that are waited for, so that they can read why.
    lingering: Cell<usize>,
}

impl Admission {
    pub(super) const fn new(in_force: Arc<InForce>, addresses: Arc<Addresses>) -> Self {
        Self {
            in_force,
            addresses,
            next_ns: Cell::new(0),
            under_way: Cell::new(0),
            lingering: Cell::new(0),
        }
    }

    /// Waits until one more connection may be taken; others wait in the kernel's backlog.
    pub(super) async fn pace(&self) {
        let Some(rate) = self.in_force.load().admission.accept_rate else { return };
        let now_ns = clock::now().monotonic_ns;
        let due_ns = self.next_ns.get().max(now_ns);
        self.next_ns.set(due_ns + 1_000_000_000 / u64::from(rate));
        // A timer is not exact, so that some may come together.
        let wait_ns = (due_ns - now_ns).saturating_sub(ACCEPT_AHEAD_MS * 1_000_000);
        if wait_ns > 0 {
            executor::sleep(Duration::from_nanos(wait_ns)).await;
        }
    }

    /// Whether a refused connection may be waited for; if so, [`Self::has_lingered`] follows.
    pub(super) fn may_linger(&self) -> bool {
        let is_few = self.lingering.get() < REFUSALS_MAX;
        self.lingering.set(self.lingering.get() + usize::from(is_few));
        is_few
    }

    pub(super) fn has_lingered(&self) {
        self.lingering.set(self.lingering.get() - 1);
    }

    /// Forgets addresses that count no longer.
    pub(super) fn forget(&self, now_ns: u64) {
        self.addresses.forget(now_ns);
    }
}

impl Core {
    /// A connection was taken, and its handshake begins.
    pub(super) fn begin_handshake(&self) {
        self.admission.under_way.set(self.admission.under_way.get() + 1);
        self.counters().handshakes.add(1);
    }

    /// It is open, or will never be.
    pub(super) fn end_handshake(&self) {
        self.admission.under_way.set(self.admission.under_way.get() - 1);
        self.counters().handshakes.sub(1);
    }

    /// Decides whether a handshake that has begun may go on; what is returned counts the connection
    /// of an address until it is dropped.
    pub(super) fn admit(&self, peer: Option<IpAddr>) -> Result<Option<Permit<Network>>, Rejection> {
        let Admission { in_force, addresses, under_way, .. } = &self.admission;
        let others = under_way.get() - 1;
        let settings = in_force.load().admission;
        if others >= settings.handshakes_max || !self.has_room(others) {
            return Err(at_capacity());
        }
        let Some(peer) = peer else { return Ok(None) };
        let limits = AddressLimits {
            open_max: settings.address_connections_max,
            new_in_a_minute: settings.address_accept_rate,
        };
        let admitted = addresses.admit(peer, limits, clock::now().monotonic_ns);
        admitted.map_err(|too_many| Rejection::TooMany {
            reason: too_many.text(),
            retry_after_s: retry_after_s(),
        })
    }

    /// Counts a refusal by its cause; none: the peer is gone.
    pub(super) fn count_refusal(&self, rejection: Option<Rejection>) {
        let counters = self.counters();
        counters.refused.add(1);
        let Some(rejection) = rejection else { return };
        match rejection {
            Rejection::AtCapacity { .. } => counters.refused_capacity.add(1),
            Rejection::TooMany { .. } => counters.refused_limit.add(1),
            Rejection::Unauthorized(_) | Rejection::OriginForbidden => {
                counters.refused_access.add(1);
            }
            _ => counters.refused_request.add(1),
        }
    }
}

/// No room for one more, or no time.
pub(super) fn at_capacity() -> Rejection {
    Rejection::AtCapacity { retry_after_s: retry_after_s() }
}

/// A time to wait that differs from client to client.
pub(super) fn retry_after_s() -> u32 {
    let spread = u64::from(RETRY_AFTER_SECONDS_MAX - RETRY_AFTER_SECONDS_MIN + 1);
    RETRY_AFTER_SECONDS_MIN + u32::try_from(random::number() % spread).expect("a small remainder")
}
