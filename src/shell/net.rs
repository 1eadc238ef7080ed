//! Byte streams for the sources and the admin address: TCP and Unix sockets under one type, with
//! TLS or without.
//!
//! Not here: the connections of subscribers (`connection`). glommio's TCP types only
//! accept, receive and send, which are the same calls for a Unix stream socket, so they serve both.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWriteExt};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::{SockRef, TcpKeepalive};

use crate::limits::{KEEPALIVE_S, READ_BYTES};
use crate::protocol::tls::{ClientCertificate, Session};

use super::certificates::Certificates;
use super::doorman::{Door, Doorman};
use super::executor;
use super::turns;

/// A listener that tasks can wait at.
#[derive(Debug)]
pub struct Listener(Door);

/// A connected peer.
#[derive(Debug)]
pub struct Stream {
    socket: glommio::net::TcpStream,
    /// Boxed, because it is large and most streams have none.
    session: Option<Box<Session>>,
    /// What the session has opened and nobody has read.
    plain: Vec<u8>,
}

impl Listener {
    /// Lets a doorman wait at a listening socket.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn new(listener: OwnedFd, doorman: &Doorman) -> io::Result<Self> {
        doorman.door(listener).map(Self)
    }

    /// The next peer; none once a successor has the listener.
    ///
    /// # Errors
    /// The kernel's reason, for example that descriptors ran out.
    pub async fn accept(&self) -> Option<io::Result<Stream>> {
        let taken = self.0.accept().await?;
        Some(taken.map(|(socket, _)| Stream::accepted(stream(socket))))
    }
}

/// The stream of a connected stream socket, on the executor of this thread.
pub(super) fn stream(socket: OwnedFd) -> glommio::net::TcpStream {
    // SAFETY: the descriptor is open and owned, and its one owner gives it away here.
    unsafe { FromRawFd::from_raw_fd(socket.into_raw_fd()) }
}

/// Reads or changes the options of a stream's socket.
pub(super) fn with_socket<T>(
    stream: &glommio::net::TcpStream,
    act: impl FnOnce(&socket2::Socket) -> T,
) -> T {
    // SAFETY: the stream is borrowed until this function returns, so its descriptor stays open.
    act(&SockRef::from(&unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }))
}

/// Cuts a connection at once, as a network that fails: the peer sees a reset, and nothing that was
/// not sent is sent any more.
pub(super) fn cut(socket: RawFd) {
    // SAFETY: all-zero bytes are a valid address.
    let mut nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    nowhere.sa_family = AF_UNSPEC;
    let len = libc::socklen_t::try_from(size_of_val(&nowhere)).expect("a small constant");
    // SAFETY: the address is as long as is said, and the kernel only reads it. A descriptor that is
    // none any more is refused. The result is of no use: what is gone is gone.
    let _ = unsafe { libc::connect(socket, &raw const nowhere, len) };
}

/// Connecting to no address resets a TCP connection.
const AF_UNSPEC: libc::sa_family_t = 0;

impl Stream {
    /// One that was just accepted; the kernel finds out if its peer is gone without a word.
    fn accepted(socket: glommio::net::TcpStream) -> Self {
        let (idle, interval, retries) = KEEPALIVE_S;
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(idle))
            .with_interval(Duration::from_secs(interval))
            .with_retries(retries);
        // A Unix socket needs none: its peer is on this host.
        let _ = with_socket(&socket, |socket| socket.set_tcp_keepalive(&keepalive));
        Self { socket, session: None, plain: Vec::new() }
    }

    /// Holds the server's side of a TLS handshake.
    ///
    /// # Errors
    /// The session is over, or the kernel's reason.
    pub async fn secure(&mut self, certificates: &Certificates) -> io::Result<()> {
        let session = Session::new(certificates.config()).map_err(io::Error::other)?;
        self.session = Some(Box::new(session));
        let mut buffer = vec![0; READ_BYTES];
        while self.session.as_ref().is_some_and(|session| session.is_handshaking()) {
            self.open(&mut buffer).await?;
        }
        Ok(())
    }

    /// The peer's certificate, which was verified; none without one.
    #[must_use]
    pub fn client_certificate(&self) -> Option<ClientCertificate> {
        self.session.as_ref()?.client_certificate()
    }

    /// Reads into `buffer`; 0 when the peer will send no more.
    ///
    /// # Errors
    /// The kernel's reason, or that a session is over without having been closed.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.session.is_none() {
            return self.receive(buffer).await;
        }
        while self.plain.is_empty() {
            if self.session.as_ref().is_some_and(|session| session.is_peer_closed()) {
                return Ok(0);
            }
            self.open(buffer).await?;
        }
        let count = self.plain.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.plain[..count]);
        self.plain.drain(..count);
        Ok(count)
    }

    /// Reads once from the socket, when it has something.
    async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| {
            // The executor's own answer comes late where a fan-out keeps it busy.
            if turns::are_given() {
                let taken = with_socket(&self.socket, |socket| {
                    rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT)
                });
                match taken {
                    Err(Errno::AGAIN | Errno::INTR) => turns::wait(context.waker()),
                    taken => return Poll::Ready(Ok(taken?.0)),
                }
            }
            Pin::new(&mut self.socket).poll_read(context, buffer)
        })
        .await
    }

    /// Reads once from the socket, with `buffer` for what is sealed, and answers what belongs to
    /// TLS. An end that the session does not know of may be somebody else's doing.
    async fn open(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let count = self.receive(buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let opened = session.open(&mut buffer[..count], &mut self.plain);
        self.socket.write_all(session.rest()).await?;
        session.handle_sent(session.rest().len());
        opened.map_err(io::Error::other)
    }

    /// Ends the stream so that the peer can read what was written, for at most `patience`: unread
    /// input would turn the end into a reset, which can overtake it.
    pub async fn finish(mut self, patience: Duration) {
        let farewell = self.session.as_mut().map(|session| session.farewell()).unwrap_or_default();
        let end = async {
            self.socket.write_all(&farewell).await?;
            with_socket(&self.socket, |socket| socket.shutdown(Shutdown::Write))?;
            let mut sink = [0; 512];
            while self.receive(&mut sink).await? > 0 {}
            io::Result::Ok(())
        };
        // Whoever is gone has nothing to read.
        let _gone = executor::within(patience, end).await;
    }

    /// Writes all of `bytes`, for at most `patience`.
    ///
    /// # Errors
    /// The kernel's reason, or `TimedOut`.
    pub async fn write_all(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let mut records = Vec::new();
        let bytes = match &mut self.session {
            None => bytes,
            Some(session) => {
                records.resize(session.sealed_bytes_max(bytes.len()), 0);
                let len = session.seal(bytes, &mut records).map_err(io::Error::other)?;
                &records[..len]
            }
        };
        executor::within(patience, self.socket.write_all(bytes))
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_kernel_asks_a_peer_that_is_silent_whether_it_is_still_there() {
        let doorman = Doorman::start(Arc::default()).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let listener = Listener::new(socket.into(), &doorman).unwrap();
        let thread = executor::start("net", None, move || async move {
            let Stream { socket, .. } = listener.accept().await.unwrap().unwrap();
            with_socket(&socket, |socket| (socket.keepalive(), socket.tcp_keepalive_time()))
        });
        let (is_asked, after) = thread.unwrap().join().unwrap();
        assert!(is_asked.unwrap());
        assert_eq!(after.unwrap(), Duration::from_secs(KEEPALIVE_S.0));
    }
}
