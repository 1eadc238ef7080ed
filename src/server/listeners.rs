//! Every listener of a server, bound anew or taken over, each with what it is for.
//!
//! Not here: what happens to those who connect. Invariant: whatever fails fails before any thread
//! of a shard has started; and what is shared with a server before is as that made it, until it
//! makes way.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::error::{StartError, bind_error, no_doorman};
use super::sources::{self, Ready};
use crate::access::Gate;
use crate::config::Settings;
use crate::nats::Subscription;
use crate::shell::accept::Entrance;
use crate::shell::certificates::Certificates;
use crate::shell::control::{CONTROL_MODE, ControlListener};
use crate::shell::doorman::Doorman;
use crate::shell::estate::Estate;
use crate::shell::listener::{self, Shared};
use crate::shell::net::Listener;
use crate::shell::steering;

/// Every listener of a server.
pub(super) struct Listeners {
    pub(super) listen: SocketAddr,
    pub(super) tls: Option<SocketAddr>,
    /// Where the connections of each shard come in.
    pub(super) entrances: Vec<Vec<Entrance>>,
    /// The sources' URLs.
    pub(super) urls: Vec<String>,
    pub(super) sources: Vec<Ready>,
    pub(super) admin: Option<(Listener, SocketAddr)>,
    pub(super) control: Option<ControlListener>,
    pub(super) estate: Estate,
    /// What is left to do at addresses that are taken over, once the server before makes way.
    pub(super) taken: Vec<Taken>,
}

/// Listeners of one address that this server shares with the one before.
pub(super) struct Taken {
    what: &'static str,
    first: OwnedFd,
    silent: Vec<OwnedFd>,
}

impl Listeners {
    /// Binds, or takes over, what the settings name.
    ///
    /// # Errors
    /// The first that is refused, with its cure.
    pub(super) fn bind(
        settings: &Settings,
        doorman: &Doorman,
        gate: &Arc<Gate>,
        certificates: Option<&Arc<Certificates>>,
        stream: Option<Subscription>,
    ) -> Result<Self, StartError> {
        let mut estate = Estate::new(settings.take_over.as_deref(), settings.control.is_some())?;
        let mut entrances = settings.cores.iter().map(|_| Vec::new()).collect::<Vec<_>>();
        let mut taken = Vec::new();
        let mut share = |estate: &mut Estate, what, address, certificates| {
            let failed = |source| bind_error(what, address, source);
            let shared = estate.shared(what, address, settings.cores.len()).map_err(failed)?;
            let Shared { address, listeners, silent } = shared;
            if settings.take_over.is_none() {
                choose(settings, &listeners[0])?;
            } else {
                let first = listeners[0].try_clone().map_err(failed)?;
                taken.push(Taken { what, first, silent });
            }
            for (place, listener) in listeners.into_iter().enumerate() {
                // With fewer shards than listeners, some have several.
                let shard = place % settings.cores.len();
                entrances[shard].push(entrance(doorman, listener, certificates)?);
            }
            Ok::<_, StartError>(address)
        };
        let listen = share(&mut estate, "listen", settings.listen, None)?;
        let tls = settings.tls.as_ref();
        let tls = tls.map(|tls| share(&mut estate, "tls_listen", tls.listen, certificates));
        let tls = tls.transpose()?;
        let (urls, sources) =
            sources::bind(settings, &mut estate, doorman, gate, certificates, stream)?;
        let admin = settings.admin.map(|address| admin(&mut estate, address, doorman));
        let admin = admin.transpose()?;
        let control = settings.control.as_deref().map(|path| {
            let bound = estate.unix("control", path, CONTROL_MODE).and_then(ControlListener::new);
            bound.map_err(|source| bind_error("control", path.display(), source))
        });
        let control = control.transpose()?;
        Ok(Self { listen, tls, entrances, urls, sources, admin, control, estate, taken })
    }
}

impl Taken {
    /// Lets the kernel give this server's shards their connections. The server before has made way:
    /// what fails now is no reason to leave everybody alone.
    pub(super) fn open(&self, settings: &Settings) {
        let what = self.what;
        for listener in &self.silent {
            if let Err(error) = listener::listen(listener) {
                tracing::error!(%error, "{what}: a shard gets no connections; restart the server");
            }
        }
        if let Err(error) = choose(settings, &self.first) {
            tracing::error!("{what}: {error}; the kernel spreads connections as before");
        }
    }
}

/// Says which of the listeners of an address gets a connection.
fn choose(settings: &Settings, first: &OwnedFd) -> Result<(), StartError> {
    if settings.steer_by_cpu {
        return steering::steer(first, &settings.cores).map_err(StartError::Steering);
    }
    steering::release(first);
    Ok(())
}

fn entrance(
    doorman: &Doorman,
    listener: OwnedFd,
    certificates: Option<&Arc<Certificates>>,
) -> Result<Entrance, StartError> {
    let door = doorman.door(listener).map_err(no_doorman)?;
    Ok(Entrance { door, certificates: certificates.cloned() })
}

fn admin(
    estate: &mut Estate,
    address: SocketAddr,
    doorman: &Doorman,
) -> Result<(Listener, SocketAddr), StartError> {
    let bound = estate.tcp("admin", address);
    bound
        .and_then(|(listener, at)| Ok((Listener::new(listener, doorman)?, at)))
        .map_err(|source| bind_error("admin", address, source))
}
