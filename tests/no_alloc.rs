//! What the steady state costs in memory: no allocation for each client, and small idle clients.
//!
//! Goal: publishing allocates the same, whatever the number of clients, and nothing at all once the
//! shard is warm. Method: a real [`Shard`] under an allocator that counts, with sockets that take
//! everything; the batch is made outside the counted part. Its own test binary, because the
//! allocator is the whole program's.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use fanfare::access::Gate;
use fanfare::fanout::Now;
use fanfare::fanout::connection::{Connection, ConnectionId};
use fanfare::fanout::sequencer::Sequencer;
use fanfare::fanout::shard::{Outcome, Plan, Shard, ShardSettings};
use fanfare::handoff::batch::Batch;
use fanfare::limits;
use fanfare::protocol::encoding::Encoding;
use fanfare::protocol::event::{Event, Kind};
use fanfare::protocol::ws::frame::{Opcode, write_masked};
use fanfare::telemetry::Telemetry;

/// The system's allocator, counting what each thread asks of it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Allocations and growths of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread holds.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    BYTES.set(BYTES.get() + bytes);
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches only
// thread-local numbers without destructors, so it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, signed(layout.size()));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, -signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, signed(size) - signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

const NOW: Now = Now { monotonic_ns: 1, unix_ns: 1_700_000_000_000_000_000 };
/// Room for all that these tests publish; and so little that it is overwritten again and again.
const LOG_BYTES: [usize; 2] = [8 << 20, 64 << 10];
const CHANNELS: [&str; 4] = ["trade.BTC", "trade.ETH", "quote.BTC", "quote.ETH"];

/// Every encoding, two windows among them.
const ENCODINGS: [Encoding; 5] = [
    Encoding::Json,
    Encoding::Deflate { window_bits: 15 },
    Encoding::Deflate { window_bits: 9 },
    Encoding::Binary,
    Encoding::Sse,
];

/// A shard with its producer, and sockets that take everything.
struct World {
    shard: Shard,
    sequencer: Sequencer,
    plan: Plan,
    outcomes: Vec<Outcome>,
    full: Vec<ConnectionId>,
    telemetry: Arc<Telemetry>,
    /// One for all, as in a server.
    gate: Arc<Gate>,
}

impl World {
    fn new(log_bytes: usize) -> Self {
        let telemetry = Arc::new(Telemetry::new(1));
        let settings = ShardSettings {
            node: "a".into(),
            epoch: "e".into(),
            log_bytes,
            connections_max: 10_000,
            subscriptions_max: 16,
            message_bytes_max: 4_096,
            heartbeat_ns: u64::MAX,
            retained_bytes: limits::RETAINED_BYTES,
            rules: Arc::default(),
            command_rate: limits::COMMAND_RATE,
            command_burst: limits::COMMAND_BURST,
            tier_moves: false,
            ..ShardSettings::default()
        };
        Self {
            shard: Shard::new(settings, Arc::clone(&telemetry), 0),
            sequencer: Sequencer::new(100, 100),
            plan: Plan::default(),
            outcomes: Vec::new(),
            full: Vec::new(),
            telemetry,
            gate: Arc::default(),
        }
    }

    /// Opens a connection that subscribes to `pattern`, and takes it to where it is in sync.
    fn open(&mut self, pattern: &str, encoding: Encoding) -> ConnectionId {
        let member = self.gate.admit(None, 0).unwrap();
        let command = format!(
            r#"{{"method":"subscribe","params":{{"channels":"{pattern}","snapshot":false}}}}"#
        );
        if encoding == Encoding::Sse {
            let id = self.shard.handle_stream(member, b"", &command, NOW).unwrap();
            self.pass();
            return id;
        }
        let id = self.shard.handle_open(member, encoding, NOW);
        let mut bytes = Vec::new();
        write_masked(&mut bytes, Opcode::Text, command.as_bytes(), [1, 2, 3, 4]);
        self.shard.handle_bytes(id, &mut bytes, NOW);
        self.pass();
        id
    }

    fn batch(&mut self) -> Batch {
        for number in 0..100 {
            let channel = CHANNELS[number % CHANNELS.len()];
            let key = channel.starts_with("quote").then_some("k");
            let data = br#"{"b":"60001.10","a":"60001.20"}"#;
            let event = Event { channel, key, kind: Kind::Update, ts: Some(7), data };
            self.sequencer.handle_event(&event, NOW.unix_ns).unwrap();
        }
        Arc::into_inner(self.sequencer.next_batch().unwrap()).expect("nobody else has it")
    }

    fn pass(&mut self) {
        self.shard.begin_pass();
        loop {
            self.shard.next_sends(&mut self.plan);
            if self.plan.is_empty() {
                break;
            }
            self.outcomes.clear();
            self.outcomes.extend(self.plan.sends().map(|(_, run)| Outcome::Took(run.bytes)));
            self.shard.handle_sent(&self.plan, &self.outcomes, NOW, &mut self.full);
        }
        self.shard.end_pass();
    }

    /// Allocations of one batch from ring to sockets.
    fn publish(&mut self) -> u64 {
        let batch = self.batch();
        let before = ALLOCATIONS.get();
        self.shard.handle_batch(&batch, Now::default());
        self.pass();
        ALLOCATIONS.get() - before
    }
}

/// Allocations of each of ten warm batches to so many clients of four subscription sets.
fn steady(clients: usize, encodings: &[Encoding], log_bytes: usize) -> Vec<u64> {
    let mut world = World::new(log_bytes);
    for number in 0..clients {
        let encoding = encodings[number / 4 % encodings.len()];
        world.open([">", "trade.*", "quote.BTC", "*.ETH"][number % 4], encoding);
    }
    for _ in 0..10 {
        world.publish();
    }
    // Who reads ids was sent those of the channels by itself, and is in sync again after a while.
    while world.shard.is_pass_due() {
        world.pass();
    }
    // The lists of a pass grow to all of them.
    world.publish();
    let before = world.telemetry.shards[0].deliveries.value();
    let counts = (0..10).map(|_| world.publish()).collect();
    let delivered = world.telemetry.shards[0].deliveries.value() - before;
    let wanted = [100, 50, 25, 50];
    let expected: u64 = (0..clients).map(|number| 10 * wanted[number % 4]).sum();
    assert_eq!(delivered, expected, "the counted part did the work");
    counts
}

#[test]
fn publishing_allocates_nothing_whatever_the_number_of_clients() {
    for clients in [0, 10, 1_000, 5_000] {
        for bytes in LOG_BYTES {
            let what = format_args!("{clients} clients, a log of {bytes} bytes");
            assert_eq!(steady(clients, &[Encoding::Json], bytes), [0; 10], "{what}");
            assert_eq!(steady(clients, &ENCODINGS, bytes), [0; 10], "{what}, all encodings");
        }
    }
}

#[test]
fn the_counter_sees_what_it_is_for() {
    let before = (ALLOCATIONS.get(), BYTES.get());
    let mut held = Vec::<u8>::with_capacity(1_000);
    held.reserve_exact(2_000);
    assert_eq!((ALLOCATIONS.get(), BYTES.get()), (before.0 + 2, before.1 + 2_000));
}

#[test]
fn an_idle_connection_costs_its_entry_and_its_places_in_two_lists() {
    let mut world = World::new(LOG_BYTES[0]);
    // Tables double as they grow: measured where both are full, the figure is exact.
    for _ in 0..1_024 {
        world.open(">", Encoding::Json);
    }
    let before = BYTES.get();
    for _ in 1_024..2_048 {
        world.open(">", Encoding::Json);
    }
    let each = (BYTES.get() - before) / 1_024;
    let entry = signed(size_of::<Connection>());
    println!("an idle connection: {each} bytes, of which {entry} are its entry");
    // Its entry with the slab's tag, and its ids as a member, in a pass and in the ready list.
    let most = entry + 16 + 4 * signed(size_of::<ConnectionId>());
    assert!(each <= most, "{each} bytes, more than {most}");
    let id = world.open(">", Encoding::Json);
    assert!(world.shard.connection(id).unwrap().owed.is_empty());
}
