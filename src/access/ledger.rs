//! How many connections each identity has open, over all cores.
//!
//! Counted when a connection begins and ends, never while it lives, in a map without locks. Not
//! here: what follows from a limit that is reached. Invariant: a permit is counted until it is
//! dropped, and an identity without one takes no memory.

use std::hash::Hash;
use std::sync::Arc;

use papaya::{Compute, HashMap, Operation};

/// Open connections by whose they are.
#[derive(Debug)]
pub struct Ledger<I: Hash + Eq> {
    open: HashMap<I, u32>,
}

impl<I: Hash + Eq> Default for Ledger<I> {
    fn default() -> Self {
        Self { open: HashMap::new() }
    }
}

impl<I: Hash + Eq + Clone> Ledger<I> {
    /// Counts one more connection of `identity`; none when it has `max` already.
    #[must_use]
    pub fn admit(self: &Arc<Self>, identity: I, max: u32) -> Option<Permit<I>> {
        let open = self.open.pin();
        let counted = open.compute(identity.clone(), |entry| match entry {
            Some((_, &open)) if open >= max => Operation::Abort(()),
            Some((_, &open)) => Operation::Insert(open + 1),
            None if max == 0 => Operation::Abort(()),
            None => Operation::Insert(1),
        });
        let is_counted = !matches!(counted, Compute::Aborted(()));
        is_counted.then(|| Permit { ledger: Arc::clone(self), identity })
    }

    /// Open connections of `identity`.
    #[must_use]
    pub fn open(&self, identity: &I) -> u32 {
        self.open.pin().get(identity).copied().unwrap_or(0)
    }

    /// Identities that have an open connection.
    #[must_use]
    pub fn identities(&self) -> usize {
        self.open.len()
    }
}

/// One connection that is counted until this is dropped.
#[derive(Debug)]
pub struct Permit<I: Hash + Eq + Clone> {
    ledger: Arc<Ledger<I>>,
    identity: I,
}

impl<I: Hash + Eq + Clone> Drop for Permit<I> {
    fn drop(&mut self) {
        self.ledger.open.pin().compute(self.identity.clone(), |entry| match entry {
            Some((_, &open)) if open > 1 => Operation::Insert(open - 1),
            Some(_) => Operation::Remove,
            None => Operation::Abort(()),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_limit_holds_over_all_threads_and_frees_what_was_dropped() {
        let ledger = Arc::new(Ledger::default());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2_000_u32 {
                        let permit = ledger.admit(round % 3, 2);
                        assert!(ledger.open(&(round % 3)) <= 2);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(ledger.identities(), 0, "nobody is left");
        let first = ledger.admit(7, 1);
        assert!(first.is_some() && ledger.admit(7, 1).is_none());
        drop(first);
        assert!(ledger.admit(7, 1).is_some());
        assert!(ledger.admit(8, 0).is_none());
    }
}
