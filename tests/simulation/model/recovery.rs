//! What must come between a subscription and its first live event: a snapshot, or a replay.
//!
//! Worked out from the answer's boundary and the list of events: of a snapshot what counts at the
//! boundary, of a replay everything after the client's place. What does not come must be excused:
//! by something newer that replaced it, by a receipt, or because the client wants it no more. Not
//! here: live events ([`super::ledger`]). Invariant: an expected event comes at most once.

use std::collections::BTreeMap;

use super::history::History;
use super::ledger::{Ledger, Receipt, State};
use super::terms::{Terms, matches};

/// Where a client wants its subscription to begin.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start {
    pub(crate) snapshot: bool,
    /// Whether the epoch is the server's, and the last event that the client has.
    pub(crate) resume: Option<(bool, u64)>,
}

/// What a client is still to get of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It must come, or a receipt counts it.
    Must,
    /// The same, or a newer one of its slot.
    Newest,
    /// It may come: its channel was unsubscribed.
    May,
    Came,
}

/// A recovery that was asked for.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Of the request.
    pub(super) req_id: u64,
    /// The answer's `seq`.
    pub(super) boundary: u64,
    patterns: Vec<String>,
    pub(super) is_snapshot: bool,
    /// A replay ended before its end, and a snapshot takes the place of the rest.
    pub(super) is_turned: bool,
    /// From here on a replay has ended without a snapshot: its client came in anew behind it.
    lapsed_from: Option<u64>,
    /// A receipt that begins it, if something is lost: what the client has, and the cause.
    lost: Option<(u64, String)>,
    pub(super) has_begun: bool,
    /// A snapshot sends nothing up to here.
    since: u64,
    needs: BTreeMap<u64, Need>,
    last: u64,
    receipts: Vec<Receipt>,
    /// Receipts that name no number.
    uncounted: Vec<Receipt>,
}

impl Recovery {
    /// What `start` leads to, as the answer says; `terms` are those of each channel.
    pub(super) fn new(
        req_id: u64,
        start: Start,
        why: Option<&str>,
        boundary: u64,
        patterns: Vec<String>,
        history: &History,
        mut terms: impl FnMut(usize) -> Option<Terms>,
    ) -> Option<Self> {
        if !start.snapshot && start.resume.is_none() {
            return None;
        }
        let place = start.resume.map(|(_, seq)| seq);
        let since = if matches!(why, Some("too_old" | "expired")) { place.unwrap_or(0) } else { 0 };
        let is_replay = place.is_some() && why.is_none();
        let mut needs = BTreeMap::new();
        for (number, channel) in history.channels.iter().enumerate() {
            let Some(terms) = terms(number) else { continue };
            if !patterns.iter().any(|pattern| matches(pattern, &channel.name)) {
                continue;
            }
            if is_replay {
                let from = place.unwrap_or(0).min(boundary);
                for seq in (from + 1..=boundary).filter(|&seq| history.event(seq).channel == number)
                {
                    let latest = terms.conflates_events(history.event(seq).key.is_some());
                    needs.insert(seq, if latest { Need::Newest } else { Need::Must });
                }
            } else if start.snapshot {
                let conflates = |keyed| terms.conflates_events(keyed);
                let counting = history.counting(number, boundary, conflates);
                let new = counting.into_iter().filter(|&seq| seq > since);
                needs.extend(new.map(|seq| (seq, Need::Newest)));
            }
        }
        Some(Self {
            req_id,
            boundary,
            patterns,
            is_snapshot: !is_replay && start.snapshot,
            is_turned: false,
            lapsed_from: None,
            lost: why.map(|why| (since, why.to_owned())),
            has_begun: false,
            since,
            needs,
            last: 0,
            receipts: Vec::new(),
            uncounted: Vec::new(),
        })
    }

    /// The one whose frames come now.
    pub(super) fn active(all: &mut [Self]) -> Option<&mut Self> {
        all.iter_mut().rfind(|recovery| recovery.has_begun)
    }

    pub(super) fn check_notice(&self, patterns: &[String], is_snapshot: bool) {
        assert_eq!((&*self.patterns, self.is_snapshot), (patterns, is_snapshot), "of {self:?}");
    }

    /// The client wants nothing of these channels any more.
    pub(super) fn unsubscribe(&mut self, history: &History, wants: impl Fn(usize) -> bool) {
        for (seq, need) in &mut self.needs {
            if *need != Need::Came && !wants(history.event(*seq).channel) {
                *need = Need::May;
            }
        }
    }

    /// Another set was asked for: a snapshot that has not begun is sent on its terms.
    pub(super) fn adopt(
        &mut self,
        history: &History,
        mut terms: impl FnMut(usize) -> Option<Terms>,
    ) {
        if self.has_begun || !self.is_snapshot {
            return;
        }
        for (number, channel) in history.channels.iter().enumerate() {
            let is_asked_for = self.patterns.iter().any(|pattern| matches(pattern, &channel.name));
            let Some(terms) = terms(number).filter(|_| is_asked_for) else { continue };
            let conflates = |keyed| terms.conflates_events(keyed);
            let counting = history.counting(number, self.boundary, conflates);
            for &seq in counting.iter().filter(|&&seq| seq > self.since) {
                self.needs.entry(seq).or_insert(Need::May);
            }
            for (seq, need) in &mut self.needs {
                let is_of_it = history.event(*seq).channel == number;
                if is_of_it && *need != Need::Came && !counting.contains(seq) {
                    *need = Need::May;
                }
            }
        }
    }

    /// A snapshot takes the place of what a replay has not brought.
    pub(super) fn turn(&mut self) {
        assert!(!self.is_turned && !self.is_snapshot, "a replay turns once: {self:?}");
        (self.is_turned, self.is_snapshot) = (true, true);
    }

    /// Whether a receipt of what cannot be read back is this one's, and not of a place that was
    /// lost before it began.
    pub(super) fn may_lapse(&self, receipt: &Receipt) -> bool {
        self.lost.is_none() && receipt.to <= self.boundary
    }

    /// The rest cannot be read back, from where the receipt begins: of a replay that has turned
    /// only what counts at the boundary comes, of another one nothing.
    pub(super) fn lapse(
        &mut self,
        receipt: &Receipt,
        history: &History,
        mut terms: impl FnMut(usize) -> Option<Terms>,
    ) {
        assert!(self.is_turned || !self.is_snapshot, "{receipt:?} within {self:?}");
        assert_eq!(receipt.to, self.boundary, "{receipt:?}");
        if !self.is_turned {
            self.uncounted.push(receipt.clone());
            self.lapsed_from = Some(receipt.from);
            return;
        }
        self.since = receipt.from - 1;
        assert!(self.since >= self.last, "{} came, then {receipt:?}", self.last);
        for (number, channel) in history.channels.iter().enumerate() {
            let Some(terms) = terms(number) else { continue };
            let conflates = |keyed| terms.conflates_events(keyed);
            let counting = history.counting(number, self.boundary, conflates);
            let left = self.needs.range_mut(receipt.from..);
            let left = left.filter(|(_, need)| **need != Need::May);
            for (seq, need) in left.filter(|(seq, _)| history.event(**seq).channel == number) {
                // What has no key counts where it conflates: then, and by what was asked since.
                let event = history.event(*seq);
                let counts_always = event.key.is_some() || event.book || *need == Need::Newest;
                let counts = counting.contains(seq) && counts_always;
                assert!(
                    counts || *need != Need::Must || receipt.covers(*seq, &channel.name),
                    "{} does not come, and is not in {receipt:?}",
                    history.describe(*seq)
                );
                *need = if counts { Need::Newest } else { Need::May };
            }
        }
    }

    /// Takes a frame.
    pub(super) fn deliver(&mut self, seq: u64, history: &History) {
        let what = || history.describe(seq);
        let Some(need) = self.needs.get_mut(&seq) else {
            panic!("{} does not belong into the recovery of {:?}", what(), self.patterns);
        };
        assert_ne!(*need, Need::Came, "{}: no repeats, it came already", what());
        *need = Need::Came;
        if self.is_snapshot {
            let slot = history.event(seq).slot;
            let came = self.needs.iter().filter(|(_, need)| **need == Need::Came);
            let later = came.map(|(&seq, _)| seq).filter(|&s| s > seq);
            let is_early = later.into_iter().any(|seq| history.event(seq).slot == slot);
            assert!(!is_early, "{} after a later one of its slot", what());
        } else {
            assert!(seq > self.last, "{} after {}: a replay is in order", what(), self.last);
        }
        self.last = seq;
    }

    /// Of a replay, the events of books that were to come and have not, and whether they might
    /// give way to newer ones: what follows them is of no use before the book's next snapshot.
    pub(super) fn left_out(&self, history: &History) -> impl Iterator<Item = (u64, bool)> {
        let missing = self.needs.iter().filter(|_| !self.is_snapshot);
        let missing = missing.filter(|(_, need)| matches!(need, Need::Must | Need::Newest));
        let missing = missing.map(|(&seq, need)| (seq, *need == Need::Newest));
        let lapsed_from = self.lapsed_from.unwrap_or(u64::MAX);
        missing.filter(move |&(seq, _)| history.event(seq).book && seq < lapsed_from)
    }

    /// What has not come, in order.
    pub(super) fn missing(&self) -> impl Iterator<Item = u64> {
        let missing = self.needs.iter().filter(|(_, need)| **need != Need::Came);
        missing.map(|(&seq, _)| seq)
    }

    /// Takes a receipt if it is one of this recovery's.
    pub(super) fn receipt(&mut self, receipt: &Receipt, cause: &str, missed: Option<u64>) -> bool {
        if receipt.to > self.boundary {
            return false;
        }
        match (cause, missed) {
            ("epoch" | "too_old" | "expired" | "ahead", None) => {
                let (since, expected) = self.lost.take().expect("a receipt of a lost place");
                assert_eq!((receipt.from, receipt.to), (since + 1, self.boundary), "{receipt:?}");
                assert_eq!(cause, expected, "{receipt:?}");
            }
            ("forgotten" | "slow", None) => self.uncounted.push(receipt.clone()),
            (_, Some(_)) => self.receipts.push(receipt.clone()),
            (_, None) => panic!("a receipt without a number: {cause}, {receipt:?}"),
        }
        true
    }

    /// The end's notice says that everything up to `end` is there.
    pub(super) fn finish(self, end: u64, ledger: &Ledger, history: &History) -> Finished {
        assert!(end >= self.boundary, "an end at {end} before the boundary {}", self.boundary);
        assert!(self.is_snapshot || end == self.boundary, "a replay ends at its boundary");
        let (mut must, mut may, mut replaced) = (0, 0, false);
        for (&seq, &need) in self.needs.iter().filter(|(_, need)| **need != Need::Came) {
            let name = history.name(seq);
            // Where nothing is kept, a book begins anew, or the connection ends.
            let is_forgotten = ledger.forgets && history.event(seq).book && !self.is_snapshot;
            if need == Need::May
                || is_forgotten
                || self.uncounted.iter().any(|r| r.covers(seq, name))
            {
                may += 1;
                continue;
            }
            let is_counted = |r: &Receipt| (r.from, r.to, r.missed) == (seq, seq, 1);
            if self.is_snapshot && self.receipts.iter().any(is_counted) {
                must += 1;
                continue;
            }
            let newer = history.replacements(seq);
            if need == Need::Newest && !newer.is_empty() {
                may += u64::from(!self.is_snapshot);
                if self.is_snapshot && newer.iter().all(|&seq| seq > self.boundary) {
                    replaced = true;
                    self.check_replaced(seq, &newer, end, ledger, history);
                }
                continue;
            }
            let covered = self.receipts.iter().any(|receipt| receipt.covers(seq, name));
            assert!(covered, "{} was never sent: {self:?}", history.describe(seq));
            must += 1;
        }
        let counted: u64 = self.receipts.iter().map(|receipt| receipt.missed).sum();
        assert!(
            (must..=must + may).contains(&counted),
            "receipts count {counted} events, {must} (or {may} more) are missing: {self:?}"
        );
        Finished { is_snapshot: self.is_snapshot, replaced, missed: counted }
    }

    /// What stands for a value that was replaced has come before the end, or is accounted for.
    fn check_replaced(
        &self,
        seq: u64,
        newer: &[u64],
        end: u64,
        ledger: &Ledger,
        history: &History,
    ) {
        let what = || history.describe(seq);
        if ledger.forgets && newer.iter().any(|&seq| history.event(seq).book) {
            return; // Where nothing is kept, the book begins anew, or the connection ends.
        }
        assert!(
            end > self.boundary,
            "{} was never sent, and the end says all was: {self:?}",
            what()
        );
        let is_accounted = |&seq: &u64| {
            let is_sampled_or_came = match ledger.state(seq) {
                State::Open(number) => ledger.terms(number).interval_ms.is_some(),
                _ => true,
            };
            let name = history.name(seq);
            is_sampled_or_came || ledger.receipts.iter().any(|receipt| receipt.covers(seq, name))
        };
        // A receipt says that a book is out of date, and the end that all is there: not before it
        // has begun anew, if it is wanted still.
        let has_begun = |&seq: &u64| !matches!(ledger.state(seq), State::Open(_));
        let mut before = newer.iter().filter(|&&seq| seq <= end.min(ledger.opened()));
        assert!(
            !history.event(newer[0]).book
                || ledger.may_end_or_conflate(self.boundary, seq, history)
                || before.clone().any(has_begun),
            "{} was never sent, nor by {end} one of {newer:?}: {self:?}",
            what()
        );
        // What is conflated may give way to what comes behind the end.
        let is_newer = newer.iter().any(|&seq| seq > end);
        let is_there = is_newer || before.any(is_accounted);
        assert!(is_there, "{} was never sent, nor what replaced it by {end}: {self:?}", what());
    }
}

/// What a recovery came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    pub(super) is_snapshot: bool,
    pub(super) replaced: bool,
    pub(super) missed: u64,
}
