//! Many subscribers read by one thread: some at once, some slowly, some not at all.
//!
//! Sockets and frames only; what comes is judged in [`super::account`]. Invariant: the first member
//! subscribes to `>` with policy `all` and reads at once; what it gets is the truth.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant, SystemTime};

use fanfare::protocol::ws::frame::Opcode;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use super::account::{Account, Ask, Came, Control};
use super::truth::{Truth, hash};
use crate::frames;
use crate::support::{Client, PATIENCE, Server};

/// Bytes that are read from one member at a time.
const READ_BYTES: usize = 256 << 10;

/// Between two reads of a slow member.
const TRICKLE: Duration = Duration::from_millis(50);

/// A prefix of a payload in which its numbers are: before them are a channel and a key.
const ENVELOPE_BYTES: usize = 640;

/// How a member reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    AtOnce,
    /// So many bytes a second.
    Slowly(usize),
    Never,
}

/// One subscriber.
pub(crate) struct Member {
    stream: mio::net::TcpStream,
    pace: Pace,
    /// It began as one that reads at once.
    pub(crate) healthy: bool,
    unparsed: Vec<u8>,
    pub(crate) account: Account,
    /// Nothing more is read: the server has closed.
    over: bool,
}

/// From ingest to the read of a healthy member, microseconds.
pub(crate) type Lag = Histogram<u64>;

/// See the module's head.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    pub(crate) members: Vec<Member>,
    pub(crate) truth: Truth,
    buffer: Vec<u8>,
    trickle_at: Instant,
    pub(crate) lag: Lag,
    /// How long this thread did something else than wait.
    pub(crate) busy: Duration,
}

/// An empty histogram of [`Crowd::lag`].
fn new_lag() -> Lag {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are constants")
}

impl Crowd {
    pub(crate) fn new(truth: Truth) -> Self {
        Self {
            poll: Poll::new().unwrap(),
            events: Events::with_capacity(1_024),
            members: Vec::new(),
            truth,
            buffer: vec![0; READ_BYTES],
            trickle_at: Instant::now(),
            lag: new_lag(),
            busy: Duration::ZERO,
        }
    }

    /// Connects, subscribes, and reads at this pace from then on. Not while events are published.
    pub(crate) fn join(&mut self, server: &Server, ask: Ask, pace: Pace, receive_bytes: usize) {
        let socket = Socket::new(Domain::for_address(server.listen), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(receive_bytes).unwrap();
        socket.connect(&server.listen.into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client: Client = Client::upgrade(socket.into());
        assert_eq!(client.json()["type"], "welcome");
        let reply = client.ask(&ask.request());
        assert_eq!(reply["success"], true, "{reply}");
        let since = reply["result"][0]["seq"].as_u64().unwrap();
        client.stream.set_nonblocking(true).unwrap();
        let mut member = Member {
            stream: mio::net::TcpStream::from_std(client.stream),
            pace,
            healthy: pace == Pace::AtOnce,
            unparsed: Vec::new(),
            account: Account::new(ask, since, &self.truth),
            over: false,
        };
        if member.healthy {
            watch(&self.poll, &mut member, self.members.len());
        }
        self.members.push(member);
    }

    /// Makes all members read at once from now on.
    pub(crate) fn wake(&mut self) {
        for (number, member) in self.members.iter_mut().enumerate() {
            if member.pace != Pace::AtOnce {
                member.pace = Pace::AtOnce;
                watch(&self.poll, member, number);
            }
        }
    }

    /// Hangs up on all that began slow; they are the last that joined.
    pub(crate) fn dismiss_slow(&mut self) {
        let healthy = self.members.iter().take_while(|member| member.healthy).count();
        self.members.truncate(healthy);
    }

    /// Waits for something to read, and reads it: the first member before all others.
    pub(crate) fn turn(&mut self) {
        match self.poll.poll(&mut self.events, Some(TRICKLE / 4)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            result => result.unwrap(),
        }
        let begun = Instant::now();
        self.read(0, usize::MAX);
        let ready: Vec<_> = self.events.iter().map(|event| event.token().0).collect();
        for number in ready {
            if number < self.members.len() {
                self.read(number, usize::MAX);
            }
        }
        if begun >= self.trickle_at {
            self.trickle_at = begun + TRICKLE;
            for number in 0..self.members.len() {
                if let Pace::Slowly(bytes_per_second) = self.members[number].pace {
                    self.read(number, bytes_per_second / 20);
                }
            }
        }
        self.busy += begun.elapsed();
    }

    /// Judges all that waited for the truth; whether each member has proof that it has everything
    /// up to `seq`.
    pub(crate) fn all_have(&mut self, seq: u64) -> bool {
        for member in &mut self.members {
            member.account.catch_up(&self.truth);
        }
        let has = |member: &Member| member.over || member.account.proven >= seq;
        self.members.iter().all(has)
    }

    /// Reads from a member until nothing is there, or so many bytes.
    fn read(&mut self, number: usize, mut bytes_max: usize) {
        let member = &mut self.members[number];
        while !member.over && bytes_max > 0 {
            let room = self.buffer.len().min(bytes_max);
            let count = match member.stream.read(&mut self.buffer[..room]) {
                Ok(0) => {
                    member.account.take(Came::End, &self.truth);
                    member.over = true;
                    return;
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    eprintln!("{:?}: {error}", member.account.ask);
                    member.account.take(Came::End, &self.truth);
                    member.over = true;
                    return;
                }
            };
            bytes_max -= count;
            let lag = member.healthy.then_some(&mut self.lag);
            member.take(&self.buffer[..count], &mut self.truth, number == 0, lag);
            if count < room {
                return;
            }
        }
    }
}

/// From now on `member` is read when something is there.
fn watch(poll: &Poll, member: &mut Member, number: usize) {
    poll.registry().register(&mut member.stream, Token(number), Interest::READABLE).unwrap();
}

impl Member {
    fn take(&mut self, bytes: &[u8], truth: &mut Truth, teaches: bool, mut lag: Option<&mut Lag>) {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
        let now_ns = u64::try_from(now).expect("before 2554");
        self.unparsed.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((opcode, payload, len)) = frames::first(&self.unparsed[at..]) {
            at += len;
            let came = came(opcode, payload);
            if let Came::Event(..) = came {
                if teaches {
                    truth.learn(payload);
                }
                if let Some(lag) = &mut lag {
                    let lag_ns = now_ns.saturating_sub(number_after(payload, b",\"ts_in\":"));
                    lag.saturating_record((lag_ns / 1_000).max(1));
                }
            }
            self.over |= matches!(came, Came::Close(_));
            self.account.take(came, truth);
        }
        self.unparsed.drain(..at);
    }
}

fn came(opcode: u8, payload: &[u8]) -> Came {
    const CONTROL: &[u8] = br#"{"channel":"control","#;
    match opcode {
        code if code == Opcode::Text as u8 && payload.starts_with(CONTROL) => {
            let control = serde_json::from_slice(payload);
            Came::Control(control.unwrap_or(Control::Other))
        }
        code if code == Opcode::Text as u8 => {
            Came::Event(number_after(payload, b",\"seq\":"), hash(payload))
        }
        code if code == Opcode::Close as u8 => {
            Came::Close(payload.first_chunk().map(|&code| u16::from_be_bytes(code)))
        }
        other => panic!("the server never sends opcode {other}"),
    }
}

/// The number that follows `name` in an event's envelope.
fn number_after(payload: &[u8], name: &[u8]) -> u64 {
    let envelope = &payload[..payload.len().min(ENVELOPE_BYTES)];
    let at = memchr::memmem::find(envelope, name).expect("an event") + name.len();
    let digits = envelope[at..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
