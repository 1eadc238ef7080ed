//! What server, load and everybody else use while a part runs, second by second.
//!
//! Not here: judging it (`verdict`). Invariant: looks at the host, which take longer with every
//! process on it, are made before and after the measured time, not in it.

use std::collections::BTreeSet;

use crate::clock::{SECOND_NS, now_ns, sleep_until, wall_offset_ns};
use crate::histogram;
use crate::merged::Merged;
use crate::outcome::{Second, Use};
use crate::producer::Sent;
use crate::rig::Setup;
use crate::scenario::Readers;
use crate::usage::{self, Everybody, Host, Share, Used};

/// Of memory.
const EVERY_S: u64 = 10;

/// Who is looked at, and what there was before the measured time.
#[derive(Debug)]
pub struct Watch {
    server: u32,
    load: Vec<u32>,
    /// Server and load: everybody else is others.
    ours: BTreeSet<u32>,
    everybody: Everybody,
    host: Host,
    since_ns: u64,
}

/// What they had used when the measured time began.
#[derive(Debug)]
pub struct Watching {
    watch: Watch,
    used: (Used, Used),
    wall_offset_ns: i128,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Watched {
    pub server: Share,
    pub load: Share,
    /// By second: how much of their CPUs server and load used.
    busy: Vec<(f64, f64)>,
    /// Seconds, and the server's anonymous memory.
    memory: Vec<(f64, u64)>,
    pub soft_interrupts_s: f64,
    /// How much of the machine others used, by name.
    pub others: Vec<(String, f64)>,
    pub clock_step_ns: i128,
}

impl Watch {
    /// To be called before the measured time.
    #[must_use]
    pub fn new(server: u32, mut load: Vec<u32>) -> Self {
        // The server is a child of this process: only its own threads count here.
        load.push(std::process::id());
        let mut ours = usage::family(&[server]);
        ours.extend(&load);
        let (everybody, host) = (Everybody::now(), usage::host());
        Self { server, load, ours, everybody, host, since_ns: now_ns() }
    }

    /// To be called when the measured time begins, before anything is done in it.
    #[must_use]
    pub fn begin(self) -> Watching {
        Watching { used: self.look(), wall_offset_ns: wall_offset_ns(), watch: self }
    }

    fn look(&self) -> (Used, Used) {
        (Used::by(&[self.server]), Used::of(&self.load))
    }
}

impl Watching {
    /// Looks at what processes use, each second until the end.
    #[must_use]
    pub fn until(self, setup: &Setup, from_ns: u64, to_ns: u64) -> Watched {
        let Self { watch, used: (mut server, mut load), wall_offset_ns: before_ns } = self;
        let mut watched = Watched::default();
        let mut at_ns = from_ns;
        while at_ns < to_ns {
            let next_ns = (at_ns + SECOND_NS).min(to_ns);
            sleep_until(next_ns);
            let now = watch.look();
            let (by_server, by_load) = (now.0.since(&server), now.1.since(&load));
            (server, load) = now;
            let seconds = (next_ns - at_ns) as f64 / 1e9;
            let busy = |share: Share, cpus: &[usize]| share.cpu_s() / seconds / count(cpus);
            let busy = (busy(by_server, &setup.server_cpus), busy(by_load, &setup.load_cpus));
            watched.busy.push(busy);
            watched.server.add(by_server);
            watched.load.add(by_load);
            let second = (next_ns - from_ns) / SECOND_NS;
            if second.is_multiple_of(EVERY_S) {
                watched.memory.push((second as f64, usage::anonymous_bytes(&[watch.server])));
            }
            at_ns = next_ns;
        }
        watched.clock_step_ns = wall_offset_ns() - before_ns;
        let host = usage::host().since(watch.host);
        watched.soft_interrupts_s = host.soft_s;
        watched.others = Everybody::now().since(&watch.everybody, &watch.ours);
        // What it takes is nobody's, and lacks all the same.
        watched.others.push(("the hypervisor".into(), host.stolen_s));
        let cpu_s = (now_ns() - watch.since_ns) as f64 / 1e9 * usage::online_cpus();
        watched.others.iter_mut().for_each(|(_, used)| *used /= cpu_s);
        watched
    }
}

impl Watched {
    /// How much of the server's CPUs it used.
    #[must_use]
    pub fn server_use(&self, setup: &Setup, seconds: f64) -> Use {
        used(self.server, seconds, count(&setup.server_cpus))
    }

    /// How much of the load's CPUs it used; where readers do not sleep, how much of its time the
    /// busiest of them had something to do: one that is full is late, whatever the others do.
    #[must_use]
    pub fn load_use(&mut self, setup: &Setup, seconds: f64, merged: &Merged) -> Use {
        let mut load = used(self.load, seconds, count(&setup.load_cpus));
        if setup.scenario.readers == Readers::Spin {
            for (at, second) in self.busy.iter_mut().enumerate() {
                let length_s = (seconds - at as f64).clamp(f64::MIN_POSITIVE, 1.0);
                let idle = merged.idle_ns.iter().map(|thread| thread.get(at).copied().unwrap_or(0));
                second.1 = busiest(idle, length_s);
            }
            let parts = self.busy.len();
            let idle = merged.idle_ns.iter().map(|thread| thread.iter().take(parts).sum());
            load.busy = busiest(idle, seconds);
        }
        load
    }

    /// The part, second by second.
    #[must_use]
    pub fn series(&self, sent: &Sent, merged: &Merged) -> Vec<Second> {
        let second = |(at, &(server_busy, load_busy)): (usize, &(f64, f64))| {
            let arrived = merged.seconds.get(at);
            let quantiles =
                arrived.map(|second| histogram::quantiles(&second.1)).unwrap_or_default();
            Second {
                at_s: at as f64,
                events: sent.by_second.get(at).copied().unwrap_or(0),
                deliveries: arrived.map_or(0, |second| second.0),
                p50_us: quantiles.p50,
                p99_us: quantiles.p99,
                max_us: quantiles.max,
                server_busy,
                load_busy,
            }
        };
        self.busy.iter().enumerate().map(second).collect()
    }

    /// By how many bytes a second the server's memory grows; none of a short part.
    #[must_use]
    pub fn leak_bytes_per_s(&self) -> Option<f64> {
        slope(&self.memory)
    }
}

/// The share of a time for which the thread was busy that was idle for the shortest.
fn busiest(idle_ns: impl Iterator<Item = u64>, seconds: f64) -> f64 {
    let idle_s = idle_ns.min().unwrap_or(0) as f64 / 1e9;
    (1.0 - idle_s / seconds).max(0.0)
}

fn count(cpus: &[usize]) -> f64 {
    cpus.len().max(1) as f64
}

fn used(share: Share, seconds: f64, cpus: f64) -> Use {
    Use {
        user_s: share.user_s,
        system_s: share.system_s,
        busy: share.cpu_s() / seconds / cpus,
        switches_voluntary: share.voluntary,
        switches_involuntary: share.involuntary,
        syscalls_per_delivery: None,
    }
}

/// Bytes a second, by least squares; none of fewer than three samples.
fn slope(samples: &[(f64, u64)]) -> Option<f64> {
    if samples.len() < 3 {
        return None;
    }
    let count = samples.len() as f64;
    let (mean_x, mean_y) = samples
        .iter()
        .fold((0.0, 0.0), |sum, &(x, y)| (sum.0 + x / count, sum.1 + y as f64 / count));
    let (up, down) = samples.iter().fold((0.0, 0.0), |sum, &(x, y)| {
        (sum.0 + (x - mean_x) * (y as f64 - mean_y), sum.1 + (x - mean_x) * (x - mean_x))
    });
    (down > 0.0).then(|| up / down)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_as_busy_as_its_busiest_thread() {
        let second = SECOND_NS / 100;
        let full_and_idle = [4 * second, 100 * second];
        assert!((busiest(full_and_idle.into_iter(), 1.0) - 0.96).abs() < 1e-9);
        assert!((busiest([50 * second].into_iter(), 0.5) - 0.0).abs() < 1e-9, "of half a second");
        assert!((busiest([].into_iter(), 1.0) - 1.0).abs() < 1e-9, "nobody was idle");
    }

    #[test]
    fn a_leak_is_the_slope_of_all_samples() {
        assert_eq!(slope(&[(10.0, 5), (20.0, 5)]), None);
        let leaking: Vec<(f64, u64)> =
            (1..=6).map(|at| (f64::from(at) * 10.0, 7_000 + 300 * at as u64)).collect();
        assert!((slope(&leaking).unwrap() - 30.0).abs() < 1e-9);
        assert_eq!(slope(&[(10.0, 5), (20.0, 5), (30.0, 5)]), Some(0.0));
    }
}
