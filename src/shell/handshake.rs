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

use crate::access::{Credential, Denied, Member};
use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::stream::Refused;
use crate::limits::{CLOSE_MS, UPGRADE_BYTES_MAX};
use crate::protocol::encoding::Encoding;
use crate::protocol::query;
use crate::protocol::tls::TlsError;
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::deflate::Agreed;
use crate::protocol::ws::handshake::{self, Events, Parsed, Rejection, Upgrade};

use super::admission::{Counted, Lingering, at_capacity, retry_after_s};
use super::clock;
use super::executor;
use super::lane;
use super::shard_loop::Core;
use super::sockets::Place;
use super::wire::Wire;

/// Upgrades one accepted socket and leaves it to the task that serves all open connections, so that
/// nothing of the upgrade is kept once the channel is open.
pub(super) async fn serve(core: Rc<Core>, mut wire: Wire, permit: Counted, peer: Option<IpAddr>) {
    let opened = match shake_hands(&core, &mut wire, permit).await {
        Ok(opened) => opened,
        Err(rejection) => {
            core.count_refusal(rejection);
            core.end_handshake();
            if let Some(rejection) = rejection
                && let Some(_lingering) = core.linger()
            {
                let farewell = say_no(&mut wire, rejection);
                executor::within(Duration::from_millis(CLOSE_MS), farewell).await;
            }
            return;
        }
    };
    let attached = match opened {
        Opened::WebSocket(channel) => open_channel(&core, wire, channel, peer),
        Opened::Events { member, head, request } => {
            let begun =
                core.shard.borrow_mut().handle_stream(member, &head, &request, clock::now());
            match begun {
                Ok(id) => attach(&core, wire, id, peer),
                Err(refused) => {
                    core.end_handshake();
                    return turn_away(&core, wire, &refused).await;
                }
            }
        }
    };
    // Not before it counts as a connection: there is no moment in which nobody is left.
    core.end_handshake();
    core.handle_closed();
    core.kick();
    if let Err(error) = attached {
        tracing::warn!(shard = core.number, %error, "cannot watch a client; see kernel-tuning.md");
    }
}

/// Opens a channel, with what its request asked for and what came behind it.
fn open_channel(core: &Core, wire: Wire, channel: Channel, peer: Option<IpAddr>) -> io::Result<()> {
    let Channel { member, encoding, agreed, request, mut rest } = channel;
    let id = core.shard.borrow_mut().handle_open(member, encoding, clock::now());
    if let Some(agreed) = agreed {
        core.shard.borrow_mut().handle_agreed(id, agreed);
    }
    attach(core, wire, id, peer)?;
    let socket = || core.sockets.borrow().see(id).map(Place::look_at).unwrap_or_default();
    let mut shard = core.shard.borrow_mut();
    if let Some(text) = request {
        shard.handle_request(id, &text, &socket, clock::now());
    }
    shard.handle_bytes_of(id, &mut rest, &socket, clock::now());
    Ok(())
}

/// Gives the socket of a connection that the shard has just opened to those of the open
/// connections; without it, that one ends.
fn attach(core: &Core, wire: Wire, id: ConnectionId, peer: Option<IpAddr>) -> io::Result<()> {
    let attached = wire.into_parts().and_then(|(descriptor, session)| {
        core.sockets.borrow_mut().insert(id, descriptor, session, peer)
    });
    if attached.is_err() {
        core.shard.borrow_mut().handle_end(id, CloseReason::Io);
    }
    attached
}

/// Answers a request for an event stream that does not begin.
async fn turn_away(core: &Rc<Core>, mut wire: Wire, refused: &Refused) {
    core.handle_closed();
    if let Some(_lingering) = core.linger() {
        let mut answer = Vec::new();
        handshake::write_events_refusal(&mut answer, refused.code, &refused.reply);
        let farewell = say_farewell(&mut wire, &answer);
        executor::within(Duration::from_millis(CLOSE_MS), farewell).await;
    }
}

/// What was opened.
enum Opened {
    WebSocket(Channel),
    /// A stream of Server-Sent Events, still to be begun.
    Events {
        member: Member,
        /// The head of the response.
        head: Vec<u8>,
        /// The request that its URL stands for.
        request: String,
    },
}

/// What opened the channel.
struct Channel {
    member: Member,
    /// How the client gets its events.
    encoding: Encoding,
    /// What holds for compression, if anything was agreed on.
    agreed: Option<Agreed>,
    /// The request that its URL stands for.
    request: Option<String>,
    /// What came behind the upgrade request in one piece.
    rest: Vec<u8>,
}

/// Reads the request and answers it, unless it is refused; no refusal when the peer is gone.
async fn shake_hands(
    core: &Core,
    wire: &mut Wire,
    permit: Counted,
) -> Result<Opened, Option<Rejection>> {
    let (asked, rest) = request(core, wire).await?;
    if core.is_stopping() {
        // Too late for the close frames of the stop, which would wait for this connection in vain.
        return Err(Some(at_capacity()));
    }
    let mut member = lane::step(core, || admit(core, &asked, wire)).await?;
    if let Some(permit) = permit {
        member.count_address(permit);
    }
    let mut head = Vec::new();
    match asked {
        Asked::WebSocket(mut upgrade) => {
            if let Some(terms) = core.deflate {
                upgrade.agree(terms);
            }
            handshake::write_accept(&mut head, &upgrade);
            wire.write_all(&head).await.map_err(|_| None)?;
            let request = upgrade.query.as_deref().and_then(query::subscription);
            let (encoding, agreed) = (upgrade.encoding(), upgrade.deflate);
            Ok(Opened::WebSocket(Channel { member, encoding, agreed, request, rest }))
        }
        Asked::Events(events) => {
            handshake::write_events_accept(&mut head, events.origin.as_deref());
            let (query, place) = (events.query.unwrap_or_default(), events.last_event_id);
            let request = query::stream(&query, place.as_deref());
            Ok(Opened::Events { member, head, request })
        }
    }
}

/// What a request is for.
enum Asked {
    WebSocket(Upgrade),
    Events(Events),
}

/// Decides who may come in. A stream cannot show its credential later.
fn admit(core: &Core, asked: &Asked, wire: &Wire) -> Result<Member, Rejection> {
    let (origin, authorization, query, may_wait) = match asked {
        Asked::WebSocket(Upgrade { origin, authorization, query, .. }) => {
            (origin, authorization, query, core.may_authenticate_later)
        }
        Asked::Events(Events { origin, authorization, query, .. }) => {
            (origin, authorization, query, false)
        }
    };
    if !core.gate.allows_origin(origin.as_deref()) {
        return Err(Rejection::OriginForbidden);
    }
    let now_ns = clock::now().unix_ns;
    let certificate = wire.session.as_ref().and_then(|session| session.client_certificate());
    // Whatever else is shown: a session that is resumed was not verified again.
    if certificate.as_ref().is_some_and(|certificate| certificate.is_expired(now_ns)) {
        return Err(rejection(Denied::Expired));
    }
    let shown = Credential::find(authorization.as_deref(), query.as_deref());
    let credential = shown.or_else(|| certificate.map(Credential::Certificate));
    match core.gate.admit(credential.as_ref(), now_ns) {
        Ok(member) => Ok(member),
        Err(Denied::Missing) if may_wait => Ok(core.gate.stranger()),
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
async fn request(core: &Core, wire: &mut Wire) -> Result<(Asked, Vec<u8>), Option<Rejection>> {
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
                Ok(Parsed::Request { upgrade, head_len }) => {
                    return Ok((Asked::WebSocket(upgrade), head_len));
                }
                Ok(Parsed::Events(events)) => return Ok((Asked::Events(events), head.len())),
                Err(rejection) => return Err(Some(rejection)),
            }
        }
    };
    let asked = executor::within(core.in_force.load().upgrade_timeout, asked).await;
    let (asked, head_len) = asked.unwrap_or(Err(Some(Rejection::Timeout)))?;
    head.drain(..head_len);
    Ok((asked, head))
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
    match is_resumed {
        true => counters.tls_resumed.add(1),
        false => counters.tls_full.add(1),
    }
}

/// Refuses one that has asked nothing yet. It is heard first, because many clients take an answer
/// to no question for the end of the stream.
pub(super) async fn refuse(core: Rc<Core>, mut wire: Wire, rejection: Rejection, _held: Lingering) {
    let farewell = async {
        if request(&core, &mut wire).await.is_ok() {
            say_no(&mut wire, rejection).await;
        }
    };
    executor::within(Duration::from_millis(CLOSE_MS), farewell).await;
}

/// Writes a refusal and waits for the peer to read it. Before the handshake of TLS is done there is
/// no way to say anything.
async fn say_no(wire: &mut Wire, rejection: Rejection) {
    if !is_handshaking(wire) {
        let mut answer = Vec::new();
        rejection.write(&mut answer);
        say_farewell(wire, &answer).await;
    }
}

/// Writes the last answer, and waits for the peer to read it.
async fn say_farewell(wire: &mut Wire, answer: &[u8]) {
    if wire.write_all(answer).await.is_ok() {
        linger(wire).await;
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
