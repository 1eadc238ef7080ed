//! Byte streams for the sources and the admin address: TCP and Unix sockets under one type.
//!
//! Not here: the connections of subscribers ([`super::connection`]). glommio's TCP types only
//! accept, receive and send, which are the same calls for a Unix stream socket, so they serve both.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use socket2::SockRef;

use super::executor;

/// A bound address that has not been given to an executor yet.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// A listener on its executor.
#[derive(Debug)]
pub struct Listener(glommio::net::TcpListener);

/// A connected peer.
#[derive(Debug)]
pub struct Stream(glommio::net::TcpStream);

impl Bound {
    /// Hands the listener to the executor of this thread.
    #[must_use]
    pub fn listen(self) -> Listener {
        let descriptor = match self {
            Self::Tcp(listener) => listener.into_raw_fd(),
            Self::Unix(listener) => listener.into_raw_fd(),
        };
        Listener(listen_on(descriptor))
    }
}

/// A glommio listener that takes over a listening stream socket.
pub(super) fn listen_on(descriptor: RawFd) -> glommio::net::TcpListener {
    // SAFETY: the callers pass the descriptor of a listening socket that its one owner gave away.
    unsafe { FromRawFd::from_raw_fd(descriptor) }
}

/// Reads or changes the options of a stream's socket.
pub(super) fn with_socket<T>(
    stream: &glommio::net::TcpStream,
    act: impl FnOnce(&socket2::Socket) -> T,
) -> T {
    // SAFETY: the stream is borrowed until this function returns, so its descriptor stays open.
    act(&SockRef::from(&unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }))
}

impl Listener {
    /// The next peer.
    ///
    /// # Errors
    /// The kernel's reason, for example that descriptors ran out.
    pub async fn accept(&self) -> io::Result<Stream> {
        self.0.accept().await.map(Stream).map_err(Into::into)
    }
}

impl Stream {
    /// Reads into `buffer`; 0 when the peer will send no more.
    ///
    /// # Errors
    /// The kernel's reason.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).await
    }

    /// Writes all of `bytes`, for at most `patience`.
    ///
    /// # Errors
    /// The kernel's reason, or `TimedOut`.
    pub async fn write_all(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        executor::within(patience, self.0.write_all(bytes))
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }
}
