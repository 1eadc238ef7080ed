//! The sockets of a shard's connections: a table by their place, and who of them has something to
//! read.
//!
//! A connection that has ended leaves its socket here, half open, until its peer ends too or
//! [`CLOSE_MS`] have passed: its last bytes are on their way. Not here: reading and writing
//! ([`super::connection`]). Invariant: a connection known to the shard has its socket in the table,
//! and an event that comes late for an earlier one of its place finds nothing.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustc_hash::FxHashMap;
use socket2::SockRef;

use crate::fanout::connection::ConnectionId;
use crate::limits::CLOSE_MS;
use crate::protocol::tls::Session;
use crate::protocol::whoami::{Socket, Tcp};

use super::clock;
use super::flush_ring::Routes;
use super::poll_set::{PollSet, Watch};
use super::tcp_info::TcpInfo;
use super::wire;

/// The sockets of one shard.
#[derive(Debug)]
pub(super) struct Sockets {
    places: Vec<Option<Place>>,
    poll_set: PollSet,
    /// Connections whose sockets may have something to read, in the order of their turns.
    readable: VecDeque<ConnectionId>,
    /// Sockets of connections that have ended.
    half_open: FxHashMap<ConnectionId, Place>,
    /// When their time is over, nanoseconds of the monotonic clock; also of some that are gone.
    deadlines: VecDeque<(u64, ConnectionId)>,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) descriptor: OwnedFd,
    generation: u32,
    pub(super) peer: Option<IpAddr>,
    /// When it was upgraded, nanoseconds of the monotonic clock.
    pub(super) opened_ns: u64,
    /// Boxed, because it is large and most servers have clients without.
    pub(super) session: Option<Box<Session>>,
    /// It is among the readable.
    is_queued: bool,
    /// It is full, and whoever wants to write waits for room.
    is_full: bool,
    /// Its peer sends no more.
    has_ended: bool,
}

const _: () = assert!(size_of::<Option<Place>>() <= 48, "every client has one");

impl Sockets {
    /// No sockets yet. The memory of `count_max` is reserved, and used as they come.
    ///
    /// # Errors
    /// The kernel's reason to refuse the poll set.
    pub(super) fn new(count_max: usize) -> io::Result<Self> {
        Ok(Self {
            places: Vec::with_capacity(count_max),
            poll_set: PollSet::new()?,
            readable: VecDeque::new(),
            half_open: FxHashMap::default(),
            deadlines: VecDeque::new(),
        })
    }

    /// Takes the socket of a new connection.
    ///
    /// # Errors
    /// The kernel cannot watch it.
    pub(super) fn insert(
        &mut self,
        id: ConnectionId,
        descriptor: OwnedFd,
        session: Option<Box<Session>>,
        peer: Option<IpAddr>,
    ) -> io::Result<()> {
        self.poll_set.add(&descriptor, id)?;
        let place = id.index as usize;
        if place >= self.places.len() {
            self.places.resize_with(place + 1, || None);
        }
        self.places[place] = Some(Place {
            descriptor,
            generation: id.generation,
            peer,
            opened_ns: clock::now().monotonic_ns,
            session,
            is_queued: false,
            is_full: false,
            has_ended: false,
        });
        Ok(())
    }

    /// Somebody who waits until [`Self::look`] has something to find.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(super) fn watch(&self) -> io::Result<Watch> {
        self.poll_set.watch()
    }

    /// Notes which sockets have become readable, and calls `has_room` with those that were full.
    pub(super) fn look(&mut self, mut has_room: impl FnMut(ConnectionId)) {
        self.poll_set.news(|news| {
            let places = (&mut self.places, &mut self.half_open);
            let Some(place) = find(places, news.id) else { return };
            if news.is_readable && !place.has_ended && !place.is_queued {
                place.is_queued = true;
                self.readable.push_back(news.id);
            }
            if news.is_writable && std::mem::take(&mut place.is_full) {
                has_room(news.id);
            }
        });
    }

    /// Whether somebody may have something to read.
    pub(super) fn is_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Whose turn it is to be read; [`Self::has_read`] or [`Self::has_ended`] follow unless there
    /// was nothing to read.
    pub(super) fn next_readable(&mut self) -> Option<(ConnectionId, &mut Place)> {
        loop {
            let id = self.readable.pop_front()?;
            // Looked up twice, because the borrow of one that is returned would last for all.
            if find((&mut self.places, &mut self.half_open), id).is_some() {
                let place = find((&mut self.places, &mut self.half_open), id)?;
                place.is_queued = false;
                return Some((id, place));
            }
        }
    }

    /// Something was read, and more may follow: it is its turn again after all others.
    pub(super) fn has_read(&mut self, id: ConnectionId) {
        if let Some(place) = find((&mut self.places, &mut self.half_open), id) {
            place.is_queued = true;
            self.readable.push_back(id);
        }
    }

    /// The peer sends no more.
    pub(super) fn has_ended(&mut self, id: ConnectionId) {
        self.half_open.remove(&id);
        if let Some(place) = self.open(id) {
            place.has_ended = true;
        }
    }

    /// The socket of an open connection is full: [`Self::look`] reports it once it has room.
    pub(super) fn wait_for_room(&mut self, id: ConnectionId) {
        let Some(place) = open(&mut self.places, id) else { return };
        place.is_full = true;
        // It may have had room again before anybody waited for that.
        self.poll_set.want_room(&place.descriptor, id);
    }

    /// The socket of an open connection.
    pub(super) fn open(&mut self, id: ConnectionId) -> Option<&mut Place> {
        open(&mut self.places, id)
    }

    /// Places of the table.
    pub(super) const fn places(&self) -> usize {
        self.places.len()
    }

    /// Sockets of connections that have ended.
    pub(super) fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// The connection at a place.
    pub(super) fn at(&self, index: usize) -> Option<(ConnectionId, RawFd)> {
        let place = self.places.get(index)?.as_ref()?;
        let index = u32::try_from(index).expect("a connection's index fits");
        Some((ConnectionId { index, generation: place.generation }, place.descriptor.as_raw_fd()))
    }

    /// The socket of an open connection, to look at.
    pub(super) fn see(&self, id: ConnectionId) -> Option<&Place> {
        let place = self.places.get(id.index as usize)?.as_ref();
        place.filter(|place| place.generation == id.generation)
    }

    /// Ends the socket of a connection that has ended, for `how` much. If that is half, it stays
    /// until the peer ends, too.
    pub(super) fn let_go(&mut self, id: ConnectionId, how: Shutdown, now_ns: u64) {
        let Some(place) = self.places.get_mut(id.index as usize) else { return };
        let Some(mut gone) = place.take_if(|place| place.generation == id.generation) else {
            return;
        };
        wire::end(&SockRef::from(&gone.descriptor), gone.session.take(), how);
        if how == Shutdown::Write && !gone.has_ended {
            self.half_open.insert(id, gone);
            self.deadlines.push_back((now_ns + CLOSE_MS * 1_000_000, id));
        }
    }

    /// Closes what has been half open for too long.
    pub(super) fn close_late(&mut self, now_ns: u64) {
        while let Some(&(deadline_ns, id)) = self.deadlines.front()
            && deadline_ns <= now_ns
        {
            self.deadlines.pop_front();
            self.half_open.remove(&id);
        }
    }
}

/// The socket of an open connection.
fn open(places: &mut [Option<Place>], id: ConnectionId) -> Option<&mut Place> {
    let place = places.get_mut(id.index as usize)?.as_mut()?;
    (place.generation == id.generation).then_some(place)
}

impl Place {
    /// What is known of the socket.
    pub(super) fn look_at(&self) -> Socket {
        let tcp = TcpInfo::of(self.descriptor.as_raw_fd());
        Socket { tcp: tcp.map(Tcp::from), cipher: self.cipher() }
    }

    /// The other end, while there is one.
    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        SockRef::from(&self.descriptor).peer_addr().ok()?.as_socket()
    }

    /// Of TLS.
    pub(super) fn cipher(&self) -> Option<String> {
        self.session.as_ref().and_then(|session| session.cipher())
    }
}

impl Routes for Sockets {
    fn route(&mut self, id: ConnectionId) -> Option<(RawFd, Option<&mut Session>)> {
        let place = self.open(id)?;
        Some((place.descriptor.as_raw_fd(), place.session.as_deref_mut()))
    }
}

/// The socket of a connection, open or half open.
fn find<'a>(
    (places, half_open): (&'a mut Vec<Option<Place>>, &'a mut FxHashMap<ConnectionId, Place>),
    id: ConnectionId,
) -> Option<&'a mut Place> {
    open(places, id).or_else(|| half_open.get_mut(&id))
}

#[cfg(test)]
mod tests;
