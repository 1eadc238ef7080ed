//! Rules about the network card: queues, interrupts, and which core packets go to.

use crate::config::values::show_cores;

use super::judgement::Verdict;
use super::{Card, Facts, Interrupt, Judgement, Need, Rule};

pub(super) const RULES: [Rule; 7] = [
    Rule("card queues", "queues", queues),
    Rule("card interrupts", "interrupts", interrupts),
    Rule("irqbalance", "interrupts", balancing),
    Rule("receive steering", "packet-steering", receive_steering),
    Rule("transmit steering", "packet-steering", transmit_steering),
    Rule("card node", "numa", node),
    Rule("card offloads", "offloads", offloads),
];

/// Judges the card, if there is one.
fn with_card(facts: &Facts, wanted: &str, judge: impl FnOnce(&Card) -> Judgement) -> Judgement {
    facts.card.as_ref().map_or_else(
        || Judgement::unknown(wanted, "name the card: fanfare doctor --nic IFACE"),
        judge,
    )
}

fn queues(facts: &Facts, _: Need) -> Judgement {
    let cores = facts.cores.len();
    let wanted = format!("one for each of {cores} cores");
    with_card(facts, &wanted, |card| {
        let queues = card.receive_spread.len();
        let found = format!("{queues} at {}", card.name);
        let cure = format!(
            "sudo ethtool -L {} combined {cores} (ethtool -l shows how many it has)",
            card.name
        );
        Judgement::of(queues >= cores, Verdict::Advice, found, &wanted, cure)
    })
}

fn interrupts(facts: &Facts, _: Need) -> Judgement {
    let wanted = "each on one core, spread over the cores of the shards";
    with_card(facts, wanted, |card| {
        if card.interrupts.is_empty() {
            let found = format!("{} has none of its own", card.name);
            return Judgement::ok(found, wanted);
        }
        let served: Vec<_> = card.interrupts.iter().map(|interrupt| &*interrupt.cores).collect();
        let mut used: Vec<usize> = served.iter().flat_map(|cores| cores.iter().copied()).collect();
        used.sort_unstable();
        used.dedup();
        let spread = card.receive_spread.len().min(served.len()).min(facts.cores.len());
        let good = served.iter().all(|cores| cores.len() == 1) && used.len() >= spread;
        let show = |interrupt: &Interrupt| {
            format!("{}: {}", interrupt.number, show_cores(&interrupt.cores))
        };
        let shown: Vec<_> = card.interrupts.iter().take(4).map(show).collect();
        let more = if card.interrupts.len() > shown.len() { ", …" } else { "" };
        let found = format!("of {}, cores of {}{more}", card.name, shown.join(", "));
        Judgement::of(good, Verdict::Advice, found, wanted, tune(card))
    })
}

fn balancing(facts: &Facts, _: Need) -> Judgement {
    let wanted = "stopped, where interrupts are placed by hand";
    let found = if facts.balances_interrupts { "runs" } else { "does not run" };
    let cure = "sudo systemctl disable --now irqbalance";
    Judgement::of(!facts.balances_interrupts, Verdict::Advice, found, wanted, cure)
}

fn receive_steering(facts: &Facts, _: Need) -> Judgement {
    let wanted = "off with a queue for each core, on with fewer";
    with_card(facts, wanted, |card| {
        let few = card.receive_spread.len() < facts.cores.len();
        let good = card.receive_spread.iter().all(|&spread| spread == few);
        let count = card.receive_spread.iter().filter(|&&spread| spread).count();
        let found = format!("RPS on at {count} of {} queues", card.receive_spread.len());
        Judgement::of(good, Verdict::Advice, found, wanted, tune(card))
    })
}

fn transmit_steering(facts: &Facts, _: Need) -> Judgement {
    let wanted = "each queue with cores of its own, where there is more than one";
    with_card(facts, wanted, |card| {
        let queues = card.transmit_cores.len();
        if queues <= 1 {
            return Judgement::ok("one queue", wanted);
        }
        let known: Vec<_> = card.transmit_cores.iter().copied().flatten().collect();
        if known.is_empty() {
            let look = format!("cat /sys/class/net/{}/queues/tx-*/xps_cpus", card.name);
            return Judgement::unknown(wanted, look);
        }
        let count = known.iter().filter(|&&has_cores| has_cores).count();
        let found = format!("XPS set at {count} of {queues} queues");
        // Queues beyond the cores have nobody to serve.
        Judgement::of(
            count >= queues.min(facts.cores.len()),
            Verdict::Advice,
            found,
            wanted,
            tune(card),
        )
    })
}

fn node(facts: &Facts, _: Need) -> Judgement {
    let wanted = "all cores of the server on the node of the card";
    if facts.nodes.len() <= 1 {
        return Judgement::ok("one node", wanted);
    }
    with_card(facts, wanted, |card| {
        let look = format!("cat /sys/class/net/{}/device/numa_node; lscpu -e", card.name);
        let Some((node, near)) = card.node.and_then(|node| Some((node, facts.nodes.get(&node)?)))
        else {
            return Judgement::unknown(wanted, look);
        };
        let mut far = facts.core_numbers();
        far.retain(|core| !near.contains(core));
        let found = if far.is_empty() {
            format!("card and cores on node {node}")
        } else {
            format!("card on node {node}, cores {} are not", show_cores(&far))
        };
        let cure = format!("numactl --cpunodebind={node} --membind={node} fanfare serve …");
        Judgement::of(far.is_empty(), Verdict::Advice, found, wanted, cure)
    })
}

/// Neither procfs nor sysfs has them.
fn offloads(facts: &Facts, _: Need) -> Judgement {
    let wanted = "TSO, GSO and GRO on";
    with_card(facts, wanted, |card| Judgement::unknown(wanted, format!("ethtool -k {}", card.name)))
}

fn tune(card: &Card) -> String {
    format!("sudo scripts/tune.sh --apply --nic {}", card.name)
}
