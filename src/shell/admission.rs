//! Who may begin a handshake: the pace of a shard, its room, and the limits of addresses.
//!
//! Not here: the handshake itself, and credentials. Invariant: a connection is counted as a
//! handshake from the moment it is taken until it is open or gone.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::access::{AddressLimits, Addresses, Network, Permit};
use crate::limits::{
    ACCEPT_AHEAD_MS, REFUSALS_MAX, REFUSALS_SPARE, RETRY_AFTER_SECONDS_MAX, RETRY_AFTER_SECONDS_MIN,
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
    /// Descriptors that this shard may hold for connections and handshakes.
    descriptors: usize,
    /// Those that it has beside them for the refused.
    spare: usize,
}

/// What counts a connection of an address, if those are limited.
pub(super) type Counted = Option<Permit<Network>>;

/// A refused connection that is waited for, until it is dropped.
#[derive(Debug)]
pub(super) struct Lingering(Rc<Core>);

impl Drop for Lingering {
    fn drop(&mut self) {
        let lingering = &self.0.admission.lingering;
        lingering.set(lingering.get() - 1);
    }
}

impl Admission {
    /// One of `shards`, each of which may hold so many `descriptors`.
    pub(super) fn new(
        in_force: Arc<InForce>,
        addresses: Arc<Addresses>,
        descriptors: usize,
        shards: usize,
    ) -> Self {
        Self {
            in_force,
            addresses,
            descriptors,
            spare: (REFUSALS_SPARE / shards).max(1),
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
    pub(super) fn admit(&self, peer: Option<IpAddr>) -> Result<Counted, Rejection> {
        let Admission { in_force, addresses, under_way, .. } = &self.admission;
        let others = under_way.get() - 1;
        let settings = in_force.load().admission;
        if others >= settings.handshakes_max || !self.has_room(others) || !self.has_descriptor() {
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

    /// Whether a new connection may go on to its upgrade, beside so many others.
    fn has_room(&self, upgrading: usize) -> bool {
        (self.life.is_ready() || self.is_handed_over()) && self.shard.borrow().has_room(upgrading)
    }

    /// Whether only those are left that came before a successor took the listeners.
    fn is_handed_over(&self) -> bool {
        self.life.is_handed_over() && !self.is_stopping()
    }

    /// Descriptors of connections, those that are half open included, and of handshakes.
    fn held(&self) -> usize {
        let open = self.shard.borrow().connection_count();
        open + self.sockets.borrow().half_open() + self.admission.under_way.get()
    }

    /// Whether the one that has just come is not one too many: who is refused may hold what is
    /// spare, and no more than that.
    fn has_descriptor(&self) -> bool {
        let Admission { descriptors, spare, lingering, .. } = &self.admission;
        self.held() <= *descriptors && self.held() + lingering.get() <= descriptors + spare
    }

    /// Whether a refused connection, whose handshake has ended, may be waited for; it is until what
    /// is returned is dropped.
    pub(super) fn linger(self: &Rc<Self>) -> Option<Lingering> {
        let Admission { descriptors, spare, lingering, .. } = &self.admission;
        let others = lingering.get();
        let is_empty = self.held() + others < descriptors / 2;
        let may_linger = others < *spare || (is_empty && others < REFUSALS_MAX);
        may_linger.then(|| {
            lingering.set(others + 1);
            Lingering(Rc::clone(self))
        })
    }

    /// The same for one that was refused before it has said anything. With TLS it cannot be told
    /// without a handshake, which an address over its limits gets a few times a minute.
    pub(super) fn linger_unheard(
        self: &Rc<Self>,
        rejection: Rejection,
        peer: Option<IpAddr>,
        is_secure: bool,
    ) -> Option<Lingering> {
        let is_dear = is_secure && matches!(rejection, Rejection::TooMany { .. });
        let may_be_told = |peer| {
            let now_ns = clock::now().monotonic_ns;
            !is_dear || self.admission.addresses.may_be_told(peer, now_ns)
        };
        self.linger().filter(|_| peer.is_none_or(may_be_told))
    }

    /// Counts a refusal by its cause; none: the peer is gone.
    pub(super) fn count_refusal(&self, rejection: Option<Rejection>) {
        let counters = self.counters();
        counters.refused.add(1);
        match rejection {
            None => counters.refused_gone.add(1),
            Some(Rejection::AtCapacity { .. }) => counters.refused_capacity.add(1),
            Some(Rejection::TooMany { .. }) => counters.refused_limit.add(1),
            Some(Rejection::Unauthorized(_) | Rejection::OriginForbidden) => {
                counters.refused_access.add(1);
            }
            Some(_) => counters.refused_request.add(1),
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
