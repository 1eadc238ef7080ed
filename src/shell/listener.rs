//! Listening sockets: made before any thread starts, so that a refusal is a start-up error.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::LISTEN_BACKLOG;

/// One listener for each of `count` shards, all on one port (`SO_REUSEPORT`); the kernel spreads
/// connections over them. Port 0 picks a port.
///
/// # Errors
/// The kernel's reason, `AddrInUse` also when another process listens there with `SO_REUSEPORT`.
pub fn shared(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Without this, a second server would silently take half of the first one's connections.
    let probe = bind(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..count).map(|_| bind(address, true)).collect()
}

/// One listener of its own.
///
/// # Errors
/// The kernel's reason.
pub fn single(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address, false)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// A listener at a path; a socket file left behind by a dead process gives way.
///
/// # Errors
/// The kernel's reason; `AddrInUse` when somebody listens there or the file is not a socket.
pub fn unix(path: &Path) -> io::Result<UnixListener> {
    let left_behind = fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && UnixStream::connect(path).is_err();
    if left_behind {
        fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}
