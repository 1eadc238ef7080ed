//! One client of the wire protocol: what it asks for, what it makes of the answers, and where it
//! goes on.
//!
//! Values in, values out; written from `docs/PROTOCOL.md`, independent of `fanfare::client`. Not
//! here: sockets ([`super::crew`]). Invariant: what it claims to have when it connects again was
//! proven by live events in order, by heartbeats, or by the end of a recovery.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Value, json};

use super::account::{Account, Class, Receipt, Start, Wants};
use super::copy::Copy;
use super::plan::Plan;
use super::truth::Truth;

/// Lines of the past that are shown when something is wrong.
const TRACE_LINES: usize = 24;

/// A message of the server that is no event.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Control {
    r#type: String,
    epoch: String,
    seq: u64,
    channels: Vec<String>,
    from: u64,
    /// A number in receipts, addresses in the notice of a drain.
    to: Value,
    missed: Option<u64>,
    cause: String,
    recover: String,
    req_id: Option<u64>,
    // Of replies.
    method: String,
    success: bool,
    error: Option<Value>,
    result: Value,
}

/// What is still to be answered.
#[derive(Debug)]
struct Asked {
    req_id: u64,
    resume: Option<u64>,
    /// Of the reply: where the account begins, and its boundary.
    answered: Option<(Start, u64)>,
}

/// What was counted, for people and to prove that the chaos was one.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) repeated: u64,
    pub(crate) receipts: u64,
    pub(crate) missed: u64,
    pub(crate) snapshots: u64,
    pub(crate) replays: u64,
    pub(crate) too_old: u64,
    pub(crate) cut_recoveries: u64,
    pub(crate) unsubscribed: u64,
    pub(crate) healed: u64,
    pub(crate) verified: u64,
    pub(crate) books: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.repeated += other.repeated;
        self.receipts += other.receipts;
        self.missed += other.missed;
        self.snapshots += other.snapshots;
        self.replays += other.replays;
        self.too_old += other.too_old;
        self.cut_recoveries += other.cut_recoveries;
        self.unsubscribed += other.unsubscribed;
        self.healed += other.healed;
        self.verified += other.verified;
        self.books += other.books;
    }
}

/// See the module's head.
pub(crate) struct Member {
    pub(crate) plan: Plan,
    wants: Wants,
    copy: Copy,
    account: Option<Account>,
    /// The request that the account is of.
    opened: u64,
    asked: Option<Asked>,
    req_id: u64,
    epoch: Option<String>,
    /// Everything up to it is here, or receipted.
    claim: Option<u64>,
    /// Events that a snapshot does not bring begin after it: the boundary of a subscription
    /// without one.
    since: Option<u64>,
    /// The server has ended a subscription: nothing more is proven until the next one begins.
    is_frozen: bool,
    verifying: VecDeque<usize>,
    pub(crate) tally: Tally,
    trace: VecDeque<String>,
}

impl Member {
    pub(crate) fn new(plan: Plan, truth: &Truth) -> Self {
        Self {
            wants: plan.wants(truth),
            plan,
            copy: Copy::new(truth),
            account: None,
            opened: 0,
            asked: None,
            req_id: 0,
            epoch: None,
            claim: None,
            since: None,
            is_frozen: false,
            verifying: VecDeque::new(),
            tally: Tally::default(),
            trace: VecDeque::new(),
        }
    }

    /// Notes something for the trace.
    pub(crate) fn note(&mut self, text: &str) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(text.chars().take(400).collect());
    }

    /// What is wrong, with all that led to it.
    pub(crate) fn report(&self, what: &str) -> String {
        let trace = Vec::from(self.trace.clone()).join("\n    ");
        let (plan, claim) = (&self.plan, self.claim);
        let account = self.account.as_ref().map(|a| (a.start, a.boundary, a.proven));
        format!("{what}\n  {plan:?}\n  claim {claim:?}, account {account:?}\n    {trace}")
    }

    /// The connection has ended.
    pub(crate) fn end_connection(&mut self, truth: &Truth) -> Result<(), String> {
        let is_cut = self.account.as_ref().is_some_and(|account| account.is_recovering);
        self.tally.cut_recoveries += u64::from(is_cut);
        (self.asked, self.is_frozen) = (None, false);
        self.verifying.clear();
        self.close_account(truth)
    }

    fn close_account(&mut self, truth: &Truth) -> Result<(), String> {
        if let Some(account) = self.account.take() {
            self.copy.excuse(account.close(truth, &self.wants)?);
        }
        Ok(())
    }

    /// Takes a text message; what is to be sent, if anything.
    pub(crate) fn take(&mut self, truth: &Truth, text: &[u8]) -> Result<Option<String>, String> {
        if !text.starts_with(br#"{"channel":"control","#) && !text.starts_with(br#"{"method":"#) {
            return self.take_event(truth, text).map(|()| None);
        }
        let control: Control = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if control.r#type != "heartbeat" {
            self.note(&String::from_utf8_lossy(text));
        }
        match (&*control.r#type, &*control.method) {
            ("welcome", _) => {
                let epoch = self.epoch.get_or_insert_with(|| control.epoch.clone());
                if *epoch != control.epoch {
                    return Err(format!("the epoch was {epoch} before"));
                }
                Ok(Some(self.subscribe(self.claim)))
            }
            ("heartbeat", _) => {
                self.prove(control.seq);
                Ok(None)
            }
            ("snapshot_begin" | "replay_begin", _) => self.begin(truth, &control).map(|()| None),
            ("snapshot_end" | "replay_end", _) => self.end(&control).map(|()| None),
            ("gap", _) => self.take_receipt(truth, &control),
            ("unsubscribed", _) => {
                self.is_frozen = true;
                self.tally.unsubscribed += 1;
                let is_coming = self.asked.as_ref().is_some_and(|asked| asked.answered.is_none());
                Ok((!is_coming).then(|| self.subscribe(self.claim)))
            }
            ("drain", _) => Ok(None),
            ("", "subscribe") => self.take_reply(truth, &control).map(|()| None),
            ("", "verify") => self.take_hash(truth, &control).map(|()| None),
            other => Err(format!("what is {other:?}?")),
        }
    }

    fn subscribe(&mut self, resume: Option<u64>) -> String {
        self.req_id += 1;
        let mut params = self.plan.params();
        if let Some(seq) = resume {
            params["resume"] = json!({ "epoch": self.epoch, "seq": seq });
        }
        self.asked = Some(Asked { req_id: self.req_id, resume, answered: None });
        let request = json!({ "method": "subscribe", "params": params, "req_id": self.req_id });
        let request = request.to_string();
        self.note(&request);
        request
    }

    fn take_reply(&mut self, truth: &Truth, reply: &Control) -> Result<(), String> {
        let Some(asked) = self.asked.as_mut().filter(|asked| reply.req_id == Some(asked.req_id))
        else {
            return Err("a reply that nobody asked for".into());
        };
        if !reply.success {
            return Err(format!("refused: {:?}", reply.error));
        }
        let entry = &reply.result[0];
        let boundary = entry["seq"].as_u64().ok_or("no seq")?;
        if reply.result.as_array().is_some_and(|all| all.iter().any(|e| e["seq"] != boundary)) {
            return Err("entries of one reply differ in seq".into());
        }
        let start = match (asked.resume, entry["resumed"].as_bool(), entry["why"].as_str()) {
            (Some(after), Some(true), None) => Start::Replay(after),
            (Some(after), Some(false), Some("too_old")) => Start::Lost(after),
            (None, None, None) if self.plan.snapshot => Start::Snapshot,
            (None, None, None) => Start::Live,
            other => return Err(format!("place, answer and reason do not fit: {other:?}")),
        };
        self.tally.too_old += u64::from(matches!(start, Start::Lost(_)));
        asked.answered = Some((start, boundary));
        if start == Start::Live { self.open(truth) } else { Ok(()) }
    }

    /// What was asked for begins.
    fn begin(&mut self, truth: &Truth, notice: &Control) -> Result<(), String> {
        let is_snapshot = notice.r#type == "snapshot_begin";
        let asked = self.asked.as_ref().filter(|asked| notice.req_id == Some(asked.req_id));
        let answered = asked.and_then(|asked| asked.answered);
        let is_right = match answered {
            Some((Start::Snapshot, _)) => is_snapshot,
            Some((Start::Lost(_), _)) => is_snapshot == self.plan.snapshot,
            Some((Start::Replay(_), _)) => !is_snapshot,
            _ => false,
        };
        if !is_right || notice.channels != self.plan.names() {
            return Err(format!("{} is not what was answered: {answered:?}", notice.r#type));
        }
        self.tally.snapshots += u64::from(is_snapshot);
        self.tally.replays += u64::from(!is_snapshot);
        self.open(truth)
    }

    fn open(&mut self, truth: &Truth) -> Result<(), String> {
        let asked = self.asked.take().expect("the caller has looked");
        let (start, boundary) = asked.answered.expect("the caller has looked");
        if let (Some(account), Start::Replay(after) | Start::Lost(after)) = (&self.account, start)
            && account.is_in_parts(after)
        {
            let names = self.wants.iter().map(Option::is_some).collect();
            self.copy.excuse([Receipt { names, from: 1, to: account.boundary, missed: None }]);
        }
        self.close_account(truth)?;
        self.opened = asked.req_id;
        let is_anew = matches!(start, Start::Lost(_) | Start::Live) && !self.plan.snapshot;
        if is_anew {
            self.since = Some(boundary);
        }
        if is_anew || start == Start::Snapshot {
            // What it had is void, and so is its claim to it.
            self.copy.forget();
            self.claim = None;
        }
        self.is_frozen = false;
        self.account = Some(Account::new(start, boundary, truth));
        if start == Start::Live {
            self.claim = self.claim.max(Some(boundary));
        }
        Ok(())
    }

    fn end(&mut self, notice: &Control) -> Result<(), String> {
        if notice.req_id.is_some_and(|req_id| req_id < self.opened) {
            // Parts of that snapshot were replaced, and it has waited for what replaces them.
            return Ok(());
        }
        let Some(account) = self.account.as_mut().filter(|account| account.is_recovering) else {
            return Err(format!("{} of nothing", notice.r#type));
        };
        if notice.req_id != Some(self.opened) || notice.seq < account.boundary {
            return Err(format!("{} before its time", notice.r#type));
        }
        account.is_recovering = false;
        account.whole = Some(notice.seq);
        self.prove(notice.seq);
        Ok(())
    }

    /// Everything up to `seq` is there, unless something older is still to come.
    fn prove(&mut self, seq: u64) {
        if let Some(account) = &mut self.account
            && !account.is_recovering
            && !self.is_frozen
        {
            account.prove(seq);
            self.claim = self.claim.max(account.proven);
        }
    }

    fn take_event(&mut self, truth: &Truth, frame: &[u8]) -> Result<(), String> {
        let seq = truth.identify(frame)?;
        let is_sampled = self.plan.interval_ms.is_some();
        let account = self.account.as_mut().ok_or("an event before anything has begun")?;
        account.take(truth, &self.wants, seq, is_sampled)?;
        self.tally.events += 1;
        if !self.copy.apply(truth, seq, frame)? {
            self.tally.repeated += 1;
        }
        if is_sampled {
            return Ok(());
        }
        // A replay is in order, too.
        if self.plan.is_eager
            && account.is_recovering
            && matches!(account.start, Start::Replay(_))
            && seq <= account.boundary
        {
            account.prove(seq);
            self.claim = self.claim.max(account.proven);
        }
        self.prove(seq);
        Ok(())
    }

    /// Takes a receipt; the request that heals it, if this client does that.
    fn take_receipt(&mut self, truth: &Truth, gap: &Control) -> Result<Option<String>, String> {
        let Some(account) = &mut self.account else { return Err("a receipt of nothing".into()) };
        let (recover, counts) = match &*gap.cause {
            "max_age" | "max_lag_bytes" => ("resume", true),
            "slow" => ("snapshot", gap.missed.is_some()),
            "snapshot" => ("none", true),
            "too_old" if matches!(account.start, Start::Lost(_)) => ("none", false),
            other => return Err(format!("a receipt with cause {other}")),
        };
        let to = gap.to.as_u64().unwrap_or_default();
        let is_known = !gap.channels.is_empty() && (1..=to).contains(&gap.from);
        if !is_known || gap.recover != recover || gap.missed.is_some() != counts {
            return Err("a receipt that the protocol does not know".into());
        }
        let names = self.plan.named(&gap.channels, truth)?;
        self.tally.receipts += 1;
        self.tally.missed += gap.missed.unwrap_or_default();
        if gap.missed.is_none() && (!self.plan.snapshot || gap.cause == "slow") {
            for channel in (0..names.len()).filter(|&channel| names[channel]) {
                self.copy.forget_channel(truth, channel);
            }
        }
        let (from, missed) = (gap.from, gap.missed);
        account.take_receipt(Receipt { names, from, to, missed });
        let is_needed = missed.is_none() && gap.cause == "slow";
        if self.asked.is_some() || self.is_frozen || !(self.plan.heals || is_needed) {
            return Ok(None);
        }
        let resume = match &*gap.recover {
            "resume" => Some(from - 1),
            "snapshot" if self.plan.snapshot => None,
            _ => return Ok(None),
        };
        self.tally.healed += 1;
        Ok(Some(self.subscribe(resume)))
    }

    /// Whether it has proof of everything.
    pub(crate) fn is_whole(&self, truth: &Truth) -> bool {
        let account = self.account.as_ref();
        self.asked.is_none() && account.is_some_and(|a| a.proven == Some(truth.end()))
    }

    /// The next request for a hash of the server, if one is wanted that was not asked for yet.
    pub(crate) fn verify(&mut self, truth: &Truth) -> Vec<String> {
        if !self.plan.snapshot {
            return Vec::new();
        }
        // Of what had a receipt, the newest may be missing.
        let is_newest = |channel: usize| {
            let mut slots = truth.channels[channel].slots.iter();
            slots.all(|&slot| Some(&self.copy.last(slot)) == truth.slots[slot].seqs.last())
        };
        let wanted = (0..self.wants.len()).filter(|&channel| self.wants[channel].is_some());
        self.verifying = wanted.filter(|&channel| is_newest(channel)).collect();
        let request = |&channel: &usize| {
            let params = json!({ "channel": truth.channels[channel].name });
            json!({ "method": "verify", "params": params, "req_id": channel }).to_string()
        };
        self.verifying.iter().map(request).collect()
    }

    pub(crate) fn is_verified(&self) -> bool {
        self.verifying.is_empty()
    }

    fn take_hash(&mut self, truth: &Truth, reply: &Control) -> Result<(), String> {
        let channel = self.verifying.pop_front().ok_or("a hash that nobody asked for")?;
        self.tally.verified += 1;
        self.copy.verify(truth, channel, &reply.result)
    }

    /// Whether everything adds up at the end, and the newest values and the books are there.
    pub(crate) fn finish(&mut self, truth: &Truth) -> Result<(), String> {
        if !self.is_whole(truth) {
            return Err("heard nothing of the end".into());
        }
        self.close_account(truth)?;
        for (number, slot) in truth.slots.iter().enumerate() {
            let Some(class) = self.wants[slot.channel] else { continue };
            let name = &truth.channels[slot.channel].name;
            let newest = slot.seqs.last().copied().unwrap_or_default();
            // Of the others the newest may be one that a receipt declares.
            let is_kept = class == Class::Newest || slot.book.is_some();
            let begun = self.since.unwrap_or_default();
            let (last, key) = (self.copy.last(number), &slot.key_json);
            if newest > begun && last != newest && is_kept {
                return Err(format!("of {name} {key} the newest is {newest}, it has {last}"));
            }
            if self.plan.snapshot && slot.book.is_some() && !self.copy.is_book(number) {
                return Err(format!("the book {name} has not begun"));
            }
            self.tally.books += u64::from(self.copy.is_book(number));
            if let Some(difference) = self.copy.differs(truth, number) {
                return Err(difference);
            }
        }
        Ok(())
    }
}
