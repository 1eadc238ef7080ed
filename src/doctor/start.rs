//! Rules without which a server does not start, or refuses clients.

use crate::limits::{DESCRIPTORS_SPARE, LOCKED_BYTES_PER_EXECUTOR};

use super::judgement::{Verdict, at_least, set};
use super::{Facts, Judgement, Need, Rings, Rule};

pub(super) const RULES: [Rule; 7] = [
    Rule("kernel", "kernel-version", kernel),
    Rule("io_uring", "io_uring", rings),
    Rule("file descriptors", "file-descriptors", descriptors),
    Rule("fs.nr_open", "file-descriptors", descriptors_of_a_process),
    Rule("fs.file-max", "file-descriptors", descriptors_of_the_host),
    Rule("locked memory", "locked-memory", locked_memory),
    Rule("cpu quota", "containers", quota),
];

/// The kernel on which fanfare was run.
const KERNEL_TRIED: (u64, u64) = (6, 18);

/// The first kernel with everything that the executor asks of io_uring.
const KERNEL_LEAST: (u64, u64) = (5, 8);

fn kernel(facts: &Facts, _: Need) -> Judgement {
    let wanted = format!("{}.{} or newer", KERNEL_TRIED.0, KERNEL_TRIED.1);
    let release = facts.kernel.as_deref();
    let Some((text, version)) = release.and_then(|text| Some((text, version(text)?))) else {
        return Judgement::unknown(wanted, "uname -r");
    };
    let otherwise = if version < KERNEL_LEAST { Verdict::Wrong } else { Verdict::Advice };
    let cure = if version < KERNEL_LEAST {
        "install a newer kernel"
    } else {
        "older ones were not tried: run scripts/test on this one, or install a newer one"
    };
    Judgement::of(version >= KERNEL_TRIED, otherwise, text, wanted, cure)
}

fn version(release: &str) -> Option<(u64, u64)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn rings(facts: &Facts, _: Need) -> Judgement {
    let wanted = "allowed to this process";
    let disabled = facts.sysctl("kernel.io_uring_disabled").and_then(|values| values.first());
    let allow = set("kernel.io_uring_disabled", "0");
    match (&facts.live.rings, disabled) {
        (Rings::Given, _) => Judgement::ok("allowed", wanted),
        (Rings::NotTried, None | Some(0)) => {
            Judgement::unknown(wanted, "run fanfare doctor without --root")
        }
        (Rings::Refused(_) | Rings::NotTried, Some(value @ 1..)) => {
            let found = format!("forbidden: kernel.io_uring_disabled={value}");
            Judgement::of(false, Verdict::Wrong, found, wanted, allow)
        }
        (Rings::Refused(words), None | Some(0)) => {
            let (why, cure) = if facts.has_filter {
                (
                    "a filter of system calls",
                    "start the container with the profile that kernel-tuning.md makes: \
                     --security-opt seccomp=fanfare-seccomp.json",
                )
            } else {
                ("the kernel", "start a kernel that has io_uring (CONFIG_IO_URING)")
            };
            let found = format!("refused by {why}: {words}");
            Judgement::of(false, Verdict::Wrong, found, wanted, cure)
        }
    }
}

fn descriptors(facts: &Facts, need: Need) -> Judgement {
    let least = need.clients + DESCRIPTORS_SPARE;
    let wanted = format!("{least} or more, for {} clients", need.clients);
    let Some(allowed) = facts.descriptors else {
        return Judgement::unknown(wanted, "ulimit -Hn");
    };
    let cure = "ulimit -n 1048576 (systemd: LimitNOFILE=1048576)";
    Judgement::of(allowed >= least, Verdict::Wrong, amount(allowed), wanted, cure)
}

fn descriptors_of_a_process(facts: &Facts, need: Need) -> Judgement {
    at_least(facts, "fs.nr_open", need.clients + DESCRIPTORS_SPARE, Verdict::Wrong)
}

fn descriptors_of_the_host(facts: &Facts, need: Need) -> Judgement {
    at_least(facts, "fs.file-max", need.clients + DESCRIPTORS_SPARE, Verdict::Wrong)
}

fn locked_memory(facts: &Facts, _: Need) -> Judgement {
    let shards = facts.cores.len();
    // Two more: ingest, and the admin address if there is one.
    let bytes = (shards as u64 + 2) * LOCKED_BYTES_PER_EXECUTOR;
    let wanted =
        format!("{} KiB or more, for {shards} shards, ingest and an admin address", bytes >> 10);
    let Some(allowed) = facts.locked_bytes else {
        return Judgement::unknown(wanted, "ulimit -Hl");
    };
    let found =
        if allowed == u64::MAX { amount(allowed) } else { format!("{} KiB", allowed >> 10) };
    let cure = format!("ulimit -l {} (systemd: LimitMEMLOCK={bytes})", bytes >> 10);
    Judgement::of(allowed >= bytes, Verdict::Wrong, found, wanted, cure)
}

fn quota(facts: &Facts, _: Need) -> Judgement {
    let wanted = "no quota of CPU time: whole cores instead";
    let Some((quota, period)) = facts.quota else {
        return Judgement::ok("none", wanted);
    };
    let found = format!("{quota} of {period} µs: every shard stands still when it is used up");
    let cure = "start the container with --cpuset-cpus instead of --cpus (systemd: AllowedCPUs= \
                instead of CPUQuota=)";
    Judgement::of(false, Verdict::Advice, found, wanted, cure)
}

fn amount(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { limit.to_string() }
}
