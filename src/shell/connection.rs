//! One subscriber's open connection: its reader, and the writer of a full socket.
//!
//! Bytes go to and come from the shard; nothing is decided here. A connection has one task that
//! reads, into a buffer that all of the core share, and while its socket is full a second one that
//! waits to write. Not here: how it came to be open (`handshake`). Invariant: a connection
//! known to the shard has its socket in the table.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::AsyncWrite;

use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::Outcome;
use crate::limits::CLOSE_MS;
use crate::protocol::ws::close::CloseReason;

use super::clock;
use super::executor;
use super::net::with_socket;
use super::shard_loop::Core;
use super::wire::Wire;

/// A socket that its reader, its writer and the flush share.
pub(super) type Socket = Rc<RefCell<Wire>>;

/// The sockets of a shard's connections, by their place in the shard's table.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<Option<Place>>);

#[derive(Debug)]
struct Place {
    id: ConnectionId,
    descriptor: RawFd,
    /// Whether what is sent is sealed.
    is_sealed: bool,
    socket: Socket,
}

impl Sockets {
    pub(super) fn insert(&mut self, id: ConnectionId, socket: Socket) {
        let place = id.index as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        let wire = socket.borrow();
        let (descriptor, is_sealed) = (wire.stream.as_raw_fd(), wire.session.is_some());
        drop(wire);
        self.0[place] = Some(Place { id, descriptor, is_sealed, socket });
    }

    /// The descriptor to send to, with the socket if what is sent must be sealed before.
    pub(super) fn route(&self, id: ConnectionId) -> Option<(RawFd, Option<&Socket>)> {
        let place = self.place(id)?;
        Some((place.descriptor, place.is_sealed.then_some(&place.socket)))
    }

    fn socket(&self, id: ConnectionId) -> Option<Socket> {
        self.place(id).map(|place| Rc::clone(&place.socket))
    }

    fn place(&self, id: ConnectionId) -> Option<&Place> {
        self.0.get(id.index as usize)?.as_ref().filter(|place| place.id == id)
    }

    fn remove(&mut self, id: ConnectionId) -> Option<Socket> {
        let socket = self.socket(id)?;
        self.0[id.index as usize] = None;
        Some(socket)
    }
}

/// Serves one open connection until it ends.
pub(super) async fn read(core: Rc<Core>, id: ConnectionId, socket: Socket) {
    let reason = read_until_end(&core, id, &socket).await;
    core.shard.borrow_mut().handle_end(id, reason);
    core.handle_closed();
}

/// Hands the peer's bytes to the shard until there are no more.
async fn read_until_end(core: &Core, id: ConnectionId, socket: &Socket) -> CloseReason {
    loop {
        let read = poll_fn(|context| {
            let mut buffer = core.read_buffer.borrow_mut();
            let mut wire = socket.borrow_mut();
            let room = core.shard.borrow().read_bytes_max(id).min(buffer.len());
            let read = wire.poll_read(context, &mut buffer[..room]);
            read.map(|read| {
                let count = read.map_err(|error| match error.kind() {
                    io::ErrorKind::ConnectionReset => CloseReason::PeerReset,
                    _ => CloseReason::Io,
                })?;
                let mut plain = core.plain_buffer.borrow_mut();
                let bytes = wire.open(&mut buffer[..count], &mut plain).map_err(|error| {
                    tracing::debug!(%error, "a client's records cannot be read");
                    CloseReason::Io
                })?;
                core.shard.borrow_mut().handle_bytes(id, bytes, clock::now());
                let has_ended = count == 0 || wire.is_peer_closed();
                if has_ended { Err(CloseReason::PeerReset) } else { Ok(()) }
            })
        });
        if let Err(reason) = read.await {
            return reason;
        }
        core.handle_closed();
        core.kick();
        executor::yield_if_needed().await;
    }
}

/// Waits until a full socket takes bytes again, then gives the connection back to the flush.
pub(super) async fn write_when_writable(core: Rc<Core>, id: ConnectionId) {
    let outcome = poll_fn(|context| {
        let Some(socket) = core.sockets.borrow().socket(id) else { return Poll::Ready(None) };
        if !core.may_write(context) {
            return Poll::Pending;
        }
        let mut wire = socket.borrow_mut();
        let written = match wire.session {
            // What the flush seals next depends on what is worth sending by then.
            Some(_) => wire.poll_write_rest(context).map(|written| match written {
                Ok(()) => None,
                Err(_) => Some(Outcome::Failed),
            }),
            None => {
                let mut shard = core.shard.borrow_mut();
                let Some(bytes) = shard.next_write(id) else { return Poll::Ready(None) };
                let written = Pin::new(&mut wire.stream).poll_write(context, bytes);
                written.map(|written| Some(written.map_or(Outcome::Failed, Outcome::Took)))
            }
        };
        if written.is_pending() {
            core.has_not_written();
        }
        written
    });
    match outcome.await {
        Some(outcome) => core.shard.borrow_mut().handle_written(id, outcome, clock::now()),
        None => core.shard.borrow_mut().handle_writable(id),
    }
    core.handle_closed();
    core.kick();
}

/// Lets go of a connection that has ended. Its last bytes are on their way, so the socket stays
/// half open until the peer ends too, for a bounded time; the reading task then drops it.
pub(super) fn let_go(core: &Core, id: ConnectionId, reason: CloseReason) {
    let Some(socket) = core.sockets.borrow_mut().remove(id) else { return };
    let how = if reason.close_code().is_some() { Shutdown::Write } else { Shutdown::Both };
    socket.borrow_mut().end(how);
    let waiting = Rc::downgrade(&socket);
    drop(socket);
    if waiting.upgrade().is_some() && how == Shutdown::Write {
        executor::spawn(async move {
            executor::sleep(Duration::from_millis(CLOSE_MS)).await;
            if let Some(socket) = waiting.upgrade() {
                let wire = socket.borrow();
                let _ = with_socket(&wire.stream, |socket| socket.shutdown(Shutdown::Both));
            }
        });
    }
}
