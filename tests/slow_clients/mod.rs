//! Healthy, slow and stalled clients of one server that replays a capture.
//!
//! The test and the benchmark share it: who subscribes to what, one play, the draining at the end,
//! and the bounds that follow from the settings. Not here: what must come of it. Invariant: events
//! are published only during [`Stage::play`], and after it the first member has all of them.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fanfare::limits::{BATCH_BYTES_MAX, LOG_BYTES_PER_ENTRY, RING_BATCHES};

use crate::day::Day;
use crate::support::{PATIENCE, Server};

use account::{Account, Ask, Tally};
use crowd::{Crowd, Lag, Pace};
use gauges::{Gauges, Sample, memory, tcp_memory};
use truth::Truth;

pub(crate) mod account;
pub(crate) mod crowd;
pub(crate) mod gauges;
pub(crate) mod truth;

/// Kernel receive buffers of the clients, bytes: small for slow ones, so that the kernel does not
/// do the reading for them.
const RECEIVE_BYTES: usize = 256 << 10;
const RECEIVE_BYTES_SLOW: usize = 8 << 10;

/// Kernel send buffer of each of the server's connections, bytes. A segment on loopback has 64 KiB,
/// and a buffer of one or two waits 40 ms for each delayed acknowledgement: with 32 KiB, clients
/// that read at once get 2 MB/s and fall off the log.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Of it, what is not on its way yet, bytes.
const UNSENT_BYTES: usize = 64 << 10;

/// Bytes a second of a slow member.
const SLOW_BYTES_PER_SECOND: usize = 20_000;

/// Subscribers of `>` among the healthy ones.
const HEALTHY_OF_EVERYTHING: usize = 4;

/// Between two looks at what the server costs.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes of the server for a connection beside its kernel buffers: its entry, its task, its place
/// in the tables; `results/*-idle` has measured below half of it.
const CONNECTION_BYTES: usize = 4 << 10;

/// Bytes of one index entry of the log.
const LOG_ENTRY_BYTES: usize = 32;

/// What the server is started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) log_bytes: usize,
    pub(crate) retained_bytes: usize,
}

impl Memory {
    /// The server's flags: one shard, the ingest thread elsewhere if there is another core, and
    /// what holds for slow clients.
    pub(crate) fn flags(self) -> String {
        let cores = cores();
        let (shard, ingest) = (cores[0].id, cores[cores.len() - 1].id);
        format!(
            "--cores {shard} --ingest-core {ingest} --heartbeat 2s \
             --peer-timeout 5m --ping-interval 0ms --log-bytes {}B --retained-bytes {}B \
             --send-buffer-bytes {SEND_BUFFER_BYTES}B --unsent-bytes {UNSENT_BYTES}B",
            self.log_bytes, self.retained_bytes
        )
    }

    /// Resident bytes that a server of one shard may have: what it had when it was idle; the log
    /// and its index, the values kept beside it and the batches on their way; and for each
    /// connection its own, with the rest of a frame in flight for each slow one.
    pub(crate) fn resident_max(self, idle: u64, count: Count, frame_bytes_max: usize) -> u64 {
        let index = self.log_bytes / LOG_BYTES_PER_ENTRY * LOG_ENTRY_BYTES;
        let shared = self.log_bytes + index + self.retained_bytes + RING_BATCHES * BATCH_BYTES_MAX;
        let slow = count.stalled + count.slow;
        let each = (count.healthy + slow) * CONNECTION_BYTES + slow * frame_bytes_max;
        idle + (shared + each) as u64
    }
}

/// The cores of this process: the first one is the shard's, the last one everybody else's.
pub(crate) fn cores() -> Vec<core_affinity::CoreId> {
    static CORES: OnceLock<Vec<core_affinity::CoreId>> = OnceLock::new();
    // As they were at the start: a thread that pins itself sees only its own afterwards.
    CORES.get_or_init(|| core_affinity::get_core_ids().expect("Linux lists them")).clone()
}

/// How many clients of which kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    pub(crate) healthy: usize,
    pub(crate) stalled: usize,
    pub(crate) slow: usize,
}

impl Count {
    /// Bytes that the kernel may hold in the buffers of both ends: it doubles what is asked for.
    pub(crate) const fn tcp_max(self) -> u64 {
        let slow = (self.stalled + self.slow) * 2 * (SEND_BUFFER_BYTES + RECEIVE_BYTES_SLOW);
        let healthy = self.healthy * 2 * (SEND_BUFFER_BYTES + RECEIVE_BYTES);
        (slow + healthy) as u64
    }
}

/// The server, its clients, and what is played to them.
pub(crate) struct Stage {
    pub(crate) day: Day,
    pub(crate) server: Server,
    pub(crate) crowd: Crowd,
    /// Before any client: the server's resident bytes, and the TCP buffers of the host.
    pub(crate) resident_idle: u64,
    pub(crate) tcp_idle: u64,
}

impl Stage {
    pub(crate) fn new(flags: &str) -> Self {
        let day = Day::found();
        let crowd = Crowd::new(Truth::new(&day));
        let server = Server::start(flags);
        let (resident_idle, tcp_idle) = (memory(server.child.id()).0, tcp_memory());
        Self { day, server, crowd, resident_idle, tcp_idle }
    }

    /// Those that read at once: some of everything, most of one channel.
    pub(crate) fn join_healthy(&mut self, count: usize) {
        for number in 0..count {
            let ask = match number {
                0 => Ask::new(">", "all"),
                1..HEALTHY_OF_EVERYTHING => Ask::new(">", "auto"),
                _ => Ask::new(self.channel(number), if number % 3 == 0 { "all" } else { "auto" }),
            };
            self.crowd.join(&self.server, ask, Pace::AtOnce, RECEIVE_BYTES);
        }
    }

    /// Those that do not read, and then those that read slowly, with policies and limits of all
    /// kinds.
    pub(crate) fn join_slow(&mut self, count: Count) {
        for number in 0..count.stalled + count.slow {
            let pace = match number < count.stalled {
                true => Pace::Never,
                false => Pace::Slowly(SLOW_BYTES_PER_SECOND),
            };
            self.join(self.slow_ask(number), pace);
        }
    }

    /// One more client that does not read at once.
    pub(crate) fn join(&mut self, ask: Ask, pace: Pace) {
        self.crowd.join(&self.server, ask, pace, RECEIVE_BYTES_SLOW);
    }

    fn channel(&self, number: usize) -> &str {
        let channels = &self.crowd.truth.channels;
        &channels[number % channels.len()].name
    }

    fn slow_ask(&self, number: usize) -> Ask {
        let [streams, values, mixed] = self.day.groups;
        let single = self.channel(number / 8);
        match number % 8 {
            _ if number % 40 == 39 => Ask::new(">", "auto"),
            0 => Ask::new(streams, "all"),
            1 => Ask::new(values, "latest"),
            2 => Ask::new(mixed, "auto"),
            3 => Ask::new(single, "all"),
            4 => Ask::new(single, "latest"),
            5 => Ask { max_age_ms: Some(500), ..Ask::new(single, "all") },
            6 => Ask { max_lag_bytes: Some(256 << 10), ..Ask::new(mixed, "all") },
            _ => Ask::new(single, "auto"),
        }
    }

    /// Replays the capture from its beginning for so long, until the first member has all of it;
    /// `each` sees a sample each second, and what was measured so far.
    pub(crate) fn play(&mut self, time: Duration, mut each: impl FnMut(&Sample, &mut Lag)) {
        self.crowd.truth.rewind();
        let flags = format!("--loop --speed {}", self.day.pace);
        let mut producer = Producer::start(self.day.command(&self.server.sources[0], &flags));
        let before = self.crowd.truth.newest();
        // A capture that must be sorted is read whole first.
        let deadline = Instant::now() + PATIENCE;
        while self.crowd.truth.newest() == before {
            assert!(Instant::now() < deadline, "nothing is published");
            self.crowd.turn();
        }
        let mut gauges = Gauges::new(self.server.child.id(), producer.0.id(), self.crowd.busy);
        let begun = Instant::now();
        let mut look_at = begun + LOOK;
        while begun.elapsed() < time {
            self.crowd.turn();
            if Instant::now() >= look_at {
                look_at += LOOK;
                let sample = gauges.look(self.crowd.truth.newest(), self.crowd.busy);
                each(&sample, &mut self.crowd.lag);
            }
        }
        producer.stop();
        let deadline = Instant::now() + PATIENCE;
        while !producer.ended() || self.crowd.truth.newest() < self.published() {
            assert!(Instant::now() < deadline, "the first member has not got everything");
            self.crowd.turn();
        }
    }

    /// Lets everybody read, until each has proof that it has everything, or until `patience` is
    /// over, which [`Stage::tally`] will tell.
    pub(crate) fn drain(&mut self, patience: Duration) {
        self.crowd.wake();
        let (end, deadline) = (self.crowd.truth.newest(), Instant::now() + patience);
        while !self.crowd.all_have(end) {
            if Instant::now() >= deadline {
                return;
            }
            for _ in 0..10 {
                self.crowd.turn();
            }
        }
    }

    /// Events that got a `seq`.
    fn published(&self) -> u64 {
        self.server.stats()["ingest"]["events"].as_u64().unwrap()
    }

    /// The sums of the accounts of those that satisfy `which`, their number, and what is wrong in
    /// any of them.
    pub(crate) fn tally(
        &self,
        mut which: impl FnMut(&Account, bool) -> bool,
    ) -> (usize, Tally, Vec<String>) {
        let end = self.crowd.truth.newest();
        let (mut count, mut sum, mut wrong) = (0, Tally::default(), Vec::new());
        for member in &self.crowd.members {
            let account = &member.account;
            if !which(account, member.healthy) {
                continue;
            }
            count += 1;
            if account.closed.is_none() && account.proven < end {
                wrong.push(format!("{:?}: heard nothing of {end}", account.ask));
            }
            match account.close(&self.crowd.truth) {
                Ok(tally) => sum += tally,
                Err(what) => wrong.push(what),
            }
        }
        (count, sum, wrong)
    }
}

/// A running `fanfare replay`, gone when it is dropped.
struct Producer(Child);

impl Producer {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Asks it to end behind a whole line.
    fn stop(&self) {
        let process = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &process]).status().unwrap().success());
    }

    fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
