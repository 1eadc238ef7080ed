//! The settings of a server that says back to each client what it hears, for conformance suites;
//! compiled only with the feature `echo`.
//!
//! Such a server has no sources, greets nobody and bounds no rates. Everything else is what
//! subscribers meet: listeners, TLS, the upgrade, the reader, sends and closes. Not here: the
//! answers ([`crate::fanout::shard`]). Invariant: of the layers, only what concerns connections
//! counts.

use std::time::Duration;

use crate::config::raw::{Problems, Raw};
use crate::config::resolve::{Host, resolve};
use crate::config::{LivenessSettings, Settings, Source, SourceAddress};
use crate::limits::CLIENT_MESSAGE_BYTES_MAX;

/// Longer than any suite runs.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// The settings of an echo on addresses and with certificates of these layers.
///
/// # Errors
/// Every wrong setting.
pub fn settings(layers: &Raw, host: &Host) -> Result<Settings, Problems> {
    // One that needs no address, because every server has a source.
    let source = Source { address: SourceAddress::Stdin, map: Vec::new() };
    let settings = resolve(layers, host, Some(source))?.settings;
    Ok(Settings {
        sources: Vec::new(),
        echo: true,
        message_bytes_max: CLIENT_MESSAGE_BYTES_MAX,
        heartbeat: NEVER,
        liveness: LivenessSettings {
            ping_interval: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            ..settings.liveness
        },
        ..settings
    })
}
