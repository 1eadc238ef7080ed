//! One core's share of the work, as a pure state machine.
//!
//! Inputs are `handle_*` and take the time; outputs are `next_*`. The shell calls them in this
//! order, and so does the simulation:
//!
//! 1. [`Shard::handle_batch`] for what the ring holds, while [`Shard::may_append`];
//! 2. [`Shard::begin_pass`], then [`Shard::next_sends`] and [`Shard::handle_sent`] in turn until
//!    nothing is planned, after each turn the first step again, then [`Shard::end_pass`];
//! 3. at any time but between `next_sends` and its `handle_sent`: [`Shard::handle_open`],
//!    [`Shard::handle_bytes`], [`Shard::handle_end`], [`Shard::next_write`] with
//!    [`Shard::handle_written`] or [`Shard::handle_writable`], [`Shard::handle_tick`], and at the
//!    end [`Shard::handle_drain`], [`Shard::handle_shutdown`] and [`Shard::handle_cut`]; of the
//!    time before the log [`Shard::next_ask`] and [`Shard::handle_answer`];
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
//! Not here: sockets and clocks. Invariant: every event that a connection subscribed to is still to
//! be sent to it, or was sent, or was superseded on terms that conflate, or is covered by a loss
//! receipt.

mod channel_ids;
mod drain;
#[cfg(feature = "echo")]
mod echo;
mod expired;
mod flush;
mod forms;
pub mod inspect;
mod lifecycle;
mod liveness;
mod membership;
mod pass;
mod plan;
mod read_back;
mod recovery;
mod session;
mod slow;
pub mod stream;
mod subscriptions;
mod sweep;
#[cfg(test)]
mod tests;
mod verify;
mod whoami;

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use slab::Slab;

use crate::access::Gate;
use crate::handoff::batch::{Batch, Sequenced};
use crate::limits;
use crate::protocol::data;
use crate::protocol::encoding::Form;
use crate::protocol::terms::{Interval, Rules};
use crate::protocol::ws::deflate::{Inflater, Terms};
use crate::telemetry::{ShardCounters, Telemetry};

use super::Now;
use super::channels::Channels;
use super::cohorts::Cohorts;
use super::connection::{Connection, ConnectionId, Ended, find, find_mut};
use super::encoders::{Compression, Encoders};
use super::lag::View;
use super::log::Entry;
use super::losses::Losses;
use super::recovery::Pending;
use super::store::Store;

use drain::Drain;
use pass::Pass;
pub use plan::{Latency, Outcome, Plan, Run, Slice};
use sweep::Census;

/// What a shard is made with.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// The node's name in `welcome`.
    pub node: Arc<str>,
    /// Names this server's total order; a `seq` means nothing without it.
    pub epoch: Arc<str>,
    /// Other servers have the same total order, so a client may be ahead of this one.
    pub is_shared: bool,
    /// What the log has not got can be asked for ([`Shard::next_ask`]).
    pub reads_back: bool,
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
    /// Bytes of frames that are kept beside the log.
    pub retained_bytes: usize,
    /// The operator's rules for channels.
    pub rules: Arc<Rules>,
    /// Messages of one client in a second.
    pub command_rate: u32,
    /// Messages of one client at once.
    pub command_burst: u32,
    /// Whether clients that are behind are moved to slower tiers.
    pub tier_moves: bool,
    /// Who may do what.
    pub gate: Arc<Gate>,
    /// Time in which a client must have shown a credential, nanoseconds; 0: before it comes here.
    pub auth_ns: u64,
    /// Time without a byte from a client before it is pinged, nanoseconds; 0: never.
    pub ping_ns: u64,
    /// Time that it then has to send something, nanoseconds.
    pub pong_ns: u64,
    /// Time that a client may be without a subscription, nanoseconds; 0: for ever.
    pub idle_ns: u64,
    /// How messages are compressed for the clients that want that.
    pub compression: Compression,
    /// On which terms messages may be compressed; none: they may not.
    pub deflate: Option<Terms>,
    /// Forms that are there from the start and stay; the others come with their first client.
    pub forms: Vec<Form>,
    /// Bytes of JSON that are written at one turn in a form that begins while events flow, beside
    /// those that come.
    pub fill_bytes: usize,
    /// Time without a client after which a form ends that was not there from the start,
    /// nanoseconds.
    pub form_idle_ns: u64,
    /// Clients get back what they say, instead of the feed.
    #[cfg(feature = "echo")]
    pub echo: bool,
    /// Sends of one plan, at most; not more than the shell takes at once.
    pub plan_sends_max: usize,
    /// Bytes of the log from the oldest frame on that somebody in sync was not sent, above which
    /// nothing is appended. With a batch more it must fit the log.
    pub unsent_bytes_max: usize,
}

impl Default for ShardSettings {
    /// The defaults of the program, for a node without a name.
    fn default() -> Self {
        Self {
            node: "".into(),
            epoch: "".into(),
            is_shared: false,
            reads_back: false,
            log_bytes: limits::LOG_BYTES,
            connections_max: limits::CONNECTIONS_MAX,
            subscriptions_max: limits::SUBSCRIPTIONS_MAX,
            message_bytes_max: limits::MESSAGE_BYTES_MAX,
            heartbeat_ns: limits::HEARTBEAT_MS * 1_000_000,
            retained_bytes: limits::RETAINED_BYTES,
            rules: Arc::default(),
            command_rate: limits::COMMAND_RATE,
            command_burst: limits::COMMAND_BURST,
            tier_moves: false,
            gate: Arc::default(),
            auth_ns: limits::AUTH_MS * 1_000_000,
            ping_ns: limits::PING_MS * 1_000_000,
            pong_ns: limits::PONG_MS * 1_000_000,
            idle_ns: limits::IDLE_MS * 1_000_000,
            compression: Compression::default(),
            deflate: None,
            forms: Vec::new(),
            fill_bytes: limits::FILL_BYTES,
            form_idle_ns: limits::FORM_IDLE_MS * 1_000_000,
            #[cfg(feature = "echo")]
            echo: false,
            plan_sends_max: limits::FLUSH_SENDS_MAX,
            unsent_bytes_max: limits::TURN_BYTES_MAX,
        }
    }
}

/// One core's log, connections and subscriptions.
#[derive(Debug)]
pub struct Shard {
    settings: ShardSettings,
    store: Store,
    /// Number of the log entry from which on it has every event.
    whole_from: u64,
    /// Last `seq` before that entry.
    whole_since: u64,
    /// The end of the newest range that its stream has lost.
    lost_to: u64,
    channels: Channels,
    cohorts: Cohorts,
    connections: Slab<Connection>,
    /// Places of the connection table that were ever used.
    places: usize,
    /// Generation of the next connection.
    generation: u32,
    /// Connections in [`super::connection::Lane::Ready`], and ids that no longer are.
    ready: VecDeque<ConnectionId>,
    /// Those that wait for this shard to come to where the client is; the next batch makes them
    /// ready, or what they are owed.
    waiting: FxHashSet<ConnectionId>,
    /// Those that wait for a passage; the next answer makes them ready, or what they are owed.
    awaiting: FxHashSet<ConnectionId>,
    /// Connections that are sent what is read back.
    readers: usize,
    /// Those that are to be, when what comes before it was sent.
    readers_to_come: FxHashSet<ConnectionId>,
    /// Snapshots of connections in sync that are whole once the next tick was sent.
    ticking: FxHashMap<ConnectionId, Vec<Pending>>,
    /// Those that wait until their form is filled.
    unformed: Vec<ConnectionId>,
    /// When the last client of each form has left, nanoseconds of the monotonic clock.
    forms_left_ns: [u64; Form::ALL.len()],
    closed: VecDeque<Ended>,
    /// What receipts told those connections that were sent any.
    losses: FxHashMap<ConnectionId, Losses>,
    pass: Pass,
    /// Time of the latest batch or tick, nanoseconds of the monotonic clock.
    now_ns: u64,
    /// Time of the latest tick, nanoseconds of the monotonic clock.
    ticked_ns: u64,
    /// Intervals that have ended and whose samples are not sent yet.
    ticks_due: Vec<Interval>,
    /// Place in the connection table where the sweep goes on.
    sweep_at: usize,
    /// What its round under way has found.
    census: Census,
    /// The drain under way, if any.
    drain: Option<Drain>,
    /// Text of the control message being built.
    text: Vec<u8>,
    /// Scratch copy of the command being parsed.
    scratch: Vec<u8>,
    /// Inflates the messages of all clients that compress them, once there are any.
    inflater: Option<Box<Inflater>>,
    /// What each client of an echo has agreed on.
    #[cfg(feature = "echo")]
    codecs: FxHashMap<ConnectionId, echo::Codec>,
    telemetry: Arc<Telemetry>,
    number: usize,
}

impl Shard {
    /// Shard `number` of a server whose counters are `telemetry`.
    #[must_use]
    pub fn new(settings: ShardSettings, telemetry: Arc<Telemetry>, number: usize) -> Self {
        let encoders = Encoders::new(Arc::clone(&settings.epoch), settings.compression);
        let mut store = Store::new(settings.log_bytes, settings.retained_bytes, encoders);
        settings.forms.iter().for_each(|&form| store.begin(form));
        Self {
            store,
            whole_from: 0,
            whole_since: 0,
            lost_to: 0,
            channels: Channels::default(),
            cohorts: Cohorts::new(Arc::clone(&settings.rules)),
            // Never moved, nor larger than it must be: pages are taken when they are first written.
            connections: Slab::with_capacity(settings.connections_max),
            places: 0,
            settings,
            generation: 0,
            ready: VecDeque::new(),
            waiting: FxHashSet::default(),
            awaiting: FxHashSet::default(),
            readers: 0,
            readers_to_come: FxHashSet::default(),
            ticking: FxHashMap::default(),
            unformed: Vec::new(),
            forms_left_ns: Default::default(),
            closed: VecDeque::new(),
            losses: FxHashMap::default(),
            pass: Pass::default(),
            now_ns: 0,
            ticked_ns: 0,
            ticks_due: Vec::new(),
            sweep_at: 0,
            census: Census::default(),
            drain: None,
            text: Vec::new(),
            scratch: Vec::new(),
            inflater: None,
            #[cfg(feature = "echo")]
            codecs: FxHashMap::default(),
            telemetry,
            number,
        }
    }

    /// Encodes each event of a batch once in each form in use, appends it to the log, and notes it
    /// in the gather list of every cohort that wants it. Only while [`Self::may_append`]. Returns
    /// the bytes that the log grew by, in the form that grew most.
    pub fn handle_batch(&mut self, batch: &Batch, now: Now) -> usize {
        self.prepare_append();
        self.ready.extend(self.waiting.drain());
        self.now_ns = now.monotonic_ns;
        for name in &batch.channels {
            let id = self.channels.add_channel(Arc::clone(name));
            self.cohorts.handle_channel(id, &mut self.channels, (&self.store.log).into());
            self.expect_channel(id);
        }
        for slot in &batch.slots {
            self.store.slots.add(slot.channel, slot.key.is_some());
            self.channels.add_key(slot.key.as_deref());
        }
        if let Some(range) = batch.lost {
            self.handle_loss(range);
        }
        batch.books_broken.iter().for_each(|&slot| self.store.slots.break_book(slot));
        let appended = batch.events.iter().map(|event| self.append(batch, event)).sum();
        if batch.is_sparse {
            self.begin_whole();
        }
        let counters = self.counters();
        counters.events.add(batch.events.len() as u64);
        counters.head_seq.set(self.store.log.seq_last());
        counters.retained_bytes.set(self.store.retained.bytes() as u64);
        if self.store.log.has_forms() {
            self.count_compressed();
        }
        appended
    }

    /// From the head of the log on it has every event.
    fn begin_whole(&mut self) {
        (self.whole_from, self.whole_since) = (self.store.log.head(), self.store.log.seq_last());
    }

    /// Every event after this `seq` that came is in the log.
    fn seq_gone(&self) -> u64 {
        self.store.log.seq_gone().max(self.whole_since)
    }

    /// Encodes and appends one event; returns the bytes of its longest frame.
    fn append(&mut self, batch: &Batch, event: &Sequenced) -> usize {
        let is_keyed = self.store.slots.slot(event.slot).is_keyed;
        let time_ms = milliseconds(self.now_ns);
        let channel = self.channels.channel_mut(event.channel);
        channel.seq_last[usize::from(is_keyed)] = event.seq;
        channel.pace.count(time_ms);
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
        let mut len = frame.len();
        let entry = Entry {
            seq: event.seq,
            position: 0,
            len: u32::try_from(len).expect("limits keep frames far below 4 GiB"),
            channel: event.channel,
            slot: event.slot,
            time_ms,
        };
        let number = self.store.log.head();
        frame.write(self.store.append(entry, event.kind));
        if self.store.log.has_forms() {
            let compressed = self.cohorts.is_read_as(Form::Deflate, entry.len, &channel.interests);
            len = len.max(self.store.encode_newest(compressed));
        }
        let entry = *self.store.log.entry(number);
        self.cohorts.handle_entry(number, &entry, event.ts_in, &channel.interests, &self.store);
        len
    }

    fn count_compressed(&mut self) {
        let compressed = self.store.take_compressed();
        let counters = self.counters();
        counters.compressed.add(compressed.messages);
        counters.uncompressed.add(compressed.raw);
        counters.compression_bytes_in.add(compressed.bytes_before);
        counters.compression_bytes_out.add(compressed.bytes_after);
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

    /// True when a pass would find something to do.
    #[must_use]
    pub fn is_pass_due(&self) -> bool {
        !self.ready.is_empty()
            || self.cohorts.is_dirty()
            || !self.ticks_due.is_empty()
            || self.store.is_filling()
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
            let view = View { store: &self.store, cohort };
            super::connection::check(index, connection, &view);
        }
    }
}

/// A number below `range` that differs from connection to connection and from `salt` to `salt`.
fn spread(id: ConnectionId, salt: u64, range: u64) -> u64 {
    let mut hasher = FxHasher::default();
    (id, salt).hash(&mut hasher);
    hasher.finish().checked_rem(range).unwrap_or(0)
}

/// Milliseconds of a time in nanoseconds, modulo 2³², as log entries have them.
fn milliseconds(nanoseconds: u64) -> u32 {
    u32::try_from(nanoseconds / 1_000_000 % (1 << 32)).expect("the remainder fits")
}
