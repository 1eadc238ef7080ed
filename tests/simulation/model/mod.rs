//! What a client must have got, judged from the bytes it received and the list of events.
//!
//! Shares no code with the server: frames are taken apart here, texts are read with `serde_json`,
//! patterns are matched and terms are agreed by code of its own. The judge knows, beside the bytes,
//! what its client asked, when its socket was full, and the [`History`]. Invariant:
//! whatever is wrong panics, and the client's name is said.

mod behind;
mod history;
mod ledger;
mod receipts;
mod recovery;
mod slow;
mod start;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub(crate) use history::{Given, History, INTERVALS_MS};
use ledger::{Ledger, Receipt, State};
use recovery::Recovery;
pub(crate) use recovery::Start;
pub(crate) use terms::{Policy, Wish};
use terms::{Set, check_entry};

use crate::frames;
use crate::totals::Totals;

/// How the server under judgement was set up.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    pub(crate) rules: Vec<(String, Wish)>,
    pub(crate) log_bytes: usize,
    /// What the log has overwritten can be read back.
    pub(crate) reads_back: bool,
    /// Not always.
    pub(crate) fails_back: bool,
    /// It keeps hardly anything beside its log.
    pub(crate) forgets: bool,
    pub(crate) tier_moves: bool,
    /// What goes wrong with each frame of a kind, to show that it is seen.
    pub(crate) mischief: Option<Mischief>,
}

/// A fault of the server's, made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mischief {
    LoseData,
    RepeatData,
    /// Whoever was behind once gets no values that have a newer one.
    Conflate,
    LoseReceipts,
}

/// A request that changes the set.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Subscribe(Wish, Start),
    Unsubscribe,
}

#[derive(Deserialize)]
struct Data<'a> {
    channel: &'a str,
    r#type: &'a str,
    key: Option<String>,
    seq: u64,
    prev: u64,
    ts: Option<u64>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// One client's side of the story.
#[derive(Debug)]
pub(crate) struct Judge {
    name: Rc<str>,
    setup: Rc<Setup>,
    unparsed: Vec<u8>,
    set: Set,
    ledger: Ledger,
    asked: BTreeMap<u64, Asked>,
    welcomed: bool,
    /// Recoveries that were answered and have not ended, in order.
    recoveries: Vec<Recovery>,
    /// A recovery has begun.
    has_recovered: bool,
    /// Ticks of the slowest tier when a set took effect that may have to wait for one.
    waits_since: Option<u32>,
    /// Some set had terms that sample, whether anything came under them or not.
    samples: bool,
    /// It has everything up to here, which had not come to the shard when it subscribed.
    ahead: u64,
    /// The cause of the receipt, if that was the last message.
    receipt_before: Option<String>,
    pub(crate) totals: Totals,
    pub(crate) pongs: u64,
    /// Payloads of the server's pings, to be answered.
    pub(crate) pings: Vec<Vec<u8>>,
    /// It was told that the server drains.
    pub(crate) drained: bool,
    pub(crate) answers: u64,
    pub(crate) refused_for_rate: u64,
    /// Code of the server's close frame.
    pub(crate) closed: Option<u16>,
}

impl Judge {
    pub(crate) fn new(name: &str, setup: Rc<Setup>) -> Self {
        Self {
            name: name.into(),
            ledger: Ledger::new(setup.forgets),
            setup,
            unparsed: Vec::new(),
            set: Set::default(),
            asked: BTreeMap::new(),
            welcomed: false,
            recoveries: Vec::new(),
            has_recovered: false,
            waits_since: None,
            samples: false,
            ahead: 0,
            receipt_before: None,
            totals: Totals::default(),
            pongs: 0,
            pings: Vec::new(),
            drained: false,
            answers: 0,
            refused_for_rate: 0,
            closed: None,
        }
    }

    /// Its client has sent a request with this `req_id`.
    pub(crate) fn ask(&mut self, req_id: u64, asked: Asked) {
        self.asked.insert(req_id, asked);
    }

    /// Takes bytes from the server; panics at the first thing that is wrong.
    pub(crate) fn receive(&mut self, bytes: &[u8], history: &History) {
        self.unparsed.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.unparsed);
        let mut at = 0;
        while let Some((opcode, payload, len)) = frames::first(&all[at..]) {
            at += len;
            assert_eq!(self.closed, None, "{}: nothing follows a close frame", self.name);
            match opcode {
                1 => self.text(std::str::from_utf8(payload).expect("text is UTF-8"), history),
                8 => {
                    let code = payload.get(..2).map_or(1005, |c| u16::from_be_bytes([c[0], c[1]]));
                    self.closed = Some(code);
                    assert!(code != 1012 || self.drained, "{}: closed untold", self.name);
                    // What a client says here is never wrong (1002, 1007, 1009).
                    let is_reason = [1000, 1001, 1008, 1012, 4100, 4101].contains(&code);
                    assert!(is_reason, "{}: closed with {code}", self.name);
                    if code == 4100 {
                        self.check_slow_consumer(history);
                    }
                }
                9 => self.pings.push(payload.to_vec()),
                10 => self.pongs += 1,
                other => panic!("{}: unexpected opcode {other}", self.name),
            }
        }
        self.unparsed.extend_from_slice(&all[at..]);
    }

    /// Everything must be accounted for.
    pub(crate) fn finish(&mut self, history: &History) {
        assert!(self.unparsed.is_empty(), "{}: a frame was begun and not finished", self.name);
        self.open_to(history.head(), history);
        assert!(self.recoveries.is_empty(), "{}: {:?} has no end", self.name, self.recoveries);
        let superseded = self.named(|judge| receipts::settle(&judge.ledger, history, true));
        self.totals.superseded += superseded;
    }

    /// The client is gone before the end; its receipts must add up all the same.
    pub(crate) fn leave(&mut self, history: &History) {
        self.named(|judge| receipts::settle(&judge.ledger, history, false));
    }

    fn text(&mut self, text: &str, history: &History) {
        if let Some(data) = self.welcomed.then(|| serde_json::from_str(text).ok()).flatten() {
            self.receipt_before = None;
            self.data(&data, history);
            if self.setup.mischief == Some(Mischief::RepeatData) {
                self.data(&data, history);
            }
            return;
        }
        let value: Value = serde_json::from_str(text).expect("every text is JSON");
        let first = !std::mem::replace(&mut self.welcomed, true);
        assert_eq!(first, value["type"] == "welcome", "a welcome comes first, and once: {text}");
        let receipt_before = self.receipt_before.take();
        if value["channel"] == "control" {
            self.control(&value, receipt_before.as_deref(), history);
        } else {
            assert!(
                value["success"].is_boolean(),
                "{}: neither data nor answer: {text}",
                self.name
            );
            self.answer(&value, history);
        }
    }

    fn control(&mut self, value: &Value, receipt_before: Option<&str>, history: &History) {
        let seq = || value["seq"].as_u64().expect("a seq");
        match value["type"].as_str() {
            Some("welcome") => self.ledger.begin(seq()),
            Some(kind @ ("snapshot_begin" | "replay_begin" | "snapshot_end" | "replay_end")) => {
                self.recovery(kind, value, seq(), history);
            }
            // Of a replay that is read back: how far it has come.
            Some("heartbeat") if self.active().is_some_and(|active| !active.is_snapshot) => {
                let boundary = self.active().map(|active| active.boundary);
                assert!(boundary >= Some(seq()), "{}: behind its end: {value}", self.name);
            }
            Some("heartbeat") => {
                assert!(self.recoveries.is_empty(), "{}: nothing is under way", self.name);
                self.open_to(seq(), history);
                self.named(|judge| judge.ledger.prove(seq(), history));
            }
            Some("gap") if self.setup.mischief == Some(Mischief::LoseReceipts) => {}
            Some("gap") => self.gap(value, history),
            Some("unsubscribed") => self.notice(value, receipt_before, history),
            Some("tier") => self.tier(value, history),
            Some("drain") => {
                let ms = |name: &str| value[name].as_u64().expect("milliseconds");
                assert!(ms("retry_after_ms") <= ms("deadline_ms"), "{}: {value}", self.name);
                assert!(!std::mem::replace(&mut self.drained, true), "{}: told once", self.name);
            }
            other => panic!("{}: unknown control message {other:?}", self.name),
        }
    }

    fn gap(&mut self, value: &Value, history: &History) {
        let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{name}: {value}"));
        let (from, to) = (number("from"), number("to"));
        let cause = value["cause"].as_str().expect("a cause").to_owned();
        let channels = texts(&value["channels"]);
        let name = Rc::clone(&self.name);
        assert_eq!(value["recover"], recover(&cause), "{name}: {value}");
        let missed = value["missed"].as_u64();
        let receipt = Receipt { channels, from, to, missed: missed.unwrap_or(0) };
        let is_lapse = missed.is_none() && matches!(&*cause, "expired" | "too_old");
        if is_lapse && self.lapse(&receipt, history) {
            return;
        }
        if let Some(recovery) = self.active()
            && recovery.receipt(&receipt, &cause, missed)
        {
            self.totals.receipts_of_recoveries += 1;
            return;
        }
        if missed.is_none() && (cause == "slow" || is_lapse && self.setup.fails_back) {
            return self.overrun(&receipt, history);
        }
        let (channels, missed) = (&receipt.channels, number("missed"));
        // A sampled value can be lost within its interval, where the server keeps too little.
        // A set that takes effect later than it was asked for leaves books time to begin anew; what
        // waits until something was read back may be overwritten.
        let seqs = from..=to;
        let waited = cause == "snapshot"
            || self.setup.reads_back && self.has_recovered && self.ledger.waited.within(&seqs);
        let was_behind = self.ledger.slow.within(&seqs);
        let may_miss = was_behind || waited || (from, missed) == (to, 1) && cause == "slow";
        assert!(may_miss, "{name}: a receipt although its socket was not full: {value}");
        // With it the class of the book conflates, and so does what waited beside it.
        if cause == "snapshot" {
            self.ledger.waited.fall();
        }
        assert!(channels.is_sorted() && !channels.is_empty(), "{name}: names in order: {value}");
        assert!(from <= to && missed > 0, "{name}: a receipt is for something: {value}");
        self.open_to(to, history);
        self.check_candidates(&receipt, &cause, history);
        self.totals.count_receipt(&cause, missed);
        self.ledger.receipts.push(receipt);
        self.receipt_before = Some(cause);
    }

    /// Enough events that a receipt may count must be open when it comes, and for one of them the
    /// cause must hold.
    fn check_candidates(&self, receipt: &Receipt, cause: &str, history: &History) {
        // A pattern that ends by the limit of one of its channels ends for the others, too.
        let (mut count, mut caused) = (0, self.may_end());
        let mut named: Vec<_> = receipt.channels.iter().map(|name| (name, false)).collect();
        for seq in receipt.from.max(self.ledger.base() + 1)..=receipt.to {
            let State::Open(number) = self.ledger.state(seq) else { continue };
            let (terms, channel) = (self.ledger.terms(number), history.name(seq));
            // A book of which the client had nothing begins anew, without a skip.
            let is_kept = terms.policy == Policy::Close && !self.may_end() && cause != "snapshot";
            if is_kept || !receipt.covers(seq, channel) {
                continue;
            }
            count += 1;
            caused |= match cause {
                "slow" => history.may_be_overwritten(receipt.from, self.setup.log_bytes),
                "max_age" => {
                    let age_ms = (history.now_ns - history.event(seq).ns) / 1_000_000;
                    terms.max_age_ms.is_some_and(|max| age_ms >= max)
                }
                "max_lag_bytes" => terms.max_lag_bytes.is_some(),
                "snapshot" => {
                    let event = history.event(seq);
                    event.book && history.slots[event.slot].snapshot > seq
                }
                other => panic!("{}: unknown cause {other}", self.name),
            };
            for (name, lost) in &mut named {
                *lost |= terms::matches(name, channel);
            }
        }
        let name = &self.name;
        assert!(
            count >= receipt.missed,
            "{name}: a receipt is exact: {receipt:?} counts more than the {count} that are open"
        );
        assert!(caused, "{name}: the cause {cause} holds for no open event of {receipt:?}");
        // A channel may be named to which nothing happened; that what was lost is named, the
        // settlement shows.
        let lost = named.into_iter().any(|(_, lost)| lost);
        assert!(lost, "{name}: no channel lost anything in {receipt:?}");
    }

    fn tier(&mut self, value: &Value, history: &History) {
        let name = &self.name;
        let (seq, ms) = (value["seq"].as_u64().expect("a seq"), value["interval_ms"].as_u64());
        let ms = ms.expect("an interval");
        assert!(self.setup.tier_moves, "{name}: a tier although the operator did not enable it");
        assert!(self.was_slow(), "{name}: a tier although its socket was never full: {value}");
        assert!(ms == 0 || INTERVALS_MS.contains(&ms), "{name}: no such tier: {value}");
        assert_ne!(ms, self.set.tier_ms, "{name}: a tier is told once: {value}");
        self.totals.tiers += 1;
        self.open_to(seq, history);
        self.set.tier_ms = ms;
        self.change(seq, false, history);
    }

    fn answer(&mut self, value: &Value, history: &History) {
        self.answers += 1;
        let req_id = value["req_id"].as_u64();
        let asked = req_id.and_then(|req_id| self.asked.remove(&req_id));
        if value["error"]["code"] == "rate_limited" {
            assert_eq!(value["error"]["retryable"], true, "{}: {value}", self.name);
            self.refused_for_rate += 1;
            self.totals.rate_limited += 1;
            return;
        }
        let Some(asked) = asked else { return };
        let mut boundary = None;
        for result in value["result"].as_array().into_iter().flatten() {
            let Some(seq) = result["seq"].as_u64() else { continue };
            let same = boundary.is_none_or(|boundary| boundary == seq);
            assert!(same, "{}: one answer, one seq: {value}", self.name);
            boundary = Some(seq);
        }
        let Some(seq) = boundary else { return };
        assert!(
            seq >= self.ledger.changed,
            "{}: {value} goes back before {}",
            self.name,
            self.ledger.changed
        );
        self.open_to(seq, history);
        let is_first = self.set.patterns.is_empty();
        self.totals.ahead_changed += u64::from(!is_first && seq < self.ahead);
        for result in value["result"].as_array().into_iter().flatten() {
            if !result["seq"].is_u64() {
                continue;
            }
            let pattern = result["channel"].as_str().expect("a channel");
            if let Asked::Subscribe(wish, start) = &asked {
                assert_eq!(result["resumed"].is_boolean(), start.resume.is_some(), "{value}");
                let names: Vec<_> = history.channels.iter().map(|c| &*c.name).collect();
                check_entry(result, wish, &self.setup.rules, &names);
                self.set.patterns.insert(pattern.to_owned(), *wish);
            } else {
                let held = self.set.patterns.remove(pattern);
                assert!(held.is_some(), "{}: {pattern} was not subscribed: {value}", self.name);
            }
        }
        if let Asked::Subscribe(_, start) = asked {
            let why = self.check_place(start, seq, is_first, value, history);
            self.change(seq, false, history);
            let good = value["result"].as_array().into_iter().flatten();
            let good = good.filter(|result| result["seq"].is_u64());
            let patterns = good.map(|result| result["channel"].as_str().unwrap().to_owned());
            let (set, rules) = (&mut self.set, &self.setup.rules);
            let terms = |channel| set.terms(channel, rules, history);
            let why = why.as_deref();
            let id = req_id.expect("its client numbers them");
            let recovery = Recovery::new(id, start, why, seq, patterns.collect(), history, terms);
            self.recoveries.extend(recovery);
        } else {
            self.change(seq, false, history);
        }
    }

    fn data(&mut self, data: &Data<'_>, history: &History) {
        let expected = history.event(data.seq);
        assert_eq!(data.channel, history.name(data.seq));
        assert_eq!((&data.key, data.ts), (&expected.key, expected.ts));
        assert_eq!(data.data.get(), expected.data, "data passes byte for byte");
        let kind = if expected.snapshot { "snapshot" } else { "update" };
        assert_eq!((data.r#type, data.prev), (kind, expected.prev));
        let wanted = self.set.terms(expected.channel, &self.setup.rules, history);
        match self.setup.mischief {
            Some(Mischief::LoseData) if expected.key.is_none() => return,
            Some(Mischief::Conflate) if self.may_once_have_given_way(data.seq, wanted, history) => {
                return;
            }
            _ => {}
        }
        if let Some(recovery) = self.active().filter(|recovery| data.seq <= recovery.boundary) {
            recovery.deliver(data.seq, history);
            self.ledger.left_out.remove(&data.seq);
            self.totals.recovered += 1;
            return;
        }
        self.named(|judge| judge.open_to(data.seq, history));
        let sampled = self.named(|judge| {
            let seq = data.seq;
            assert!(wanted.is_some(), "{} is not subscribed any more", history.describe(seq));
            judge.ledger.deliver(seq, history, history.ticks())
        });
        self.totals.delivered += 1;
        self.totals.sampled += u64::from(sampled);
    }

    /// Gives every event up to `seq` a state by the terms that hold now.
    fn open_to(&mut self, seq: u64, history: &History) {
        assert!(seq <= history.head(), "{}: {seq} is not given out yet", self.name);
        for seq in self.ledger.opened() + 1..=seq {
            let event = history.event(seq);
            let terms = self.set.terms(event.channel, &self.setup.rules, history);
            let state = self.ledger.wanted(event, terms);
            self.ledger.push(state);
        }
    }

    /// The set is another one: it holds for what is behind `seq`, and what it does not want at all
    /// ends at once. What a notice ends by its policy must be receipted and stays open.
    fn change(&mut self, boundary: u64, notice: bool, history: &History) {
        self.set.changed();
        // What is sampled waits for its tick, and the change for that.
        if self.ledger.samples() || self.samples {
            self.ledger.waited.fall();
            self.waits_since = Some(history.ticks_slowest());
        }
        let receipts = u16::try_from(self.ledger.receipts.len()).unwrap();
        for channel in 0..history.channels.len() {
            match self.set.terms(channel, &self.setup.rules, history) {
                Some(terms) => self.samples |= terms.interval_ms.is_some(),
                None => self.ledger.end(channel, boundary),
            }
        }
        for seq in self.ledger.base() + 1..=self.ledger.opened() {
            let state = self.ledger.state(seq);
            // What was unsubscribed may be wanted again before the change has taken effect.
            let is_again = seq > boundary && boundary == self.ledger.changed;
            match state {
                State::Delivered => continue,
                State::Dropped(_) if !is_again => continue,
                _ => {}
            }
            let event = history.event(seq);
            let terms = self.set.terms(event.channel, &self.setup.rules, history);
            if seq > boundary {
                let open = matches!(state, State::Open(_));
                if open && self.ledger.is_passed(seq, event.channel) {
                    continue;
                }
                let dropped = matches!(state, State::Dropped(_));
                let state = match self.ledger.wanted(event, terms) {
                    State::Unwanted if open || dropped => State::Dropped(receipts),
                    state => state,
                };
                self.ledger.set(seq, state);
            } else if let (State::Open(number), None) = (state, terms) {
                let policy = self.ledger.terms(number).policy;
                let must_be_receipted = (notice && policy == Policy::Unsubscribe)
                    || (policy != Policy::Latest && self.ledger.is_passed(seq, event.channel));
                if !must_be_receipted {
                    self.ledger.set(seq, State::Dropped(receipts));
                }
            }
        }
        for seq in boundary + 1..=self.ahead {
            self.ledger.set(seq, State::Unwanted);
        }
        self.ledger.changed = boundary;
        let (set, rules) = (&mut self.set, &self.setup.rules);
        let wanted: Vec<_> = (0..history.channels.len())
            .map(|channel| set.terms(channel, rules, history).is_some())
            .collect();
        for recovery in &mut self.recoveries {
            recovery.unsubscribe(history, |channel| wanted[channel]);
            recovery.adopt(history, |channel| set.terms(channel, rules, history));
        }
    }

    /// Does something whose panic is followed by the client's name.
    fn named<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let _name = Name(Rc::clone(&self.name));
        act(self)
    }
}

/// Says whose failure it is when a panic drops it.
struct Name(Rc<str>);

impl Drop for Name {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("that was {}", self.0);
        }
    }
}

/// What a client may do about a receipt.
fn recover(cause: &str) -> &'static str {
    match cause {
        "max_age" | "max_lag_bytes" => "resume",
        "slow" => "snapshot",
        _ => "none",
    }
}

fn texts(value: &Value) -> Vec<String> {
    let text = |name: &Value| name.as_str().expect("a text").to_owned();
    value.as_array().expect("an array").iter().map(text).collect()
}
