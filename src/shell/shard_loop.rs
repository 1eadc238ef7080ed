//! The main loop of one core: ring to log, log to sockets, and the tasks beside it.
//!
//! The fan-out has 1,000 shares of the core and everything that serves single clients 250, so that
//! a storm of handshakes or commands cannot delay the feed. Not here: any decision about clients;
//! that is the shard's. Invariant: the shard is never borrowed across an `await`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::net::TcpStream;

use crate::config::SocketSettings;
use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::{Outcome, Plan, Shard, ShardSettings};
use crate::handoff::batch::Batch;
use crate::handoff::ring::Receiver;
use crate::limits::{LAG_MERGE_MS, READ_BYTES, RETRY_MS, TURN_BYTES_MAX};
use crate::telemetry::{self, ShardCounters, Telemetry};

use super::clock;
use super::connection::{self, Sockets};
use super::executor::{self, Queue};
use super::flush_ring::FlushRing;
use super::net;
use super::ticker::Ticks;
use super::writers::Writers;

/// What one shard's thread is started with.
#[derive(Debug)]
pub struct ShardParts {
    /// Its number.
    pub number: usize,
    /// Makes the state machine, on the thread that will use it.
    pub settings: ShardSettings,
    /// Its listener.
    pub listener: TcpListener,
    /// Where its batches come from.
    pub ring: Receiver<Arc<Batch>>,
    /// The server's counters.
    pub telemetry: Arc<Telemetry>,
    /// Its share of the server's tick.
    pub ticks: Ticks,
    /// Set when the server stops.
    pub stop: Arc<AtomicBool>,
    /// How long the stop may take.
    pub stop_timeout: Duration,
    /// How long an upgrade request may take.
    pub upgrade_timeout: Duration,
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
    /// One buffer for all readers: a task fills it and hands it to the shard without a pause.
    pub(super) read_buffer: RefCell<Box<[u8]>>,
    pub(super) upgrade_timeout: Duration,
    /// Connections whose upgrade is not done.
    pub(super) upgrading: Cell<usize>,
    socket_settings: SocketSettings,
    stop: Arc<AtomicBool>,
    ring: RefCell<Receiver<Arc<Batch>>>,
    /// Wakes the fan-out loop when there is something to send but no batch.
    fanout: RefCell<Option<Waker>>,
    writers: RefCell<Writers>,
    pub(super) clients: Queue,
    telemetry: Arc<Telemetry>,
    number: usize,
}

impl Core {
    /// Whether a client that lags may write now; if not, it is woken when it may.
    pub(super) fn may_write(&self, context: &Context<'_>) -> bool {
        let is_due = !self.ring.borrow().is_empty() || self.shard.borrow().is_pass_due();
        self.writers.borrow_mut().may_write(is_due, context.waker())
    }

    /// A client that might write found its socket full still.
    pub(super) fn has_not_written(&self) {
        self.writers.borrow_mut().has_not_written();
    }

    /// Wakes the fan-out loop.
    pub(super) fn kick(&self) {
        if self.shard.borrow().is_pass_due()
            && let Some(waker) = self.fanout.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Whether a new connection may go on to its upgrade.
    pub(super) fn has_room(&self) -> bool {
        !self.is_stopping() && self.shard.borrow().has_room(self.upgrading.get())
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn counters(&self) -> &ShardCounters {
        &self.telemetry.shards[self.number]
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
    let clients = executor::queue(250, "clients");
    let fanout = executor::queue(1_000, "fanout");
    let core = Rc::new(Core {
        shard: RefCell::new(Shard::new(parts.settings, Arc::clone(&parts.telemetry), parts.number)),
        sockets: RefCell::default(),
        read_buffer: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
        upgrade_timeout: parts.upgrade_timeout,
        upgrading: Cell::new(0),
        socket_settings: parts.sockets,
        stop: parts.stop,
        ring: RefCell::new(parts.ring),
        fanout: RefCell::new(None),
        writers: RefCell::default(),
        clients,
        telemetry: parts.telemetry,
        number: parts.number,
    });
    let flush = FlushRing::new().expect("start-up checks made a ring like it");
    executor::spawn_into(fanout, fan_out(Rc::clone(&core), flush, parts.spin));
    executor::spawn_into(clients, accept(Rc::clone(&core), parts.listener));
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
        core.shard.borrow_mut().handle_tick(clock::now());
        core.handle_closed();
        core.kick();
        ticks.next().await;
    }
    let cut = core.shard.borrow_mut().handle_cut();
    core.handle_closed();
    cut
}

/// Sweeps at every tick until the server stops.
async fn tick_until_stop(core: &Core, ticks: &mut Ticks) {
    while !core.is_stopping() {
        ticks.next().await;
        core.shard.borrow_mut().handle_tick(clock::now());
        core.handle_closed();
        core.kick();
    }
}

async fn accept(core: Rc<Core>, listener: TcpListener) {
    let listener = net::listen_on(listener.into_raw_fd());
    // Never cancelled: an accept that is given up may have taken a connection already. While the
    // server stops, newcomers are refused with 503.
    loop {
        match listener.accept().await {
            Ok(stream) => {
                prepare(&core, &stream);
                executor::spawn_into(core.clients, connection::serve(Rc::clone(&core), stream));
            }
            Err(error) => {
                // Most often descriptors ran out: the kernel keeps the rest in its backlog.
                tracing::warn!(shard = core.number, %error, "accept failed; raise `ulimit -n`?");
                executor::sleep(Duration::from_millis(RETRY_MS)).await;
            }
        }
    }
}

/// Sets the options of a subscriber's socket.
fn prepare(core: &Core, stream: &TcpStream) {
    let SocketSettings { send_buffer_bytes, unsent_bytes, peer_timeout } = core.socket_settings;
    let unsent_bytes = u32::try_from(unsent_bytes).unwrap_or(u32::MAX);
    net::with_socket(stream, |socket| {
        // A failure means that the peer is gone already, which the reader will find out.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_send_buffer_size(send_buffer_bytes);
        let _ = socket.set_tcp_notsent_lowat(unsent_bytes);
        let _ = socket.set_tcp_user_timeout(Some(peer_timeout));
    });
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
            for id in blocked.drain(..) {
                let task = connection::write_when_writable(Rc::clone(&core), id);
                executor::spawn_into(core.clients, task);
            }
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
    if plan.sends.is_empty() {
        return false;
    }
    let sockets = core.sockets.borrow();
    if let Err(error) = flush.send(&shard, plan, |id| sockets.descriptor(id), outcomes) {
        tracing::error!(shard = core.number, %error, "the flush ring failed");
    }
    let now = clock::now();
    for (send, &outcome) in plan.sends.iter().zip(outcomes.iter()) {
        if shard.handle_sent(send, outcome, now) {
            blocked.push(send.connection);
        }
    }
    true
}
