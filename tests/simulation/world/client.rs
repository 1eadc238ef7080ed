//! A client with its socket: what it says, and what its socket takes.

use fanfare::fanout::connection::ConnectionId;

use crate::model::{Asked, Judge};

use super::random::Random;
use super::rules;

const PATTERNS: [&str; 9] =
    [">", "trade.*", "quote.BTC", "*.BTC", "book.>", "status", "trade.ETH", "*.*.raw", "late.x"];

pub(super) struct Client {
    pub(super) id: ConnectionId,
    pub(super) judge: Judge,
    /// Bytes that the socket holds and the client has not read.
    pub(super) socket: Vec<u8>,
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
}

impl Client {
    pub(super) fn new(id: ConnectionId, judge: Judge, random: &mut Random) -> Self {
        Self {
            id,
            judge,
            socket: Vec::new(),
            socket_bytes_max: random.pick(&[200, 2_000, 20_000, 1 << 20]),
            reads: random.pick(&[100, 100, 60, 10, 0]),
            waiting: false,
            leaving: false,
            asked: 0,
            pinged: 0,
            outbox: Vec::new(),
        }
    }

    /// Says something now and then, and a great deal seldom.
    pub(super) fn speak(&mut self, random: &mut Random) {
        if self.leaving || !random.chance(25) {
            return;
        }
        let count = if random.chance(3) { 10 + random.below(60) } else { 1 };
        for _ in 0..count {
            if !self.leaving {
                self.say(random);
            }
        }
    }

    fn say(&mut self, random: &mut Random) {
        let req_id = self.asked;
        let patterns: Vec<_> = (0..1 + random.below(3)).map(|_| random.pick(&PATTERNS)).collect();
        let patterns = serde_json::to_string(&patterns).unwrap();
        let text = match random.below(20) {
            0..=9 => {
                let wish = rules::wish(random);
                self.judge.ask(req_id, Asked::Subscribe(wish));
                request("subscribe", &patterns, &rules::params(&wish), req_id)
            }
            10..=13 => {
                self.judge.ask(req_id, Asked::Unsubscribe);
                request("unsubscribe", &patterns, "", req_id)
            }
            // Refused as a whole, so there is nothing for the judge to learn.
            14 => request("subscribe", &patterns, r#","policy":"all","interval_ms":10"#, req_id),
            15 => r#"{"method":"list","req_id":"l"}"#.to_owned(),
            16 => "not json".to_owned(),
            17 => r#"{"method":"subscribe","params":{"channels":["a..b","x y"]}}"#.to_owned(),
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

    /// A masked frame, in one piece or in two fragments.
    fn write(&mut self, opcode: u8, payload: &[u8], random: &mut Random) {
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
