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
use std::time::Duration;

use crate::access::{Addresses, Gate};
use crate::config::{AdmissionSettings, SocketSettings};
use crate::fanout::Now;
use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::{Outcome, Plan, Shard, ShardSettings};
use crate::handoff::batch::Batch;
use crate::handoff::ring::Receiver;
use crate::limits::{ADDRESSES_MS, LAG_MERGE_MS, LANE_WAKES, READ_BYTES, TURN_BYTES_MAX};
use crate::telemetry::{self, ShardCounters, Telemetry};

use super::accept::{self, Entrance};
use super::admission::Admission;
use super::clock;
use super::connection;
use super::executor::{self, Queue};
use super::flush_ring::FlushRing;
use super::lane::Lane;
use super::life::Life;
use super::sockets::Sockets;
use super::ticker::Ticks;
use super::writers::Writers;

/// What one shard's thread is started with.
#[derive(Debug)]
pub struct ShardParts {
    /// Its number.
    pub number: usize,
    /// Makes the state machine, on the thread that will use it.
    pub settings: ShardSettings,
    /// Where its connections come in.
    pub entrances: Vec<Entrance>,
    /// Where its batches come from.
    pub ring: Receiver<Arc<Batch>>,
    /// The server's counters.
    pub telemetry: Arc<Telemetry>,
    /// Its share of the server's tick.
    pub ticks: Ticks,
    /// The stage that the server is in.
    pub life: Arc<Life>,
    /// How long the stop may take.
    pub stop_timeout: Duration,
    /// How long an upgrade request may take.
    pub upgrade_timeout: Duration,
    /// How many may come, and how fast.
    pub admission: AdmissionSettings,
    /// What all shards know of addresses.
    pub addresses: Arc<Addresses>,
    /// The socket of each connection.
    pub sockets: SocketSettings,
    /// Busy-poll instead of parking.
    pub spin: bool,
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
    pub(super) upgrade_timeout: Duration,
    /// Who may come in.
    pub(super) gate: Arc<Gate>,
    /// Whether a client may show its credential after the upgrade.
    pub(super) may_authenticate_later: bool,
    /// Who may begin a handshake.
    pub(super) admission: Admission,
    /// How much of the core handshakes may take.
    pub(super) lane: RefCell<Lane>,
    pub(super) socket_settings: SocketSettings,
    life: Arc<Life>,
    ring: RefCell<Receiver<Arc<Batch>>>,
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

    /// Whether a new connection may go on to its upgrade, beside so many others.
    pub(super) fn has_room(&self, upgrading: usize) -> bool {
        (self.life.is_ready() || self.is_handed_over()) && self.shard.borrow().has_room(upgrading)
    }

    /// Whether only those are left that came before a successor took the listeners.
    fn is_handed_over(&self) -> bool {
        self.life.is_handed_over() && !self.is_stopping()
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
    fn tick(&self, now: Now) {
        self.shard.borrow_mut().handle_tick(now);
        self.handle_closed();
        self.sockets.borrow_mut().close_late(now.monotonic_ns);
        self.kick();
    }

    /// Lets go of every connection that the shard has given up.
    pub(super) fn handle_closed(&self) {
        loop {
            let Some((id, reason)) = self.shard.borrow_mut().next_closed() else { return };
            tracing::debug!(shard = self.number, reason = reason.name(), "connection ended");
            connection::let_go(self, id, reason);
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
    let core = Rc::new(Core {
        gate: Arc::clone(&parts.settings.gate),
        may_authenticate_later: parts.settings.auth_ns > 0,
        shard: RefCell::new(Shard::new(parts.settings, Arc::clone(&parts.telemetry), parts.number)),
        sockets: RefCell::new(sockets),
        read_buffer: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
        plain_buffer: RefCell::default(),
        upgrade_timeout: parts.upgrade_timeout,
        admission: Admission::new(parts.admission, parts.addresses),
        lane: RefCell::default(),
        socket_settings: parts.sockets,
        life: parts.life,
        ring: RefCell::new(parts.ring),
        fanout: RefCell::new(None),
        writers: RefCell::default(),
        handshakes,
        telemetry: parts.telemetry,
        number: parts.number,
    });
    let flush = FlushRing::new().expect("start-up checks made a ring like it");
    executor::spawn_into(fanout, fan_out(Rc::clone(&core), flush, parts.spin));
    executor::spawn_into(clients, connection::serve(Rc::clone(&core), watch));
    for entrance in parts.entrances {
        executor::spawn_into(handshakes, accept::run(Rc::clone(&core), entrance));
    }
    let mut ticks = parts.ticks;
    tick_until_stop(&core, &mut ticks).await;
    stop(&core, &mut ticks, parts.stop_timeout).await
}

/// Closes every connection in order, then cuts what is left.
async fn stop(core: &Core, ticks: &mut Ticks, patience: Duration) -> usize {
    core.shard.borrow_mut().handle_shutdown(clock::now());
    core.kick();
    let deadline_ns = clock::now().monotonic_ns.saturating_add(clock::nanoseconds(patience));
    while core.shard.borrow().connection_count() > 0 && clock::now().monotonic_ns < deadline_ns {
        core.tick(clock::now());
        ticks.next().await;
    }
    let cut = core.shard.borrow_mut().handle_cut();
    core.handle_closed();
    cut
}

/// Sweeps at every tick until the server stops, and begins the drain before that.
async fn tick_until_stop(core: &Core, ticks: &mut Ticks) {
    let mut drain_end_ns = None;
    let mut forgot_ns = 0;
    while !core.is_stopping() {
        ticks.next().await;
        let now = clock::now();
        let end_ns = core.life.drain_end_ns();
        if let Some(end_ns) = end_ns.filter(|_| end_ns != drain_end_ns) {
            let window_ns = end_ns.saturating_sub(now.monotonic_ns);
            core.shard.borrow_mut().handle_drain(window_ns, now);
            drain_end_ns = Some(end_ns);
        }
        core.tick(now);
        core.lane.borrow_mut().wake(LANE_WAKES);
        if now.monotonic_ns - forgot_ns > ADDRESSES_MS * 1_000_000 {
            core.admission.forget(now.monotonic_ns);
            forgot_ns = now.monotonic_ns;
        }
    }
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
    let mut lag = telemetry::new_lag();
    let mut lag_merged_ns = 0;
    let mut feed_ended = false;
    loop {
        let turn = next_turn(&core, spin, feed_ended).await;
        let begun = clock::now();
        match turn {
            Turn::FeedEnded => feed_ended = true,
            Turn::Due => {}
            Turn::Batch(batch) => append(&core, &batch),
        }
        core.shard.borrow_mut().begin_pass();
        loop {
            if !send_some(&core, &mut flush, &mut plan, &mut outcomes, &mut blocked) {
                break;
            }
            blocked.drain(..).for_each(|id| core.sockets.borrow_mut().wait_for_room(id));
            core.handle_closed();
            executor::yield_if_needed().await;
        }
        let now = clock::now();
        if let Some((lag_ns, sends)) = core.shard.borrow_mut().end_pass(now) {
            lag.saturating_record_n((lag_ns / 1_000).max(1), sends);
        }
        if now.monotonic_ns - lag_merged_ns > LAG_MERGE_MS * 1_000_000 {
            core.counters().merge_lag(&mut lag);
            lag_merged_ns = now.monotonic_ns;
        }
        let turn_us = (now.monotonic_ns - begun.monotonic_ns) / 1_000;
        let counters = core.counters();
        counters.turn_us_max.set(counters.turn_us_max.value().max(turn_us));
        counters.ring_depth.set(core.ring.borrow().len() as u64);
        core.writers.borrow_mut().next_turn();
        core.lane.borrow_mut().next_turn(now.monotonic_ns - begun.monotonic_ns);
        executor::yield_if_needed().await;
    }
}

/// Waits for a batch or for something else to send.
async fn next_turn(core: &Core, spin: bool, feed_ended: bool) -> Turn {
    poll_fn(|context| {
        let mut ring = core.ring.borrow_mut();
        if !feed_ended && let Some(batch) = ring.receive() {
            return Poll::Ready(Turn::Batch(batch));
        }
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
fn append(core: &Core, first: &Batch) {
    let mut ring = core.ring.borrow_mut();
    let mut shard = core.shard.borrow_mut();
    let now = clock::now();
    let mut bytes = shard.handle_batch(first, now);
    while bytes < TURN_BYTES_MAX
        && let Some(batch) = ring.receive()
    {
        bytes += shard.handle_batch(&batch, now);
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
