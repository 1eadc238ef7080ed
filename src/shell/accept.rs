//! Takes connections from a listener, and leaves each to a handshake of its own.
//!
//! Not here: who may come in (`admission`). Invariant: what was taken is counted as a
//! handshake at once.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{RESTORE_LOOK_MS, RETRY_MS};

use super::certificates::Certificates;
use super::doorman::Door;
use super::executor;
use super::handshake;
use super::lane;
use super::net;
use super::shard_loop::Core;
use super::wire::Wire;

/// Where connections come in.
#[derive(Debug)]
pub struct Entrance {
    /// The listener's.
    pub door: Door,
    /// What clients see first where they begin with TLS.
    pub certificates: Option<Arc<Certificates>>,
}

/// Takes connections until a successor has the listener. While a journal is taken in they wait in
/// the kernel's backlog; while the server drains or stops they are refused with 503.
pub(super) async fn run(core: Rc<Core>, entrance: Entrance) {
    while core.is_restoring() {
        executor::sleep(Duration::from_millis(RESTORE_LOOK_MS)).await;
    }
    loop {
        core.admission.pace().await;
        let Some(taken) = entrance.door.accept().await else { return };
        match taken {
            Ok((socket, peer)) => {
                core.begin_handshake();
                take(&core, &entrance, socket, peer).await;
                executor::yield_if_needed().await;
            }
            Err(error) => {
                // Most often descriptors ran out: the kernel keeps the rest in its backlog.
                tracing::warn!(shard = core.number, %error, "accept failed; raise `ulimit -n`?");
                executor::sleep(Duration::from_millis(RETRY_MS)).await;
            }
        }
    }
}

/// Leaves a connection that was taken to a handshake, or to its refusal. Who may not even be
/// refused in words is cut here, before it costs anything.
async fn take(core: &Rc<Core>, entrance: &Entrance, socket: OwnedFd, peer: Option<IpAddr>) {
    let tls = entrance.certificates.as_deref();
    let wire = || Wire::accepted(net::stream(socket), core.socket_settings, tls);
    match lane::step(core, || core.admit(peer)).await {
        Ok(permit) => {
            let Some(wire) = lane::step(core, wire).await else { return core.end_handshake() };
            let task = handshake::serve(Rc::clone(core), wire, permit, peer);
            executor::spawn_into(core.handshakes, task);
        }
        Err(rejection) => {
            core.count_refusal(Some(rejection));
            core.end_handshake();
            let lingering = core.linger_unheard(rejection, peer, tls.is_some());
            let Some(lingering) = lingering else { return };
            let Some(wire) = lane::step(core, wire).await else { return };
            let task = handshake::refuse(Rc::clone(core), wire, rejection, lingering);
            executor::spawn_into(core.handshakes, task);
        }
    }
}
