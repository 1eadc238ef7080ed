//! The settlement: whether the receipts count exactly what never came.
//!
//! A receipt tells its channels, its range and how many of their events will never come, but not
//! which: a book's newest snapshot with its deltas, or events of other terms, may come after it.
//! So all receipts are settled together: each event that never came and that nothing supersedes is
//! counted by exactly one receipt that covers it, and each receipt counts as many as it says. That
//! is a flow from groups of events that the same receipts cover to receipts. Invariant: a
//! superseded event may be counted (its newer one came after the receipt), all others must be.

use std::collections::BTreeMap;

use super::history::History;
use super::ledger::{Ledger, State};

/// Events that the same receipts cover.
#[derive(Debug, Default)]
struct Group {
    /// Receipts by number.
    covering: Vec<usize>,
    /// Events that a receipt must count, and then those that one may count.
    must: u64,
    may: u64,
    /// Those of the latter that a newer one replaced.
    superseded: u64,
    /// One of those that must be counted.
    example: u64,
    /// How many of them each covering receipt counts.
    given: Vec<u64>,
}

/// Panics unless everything adds up. Of a client that left early events are still on their way:
/// then only what receipts count too much is found. Returns how many events were superseded.
pub(super) fn settle(ledger: &Ledger, history: &History, whole: bool) -> u64 {
    let mut groups = groups(ledger, history, whole);
    let mut left: Vec<u64> = ledger.receipts.iter().map(|receipt| receipt.missed).collect();
    for must in [true, false] {
        for at in 0..groups.len() {
            let count = if must { groups[at].must } else { groups[at].may };
            for _ in 0..count {
                let mut seen = vec![false; left.len()];
                if augment(&mut groups, &mut left, at, &mut seen) {
                    continue;
                }
                if must {
                    fail_uncounted(&groups[at], ledger, history);
                }
                break;
            }
        }
    }
    for (receipt, left) in ledger.receipts.iter().zip(&left) {
        assert_eq!(*left, 0, "a receipt is exact: {receipt:?} counts {left} too many");
    }
    let superseded = |group: &Group| {
        let given: u64 = group.given.iter().sum();
        group.superseded.saturating_sub(given - group.must)
    };
    if whole { groups.iter().map(superseded).sum() } else { 0 }
}

fn groups(ledger: &Ledger, history: &History, whole: bool) -> Vec<Group> {
    let mut groups: BTreeMap<Vec<usize>, Group> = BTreeMap::new();
    // By slot, from the newest event backwards: what may stand for older ones, any and a snapshot.
    let mut newer = vec![(false, false); history.slots.len()];
    for seq in (ledger.base() + 1..=ledger.opened()).rev() {
        let state = ledger.state(seq);
        if state == State::Unwanted {
            continue;
        }
        let event = history.event(seq);
        let newer = &mut newer[event.slot];
        let replaced = if event.book { newer.1 } else { newer.0 };
        *newer = (true, newer.1 || event.snapshot);
        let (must, receipts_max, why) = match state {
            State::Open(number) => {
                let terms = ledger.terms(number);
                let superseded = replaced && ledger.may_conflate(seq, event.book);
                (whole && !superseded, ledger.receipts.len(), Some((terms, replaced)))
            }
            State::Dropped(receipts) => (false, usize::from(receipts), None),
            State::Delivered | State::Unwanted => continue,
        };
        let name = history.name(seq);
        let covering: Vec<_> = (ledger.receipts[..receipts_max].iter().enumerate())
            .filter(|(_, receipt)| receipt.covers(seq, name))
            .map(|(number, _)| number)
            .collect();
        assert!(
            !must || !covering.is_empty(),
            "{} was never sent, and no receipt covers it (terms and whether it was replaced: \
             {why:?}; slow: {:?})",
            history.describe(seq),
            ledger.slow,
        );
        let group = groups.entry(covering).or_default();
        if must {
            group.must += 1;
            group.example = seq;
        } else {
            group.may += 1;
            group.superseded += u64::from(matches!(state, State::Open(_)));
        }
    }
    let with_covering = |(covering, group): (Vec<usize>, Group)| {
        let given = vec![0; covering.len()];
        Group { covering, given, ..group }
    };
    groups.into_iter().map(with_covering).collect()
}

/// Gives one more event of the group `at` to a receipt, moving others' where that makes room.
fn augment(groups: &mut [Group], left: &mut [u64], at: usize, seen: &mut [bool]) -> bool {
    for place in 0..groups[at].covering.len() {
        let receipt = groups[at].covering[place];
        if std::mem::replace(&mut seen[receipt], true) {
            continue;
        }
        let mut has_room = left[receipt] > 0;
        if has_room {
            left[receipt] -= 1;
        } else {
            for other in 0..groups.len() {
                let held = groups[other].covering.iter().position(|&number| number == receipt);
                let Some(held) = held.filter(|&held| groups[other].given[held] > 0) else {
                    continue;
                };
                if augment(groups, left, other, seen) {
                    groups[other].given[held] -= 1;
                    has_room = true;
                    break;
                }
            }
        }
        if has_room {
            groups[at].given[place] += 1;
            return true;
        }
    }
    false
}

fn fail_uncounted(group: &Group, ledger: &Ledger, history: &History) -> ! {
    let receipts: Vec<_> = group.covering.iter().map(|&at| &ledger.receipts[at]).collect();
    let State::Open(number) = ledger.state(group.example) else { unreachable!("must be counted") };
    panic!(
        "a receipt is exact: {} events as {} ({:?}) never came, and {receipts:?} count too few",
        group.must,
        history.describe(group.example),
        ledger.terms(number),
    );
}
