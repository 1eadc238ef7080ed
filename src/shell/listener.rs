//! Listening sockets: made before any thread starts, so that a refusal is a start-up error.
//!
//! Not here: who accepts. Invariant: of listeners that another process has, too, nothing changes
//! before [`listen`] is called.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::limits::LISTEN_BACKLOG;

/// Listeners that share one address.
#[derive(Debug)]
pub struct Shared {
    /// The address, with the port that was picked.
    pub address: SocketAddr,
    /// One for each shard, or more.
    pub listeners: Vec<OwnedFd>,
    /// Descriptors of those that are bound only: the kernel gives them no connection before
    /// [`listen`].
    pub silent: Vec<OwnedFd>,
}

/// One listener for each of `count` shards, all on one port (`SO_REUSEPORT`); the kernel spreads
/// connections over them. Port 0 picks a port.
///
/// # Errors
/// The kernel's reason, `AddrInUse` also when another process listens there with `SO_REUSEPORT`.
pub fn shared(address: SocketAddr, count: usize) -> io::Result<Shared> {
    // Without this, a second server would silently take half of the first one's connections.
    let probe = bind(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    let listeners: io::Result<_> = (0..count).map(|_| Ok(bind(address, true)?.into())).collect();
    Ok(Shared { address, listeners: listeners?, silent: Vec::new() })
}

/// The same with listeners that another process has, too, and as many more as are missing. These
/// are silent: what the kernel gave them now would wait, and be lost if this process failed.
///
/// # Errors
/// The kernel's reason.
pub fn joined(mut listeners: Vec<OwnedFd>, count: usize) -> io::Result<Shared> {
    let first = listeners.first().ok_or(io::ErrorKind::InvalidInput)?;
    let address = SockRef::from(first).local_addr()?;
    let address = address.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let mut silent = Vec::new();
    while listeners.len() < count {
        let socket = OwnedFd::from(bound(address, true)?);
        silent.push(socket.try_clone()?);
        listeners.push(socket);
    }
    Ok(Shared { address, listeners, silent })
}

/// Lets the kernel give connections to a socket that is bound.
///
/// # Errors
/// The kernel's reason.
pub fn listen(socket: &OwnedFd) -> io::Result<()> {
    SockRef::from(socket).listen(LISTEN_BACKLOG)
}

/// One listener of its own.
///
/// # Errors
/// The kernel's reason.
pub fn single(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address, false)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = bound(address, shared)?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A listener at a path with this file mode, which says who may connect; a socket file left behind
/// by a dead process gives way.
///
/// # Errors
/// The kernel's reason; `AddrInUse` when somebody listens there or the file is not a socket.
pub fn unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let left_behind = fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && UnixStream::connect(path).is_err();
    if left_behind {
        fs::remove_file(path)?;
    }
    // The mode of the descriptor is what the file gets, less the umask: it is never open to more
    // than it should be, not even for a moment.
    let socket = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    socket.set_permissions(Permissions::from_mode(mode))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(OwnedFd::from(socket).into())
}
