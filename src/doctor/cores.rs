//! Rules about the cores: who else uses them, how fast they are, how soon they wake.

use crate::config::values::show_cores;

use super::judgement::{Verdict, zero};
use super::{Core, Facts, Judgement, Need, Rule};

pub(super) const RULES: [Rule; 8] = [
    Rule("isolated cores", "isolated-cores", isolation),
    Rule("frequency", "frequency", governor),
    Rule("idle states", "idle-states", idle),
    Rule("siblings", "siblings", siblings),
    Rule("net.core.busy_poll", "busy-polling", busy_poll),
    Rule("net.core.busy_read", "busy-polling", busy_read),
    Rule("mitigations", "mitigations", mitigations),
    Rule("stolen time", "the-cloud", stolen),
];

/// Fewer cores than that cannot be spared for one purpose each.
const CORES_TO_ISOLATE: usize = 4;

/// Microseconds that a core may take to wake: deeper states save power, and cost the first client
/// of an event more than the whole flush does.
const WAKE_US: u64 = 10;

/// Stolen time, in a hundred, from which on it shows in the slowest deliveries.
const STOLEN_PERCENT: f64 = 1.0;

fn isolation(facts: &Facts, _: Need) -> Judgement {
    let wanted = "isolcpus=, nohz_full= and rcu_nocbs= for the cores of the server";
    if facts.cores.len().max(facts.isolated.len()) < CORES_TO_ISOLATE {
        let found = format!("{} cores, none to spare", facts.cores.len());
        return Judgement::ok(found, "nothing on fewer than four cores");
    }
    let words = facts.command_line.split_whitespace();
    let calls_back = words.filter_map(|word| word.strip_prefix("rcu_nocbs")).next().is_some();
    let shown = |cores: &[usize]| {
        if cores.is_empty() { "none".to_owned() } else { show_cores(cores) }
    };
    let found = format!(
        "isolated {}, without a tick {}, rcu_nocbs {}",
        shown(&facts.isolated),
        shown(&facts.tickless),
        if calls_back { "set" } else { "not set" },
    );
    let good = !facts.isolated.is_empty() && !facts.tickless.is_empty() && calls_back;
    let all = facts.core_numbers();
    let own = show_cores(all.get(1..).unwrap_or_default());
    let cure = format!(
        "add `isolcpus=managed_irq,domain,{own} nohz_full={own} rcu_nocbs={own}` to the kernel's \
         command line, and restart"
    );
    Judgement::of(good, Verdict::Advice, found, wanted, cure)
}

fn governor(facts: &Facts, _: Need) -> Judgement {
    let wanted = "performance";
    let mut others: Vec<&str> = facts
        .cores
        .iter()
        .filter_map(|core| core.governor.as_deref())
        .filter(|governor| *governor != wanted)
        .collect();
    others.sort_unstable();
    others.dedup();
    let found = match (facts.cores.iter().any(|core| core.governor.is_some()), others.is_empty()) {
        (false, _) => "the kernel does not choose it here".to_owned(),
        (true, true) => wanted.to_owned(),
        (true, false) => others.join(", "),
    };
    let cure = "sudo cpupower frequency-set -g performance";
    Judgement::of(others.is_empty(), Verdict::Advice, found, wanted, cure)
}

fn idle(facts: &Facts, _: Need) -> Judgement {
    let wanted = format!("cores that wake within {WAKE_US} µs");
    let slowest = facts.cores.iter().filter_map(|core: &Core| core.wake_us_max).max();
    let found = slowest.map_or_else(
        || "the kernel does not choose them here".to_owned(),
        |slowest| format!("up to {slowest} µs"),
    );
    let cure = format!("sudo cpupower idle-set -D {WAKE_US}");
    let good = slowest.is_none_or(|slowest| slowest <= WAKE_US);
    Judgement::of(good, Verdict::Advice, found, wanted, cure)
}

fn siblings(facts: &Facts, _: Need) -> Judgement {
    let wanted = "one shard for each physical core";
    let Some(active) = facts.has_siblings else {
        return Judgement::unknown(wanted, "lscpu -e");
    };
    let found = if active { "two threads share a core" } else { "one thread for each core" };
    let cure = "give --cores one of each pair (lscpu -e), or: echo off | sudo tee \
                /sys/devices/system/cpu/smt/control";
    Judgement::of(!active, Verdict::Advice, found, wanted, cure)
}

fn busy_poll(facts: &Facts, _: Need) -> Judgement {
    zero(facts, "net.core.busy_poll", Verdict::Advice)
}

fn busy_read(facts: &Facts, _: Need) -> Judgement {
    zero(facts, "net.core.busy_read", Verdict::Advice)
}

fn mitigations(facts: &Facts, _: Need) -> Judgement {
    let wanted = "on";
    let off = facts.command_line.split_whitespace().any(|word| word == "mitigations=off");
    let (found, cure) = if off {
        (
            "off".to_owned(),
            "take `mitigations=off` out of the kernel's command line, unless the host runs \
             nothing of strangers",
        )
    } else if facts.vulnerable.is_empty() {
        ("on".to_owned(), "")
    } else {
        (format!("none for {}", facts.vulnerable.join(", ")), "update microcode and kernel")
    };
    let good = !off && facts.vulnerable.is_empty();
    Judgement::of(good, Verdict::Advice, found, wanted, cure)
}

fn stolen(facts: &Facts, _: Need) -> Judgement {
    let wanted = format!("at most {STOLEN_PERCENT} % of the time");
    if !facts.is_virtual {
        return Judgement::ok("not a virtual machine", wanted);
    }
    let Some(percent) = facts.stolen_percent else {
        return Judgement::unknown(wanted, "top (st)");
    };
    let found = format!("a virtual machine; others took {percent:.1} % since its start");
    let cure = "take a machine with cores of its own";
    Judgement::of(percent <= STOLEN_PERCENT, Verdict::Advice, found, wanted, cure)
}
