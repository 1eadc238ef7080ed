//! One core's share of the work, as a pure state machine.
//!
//! Inputs are `handle_*` and take the time; outputs are `next_*`. The shell calls them in this
//! order, and so does the simulation:
//!
//! 1. [`Shard::handle_batch`] for what the ring holds, up to a bound;
//! 2. [`Shard::begin_pass`], then [`Shard::next_sends`] and [`Shard::handle_sent`] in turn until
//!    nothing is planned, then [`Shard::end_pass`];
//! 3. at any time but between `next_sends` and its `handle_sent`s: [`Shard::handle_open`],
//!    [`Shard::handle_bytes`], [`Shard::handle_end`], [`Shard::next_write`] with
//!    [`Shard::handle_written`] or [`Shard::handle_writable`], [`Shard::handle_tick`], and at the
//!    end [`Shard::handle_shutdown`] and [`Shard::handle_cut`];
//! 4. [`Shard::next_closed`] until there is none.
//!
//! ```text
//!             handle_open            whole gather list taken
//!                 │                         ┌───┐
//!                 ▼     all caught up       ▼   │
//!   socket    ┌ Ready ───────────────────► InSync ┐ socket full
//!   writable  │   ▲ owed a control frame      │   │
//!             │   └───────────────────────────┘   │
//!             └────────────── Blocked ◄───────────┘
//! ```
//!
//! One that has sent its close frame is `Silent`, until the peer's comes or the sweep ends it.
//!
//! Not here: sockets and clocks. Invariant: every event at or below a connection's cursor was sent
//! to it, or is covered by a loss receipt, or was not wanted.

mod flush;
mod lifecycle;
mod session;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;

use crate::handoff::batch::Batch;
use crate::protocol::data;
use crate::protocol::ws::close::CloseReason;
use crate::telemetry::{ShardCounters, Telemetry};

use super::channels::Channels;
use super::cohorts::Cohorts;
use super::connection::{Connection, ConnectionId, find, find_mut};
use super::log::FrameLog;

use flush::Pass;
pub use flush::{Outcome, Plan, Send, Slice};

/// What a shard is made with.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// The node's name in `welcome`.
    pub node: Arc<str>,
    /// Names this server's total order; a `seq` means nothing without it.
    pub epoch: Arc<str>,
    /// Bytes of the frame log.
    pub log_bytes: usize,
    /// Open connections at most.
    pub connections_max: usize,
    /// Patterns of one connection at most.
    pub subscriptions_max: usize,
    /// Bytes of a client's message at most.
    pub message_bytes_max: usize,
    /// Quiet time before a heartbeat, nanoseconds.
    pub heartbeat_ns: u64,
}

/// One core's log, connections and subscriptions.
#[derive(Debug)]
pub struct Shard {
    settings: ShardSettings,
    log: FrameLog,
    channels: Channels,
    cohorts: Cohorts,
    connections: Slab<Connection>,
    /// Generation of the next connection.
    generation: u32,
    /// Connections in [`super::connection::Lane::Ready`], and ids that no longer are.
    ready: VecDeque<ConnectionId>,
    closed: VecDeque<(ConnectionId, CloseReason)>,
    pass: Pass,
    /// Place in the connection table where the sweep goes on.
    sweep_at: usize,
    /// Text of the control message being built.
    text: Vec<u8>,
    /// Scratch copy of the command being parsed.
    scratch: Vec<u8>,
    telemetry: Arc<Telemetry>,
    number: usize,
}

impl Shard {
    /// Shard `number` of a server whose counters are `telemetry`.
    #[must_use]
    pub fn new(settings: ShardSettings, telemetry: Arc<Telemetry>, number: usize) -> Self {
        Self {
            log: FrameLog::new(settings.log_bytes),
            settings,
            channels: Channels::default(),
            cohorts: Cohorts::default(),
            connections: Slab::new(),
            generation: 0,
            ready: VecDeque::new(),
            closed: VecDeque::new(),
            pass: Pass::default(),
            sweep_at: 0,
            text: Vec::new(),
            scratch: Vec::new(),
            telemetry,
            number,
        }
    }

    /// Encodes each event of a batch once, appends it to the log, and notes it in the gather list
    /// of every cohort that wants it. Not during a pass. Returns the bytes that the log grew by.
    pub fn handle_batch(&mut self, batch: &Batch) -> usize {
        debug_assert!(self.pass.is_over(), "no append during a pass");
        self.cohorts.reap(&mut self.channels);
        for name in &batch.channels {
            let id = self.channels.add_channel(Arc::clone(name));
            self.cohorts.handle_channel(id, &mut self.channels);
        }
        for slot in &batch.slots {
            self.channels.add_key(&slot.key);
        }
        let mut appended = 0;
        for event in &batch.events {
            let channel = self.channels.channel(event.channel);
            let frame = data::frame(
                &channel.prefix,
                self.channels.key_json(event.slot),
                event.kind,
                event.seq,
                event.prev,
                event.ts,
                event.ts_in,
                batch.data(event),
            );
            frame.write(self.log.append(event.seq, event.channel, frame.len()));
            appended += frame.len();
            let number = self.log.head() - 1;
            let entry = *self.log.entry(number);
            self.cohorts.handle_entry(number, &entry, event.ts_in, &channel.interests);
            self.channels.channel_mut(event.channel).seq_last = event.seq;
        }
        let counters = self.counters();
        counters.events.add(batch.events.len() as u64);
        counters.head_seq.set(self.log.seq_last());
        appended
    }

    /// Connections that are open or closing.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Whether another connection may be upgraded while `upgrading` are at it; those count too.
    #[must_use]
    pub fn has_room(&self, upgrading: usize) -> bool {
        self.connections.len() + upgrading < self.settings.connections_max
    }

    /// True when a pass would find something to send.
    #[must_use]
    pub fn is_pass_due(&self) -> bool {
        !self.ready.is_empty() || self.cohorts.is_dirty()
    }

    /// The connection `id`, unless it is gone.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        find(&self.connections, id)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        find_mut(&mut self.connections, id)
    }

    fn counters(&self) -> &ShardCounters {
        &self.telemetry.shards[self.number]
    }

    /// Panics when a connection breaks the invariants that the modules state.
    pub fn check_invariants(&self) {
        for (index, connection) in &self.connections {
            let cohort = self.cohorts.cohort(connection.cohort);
            super::connection::check(index, connection, cohort, &self.log);
        }
    }
}
