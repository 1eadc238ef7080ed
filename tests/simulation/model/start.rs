//! The judge's part in the start of subscriptions: places to go on from, and recoveries.
//!
//! Not here: what a recovery must bring ([`super::recovery`]). Invariant: a notice is of a request
//! that was answered, and of one that has not ended.

use serde_json::Value;

use super::history::History;
use super::ledger::{Receipt, State};
use super::recovery::{Recovery, Start};
use super::terms::Policy;
use super::{Judge, texts};

impl Judge {
    /// The log went past the client's place before it had come to it: nobody counted what is lost.
    /// Newest values are kept, also those of a channel that has other events as well.
    pub(super) fn overrun(&mut self, receipt: &Receipt, history: &History) {
        self.open_to(receipt.to, history);
        let gone = history.may_be_overwritten(receipt.from, self.setup.log_bytes);
        assert!(gone, "{}: nothing was overwritten of {receipt:?}", self.name);
        for seq in receipt.from.max(self.ledger.base() + 1)..=receipt.to {
            let State::Open(number) = self.ledger.state(seq) else { continue };
            let is_kept = self.ledger.terms(number).policy == Policy::Latest;
            if !is_kept && receipt.covers(seq, history.name(seq)) {
                self.ledger.set(seq, State::Dropped(0));
            }
        }
        self.totals.overruns += 1;
    }

    /// Checks what an answer says of the place that the client wanted to go on from, and returns
    /// why it was not there.
    pub(super) fn check_place(
        &mut self,
        start: Start,
        seq: u64,
        is_first: bool,
        answer: &Value,
        history: &History,
    ) -> Option<String> {
        let good = answer["result"].as_array().into_iter().flatten();
        let whys: Vec<_> = good
            .filter(|result| result["seq"].is_u64())
            .map(|result| result["why"].as_str())
            .collect();
        let why = whys[0];
        assert!(whys.iter().all(|other| *other == why), "one place, one outcome: {answer}");
        let mut has = 0;
        if let Some((is_epoch, place)) = start.resume {
            let name = &self.name;
            match (is_epoch, why) {
                (false, Some("epoch")) => {}
                (true, Some("ahead")) => assert!(place > seq, "{name}: {answer}"),
                (true, Some("too_old")) => {
                    let gone = history.may_be_overwritten(place + 1, self.setup.log_bytes);
                    assert!(gone, "{name}: {place} is still in the log: {answer}");
                }
                (true, Some("expired")) => assert!(self.setup.fails_back, "{name}: {answer}"),
                (true, None) => has = if place > seq { place } else { 0 },
                other => panic!("{name}: place {place}, {other:?}: {answer}"),
            }
        }
        self.totals.ahead += u64::from(is_first && has > 0);
        let before = self.ahead;
        self.ahead = if is_first { has } else { before.min(has) };
        if self.ahead > seq {
            self.ledger.waited.fall(); // It waits until the shard is there.
        }
        if self.ahead < before {
            // What it has behind the boundary comes again, whatever a heartbeat has said.
            self.ledger.proven = self.ledger.proven.min(seq);
        }
        self.open_to(self.ahead.max(self.ledger.opened()), history);
        why.map(str::to_owned)
    }

    /// What was to be read back for a recovery cannot be had, from where the receipt begins; false
    /// when it says that of no recovery.
    pub(super) fn lapse(&mut self, receipt: &Receipt, history: &History) -> bool {
        let active = Recovery::active(&mut self.recoveries);
        let Some(recovery) = active.filter(|recovery| recovery.may_lapse(receipt)) else {
            return false;
        };
        assert!(self.setup.fails_back, "{}: everything can be read back", self.name);
        let (set, rules) = (&mut self.set, &self.setup.rules);
        recovery.lapse(receipt, history, |channel| set.terms(channel, rules, history));
        self.totals.receipts_of_recoveries += 1;
        self.totals.lapsed += u64::from(recovery.is_turned);
        true
    }

    /// The recovery whose frames come now.
    pub(super) fn active(&mut self) -> Option<&mut Recovery> {
        Recovery::active(&mut self.recoveries)
    }

    pub(super) fn recovery(&mut self, kind: &str, value: &Value, seq: u64, history: &History) {
        let patterns = texts(&value["channels"]);
        let (is_begin, is_snapshot) = (kind.ends_with("begin"), kind.starts_with("snapshot"));
        let req_id = value["req_id"].as_u64();
        let at = self.recoveries.iter().position(|recovery| Some(recovery.req_id) == req_id);
        let at = at.unwrap_or_else(|| panic!("{}: nothing to {kind}: {value}", self.name));
        let recovery = &mut self.recoveries[at];
        assert!(is_begin || recovery.has_begun, "{}: nothing to {kind}: {value}", self.name);
        if is_begin && recovery.has_begun {
            let may_turn = self.setup.fails_back && is_snapshot;
            assert!(may_turn, "{}: begins twice: {value}", self.name);
            recovery.turn();
        }
        recovery.check_notice(&patterns, is_snapshot);
        if is_begin {
            assert_eq!(recovery.boundary, seq, "{}: {value}", self.name);
            recovery.has_begun = true;
            self.has_recovered = true;
            self.ledger.waited.fall();
            return;
        }
        self.open_to(seq, history);
        let recovery = self.recoveries.remove(at);
        self.ledger.left_out.extend(recovery.left_out(history));
        let finished = self.named(|judge| recovery.finish(seq, &judge.ledger, history));
        let totals = &mut self.totals;
        totals.snapshots += u64::from(finished.is_snapshot);
        totals.snapshots_replaced += u64::from(finished.replaced);
        totals.replays += u64::from(!finished.is_snapshot);
        totals.replays_missed += finished.missed;
    }
}
