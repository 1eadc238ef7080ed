//! What processes and the whole host have used, from `/proc`.
//!
//! Not here: judging it (`verdict`). Invariant: a process that has ended counts as what was last
//! seen of it, so a difference of two readings is never negative.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Time on CPUs and switches of some processes and their children.
#[derive(Debug, Clone, Default)]
pub struct Used {
    by_process: BTreeMap<u32, Process>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Process {
    user_s: f64,
    system_s: f64,
    voluntary: u64,
    involuntary: u64,
}

/// A sum or a difference.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    pub user_s: f64,
    pub system_s: f64,
    pub voluntary: u64,
    pub involuntary: u64,
}

impl Share {
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    pub fn add(&mut self, other: Self) {
        self.user_s += other.user_s;
        self.system_s += other.system_s;
        self.voluntary += other.voluntary;
        self.involuntary += other.involuntary;
    }
}

impl Used {
    /// Looks at these processes and all their children.
    #[must_use]
    pub fn by(roots: &[u32]) -> Self {
        let by_process = family(roots).into_iter().filter_map(|pid| Some((pid, process(pid)?)));
        Self { by_process: by_process.collect() }
    }

    /// Looks at these processes only.
    #[must_use]
    pub fn of(pids: &[u32]) -> Self {
        let by_process = pids.iter().filter_map(|&pid| Some((pid, process(pid)?)));
        Self { by_process: by_process.collect() }
    }

    /// What was used since an earlier look.
    #[must_use]
    pub fn since(&self, before: &Self) -> Share {
        let mut sum = Share::default();
        for (pid, now) in &self.by_process {
            let then = before.by_process.get(pid).copied().unwrap_or_default();
            sum.user_s += (now.user_s - then.user_s).max(0.0);
            sum.system_s += (now.system_s - then.system_s).max(0.0);
            sum.voluntary += now.voluntary.saturating_sub(then.voluntary);
            sum.involuntary += now.involuntary.saturating_sub(then.involuntary);
        }
        sum
    }
}

/// These processes and everything that they started.
#[must_use]
pub fn family(roots: &[u32]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut todo = roots.to_vec();
    while let Some(pid) = todo.pop() {
        if !found.insert(pid) {
            continue;
        }
        for task in tasks(pid) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{task}/children"));
            let children = children.unwrap_or_default();
            todo.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

fn tasks(pid: u32) -> Vec<String> {
    let folder = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    folder.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The whole time is exact, threads that have ended included; `stat` has how it was split.
fn process(pid: u32) -> Option<Process> {
    let (_, fields) = stat(pid)?;
    let (user, system) = (number(&fields, 11)?, number(&fields, 12)?);
    let user = if user + system > 0.0 { user / (user + system) } else { 0.5 };
    let cpu_s = cpu_s(pid)?;
    let (mut voluntary, mut involuntary) = (0, 0);
    for task in tasks(pid) {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{task}/status"));
        let status = status.unwrap_or_default();
        voluntary += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        involuntary += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Some(Process { user_s: cpu_s * user, system_s: cpu_s * (1.0 - user), voluntary, involuntary })
}

/// A process's name, and what `/proc/PID/stat` has behind it.
fn stat(pid: u32) -> Option<(String, Vec<String>)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have blanks and parentheses; what follows its end is numbers.
    let (head, fields) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    Some((name, fields.split_whitespace().map(str::to_owned).collect()))
}

fn number(fields: &[String], at: usize) -> Option<f64> {
    fields.get(at)?.parse().ok()
}

/// What the clock of a process's CPU time shows.
fn cpu_s(pid: u32) -> Option<f64> {
    let pid = i32::try_from(pid).ok()?;
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both results are writable for the length of the calls.
    let read = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    read.then(|| time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn ticks_per_s() -> f64 {
    // SAFETY: a plain question about a constant of the host.
    (unsafe { libc::sysconf(libc::_SC_CLK_TCK) }) as f64
}

/// The CPUs of the host, of which this process may have fewer.
#[must_use]
pub fn online_cpus() -> f64 {
    // SAFETY: a plain question about the host.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    (online as f64).max(1.0)
}

/// Anonymous memory of these processes and their children.
#[must_use]
pub fn anonymous_bytes(roots: &[u32]) -> u64 {
    let of = |pid: u32| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        field(&rollup, "Anonymous:").map(|kib| kib * 1024)
    };
    family(roots).into_iter().filter_map(of).sum()
}

/// Buffers of all TCP sockets of the host.
#[must_use]
pub fn socket_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|&word| word != "mem").skip(1);
    words.next().and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES
}

/// What every process has used that can be seen from here.
#[derive(Debug, Clone, Default)]
pub struct Everybody {
    /// Its name, what it has used, and what its children had that have ended.
    by_process: BTreeMap<u32, (String, f64, f64)>,
}

impl Everybody {
    /// Looks at all of them.
    #[must_use]
    pub fn now() -> Self {
        let folder = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = folder.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
        let look = |pid: u32| {
            let (name, fields) = stat(pid)?;
            // The kernel handles packets there when there are many: the load's work.
            if name.starts_with("ksoftirqd/") {
                return None;
            }
            let ticks =
                |at: usize| Some((number(&fields, at)? + number(&fields, at + 1)?) / ticks_per_s());
            // One that has ended, and of which nobody has taken note yet, has no clock any more.
            let used = cpu_s(pid).or_else(|| ticks(11))?;
            Some((pid, (name, used, ticks(13)?)))
        };
        Self { by_process: pids.filter_map(look).collect() }
    }

    /// CPU seconds since an earlier look, by name, of all but these processes. What has ended
    /// meanwhile is in its parent's account.
    #[must_use]
    pub fn since(&self, before: &Self, ours: &BTreeSet<u32>) -> Vec<(String, f64)> {
        let not_ours = |of: &Self| {
            let all = of.by_process.clone().into_iter();
            all.filter(|(pid, _)| !ours.contains(pid)).collect::<BTreeMap<_, _>>()
        };
        let (now, then) = (not_ours(self), not_ours(before));
        let mut by_name: BTreeMap<String, f64> = BTreeMap::new();
        let mut ended = 0.0;
        for (pid, (name, used, by_children)) in &now {
            let then = then.get(pid).map_or((0.0, 0.0), |then| (then.1, then.2));
            *by_name.entry(name.clone()).or_default() += (used - then.0).max(0.0);
            ended += (by_children - then.1).max(0.0);
        }
        // What they had used before the first look was in their own accounts then.
        let gone = then.iter().filter(|(pid, _)| !now.contains_key(pid));
        ended -= gone.map(|(_, then)| then.1 + then.2).sum::<f64>();
        by_name.insert("what has ended".into(), ended.max(0.0));
        by_name.into_iter().filter(|(_, used)| *used > 0.0).collect()
    }
}

/// Time of the CPUs of the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host {
    /// In soft interrupts, where loopback's packets are handled. Most of it is in the accounts of
    /// processes as well.
    pub soft_s: f64,
    /// Given to another machine by the hypervisor.
    pub stolen_s: f64,
}

impl Host {
    #[must_use]
    pub fn since(self, then: Self) -> Self {
        Self { soft_s: self.soft_s - then.soft_s, stolen_s: self.stolen_s - then.stolen_s }
    }
}

/// The sum over all CPUs, since the host was started.
#[must_use]
pub fn host() -> Host {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let numbers = line.split_whitespace().skip(1).filter_map(|word| word.parse::<f64>().ok());
    let seconds: Vec<f64> = numbers.map(|ticks| ticks / ticks_per_s()).collect();
    let at = |place: usize| seconds.get(place).copied().unwrap_or(0.0);
    // user nice system idle iowait irq softirq steal
    Host { soft_s: at(6), stolen_s: at(7) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_and_its_children_use_is_seen() {
        let me = [std::process::id()];
        // In this order, because the first look takes time of this process.
        let all_before = Everybody::now();
        let before = Used::by(&me);
        let mut child =
            std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut used = 0.0;
        while used < 0.1 {
            used = Used::by(&me).since(&before).cpu_s();
        }
        assert!(family(&me).contains(&child.id()));
        let others = |ours: &[u32]| -> f64 {
            let ours = ours.iter().copied().collect();
            Everybody::now().since(&all_before, &ours).iter().map(|(_, used)| used).sum()
        };
        assert!(others(&[]) >= used, "whoever is not ours is seen");
        child.kill().unwrap();
        child.wait().unwrap();
        // What has ended is known in ticks of 10 ms, rounded down for user and system each.
        assert!(others(&[]) >= used - 0.05, "and when it has ended, to some ticks");
        assert!(anonymous_bytes(&me) > 100_000);
    }
}
