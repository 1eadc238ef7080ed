//! What a service manager is told (`sd_notify`): ready, reloading, stopping, alive.
//!
//! Not here: whether the server is alive (`watchdog`). Invariant: without a service manager, or
//! with one that does not listen, nothing happens and nobody waits.

use std::time::Duration;

use sd_notify::NotifyState::{ExtendTimeoutUsec, Ready, Reloading, Status, Stopping, Watchdog};
use sd_notify::{NotifyState, notify};

use crate::limits::SUPERVISOR_PATIENCE_MS;

/// Clients and producers can connect.
pub fn ready(status: &str) {
    tell(&[Ready, Status(status)]);
}

/// Settings are read again; [`reloaded`] follows, whatever comes of it.
pub fn reloading() {
    // The time that `Type=notify-reload` wants along with it.
    let Ok(now) = NotifyState::monotonic_usec_now() else { return };
    tell(&[Reloading, now]);
}

/// The reload is over.
pub fn reloaded() {
    tell(&[Ready]);
}

/// The server ends on its own, within `patience`; the manager is asked to give it that time.
pub fn stopping(status: &str, patience: Duration) {
    let patience = patience.saturating_add(Duration::from_millis(SUPERVISOR_PATIENCE_MS));
    let extend = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
    tell(&[Stopping, Status(status), ExtendTimeoutUsec(extend)]);
}

/// The server is alive.
pub fn alive() {
    tell(&[Watchdog]);
}

/// How often at least the manager wants to hear that the server is alive, if it does.
#[must_use]
pub fn watchdog_timeout() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
