//! A client's socket during its handshake, and the TLS session on it if there is one.
//!
//! Not here: what the bytes mean, and the socket of an open connection ([`super::sockets`]).
//! Invariant: what a session has left to send goes out before anything else on its socket.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt};
use glommio::net::TcpStream;

use crate::config::SocketSettings;
use crate::protocol::tls::{Session, TlsError};

use super::certificates::Certificates;
use super::net::with_socket;

/// A client's socket.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    /// Boxed, because it is large and most servers have clients without.
    pub(super) session: Option<Box<Session>>,
}

impl Wire {
    /// A socket that was just accepted, for a client that begins with TLS if there are
    /// certificates; none when these cannot be used.
    pub(super) fn accepted(
        stream: TcpStream,
        settings: SocketSettings,
        tls: Option<&Certificates>,
    ) -> Option<Self> {
        let SocketSettings { send_buffer_bytes, unsent_bytes, peer_timeout } = settings;
        let unsent_bytes = u32::try_from(unsent_bytes).unwrap_or(u32::MAX);
        with_socket(&stream, |socket| {
            // A failure means that the peer is gone already, which the reader will find out.
            let _ = socket.set_tcp_nodelay(true);
            let _ = socket.set_send_buffer_size(send_buffer_bytes);
            let _ = socket.set_tcp_notsent_lowat(unsent_bytes);
            let _ = socket.set_tcp_user_timeout(Some(peer_timeout));
        });
        let session = tls.map(|tls| Session::new(tls.config())).transpose().ok()?;
        Some(Self { stream, session: session.map(Box::new) })
    }

    /// Reads what comes over the socket, sealed or not.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }

    /// What was read, as the peer meant it: `read` itself, or what `plain` was filled with.
    ///
    /// # Errors
    /// The session is over.
    pub(super) fn open<'a>(
        &mut self,
        read: &'a mut [u8],
        plain: &'a mut Vec<u8>,
    ) -> Result<&'a mut [u8], TlsError> {
        open(self.session.as_deref_mut(), read, plain)
    }

    /// Whether a TLS peer has said that nothing follows.
    pub(super) fn is_peer_closed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_peer_closed())
    }

    /// Writes what the session has left to send.
    pub(super) fn poll_write_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(session) = &mut self.session else { return Poll::Ready(Ok(())) };
        while !session.rest().is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, session.rest()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => session.handle_sent(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all of `bytes`, sealed if there is a session.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(session) = &mut self.session else { return self.stream.write_all(bytes).await };
        let mut records = vec![0; session.sealed_bytes_max(bytes.len())];
        let len = session.seal(bytes, &mut records).map_err(io::Error::other)?;
        self.stream.write_all(&records[..len]).await
    }

    /// Says that nothing follows, as far as the socket takes it without waiting, and closes it for
    /// `how` much.
    pub(super) fn end(&mut self, how: Shutdown) {
        let session = self.session.take();
        with_socket(&self.stream, |socket| end(socket, session, how));
    }

    /// The socket by itself, which the executor watches no more, and the session on it.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(super) fn into_parts(self) -> io::Result<(OwnedFd, Option<Box<Session>>)> {
        // The stream closes its own descriptor, and does not give it away.
        let socket = with_socket(&self.stream, socket2::Socket::try_clone)?;
        Ok((socket.into(), self.session))
    }
}

/// What was read, as the peer meant it: `read` itself, or what `plain` was filled with.
///
/// # Errors
/// The session is over.
pub(super) fn open<'a>(
    session: Option<&mut Session>,
    read: &'a mut [u8],
    plain: &'a mut Vec<u8>,
) -> Result<&'a mut [u8], TlsError> {
    let Some(session) = session else { return Ok(read) };
    plain.clear();
    session.open(read, plain)?;
    Ok(plain)
}

/// Says that nothing follows, as far as the socket takes it without waiting, and closes it for
/// `how` much.
pub(super) fn end(socket: &socket2::Socket, session: Option<Box<Session>>, how: Shutdown) {
    let farewell = session.map(|mut session| session.farewell());
    if let Some(bytes) = farewell.filter(|bytes| !bytes.is_empty()) {
        // A full or broken socket cannot be told, and the peer sees its end all the same.
        let _ = socket.send_with_flags(&bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    }
    // A socket that is gone already cannot be shut down, and need not be.
    let _ = socket.shutdown(how);
}
