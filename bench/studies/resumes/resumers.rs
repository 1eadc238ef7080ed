//! Clients that come all at once and resume at one place, and what each of them gets.
//!
//! One thread and non-blocking sockets. Frames are not parsed but walked: of the history only the
//! number at the end of each is read, which suffices to know that all came once and in order. Not
//! here: when they come. Invariant: whatever is missing, doubled, out of order or receipted as lost
//! ends the measurement.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use fanfare::protocol::ws::client::{parse_response, write_request};
use fanfare::protocol::ws::frame::{Opcode, write_masked};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::Value;

use super::history::{self, CHANNEL};
use super::producer::{CROWD, CROWD_CHANNELS};
use crate::support::KEY;

/// Bytes that each one's kernel holds of what it has not read (Linux doubles it). With more, all of
/// them together reach the kernel's bound of TCP memory (`net.ipv4.tcp_mem`) when they are slow,
/// and then it drops segments of every socket, also of those who stay.
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

/// Bytes that are read at once.
const READ_BYTES: usize = 512 << 10;

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;

/// Where all of them go on, and the numbers of the history that came after that.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    pub(crate) numbers: Range<u64>,
}

/// What became of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// From the first connect until each has all that was to be replayed, and its end's notice.
    pub(crate) seconds: f64,
    /// The same for the client in the middle.
    pub(crate) seconds_median: f64,
    /// Bytes that all of them read.
    pub(crate) bytes: u64,
    /// Events of the history that all of them read.
    pub(crate) events: u64,
    /// Events of the feed that went on meanwhile.
    pub(crate) live: u64,
}

/// All of them.
pub(crate) struct Resumers {
    members: Vec<Member>,
    place: Place,
    poll: Poll,
    buffer: Vec<u8>,
    begun: Instant,
}

struct Member {
    stream: TcpStream,
    stage: Stage,
    /// What was read of a head or a frame whose rest is still to come.
    partial: Vec<u8>,
    /// One of the crowd's channels, which goes on meanwhile.
    channel: String,
    /// Number of the next event of the history.
    next: u64,
    /// `seq` of its newest event of that channel.
    seq: Option<u64>,
    live: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Resuming,
    /// It has had the notice of the replay's end.
    Whole,
}

impl Resumers {
    /// Connects `count` clients at once.
    pub(crate) fn start(address: SocketAddr, count: usize, place: Place) -> Self {
        let (begun, poll) = (Instant::now(), Poll::new().unwrap());
        let member = |number| Member::connect(address, &poll, number, place.numbers.start);
        let members = (0..count).map(member).collect();
        Self { members, place, poll, buffer: vec![0; READ_BYTES], begun }
    }

    /// Runs until each has everything; calls `each` ten times a second and at the end with the
    /// number of those who have.
    pub(crate) fn run(&mut self, patience: Duration, mut each: impl FnMut(usize)) -> Outcome {
        let mut events = Events::with_capacity(1_024);
        let mut whole = Vec::new();
        let mut look = Instant::now();
        while whole.len() < self.members.len() {
            assert!(self.begun.elapsed() < patience, "{} have everything", whole.len());
            self.poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            for event in &events {
                let member = &mut self.members[event.token().0];
                let before = member.stage;
                member.go_on(&mut self.buffer, &self.place);
                if before != Stage::Whole && member.stage == Stage::Whole {
                    whole.push(self.begun.elapsed());
                }
            }
            if look.elapsed() > Duration::from_millis(100) {
                look = Instant::now();
                each(whole.len());
            }
        }
        each(whole.len());
        let history = self.place.numbers.end - self.place.numbers.start;
        Outcome {
            seconds: whole[whole.len() - 1].as_secs_f64(),
            seconds_median: whole[whole.len() / 2].as_secs_f64(),
            bytes: self.members.iter().map(|member| member.bytes).sum(),
            events: self.members.len() as u64 * history,
            live: self.members.iter().map(|member| member.live).sum(),
        }
    }
}

impl Member {
    fn connect(address: SocketAddr, poll: &Poll, number: usize, next: u64) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        socket2::SockRef::from(&stream).set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(number), interest).unwrap();
        Self {
            stream,
            stage: Stage::Connecting,
            partial: Vec::new(),
            channel: format!("{CROWD}.{}", number as u64 % CROWD_CHANNELS),
            next,
            seq: None,
            live: 0,
            bytes: 0,
        }
    }

    fn go_on(&mut self, buffer: &mut [u8], place: &Place) {
        if self.stage == Stage::Connecting {
            let error = self.stream.take_error().unwrap();
            assert!(error.is_none(), "a client cannot connect: {error:?}");
            if self.stream.peer_addr().is_err() {
                return;
            }
            let mut request = Vec::new();
            write_request(&mut request, "localhost", "/v1", KEY, None, None);
            self.stream.write_all(&request).unwrap();
            self.stage = Stage::Upgrading;
        }
        loop {
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            let count = match self.stream.read(&mut buffer[kept..]) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("a client that resumes: {error}"),
            };
            assert!(count > 0, "the server has closed the connection of a client that resumes");
            self.bytes += count as u64;
            let bytes = &buffer[..kept + count];
            let used = self.take(bytes, place);
            self.partial.clear();
            self.partial.extend_from_slice(&bytes[used..]);
        }
    }

    /// Takes what is complete of `bytes`; returns how many those are.
    fn take(&mut self, bytes: &[u8], place: &Place) -> usize {
        let mut at = 0;
        if self.stage == Stage::Upgrading {
            let parsed = parse_response(bytes, KEY);
            let answer = String::from_utf8_lossy(bytes);
            match parsed.unwrap_or_else(|error| panic!("{error}: {answer}")) {
                None => return 0,
                Some(len) => at = len,
            }
            self.stage = Stage::Resuming;
        }
        while let Some((kind, payload)) = whole_frame(&bytes[at..]) {
            let text = &bytes[at..][payload.clone()];
            at += payload.end;
            match kind {
                TEXT => self.take_text(text, place),
                PING => self.send(Opcode::Pong, text),
                _ => panic!("the server ends: {}", String::from_utf8_lossy(text)),
            }
        }
        at
    }

    fn take_text(&mut self, text: &[u8], place: &Place) {
        if history::is_of_it(text) {
            let number = history::number(text);
            assert_eq!(number, self.next, "of {:?}, after the one before", place.numbers);
            self.next += 1;
            return;
        }
        let message: Value = serde_json::from_slice(text).unwrap();
        match (message["channel"].as_str(), message["type"].as_str()) {
            (Some("control"), Some("welcome")) => {
                let request = self.request(&message["epoch"], place.seq);
                self.send(Opcode::Text, request.as_bytes());
            }
            (Some("control"), Some("replay_end")) => {
                assert_eq!(self.next, place.numbers.end, "at the end of the replay");
                self.stage = Stage::Whole;
            }
            (Some("control"), Some("replay_begin" | "heartbeat")) => {}
            (Some(channel), Some("update")) => {
                assert_eq!(channel, self.channel);
                let number = |name: &str| message[name].as_u64().unwrap();
                let (seq, prev) = (number("seq"), number("prev"));
                match self.seq {
                    Some(newest) => assert_eq!(prev, newest, "an event is missing: {message}"),
                    None => assert!(prev <= place.seq && seq > place.seq, "{message}"),
                }
                self.seq = Some(seq);
                self.live += 1;
            }
            _ => {
                let results = message["result"].as_array();
                let is_resumed = |result: &Value| result["resumed"] == true;
                assert!(results.is_some_and(|all| all.iter().all(is_resumed)), "{message}");
            }
        }
    }

    fn request(&self, epoch: &Value, seq: u64) -> String {
        let params = serde_json::json!({
            "channels": [CHANNEL, self.channel],
            "policy": "all",
            "resume": { "epoch": epoch, "seq": seq },
        });
        serde_json::json!({ "method": "subscribe", "params": params }).to_string()
    }

    /// Sends one small frame, for which the socket always has room.
    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        write_masked(&mut frame, opcode, payload, [1, 2, 3, 4]);
        self.stream.write_all(&frame).unwrap();
    }
}

/// Kind and payload of the frame that `bytes` begin with, if all of it is there.
fn whole_frame(bytes: &[u8]) -> Option<(u8, Range<usize>)> {
    let (&kind, &len) = (bytes.first()?, bytes.get(1)?);
    let (start, len) = match len {
        0..126 => (2, usize::from(len)),
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        _ => panic!("no frame here is that long"),
    };
    (start + len <= bytes.len()).then_some((kind, start..start + len))
}
