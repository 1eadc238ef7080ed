//! The judge's part in slow clients: when they are slow, and what it may come to.
//!
//! Not here: what they miss ([`super::receipts`]). Invariant: nothing ends whose terms do not ask
//! for that.

use serde_json::Value;

use super::history::History;
use super::recovery::Recovery;
use super::terms::{self, Policy, Terms, Wish};
use super::{Judge, Mischief};

impl Judge {
    /// Its socket took less than was offered.
    pub(crate) const fn be_slow(&mut self) {
        self.ledger.slow.fall();
    }

    /// Its socket has room, and the shard has nothing up to `head` that it was not sent.
    pub(crate) fn be_level(&mut self, head: u64) {
        self.ledger.slow.catch_up(head);
    }

    /// It has read up to where it was level, after so many ticks of the slowest tier.
    pub(crate) fn reach_level(&mut self, head: u64, ticks: u32) {
        let waits = self.waits_since.is_some_and(|since| ticks < since + 2);
        if self.recoveries.is_empty() && !waits && head >= self.ahead {
            self.waits_since = None;
            self.ledger.waited.catch_up(head);
        }
    }

    /// Whether its socket was ever full.
    pub(crate) const fn was_slow(&self) -> bool {
        self.ledger.slow.ever()
    }

    pub(super) fn notice(
        &mut self,
        value: &Value,
        receipt_before: Option<&str>,
        history: &History,
    ) {
        let seq = value["seq"].as_u64().expect("a seq");
        let lossless = self.setup.mischief == Some(Mischief::LoseReceipts);
        let name = &self.name;
        let may_end = self.was_slow() || self.setup.reads_back && self.has_recovered;
        assert!(may_end, "{name}: a notice although its socket was never full: {value}");
        self.totals.notices += 1;
        self.open_to(seq, history);
        let patterns = value["channels"].as_array().expect("channels").iter();
        let patterns: Vec<_> = patterns.map(|name| name.as_str().expect("a pattern")).collect();
        for &pattern in &patterns {
            let held = self.set.patterns.remove(pattern);
            assert!(held.is_some(), "{}: {pattern} was not subscribed: {value}", self.name);
            let may_end = (history.channels.iter())
                .filter(|channel| terms::matches(pattern, &channel.name))
                .any(|channel| self.ends(&channel.name, held.as_ref()));
            assert!(may_end, "{}: {pattern} has no policy unsubscribe: {value}", self.name);
        }
        let shadowed = patterns.iter().any(|pattern| {
            let matching = history
                .channels
                .iter()
                .zip(0..)
                .filter(|(channel, _)| terms::matches(pattern, &channel.name));
            let mut wanted = matching.map(|(_, at)| self.set.terms(at, &self.setup.rules, history));
            wanted.any(|terms| terms.is_some())
        });
        assert!(
            lossless || shadowed || receipt_before == value["cause"].as_str(),
            "{}: a notice follows the receipt of its cause, not {receipt_before:?}: {value}",
            self.name
        );
        self.change(seq, true, history);
    }

    /// Whether any channel has the policy `unsubscribe`.
    pub(super) fn may_end(&self) -> bool {
        let mut terms = (self.ledger.open()).map(|(_, terms)| terms.policy);
        terms.any(|policy| policy == Policy::Unsubscribe)
    }

    fn ends(&self, channel: &str, held: Option<&Wish>) -> bool {
        let rule = terms::rule(&self.setup.rules, channel);
        held.is_some_and(|wish| Terms::agree(wish, rule).policy == Policy::Unsubscribe)
    }

    /// Whether an event would give way if its client were behind as it was at some time.
    pub(super) fn may_once_have_given_way(
        &self,
        seq: u64,
        terms: Option<Terms>,
        history: &History,
    ) -> bool {
        let event = history.event(seq);
        let conflates = terms.is_some_and(|terms| terms.conflates_events(event.key.is_some()));
        let is_old = history.slots[event.slot].last > seq;
        self.ledger.was_behind() && conflates && is_old && !event.book
    }

    /// The server has ended the connection because the client was too slow for its terms.
    pub(crate) fn check_slow_consumer(&mut self, history: &History) {
        self.open_to(history.head(), history);
        self.totals.closes += 1;
        let mut open = self.ledger.open();
        let is_sampled =
            open.any(|(seq, terms)| terms.interval_ms.is_some() && history.event(seq).book);
        drop(open);
        // What waits for a recovery may be overwritten before its turn.
        let may_end = self.ledger.was_behind() || is_sampled;
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
        // What books go on from may not be there to be read back.
        let justified = justified || self.setup.fails_back && self.has_recovered;
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
