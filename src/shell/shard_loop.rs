//! The main loop of one core: ring to log, log to sockets, and the tasks beside it.
//!
//! The fan-out has 1,000 shares of the core, everything that serves single clients 250, and those
//! who are not in yet 100, so that a storm of handshakes or commands cannot delay the feed. Not
//! here: any decision about clients; that is the shard's. Invariant: the shard is never borrowed
//! across an `await`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::access::{Addresses, Gate};
use crate::config::SocketSettings;
use crate::fanout::Now;
use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::{Outcome, Plan, Shard, ShardSettings};
use crate::handoff::batch::Batch;
use crate::handoff::ring::{Receiver, Sender};
use crate::limits::{READ_BYTES, TURN_BYTES_MAX};
use crate::nats::Desk;
use crate::protocol::ws::deflate::Terms;
use crate::telemetry::{ShardCounters, Telemetry};

use super::accept::{self, Entrance};
use super::admission::Admission;
use super::changeable::InForce;
use super::clerk::Clerk;
use super::clock;
use super::connection;
use super::desk;
use super::executor::{self, Guest, Queue};
use super::flush_ring::FlushRing;
use super::lane::Lane;
use super::life::Life;
use super::mailbox::Mailbox;
use super::rounds;
use super::sockets::Sockets;
use super::stopwatch::Stopwatch;
use super::ticker::Ticks;
use super::turns;
use super::writers::Writers;

/// What one shard's thread is started with.
#[expect(missing_debug_implementations, reason = "work that has not begun has nothing to show")]
pub struct ShardParts {
    /// Its number.
    pub number: usize,
    /// Makes the state machine, on the thread that will use it.
    pub settings: ShardSettings,
    /// Where its connections come in.
    pub entrances: Vec<Entrance>,
    /// Where its batches come from.
    pub ring: Receiver<Arc<Batch>>,
    /// Where it asks for what its log has not got, if that can be had.
    pub desk: Option<Desk>,
    /// The server's counters.
    pub telemetry: Arc<Telemetry>,
    /// Its share of the server's tick.
    pub ticks: Ticks,
    /// Where the admin pages ask.
    pub mailbox: Arc<Mailbox>,
    /// The stage that the server is in.
    pub life: Arc<Life>,
    /// Settings that may change.
    pub in_force: Arc<InForce>,
    /// What all shards know of addresses.
    pub addresses: Arc<Addresses>,
    /// Descriptors that it may hold for its connections.
    pub descriptors: usize,
    /// The socket of each connection.
    pub sockets: SocketSettings,
    /// Busy-poll instead of parking.
    pub spin: bool,
    /// What shares the core with it: the sources, where they have no core of their own.
    pub guest: Option<Guest>,
}

/// What the tasks of one core share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) shard: RefCell<Shard>,
    pub(super) sockets: RefCell<Sockets>,
    /// One buffer for all who read: it is filled and handed to the shard without a pause.
    pub(super) read_buffer: RefCell<Box<[u8]>>,
    /// What a read of records came to, for the same moment.
    pub(super) plain_buffer: RefCell<Vec<u8>>,
    /// Settings that may change.
    pub(super) in_force: Arc<InForce>,
    /// Who may come in.
    pub(super) gate: Arc<Gate>,
    /// Whether a client may show its credential after the upgrade.
    pub(super) may_authenticate_later: bool,
    /// On which terms clients may compress, and are sent what is compressed.
    pub(super) deflate: Option<Terms>,
    /// Who may begin a handshake.
    pub(super) admission: Admission,
    /// How much of the core handshakes may take.
    pub(super) lane: RefCell<Lane>,
    pub(super) socket_settings: SocketSettings,
    pub(super) life: Arc<Life>,
    ring: RefCell<Receiver<Arc<Batch>>>,
    /// Where questions for passages go in.
    asks: RefCell<Option<Sender<u64>>>,
    /// Wakes the fan-out loop when there is something to send but no batch.
    fanout: RefCell<Option<Waker>>,
    pub(super) writers: RefCell<Writers>,
    pub(super) handshakes: Queue,
    telemetry: Arc<Telemetry>,
    pub(super) number: usize,
}

impl Core {
    /// Whether a client has something to read or may write; if not, the task is woken when one may.
    pub(super) fn is_somebody_ready(&self, context: &Context<'_>) -> bool {
        self.sockets.borrow().is_readable()
            || self.writers.borrow_mut().is_ready(self.is_due(), context.waker())
    }

    /// Whether a step of a handshake may be made now; if not, it is woken when it may.
    pub(super) fn may_step(&self, context: &Context<'_>) -> bool {
        self.lane.borrow_mut().may_step(self.is_due(), context.waker())
    }

    /// Whether the fan-out has something to do.
    pub(super) fn is_due(&self) -> bool {
        !self.ring.borrow().is_empty() || self.shard.borrow().is_pass_due()
    }

    /// Wakes the fan-out loop.
    pub(super) fn kick(&self) {
        if self.shard.borrow().is_pass_due()
            && let Some(waker) = self.fanout.borrow_mut().take()
        {
            waker.wake();
        }
    }

    pub(super) fn is_restoring(&self) -> bool {
        self.life.is_restoring() && !self.is_stopping()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.life.is_stopping()
    }

    pub(super) fn counters(&self) -> &ShardCounters {
        &self.telemetry.shards[self.number]
    }

    /// Sweeps, and closes sockets whose time is over.
    pub(super) fn tick(&self, now: Now) {
        self.shard.borrow_mut().handle_tick(now);
        self.handle_closed();
        self.sockets.borrow_mut().close_late(now.monotonic_ns);
        self.kick();
    }

    /// Lets go of every connection that the shard has given up.
    pub(super) fn handle_closed(&self) {
        loop {
            let Some(ended) = self.shard.borrow_mut().next_closed() else { return };
            connection::let_go(self, &ended);
        }
    }
}

/// Runs a shard until the server stops; returns how many connections had to be cut.
pub async fn run(parts: ShardParts) -> usize {
    let handshakes = executor::queue(100, "handshakes");
    let clients = executor::queue(250, "clients");
    let fanout = executor::queue(1_000, "fanout");
    let sockets = Sockets::new(parts.settings.connections_max).expect("a descriptor is free");
    let watch = sockets.watch().expect("a descriptor is free");
    let (asks, answers) = parts.desk.map(|desk| (desk.asks, desk.answers)).unzip();
    let core = Rc::new(Core {
        gate: Arc::clone(&parts.settings.gate),
        may_authenticate_later: parts.settings.auth_ns > 0,
        deflate: parts.settings.deflate,
        shard: RefCell::new(Shard::new(parts.settings, Arc::clone(&parts.telemetry), parts.number)),
        sockets: RefCell::new(sockets),
        read_buffer: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
        plain_buffer: RefCell::default(),
        in_force: Arc::clone(&parts.in_force),
        admission: Admission::new(
            parts.in_force,
            parts.addresses,
            parts.descriptors,
            parts.telemetry.shards.len(),
        ),
        lane: RefCell::default(),
        socket_settings: parts.sockets,
        life: parts.life,
        ring: RefCell::new(parts.ring),
        asks: RefCell::new(asks),
        fanout: RefCell::new(None),
        writers: RefCell::default(),
        handshakes,
        telemetry: parts.telemetry,
        number: parts.number,
    });
    let flush = FlushRing::new().expect("start-up checks made a ring like it");
    executor::spawn_into(fanout, fan_out(Rc::clone(&core), flush, parts.spin));
    executor::spawn_into(clients, connection::serve(Rc::clone(&core), watch));
    if let Some(answers) = answers {
        executor::spawn_into(clients, desk::run(Rc::clone(&core), answers));
    }
    for entrance in parts.entrances {
        executor::spawn_into(handshakes, accept::run(Rc::clone(&core), entrance));
    }
    let guest = parts.guest.map(|begin| {
        turns::begin();
        let sources = executor::queue(1_000, "sources");
        executor::begin_into(sources, begin())
    });
    let cut = rounds::run(&core, parts.ticks, Clerk::new(parts.mailbox)).await;
    if let Some(guest) = guest {
        guest.await;
    }
    cut
}

/// Why the fan-out loop goes on.
enum Turn {
    Batch(Arc<Batch>),
    Due,
    /// The sources have ended for good.
    FeedEnded,
}

async fn fan_out(core: Rc<Core>, mut flush: FlushRing, spin: bool) {
    let mut plan = Plan::default();
    let mut outcomes = Vec::new();
    let mut blocked = Vec::new();
    let mut stopwatch = Stopwatch::default();
    let mut feed_ended = false;
    loop {
        let turn = next_turn(&core, spin, feed_ended).await;
        let begun = clock::now();
        stopwatch.begin(core.counters());
        match turn {
            Turn::FeedEnded => feed_ended = true,
            Turn::Due => {}
            Turn::Batch(batch) => append(&core, batch),
        }
        core.shard.borrow_mut().begin_pass();
        let mut sends = 0;
        loop {
            if !send_some(&core, &mut flush, &mut plan, &mut outcomes, &mut blocked) {
                break;
            }
            stopwatch.has_sent();
            sends += plan.len();
            blocked.drain(..).for_each(|id| core.sockets.borrow_mut().wait_for_room(id));
            core.handle_closed();
            turns::give().await;
            if let Some(batch) = next_batch(&core) {
                append(&core, batch);
            }
        }
        let now = clock::now();
        let counters = core.counters();
        let pass = core.shard.borrow_mut().end_pass();
        if let Some(asks) = &mut *core.asks.borrow_mut() {
            desk::ask(&core, asks);
        }
        stopwatch.end(counters, pass, begun, now);
        let (calls, overhead_bytes) = flush.take_costs();
        counters.flush_calls.add(calls);
        counters.tls_overhead_bytes.add(overhead_bytes);
        counters.ring_depth.set(core.ring.borrow().len() as u64);
        core.writers.borrow_mut().next_turn(sends);
        core.lane.borrow_mut().next_turn(now.monotonic_ns - begun.monotonic_ns);
        executor::yield_if_needed().await;
    }
}

/// A batch that waits, if it may be appended.
fn next_batch(core: &Core) -> Option<Arc<Batch>> {
    let may_append = core.shard.borrow().may_append();
    may_append.then(|| core.ring.borrow_mut().receive()).flatten()
}

/// Waits for a batch or for something else to send.
async fn next_turn(core: &Core, spin: bool, feed_ended: bool) -> Turn {
    poll_fn(|context| {
        if let Some(batch) = next_batch(core) {
            return Poll::Ready(Turn::Batch(batch));
        }
        let mut ring = core.ring.borrow_mut();
        if core.shard.borrow().is_pass_due() {
            return Poll::Ready(Turn::Due);
        }
        *core.fanout.borrow_mut() = Some(context.waker().clone());
        if feed_ended {
            return Poll::Pending;
        }
        if spin {
            context.waker().wake_by_ref();
            return if ring.is_closed() && ring.is_empty() {
                Poll::Ready(Turn::FeedEnded)
            } else {
                Poll::Pending
            };
        }
        ring.poll_receive(context).map(|batch| batch.map_or(Turn::FeedEnded, Turn::Batch))
    })
    .await
}

/// Appends a batch, and what else the ring holds up to the bound of one turn.
fn append(core: &Core, first: Arc<Batch>) {
    let now = clock::now();
    // What a journal holds has waited for longer, and not in the ring.
    if let Some(event) = first.events.first().filter(|_| !core.life.is_restoring()) {
        let times = &core.counters().times;
        times.ring_wait_ns.record(now.unix_ns.saturating_sub(event.ts_in));
    }
    let (mut bytes, mut next) = (0, Some(first));
    while let Some(batch) = next {
        bytes += core.shard.borrow_mut().handle_batch(&batch, now);
        next = if bytes < TURN_BYTES_MAX { next_batch(core) } else { None };
    }
}

/// Makes the next sends of the pass; false when the pass is over.
fn send_some(
    core: &Core,
    flush: &mut FlushRing,
    plan: &mut Plan,
    outcomes: &mut Vec<Outcome>,
    blocked: &mut Vec<ConnectionId>,
) -> bool {
    let mut shard = core.shard.borrow_mut();
    shard.next_sends(plan);
    if plan.is_empty() {
        return false;
    }
    let mut sockets = core.sockets.borrow_mut();
    if let Err(error) = flush.send(&shard, plan, &mut *sockets, outcomes) {
        tracing::error!(shard = core.number, %error, "the flush ring failed");
    }
    shard.handle_sent(plan, outcomes, clock::now(), blocked);
    true
}
