//! What a host should be like, and what this one is like: the rules of `kernel-tuning.md`.
//!
//! [`gather()`] reads procfs and sysfs into [`Facts`]; [`examine`] holds them against the rules.
//! Not here: what only system calls tell ([`Live`], asked by the shell), and how findings are
//! shown. Invariant: nothing is written anywhere, and what cannot be read is said to be unknown.

mod card;
mod connections;
mod cores;
mod facts;
mod gather;
mod judgement;
mod memory;
mod start;
mod time;

pub use facts::{Card, Core, Facts, Interrupt, Live, Rings};
pub use gather::{card_of_default_route, cards, gather};
pub use judgement::{Judgement, Verdict};

/// What the host is to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Clients at the same time.
    pub clients: u64,
}

/// One rule and what it says of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at; the name never changes.
    pub name: &'static str,
    /// The section of `kernel-tuning.md`.
    pub anchor: &'static str,
    /// What was found.
    pub judgement: Judgement,
}

/// One thing to look at: its name, its section of `kernel-tuning.md`, and what decides.
struct Rule(&'static str, &'static str, fn(&Facts, Need) -> Judgement);

/// Holds a host against every rule, in the order of `kernel-tuning.md`.
#[must_use]
pub fn examine(facts: &Facts, need: Need) -> Vec<Finding> {
    let rules: [&[Rule]; 6] = [
        &start::RULES,
        &connections::RULES,
        &card::RULES,
        &cores::RULES,
        &memory::RULES,
        &time::RULES,
    ];
    let found =
        |&Rule(name, anchor, judge): &Rule| Finding { name, anchor, judgement: judge(facts, need) };
    rules.into_iter().flatten().map(found).collect()
}
