//! The world around one shard: sequencer, sockets and clients, all decided by a seed, or by a
//! fuzzer's bytes ([`operations`]).
//!
//! Not here: what is right ([`crate::model`]). Invariant: time moves between turns only, and the
//! shard is driven in the order that its own documentation asks of the shell.

mod client;
mod ends;
mod feed;
mod operations;
mod past;
mod random;
mod reading;
mod rules;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use fanfare::access::Member;
use fanfare::fanout::Now;
use fanfare::fanout::connection::{ConnectionId, Ended};
use fanfare::fanout::encoders::Compression;
use fanfare::fanout::sequencer::Sequencer;
use fanfare::fanout::shard::{Outcome, Plan, Shard, ShardSettings};
use fanfare::handoff::batch::Batch;
use fanfare::protocol::encoding::{Encoding, Form};
use fanfare::protocol::whoami::Socket;
use fanfare::protocol::ws::close::CloseReason;
use fanfare::telemetry::Telemetry;

use crate::model::{History, Judge, Mischief, Setup};
use crate::totals::Totals;

use client::Client;
use past::Stream;
use random::Random;
use reading::Reading;

/// Turns in which events come and clients ask, and quiet ones after them.
const TURNS_BUSY: usize = 45;
const TURNS: usize = 60;

/// Forms that are there from the start, in some of the worlds.
const FORMS: [&[Form]; 4] = [&[], &[], &[Form::Binary], &[Form::Sse, Form::Deflate]];

/// Clients at a time.
const CLIENTS_MAX: usize = 12;

/// Turns without anything to do that end a run: time for the slowest tier, and for looks that bring
/// clients back to a faster one.
const TURNS_QUIET: usize = 20;

/// Passes of a turn at most: all of the largest log goes to one client, in records of 1,000 bytes,
/// and some.
const PASSES_MAX: usize = 2_000;

/// Ticks of a turn at most: one round of the sweep over all clients, and some.
const TICKS: usize = 14;

pub(crate) struct World {
    random: Random,
    verbose: bool,
    shard: Shard,
    telemetry: Arc<Telemetry>,
    sequencer: Sequencer,
    /// What the shard can ask for of the time before its log.
    stream: Stream,
    /// Batches that other shards have already, in order.
    held: VecDeque<Arc<Batch>>,
    /// Percent of turns in which the shard is late for what comes.
    late: usize,
    /// The stream has messages that are no events.
    has_holes: bool,
    /// Batches that may still come while this turn's passes are under way.
    batches_left: usize,
    history: History,
    setup: Rc<Setup>,
    command_burst: u64,
    clients: Vec<Client>,
    /// Clients that ever were.
    clients_count: usize,
    now: Now,
    events_a_turn: usize,
    data_bytes_max: usize,
    totals: Totals,
    ping_ns: u64,
    pong_ns: u64,
    /// It is told to stop in order.
    is_stopping: bool,
}

impl World {
    /// A world that a seed decides.
    pub(crate) fn of_seed(seed: u64, verbose: bool, mischief: Option<Mischief>) -> Self {
        Self::new(Random::of_seed(seed), verbose, mischief)
    }

    fn new(mut random: Random, verbose: bool, mischief: Option<Mischief>) -> Self {
        let (log_bytes, events_a_turn, data_bytes_max) = amounts(&mut random);
        let forgets = random.chance(20);
        let reads_back = random.chance(50);
        let fails_back = random.chance(30);
        let stream = Stream::new(fails_back);
        let telemetry = stream.telemetry(reads_back);
        let setup = Setup {
            forgets,
            rules: rules::rules(&mut random),
            log_bytes,
            reads_back,
            fails_back,
            tier_moves: random.chance(50),
            mischief,
        };
        let (late, has_holes) = (random.pick(&[15, 15, 60]), random.chance(50));
        let command_burst = random.pick(&[20, 50, 100]);
        let ping_ns = random.pick(&[3_000_000_000, 6_000_000_000, 0]);
        let pong_ns = 3_000_000_000;
        let settings = ShardSettings {
            node: "sim".into(),
            epoch: "epoch".into(),
            reads_back,
            log_bytes,
            connections_max: 1_000,
            subscriptions_max: 6,
            message_bytes_max: 4_096,
            heartbeat_ns: 2_000_000_000,
            // A few frames only: chains of books, and the newest of some slots, are lost.
            retained_bytes: if forgets { 2_000 } else { 16 << 20 },
            rules: Arc::new(rules::for_server(&setup.rules)),
            command_rate: random.pick(&[5, 20]),
            command_burst,
            tier_moves: setup.tier_moves,
            ping_ns,
            pong_ns,
            idle_ns: 0,
            compression: Compression {
                level: random.pick(&[1, 6]),
                message_bytes_min: random.pick(&[0, 150]),
            },
            forms: random.pick(&FORMS).to_vec(),
            // Mostly so little that a form takes several turns.
            fill_bytes: log_bytes / random.pick(&[1, 10, 100]),
            form_idle_ns: random.pick(&[0, 60_000_000_000]),
            // Mostly so few that a pass takes several, and events come between them.
            plan_sends_max: random.pick(&[1, 2, 3, 256]),
            unsent_bytes_max: log_bytes / 4,
            ..ShardSettings::default()
        };
        Self {
            shard: Shard::new(settings, Arc::clone(&telemetry), 0),
            random,
            verbose,
            telemetry,
            sequencer: Sequencer::new(100, 100),
            stream,
            held: VecDeque::new(),
            late,
            has_holes,
            batches_left: 0,
            history: History::default(),
            setup: Rc::new(setup),
            command_burst: command_burst.into(),
            clients: Vec::new(),
            clients_count: 0,
            now: Now { monotonic_ns: 1, unix_ns: 1_700_000_000_000_000_000 },
            events_a_turn,
            data_bytes_max,
            totals: Totals::default(),
            ping_ns,
            pong_ns,
            is_stopping: false,
        }
    }

    /// Runs to the end and returns what happened.
    pub(crate) fn run(mut self) -> Totals {
        for turn in 0..TURNS {
            self.turn(turn < TURNS_BUSY);
        }
        self.finish()
    }

    /// Lets everything come to rest, and ends it.
    fn finish(mut self) -> Totals {
        // Everybody who is left reads everything.
        for client in &mut self.clients {
            client.reads = 100;
        }
        let mut quiet = 0;
        for _ in 0..2_000 {
            self.turn(false);
            let idle = |client: &Client| {
                let has_said_all = client.outbox.is_empty() || client.only_pongs;
                client.socket.is_empty() && has_said_all && !client.waiting
            };
            let is_due = self.shard.is_pass_due() || !self.stream.is_idle();
            let done = !is_due && self.clients.iter().all(idle);
            quiet = if done { quiet + 1 } else { 0 };
            if quiet == TURNS_QUIET {
                break;
            }
        }
        assert_eq!(quiet, TURNS_QUIET, "everybody reads, and still it does not come to rest");
        for client in &mut self.clients {
            if client.leaving {
                continue;
            }
            // A stream is not pinged: it could not answer.
            if self.ping_ns > 0 && !client.judge.was_slow() && !client.reading.is_stream() {
                // A hundred ticks are a round of looks, which take some seconds here.
                let silent_ns = self.now.monotonic_ns - client.heard_ns;
                let allowed_ns = self.ping_ns + self.pong_ns + 15_000_000_000;
                assert!(silent_ns < allowed_ns, "{:?} is dead and still there", client.id);
            }
            if client.mute {
                continue; // Its last answers may be on their way for ever.
            }
            let said = client.said();
            assert!(client.reading.is_empty(), "a frame was begun and not finished");
            let judge = &mut client.judge;
            judge.finish(&self.history);
            assert_eq!(judge.answers, client.asked, "every request is answered once");
            if judge.refused_for_rate == 0 && said <= self.command_burst {
                assert_eq!(judge.pongs, client.pinged, "every ping is answered once");
            }
            assert!(judge.pongs <= client.pinged, "no ping is answered twice");
        }
        if self.random.chance(30) {
            self.drain();
        }
        self.shut_down();
        self.totals
    }

    fn turn(&mut self, busy: bool) {
        self.wait();
        if busy {
            self.produce();
            self.batches_left = self.random.pick(&[0, 1, 5]);
            if self.clients.len() < CLIENTS_MAX && self.random.chance(40) {
                self.connect();
            }
            for client in &mut self.clients {
                client.speak(self.history.head(), &mut self.random);
            }
        }
        self.deliver_commands();
        if !busy {
            self.hand_over_all();
        } else if self.random.chance(50) {
            self.hand_over();
        }
        self.answer_questions();
        self.flush();
        if !busy || self.random.chance(70) {
            let count = if self.random.chance(50) { TICKS } else { 1 };
            for _ in 0..count {
                self.tick();
            }
            if !busy || self.random.chance(50) {
                self.flush();
            }
        }
        for at in 0..self.clients.len() {
            self.read(at);
        }
        self.collect_closed();
        self.shard.check_invariants();
    }

    /// Time passes.
    fn wait(&mut self) {
        let step = self.random.below(400_000_000) as u64;
        self.now.monotonic_ns += step;
        self.now.unix_ns += step;
        self.history.now_ns = self.now.monotonic_ns;
    }

    fn tick(&mut self) {
        self.history.tick();
        let forms = self.shard.form_count();
        self.shard.handle_tick(self.now);
        self.totals.forms_ended += (forms - self.shard.form_count()) as u64;
    }

    fn connect(&mut self) {
        let encoding = self.random.pick(&[
            Encoding::Json,
            Encoding::Json,
            Encoding::Deflate { window_bits: 15 },
            Encoding::Deflate { window_bits: 9 },
            Encoding::Binary,
            Encoding::Sse,
        ]);
        let id = self.shard.handle_open(Member::anyone(), encoding, self.now);
        self.clients_count += 1;
        let name = format!("client {} ({id:?})", self.clients_count);
        let mut judge = Judge::new(&name, Rc::clone(&self.setup));
        // It takes nothing until its form is filled; what the log cannot wait for, it misses.
        if self.shard.is_filling(encoding.form()) {
            judge.be_slow();
        }
        let reading = Reading::new(encoding);
        let client = Client::new(id, judge, reading, self.now.monotonic_ns, &mut self.random);
        self.say(format_args!("{name} connects, reads {encoding:?}, {} %", client.reads));
        self.clients.push(client);
    }

    /// The server reads some of what clients have written, cut anywhere; some connections break.
    fn deliver_commands(&mut self) {
        for client in &mut self.clients {
            let mut cut = client.outbox.len();
            if !self.random.chance(70) {
                cut = self.random.below(cut + 1);
            }
            let mut bytes: Vec<_> = client.outbox.drain(..cut).collect();
            client.only_pongs |= client.outbox.is_empty();
            if !bytes.is_empty() {
                client.be_heard(self.now.monotonic_ns);
                match client.requests(&mut bytes) {
                    None => self.shard.handle_bytes(client.id, &mut bytes, self.now),
                    Some(requests) => {
                        for text in requests {
                            let socket = Socket::default;
                            self.shard.handle_request(client.id, &text, &socket, self.now);
                        }
                        // Nobody hears its farewell.
                        if client.leaving && client.outbox.is_empty() {
                            self.shard.handle_end(client.id, CloseReason::PeerReset);
                        }
                    }
                }
            }
            if self.random.below(1_000) < 3 {
                client.leaving = true;
                self.shard.handle_end(client.id, CloseReason::PeerReset);
            }
        }
    }

    /// Passes until nothing is due, so that only full sockets make clients lag.
    fn flush(&mut self) {
        for number in 0..PASSES_MAX {
            self.pass();
            if !self.shard.is_pass_due() {
                return self.note_level();
            }
            // A client that is ahead of the shard waits for it.
            if number == 20 {
                self.hand_over();
            }
        }
        panic!("{PASSES_MAX} passes of one turn find something to send");
    }

    /// Who waits for nothing has been sent everything that there is.
    fn note_level(&mut self) {
        self.take_questions();
        if !self.stream.is_idle() {
            return; // Somebody waits for what is read back.
        }
        // What the shard has been given.
        let first_held = self.held.front().and_then(|batch| batch.events.first());
        let head = first_held.map_or_else(|| self.history.head(), |event| event.seq - 1);
        for client in &mut self.clients {
            if !client.waiting && !self.shard.is_filling(client.reading.form()) {
                client.be_level(head, self.history.ticks_slowest());
            }
        }
    }

    /// One pass, with commands and events in the middle of it now and then, as tasks interleave in
    /// the shell.
    fn pass(&mut self) {
        let mut plan = Plan::default();
        self.shard.begin_pass();
        self.totals.filling += u64::from(Form::ALL.iter().any(|&form| self.shard.is_filling(form)));
        loop {
            self.shard.next_sends(&mut plan);
            if plan.is_empty() {
                break;
            }
            let mut outcomes = Vec::new();
            for (id, run) in plan.sends() {
                let slices = &plan.slices[run.slices.clone()];
                let bytes: Vec<u8> =
                    slices.iter().flat_map(|&s| self.shard.slice(s).to_vec()).collect();
                assert_eq!(bytes.len(), run.bytes);
                let outcome = self.socket_takes(id, &bytes);
                match outcome {
                    Outcome::Took(taken) => {
                        self.totals.partial += u64::from(taken < bytes.len());
                    }
                    Outcome::Sealed { bytes: sealed, is_full } => {
                        self.totals.sealed_full += u64::from(is_full);
                        self.totals.sealed_part += u64::from(!is_full && sealed < bytes.len());
                    }
                    Outcome::Failed => {}
                }
                outcomes.push(outcome);
            }
            let mut full = Vec::new();
            self.shard.handle_sent(&plan, &outcomes, self.now, &mut full);
            for id in full {
                if let Some(client) = self.client(id) {
                    client.waiting = true;
                }
            }
            if self.random.chance(20) {
                self.deliver_commands();
                self.tick();
                self.answer_questions();
            }
            self.hand_over_more();
        }
        self.shard.end_pass();
    }

    /// Some of what the shard has asked for comes.
    fn answer_questions(&mut self) {
        self.take_questions();
        while let Some(answer) = self.stream.answer(&mut self.random) {
            self.telemetry.stream.first_seq.set(self.stream.first());
            self.totals.passages += u64::from(answer.outcome.is_ok());
            self.totals.lapses += u64::from(answer.outcome.is_err());
            self.shard.handle_answer(answer);
        }
    }

    fn take_questions(&mut self) {
        while let Some(from) = self.shard.next_ask() {
            self.stream.ask(from);
        }
    }

    fn socket_takes(&mut self, id: ConnectionId, bytes: &[u8]) -> Outcome {
        let breaks = self.random.below(2_000) == 0;
        let Some(client) = self.client(id) else { return Outcome::Took(bytes.len()) };
        if breaks {
            client.leaving = true;
            return Outcome::Failed;
        }
        client.send(bytes)
    }

    /// A client reads, and the shell's writer goes on where its socket had been full.
    fn read(&mut self, at: usize) {
        let reads = self.clients[at].reads;
        if !self.random.chance(reads) {
            if reads == 0 && self.random.chance(3) {
                self.clients[at].reads = 100; // A stalled client comes back.
            }
            return;
        }
        let client = &mut self.clients[at];
        let len = client.socket.len();
        let count = if self.random.chance(50) { len } else { self.random.below(len + 1) };
        let bytes: Vec<_> = client.socket.drain(..count).collect();
        client.receive(&bytes, &self.history);
        client.answer_pings(&mut self.random);
        if client.judge.closed.is_some() && !client.leaving && !client.mute {
            client.close(1000, &mut self.random);
        }
        if !client.waiting || client.socket.len() >= client.socket_bytes_max {
            return;
        }
        if !client.send_rest() {
            return;
        }
        client.waiting = false;
        let (id, is_sealed) = (client.id, client.is_sealed());
        // What is sealed next depends on what is worth sending in the next pass.
        match self.shard.next_write(id).filter(|_| !is_sealed).map(<[u8]>::to_vec) {
            None => self.shard.handle_writable(id),
            Some(bytes) => {
                let outcome = self.socket_takes(id, &bytes);
                self.shard.handle_written(id, outcome, self.now);
            }
        }
    }

    fn collect_closed(&mut self) {
        while let Some(Ended { id, reason, .. }) = self.shard.next_closed() {
            self.say(format_args!("{id:?} is closed: {}", reason.name()));
            let Some(at) = self.clients.iter().position(|client| client.id == id) else { continue };
            let mut client = self.clients.swap_remove(at);
            let said = client.said();
            let rest = std::mem::take(&mut client.socket);
            client.receive(&rest, &self.history);
            let judge = &mut client.judge;
            if reason == CloseReason::HeartbeatMissed {
                self.totals.heartbeats_missed += 1;
                // Pings come early by a quarter, so that they are spread.
                let silent_ns = client.silent_ns.max(self.now.monotonic_ns - client.heard_ns);
                let allowed_ns = self.ping_ns / 4 * 3 + self.pong_ns;
                assert!(
                    silent_ns >= allowed_ns,
                    "{id:?} was never silent for more than {silent_ns} ns"
                );
            }
            self.totals.drained += u64::from(judge.drained && reason == CloseReason::Drain);
            match (judge.closed, reason) {
                // The close frame found no room in a socket that nobody reads.
                (None, CloseReason::SlowConsumer) => judge.check_slow_consumer(&self.history),
                (Some(4100), _) => {}
                (Some(1001), _) => {
                    assert!(self.is_stopping, "{id:?} is told of a stop: {reason:?}")
                }
                (None, CloseReason::HeartbeatMissed | CloseReason::Drain) => {}
                (_, CloseReason::RateLimited) | (Some(1008), _) => {
                    let burst = self.command_burst;
                    assert!(said > 2 * burst, "1008 after {said} messages, the burst is {burst}");
                }
                (closed, _) => {
                    assert!(client.leaving || closed.is_some(), "{id:?} is closed: {reason:?}");
                }
            }
            judge.leave(&self.history);
            self.count(&client);
        }
    }

    fn count(&mut self, client: &Client) {
        let (judge, said) = (&client.judge, client.said());
        let refused = judge.refused_for_rate;
        assert!(
            refused == 0 || said > self.command_burst,
            "{refused} of {said} messages were refused, the burst is {}",
            self.command_burst
        );
        self.totals.add(judge.totals);
        self.totals.compressed += client.reading.compressed;
        self.totals.binary += client.reading.binary;
        self.totals.placed += client.reading.placed;
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

/// Bytes of the log, events of a turn and bytes of data at most. A small log wraps often; a large
/// one lets bursts grow past the bounds of one send.
fn amounts(random: &mut Random) -> (usize, usize, usize) {
    match random.below(100) {
        0..2 => (1 << 20, 900, 300),
        2..30 => (64 << 10, 40, 600),
        _ => (8 << 10, 6, 500),
    }
}
