//! `unix:///PATH`: NDJSON over a Unix socket; who may connect is the socket file's mode.

use std::io;
use std::path::Path;

use crate::shell::listener;
use crate::shell::net::Bound;

/// Binds the path. A socket file that nobody listens on any more is replaced.
///
/// # Errors
/// The kernel's reason; `AddrInUse` when somebody listens, or when the path is not a socket.
pub fn bind(path: &Path) -> io::Result<Bound> {
    listener::unix(path).map(Bound::Unix)
}
