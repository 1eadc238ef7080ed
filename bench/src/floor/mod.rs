//! The physical floor of fan-out: the same bytes to the same number of sockets, and no protocol.
//!
//! One thread and one io_uring. Whoever connects to the subscribers' address gets every frame from
//! then on; no upgrade, no subscription, nothing read. The one producer sends a line for each
//! event, and what one read of it brought goes out as one piece, in the server's way: `SEND`s that
//! never wait, in batches. A socket that is full keeps its place in a bounded ring of bytes and
//! goes on when it has room; one that the ring's end overtakes is closed and counted. With TLS the
//! same is sealed for each socket, with the server's sessions. Not here: anything that would make
//! it a server.
//!
//! Invariant: in flight between two turns are only the reads of listeners and producer and the
//! polls of full sockets; no send.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::path::Path;
use std::time::Duration;

use fanfare::limits::{FLUSH_SENDS_MAX, LISTEN_BACKLOG, SEND_BUFFER_BYTES, UNSENT_BYTES};
use fanfare::shell::flush_ring::{build, may_be_tried_again};
use io_uring::{IoUring, opcode, squeue, types};
use slab::Slab;
use socket2::{Domain, SockRef, Socket, Type};

use self::bytes::Bytes;
use self::sealed::{Sealed, Sealer};

mod bytes;
mod sealed;

/// How far a socket may be behind, bytes: the server's log has as many by default.
const RING_BYTES: usize = 64 << 20;

/// What one read of the producer may bring, bytes; a line is shorter.
const READ_BYTES: usize = 1 << 20;

const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What a completion is of. A send has its socket's key, and so has a poll, with this bit.
const POLL: u64 = 1 << 63;
const SUBSCRIBER: u64 = u64::MAX;
const PRODUCER: u64 = u64::MAX - 1;
const EVENTS: u64 = u64::MAX - 2;

/// Sends every line that comes to `feed` to all who are connected to `listen`, until the process
/// ends; over TLS, if there is a certificate.
///
/// # Errors
/// An address or a certificate that cannot be had, a line that is too long, or a ring that fails.
pub fn run(listen: SocketAddr, feed: SocketAddr, certificate: Option<&Path>) -> io::Result<()> {
    let sealer = certificate.map(Sealer::new).transpose()?;
    Floor::new(bind(listen)?, bind(feed)?, RING_BYTES, sealer)?.run()
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    let bound = socket.bind(&address.into()).and_then(|()| socket.listen(LISTEN_BACKLOG));
    bound.map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    Ok(socket.into())
}

struct Floor {
    ring: IoUring,
    subscribers: TcpListener,
    feed: TcpListener,
    producer: Option<TcpStream>,
    sockets: Slab<Subscriber>,
    /// Those with bytes to send, each once.
    due: Vec<usize>,
    /// Completions that were not looked at yet: of what, and with which result.
    done: Vec<(u64, i32)>,
    /// The producer's bytes, and how many of a line without its end they begin with. Leaked, as the
    /// ring of bytes is, so that the kernel never has a pointer to memory that is gone.
    read: &'static mut [u8],
    held: usize,
    bytes: Bytes,
    sealer: Option<Sealer>,
    overtaken: u64,
}

struct Subscriber {
    stream: TcpStream,
    /// The position of the next byte it gets.
    cursor: u64,
    state: State,
    /// With TLS.
    sealed: Option<Box<Sealed>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A poll tells when there is more of its TLS handshake.
    Handshaking,
    /// It got everything.
    InSync,
    /// In the list of those that are due.
    Due,
    /// A poll tells when it has room.
    Full,
    /// Cut off; the poll that still runs tells when it may be forgotten.
    Overtaken,
}

impl Floor {
    fn new(
        subscribers: TcpListener,
        feed: TcpListener,
        ring_bytes: usize,
        sealer: Option<Sealer>,
    ) -> io::Result<Self> {
        assert!(ring_bytes >= 4 * READ_BYTES, "frames of one read never overtake who is in sync");
        Ok(Self {
            ring: build()?,
            subscribers,
            feed,
            producer: None,
            sockets: Slab::new(),
            due: Vec::new(),
            done: Vec::new(),
            read: Box::leak(vec![0; READ_BYTES].into_boxed_slice()),
            held: 0,
            bytes: Bytes::new(ring_bytes),
            sealer,
            overtaken: 0,
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.accept_subscriber()?;
        self.accept_producer()?;
        let mut done = Vec::new();
        loop {
            if self.done.is_empty() {
                self.wait(1)?;
            }
            std::mem::swap(&mut done, &mut self.done);
            for (of, result) in done.drain(..) {
                match of {
                    SUBSCRIBER => self.handle_subscriber(result)?,
                    PRODUCER => self.handle_producer(result)?,
                    EVENTS => self.handle_events(result)?,
                    poll => self.handle_ready(key(poll & !POLL))?,
                }
            }
            self.flush()?;
        }
    }

    fn handle_subscriber(&mut self, result: i32) -> io::Result<()> {
        match adopt(result) {
            Ok(stream) => {
                let socket = SockRef::from(&stream);
                // What the server sets. A failure means that the peer is gone already.
                let _ = socket.set_tcp_nodelay(true);
                let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
                let _ = socket.set_tcp_notsent_lowat(u32::try_from(UNSENT_BYTES).expect("small"));
                let sealed = self.sealer.as_ref().map(Sealer::session).transpose()?;
                let state = if sealed.is_some() { State::Handshaking } else { State::InSync };
                let cursor = self.bytes.end;
                let key = self.sockets.insert(Subscriber { stream, cursor, state, sealed });
                if state == State::Handshaking {
                    self.sockets[key].stream.set_nonblocking(true)?;
                    self.poll(key, libc::POLLIN)?;
                }
            }
            // It left before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(refused(&error, self.sockets.len())),
        }
        self.accept_subscriber()
    }

    fn handle_producer(&mut self, result: i32) -> io::Result<()> {
        self.producer = Some(adopt(result)?);
        self.held = 0;
        self.receive()
    }

    /// What one read brought becomes frames; all who were in sync are due.
    fn handle_events(&mut self, result: i32) -> io::Result<()> {
        let Some(received) = usize::try_from(result).ok().filter(|&bytes| bytes > 0) else {
            self.producer = None;
            return self.accept_producer();
        };
        let filled = self.held + received;
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', &self.read[..filled]) {
            self.bytes.append_frame(&self.read[begin..end]);
            begin = end + 1;
        }
        self.read.copy_within(begin..filled, 0);
        self.held = filled - begin;
        if self.held == READ_BYTES {
            return Err(io::Error::other(format!("the feed has a line of {READ_BYTES} bytes")));
        }
        if begin > 0 {
            for (key, socket) in &mut self.sockets {
                if socket.state == State::InSync {
                    socket.state = State::Due;
                    self.due.push(key);
                }
            }
            self.cut_overtaken();
        }
        self.receive()
    }

    fn cut_overtaken(&mut self) {
        let before = self.overtaken;
        for (_, socket) in &mut self.sockets {
            if socket.state == State::Full && socket.cursor < self.bytes.oldest() {
                socket.state = State::Overtaken;
                self.overtaken += 1;
                // Nothing of it stays in the kernel when it is closed.
                let _ = SockRef::from(&socket.stream).set_linger(Some(Duration::ZERO));
                let _ = socket.stream.shutdown(Shutdown::Both);
            }
        }
        if self.overtaken > before {
            eprintln!("floor: {} subscribers fell off and were closed", self.overtaken);
        }
    }

    /// A poll ended: a full socket has room, or is gone; a handshake goes on.
    fn handle_ready(&mut self, key: usize) -> io::Result<()> {
        let socket = &mut self.sockets[key];
        match (socket.state, &mut socket.sealed, &mut self.sealer) {
            (State::Handshaking, Some(sealed), Some(sealer)) => {
                match sealer.shake_hands(&socket.stream, sealed) {
                    Ok(false) => return self.poll(key, libc::POLLIN),
                    Ok(true) => {
                        socket.cursor = self.bytes.end;
                        socket.state = State::InSync;
                    }
                    Err(error) => {
                        eprintln!("floor: a handshake: {error}");
                        self.sockets.remove(key);
                    }
                }
            }
            (State::Overtaken, ..) => drop(self.sockets.remove(key)),
            _ => {
                socket.state = State::Due;
                self.due.push(key);
            }
        }
        Ok(())
    }

    /// Sends to all who are due, in batches, until each is in sync, full or gone.
    fn flush(&mut self) -> io::Result<()> {
        let mut due = std::mem::take(&mut self.due);
        while !due.is_empty() {
            let mut left = &due[..];
            while !left.is_empty() {
                let sent = self.send(&left[..left.len().min(FLUSH_SENDS_MAX)])?;
                left = &left[sent..];
            }
            let is_due = |key| self.sockets.get(key).is_some_and(|s| s.state == State::Due);
            due.retain(|&key| is_due(key));
        }
        // Its memory is used again.
        self.due = due;
        Ok(())
    }

    /// Sends to as many of these as there is memory for, which are how many.
    fn send(&mut self, batch: &[usize]) -> io::Result<usize> {
        if let Some(sealer) = &mut self.sealer {
            sealer.begin();
        }
        let mut count = 0;
        for &key in batch {
            let socket = &mut self.sockets[key];
            let mut bytes = self.bytes.rest(socket.cursor);
            if let (Some(sealer), Some(sealed)) = (&mut self.sealer, &mut socket.sealed) {
                let Some(records) = sealer.seal(sealed, bytes)? else { break };
                bytes = records;
            }
            let length = u32::try_from(bytes.len()).expect("the ring is smaller than 4 GiB");
            let descriptor = types::Fd(socket.stream.as_raw_fd());
            let entry = opcode::Send::new(descriptor, bytes.as_ptr(), length).flags(FLAGS).build();
            self.push(entry.user_data(key as u64))?;
            count += 1;
        }
        // Some are complete already: where the queue was full, it was submitted on the way.
        let mut left = count;
        while left > 0 {
            let Some(place) = self.done.iter().position(|&(of, _)| of & POLL == 0) else {
                self.wait(left)?;
                continue;
            };
            let (of, result) = self.done.swap_remove(place);
            self.settle(key(of), result)?;
            left -= 1;
        }
        Ok(count)
    }

    /// What became of a send.
    fn settle(&mut self, key: usize, result: i32) -> io::Result<()> {
        let socket = &mut self.sockets[key];
        let took = match usize::try_from(result) {
            Ok(took) => took,
            Err(_) if result == -libc::EAGAIN => 0,
            Err(_) => {
                self.sockets.remove(key);
                return Ok(());
            }
        };
        let (took, full) = match (&self.sealer, &mut socket.sealed) {
            (Some(sealer), Some(sealed)) => sealer.settle(sealed, took),
            _ => (took, took < self.bytes.rest(socket.cursor).len()),
        };
        socket.cursor += took as u64;
        if full {
            socket.state = State::Full;
            return self.poll(key, libc::POLLOUT);
        }
        if socket.cursor == self.bytes.end {
            socket.state = State::InSync;
        }
        Ok(())
    }

    fn poll(&mut self, key: usize, events: libc::c_short) -> io::Result<()> {
        let descriptor = types::Fd(self.sockets[key].stream.as_raw_fd());
        let events = u32::try_from(events).expect("a constant above 0");
        let entry = opcode::PollAdd::new(descriptor, events).build();
        self.push(entry.user_data(key as u64 | POLL))
    }

    fn accept_subscriber(&mut self) -> io::Result<()> {
        let entry = accept(&self.subscribers);
        self.push(entry.user_data(SUBSCRIBER))
    }

    fn accept_producer(&mut self) -> io::Result<()> {
        let entry = accept(&self.feed);
        self.push(entry.user_data(PRODUCER))
    }

    fn receive(&mut self) -> io::Result<()> {
        let Some(producer) = &self.producer else { return Ok(()) };
        let room = &mut self.read[self.held..];
        let length = u32::try_from(room.len()).expect("a read is smaller than 4 GiB");
        let descriptor = types::Fd(producer.as_raw_fd());
        let entry = opcode::Recv::new(descriptor, room.as_mut_ptr(), length).build();
        self.push(entry.user_data(EVENTS))
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        while self.ring.submission().is_full() {
            self.wait(0)?;
        }
        // SAFETY: an entry points to `read`, the ring of bytes or records, which live as long as
        // the process. Nobody looks at `read` before its completion; the ring of bytes, and the
        // part of the records that sends point to, change only when no send is in flight.
        unsafe { self.ring.submission().push(&entry) }.expect("there is room");
        Ok(())
    }

    /// Submits what was pushed, waits until so many are complete, and takes note of all that are.
    fn wait(&mut self, completions: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(completions) {
            Ok(_) => {}
            // A signal, or the kernel is short of memory or room for now: the rest is due.
            Err(error) if may_be_tried_again(&error) => {}
            Err(error) => return Err(error),
        }
        let done = self.ring.completion();
        self.done.extend(done.map(|entry| (entry.user_data(), entry.result())));
        Ok(())
    }
}

fn accept(listener: &TcpListener) -> squeue::Entry {
    let nobody = std::ptr::null_mut();
    opcode::Accept::new(types::Fd(listener.as_raw_fd()), nobody, std::ptr::null_mut())
        .flags(libc::SOCK_CLOEXEC)
        .build()
}

fn adopt(accepted: i32) -> io::Result<TcpStream> {
    if accepted < 0 {
        return Err(io::Error::from_raw_os_error(-accepted));
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { TcpStream::from_raw_fd(accepted) })
}

fn refused(error: &io::Error, open: usize) -> io::Error {
    let cure = "raise ulimit -n";
    io::Error::new(error.kind(), format!("no subscriber beside {open} others: {error}; {cure}"))
}

fn key(of: u64) -> usize {
    usize::try_from(of).expect("a key of the slab")
}

#[cfg(test)]
mod tests;
