//! Rules about the clock: how long it takes to read, and whether it is right.

use super::judgement::Verdict;
use super::{Facts, Judgement, Need, Rule};

pub(super) const RULES: [Rule; 2] = [
    Rule("clock source", "clock", clock_source),
    Rule("time synchronisation", "clock", synchronized),
];

/// Sources that are read without a system call.
const FAST: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

fn clock_source(facts: &Facts, _: Need) -> Judgement {
    let wanted = FAST.join(", ");
    let file = "/sys/devices/system/clocksource/clocksource0";
    let Some(source) = facts.clock_source.as_deref() else {
        return Judgement::unknown(wanted, format!("cat {file}/current_clocksource"));
    };
    let cure = format!(
        "echo tsc | sudo tee {file}/current_clocksource, if available_clocksource beside it has it"
    );
    Judgement::of(FAST.contains(&source), Verdict::Advice, source, wanted, cure)
}

fn synchronized(facts: &Facts, _: Need) -> Judgement {
    let wanted = "synchronised";
    let Some(is_so) = facts.live.clock_synchronized else {
        return Judgement::unknown(wanted, "timedatectl");
    };
    let found = if is_so { wanted } else { "not synchronised" };
    let cure = "install and start chrony: ts_in, tokens and certificates go by this clock";
    Judgement::of(is_so, Verdict::Advice, found, wanted, cure)
}
