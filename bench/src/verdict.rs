//! Whether a round counts.
//!
//! Not here: measuring what it depends on. Invariant: a reason names what was seen, and the bound.

use crate::clock::SECOND_NS;

/// How busy a CPU may be that must not be the limit.
const BUSY_MAX: f64 = 0.95;
/// How late the producer may write an event that nothing held up.
const LATE_NS_MAX: u64 = SECOND_NS / 100;
/// How much of the machine others may use.
const OTHERS_MAX: f64 = 0.03;
/// How far the clock may be set in a round.
const STEP_NS_MAX: i128 = 5_000_000;
/// So many others are named.
const NAMED_MAX: usize = 4;

/// What was seen in the measured part.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub server_busy: f64,
    pub load_busy: f64,
    pub late_max_ns: u64,
    /// Who else used CPU time, and how much of the machine's.
    pub others: Vec<(String, f64)>,
    pub clock_step_ns: i128,
    /// What broke.
    pub broken: Vec<String>,
}

/// Why the round does not count; nothing when it does.
#[must_use]
pub fn reasons(facts: &Facts) -> Vec<String> {
    let mut reasons = facts.broken.clone();
    if load_is_limit(facts.load_busy, facts.server_busy) {
        reasons.push(format!(
            "the load's CPUs were {:.0} % busy and the server's {:.0} %: the load may be the limit",
            facts.load_busy * 100.0,
            facts.server_busy * 100.0
        ));
    }
    if facts.late_max_ns > LATE_NS_MAX {
        let late_ms = facts.late_max_ns / 1_000_000;
        reasons.push(format!("the producer was {late_ms} ms late by itself (10 are allowed)"));
    }
    let others: f64 = facts.others.iter().map(|(_, share)| share).sum();
    if others > OTHERS_MAX {
        reasons.push(format!(
            "others used {:.1} % of the machine (3 are allowed): {}",
            others * 100.0,
            most(&facts.others)
        ));
    }
    if facts.clock_step_ns.abs() > STEP_NS_MAX {
        let step_ms = facts.clock_step_ns / 1_000_000;
        reasons.push(format!("the clock was set by {step_ms} ms"));
    }
    reasons
}

/// Whether the load generator, and not the server, had no more CPU.
#[must_use]
pub fn load_is_limit(load_busy: f64, server_busy: f64) -> bool {
    load_busy > BUSY_MAX && server_busy < BUSY_MAX
}

/// Those who used most, by name.
fn most(others: &[(String, f64)]) -> String {
    let mut others: Vec<_> = others.iter().filter(|(_, share)| *share >= 0.001).collect();
    others.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named = others.iter().take(NAMED_MAX);
    let named = named.map(|(name, share)| format!("{name} {:.1} %", share * 100.0));
    named.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_given_for_itself_alone() {
        let fine = Facts { server_busy: 0.99, load_busy: 0.96, ..Facts::default() };
        assert!(reasons(&fine).is_empty(), "a server that is full is what is measured");
        let others = [("shell", 0.01), ("compiler", 0.04), ("init", 0.0)];
        let others: Vec<_> = others.map(|(name, share)| (name.to_owned(), share)).into();
        for (facts, word) in [
            (Facts { load_busy: 0.96, server_busy: 0.5, ..fine.clone() }, "limit"),
            (Facts { late_max_ns: 11_000_000, ..fine.clone() }, "11 ms late"),
            (Facts { others: others.clone(), ..fine.clone() }, "5.0 % of the machine"),
            (Facts { others, ..fine.clone() }, "(3 are allowed): compiler 4.0 %, shell 1.0 %"),
            (Facts { clock_step_ns: -6_000_000, ..fine.clone() }, "-6 ms"),
            (Facts { broken: vec!["x".into()], ..fine }, "x"),
        ] {
            let found = reasons(&facts);
            assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
        }
    }
}
