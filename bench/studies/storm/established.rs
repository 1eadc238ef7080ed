//! The clients that stay: what they receive, and when the kernel had it for them.
//!
//! The time of an arrival is the kernel's own (`SO_TIMESTAMPNS`), so that it does not hold the
//! delay of this process, which shares a core with the crowd. Not here: the crowd. Invariant: an
//! event that one of them misses, or gets twice, ends the measurement.

use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fanfare::protocol::ws::frame::{Opcode, write_masked};
use fanfare::protocol::ws::reader::{Message, Reader, Role};
use mio::{Events, Interest, Poll, Token};
use serde::Deserialize;

use super::producer::{STEADY, unix_ns};
use crate::support::{Client, Server};

/// An arrival: when it was intended, and how long after that, and after the server had read it, the
/// kernel had it for the client, nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) intended_ns: u64,
    pub(crate) late_ns: u64,
    pub(crate) within_ns: u64,
}

/// The clients that stay, on a thread of their own.
pub(crate) struct Established {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Member {
    stream: mio::net::TcpStream,
    reader: Reader,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct Event {
    seq: u64,
    prev: u64,
    ts: u64,
    ts_in: u64,
}

impl Established {
    /// Connects `count` clients and subscribes them.
    pub(crate) fn start(server: &Server, count: usize) -> Self {
        let members: Vec<_> = (0..count).map(|_| Member::connect(server)).collect();
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (arrived, stopped) = (Arc::clone(&arrivals), Arc::clone(&stop));
        let thread = thread::spawn(move || read_all(members, &arrived, &stopped));
        Self { arrivals, stop, thread: Some(thread) }
    }

    /// What has arrived since the last look.
    pub(crate) fn take(&self) -> Vec<Arrival> {
        assert!(!self.thread.as_ref().unwrap().is_finished(), "a client missed something");
        std::mem::take(&mut self.arrivals.lock().unwrap())
    }
}

impl Drop for Established {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read_all(mut members: Vec<Member>, arrivals: &Mutex<Vec<Arrival>>, stop: &AtomicBool) {
    let mut poll = Poll::new().unwrap();
    for (number, member) in members.iter_mut().enumerate() {
        let registry = poll.registry();
        registry.register(&mut member.stream, Token(number), Interest::READABLE).unwrap();
    }
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; 64 << 10];
    let mut new = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
        for event in &events {
            members[event.token().0].read(&mut buffer, &mut new);
        }
        arrivals.lock().unwrap().append(&mut new);
    }
}

impl Member {
    fn connect(server: &Server) -> Self {
        let stream = Client::subscribed_to_all(server, STEADY).stream;
        socket2::SockRef::from(&stream).set_nonblocking(true).unwrap();
        let yes: libc::c_int = 1;
        // SAFETY: the option's value is an int that outlives the call, and its size is given.
        let set = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPNS,
                (&raw const yes).cast(),
                libc::socklen_t::try_from(size_of_val(&yes)).expect("4"),
            )
        };
        assert_eq!(set, 0, "SO_TIMESTAMPNS: {}", std::io::Error::last_os_error());
        let stream = mio::net::TcpStream::from_std(stream);
        Self { stream, reader: Reader::new(Role::Client, 1 << 20), seq: None }
    }

    fn read(&mut self, buffer: &mut [u8], arrivals: &mut Vec<Arrival>) {
        while let Some((count, at_ns)) = receive(&self.stream, buffer) {
            assert!(count > 0, "the server has closed an established connection");
            let (mut at, mut pongs) = (0, Vec::new());
            loop {
                let mut used = 0;
                let message = self.reader.next_message(&mut buffer[at..count], &mut used).unwrap();
                at += used;
                match message {
                    None => break,
                    Some(Message::Text(text)) if text.contains("\"data\"") => {
                        let event: Event = serde_json::from_str(text).unwrap();
                        assert!(
                            self.seq.is_none_or(|seq| seq == event.prev),
                            "an established client has {:?}, and then {} after {}",
                            self.seq,
                            event.seq,
                            event.prev
                        );
                        self.seq = Some(event.seq);
                        arrivals.push(Arrival {
                            intended_ns: event.ts,
                            late_ns: at_ns.saturating_sub(event.ts),
                            within_ns: at_ns.saturating_sub(event.ts_in),
                        });
                    }
                    Some(Message::Ping(payload)) => {
                        write_masked(&mut pongs, Opcode::Pong, payload, [1, 2, 3, 4]);
                    }
                    Some(_) => {}
                }
            }
            if !pongs.is_empty() {
                self.stream.write_all(&pongs).unwrap();
            }
        }
    }
}

/// Bytes of a socket with the kernel's time of the last of them; none when there are none yet.
fn receive(stream: &mio::net::TcpStream, buffer: &mut [u8]) -> Option<(usize, u64)> {
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = [0_u64; 16];
    // SAFETY: all-zero bytes are a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message points to buffers of the lengths that it says, which outlive the call.
    let count = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(count) = usize::try_from(count) else {
        let error = std::io::Error::last_os_error();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "an established connection: {error}");
        return None;
    };
    // SAFETY: the kernel has filled in the control data of `message`, which is still there.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let at_ns = match header {
        Some(header) if header.cmsg_type == libc::SCM_TIMESTAMPNS => {
            // SAFETY: a header of this type is followed by a `timespec`.
            let time = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
            u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
        }
        _ => unix_ns(),
    };
    Some((count, at_ns))
}
