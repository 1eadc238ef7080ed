//! Rules about memory that is not the sockets'.

use super::judgement::{Verdict, mib, set, zero};
use super::{Facts, Judgement, Need, Rule};

pub(super) const RULES: [Rule; 4] = [
    Rule("huge pages", "huge-pages", huge_pages),
    Rule("vm.nr_hugepages", "huge-pages", reserved),
    Rule("vm.swappiness", "swap", swap),
    Rule("vm.zone_reclaim_mode", "numa", reclaim),
];

/// The kernel swaps out programs only when files no longer give way.
const SWAPPINESS: u64 = 10;

fn huge_pages(facts: &Facts, _: Need) -> Judgement {
    let wanted = "madvise or never";
    let Some(mode) = facts.huge_pages.as_deref() else {
        return Judgement::ok("not in this kernel", wanted);
    };
    let cure = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled";
    Judgement::of(mode != "always", Verdict::Advice, mode, wanted, cure)
}

fn reserved(facts: &Facts, _: Need) -> Judgement {
    zero(facts, "vm.nr_hugepages", Verdict::Advice)
}

fn swap(facts: &Facts, _: Need) -> Judgement {
    let wanted = format!("no swap, or {SWAPPINESS} at most");
    let Some(bytes) = facts.swap_bytes else {
        return Judgement::unknown(wanted, "swapon --show");
    };
    if bytes == 0 {
        return Judgement::ok("no swap", wanted);
    }
    let Some(&[value]) = facts.sysctl("vm.swappiness") else {
        return Judgement::unknown(wanted, "sysctl vm.swappiness");
    };
    let found = format!("{value}, with {} of swap", mib(bytes));
    let cure = set("vm.swappiness", &SWAPPINESS.to_string());
    Judgement::of(value <= SWAPPINESS, Verdict::Advice, found, wanted, cure)
}

fn reclaim(facts: &Facts, _: Need) -> Judgement {
    zero(facts, "vm.zone_reclaim_mode", Verdict::Advice)
}
