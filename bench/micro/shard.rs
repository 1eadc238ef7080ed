//! Cases of a whole shard: deliveries to clients in sync, a client that lags, subscriptions.
//!
//! `deliver` is all that a core does for a delivery in user mode: its sends go through the real
//! flush ring, to a socket that takes everything. Not here: real connections, and their tasks.

use std::fmt::Write;
use std::hint::black_box;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use fanfare::access::Gate;
use fanfare::fanout::Now;
use fanfare::fanout::connection::ConnectionId;
use fanfare::fanout::sequencer::Sequencer;
use fanfare::fanout::shard::{Outcome, Plan, Shard, ShardSettings};
use fanfare::handoff::batch::Batch;
use fanfare::limits;
use fanfare::protocol::encoding::Encoding;
use fanfare::protocol::tls::Session;
use fanfare::protocol::ws::frame::{Opcode, write_masked};
use fanfare::shell::flush_ring::{FlushRing, Routes};
use fanfare::telemetry::Telemetry;

use super::case::{Case, counted};
use super::data::{event, payload};

const NOW: Now = Now { monotonic_ns: 1_000_000, unix_ns: 1_700_000_000_123_456_789 };

/// Clients in sync.
const CLIENTS: u32 = 1_000;

pub const CASES: &[Case] = &[
    Case { name: "deliver", unit: "delivery of 256 B, 1,000 clients in sync", run: deliver },
    Case { name: "gather", unit: "planned send of the same", run: gather },
    Case { name: "lag", unit: "log entry that a client behind walks over", run: lag },
    Case { name: "subscribe", unit: "subscription to 1 of 5,000 channels", run: subscribe_one },
    Case {
        name: "wildcards",
        unit: "subscription to 1,000 patterns beside 60,000 channels",
        run: subscribe_wildcards,
    },
    Case {
        name: "channel",
        unit: "new channel beside 100 sets of 100 patterns",
        run: new_channels,
    },
];

/// A shard with its producer.
struct World {
    shard: Shard,
    sequencer: Sequencer,
    gate: Arc<Gate>,
    plan: Plan,
}

impl World {
    fn new() -> Self {
        let settings = ShardSettings {
            connections_max: 10_000,
            subscriptions_max: limits::SUBSCRIPTIONS_MAX,
            command_burst: limits::COMMAND_RATE_MAX,
            command_rate: limits::COMMAND_RATE_MAX,
            ..ShardSettings::default()
        };
        Self {
            shard: Shard::new(settings, Arc::new(Telemetry::new(1)), 0),
            sequencer: Sequencer::new(limits::CHANNELS_MAX, 1_000),
            gate: Arc::default(),
            plan: Plan::default(),
        }
    }

    /// A connection without a subscription.
    fn open(&mut self) -> ConnectionId {
        let id = self.shard.handle_open(self.gate.admit(None, 0).unwrap(), Encoding::Json, NOW);
        self.drain();
        id
    }

    /// A connection that is in sync with `patterns`.
    fn subscriber(&mut self, patterns: &[String]) -> ConnectionId {
        let id = self.open();
        self.shard.handle_bytes(id, &mut subscribe(patterns), NOW);
        self.drain();
        id
    }

    /// A batch of one event on each of `channels`.
    fn batch<T: AsRef<str>>(&mut self, channels: &[T]) -> Arc<Batch> {
        let data = payload(256);
        for channel in channels {
            self.sequencer.handle_event(&event(channel.as_ref(), &data), NOW.unix_ns).unwrap();
        }
        self.sequencer.next_batch().unwrap()
    }

    /// Passes in which every socket takes everything, until nothing is due.
    fn drain(&mut self) {
        while self.shard.is_pass_due() {
            self.shard.begin_pass();
            while self.next_sends() > 0 {
                self.take_everything();
            }
            self.shard.end_pass();
        }
    }

    fn next_sends(&mut self) -> usize {
        self.shard.next_sends(&mut self.plan);
        self.plan.len()
    }

    /// The sockets of the plan take everything.
    fn take_everything(&mut self) {
        let outcomes: Vec<_> = self.plan.sends().map(|(_, run)| Outcome::Took(run.bytes)).collect();
        self.shard.handle_sent(&self.plan, &outcomes, NOW, &mut Vec::new());
    }
}

/// The bytes of a subscribe command.
fn subscribe(patterns: &[String]) -> Vec<u8> {
    let mut text = r#"{"method":"subscribe","params":{"channels":["#.to_owned();
    for (at, pattern) in patterns.iter().enumerate() {
        write!(text, "{}\"{pattern}\"", if at == 0 { "" } else { "," }).unwrap();
    }
    text.push_str(r#"],"snapshot":false}}"#);
    let mut bytes = Vec::new();
    write_masked(&mut bytes, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
    bytes
}

/// The places of connections that all send to one socket, which never fills: datagrams that nobody
/// has room for are lost.
struct Sockets {
    near: UdpSocket,
    _far: UdpSocket,
    places: Vec<Option<(ConnectionId, RawFd)>>,
}

impl Sockets {
    fn new() -> Self {
        let [near, far] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        near.connect(far.local_addr().unwrap()).unwrap();
        Self { near, _far: far, places: Vec::new() }
    }

    fn insert(&mut self, id: ConnectionId) {
        let place = id.index as usize;
        self.places.resize(self.places.len().max(place + 1), None);
        self.places[place] = Some((id, self.near.as_raw_fd()));
    }
}

impl Routes for Sockets {
    fn route(&mut self, id: ConnectionId) -> Option<(RawFd, Option<&mut Session>)> {
        let (of, descriptor) = (*self.places.get(id.index as usize)?)?;
        (of == id).then_some((descriptor, None))
    }
}

fn deliver() -> f64 {
    const BATCHES: u32 = 8;
    let mut world = World::new();
    let mut sockets = Sockets::new();
    let patterns = ["trade.BTCUSDT".to_owned()];
    (0..CLIENTS).for_each(|_| sockets.insert(world.subscriber(&patterns)));
    let mut flush = FlushRing::new().unwrap();
    let (mut outcomes, mut full) = (Vec::new(), Vec::new());
    let mut delivered = 0;
    for number in 0..=BATCHES {
        let batch = world.batch(&["trade.BTCUSDT"]);
        let mut turn = || {
            world.shard.handle_batch(&batch, NOW);
            world.shard.begin_pass();
            while world.next_sends() > 0 {
                flush.send(&world.shard, &world.plan, &mut sockets, &mut outcomes).unwrap();
                world.shard.handle_sent(&world.plan, &outcomes, NOW, &mut full);
                delivered += world.plan.len();
            }
            world.shard.end_pass()
        };
        // The first batch only warms up.
        if number == 0 {
            turn()
        } else {
            counted(turn)
        };
    }
    assert_eq!((delivered, full.len()), ((CLIENTS * (BATCHES + 1)) as usize, 0));
    (CLIENTS * BATCHES).into()
}

fn gather() -> f64 {
    let mut world = World::new();
    let patterns = ["trade.BTCUSDT".to_owned()];
    for _ in 0..CLIENTS {
        world.subscriber(&patterns);
    }
    let (mut planned, mut rounds) = (0, 0);
    while rounds < 3 {
        let batch = world.batch(&["trade.BTCUSDT"]);
        world.shard.handle_batch(&batch, NOW);
        world.shard.begin_pass();
        loop {
            let sends = counted(|| world.next_sends());
            if sends == 0 {
                break;
            }
            planned += sends;
            world.take_everything();
        }
        rounds += 1;
    }
    assert_eq!(planned, 3 * CLIENTS as usize);
    (3 * CLIENTS).into()
}

/// A client whose socket is full while events come, of which it wants every second one.
fn lag() -> f64 {
    let mut world = World::new();
    world.subscriber(&["trade.A".to_owned()]);
    let first = world.batch(&["trade.A"]);
    world.shard.handle_batch(&first, NOW);
    world.shard.begin_pass();
    world.next_sends();
    let id = world.plan.connections[0];
    world.shard.handle_sent(&world.plan, &[Outcome::Took(0)], NOW, &mut Vec::new());
    world.next_sends();
    world.shard.end_pass();
    let entries = 400;
    let batch = world.batch(&["trade.A", "trade.B"].repeat(entries / 2));
    world.shard.handle_batch(&batch, NOW);
    world.shard.handle_writable(id);
    world.shard.begin_pass();
    let sends = counted(|| world.next_sends());
    assert_eq!(sends, 1);
    f64::from(u32::try_from(entries).unwrap())
}

fn subscribe_one() -> f64 {
    let channels: Vec<_> = (0..5_000).map(|number| format!("trade.S{number}")).collect();
    subscription(&channels, &["trade.S2500".to_owned()])
}

/// `trade.S7.*` and its like: each matches 60 of the channels.
fn subscribe_wildcards() -> f64 {
    let channels: Vec<_> = (0..60_000)
        .map(|number| format!("trade.S{}.d{}", number % 1_000, number / 1_000))
        .collect();
    let patterns: Vec<_> = (0..1_000).map(|number| format!("trade.S{number}.*")).collect();
    subscription(&channels, &patterns)
}

/// One client subscribes to `patterns` beside `channels`.
fn subscription(channels: &[String], patterns: &[String]) -> f64 {
    let mut world = World::new();
    for part in channels.chunks(1_000) {
        let batch = world.batch(part);
        world.shard.handle_batch(&batch, NOW);
    }
    let id = world.open();
    let mut bytes = subscribe(patterns);
    counted(|| world.shard.handle_bytes(id, &mut bytes, NOW));
    let owed = world.shard.connection(id).unwrap().owed.bytes();
    assert!(owed.len() > patterns.len() * 10, "it is answered");
    1.0
}

fn new_channels() -> f64 {
    const CHANNELS: u32 = 10;
    let mut world = World::new();
    for client in 0..100 {
        let patterns: Vec<_> =
            (0..100).map(|number| format!("trade.S{number}.c{client}.*")).collect();
        world.subscriber(&patterns);
    }
    let channels: Vec<_> = (0..CHANNELS).map(|number| format!("trade.S{number}.c7.x")).collect();
    let batch = world.batch(&channels);
    counted(|| black_box(world.shard.handle_batch(&batch, NOW)));
    CHANNELS.into()
}
