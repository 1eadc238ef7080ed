//! The parts of the cluster test.
//!
//! [`network`] the namespaces · [`stage`] servers, nodes, producer, and what is done to them ·
//! [`witness`] the clients, and what they must have.

use std::path::{Path, PathBuf};

pub(crate) mod network;
pub(crate) mod stage;
pub(crate) mod witness;

/// The NATS server that `scripts/nats-server` has installed; none: that is said.
pub(crate) fn nats_server() -> Option<PathBuf> {
    let path = match std::env::var_os("FANFARE_NATS_SERVER") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/nats/bin/nats-server"),
    };
    if !path.exists() {
        eprintln!("SKIPPED: no NATS server at {}; run scripts/nats-server", path.display());
        return None;
    }
    Some(path)
}
