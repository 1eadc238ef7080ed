//! The physical floor of fan-out: the same bytes to the same number of sockets, and no protocol.
//!
//! One thread and one io_uring. Whoever connects to the subscribers' address gets every frame from
//! then on; no upgrade, no subscription, nothing read. The one producer sends a line for each
//! event, and what one read of it brought goes out as one piece, in the server's way: `SEND`s that
//! never wait, in batches. A socket that is full keeps its place in a bounded ring of bytes and
//! goes on when it has room; one that the ring's end overtakes is closed and counted.
//! Not here: anything that would make it a server.
//!
//! Invariant: in flight between two turns are only the reads of listeners and producer and the
//! polls of full sockets; no send.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::time::Duration;

use fanfare::limits::{FLUSH_SENDS_MAX, LISTEN_BACKLOG, SEND_BUFFER_BYTES, UNSENT_BYTES};
use fanfare::protocol::ws::frame::{Opcode, header, header_len};
use fanfare::shell::flush_ring::{build, may_be_tried_again};
use io_uring::{IoUring, opcode, squeue, types};
use slab::Slab;
use socket2::{Domain, SockRef, Socket, Type};

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
/// ends.
///
/// # Errors
/// An address that cannot be had, a line that is too long, or a ring that fails.
pub fn run(listen: SocketAddr, feed: SocketAddr) -> io::Result<()> {
    Floor::new(bind(listen)?, bind(feed)?, RING_BYTES)?.run()
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
    overtaken: u64,
}

struct Subscriber {
    stream: TcpStream,
    /// The position of the next byte it gets.
    cursor: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
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
    fn new(subscribers: TcpListener, feed: TcpListener, ring_bytes: usize) -> io::Result<Self> {
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
            bytes: Bytes { ring: Box::leak(vec![0; ring_bytes].into_boxed_slice()), end: 0 },
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
                    poll => self.handle_room(key(poll & !POLL)),
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
                let cursor = self.bytes.end;
                self.sockets.insert(Subscriber { stream, cursor, state: State::InSync });
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

    /// A poll ended: a full socket has room, or is gone.
    fn handle_room(&mut self, key: usize) {
        let socket = &mut self.sockets[key];
        if socket.state == State::Overtaken {
            self.sockets.remove(key);
        } else {
            socket.state = State::Due;
            self.due.push(key);
        }
    }

    /// Sends to all who are due, in batches, until each is in sync, full or gone.
    fn flush(&mut self) -> io::Result<()> {
        let mut due = std::mem::take(&mut self.due);
        while !due.is_empty() {
            for batch in due.chunks(FLUSH_SENDS_MAX) {
                self.send(batch)?;
            }
            let is_due = |key| self.sockets.get(key).is_some_and(|s| s.state == State::Due);
            due.retain(|&key| is_due(key));
        }
        // Its memory is used again.
        self.due = due;
        Ok(())
    }

    fn send(&mut self, batch: &[usize]) -> io::Result<()> {
        for &key in batch {
            let socket = &self.sockets[key];
            let rest = self.bytes.rest(socket.cursor);
            let length = u32::try_from(rest.len()).expect("the ring is smaller than 4 GiB");
            let descriptor = types::Fd(socket.stream.as_raw_fd());
            let entry = opcode::Send::new(descriptor, rest.as_ptr(), length).flags(FLAGS).build();
            self.push(entry.user_data(key as u64))?;
        }
        // Some are complete already: where the queue was full, it was submitted on the way.
        let mut left = batch.len();
        while left > 0 {
            let Some(place) = self.done.iter().position(|&(of, _)| of & POLL == 0) else {
                self.wait(left)?;
                continue;
            };
            let (of, result) = self.done.swap_remove(place);
            self.settle(key(of), result)?;
            left -= 1;
        }
        Ok(())
    }

    /// What became of a send.
    fn settle(&mut self, key: usize, result: i32) -> io::Result<()> {
        let socket = &mut self.sockets[key];
        let took = match u64::try_from(result) {
            Ok(took) => took,
            Err(_) if result == -libc::EAGAIN => 0,
            Err(_) => {
                self.sockets.remove(key);
                return Ok(());
            }
        };
        let full = took < self.bytes.rest(socket.cursor).len() as u64;
        socket.cursor += took;
        if full {
            socket.state = State::Full;
            let descriptor = types::Fd(socket.stream.as_raw_fd());
            let poll = opcode::PollAdd::new(descriptor, libc::POLLOUT as u32).build();
            return self.push(poll.user_data(key as u64 | POLL));
        }
        if socket.cursor == self.bytes.end {
            socket.state = State::InSync;
        }
        Ok(())
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
        // SAFETY: an entry points to `read` or the ring of bytes, which live as long as the
        // process. Nobody looks at `read` before its completion, and the ring of bytes changes
        // only when no send is in flight.
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

/// Finished frames, one after the other; a position counts every byte there ever was.
struct Bytes {
    ring: &'static mut [u8],
    end: u64,
}

impl Bytes {
    fn append_frame(&mut self, payload: &[u8]) {
        self.append(&header(Opcode::Text, payload.len())[..header_len(payload.len())]);
        self.append(payload);
    }

    fn append(&mut self, bytes: &[u8]) {
        let begin = self.index(self.end);
        let first = bytes.len().min(self.ring.len() - begin);
        self.ring[begin..begin + first].copy_from_slice(&bytes[..first]);
        self.ring[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.end += bytes.len() as u64;
    }

    /// What is behind `position`, as far as it lies in one piece.
    fn rest(&self, position: u64) -> &[u8] {
        let begin = self.index(position);
        let length = usize::try_from(self.end - position).expect("within the ring");
        &self.ring[begin..self.ring.len().min(begin + length)]
    }

    /// The position of the oldest byte that is still there.
    fn oldest(&self) -> u64 {
        self.end.saturating_sub(self.ring.len() as u64)
    }

    fn index(&self, position: u64) -> usize {
        usize::try_from(position % self.ring.len() as u64).expect("an index of the ring")
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
mod tests {
    use std::io::{Read as _, Write as _};

    use fanfare::protocol::ws::frame::write_frame;

    use super::*;

    const LINE: &[u8] = br#"{"n":"000000000017","x":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;

    #[test]
    fn every_subscriber_gets_the_same_frames() {
        let (listen, mut producer) = start(RING_BYTES);
        let mut clients: Vec<_> = (0..3).map(|_| subscribed(listen, &mut producer)).collect();
        let (mut lines, mut expected) = (Vec::new(), Vec::new());
        for number in 0..1_000 {
            let payload = vec![b'a' + u8::try_from(number % 26).unwrap(); 1 + number % 300];
            lines.extend_from_slice(&payload);
            lines.push(b'\n');
            expected.extend_from_slice(&frame(&payload));
        }
        // A line may come in pieces.
        for piece in lines.chunks(1_001) {
            producer.write_all(piece).unwrap();
        }
        for client in &mut clients {
            assert!(read(client, expected.len()) == expected);
        }
    }

    #[test]
    fn a_new_producer_takes_over_when_one_leaves() {
        let (listen, mut producer) = start(RING_BYTES);
        let mut client = subscribed(listen, &mut producer);
        let feed = producer.peer_addr().unwrap();
        producer.write_all(b"half a line").unwrap();
        drop(producer);
        TcpStream::connect(feed).unwrap().write_all(&[LINE, b"\n"].concat()).unwrap();
        assert_eq!(read(&mut client, LINE.len() + 2), frame(LINE));
    }

    #[test]
    fn who_is_overtaken_is_closed_and_the_others_miss_nothing() {
        let (listen, mut producer) = start(4 * READ_BYTES);
        let mut healthy = subscribed(listen, &mut producer);
        let mut stalled = subscribed(listen, &mut producer);
        let count = READ_BYTES / (LINE.len() + 1);
        let (piece, frames) = ([LINE, b"\n"].concat().repeat(count), frame(LINE).repeat(count));
        // More than the ring and what the kernel keeps for a socket (net.ipv4.tcp_rmem).
        let pieces = 64;
        for _ in 0..pieces {
            producer.write_all(&piece).unwrap();
            assert!(read(&mut healthy, frames.len()) == frames);
        }
        let mut got = Vec::new();
        let _ = stalled.read_to_end(&mut got);
        assert!(got.len() < pieces * frames.len(), "all {} bytes came", got.len());
        let mut late = subscribed(listen, &mut producer);
        producer.write_all(&piece).unwrap();
        assert!(read(&mut late, frames.len()) == frames, "the place of who was closed is free");
    }

    /// A floor that runs: where its subscribers connect, and its producer.
    fn start(ring_bytes: usize) -> (SocketAddr, TcpStream) {
        let any = || bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (subscribers, feed) = (any(), any());
        let listen = subscribers.local_addr().unwrap();
        let producer = TcpStream::connect(feed.local_addr().unwrap()).unwrap();
        // The ring belongs to the thread that makes it.
        std::thread::spawn(move || Floor::new(subscribers, feed, ring_bytes).unwrap().run());
        (listen, producer)
    }

    /// A subscriber that was accepted: it has got an empty frame, as all before it have.
    fn subscribed(listen: SocketAddr, producer: &mut TcpStream) -> TcpStream {
        let client = TcpStream::connect(listen).unwrap();
        client.set_nonblocking(true).unwrap();
        while client.peek(&mut [0]).is_err() {
            producer.write_all(b"\n").unwrap();
            std::thread::yield_now();
        }
        client.set_nonblocking(false).unwrap();
        client
    }

    /// The next `length` bytes behind empty frames.
    fn read(client: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut bytes = frame(b"");
        while bytes == frame(b"") {
            client.read_exact(&mut bytes).unwrap();
        }
        bytes.resize(length, 0);
        client.read_exact(&mut bytes[2..]).unwrap();
        bytes
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Opcode::Text, payload);
        bytes
    }
}
