//! Sockets of many members, read by one thread: some slowly, and reset when they least expect it.
//!
//! A connection has a fuse: after so many bytes, or so long, it is reset; both are short often
//! enough to hit upgrades, snapshots and replays. Not here: what messages mean ([`super::member`]).
//! Invariant: once it is calm nothing is reset, and everybody reads at once.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanfare::protocol::ws::client;
use fanfare::protocol::ws::frame::{Opcode, write_masked};
use fanfare::protocol::ws::handshake::SUBPROTOCOL;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use super::Weather;
use super::member::Member;
use super::plan::Dice;
use super::truth::Truth;
use crate::frames;
use crate::support::KEY;

const READ_BYTES: usize = 256 << 10;

/// Between two reads of a slow member.
const TRICKLE: Duration = Duration::from_millis(20);

/// Receive buffer of a slow member's socket.
const RECEIVE_BYTES_SLOW: usize = 8 << 10;

/// Of the bytes after which a connection is reset, at most: 2^22.
const FUSE_BITS: u64 = 22;

/// What a sailor's connections came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) reset: u64,
    pub(crate) cut: u64,
    pub(crate) closed: u64,
    pub(crate) refused: u64,
}

impl std::ops::AddAssign for Ends {
    fn add_assign(&mut self, other: Self) {
        self.reset += other.reset;
        self.cut += other.cut;
        self.closed += other.closed;
        self.refused += other.refused;
    }
}

struct Connection {
    stream: TcpStream,
    unsent: Vec<u8>,
    unparsed: Vec<u8>,
    is_upgraded: bool,
    is_readable: bool,
    bytes: u64,
    fuse_bytes: u64,
    fuse_at: Option<Instant>,
}

/// A member and its connection.
pub(crate) struct Sailor {
    pub(crate) member: Member,
    connection: Option<Connection>,
    /// When it connects again, or reads again.
    next_at: Instant,
    dice: Dice,
    pub(crate) ends: Ends,
    pub(crate) wrong: Option<String>,
    has_asked: bool,
}

/// See the module's head.
pub(crate) struct Crew<'a> {
    poll: Poll,
    pub(crate) sailors: Vec<Sailor>,
    server: SocketAddr,
    truth: &'a Truth,
    weather: &'a Weather,
    buffer: Vec<u8>,
}

impl<'a> Crew<'a> {
    pub(crate) fn new(
        server: SocketAddr,
        truth: &'a Truth,
        weather: &'a Weather,
        members: Vec<(Member, Dice)>,
    ) -> Self {
        let sailor = |(member, dice)| Sailor {
            member,
            dice,
            connection: None,
            next_at: Instant::now(),
            ends: Ends::default(),
            wrong: None,
            has_asked: false,
        };
        let sailors = members.into_iter().map(sailor).collect();
        let poll = Poll::new().unwrap();
        Self { poll, sailors, server, truth, weather, buffer: vec![0; READ_BYTES] }
    }

    /// Sails on until everybody has everything, or the weather says that it takes too long.
    pub(crate) fn sail(mut self) -> Vec<Sailor> {
        let mut events = Events::with_capacity(1_024);
        while !self.weather.is_over() {
            match self.poll.poll(&mut events, Some(Duration::from_millis(2))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.unwrap(),
            }
            for event in &events {
                let sailor = &mut self.sailors[event.token().0];
                if let Some(connection) = &mut sailor.connection {
                    connection.is_readable = true;
                }
            }
            let mut is_done = self.weather.is_calm();
            for number in 0..self.sailors.len() {
                self.turn(number);
                is_done &= self.is_done(number);
            }
            if is_done {
                break;
            }
        }
        for sailor in &mut self.sailors {
            if sailor.wrong.is_none()
                && let Err(what) = sailor.member.finish(self.truth)
            {
                sailor.wrong = Some(sailor.member.report(&what));
            }
        }
        self.sailors
    }

    /// Whether a member has everything, and has compared hashes.
    fn is_done(&mut self, number: usize) -> bool {
        let sailor = &mut self.sailors[number];
        if sailor.wrong.is_some() {
            return true;
        }
        if sailor.connection.is_none() || !sailor.member.is_whole(self.truth) {
            return false;
        }
        if !sailor.has_asked {
            sailor.has_asked = true;
            let requests = sailor.member.verify(self.truth);
            let connection = sailor.connection.as_mut().expect("just looked at");
            for request in requests {
                connection.send(Opcode::Text, request.as_bytes());
            }
        }
        sailor.member.is_verified()
    }

    fn turn(&mut self, number: usize) {
        let now = Instant::now();
        let is_calm = self.weather.is_calm();
        let sailor = &mut self.sailors[number];
        if sailor.wrong.is_some() {
            return;
        }
        let Some(connection) = &mut sailor.connection else {
            if now >= sailor.next_at {
                self.connect(number);
            }
            return;
        };
        connection.flush();
        let is_burnt = connection.bytes >= connection.fuse_bytes
            || connection.fuse_at.is_some_and(|at| now >= at);
        if is_burnt && !is_calm {
            // Linger of 0: the end is a reset, and what was not read is gone.
            socket2::SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)).unwrap();
            sailor.ends.reset += 1;
            return self.lose(number, "reset by this client");
        }
        match sailor.member.plan.slow_bytes.filter(|_| !is_calm) {
            Some(_) if now < sailor.next_at => {}
            Some(bytes) => {
                let pause = if sailor.dice.one_in(50) { Duration::from_secs(1) } else { TRICKLE };
                sailor.next_at = now + pause;
                self.read(number, bytes);
            }
            None if connection.is_readable || is_calm => self.read(number, READ_BYTES),
            None => {}
        }
    }

    fn connect(&mut self, number: usize) {
        let sailor = &mut self.sailors[number];
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, None).unwrap();
        if sailor.member.plan.slow_bytes.is_some() {
            socket.set_recv_buffer_size(RECEIVE_BYTES_SLOW).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&self.server.into()) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                return self.lose(number, &error.to_string());
            }
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(number), interest).unwrap();
        let mut unsent = Vec::new();
        client::write_request(&mut unsent, "localhost", "/v1", KEY, Some(SUBPROTOCOL), None);
        let is_cut = sailor.member.plan.is_cut;
        let dice = &mut sailor.dice;
        let fuse_bytes = if is_cut { 8 * dice.scale(FUSE_BITS) } else { u64::MAX };
        let fuse_at = is_cut.then(|| Instant::now() + dice.ms(1, 8_000));
        sailor.member.note("connects");
        sailor.connection = Some(Connection {
            stream,
            unsent,
            unparsed: Vec::new(),
            is_upgraded: false,
            is_readable: false,
            bytes: 0,
            fuse_bytes,
            fuse_at,
        });
    }

    /// The connection is over, for this reason; the next one comes after a while.
    fn lose(&mut self, number: usize, why: &str) {
        let sailor = &mut self.sailors[number];
        sailor.member.note(why);
        sailor.connection = None;
        let (dice, is_calm) = (&mut sailor.dice, self.weather.is_calm());
        // Some stay away until the log has forgotten where they were.
        let is_long = !is_calm && sailor.member.plan.is_cut && dice.one_in(12);
        let pause = if is_long { dice.ms(1_000, 8_000) } else { dice.ms(1, 250) };
        sailor.next_at = Instant::now() + pause;
        if let Err(what) = sailor.member.end_connection(self.truth) {
            sailor.wrong = Some(sailor.member.report(&what));
        }
    }

    /// Reads so many bytes at most.
    fn read(&mut self, number: usize, bytes_max: usize) {
        let sailor = &mut self.sailors[number];
        let Some(connection) = &mut sailor.connection else { return };
        let room = bytes_max.min(self.buffer.len());
        match connection.stream.read(&mut self.buffer[..room]) {
            Ok(0) => {
                sailor.ends.cut += 1;
                self.lose(number, "the stream has ended");
            }
            Ok(count) => {
                connection.bytes += count as u64;
                connection.unparsed.extend_from_slice(&self.buffer[..count]);
                self.parse(number);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => connection.is_readable = false,
            Err(error) if error.kind() == ErrorKind::NotConnected => connection.is_readable = false,
            Err(error) => {
                sailor.ends.cut += 1;
                self.lose(number, &error.to_string());
            }
        }
    }

    fn parse(&mut self, number: usize) {
        let sailor = &mut self.sailors[number];
        let Some(connection) = &mut sailor.connection else { return };
        let mut at = 0;
        if !connection.is_upgraded {
            match client::parse_response(&connection.unparsed, KEY) {
                Ok(None) => return,
                Ok(Some(head)) => (at, connection.is_upgraded) = (head, true),
                Err(error) => {
                    sailor.ends.refused += 1;
                    return self.lose(number, &error.to_string());
                }
            }
        }
        while let Some((opcode, payload, len)) = frames::first(&connection.unparsed[at..]) {
            at += len;
            if opcode == Opcode::Text as u8 {
                match sailor.member.take(self.truth, payload) {
                    Ok(None) => {}
                    Ok(Some(request)) => connection.send(Opcode::Text, request.as_bytes()),
                    Err(what) => {
                        sailor.member.note(&String::from_utf8_lossy(payload));
                        sailor.wrong = Some(sailor.member.report(&what));
                        sailor.connection = None;
                        return;
                    }
                }
            } else if opcode == Opcode::Ping as u8 {
                let payload = payload.to_vec();
                connection.send(Opcode::Pong, &payload);
            } else if opcode == Opcode::Close as u8 {
                let code = payload.first_chunk().map_or(0, |&code| u16::from_be_bytes(code));
                connection.send(Opcode::Close, &code.to_be_bytes());
                sailor.ends.closed += 1;
                let why = format!("closed with {code}");
                self.lose(number, &why);
                let sailor = &mut self.sailors[number];
                let may_end = ["close"].contains(&sailor.member.plan.policy);
                if !(matches!(code, 1001 | 1012) || code == 4100 && may_end) {
                    sailor.wrong = Some(sailor.member.report(&why));
                }
                return;
            }
        }
        connection.unparsed.drain(..at);
    }
}

impl Connection {
    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        write_masked(&mut self.unsent, opcode, payload, [1, 2, 3, 4]);
        self.flush();
    }

    /// Writes what the socket takes; what is wrong with it is found by the next read.
    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count @ 1..) => drop(self.unsent.drain(..count)),
                _ => return,
            }
        }
    }
}
