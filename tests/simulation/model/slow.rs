//! The judge's part in the end of clients that are too slow.
//!
//! Not here: what they are told before ([`super::receipts`]). Invariant: nobody is closed whose
//! terms do not ask for that.

use super::Judge;
use super::history::History;
use super::recovery::Recovery;
use super::terms::Policy;

impl Judge {
    /// The server has ended the connection because the client was too slow for its terms.
    pub(crate) fn check_slow_consumer(&mut self, history: &History) {
        self.open_to(history.head(), history);
        self.totals.closes += 1;
        let mut open = self.ledger.open();
        let is_sampled =
            open.any(|(seq, terms)| terms.interval_ms.is_some() && history.event(seq).book);
        drop(open);
        // What waits for a recovery may be overwritten before its turn.
        let may_end = self.ledger.slow || self.ledger.waited || is_sampled || self.has_recovered;
        assert!(may_end, "{}: 4100 although its socket was never full", self.name);
        let log_bytes = self.setup.log_bytes;
        let justified = self.ledger.open().any(|(seq, terms)| {
            let event = history.event(seq);
            let age_ms = (history.now_ns - event.ns) / 1_000_000;
            let is_old = terms.max_age_ms.is_some_and(|max| age_ms >= max);
            let is_limited = is_old || terms.max_lag_bytes.is_some();
            let place = self.ledger.place_before(seq);
            let is_gone = history.may_be_overwritten(place, log_bytes);
            // A book may have to go on at its newest snapshot, which is a skip.
            let is_replaced = event.book && history.slots[event.slot].snapshot > seq;
            let is_over = is_limited || is_gone || is_replaced;
            (terms.policy == Policy::Close && is_over) || (event.book && is_gone)
        });
        let mut recovering = self.recoveries.iter().flat_map(Recovery::missing);
        let justified =
            justified || recovering.any(|seq| history.may_be_overwritten(seq, log_bytes));
        // An answer that it never got may have said more.
        assert!(
            justified || !self.asked.is_empty(),
            "{}: 4100, but nothing unsent has policy close and is over its limit or overwritten, \
             and no book is overwritten; set {:?}",
            self.name,
            self.set.patterns
        );
    }
}
