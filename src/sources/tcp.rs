//! `tcp://HOST:PORT`: NDJSON over TCP.

use std::io;
use std::net::SocketAddr;

use crate::shell::listener;
use crate::shell::net::Bound;

/// Binds the address and says which it became (port 0 picks a port).
///
/// # Errors
/// The kernel's reason.
pub fn bind(address: SocketAddr) -> io::Result<(Bound, SocketAddr)> {
    let listener = listener::single(address)?;
    let address = listener.local_addr()?;
    Ok((Bound::Tcp(listener), address))
}
