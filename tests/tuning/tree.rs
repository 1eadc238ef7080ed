//! Made-up hosts: folders with the files of procfs and sysfs that `doctor` and `tune.sh` look at.
//!
//! Not here: what must be said of them. Invariant: a tree is below the folder of temporary files,
//! and goes with its value.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder of one host.
pub(crate) struct Tree(pub(crate) PathBuf);

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Tree {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanfare-tuning-{}-{count}", std::process::id());
        let tree = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&tree.0).unwrap();
        tree
    }

    /// Makes a file, or replaces it.
    pub(crate) fn set(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    /// A file as it is; none if there is none.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok()
    }

    /// Every file with what is in it, sorted.
    pub(crate) fn files(&self) -> Vec<(PathBuf, String)> {
        let (mut files, mut folders) = (Vec::new(), vec![self.0.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    files.push((entry.path(), fs::read_to_string(entry.path()).unwrap()));
                }
            }
        }
        files.sort();
        files
    }
}

/// Eight cores, of which a server has seven, with a card that has a queue for each of those.
pub(crate) fn good() -> Tree {
    let tree = Tree::new();
    for (path, text) in [
        ("proc/cmdline", "quiet isolcpus=managed_irq,domain,1-7 nohz_full=1-7 rcu_nocbs=1-7"),
        ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse2"),
        ("proc/self/status", "Name:\tfanfare\nSeccomp:\t0\nCpus_allowed_list:\t1-7"),
        ("proc/self/cgroup", "0::/system/fanfare"),
        ("proc/meminfo", "MemTotal:       65536000 kB\nSwapTotal:             0 kB"),
        ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority"),
        ("proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0"),
        ("proc/net/route", "Iface\tDestination\tGateway\neth0\t00000000\t010200C0"),
        ("proc/1/comm", "systemd"),
        ("proc/sys/fs/file-max", "9223372036854775807"),
        ("proc/sys/fs/nr_open", "1048576"),
        ("proc/sys/kernel/io_uring_disabled", "0"),
        ("proc/sys/kernel/osrelease", "6.18.2-generic"),
        ("proc/sys/net/core/busy_poll", "0"),
        ("proc/sys/net/core/busy_read", "0"),
        ("proc/sys/net/core/somaxconn", "4096"),
        ("proc/sys/net/core/wmem_max", "4194304"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096"),
        ("proc/sys/net/ipv4/tcp_mem", "768000\t1024000\t1536000"),
        ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
        ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"),
        ("proc/sys/net/ipv4/tcp_syncookies", "1"),
        ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
        ("proc/sys/vm/nr_hugepages", "0"),
        ("proc/sys/vm/swappiness", "60"),
        ("proc/sys/vm/zone_reclaim_mode", "0"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
        ("sys/devices/system/cpu/isolated", "1-7"),
        ("sys/devices/system/cpu/nohz_full", "1-7"),
        ("sys/devices/system/cpu/online", "0-7"),
        ("sys/devices/system/cpu/smt/active", "0"),
        ("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected"),
        ("sys/devices/system/cpu/vulnerabilities/spectre_v2", "Mitigation: Enhanced IBRS"),
        ("sys/devices/system/node/node0/cpulist", "0-7"),
        ("sys/devices/system/node/node1/cpulist", "8-15"),
        ("sys/fs/cgroup/system/cpu.max", "max 100000"),
        ("sys/fs/cgroup/system/fanfare/cpu.max", "max 100000"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
    ] {
        tree.set(path, text);
    }
    limits(&tree, "1048576", "unlimited");
    for core in 0..8 {
        cores_of(&tree, core, "performance", "1");
    }
    card(&tree);
    tree
}

/// The same machine with everything that can be wrong with it.
pub(crate) fn bad() -> Tree {
    let tree = good();
    for (path, text) in [
        ("proc/cmdline", "quiet mitigations=off"),
        ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor sse2"),
        ("proc/self/status", "Name:\tfanfare\nSeccomp:\t0\nCpus_allowed_list:\t1-8"),
        ("proc/meminfo", "MemTotal:       65536000 kB\nSwapTotal:       2097152 kB"),
        ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/swap\tfile\t2097152\t0\t-2"),
        ("proc/stat", "cpu  100 0 100 700 0 0 0 100 0 0"),
        ("proc/77/comm", "irqbalance"),
        ("proc/sys/fs/file-max", "1000"),
        ("proc/sys/fs/nr_open", "1024"),
        ("proc/sys/kernel/io_uring_disabled", "2"),
        ("proc/sys/kernel/osrelease", "5.4.0-42-generic"),
        ("proc/sys/net/core/busy_poll", "50"),
        ("proc/sys/net/core/busy_read", "50"),
        ("proc/sys/net/core/somaxconn", "128"),
        ("proc/sys/net/core/wmem_max", "212992"),
        ("proc/sys/net/ipv4/ip_local_port_range", "50000\t60999"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512"),
        ("proc/sys/net/ipv4/tcp_mem", "1000\t2000\t3000"),
        ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t524288"),
        ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
        ("proc/sys/net/ipv4/tcp_syncookies", "0"),
        ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t524288"),
        ("proc/sys/net/netfilter/nf_conntrack_count", "300"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "500"),
        ("proc/sys/vm/nr_hugepages", "128"),
        ("proc/sys/vm/zone_reclaim_mode", "1"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet"),
        ("sys/devices/system/cpu/isolated", ""),
        ("sys/devices/system/cpu/nohz_full", ""),
        ("sys/devices/system/cpu/online", "0-8"),
        ("sys/devices/system/cpu/smt/active", "1"),
        ("sys/devices/system/cpu/vulnerabilities/meltdown", "Vulnerable"),
        ("sys/fs/cgroup/system/cpu.max", "150000 100000"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
    ] {
        tree.set(path, text);
    }
    limits(&tree, "1024", "1048576");
    for core in 0..9 {
        cores_of(&tree, core, "powersave", "0");
    }
    for queue in 0..QUEUES {
        let folder = format!("sys/class/net/eth0/queues/{{}}-{queue}");
        // Wrong for eight cores, and for seven.
        let spread = if queue == 0 { "000" } else { "fff" };
        tree.set(&format!("{}/rps_cpus", folder.replace("{}", "rx")), spread);
        tree.set(&format!("{}/xps_cpus", folder.replace("{}", "tx")), "000");
        tree.set(&format!("proc/irq/{}/smp_affinity_list", 40 + queue), "0-8");
    }
    tree
}

/// A good host seen from a container whose filter forbids io_uring; it has no card.
pub(crate) fn container() -> Tree {
    let tree = good();
    tree.set("proc/self/status", "Name:\tfanfare\nSeccomp:\t2\nCpus_allowed_list:\t1-7");
    tree.set("proc/net/route", "Iface\tDestination\tGateway");
    limits(&tree, "1048576", "8388608");
    tree
}

const QUEUES: usize = 7;

fn limits(tree: &Tree, descriptors: &str, locked: &str) {
    let lines = [("Max open files", descriptors, "files"), ("Max locked memory", locked, "bytes")];
    let line = |(name, hard, unit): (&str, &str, &str)| {
        format!("{name:<25} {:<20} {hard:<20} {unit}", "1024")
    };
    tree.set("proc/self/limits", &lines.map(line).join("\n"));
}

fn cores_of(tree: &Tree, core: usize, governor: &str, deep_is_off: &str) {
    let folder = format!("sys/devices/system/cpu/cpu{core}");
    tree.set(&format!("{folder}/cpufreq/scaling_governor"), governor);
    for (state, latency, disable) in [(0, "0", "0"), (1, "2", "0"), (2, "133", deep_is_off)] {
        tree.set(&format!("{folder}/cpuidle/state{state}/latency"), latency);
        tree.set(&format!("{folder}/cpuidle/state{state}/disable"), disable);
    }
}

/// A card on a bus, as drivers of 100G cards name their interrupts, and a second one beside it.
fn card(tree: &Tree) {
    let device = "sys/devices/pci0000:3a/0000:3b:00.0";
    tree.set(&format!("{device}/numa_node"), "0");
    tree.set("sys/class/net/eth0/mtu", "1500");
    tree.set("sys/class/net/eth01/mtu", "1500");
    let link = tree.0.join("sys/class/net/eth0/device");
    symlink(Path::new("../../../devices/pci0000:3a/0000:3b:00.0"), link).unwrap();
    let mut table = "            CPU0       CPU1\n  8:  0  0  IO-APIC  8-edge  rtc0\n".to_owned();
    table += " 39:  1  0  IR-PCI-MSIX  0-edge  mlx5_async0@pci:0000:3b:00.0\n";
    tree.set("proc/irq/39/smp_affinity_list", "0-7");
    for queue in 0..QUEUES {
        let folder = format!("sys/class/net/eth0/queues/{{}}-{queue}");
        tree.set(&format!("{}/rps_cpus", folder.replace("{}", "rx")), "00");
        let mask = format!("{:02x}", 2 << queue);
        tree.set(&format!("{}/xps_cpus", folder.replace("{}", "tx")), &mask);
        let number = 40 + queue;
        let name = format!("mlx5_comp{queue}@pci:0000:3b:00.0");
        table += &format!(" {number}:  1  0  IR-PCI-MSIX  {queue}-edge  {name}\n");
        tree.set(&format!("proc/irq/{number}/smp_affinity_list"), &(queue + 1).to_string());
    }
    table += " 60:  1  0  IR-PCI-MSIX  1-edge  eth01-TxRx-0\nNMI:  0  0  Non-maskable interrupts";
    tree.set("proc/irq/60/smp_affinity_list", "0-7");
    tree.set("proc/interrupts", &table);
}
