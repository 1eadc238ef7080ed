//! From an accepted socket to an open channel: the upgrade request, and who may come in.
//!
//! Whatever is refused is refused here, with an HTTP answer, before anything is opened. Not here:
//! the rules ([`crate::access`]) and the open connection ([`super::connection`]). Invariant: an
//! unfinished handshake ends within its time.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::time::Duration;

use crate::access::{Credential, Denied, Member, Network, Permit};
use crate::limits::{CLOSE_MS, UPGRADE_BYTES_MAX};
use crate::protocol::tls::TlsError;
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::handshake::{self, Parsed, Rejection, Upgrade};

use super::admission::{at_capacity, retry_after_s};
use super::clock;
use super::executor;
use super::lane;
use super::shard_loop::Core;
use super::sockets::Place;
use super::wire::Wire;

/// Upgrades one accepted socket and leaves it to the task that serves all open connections, so that
/// nothing of the upgrade is kept once the channel is open.
pub(super) async fn serve(core: Rc<Core>, mut wire: Wire, peer: Option<IpAddr>) {
    let admitted = core.admit(peer);
    let is_admitted = admitted.is_ok();
    let opened = match admitted {
        Ok(permit) => shake_hands(&core, &mut wire, permit).await,
        Err(rejection) => Err(Some(rejection)),
    };
    let (member, mut rest) = match opened {
        Ok(opened) => opened,
        Err(rejection) => {
            core.count_refusal(rejection);
            core.end_handshake();
            if let Some(rejection) = rejection
                && core.admission.may_linger()
            {
                let farewell = refuse(&core, &mut wire, rejection, is_admitted);
                executor::within(Duration::from_millis(CLOSE_MS), farewell).await;
                core.admission.has_lingered();
            }
            return;
        }
    };
    core.end_handshake();
    if let Err(error) = open_channel(&core, wire, member, peer, &mut rest) {
        tracing::warn!(shard = core.number, %error, "cannot watch a client; see kernel-tuning.md");
    }
}

/// Gives an upgraded socket to those of the open connections, with what came behind its request.
fn open_channel(
    core: &Core,
    wire: Wire,
    member: Member,
    peer: Option<IpAddr>,
    rest: &mut [u8],
) -> io::Result<()> {
    let (descriptor, session) = wire.into_parts()?;
    let id = core.shard.borrow_mut().handle_open(member, clock::now());
    let inserted = core.sockets.borrow_mut().insert(id, descriptor, session, peer);
    match &inserted {
        Ok(()) => {
            let socket = || core.sockets.borrow().see(id).map(Place::look_at).unwrap_or_default();
            core.shard.borrow_mut().handle_bytes_of(id, rest, &socket, clock::now());
        }
        Err(_) => core.shard.borrow_mut().handle_end(id, CloseReason::Io),
    }
    core.handle_closed();
    core.kick();
    inserted
}

/// What opened the channel, and what came behind the request in one piece.
type Opened = (Member, Vec<u8>);

/// Reads the request and answers it, unless it is refused; no refusal when the peer is gone.
async fn shake_hands(
    core: &Core,
    wire: &mut Wire,
    permit: Option<Permit<Network>>,
) -> Result<Opened, Option<Rejection>> {
    let (upgrade, rest) = request(core, wire).await?;
    if core.is_stopping() {
        // Too late for the close frames of the stop, which would wait for this connection in vain.
        return Err(Some(at_capacity()));
    }
    let mut member = lane::step(core, || admit(core, &upgrade, wire)).await?;
    if let Some(permit) = permit {
        member.count_address(permit);
    }
    let mut accept = Vec::new();
    handshake::write_accept(&mut accept, &upgrade);
    wire.write_all(&accept).await.map_err(|_| None)?;
    Ok((member, rest))
}

/// Decides who may come in.
fn admit(core: &Core, upgrade: &Upgrade, wire: &Wire) -> Result<Member, Rejection> {
    if !core.gate.allows_origin(upgrade.origin.as_deref()) {
        return Err(Rejection::OriginForbidden);
    }
    let shown = Credential::find(upgrade.authorization.as_deref(), upgrade.query.as_deref());
    let credential = shown.or_else(|| {
        let names = wire.session.as_ref()?.client_names()?;
        Some(Credential::Certificate(names))
    });
    match core.gate.admit(credential.as_ref(), clock::now().unix_ns) {
        Ok(member) => Ok(member),
        Err(Denied::Missing) if core.may_authenticate_later => Ok(core.gate.stranger()),
        Err(denied) => Err(rejection(denied)),
    }
}

fn rejection(denied: Denied) -> Rejection {
    match denied {
        Denied::TooManyConnections => Rejection::TooMany {
            reason: "as many connections are open with this credential as it may have",
            retry_after_s: retry_after_s(),
        },
        denied => Rejection::Unauthorized(denied.text()),
    }
}

/// Reads the whole request, within its time; with TLS, behind that handshake.
async fn request(core: &Core, wire: &mut Wire) -> Result<(Upgrade, Vec<u8>), Option<Rejection>> {
    let mut head = Vec::new();
    let asked = async {
        loop {
            let before = head.len();
            read_some(core, wire, &mut head).await?;
            if !handshake::is_worth_parsing(&head, before) {
                continue;
            }
            match lane::step(core, || handshake::parse(&head)).await {
                Ok(Parsed::Incomplete) => {}
                Ok(Parsed::Request { upgrade, head_len }) => return Ok((upgrade, head_len)),
                Err(rejection) => return Err(Some(rejection)),
            }
        }
    };
    let asked = executor::within(core.in_force.load().upgrade_timeout, asked).await;
    let (upgrade, head_len) = asked.unwrap_or(Err(Some(Rejection::Timeout)))?;
    head.drain(..head_len);
    Ok((upgrade, head))
}

/// Reads once, and answers what belongs to the handshake of TLS.
async fn read_some(
    core: &Core,
    wire: &mut Wire,
    head: &mut Vec<u8>,
) -> Result<(), Option<Rejection>> {
    let mut read = Vec::new();
    let has_read = poll_fn(|context| {
        let mut buffer = core.read_buffer.borrow_mut();
        // One byte past the limit is enough for the parser to refuse the request.
        let room = (UPGRADE_BYTES_MAX + 1).saturating_sub(head.len()).min(buffer.len());
        wire.poll_read(context, &mut buffer[..room]).map(|count| {
            read.extend_from_slice(&buffer[..count.unwrap_or(0)]);
            !read.is_empty()
        })
    });
    if !has_read.await {
        return Err(None);
    }
    let was_handshaking = is_handshaking(wire);
    let opened = lane::step(core, || open(core, wire, &mut read, head)).await;
    let answered = poll_fn(|context| wire.poll_write_rest(context)).await;
    if was_handshaking && (opened.is_err() || !is_handshaking(wire)) {
        count_handshake(core, wire, opened.as_ref().err());
    }
    match opened {
        Ok(()) if wire.is_peer_closed() => Err(None),
        Ok(()) => answered.map_err(|_| None),
        Err(TlsError::PlainHttp) => {
            wire.session = None;
            let cure = "this address speaks TLS; connect with wss://";
            Err(Some(Rejection::Malformed(cure)))
        }
        Err(_) => {
            linger(wire).await;
            Err(None)
        }
    }
}

/// Appends to `head` what was read, as the peer meant it.
fn open(core: &Core, wire: &mut Wire, read: &mut [u8], head: &mut Vec<u8>) -> Result<(), TlsError> {
    let mut plain = core.plain_buffer.borrow_mut();
    wire.open(read, &mut plain).map(|bytes| head.extend_from_slice(bytes))
}

fn is_handshaking(wire: &Wire) -> bool {
    wire.session.as_ref().is_some_and(|session| session.is_handshaking())
}

/// Counts a handshake of TLS that is over.
fn count_handshake(core: &Core, wire: &Wire, error: Option<&TlsError>) {
    let counters = core.counters();
    if let Some(error) = error {
        counters.tls_failed.add(1);
        tracing::debug!(%error, "a handshake failed");
        return;
    }
    counters.tls_handshakes.add(1);
    let is_resumed = wire.session.as_ref().is_some_and(|session| session.is_resumed());
    counters.tls_resumed.add(u64::from(is_resumed));
}

/// Writes a refusal and waits for the peer to read it. A peer that `has_asked` nothing yet is heard
/// first, because many clients take an answer to no question for the end of the stream.
async fn refuse(core: &Core, wire: &mut Wire, rejection: Rejection, has_asked: bool) {
    if !has_asked && request(core, wire).await.is_err() {
        return;
    }
    // Before the handshake of TLS is done there is no way to say anything.
    if !is_handshaking(wire) {
        let mut answer = Vec::new();
        rejection.write(&mut answer);
        if wire.write_all(&answer).await.is_ok() {
            linger(wire).await;
        }
    }
}

/// Ends what is sent, and waits until the peer ends, too, for a bounded time: unread input would
/// turn the close into a reset, which can overtake the last words.
async fn linger(wire: &mut Wire) {
    wire.end(Shutdown::Write);
    let drained = async {
        let mut sink = [0; 512];
        while matches!(
            poll_fn(|context| wire.poll_read(context, &mut sink)).await,
            Ok(count) if count > 0
        ) {}
    };
    executor::within(Duration::from_millis(CLOSE_MS), drained).await;
}
