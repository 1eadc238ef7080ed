//! Reads procfs and sysfs under a root folder.
//!
//! Not here: what the values should be. Invariant: a file that is missing or says something
//! unexpected makes a fact unknown, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Card, Core, Facts, Interrupt, Live};

/// The settings that rules look at.
const SYSCTLS: [&str; 19] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "net.core.busy_poll",
    "net.core.busy_read",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "vm.nr_hugepages",
    "vm.swappiness",
    "vm.zone_reclaim_mode",
];

/// Words in the names of a card's interrupts that belong to no queue.
const NO_QUEUE: [&str; 7] = ["async", "config", "control", "mgmnt", "misc", "fdir", "event"];

/// Reads a host; `card` is the interface to look at.
#[must_use]
pub fn gather(root: &Path, live: Live, card: Option<&str>) -> Facts {
    let tree = Tree(root);
    let status = tree.text("proc/self/status").unwrap_or_default();
    let limits = tree.text("proc/self/limits").unwrap_or_default();
    let memory = tree.text("proc/meminfo").unwrap_or_default();
    let allowed = field(&status, "Cpus_allowed_list:").map(cores).unwrap_or_default();
    let bytes = |name: &str| -> Option<u64> {
        field(&memory, name)?.split(' ').next()?.parse().ok().map(|kib: u64| kib << 10)
    };
    let is_virtual = tree.text("proc/cpuinfo").is_some_and(|text| {
        let flags = text.lines().find(|line| line.starts_with("flags"));
        flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
    }) || tree.text("sys/hypervisor/type").is_some();
    Facts {
        live,
        kernel: tree.text("proc/sys/kernel/osrelease"),
        command_line: tree.text("proc/cmdline").unwrap_or_default(),
        has_filter: field(&status, "Seccomp:").is_some_and(|mode| mode != "0"),
        descriptors: hard_limit(&limits, "Max open files"),
        locked_bytes: hard_limit(&limits, "Max locked memory"),
        sysctls: SYSCTLS.iter().filter_map(|key| Some((*key, tree.sysctl(key)?))).collect(),
        cores: allowed.into_iter().map(|number| tree.core(number)).collect(),
        isolated: tree.cores("sys/devices/system/cpu/isolated"),
        tickless: tree.cores("sys/devices/system/cpu/nohz_full"),
        has_siblings: tree.text("sys/devices/system/cpu/smt/active").map(|active| active == "1"),
        nodes: tree.nodes(),
        quota: tree.quota(),
        vulnerable: tree.vulnerable(),
        is_virtual,
        stolen_percent: tree.text("proc/stat").as_deref().and_then(stolen),
        card: card.and_then(|name| tree.card(name)),
        balances_interrupts: tree.runs("irqbalance"),
        huge_pages: tree.chosen("sys/kernel/mm/transparent_hugepage/enabled"),
        memory_bytes: bytes("MemTotal:"),
        swap_bytes: bytes("SwapTotal:"),
        clock_source: tree.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }
}

/// The interface of the default route.
#[must_use]
pub fn card_of_default_route(root: &Path) -> Option<String> {
    let routes = Tree(root).text("proc/net/route")?;
    let to_all = |line: &&str| line.split_whitespace().nth(1) == Some("00000000");
    routes.lines().find(to_all)?.split_whitespace().next().map(str::to_owned)
}

/// All interfaces, by name.
#[must_use]
pub fn cards(root: &Path) -> Vec<String> {
    Tree(root).names("sys/class/net")
}

/// The files of a host.
struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    fn cores(&self, path: &str) -> Vec<usize> {
        self.text(path).as_deref().map(cores).unwrap_or_default()
    }

    /// The names in a folder, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The word in brackets: `always [madvise] never`.
    fn chosen(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
    }

    fn sysctl(&self, key: &str) -> Option<Vec<u64>> {
        let text = self.text(&format!("proc/sys/{}", key.replace('.', "/")))?;
        text.split_whitespace().map(|number| number.parse().ok()).collect()
    }

    fn core(&self, number: usize) -> Core {
        let folder = format!("sys/devices/system/cpu/cpu{number}");
        let states = self.names(&format!("{folder}/cpuidle"));
        let wakes = states.iter().filter_map(|state| {
            let state = format!("{folder}/cpuidle/{state}");
            let is_off = self.text(&format!("{state}/disable")).is_some_and(|off| off == "1");
            if is_off { None } else { self.number(&format!("{state}/latency")) }
        });
        let governor = self.text(&format!("{folder}/cpufreq/scaling_governor"));
        Core { number, governor, wake_us_max: wakes.max() }
    }

    fn nodes(&self) -> BTreeMap<usize, Vec<usize>> {
        let folder = "sys/devices/system/node";
        let node = |name: String| {
            let number = name.strip_prefix("node")?.parse().ok()?;
            Some((number, self.cores(&format!("{folder}/{name}/cpulist"))))
        };
        self.names(folder).into_iter().filter_map(node).collect()
    }

    /// `cpu.max` of the process's control group or of the nearest one around it, version 2.
    fn quota(&self) -> Option<(u64, u64)> {
        let groups = self.text("proc/self/cgroup")?;
        let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Path::new(group).ancestors().find_map(|group| {
            let text = self.text(&format!("sys/fs/cgroup/{}/cpu.max", group.display()))?;
            let (quota, period) = text.split_once(' ')?;
            Some((quota.parse().ok()?, period.parse().ok()?))
        })
    }

    fn vulnerable(&self) -> Vec<String> {
        let folder = "sys/devices/system/cpu/vulnerabilities";
        let mut names = self.names(folder);
        names.retain(|name| {
            self.text(&format!("{folder}/{name}"))
                .is_some_and(|text| text.starts_with("Vulnerable"))
        });
        names
    }

    fn runs(&self, program: &str) -> bool {
        let mut processes = self.names("proc");
        processes.retain(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let is_it =
            |name: &String| self.text(&format!("proc/{name}/comm")).as_deref() == Some(program);
        processes.iter().any(is_it)
    }

    fn card(&self, name: &str) -> Option<Card> {
        let folder = format!("sys/class/net/{name}");
        if !self.path(&folder).exists() {
            return None;
        }
        let queues = self.names(&format!("{folder}/queues"));
        let mask = |queue: &str, file: &str| {
            let text = self.text(&format!("{folder}/queues/{queue}/{file}"))?;
            Some(text.bytes().any(|byte| !matches!(byte, b'0' | b',')))
        };
        let of = |kind: &'static str| queues.iter().filter(move |queue| queue.starts_with(kind));
        Some(Card {
            name: name.to_owned(),
            node: self.number(&format!("{folder}/device/numa_node")),
            receive_spread: of("rx-").map(|q| mask(q, "rps_cpus").unwrap_or_default()).collect(),
            transmit_cores: of("tx-").map(|queue| mask(queue, "xps_cpus")).collect(),
            interrupts: self.interrupts(name),
        })
    }

    fn interrupts(&self, card: &str) -> Vec<Interrupt> {
        let device = fs::canonicalize(self.path(&format!("sys/class/net/{card}/device"))).ok();
        let device = device.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let table = self.text("proc/interrupts").unwrap_or_default();
        let of_queue = |line: &str| {
            let (number, _) = line.split_once(':')?;
            let number = number.trim().parse().ok()?;
            let name = line.split_whitespace().last()?;
            let is_its = has_word(name, card) || device.as_ref().is_some_and(|d| has_word(name, d));
            if !is_its || NO_QUEUE.iter().any(|word| name.contains(word)) {
                return None;
            }
            let cores = self.cores(&format!("proc/irq/{number}/smp_affinity_list"));
            Some(Interrupt { number, cores })
        };
        table.lines().filter_map(of_queue).collect()
    }
}

/// Whether `name` stands in `text` with no letter or digit around it: `eth1` is not in `eth10`.
fn has_word(text: &str, name: &str) -> bool {
    let is_word = |character: char| character.is_ascii_alphanumeric();
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word)
    })
}

/// A list as the kernel writes it: `0-3,8`; empty when it is none.
fn cores(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// What stands behind a name at the beginning of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The hard limit in a table as `/proc/self/limits` has it.
fn hard_limit(table: &str, name: &str) -> Option<u64> {
    match field(table, name)?.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The part of all CPU time that was stolen, in a hundred (proc(5), `/proc/stat`).
fn stolen(table: &str) -> Option<f64> {
    let first = field(table, "cpu ")?;
    // Guest time, behind these eight, is in user time already.
    let times: Vec<f64> = first.split_whitespace().take(8).flat_map(str::parse).collect();
    let all: f64 = times.iter().sum();
    Some(100.0 * times.get(7)? / all.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read_as_the_kernel_writes_them() {
        assert_eq!(cores("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(cores("5"), [5]);
        assert!(cores("").is_empty() && cores("(null)").is_empty());
    }

    #[test]
    fn an_interrupt_belongs_to_a_card_by_its_whole_name() {
        assert!(has_word("eth1-TxRx-0", "eth1"));
        assert!(!has_word("eth10-TxRx-0", "eth1"));
        assert!(has_word("mlx5_comp3@pci:0000:3b:00.0", "0000:3b:00.0"));
    }

    #[test]
    fn stolen_time_is_a_part_of_all_time() {
        assert_eq!(stolen("cpu  40 0 10 40 0 0 0 10 40 0\ncpu0 1 1"), Some(10.0));
        assert_eq!(stolen("cpu  40 0 10"), None);
    }
}
