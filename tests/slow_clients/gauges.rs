//! What the server and its producer cost, from `/proc`, once in a while.
//!
//! Not here: bounds. Invariant: bytes are bytes, and shares of a core are of the time since the
//! sample before.

use std::fs;
use std::time::{Duration, Instant};

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ` of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// One look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Since the first look.
    pub(crate) seconds: f64,
    /// The server's resident memory.
    pub(crate) resident: u64,
    /// What of it is its own: heap and stacks.
    pub(crate) anonymous: u64,
    /// Buffers of all TCP sockets of this network namespace: both ends of each connection.
    pub(crate) tcp: u64,
    /// Shares of one core.
    pub(crate) server_cores: f64,
    pub(crate) producer_cores: f64,
    /// The reading thread's.
    pub(crate) readers_cores: f64,
    /// The newest event that the first member has got.
    pub(crate) seq: u64,
}

/// What the shares are counted from.
pub(crate) struct Gauges {
    server: u32,
    producer: u32,
    begun: Instant,
    last: Instant,
    server_ticks: f64,
    producer_ticks: f64,
    busy: Duration,
}

impl Gauges {
    /// Of these processes; `busy` is the reading thread's work so far.
    pub(crate) fn new(server: u32, producer: u32, busy: Duration) -> Self {
        let now = Instant::now();
        Self {
            server,
            producer,
            begun: now,
            last: now,
            server_ticks: ticks(server),
            producer_ticks: ticks(producer),
            busy,
        }
    }

    pub(crate) fn look(&mut self, seq: u64, busy: Duration) -> Sample {
        let now = Instant::now();
        let seconds = now.duration_since(std::mem::replace(&mut self.last, now)).as_secs_f64();
        let share = |before: &mut f64, process| {
            let ticks = ticks(process);
            (ticks - std::mem::replace(before, ticks)) / TICKS_PER_SECOND / seconds
        };
        let readers = busy - std::mem::replace(&mut self.busy, busy);
        let (resident, anonymous) = memory(self.server);
        Sample {
            seconds: now.duration_since(self.begun).as_secs_f64(),
            resident,
            anonymous,
            tcp: tcp_memory(),
            server_cores: share(&mut self.server_ticks, self.server),
            producer_cores: share(&mut self.producer_ticks, self.producer),
            readers_cores: readers.as_secs_f64() / seconds,
            seq,
        }
    }
}

/// Resident memory of a process, and what of it is its own, bytes.
pub(crate) fn memory(process: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let bytes = |name: &str| 1_024 * number_after(&status, name);
    (bytes("VmRSS:"), bytes("RssAnon:"))
}

/// Buffers of all TCP sockets, bytes.
pub(crate) fn tcp_memory() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    4_096 * number_after(line, " mem")
}

fn number_after(text: &str, name: &str) -> u64 {
    let rest = &text[text.find(name).unwrap_or_else(|| panic!("no {name} in {text}"))..];
    rest[name.len()..].split_whitespace().next().unwrap().parse().unwrap()
}

/// Processor time of a process so far.
fn ticks(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name may hold spaces; what follows its parenthesis does not.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<f64>().unwrap_or(0.0)).sum()
}
