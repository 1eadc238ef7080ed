//! What the open connections of a core do with their sockets: one task reads for all of them, and
//! writes to those whose sockets were full.
//!
//! Bytes go to and come from the shard; nothing is decided here. Not here: how a connection came to
//! be open (`handshake`), and where its socket is kept (`sockets`). Invariant: each reads or writes
//! once, and a bounded amount, before it is the next one's turn.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::fanout::connection::{ConnectionId, Ended, Sent};
use crate::fanout::shard::{Outcome, Shard};
use crate::limits::{POLL_EVENTS, RETRY_MS};
use crate::protocol::ws::close::CloseReason;
use crate::telemetry::ENDS_TARGET;

use super::clock;
use super::executor;
use super::poll_set::Watch;
use super::shard_loop::Core;
use super::sockets::Place;
use super::wire;

/// Serves the open connections of a core for as long as it runs.
pub(super) async fn serve(core: Rc<Core>, mut watch: Watch) {
    loop {
        let waited = poll_fn(|context| match core.is_somebody_ready(context) {
            true => Poll::Ready(Ok(())),
            false => watch.poll(context),
        });
        if let Err(error) = waited.await {
            tracing::warn!(shard = core.number, %error, "cannot wait; raise `ulimit -n`?");
            executor::sleep(Duration::from_millis(RETRY_MS)).await;
        }
        core.sockets.borrow_mut().look(|id| core.writers.borrow_mut().add(id));
        for _ in 0..POLL_EVENTS {
            let has_written = write_next(&core);
            let has_read = read_next(&core);
            if !has_written && !has_read {
                break;
            }
            core.handle_closed();
            core.kick();
            executor::yield_if_needed().await;
        }
    }
}

/// Lets go of a connection that has ended.
pub(super) fn let_go(core: &Core, ended: &Ended) {
    let (mut sockets, now_ns) = (core.sockets.borrow_mut(), clock::now().monotonic_ns);
    if let Some(place) = sockets.see(ended.id) {
        log_end(core, ended, place, now_ns);
    }
    let reason = ended.reason;
    let how = if reason.close_code().is_some() { Shutdown::Write } else { Shutdown::Both };
    sockets.let_go(ended.id, how, now_ns);
}

/// Hands the next client's bytes to the shard; false when nobody is left.
fn read_next(core: &Core) -> bool {
    let mut sockets = core.sockets.borrow_mut();
    let Some((id, place)) = sockets.next_readable() else { return false };
    match read(core, id, place) {
        // It is news when there is something again.
        Poll::Pending => {}
        Poll::Ready(Ok(())) => sockets.has_read(id),
        Poll::Ready(Err(reason)) => {
            sockets.has_ended(id);
            core.shard.borrow_mut().handle_end(id, reason);
        }
    }
    true
}

/// Reads once; pending when there is nothing. Of a socket that is half open only the end counts:
/// the shard does not know it any more.
fn read(core: &Core, id: ConnectionId, place: &mut Place) -> Poll<Result<(), CloseReason>> {
    let mut buffer = core.read_buffer.borrow_mut();
    let room = core.shard.borrow().read_bytes_max(id).min(buffer.len());
    let count = match recv(&place.descriptor, &mut buffer[..room], RecvFlags::DONTWAIT) {
        Ok((count, _)) => count,
        Err(Errno::WOULDBLOCK) => return Poll::Pending,
        Err(Errno::INTR) => return Poll::Ready(Ok(())),
        Err(Errno::CONNRESET) => return Poll::Ready(Err(CloseReason::PeerReset)),
        Err(_) => return Poll::Ready(Err(CloseReason::Io)),
    };
    let mut plain = core.plain_buffer.borrow_mut();
    let session = place.session.as_deref_mut();
    let bytes = wire::open(session, &mut buffer[..count], &mut plain).map_err(|error| {
        tracing::debug!(%error, "a client's records cannot be read");
        CloseReason::Io
    })?;
    let socket = || place.look_at();
    core.shard.borrow_mut().handle_bytes_of(id, bytes, &socket, clock::now());
    let has_said_so = place.session.as_ref().is_some_and(|session| session.is_peer_closed());
    Poll::Ready(if count == 0 || has_said_so { Err(CloseReason::PeerReset) } else { Ok(()) })
}

/// Writes to the next socket that has room again, and gives its connection back to the flush; false
/// when nobody may write.
fn write_next(core: &Core) -> bool {
    let next = core.writers.borrow_mut().next(core.is_due());
    let Some(id) = next else { return false };
    let mut sockets = core.sockets.borrow_mut();
    let mut shard = core.shard.borrow_mut();
    let written = sockets.open(id).map(|place| write(&mut shard, id, place));
    match written {
        None => core.writers.borrow_mut().has_not_written(),
        Some(Ok(None)) => shard.handle_writable(id),
        Some(Ok(Some(count))) => shard.handle_written(id, Outcome::Took(count), clock::now()),
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            core.writers.borrow_mut().has_not_written();
            sockets.wait_for_room(id);
        }
        Some(Err(_)) => shard.handle_written(id, Outcome::Failed, clock::now()),
    }
    true
}

/// Writes what a connection has left, and returns how much the shard is to know of: nothing of
/// records, because what is sealed next depends on what is worth sending by then.
fn write(shard: &mut Shard, id: ConnectionId, place: &mut Place) -> io::Result<Option<usize>> {
    const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
    if let Some(session) = &mut place.session {
        while !session.rest().is_empty() {
            let count = send(&place.descriptor, session.rest(), FLAGS)?;
            session.handle_sent(count);
        }
        return Ok(None);
    }
    let Some(bytes) = shard.next_write(id) else { return Ok(None) };
    Ok(Some(send(&place.descriptor, bytes, FLAGS)?))
}

/// Logs that a connection has ended, with what it came to.
fn log_end(core: &Core, ended: &Ended, place: &Place, now_ns: u64) {
    if !tracing::enabled!(target: ENDS_TARGET, tracing::Level::INFO) {
        return;
    }
    let Ended { reason, sent: Sent { events, bytes }, missed, member, .. } = ended;
    let lived_ns = now_ns - place.opened_ns;
    tracing::info!(
        target: ENDS_TARGET,
        reason = reason.name(),
        address = place.peer.map(tracing::field::display),
        identity = %member.grant().identity,
        seconds = lived_ns / 1_000_000_000,
        events,
        bytes,
        missed,
        shard = core.number,
        "connection ended"
    );
}
