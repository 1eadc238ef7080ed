//! What a core does at each tick: the sweep, the drain, questions of the admin pages; and its stop.
//!
//! Not here: the fan-out loop ([`super::shard_loop`]). Invariant: a stop ends within its patience.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::{ADDRESSES_MS, LANE_WAKES};

use super::clerk::Clerk;
use super::clock;
use super::shard_loop::Core;
use super::ticker::Ticks;

/// Works at every tick until the server stops, and stops; returns how many connections had to be
/// cut.
pub(super) async fn run(core: &Core, mut ticks: Ticks, mut clerk: Clerk) -> usize {
    tick_until_stop(core, &mut ticks, &mut clerk).await;
    let patience = core.in_force.load().stop_timeout;
    stop(core, ticks, patience).await
}

/// Closes every connection in order, then cuts what is left.
async fn stop(core: &Core, mut ticks: Ticks, patience: Duration) -> usize {
    let deadline_ns = clock::now().monotonic_ns.saturating_add(clock::nanoseconds(patience));
    while core.shard.borrow().connection_count() > 0 && clock::now().monotonic_ns < deadline_ns {
        let now = clock::now();
        // At each tick, because an upgrade that was let through before the stop may still open.
        core.shard.borrow_mut().handle_shutdown(now);
        core.tick(now);
        ticks.next().await;
    }
    let cut = core.shard.borrow_mut().handle_cut();
    core.handle_closed();
    cut
}

/// Sweeps at every tick until the server stops, and begins the drain before that.
async fn tick_until_stop(core: &Core, ticks: &mut Ticks, clerk: &mut Clerk) {
    let mut drain_end_ns = None;
    let mut forgot_ns = 0;
    while !core.is_stopping() {
        ticks.next().await;
        let now = clock::now();
        let end_ns = core.life.drain_end_ns();
        if let Some(end_ns) = end_ns.filter(|_| end_ns != drain_end_ns) {
            let window_ns = end_ns.saturating_sub(now.monotonic_ns);
            let to = Arc::clone(&core.in_force.load().drain_to);
            core.shard.borrow_mut().handle_drain(window_ns, to, now);
            drain_end_ns = Some(end_ns);
        }
        clerk.tick(core, now);
        core.tick(now);
        core.lane.borrow_mut().wake(LANE_WAKES);
        if now.monotonic_ns - forgot_ns > ADDRESSES_MS * 1_000_000 {
            core.admission.forget(now.monotonic_ns);
            forgot_ns = now.monotonic_ns;
        }
    }
}
