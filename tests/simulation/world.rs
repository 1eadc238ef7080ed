//! The world around one shard: sequencer, sockets and clients, all decided by a seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare::fanout::Now;
use fanfare::fanout::connection::ConnectionId;
use fanfare::fanout::sequencer::Sequencer;
use fanfare::fanout::shard::{Outcome, Plan, Shard, ShardSettings};
use fanfare::protocol::event::{Event, Kind};
use fanfare::protocol::ws::close::CloseReason;
use fanfare::telemetry::Telemetry;

use crate::model::{Expected, Judge};

const CHANNELS: [&str; 7] =
    ["trade.BTC", "trade.ETH", "quote.BTC", "quote.ETH", "book.BTC.raw", "book.ETH.raw", "status"];
const PATTERNS: [&str; 9] =
    [">", "trade.*", "quote.BTC", "*.BTC", "book.>", "status", "trade.ETH", "*.*.raw", "late.x"];

/// SplitMix64: small, seeded, good enough to decide what happens.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A client with its socket.
struct Client {
    id: ConnectionId,
    judge: Judge,
    /// Bytes that the socket holds and the client has not read.
    socket: Vec<u8>,
    socket_bytes_max: usize,
    /// Percent of turns in which it reads; 0 for one that has stalled.
    reads: usize,
    /// The shell waits until its socket is writable.
    waiting: bool,
    /// Sent a close frame and says nothing more.
    leaving: bool,
    asked: u64,
    pinged: u64,
    /// Bytes on their way to the server.
    outbox: Vec<u8>,
}

pub(crate) struct World {
    random: Random,
    verbose: bool,
    shard: Shard,
    telemetry: Arc<Telemetry>,
    sequencer: Sequencer,
    events: Vec<Expected>,
    channel_last: BTreeMap<String, u64>,
    clients: Vec<Client>,
    now: Now,
    events_a_turn: usize,
    data_bytes_max: usize,
    partial: u64,
    /// Receipts and events of clients that are gone.
    counts: [u64; 3],
    lose: bool,
}

impl World {
    pub(crate) fn new(seed: u64, verbose: bool) -> Self {
        let mut random = Random(seed);
        let telemetry = Arc::new(Telemetry::new(1));
        // A small log wraps often; a large one lets bursts grow past the bounds of one send.
        let (log_bytes, events_a_turn, data_bytes_max) = match random.below(100) {
            0..3 => (1 << 20, 900, 300),
            3..30 => (64 << 10, 40, 600),
            _ => (8 << 10, 6, 500),
        };
        let settings = ShardSettings {
            node: "sim".into(),
            epoch: "epoch".into(),
            log_bytes,
            connections_max: 1_000,
            subscriptions_max: 6,
            message_bytes_max: 4_096,
            heartbeat_ns: 2_000_000_000,
        };
        Self {
            shard: Shard::new(settings, Arc::clone(&telemetry), 0),
            random,
            verbose,
            telemetry,
            sequencer: Sequencer::new(100, 100),
            events: Vec::new(),
            channel_last: BTreeMap::new(),
            clients: Vec::new(),
            now: Now { monotonic_ns: 1, unix_ns: 1_700_000_000_000_000_000 },
            events_a_turn,
            data_bytes_max,
            partial: 0,
            counts: [0; 3],
            lose: false,
        }
    }

    /// Makes one socket drop a frame without a word, to show that the model sees it.
    pub(crate) fn lose_a_frame(&mut self) {
        self.lose = true;
    }

    /// Runs to the end; returns events delivered, events missed, receipts, and partial sends.
    pub(crate) fn run(mut self) -> [u64; 4] {
        for turn in 0..60 {
            self.turn(turn < 45);
        }
        // Everybody who is left reads everything.
        for client in &mut self.clients {
            client.reads = 100;
        }
        for _ in 0..2_000 {
            self.turn(false);
            if !self.shard.is_pass_due() && self.clients.iter().all(|c| c.socket.is_empty()) {
                break;
            }
        }
        let head = self.sequencer.seq_last();
        for client in &mut self.clients {
            if !client.leaving {
                client.judge.finish(head, &self.events);
                assert_eq!(client.judge.answers, client.asked, "every request is answered once");
                assert_eq!(client.judge.pongs, client.pinged, "every ping is answered once");
            }
        }
        self.shut_down();
        let [delivered, missed, receipts] = self.counts;
        [delivered, missed, receipts, self.partial]
    }

    fn turn(&mut self, busy: bool) {
        let step = self.random.below(400_000_000) as u64;
        self.now.monotonic_ns += step;
        self.now.unix_ns += step;
        if busy {
            self.produce();
            if self.clients.len() < 12 && self.random.chance(40) {
                self.connect();
            }
            for at in 0..self.clients.len() {
                self.ask(at);
            }
        }
        self.deliver_commands();
        self.pass();
        if self.random.chance(50) {
            self.shard.handle_tick(self.now);
        }
        for at in 0..self.clients.len() {
            self.read(at);
        }
        self.collect_closed();
        self.shard.check_invariants();
    }

    fn produce(&mut self) {
        if self.random.chance(20) {
            return;
        }
        for _ in 0..self.random.below(self.events_a_turn) {
            let late = self.events.len() > 30 && self.random.chance(10);
            let channel = if late { "late.x" } else { self.random.pick(&CHANNELS) };
            let key = channel.starts_with("quote").then(|| self.random.pick(&["x", "y\"\\"]));
            let ts = self.random.chance(50).then(|| self.random.next() >> 2);
            let pad = "é".repeat(self.random.below(self.data_bytes_max / 2));
            let data = format!("{{ \"n\":{}.50,\"pad\":\"{pad}\"}}", self.events.len());
            let event = Event { channel, key, kind: Kind::Update, ts, data: data.as_bytes() };
            let seq = self.sequencer.handle_event(&event, self.now.unix_ns).unwrap();
            let prev = self.channel_last.insert(channel.to_owned(), seq).unwrap_or(0);
            let key = key.map(str::to_owned);
            self.events.push(Expected { channel: channel.to_owned(), key, ts, data, prev });
        }
        if let Some(batch) = self.sequencer.next_batch() {
            self.shard.handle_batch(&batch);
        }
    }

    fn connect(&mut self) {
        let id = self.shard.handle_open(self.now);
        let reads = [100, 100, 60, 10, 0][self.random.below(5)];
        let socket_bytes_max = [200, 2_000, 20_000, 1 << 20][self.random.below(4)];
        self.clients.push(Client {
            id,
            judge: Judge::default(),
            socket: Vec::new(),
            socket_bytes_max,
            reads,
            waiting: false,
            leaving: false,
            asked: 0,
            pinged: 0,
            outbox: Vec::new(),
        });
        self.say(format_args!("{id:?} connects, reads {reads} %"));
    }

    fn ask(&mut self, at: usize) {
        let random = &mut self.random;
        let client = &mut self.clients[at];
        if client.leaving || !random.chance(25) {
            return;
        }
        let patterns: Vec<_> =
            (0..1 + random.below(3)).map(|_| random.pick(&PATTERNS).to_owned()).collect();
        let patterns = serde_json::to_string(&patterns).unwrap();
        let text = match random.below(20) {
            0..=9 => format!(r#"{{"method":"subscribe","params":{{"channels":{patterns}}}}}"#),
            10..=14 => format!(r#"{{"method":"unsubscribe","params":{{"channels":{patterns}}}}}"#),
            15 => r#"{"method":"list","req_id":5}"#.to_owned(),
            16 => "not json".to_owned(),
            17 => r#"{"method":"subscribe","params":{"channels":["a..b","x y"]}}"#.to_owned(),
            18 => {
                client.pinged += 1;
                write_frame(&mut client.outbox, 9, b"are you there", random);
                return;
            }
            _ if random.chance(20) => {
                client.leaving = true;
                write_frame(&mut client.outbox, 8, &1000_u16.to_be_bytes(), random);
                return;
            }
            _ => r#"{"method":"ping","req_id":"p"}"#.to_owned(),
        };
        client.asked += 1;
        write_frame(&mut client.outbox, 1, text.as_bytes(), random);
    }

    /// The server reads some of what clients have written, cut anywhere; some connections break.
    fn deliver_commands(&mut self) {
        for client in &mut self.clients {
            let mut cut = client.outbox.len();
            if !self.random.chance(70) {
                cut = self.random.below(cut + 1);
            }
            let mut bytes: Vec<_> = client.outbox.drain(..cut).collect();
            if !bytes.is_empty() {
                self.shard.handle_bytes(client.id, &mut bytes, self.now);
            }
            if self.random.below(1_000) < 3 {
                client.leaving = true;
                self.shard.handle_end(client.id, CloseReason::PeerReset);
            }
        }
    }

    /// One pass, with commands in the middle of it now and then, as tasks interleave in the shell.
    fn pass(&mut self) {
        let mut plan = Plan::default();
        self.shard.begin_pass();
        loop {
            self.shard.next_sends(&mut plan);
            if plan.sends.is_empty() {
                break;
            }
            for send in &plan.sends {
                let slices = &plan.slices[send.slices.clone()];
                let bytes: Vec<u8> =
                    slices.iter().flat_map(|&s| self.shard.slice(s).to_vec()).collect();
                assert_eq!(bytes.len(), send.bytes);
                let outcome = self.socket_takes(send.connection, &bytes);
                self.partial += u64::from(matches!(outcome, Outcome::Took(n) if n < bytes.len()));
                let waits = self.shard.handle_sent(send, outcome, self.now);
                if let Some(client) = self.client(send.connection) {
                    client.waiting |= waits;
                }
            }
            if self.random.chance(20) {
                self.deliver_commands();
                self.shard.handle_tick(self.now);
            }
        }
        self.shard.end_pass(self.now);
    }

    fn socket_takes(&mut self, id: ConnectionId, bytes: &[u8]) -> Outcome {
        if self.random.below(2_000) == 0 {
            if let Some(client) = self.client(id) {
                client.leaving = true;
            }
            return Outcome::Failed;
        }
        let lose = self.lose && bytes.windows(7).any(|window| window == b"\"prev\":");
        let Some(client) = self.client(id) else { return Outcome::Took(bytes.len()) };
        if lose {
            self.lose = false;
            return Outcome::Took(bytes.len());
        }
        let client_room = client.socket_bytes_max.saturating_sub(client.socket.len());
        let taken = client_room.min(bytes.len());
        client.socket.extend_from_slice(&bytes[..taken]);
        Outcome::Took(taken)
    }

    /// A client reads, and the shell's writer goes on where its socket had been full.
    fn read(&mut self, at: usize) {
        let reads = self.clients[at].reads;
        if !self.random.chance(reads) {
            if reads == 0 && self.random.chance(2) {
                self.clients[at].reads = 100; // A stalled client comes back.
            }
            return;
        }
        let client = &mut self.clients[at];
        let count = if self.random.chance(50) {
            client.socket.len()
        } else {
            self.random.below(client.socket.len() + 1)
        };
        let bytes: Vec<_> = client.socket.drain(..count).collect();
        client.judge.receive(&bytes, &self.events);
        let client = &mut self.clients[at];
        if !client.waiting || client.socket.len() >= client.socket_bytes_max {
            return;
        }
        client.waiting = false;
        let id = client.id;
        match self.shard.next_write(id).map(<[u8]>::to_vec) {
            None => self.shard.handle_writable(id),
            Some(bytes) => {
                let outcome = self.socket_takes(id, &bytes);
                self.shard.handle_written(id, outcome, self.now);
            }
        }
    }

    fn collect_closed(&mut self) {
        while let Some((id, reason)) = self.shard.next_closed() {
            self.say(format_args!("{id:?} is closed: {}", reason.name()));
            let Some(at) = self.clients.iter().position(|client| client.id == id) else { continue };
            let mut client = self.clients.swap_remove(at);
            assert!(client.leaving || client.judge.closed.is_some(), "closed: {reason:?}");
            client.judge.receive(&client.socket, &self.events);
            self.count(&client.judge);
        }
    }

    /// An orderly stop: each client gets a close frame after its last event, and answers it.
    fn shut_down(&mut self) {
        self.shard.handle_shutdown(self.now);
        for _ in 0..200 {
            self.pass();
            for at in 0..self.clients.len() {
                self.read(at);
                let client = &mut self.clients[at];
                if client.judge.closed.is_some() && !client.leaving {
                    client.leaving = true;
                    write_frame(&mut client.outbox, 8, &1001_u16.to_be_bytes(), &mut self.random);
                }
            }
            self.deliver_commands();
            self.collect_closed();
        }
        self.now.monotonic_ns += 3_600_000_000_000;
        for _ in 0..100 {
            self.shard.handle_tick(self.now);
        }
        self.collect_closed();
        assert_eq!(self.shard.connection_count(), 0, "nobody is left");
        let counters = &self.telemetry.shards[0];
        assert_eq!((counters.connections.value(), counters.blocked.value()), (0, 0));
        assert_eq!(counters.opened.value(), counters.closed.value());
    }

    fn count(&mut self, judge: &Judge) {
        self.counts[0] += judge.delivered;
        self.counts[1] += judge.missed;
        self.counts[2] += judge.receipts;
    }

    fn client(&mut self, id: ConnectionId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.verbose {
            println!("seq {:>5} {what}", self.sequencer.seq_last());
        }
    }
}

/// A masked frame, in one piece or in two fragments.
fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], random: &mut Random) {
    let split = if opcode == 1 && random.chance(30) { random.below(payload.len() + 1) } else { 0 };
    let parts = if split > 0 { vec![&payload[..split], &payload[split..]] } else { vec![payload] };
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
