//! The listeners of a server: bound anew, or taken over from the server before it; and kept, so
//! that the server after it can have them.
//!
//! A listener that changes hands keeps its backlog, so that nobody who connects meanwhile is
//! refused. Not here: what listens at them. Invariant: of all listeners that share one address the
//! order is that of their binding, in every process that has them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use socket2::SockRef;

use crate::protocol::control::Request;

use super::control::{ControlError, ControlStream};
use super::listener::{self, Shared};

/// A listener and what it is for.
pub type Named = (String, OwnedFd);

/// The listeners of a server.
#[derive(Debug, Default)]
pub struct Estate {
    /// What the server before has given and nobody has asked for yet.
    inherited: Vec<Named>,
    /// Where that server waits to hear that this one is ready.
    giver: Option<ControlStream>,
    /// What all of this server's listeners are for, with descriptors of them; only if a successor
    /// can ask for them.
    kept: Option<Vec<Named>>,
}

impl Estate {
    /// Nothing yet, or what the server whose control socket is `from` has; `is_kept` for a
    /// successor.
    ///
    /// # Errors
    /// Why that server does not give its listeners; it goes on as before.
    pub fn new(from: Option<&Path>, is_kept: bool) -> Result<Self, ControlError> {
        let kept = is_kept.then(Vec::new);
        let Some(path) = from else { return Ok(Self { kept, ..Self::default() }) };
        let mut giver = ControlStream::connect(path)?;
        let names = giver.ask(Request::TakeOver)?.listeners.unwrap_or_default();
        let descriptors = giver.receive_descriptors(names.len());
        let descriptors = descriptors.map_err(|source| giver.failed(source))?;
        let inherited = names.into_iter().zip(descriptors).collect();
        Ok(Self { inherited, giver: Some(giver), kept })
    }

    /// Listeners that share `address`, for `count` shards; more than that if more were taken over.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn shared(&mut self, what: &str, address: SocketAddr, count: usize) -> io::Result<Shared> {
        let inherited = self.take(what, address, usize::MAX);
        let shared = match inherited.is_empty() {
            true => listener::shared(address, count)?,
            false => listener::joined(inherited, count)?,
        };
        for listener in &shared.listeners {
            self.keep(what.to_owned(), listener)?;
        }
        Ok(shared)
    }

    /// One listener, and its address with the port that was picked.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn tcp(&mut self, what: &str, address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
        let listener = match self.take(what, address, 1).pop() {
            Some(listener) => listener,
            None => listener::single(address)?.into(),
        };
        let address = local_address(&listener)
            .ok_or_else(|| io::Error::other("the kernel knows no address of it"))?;
        self.keep(what.to_owned(), &listener)?;
        Ok((listener, address))
    }

    /// A listener at a path, with this file mode unless it was taken over.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn unix(&mut self, what: &str, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let name = format!("{what} {}", path.display());
        let place = self.inherited.iter().position(|(known, _)| *known == name);
        let listener = match place {
            Some(place) => self.inherited.swap_remove(place).1,
            None => listener::unix(path, mode)?.into(),
        };
        self.keep(name, &listener)?;
        Ok(listener)
    }

    /// Whether the server before, if there is one, is there still.
    ///
    /// # Errors
    /// It is not.
    pub fn look(&self) -> Result<(), ControlError> {
        let Some(giver) = self.giver.as_ref().filter(|giver| giver.has_news()) else {
            return Ok(());
        };
        // It says nothing before it is asked.
        Err(giver.failed(io::Error::other("it has ended")).in_the_way())
    }

    /// Tells the server before that this one is ready to accept: it makes way and drains from now
    /// on.
    ///
    /// # Errors
    /// It does not, or nobody knows: this server must not accept.
    pub fn settle(&mut self) -> Result<(), ControlError> {
        self.look()?;
        for (name, _) in self.inherited.drain(..) {
            tracing::warn!("nobody listens any more at what was taken over as `{name}`");
        }
        let Some(mut giver) = self.giver.take() else { return Ok(()) };
        giver.ask(Request::TakenOver).map(drop).map_err(ControlError::in_the_way)
    }

    /// Descriptors of all listeners, for a successor.
    #[must_use]
    pub fn into_kept(self) -> Vec<Named> {
        self.kept.unwrap_or_default()
    }

    /// What was taken over for `what` at `address`, where port 0 is any port: the first
    /// `count_max` of it.
    fn take(&mut self, what: &str, address: SocketAddr, count_max: usize) -> Vec<OwnedFd> {
        let mut count = 0;
        let is_meant = |(name, listener): &Named| {
            let is_meant = name == what
                && count < count_max
                && local_address(listener).is_some_and(|local| {
                    local.ip() == address.ip() && [local.port(), 0].contains(&address.port())
                });
            count += usize::from(is_meant);
            is_meant
        };
        let (taken, left) = std::mem::take(&mut self.inherited).into_iter().partition(is_meant);
        self.inherited = left;
        let taken: Vec<Named> = taken;
        taken.into_iter().map(|(_, listener)| listener).collect()
    }

    fn keep(&mut self, name: String, listener: &OwnedFd) -> io::Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.push((name, listener.try_clone()?));
        }
        Ok(())
    }
}

fn local_address(listener: &impl AsFd) -> Option<SocketAddr> {
    SockRef::from(listener).local_addr().ok()?.as_socket()
}
