//! One subscriber's socket: accept, upgrade, read, and the writer of a full socket.
//!
//! Bytes go to and come from the shard; nothing is decided here. A connection has one task that
//! reads, into a buffer that all of the core share, and while its socket is full a second one that
//! waits to write. Invariant: a connection known to the shard has its socket in the table.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt};
use glommio::net::TcpStream;

use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::Outcome;
use crate::limits::{CLOSE_MS, UPGRADE_BYTES_MAX};
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::handshake::{self, Parsed, Rejection, Upgrade};

use super::clock;
use super::executor;
use super::net::with_socket;
use super::shard_loop::Core;

/// A socket that its reader, its writer and the flush share.
pub(super) type Socket = Rc<RefCell<TcpStream>>;

/// The sockets of a shard's connections, by their place in the shard's table.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<Option<(ConnectionId, RawFd, Socket)>>);

impl Sockets {
    fn insert(&mut self, id: ConnectionId, socket: Socket) {
        let place = id.index as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        let descriptor = socket.borrow().as_raw_fd();
        self.0[place] = Some((id, descriptor, socket));
    }

    /// The descriptor to send to.
    pub(super) fn descriptor(&self, id: ConnectionId) -> Option<RawFd> {
        match self.0.get(id.index as usize)? {
            Some((known, descriptor, _)) if *known == id => Some(*descriptor),
            _ => None,
        }
    }

    fn socket(&self, id: ConnectionId) -> Option<Socket> {
        match self.0.get(id.index as usize)? {
            Some((known, _, socket)) if *known == id => Some(Rc::clone(socket)),
            _ => None,
        }
    }

    fn remove(&mut self, id: ConnectionId) -> Option<Socket> {
        let socket = self.socket(id)?;
        self.0[id.index as usize] = None;
        Some(socket)
    }
}

/// Upgrades one accepted socket, and leaves it to a task that reads, so that the memory of the
/// upgrade is gone once the channel is open.
pub(super) async fn serve(core: Rc<Core>, mut stream: TcpStream) {
    let Some(mut rest) = upgrade(&core, &mut stream).await else {
        core.counters().refused.add(1);
        return;
    };
    let socket = Rc::new(RefCell::new(stream));
    let id = core.shard.borrow_mut().handle_open(clock::now());
    core.sockets.borrow_mut().insert(id, Rc::clone(&socket));
    core.shard.borrow_mut().handle_bytes(id, &mut rest, clock::now());
    core.kick();
    executor::spawn_into(core.clients, read(Rc::clone(&core), id, socket));
}

/// Answers the upgrade request; with 101 it returns what came behind the request in one piece.
async fn upgrade(core: &Core, stream: &mut TcpStream) -> Option<Vec<u8>> {
    if !core.has_room() {
        refuse(stream, Rejection::AtCapacity).await;
        return None;
    }
    core.upgrading.set(core.upgrading.get() + 1);
    let opened = open(core, stream).await;
    core.upgrading.set(core.upgrading.get() - 1);
    let (upgrade, rest) = opened?;
    if core.is_stopping() {
        // Too late for the close frames of the stop, which would wait for this connection in vain.
        refuse(stream, Rejection::AtCapacity).await;
        return None;
    }
    let mut accept = Vec::new();
    handshake::write_accept(&mut accept, &upgrade);
    stream.write_all(&accept).await.ok()?;
    Some(rest)
}

/// Serves one open connection until it ends.
async fn read(core: Rc<Core>, id: ConnectionId, socket: Socket) {
    let reason = read_until_end(&core, id, &socket).await;
    core.shard.borrow_mut().handle_end(id, reason);
    core.handle_closed();
}

/// Reads the upgrade request, and answers it when it is refused.
async fn open(core: &Core, stream: &mut TcpStream) -> Option<(Upgrade, Vec<u8>)> {
    let mut head = Vec::new();
    let asked = async {
        loop {
            if !read_some(core, stream, &mut head).await {
                return Err(None);
            }
            match handshake::parse(&head) {
                Ok(Parsed::Incomplete) => {}
                Ok(Parsed::Request { upgrade, head_len }) => return Ok((upgrade, head_len)),
                Err(rejection) => return Err(Some(rejection)),
            }
        }
    };
    let asked = executor::within(core.upgrade_timeout, asked).await;
    match asked.unwrap_or(Err(Some(Rejection::Timeout))) {
        Ok((upgrade, head_len)) => {
            head.drain(..head_len);
            Some((upgrade, head))
        }
        Err(Some(rejection)) => {
            refuse(stream, rejection).await;
            None
        }
        Err(None) => None,
    }
}

async fn read_some(core: &Core, stream: &mut TcpStream, head: &mut Vec<u8>) -> bool {
    let read = poll_fn(|context| {
        let mut buffer = core.read_buffer.borrow_mut();
        // One byte past the limit is enough for the parser to refuse the request.
        let room = (UPGRADE_BYTES_MAX + 1).saturating_sub(head.len()).min(buffer.len());
        let read = Pin::new(&mut *stream).poll_read(context, &mut buffer[..room]);
        if let Poll::Ready(Ok(count)) = read {
            head.extend_from_slice(&buffer[..count]);
        }
        read
    });
    matches!(read.await, Ok(count) if count > 0)
}

/// Writes a refusal and waits for the peer to read it, for a bounded time.
async fn refuse(stream: &mut TcpStream, rejection: Rejection) {
    let mut answer = Vec::new();
    rejection.write(&mut answer);
    let farewell = async {
        if stream.write_all(&answer).await.is_ok() {
            let _ = with_socket(stream, |socket| socket.shutdown(Shutdown::Write));
            // Unread input would turn the close into a reset, which can overtake the answer.
            let mut sink = [0; 512];
            while matches!(
                poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut sink)).await,
                Ok(count) if count > 0
            ) {}
        }
    };
    executor::within(Duration::from_millis(CLOSE_MS), farewell).await;
}

/// Hands the peer's bytes to the shard until there are no more.
async fn read_until_end(core: &Core, id: ConnectionId, socket: &Socket) -> CloseReason {
    loop {
        let read = poll_fn(|context| {
            let mut buffer = core.read_buffer.borrow_mut();
            let mut stream = socket.borrow_mut();
            let room = core.shard.borrow().read_bytes_max(id).min(buffer.len());
            let read = Pin::new(&mut *stream).poll_read(context, &mut buffer[..room]);
            if let Poll::Ready(Ok(count)) = read {
                let bytes = &mut buffer[..count];
                core.shard.borrow_mut().handle_bytes(id, bytes, clock::now());
            }
            read
        });
        match read.await {
            Ok(0) => return CloseReason::PeerReset,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return CloseReason::PeerReset;
            }
            Err(_) => return CloseReason::Io,
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
        let mut shard = core.shard.borrow_mut();
        let Some(bytes) = shard.next_write(id) else { return Poll::Ready(None) };
        let mut stream = socket.borrow_mut();
        let written = Pin::new(&mut *stream).poll_write(context, bytes);
        if written.is_pending() {
            core.has_not_written();
        }
        written.map(|written| Some(written.map_or(Outcome::Failed, Outcome::Took)))
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
    // A socket that is gone already cannot be shut down, and need not be.
    let _ = with_socket(&socket.borrow(), |socket| socket.shutdown(how));
    let waiting = Rc::downgrade(&socket);
    drop(socket);
    if waiting.upgrade().is_some() && how == Shutdown::Write {
        executor::spawn(async move {
            executor::sleep(Duration::from_millis(CLOSE_MS)).await;
            if let Some(socket) = waiting.upgrade() {
                let _ = with_socket(&socket.borrow(), |socket| socket.shutdown(Shutdown::Both));
            }
        });
    }
}
