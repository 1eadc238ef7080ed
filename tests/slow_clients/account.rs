//! One client's account: what it asked for, what it got, and whether that adds up.
//!
//! Delivered, superseded and receipted together must be everything that was subscribed to, with no
//! overlap. Not here: sockets. Invariant: what came is judged in the order in which it came, and
//! only once the truth has the events that it is about; after the first thing that is wrong nothing
//! more is.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::json;

use super::truth::{Published, Truth};

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) pattern: String,
    pub(crate) policy: &'static str,
    pub(crate) max_age_ms: Option<u32>,
    pub(crate) max_lag_bytes: Option<u64>,
}

impl Ask {
    pub(crate) fn new(pattern: &str, policy: &'static str) -> Self {
        Self { pattern: pattern.to_owned(), policy, max_age_ms: None, max_lag_bytes: None }
    }

    /// The request.
    pub(crate) fn request(&self) -> String {
        let mut params =
            json!({ "channels": [self.pattern], "policy": self.policy, "snapshot": false });
        if let Some(limit) = self.max_age_ms {
            params["max_age_ms"] = limit.into();
        }
        if let Some(limit) = self.max_lag_bytes {
            params["max_lag_bytes"] = limit.into();
        }
        json!({ "method": "subscribe", "params": params }).to_string()
    }

    /// Whether the pattern takes a channel: `*` is one token, `>` the rest.
    pub(crate) fn wants(&self, channel: &str) -> bool {
        let (mut pattern, mut name) = (self.pattern.split('.'), channel.split('.'));
        loop {
            match (pattern.next(), name.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some(token), Some(other)) if token == "*" || token == other => {}
                _ => return false,
            }
        }
    }

    /// Whether the newest event may stand for those before.
    fn conflates(&self, keyed: bool) -> bool {
        self.policy == "latest" || self.policy == "auto" && keyed
    }
}

/// A message of the server that is about nothing but the state of the client.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Control {
    Heartbeat {
        seq: u64,
    },
    Gap {
        channels: Vec<String>,
        from: u64,
        to: u64,
        missed: u64,
        cause: String,
    },
    Unsubscribed {
        channels: Vec<String>,
        seq: u64,
    },
    #[serde(other)]
    Other,
}

/// What came from the server.
#[derive(Debug)]
pub(crate) enum Came {
    /// An event, and the hash of its payload.
    Event(u64, u64),
    Control(Control),
    Close(Option<u16>),
    End,
}

impl Came {
    /// The newest `seq` that it is about.
    const fn about(&self) -> u64 {
        match self {
            Self::Event(seq, _)
            | Self::Control(Control::Heartbeat { seq } | Control::Unsubscribed { seq, .. }) => *seq,
            Self::Control(Control::Gap { to, .. }) => *to,
            Self::Control(Control::Other) | Self::Close(_) | Self::End => 0,
        }
    }
}

#[derive(Debug)]
struct Receipt {
    channels: Vec<usize>,
    from: u64,
    to: u64,
    missed: u64,
}

/// What came on one channel.
#[derive(Debug, Default, Clone)]
struct OnChannel {
    wanted: bool,
    /// Numbers (on the channel) of events that came, as runs from the first to the last.
    runs: Vec<(usize, usize)>,
}

impl OnChannel {
    /// How many came of the events with these numbers.
    fn delivered(&self, from: usize, end: usize) -> u64 {
        let within = |&(first, last): &(usize, usize)| {
            (last + 1).min(end).saturating_sub(first.max(from)) as u64
        };
        let skipped = self.runs.partition_point(|&(_, last)| last < from);
        self.runs[skipped..].iter().take_while(|&&(first, _)| first < end).map(within).sum()
    }
}

/// What an account comes to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) superseded: u64,
    pub(crate) missed: u64,
    pub(crate) receipts: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.superseded += other.superseded;
        self.missed += other.missed;
        self.receipts += other.receipts;
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) ask: Ask,
    /// Events after this one are subscribed to.
    since: u64,
    /// Not those after this one.
    until: Option<u64>,
    /// What the truth has not reached yet.
    waiting: VecDeque<Came>,
    /// The newest event that came.
    position: u64,
    channels: Vec<OnChannel>,
    /// The newest event of each slot that came.
    slots: Vec<u64>,
    receipts: Vec<Receipt>,
    /// Up to here the server says that everything was sent, superseded or receipted.
    pub(crate) proven: u64,
    /// The code of the close.
    pub(crate) closed: Option<u16>,
    /// The first thing that was wrong.
    wrong: Option<String>,
}

impl Account {
    pub(crate) fn new(ask: Ask, since: u64, truth: &Truth) -> Self {
        let channels = truth.channels.iter();
        let channels = channels
            .map(|channel| OnChannel { wanted: ask.wants(&channel.name), ..OnChannel::default() });
        Self {
            channels: channels.collect(),
            ask,
            since,
            until: None,
            waiting: VecDeque::new(),
            position: since,
            slots: Vec::new(),
            receipts: Vec::new(),
            proven: since,
            closed: None,
            wrong: None,
        }
    }

    /// Whether the server has ended the subscription.
    pub(crate) const fn unsubscribed(&self) -> bool {
        self.until.is_some()
    }

    pub(crate) const fn is_wrong(&self) -> bool {
        self.wrong.is_some()
    }

    /// Whether a book of its subscription may become longer than `bytes`.
    pub(crate) fn may_lose_a_book(&self, bytes: usize, truth: &Truth) -> bool {
        let channels = self.channels.iter().zip(&truth.channels);
        let large = |(on, channel): (&OnChannel, &super::truth::Channel)| {
            on.wanted && channel.book && channel.round_bytes > bytes
        };
        channels.into_iter().any(large)
    }

    /// Takes what came next.
    pub(crate) fn take(&mut self, came: Came, truth: &Truth) {
        self.waiting.push_back(came);
        self.catch_up(truth);
    }

    /// Judges what came, as far as the truth goes.
    pub(crate) fn catch_up(&mut self, truth: &Truth) {
        while let Some(came) = self.waiting.pop_front_if(|came| came.about() <= truth.newest()) {
            if self.wrong.is_none() {
                self.wrong = self.judge(came, truth).err();
            }
        }
    }

    fn judge(&mut self, came: Came, truth: &Truth) -> Result<(), String> {
        match came {
            Came::Event(seq, hash) => self.event(seq, hash, truth),
            Came::Control(Control::Gap { channels, from, to, missed, cause }) => {
                let about = format!("receipt {from}..={to} of {missed} on {channels:?}, {cause}");
                let numbers = channels.iter().map(|name| truth.channel_named(name));
                let channels = numbers.collect::<Option<Vec<_>>>();
                let channels = channels.ok_or_else(|| format!("{about}: an unknown channel"))?;
                let wanted = channels.iter().all(|&channel| self.channels[channel].wanted);
                let causes = ["slow", "max_age", "max_lag_bytes"];
                if !wanted || from <= self.since || from > to || missed == 0 {
                    return Err(format!("{about}: not after {} or not wanted", self.since));
                }
                if !causes.contains(&&*cause) || self.unsubscribed() {
                    return Err(format!("{about}: no such cause, or nothing is subscribed to"));
                }
                self.receipts.push(Receipt { channels, from, to, missed });
                Ok(())
            }
            Came::Control(Control::Unsubscribed { channels, seq }) => {
                self.until = Some(seq);
                if self.ask.policy == "unsubscribe" && channels == [self.ask.pattern.as_str()] {
                    Ok(())
                } else {
                    Err(format!("unsubscribed from {channels:?} at {seq}: not agreed"))
                }
            }
            Came::Control(Control::Heartbeat { seq }) => {
                let before = std::mem::replace(&mut self.proven, seq);
                if before <= seq { Ok(()) } else { Err(format!("heartbeat {seq} after {before}")) }
            }
            Came::Control(Control::Other) => Ok(()),
            Came::Close(code) => {
                self.closed = code;
                if code == Some(4100) { Ok(()) } else { Err(format!("close {code:?}")) }
            }
            Came::End if self.closed.is_some() => Ok(()),
            Came::End => Err("the stream ended without a close frame".to_owned()),
        }
    }

    fn event(&mut self, seq: u64, hash: u64, truth: &Truth) -> Result<(), String> {
        if seq <= self.position {
            return Err(format!("event {seq} after {}", self.position));
        }
        self.position = seq;
        let event = *truth.event(seq);
        let name = &truth.channels[event.channel].name;
        if event.hash != hash {
            return Err(format!("event {seq} on {name}: other bytes than everybody's"));
        }
        if !self.channels[event.channel].wanted || self.unsubscribed() {
            return Err(format!("event {seq} on {name}: not subscribed to"));
        }
        self.continues(seq, &event, truth)?;
        let runs = &mut self.channels[event.channel].runs;
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == event.ordinal => *last = event.ordinal,
            _ => runs.push((event.ordinal, event.ordinal)),
        }
        if self.slots.len() < truth.slots.len() {
            self.slots.resize(truth.slots.len(), 0);
        }
        self.slots[event.slot] = seq;
        Ok(())
    }

    /// Whether the event before this one on its channel came, or it is known why not.
    fn continues(&self, seq: u64, event: &Published, truth: &Truth) -> Result<(), String> {
        let last = self.channels[event.channel].runs.last().map(|&(_, last)| last);
        let previous = truth.previous(event);
        if previous <= self.since || last.is_some_and(|last| last + 1 == event.ordinal) {
            return Ok(());
        }
        let name = &truth.channels[event.channel].name;
        if event.book && !event.snapshot {
            return Err(format!("event {seq} on {name}: a book without delta {previous}"));
        }
        let covers = |receipt: &Receipt| {
            (receipt.from..=receipt.to).contains(&previous)
                && receipt.channels.contains(&event.channel)
        };
        if self.ask.conflates(event.keyed) || self.receipts.iter().rev().any(covers) {
            return Ok(());
        }
        Err(format!("event {seq} on {name}: {previous} is missing and no receipt says so"))
    }

    /// The account at the end, or the first thing that is wrong in it.
    pub(crate) fn close(&self, truth: &Truth) -> Result<Tally, String> {
        let about = |what: String| format!("{:?}: {what}", self.ask);
        if let Some(wrong) = &self.wrong {
            return Err(about(wrong.clone()));
        }
        assert!(self.waiting.is_empty(), "the truth is whole");
        self.sum(truth).map_err(about)
    }

    fn sum(&self, truth: &Truth) -> Result<Tally, String> {
        // Of a subscription that ended with the connection only what came before can be judged.
        let closed = self.closed.map(|_| self.position);
        let end = self.until.or(closed).unwrap_or_else(|| truth.newest());
        let mut tally = Tally { receipts: self.receipts.len() as u64, ..Tally::default() };
        let (mut unsaid, mut said) = (0, 0);
        for (number, on) in self.channels.iter().enumerate().filter(|(_, on)| on.wanted) {
            let delivered = on.delivered(0, usize::MAX);
            tally.delivered += delivered;
            let channel = &truth.channels[number];
            let skipped = channel.count(self.since + 1, end) as u64 - delivered;
            if self.conflates(number, truth) {
                tally.superseded += skipped;
            } else {
                unsaid += skipped;
            }
        }
        for receipt in &self.receipts {
            let lost: u64 =
                receipt.channels.iter().map(|&number| self.lost(number, receipt, truth)).sum();
            let value = receipt.channels.iter().any(|&number| self.conflates(number, truth));
            // What a receipt leaves of a book may come later, or be in the next receipt.
            let book = receipt.channels.iter().any(|&number| truth.channels[number].book);
            let exact = !value && !book && self.closed.is_none();
            if receipt.missed > lost || exact && receipt.missed < lost {
                return Err(format!("{lost} events did not come of {receipt:?}"));
            }
            if value {
                tally.superseded = tally.superseded.saturating_sub(receipt.missed);
            } else {
                said += receipt.missed;
            }
            tally.missed += receipt.missed;
        }
        if self.closed.is_none() && said != unsaid {
            return Err(format!("{unsaid} events did not come, and receipts say {said}"));
        }
        self.newest_values(truth)?;
        Ok(tally)
    }

    /// Whether what is missing on a channel was superseded.
    fn conflates(&self, channel: usize, truth: &Truth) -> bool {
        let keyed = truth.channels[channel].seqs.first();
        keyed.is_some_and(|&seq| self.ask.conflates(truth.event(seq).keyed))
    }

    /// How many events of a receipt's range on a channel did not come.
    fn lost(&self, channel: usize, receipt: &Receipt, truth: &Truth) -> u64 {
        let seqs = &truth.channels[channel].seqs;
        let from = seqs.partition_point(|&seq| seq < receipt.from);
        let end = seqs.partition_point(|&seq| seq <= receipt.to);
        (end - from) as u64 - self.channels[channel].delivered(from, end)
    }

    /// The newest value of each slot came, whatever was conflated before it.
    fn newest_values(&self, truth: &Truth) -> Result<(), String> {
        if self.closed.is_some() {
            return Ok(());
        }
        for (number, slot) in truth.slots.iter().enumerate() {
            let came = self.slots.get(number).copied().unwrap_or(0);
            let due = self.channels[slot.channel].wanted && slot.newest > self.since;
            if due && self.conflates(slot.channel, truth) && came != slot.newest {
                let name = &truth.channels[slot.channel].name;
                return Err(format!("{name}: the newest is {}, not {came}", slot.newest));
            }
        }
        Ok(())
    }
}
