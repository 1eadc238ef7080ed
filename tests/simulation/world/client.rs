//! A client with its socket: what it says, and what its socket takes.

use std::collections::VecDeque;

use fanfare::fanout::connection::ConnectionId;
use fanfare::fanout::shard::Outcome;
use fanfare::protocol::ws::reader::{Message, Reader, Role};

use crate::model::{Asked, History, Judge, Start};

use super::random::Random;
use super::reading::Reading;
use super::rules;

const PATTERNS: [&str; 9] =
    [">", "trade.*", "quote.BTC", "*.BTC", "book.>", "status", "trade.ETH", "*.*.raw", "late.x"];

/// A place in what a socket has brought at which its client had everything.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// All bytes before it.
    bytes: usize,
    /// The last event that there was.
    head: u64,
    /// Ticks of the slowest tier so far.
    ticks: u32,
}

pub(super) struct Client {
    pub(super) id: ConnectionId,
    pub(super) judge: Judge,
    pub(super) reading: Reading,
    /// Bytes that the socket holds and the client has not read.
    pub(super) socket: Vec<u8>,
    /// Bytes that it has read.
    received: usize,
    /// Where it was level, of what it has not read.
    levels: VecDeque<Level>,
    pub(super) socket_bytes_max: usize,
    /// Percent of turns in which it reads; 0 for one that has stalled.
    pub(super) reads: usize,
    /// The shell waits until its socket is writable.
    pub(super) waiting: bool,
    /// Sent a close frame, or is cut off, and says nothing more.
    pub(super) leaving: bool,
    pub(super) asked: u64,
    pub(super) pinged: u64,
    /// Bytes on their way to the server.
    pub(super) outbox: Vec<u8>,
    /// Nothing but answers to pings is among them.
    pub(super) only_pongs: bool,
    pub(super) ponged: u64,
    /// Reads, and says nothing any more, not even a pong.
    pub(super) mute: bool,
    /// Time of its last byte that the server has read, nanoseconds.
    pub(super) heard_ns: u64,
    /// Longest time between two of them, nanoseconds.
    pub(super) silent_ns: u64,
    /// With TLS: how much is sealed at once.
    sealed_bytes_max: Option<usize>,
    /// Sealed, and not taken by the socket yet.
    rest: Vec<u8>,
    /// What a stream has asked: its URL can hold one request, which says less than a set that
    /// changes.
    asks: Option<Reader>,
}

impl Client {
    /// Percent of turns in which one may read.
    pub(super) const READS: [usize; 5] = [100, 100, 60, 10, 0];

    pub(super) fn new(
        id: ConnectionId,
        judge: Judge,
        reading: Reading,
        now_ns: u64,
        random: &mut Random,
    ) -> Self {
        let is_stream = reading.is_stream();
        Self {
            id,
            judge,
            reading,
            asks: is_stream.then(|| Reader::new(Role::Server, 1 << 20)),
            socket: Vec::new(),
            received: 0,
            levels: VecDeque::new(),
            socket_bytes_max: random.pick(&[200, 2_000, 20_000, 1 << 20]),
            reads: random.pick(&Self::READS),
            waiting: false,
            leaving: false,
            asked: 0,
            pinged: 0,
            outbox: Vec::new(),
            only_pongs: true,
            ponged: 0,
            mute: false,
            heard_ns: now_ns,
            silent_ns: 0,
            sealed_bytes_max: random.pick(&[None, None, Some(1_000), Some(20_000)]),
            rest: Vec::new(),
        }
    }

    /// Everything that a client has said, by which its rate is measured.
    pub(super) const fn said(&self) -> u64 {
        self.asked + self.pinged + self.ponged
    }

    /// The server has read something of its.
    pub(super) fn be_heard(&mut self, now_ns: u64) {
        self.silent_ns = self.silent_ns.max(now_ns - self.heard_ns);
        self.heard_ns = now_ns;
    }

    /// The requests that are whole with these bytes of its outbox, if it is a stream.
    pub(super) fn requests(&mut self, bytes: &mut [u8]) -> Option<Vec<String>> {
        let reader = self.asks.as_mut()?;
        let (mut requests, mut at) = (Vec::new(), 0);
        loop {
            let mut used = 0;
            match reader.next_message(&mut bytes[at..], &mut used).unwrap() {
                Some(Message::Text(text)) => requests.push(text.to_owned()),
                Some(_) => {}
                None => return Some(requests),
            }
            at += used;
        }
    }

    /// It reads some bytes.
    pub(super) fn receive(&mut self, bytes: &[u8], history: &History) {
        let mut rest = bytes;
        while let Some(level) = self.levels.front().copied()
            && level.bytes <= self.received + rest.len()
        {
            self.levels.pop_front();
            let (before, behind) = rest.split_at(level.bytes - self.received);
            self.read(before, history);
            self.judge.reach_level(level.head, level.ticks);
            rest = behind;
        }
        self.read(rest, history);
    }

    fn read(&mut self, bytes: &[u8], history: &History) {
        self.received += bytes.len();
        let frames = self.reading.read(bytes);
        self.judge.receive(&frames, history);
    }

    /// It waits for nothing, and was sent everything up to `head`.
    pub(super) fn be_level(&mut self, head: u64, ticks: u32) {
        self.judge.be_level(head);
        let bytes = self.received + self.socket.len();
        self.levels.push_back(Level { bytes, head, ticks });
    }

    /// Whether it has TLS.
    pub(super) const fn is_sealed(&self) -> bool {
        self.sealed_bytes_max.is_some()
    }

    /// Answers the pings that it has read.
    pub(super) fn answer_pings(&mut self, random: &mut Random) {
        for payload in std::mem::take(&mut self.judge.pings) {
            if !self.mute && !self.leaving {
                let only_pongs = self.only_pongs;
                self.write(10, &payload, random);
                self.only_pongs = only_pongs;
                self.ponged += 1;
            }
        }
    }

    /// Says something now and then, and falls silent for good at some time.
    pub(super) fn speak(&mut self, head: u64, random: &mut Random) {
        self.mute |= random.below(1_000) < 2;
        if !self.leaving && !self.mute && random.chance(25) {
            self.say_some(head, random);
        }
    }

    /// Says something once, and a great deal seldom.
    pub(super) fn say_some(&mut self, head: u64, random: &mut Random) {
        let count = if random.chance(3) { 10 + random.below(60) } else { 1 };
        for _ in 0..count {
            if !self.leaving {
                self.say(head, random);
            }
        }
    }

    fn say(&mut self, head: u64, random: &mut Random) {
        let req_id = self.asked;
        let patterns: Vec<_> = (0..1 + random.below(3)).map(|_| random.pick(&PATTERNS)).collect();
        let patterns = serde_json::to_string(&patterns).unwrap();
        let text = match random.below(20) {
            0..=9 => {
                let wish = rules::wish(random);
                let start = start(head, random);
                self.judge.ask(req_id, Asked::Subscribe(wish, start));
                let params = rules::params(&wish) + &start_params(start);
                request("subscribe", &patterns, &params, req_id)
            }
            10..=13 => {
                self.judge.ask(req_id, Asked::Unsubscribe);
                request("unsubscribe", &patterns, "", req_id)
            }
            // Refused as a whole, so there is nothing for the judge to learn.
            14 => request("subscribe", &patterns, r#","policy":"all","interval_ms":10"#, req_id),
            15 if req_id.is_multiple_of(2) => r#"{"method":"whoami","req_id":"w"}"#.to_owned(),
            15 => r#"{"method":"list","req_id":"l"}"#.to_owned(),
            16 => "not json".to_owned(),
            17 => r#"{"method":"subscribe","params":{"channels":["a..b","x y"]}}"#.to_owned(),
            18 if self.reading.is_stream() => return,
            18 => {
                self.pinged += 1;
                self.write(9, b"are you there", random);
                return;
            }
            _ if random.chance(20) => {
                self.close(1000, random);
                return;
            }
            _ => r#"{"method":"ping","req_id":"p"}"#.to_owned(),
        };
        self.asked += 1;
        self.write(1, text.as_bytes(), random);
    }

    /// Says its last word.
    pub(super) fn close(&mut self, code: u16, random: &mut Random) {
        self.leaving = true;
        self.write(8, &code.to_be_bytes(), random);
    }

    /// What the socket takes of `bytes`, as far as it has room.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let room = self.socket_bytes_max.saturating_sub(self.socket.len());
        let taken = room.min(bytes.len());
        self.socket.extend_from_slice(&bytes[..taken]);
        if taken < bytes.len() {
            self.judge.be_slow();
        }
        taken
    }

    /// What becomes of `bytes`: with TLS, what is sealed counts as sent.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Outcome {
        let Some(max) = self.sealed_bytes_max else { return Outcome::Took(self.take(bytes)) };
        assert!(self.rest.is_empty(), "nothing is sealed before the rest is sent");
        let sealed = bytes.len().min(max);
        let taken = self.take(&bytes[..sealed]);
        self.rest.extend_from_slice(&bytes[taken..sealed]);
        Outcome::Sealed { bytes: sealed, is_full: taken < sealed }
    }

    /// Puts what was sealed before into the socket; true when all of it is there.
    pub(super) fn send_rest(&mut self) -> bool {
        let rest = std::mem::take(&mut self.rest);
        let taken = self.take(&rest);
        self.rest.extend_from_slice(&rest[taken..]);
        self.rest.is_empty()
    }

    /// A masked frame, in one piece or in two fragments.
    fn write(&mut self, opcode: u8, payload: &[u8], random: &mut Random) {
        self.only_pongs = false;
        let split = opcode == 1 && random.chance(30);
        let at = if split { random.below(payload.len() + 1) } else { 0 };
        let parts = if at > 0 { vec![&payload[..at], &payload[at..]] } else { vec![payload] };
        let out = &mut self.outbox;
        for (number, part) in parts.iter().enumerate() {
            let fin = if number + 1 == parts.len() { 0x80 } else { 0 };
            out.push(fin | if number == 0 { opcode } else { 0 });
            if part.len() < 126 {
                out.push(0x80 | u8::try_from(part.len()).unwrap());
            } else {
                out.push(0x80 | 126);
                out.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
            }
            let mask = u32::try_from(random.next() >> 32).unwrap().to_be_bytes();
            out.extend_from_slice(&mask);
            out.extend(part.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
}

fn request(method: &str, patterns: &str, params: &str, req_id: u64) -> String {
    let params = format!(r#"{{"channels":{patterns}{params}}}"#);
    format!(r#"{{"method":"{method}","params":{params},"req_id":{req_id}}}"#)
}

/// Where a subscription begins; the last event so far is `head`.
fn start(head: u64, random: &mut Random) -> Start {
    let at = usize::try_from(head).unwrap();
    let near = at.saturating_sub(random.below(60));
    let anywhere = random.below(at + 3);
    let place = random.pick(&[near, near, at, anywhere]) as u64;
    let resume = random.chance(35).then(|| (random.chance(90), place));
    Start { snapshot: random.chance(60), resume }
}

fn start_params(start: Start) -> String {
    let snapshot = if start.snapshot { "" } else { r#","snapshot":false"# };
    let Some((is_epoch, seq)) = start.resume else { return snapshot.to_owned() };
    let epoch = if is_epoch { "epoch" } else { "another" };
    format!(r#"{snapshot},"resume":{{"epoch":"{epoch}","seq":{seq}}}"#)
}
