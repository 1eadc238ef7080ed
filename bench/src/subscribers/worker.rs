//! One thread of subscribers: all its sockets in one poll, one buffer for all reads.
//!
//! Not here: what a client makes of bytes (`client`). Invariant: a client costs a record and a
//! socket; it has memory of its own only while a frame is in pieces.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use fanfare::shell::random;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::ClientConfig;

use super::client::{Client, Common, Ended, Stage};
use super::connect;
use super::recorder::Recorder;
use super::unpacked::Unpacked;
use crate::clock::{SECOND_NS, now_ns, ns};
use crate::continuity::Ledger;
use crate::cpus;
use crate::orders::{Answer, Count, Order, Plan, channels_of, is_stalled};
use crate::scenario::Readers;
use crate::server::Subscribe;

pub(super) const BUFFER_BYTES: usize = 256 << 10;
const WAKE: Token = Token(usize::MAX);
/// Handshakes of one thread at the same time.
const CONNECTING_MAX: usize = 128;
/// Before a client that was refused in a storm tries again.
const AGAIN_S: f64 = 0.5;
/// How often timers are looked at, at least.
const TICK: Duration = Duration::from_millis(5);
/// A turn in which nothing was found and which took longer was not idle: something else ran here.
const IDLE_NS_MAX: u64 = 20_000;

#[derive(Debug)]
pub(super) struct Worker {
    poll: Poll,
    pub(super) clients: Vec<Client>,
    pub(super) common: Common,
    tls: Option<Arc<ClientConfig>>,
    pub(super) buffer: Vec<u8>,
    /// With TLS: what the socket gave.
    pub(super) sealed: Vec<u8>,
    orders: Receiver<Order>,
    answers: Sender<Answer>,
    /// Clients that are where they should be, of all threads.
    settled: Arc<AtomicU64>,
    settled_here: usize,
    connecting: usize,
    /// The next one that has not been connected yet.
    next: usize,
    /// Clients that come (back) later.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// The first connection of everybody is there.
    ready: bool,
    /// When somebody leaves, or changes, next; and who.
    churn_ns: u64,
    change_ns: u64,
    turn: usize,
    /// It does not sleep while there is a window; and when its last turn ended.
    spins: bool,
    turned_ns: u64,
}

/// A worker's ends of what connects it with its process.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) orders: Receiver<Order>,
    pub(super) answers: Sender<Answer>,
    pub(super) settled: Arc<AtomicU64>,
}

impl Worker {
    pub(super) fn new(plan: Plan, lines: Lines) -> Result<(Self, Waker), String> {
        let poll = Poll::new().map_err(|error| format!("epoll: {error}"))?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(|error| error.to_string())?;
        let tls = plan.certificate.as_deref().map(connect::tls).transpose()?;
        let clients = (plan.first..plan.first + plan.count)
            .map(|number| {
                let stays = plan.stay.is_none_or(|stay| number < stay);
                Client::new(ledger(&plan, number, false), is_stalled(number, plan.stalled), stays)
            })
            .collect();
        let key = fanfare::protocol::ws::client::key([11; 16]);
        let recorder = Recorder::new();
        let unpacked = plan.deflate.then(Unpacked::new);
        let worker = Self {
            poll,
            clients,
            common: Common { plan, key, recorder, unpacked, back: 0, back_ns: 0 },
            sealed: if tls.is_some() { vec![0; BUFFER_BYTES] } else { Vec::new() },
            tls,
            buffer: vec![0; BUFFER_BYTES],
            orders: lines.orders,
            answers: lines.answers,
            settled: lines.settled,
            settled_here: 0,
            connecting: 0,
            next: 0,
            due: BinaryHeap::new(),
            ready: false,
            churn_ns: u64::MAX,
            change_ns: u64::MAX,
            turn: 0,
            spins: false,
            turned_ns: 0,
        };
        Ok((worker, waker))
    }

    /// Runs until it is told to quit, or the coordinator is gone.
    pub(super) fn run(mut self) {
        cpus::pin(&self.common.plan.cpus);
        let mut events = Events::with_capacity(1024);
        if self.clients.is_empty() {
            self.settle();
        }
        loop {
            if !self.ready {
                self.connect_more();
            }
            let patience = if self.spins { Duration::ZERO } else { TICK };
            match self.poll.poll(&mut events, Some(patience)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.fail(&format!("epoll: {error}")),
            }
            for event in &events {
                if event.token() == WAKE {
                    if !self.obey() {
                        return;
                    }
                } else {
                    self.happened(event);
                }
            }
            self.timers(events.is_empty());
            if self.spins && events.is_empty() {
                // To the producer, where it may not run before others.
                std::thread::yield_now();
            }
        }
    }

    /// Does what it was told; false: it is over.
    fn obey(&mut self) -> bool {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Connect(_) => {}
                Order::Quit => return false,
                Order::Subscribe => self.subscribe(),
                Order::Window(window) => {
                    for client in &mut self.clients {
                        (client.deliveries, client.places, client.placed) = (0, 0, 0);
                    }
                    self.common.recorder.begin(window);
                    let plan = &self.common.plan;
                    self.spins = plan.readers == Readers::Spin;
                    self.churn_ns = after(window.from_ns, plan.churn_per_s);
                    self.change_ns = after(window.from_ns, plan.changes_per_s);
                }
                Order::Count => {
                    let away = self.clients.iter().filter(|client| client.away).count();
                    let count = Count {
                        deliveries: self.common.recorder.deliveries,
                        away: away as u64,
                        back_ns: self.common.back_ns,
                        disconnected: self.common.recorder.disconnected,
                    };
                    self.answer(Answer::Count(count));
                }
                Order::Drop { jitter_s } => {
                    self.drop_all(jitter_s);
                    self.answer(Answer::Ready);
                }
                Order::Report { newest } => {
                    self.spins = false;
                    self.report(&newest);
                }
            }
        }
        true
    }

    fn subscribe(&mut self) {
        self.common.plan.subscribe = true;
        self.ready = false;
        self.settled_here = 0;
        self.settled.store(0, Ordering::Relaxed);
        for number in 0..self.clients.len() {
            match self.clients[number].stage {
                Stage::Open => self.clients[number].subscribe(&self.common.plan),
                Stage::Live => {} // There is nothing to subscribe to.
                _ => continue,
            }
            if let Err(ended) = self.write(number) {
                self.lose(number, &ended);
            }
            self.look_at(number, Stage::Open);
        }
        if self.clients.is_empty() {
            self.settle();
        }
    }

    fn drop_all(&mut self, jitter_s: f64) {
        let Some(stay) = self.common.plan.stay else { return };
        self.common.back = 0;
        let now = now_ns();
        for number in 0..self.clients.len() {
            let client_number = self.common.plan.first + number as u64;
            if client_number < stay {
                continue;
            }
            self.replace(number);
            self.clients[number].away = true;
            self.due.push(Reverse((now + part_of(ns(jitter_s)), number)));
        }
    }

    fn report(&mut self, newest: &[u64]) {
        let stride = self.common.plan.stride;
        let mut by_client = Vec::new();
        let mut rank: Option<(f64, f64)> = None;
        let others = self.clients.iter().filter(|client| client.counts()).count() as f64 - 1.0;
        for client in &mut self.clients {
            if client.counts() {
                client.missing += client.ledger.close(newest, stride);
            }
            client.settle(&mut self.common.recorder);
            if !client.counts() {
                continue;
            }
            by_client.push(client.deliveries);
            if client.placed > 0 && others > 0.0 {
                let mean = client.places as f64 / f64::from(client.placed) / others;
                let (low, high) = rank.unwrap_or((mean, mean));
                rank = Some((low.min(mean), high.max(mean)));
            }
        }
        let mut report = self.common.recorder.report();
        report.by_client = by_client;
        // Places are of one audience only when there is one channel.
        report.rank = rank.filter(|_| self.common.plan.channels == 1);
        self.answer(Answer::Report(vec![report]));
    }

    /// Ends a turn, in which nothing was found to do or something was.
    fn timers(&mut self, in_vain: bool) {
        let now = now_ns();
        let took_ns = now - std::mem::replace(&mut self.turned_ns, now);
        self.common.recorder.read_at(now);
        if self.spins && in_vain && took_ns < IDLE_NS_MAX {
            self.common.recorder.idle(took_ns, now);
        }
        while let Some(&Reverse((at_ns, number))) = self.due.peek() {
            if at_ns > now || self.connecting >= CONNECTING_MAX * 8 {
                break;
            }
            self.due.pop();
            self.open(number);
        }
        while now >= self.churn_ns && !self.clients.is_empty() {
            self.churn_ns = after(self.churn_ns, self.common.plan.churn_per_s);
            let number = self.next_turn();
            if self.clients[number].counts() {
                self.replace(number);
                self.open(number);
            }
        }
        while now >= self.change_ns && !self.clients.is_empty() {
            self.change_ns = after(self.change_ns, self.common.plan.changes_per_s);
            let number = self.next_turn();
            self.change(number);
        }
    }

    fn change(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if !client.counts() {
            return;
        }
        let place = usize::try_from(random::number() % client.ledger.count() as u64);
        let channel = random::number() % self.common.plan.channels;
        let channel = u32::try_from(channel).expect("channels are few");
        if client.change(place.expect("it is below a length"), channel)
            && let Err(ended) = self.write(number)
        {
            self.lose(number, &ended);
        }
    }

    /// Another client each time, and neighbours not one after the other.
    fn next_turn(&mut self) -> usize {
        const STEP: usize = 7919;
        self.turn = (self.turn + STEP) % self.clients.len();
        self.turn
    }

    /// A new client in the place of one, which vanishes without a word.
    fn replace(&mut self, number: usize) {
        let old = &mut self.clients[number];
        old.settle(&mut self.common.recorder);
        if old.stage < Stage::Open && old.stage != Stage::Away {
            self.connecting -= 1;
        }
        let plan = &self.common.plan;
        let ledger = ledger(plan, plan.first + number as u64, true);
        let (stalled, measured, away) = (old.stalled, old.measured, old.away);
        let (deliveries, places, placed) = (old.deliveries, old.places, old.placed);
        let new = Client::new(ledger, stalled, measured);
        self.clients[number] = Client { deliveries, places, placed, away, ..new };
    }

    fn connect_more(&mut self) {
        while self.connecting < CONNECTING_MAX && self.next < self.clients.len() {
            self.next += 1;
            self.open(self.next - 1);
        }
    }

    fn open(&mut self, number: usize) {
        let client_number = self.common.plan.first + number as u64;
        let opened =
            connect::open(self.common.plan.server, client_number).and_then(|mut stream| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut stream, Token(number), interest)?;
                Ok(stream)
            });
        self.connecting += 1;
        let client = &mut self.clients[number];
        client.stage = Stage::Connecting;
        match opened {
            Ok(stream) => client.stream = Some(stream),
            Err(error) => self.lose(number, &Ended(format!("connecting: {error}"))),
        }
    }

    fn happened(&mut self, event: &Event) {
        let number = event.token().0;
        let before = self.clients[number].stage;
        if before == Stage::Away {
            return;
        }
        let mut went = Ok(());
        if before == Stage::Connecting {
            went = self.connected(number);
        }
        if went.is_ok() && event.is_readable() {
            went = self.read(number, event.is_read_closed());
        }
        if self.clients[number].stage == Stage::Upgrading
            && self.common.plan.kind == Subscribe::Frames
        {
            self.clients[number].shaken_hands();
        }
        if went.is_ok() {
            went = self.write(number);
        }
        match went {
            Ok(()) => self.look_at(number, before),
            Err(ended) => self.lose(number, &ended),
        }
    }

    fn connected(&mut self, number: usize) -> Result<(), Ended> {
        let client = &mut self.clients[number];
        let stream = client.stream.as_ref().expect("it is not away");
        if let Some(error) = stream.take_error().ok().flatten() {
            return Err(Ended(format!("connecting: {error}")));
        }
        if stream.peer_addr().is_err() {
            return Ok(());
        }
        if let Some(config) = &self.tls {
            client.tls = Some(Box::new(connect::session(config)));
        }
        client.connected(&self.common);
        Ok(())
    }

    /// Notes how far a client came.
    fn look_at(&mut self, number: usize, before: Stage) {
        let client = &mut self.clients[number];
        let wanted = if self.common.plan.subscribe { Stage::Live } else { Stage::Open };
        if before < Stage::Open && client.stage >= Stage::Open {
            self.connecting -= 1;
        }
        if before >= wanted || client.stage < wanted {
            return;
        }
        if client.stalled
            && wanted == Stage::Live
            && let Some(stream) = &mut client.stream
        {
            // It was registered, and there is nothing that this could free.
            let _ = self.poll.registry().deregister(stream);
        }
        if !self.ready {
            self.settled.fetch_add(1, Ordering::Relaxed);
            self.settled_here += 1;
            if self.settled_here == self.clients.len() {
                self.settle();
            }
        }
    }

    fn settle(&mut self) {
        self.ready = true;
        self.answer(Answer::Ready);
    }

    fn lose(&mut self, number: usize, ended: &Ended) {
        let stage = self.clients[number].stage;
        if stage < Stage::Open && stage != Stage::Away {
            self.connecting -= 1;
        }
        if !self.ready {
            return self.fail(&format!("client {number}: {}", ended.0));
        }
        let client = &mut self.clients[number];
        (client.stage, client.stream, client.tls) = (Stage::Away, None, None);
        client.rest = Vec::new();
        client.output = Vec::new();
        if stage < Stage::Live {
            self.common.recorder.refused += 1;
            self.replace(number);
            self.due.push(Reverse((now_ns() + part_of(ns(AGAIN_S)), number)));
        } else if !client.stalled {
            if self.common.recorder.disconnected == 0 {
                eprintln!("client {number} was cut off: {}", ended.0);
            }
            self.common.recorder.disconnected += 1;
        }
    }

    fn fail(&self, why: &str) {
        self.answer(Answer::Failed(why.to_owned()));
    }

    fn answer(&self, answer: Answer) {
        // Nobody hears it when the process ends, and then the poll of this thread ends too.
        let _ = self.answers.send(answer);
    }
}

impl Client {
    /// Whether it should receive everything, and is measured.
    fn counts(&self) -> bool {
        self.stage == Stage::Live && self.measured && !self.stalled
    }
}

fn ledger(plan: &Plan, client: u64, late: bool) -> Ledger {
    let channels = channels_of(client, plan.channels, plan.channels_per_client, plan.mixed);
    Ledger::new(&channels, late)
}

/// The next time of what happens so many times a second.
fn after(now_ns: u64, per_s: f64) -> u64 {
    if per_s > 0.0 { now_ns + ns(1.0 / per_s).max(1) } else { u64::MAX }
}

/// A random part of a time.
fn part_of(time_ns: u64) -> u64 {
    random::number() % time_ns.clamp(1, 3600 * SECOND_NS)
}
