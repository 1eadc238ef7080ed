//! The readiness of all clients' sockets of a shard, in one place of the kernel.
//!
//! An epoll instance notes which sockets have become readable or writable; one task sleeps until it
//! has something to say. So an idle client costs no task and no request in the executor's ring
//! (`docs/adr/0018-one-poll-set-for-the-clients-of-a-shard.md`). Not here: what is done with a
//! socket ([`super::connection`]). Invariant: news come once for each change, so whoever takes them
//! reads or writes until the socket has no more, or remembers that it has.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::AsyncRead;
use futures_lite::ready;
use glommio::net::TcpStream;
use rustix::event::{Timespec, epoll};

use crate::fanout::connection::ConnectionId;
use crate::limits::POLL_EVENTS;

use super::net;

/// What is wanted of every socket; `EPOLLERR` and `EPOLLHUP` come unasked.
const WANTED: epoll::EventFlags =
    epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP).union(epoll::EventFlags::ET);

/// Whoever sees one of these reads on, and finds out the rest.
const READABLE: epoll::EventFlags =
    epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP).union(BROKEN);

const BROKEN: epoll::EventFlags = epoll::EventFlags::HUP.union(epoll::EventFlags::ERR);

/// The sockets of one shard, as the kernel watches them.
#[derive(Debug)]
pub(super) struct PollSet(OwnedFd);

/// Something that has changed since the last look.
#[derive(Debug, Clone, Copy)]
pub(super) struct News {
    /// Whose socket it was when the kernel noted it.
    pub(super) id: ConnectionId,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
}

/// Waits for a poll set on the executor of its thread.
#[derive(Debug)]
pub(super) struct Watch {
    epoll: OwnedFd,
    /// A request to the executor's ring that is under way, or answered.
    request: Option<TcpStream>,
}

impl PollSet {
    /// An empty set.
    ///
    /// # Errors
    /// The kernel's reason.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Watches a socket until it is closed. What it has already is news, too.
    ///
    /// # Errors
    /// The kernel's reason: most often `fs.epoll.max_user_watches`.
    pub(super) fn add(&self, socket: &OwnedFd, id: ConnectionId) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, data(id), WANTED)?)
    }

    /// Watches a socket of the set for room to write, too. What it has already is news.
    pub(super) fn want_room(&self, socket: &OwnedFd, id: ConnectionId) {
        let wanted = WANTED | epoll::EventFlags::OUT;
        // The kernel has what it needs for it since the socket was added.
        let _ = epoll::modify(&self.0, socket, data(id), wanted);
    }

    /// Hands out the news there are, [`POLL_EVENTS`] at most, without waiting.
    pub(super) fn news(&self, mut each: impl FnMut(News)) {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut room = [MaybeUninit::uninit(); POLL_EVENTS];
        // Only a signal is in the way, and what there is can be taken next time.
        let Ok((events, _)) = epoll::wait(&self.0, &mut room, Some(&AT_ONCE)) else { return };
        for event in events {
            let flags = event.flags;
            each(News {
                id: id(event.data),
                is_readable: flags.intersects(READABLE),
                is_writable: flags.intersects(epoll::EventFlags::OUT | BROKEN),
            });
        }
    }

    /// Somebody who waits for the set.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(super) fn watch(&self) -> io::Result<Watch> {
        Ok(Watch { epoll: self.0.try_clone()?, request: None })
    }
}

impl Watch {
    /// Ready when there may be news.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The executor waits for nothing but streams. A stream begins by waiting until its
        // descriptor is readable; the read that follows fails, because this is no socket.
        let request = match &mut self.request {
            Some(request) => request,
            None => self.request.insert(net::stream(self.epoll.try_clone()?)),
        };
        let _no_socket = ready!(Pin::new(request).poll_read(context, &mut [0]));
        self.request = None;
        Poll::Ready(Ok(()))
    }
}

fn data(id: ConnectionId) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(id.generation) << 32 | u64::from(id.index))
}

fn id(data: epoll::EventData) -> ConnectionId {
    let [a, b, c, d, e, f, g, h] = data.u64().to_le_bytes();
    ConnectionId {
        index: u32::from_le_bytes([a, b, c, d]),
        generation: u32::from_le_bytes([e, f, g, h]),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use super::*;
    use crate::shell::executor;

    #[test]
    fn a_task_sleeps_until_there_are_news_each_time() {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let ours = OwnedFd::from(ours);
        let (sender, seen) = mpsc::channel();
        let thread = executor::start("poll set", None, move || async move {
            let set = PollSet::new().unwrap();
            let wanted = ConnectionId { index: u32::MAX - 1, generation: 7 };
            set.add(&ours, wanted).unwrap();
            let mut watch = set.watch().unwrap();
            let mut count = 0;
            while count < 20 {
                poll_fn(|context| watch.poll(context)).await.unwrap();
                set.news(|news| {
                    assert_eq!(news.id, wanted);
                    if news.is_readable {
                        count += 1;
                        sender.send(count).unwrap();
                    }
                });
            }
        })
        .unwrap();
        for count in 1..=20 {
            peer.write_all(b"a").unwrap();
            assert_eq!(seen.recv().unwrap(), count);
        }
        thread.join().unwrap();
    }
}
