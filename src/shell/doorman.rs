//! Waits at the listeners of all executors, on one thread, and wakes whose door somebody is at.
//!
//! An accept that waits in a ring of the kernel cannot be called back without the risk that it has
//! just taken a connection, and a server that hands its listeners to a successor must take none
//! afterwards. So executors take what is there, without waiting, and sleep until the doorman wakes
//! them. Not here: who may come in. Invariant: after [`Doorman::close`] no door takes anything, and
//! what it has taken before is handed out.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::thread;

use atomic_waker::AtomicWaker;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::ioctl_fionbio;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::limits::DOORMAN_EVENTS;

use super::life::Life;

/// Between two looks of an idle doorman whether anybody needs it still.
const PERIOD: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Knows all doors; every clone is the same one. Its thread ends with the last clone and door.
#[derive(Debug, Clone)]
pub struct Doorman(Arc<Doors>);

#[derive(Debug)]
struct Doors {
    epoll: Arc<OwnedFd>,
    life: Arc<Life>,
    wakers: Mutex<Vec<Arc<AtomicWaker>>>,
    open: AtomicUsize,
}

/// A listener's end for the task that accepts.
#[derive(Debug)]
pub struct Door {
    listener: OwnedFd,
    number: u64,
    waker: Arc<AtomicWaker>,
    doors: Arc<Doors>,
}

/// A connection that was taken, and where it comes from if that is an IP address.
pub type Taken = (OwnedFd, Option<IpAddr>);

impl Doorman {
    /// Starts the thread.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn start(life: Arc<Life>) -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let doors = Arc::new(Doors {
            epoll: Arc::clone(&epoll),
            life,
            wakers: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let known = Arc::downgrade(&doors);
        thread::Builder::new().name("doorman".into()).spawn(move || watch(&epoll, &known))?;
        Ok(Self(doors))
    }

    /// A door at a listening socket.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn door(&self, listener: OwnedFd) -> io::Result<Door> {
        // A successor shares the socket's modes, so this one must never change.
        ioctl_fionbio(&listener, true)?;
        let waker = Arc::new(AtomicWaker::new());
        let mut wakers = self.0.wakers();
        let number = wakers.len() as u64;
        let data = epoll::EventData::new_u64(number);
        epoll::add(&*self.0.epoll, &listener, data, epoll::EventFlags::ONESHOT)?;
        wakers.push(Arc::clone(&waker));
        drop(wakers);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Ok(Door { listener, number, waker, doors: Arc::clone(&self.0) })
    }

    /// Closes all doors for good: a successor has the listeners.
    pub fn close(&self) {
        self.0.life.hand_over();
        self.0.wakers().iter().for_each(|waker| waker.wake());
    }

    /// True once every door has noticed that it is closed, or was dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.open.load(Ordering::Acquire) == 0
    }
}

impl Doors {
    fn wakers(&self) -> MutexGuard<'_, Vec<Arc<AtomicWaker>>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    /// The next connection; none once the doors are closed. What is taken is never lost, even if
    /// the future is dropped.
    ///
    /// # Errors
    /// The kernel's reason, for example that descriptors ran out.
    pub async fn accept(&self) -> Option<io::Result<Taken>> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    fn poll_accept(&self, context: &Context<'_>) -> Poll<Option<io::Result<Taken>>> {
        if let Some(seen) = self.look() {
            return Poll::Ready(seen);
        }
        self.waker.register(context.waker());
        // Somebody who came in between is still there, and the doorman sees that at once.
        if let Err(error) = self.watch() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.doors.life.is_handed_over() { Poll::Ready(None) } else { Poll::Pending }
    }

    fn look(&self) -> Option<Option<io::Result<Taken>>> {
        if self.doors.life.is_handed_over() {
            return Some(None);
        }
        match acceptfrom_with(&self.listener, SocketFlags::CLOEXEC) {
            Ok((socket, peer)) => {
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                Some(Some(Ok((socket, peer.map(|peer| peer.ip().to_canonical())))))
            }
            // The peer has given up while it waited.
            Err(rustix::io::Errno::CONNABORTED) => self.look(),
            Err(rustix::io::Errno::WOULDBLOCK) => None,
            Err(error) => Some(Some(Err(error.into()))),
        }
    }

    /// Asks the doorman to wake this door's task once.
    fn watch(&self) -> io::Result<()> {
        let data = epoll::EventData::new_u64(self.number);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        Ok(epoll::modify(&*self.doors.epoll, &self.listener, data, flags)?)
    }
}

impl Drop for Door {
    /// The waker belongs to the executor and ends on its thread.
    fn drop(&mut self) {
        // The socket may live on in a successor, and with it what the kernel knows of it here.
        let _ = epoll::delete(&*self.doors.epoll, &self.listener);
        self.waker.take();
        self.doors.open.fetch_sub(1, Ordering::Release);
    }
}

fn watch(epoll: &OwnedFd, doors: &Weak<Doors>) {
    let mut events = Vec::with_capacity(DOORMAN_EVENTS);
    loop {
        events.clear();
        match epoll::wait(epoll, spare_capacity(&mut events), Some(&PERIOD)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return tracing::error!(%error, "nobody waits at the listeners any more"),
        }
        let Some(doors) = doors.upgrade() else { return };
        let wakers = doors.wakers();
        for event in &events {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            if let Some(waker) = wakers.get(number) {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::task::Waker;

    use super::*;
    use crate::shell::executor;

    #[test]
    fn a_door_takes_everybody_until_it_is_closed_and_nobody_after_that() {
        let doorman = Doorman::start(Arc::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let successor = listener.try_clone().unwrap();
        let door = doorman.door(listener.into()).unwrap();
        let (sender, taken) = mpsc::channel();
        let thread = executor::start("door", None, move || async move {
            while let Some(accepted) = door.accept().await {
                sender.send(accepted.unwrap()).unwrap();
            }
        })
        .unwrap();
        for _ in 0..20 {
            let client = TcpStream::connect(address).unwrap();
            let (_, peer) = taken.recv().unwrap();
            assert_eq!(peer, Some(client.local_addr().unwrap().ip()));
        }
        doorman.close();
        thread.join().unwrap();
        assert!(doorman.is_closed());
        let late = TcpStream::connect(address).unwrap();
        successor.set_nonblocking(false).unwrap();
        assert_eq!(successor.accept().unwrap().1, late.local_addr().unwrap());
    }

    #[test]
    fn a_wait_that_is_given_up_takes_nothing() {
        let doorman = Doorman::start(Arc::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let door = doorman.door(listener.into()).unwrap();
        let context = Context::from_waker(Waker::noop());
        assert!(door.poll_accept(&context).is_pending());
        let client = TcpStream::connect(address).unwrap();
        let Poll::Ready(Some(Ok((_, peer)))) = door.poll_accept(&context) else {
            panic!("the client is at the door")
        };
        assert_eq!(peer, Some(client.local_addr().unwrap().ip()));
    }
}
