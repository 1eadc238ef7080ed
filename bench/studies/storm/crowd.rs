//! The clients that are dropped all at once and come back, each after a random time.
//!
//! One thread and non-blocking sockets. What a client goes through: connect, TLS if asked for,
//! upgrade, subscribe, first event. Not here: when the storm begins. Invariant: a client that is
//! refused or fails is counted, and comes back later with full jitter, as it is told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::protocol::ws::client::{key, parse_response, write_request};
use fanfare::protocol::ws::frame::{Opcode, write_masked};
use fanfare::protocol::ws::reader::{Message, Reader, Role};
use fanfare::shell::random;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use super::producer::{CROWD, CROWD_CHANNELS};

/// First and longest bound of the time before a client tries again after a failure.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// How the crowd connects.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// With TLS: what to trust.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// What happened to the crowd in one storm.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) connected: u64,
    /// With an HTTP answer other than 101.
    pub(crate) refused: u64,
    /// Reset, or closed without an answer.
    pub(crate) failed: u64,
    /// TLS sessions that went on where an earlier one had ended.
    pub(crate) resumed: u64,
    /// From the drop until each has received an event again.
    pub(crate) seconds: f64,
    /// The same for the client in the middle.
    pub(crate) seconds_median: f64,
}

/// All clients of the crowd.
pub(crate) struct Crowd {
    target: Target,
    members: Vec<Member>,
    poll: Poll,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    buffer: Vec<u8>,
    outcome: Outcome,
    returned: Vec<Duration>,
    dropped_at: Instant,
}

struct Member {
    config: Option<Arc<ClientConfig>>,
    stream: Option<TcpStream>,
    tls: Option<ClientConnection>,
    reader: Reader,
    stage: Stage,
    head: Vec<u8>,
    key: String,
    output: Vec<u8>,
    attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Away,
    Connecting,
    Upgrading,
    Open,
    /// It has received an event.
    Back,
}

/// Why a member is away again.
enum Ended {
    Refused(Option<Duration>),
    Failed,
}

impl Crowd {
    /// `count` clients, none of which is there yet.
    pub(crate) fn new(target: Target, count: usize) -> Self {
        // A store of its own for each client, as if each were another program.
        let config = |shared: &Arc<ClientConfig>| {
            let mut own = (**shared).clone();
            own.resumption = Resumption::in_memory_sessions(1);
            Arc::new(own)
        };
        let members = (0..count).map(|_| Member::new(target.tls.as_ref().map(config))).collect();
        Self {
            target,
            members,
            poll: Poll::new().unwrap(),
            due: BinaryHeap::new(),
            buffer: vec![0; 64 << 10],
            outcome: Outcome::default(),
            returned: Vec::new(),
            dropped_at: Instant::now(),
        }
    }

    /// Drops everybody at once; each comes back after a random time up to `jitter`.
    pub(crate) fn drop_all(&mut self, jitter: Duration) {
        (self.outcome, self.dropped_at) = (Outcome::default(), Instant::now());
        self.returned.clear();
        self.due.clear();
        for number in 0..self.members.len() {
            self.members[number].leave();
            self.members[number].attempts = 0;
            self.due.push(Reverse((self.dropped_at + part_of(jitter), number)));
        }
    }

    /// Runs until everybody has received an event again, or the time is up; calls `each` ten
    /// times a second with the number of those who are back.
    pub(crate) fn run(&mut self, patience: Duration, mut each: impl FnMut(usize)) -> Outcome {
        let mut events = Events::with_capacity(1_024);
        let mut look = Instant::now();
        while self.returned.len() < self.members.len() {
            assert!(self.dropped_at.elapsed() < patience, "{} are back", self.returned.len());
            self.connect_due();
            self.poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
            for event in &events {
                self.go_on(event.token().0);
            }
            if look.elapsed() > Duration::from_millis(100) {
                look = Instant::now();
                each(self.returned.len());
            }
        }
        self.returned.sort_unstable();
        let seconds = |at: usize| self.returned[at].as_secs_f64();
        self.outcome.seconds = seconds(self.returned.len() - 1);
        self.outcome.seconds_median = seconds(self.returned.len() / 2);
        self.outcome
    }

    /// Reads what comes and answers pings for a while.
    pub(crate) fn idle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut events = Events::with_capacity(1_024);
        while Instant::now() < end {
            self.poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            for event in &events {
                self.go_on(event.token().0);
            }
        }
    }

    fn connect_due(&mut self) {
        while let Some(&Reverse((at, number))) = self.due.peek() {
            if at > Instant::now() {
                return;
            }
            self.due.pop();
            if self.members[number].connect(&self.target, &self.poll, number).is_err() {
                self.away(number, &Ended::Failed);
            }
        }
    }

    fn go_on(&mut self, number: usize) {
        let member = &mut self.members[number];
        let before = member.stage;
        let went = member.go_on(&mut self.buffer);
        let now = member.stage;
        if before != Stage::Open && before != Stage::Back && now >= Stage::Open {
            self.outcome.connected += 1;
            let kind = member.tls.as_ref().and_then(|tls| tls.handshake_kind());
            self.outcome.resumed += u64::from(kind == Some(HandshakeKind::Resumed));
        }
        if before != Stage::Back && now == Stage::Back {
            self.returned.push(self.dropped_at.elapsed());
        }
        if let Err(ended) = went {
            assert!(before < Stage::Open, "a member of the crowd was cut off after it was open");
            self.away(number, &ended);
        }
    }

    fn away(&mut self, number: usize, ended: &Ended) {
        let member = &mut self.members[number];
        member.leave();
        let longest = AGAIN.saturating_mul(1 << member.attempts.min(10)).min(AGAIN_MAX);
        member.attempts += 1;
        let told = match ended {
            Ended::Refused(told) => {
                self.outcome.refused += 1;
                told.unwrap_or_default()
            }
            Ended::Failed => {
                self.outcome.failed += 1;
                Duration::ZERO
            }
        };
        self.due.push(Reverse((Instant::now() + told + part_of(longest), number)));
    }
}

impl Member {
    fn new(config: Option<Arc<ClientConfig>>) -> Self {
        Self {
            config,
            stream: None,
            tls: None,
            reader: Reader::new(Role::Client, 1 << 20),
            stage: Stage::Away,
            head: Vec::new(),
            key: String::new(),
            output: Vec::new(),
            attempts: 0,
        }
    }

    /// Vanishes as behind a cable that was cut: without a close frame.
    fn leave(&mut self) {
        *self = Self { attempts: self.attempts, ..Self::new(self.config.take()) };
    }

    fn connect(&mut self, target: &Target, poll: &Poll, number: usize) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(target.address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(number), interest)?;
        if let Some(config) = &self.config {
            let name = "localhost".try_into().expect("a constant");
            self.tls = Some(ClientConnection::new(Arc::clone(config), name).unwrap());
        }
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random::number().to_ne_bytes());
        self.key = key(nonce);
        write_request(&mut self.output, "localhost", "/v1", &self.key, None, None);
        (self.stream, self.stage) = (Some(stream), Stage::Connecting);
        Ok(())
    }

    /// Writes what it has to say and reads what there is.
    fn go_on(&mut self, buffer: &mut [u8]) -> Result<(), Ended> {
        if self.stage == Stage::Away {
            return Ok(());
        }
        let stream = self.stream.as_ref().expect("it is not away");
        if self.stage == Stage::Connecting {
            if stream.take_error().ok().flatten().is_some() {
                return Err(Ended::Failed);
            }
            match stream.peer_addr() {
                Ok(_) => self.stage = Stage::Upgrading,
                Err(_) => return Ok(()),
            }
        }
        self.write()?;
        loop {
            let count = match self.read(buffer)? {
                None => break,
                Some(0) => return Err(Ended::Failed),
                Some(count) => count,
            };
            self.take(&mut buffer[..count])?;
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), Ended> {
        let stream = self.stream.as_mut().expect("it is not away");
        if let Some(tls) = &mut self.tls {
            if !self.output.is_empty() {
                tls.writer().write_all(&self.output).map_err(|_| Ended::Failed)?;
                self.output.clear();
            }
            while tls.wants_write() {
                match tls.write_tls(stream) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return Err(Ended::Failed),
                }
            }
            return Ok(());
        }
        while !self.output.is_empty() {
            match stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Err(Ended::Failed),
            }
        }
        Ok(())
    }

    /// Some bytes of the server's; none when there are none yet.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Ended> {
        let stream = self.stream.as_mut().expect("it is not away");
        let read = match &mut self.tls {
            None => stream.read(buffer),
            Some(tls) => loop {
                match tls.reader().read(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    read => break read,
                }
                match tls.read_tls(stream) {
                    Ok(0) => break Ok(0),
                    Ok(_) => tls.process_new_packets().map(|_| ()).map_err(|_| Ended::Failed)?,
                    Err(error) => break Err(error),
                }
            },
        };
        match read {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(_) => Err(Ended::Failed),
        }
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Ended> {
        if self.stage >= Stage::Open {
            self.take_frames(bytes);
            return Ok(());
        }
        self.head.extend_from_slice(bytes);
        match parse_response(&self.head, &self.key) {
            Ok(None) => Ok(()),
            Ok(Some(len)) => {
                let mut rest = std::mem::take(&mut self.head).split_off(len);
                self.stage = Stage::Open;
                let channel = random::number() % CROWD_CHANNELS;
                let params = format!(r#"{{"channels":"{CROWD}.{channel}","snapshot":false}}"#);
                let request = format!(r#"{{"method":"subscribe","params":{params}}}"#);
                write_masked(&mut self.output, Opcode::Text, request.as_bytes(), [1, 2, 3, 4]);
                self.take_frames(&mut rest);
                Ok(())
            }
            Err(_) => {
                let text = String::from_utf8_lossy(&self.head);
                let seconds = text.lines().find_map(|line| line.strip_prefix("Retry-After: "));
                let seconds = seconds.and_then(|seconds| seconds.parse().ok());
                Err(Ended::Refused(seconds.map(Duration::from_secs)))
            }
        }
    }

    fn take_frames(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        loop {
            let mut used = 0;
            let message = self.reader.next_message(&mut bytes[at..], &mut used);
            at += used;
            match message.expect("the server keeps to RFC 6455") {
                None => return,
                Some(Message::Text(text)) if text.contains("\"data\"") => self.stage = Stage::Back,
                Some(Message::Ping(payload)) => {
                    write_masked(&mut self.output, Opcode::Pong, payload, [1, 2, 3, 4]);
                }
                Some(_) => {}
            }
        }
    }
}

/// A random part of a time.
fn part_of(time: Duration) -> Duration {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
    Duration::from_nanos(random::number() % nanos)
}
