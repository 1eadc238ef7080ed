//! Clients of `fanfare::client`, and whether the stream that they are given is the merged one.
//!
//! Not here: the connections, which the library makes and [`super::relay`] resets. Invariant: what
//! is judged are the library's own promises: each event once unless a gap came in between, every
//! event there or covered by a gap, and the newest values and whole books at the end.

use std::time::Duration;

use fanfare::client::{Event, Gap, Item, Notice, Subscription, Terms};
use fanfare::protocol::policy::Policy;
use fanfare::protocol::terms::Interval;

use super::Weather;
use super::account::{Class, Receipt, Wants};
use super::copy::Copy;
use super::member::Tally;
use super::plan::Plan;
use super::truth::Truth;

const STEP: Duration = Duration::from_millis(20);

/// What one client was given.
struct Reader<'a> {
    plan: &'a Plan,
    truth: &'a Truth,
    wants: Wants,
    copy: Copy,
    /// Everything after it is promised: the end of the first snapshot.
    since: Option<u64>,
    /// By `seq`: that it came at all, and that it came since the last gap of its channel.
    came: Vec<bool>,
    given: Vec<bool>,
    gaps: Vec<Receipt>,
    tally: Tally,
    wrong: Option<String>,
    trace: Vec<String>,
    is_stormy: bool,
}

/// Follows a subscription through everything, and judges what comes of it.
pub(crate) fn follow(
    plan: &Plan,
    url: &str,
    truth: &Truth,
    weather: &Weather,
) -> (Tally, Option<String>) {
    let (max_age_ms, max_lag_bytes) = plan.limits();
    let terms = Terms {
        policy: Policy::parse(plan.policy).ok(),
        max_age_ms: max_age_ms.map(|ms| u32::try_from(ms).unwrap()),
        max_lag_bytes,
        interval: plan.interval_ms.and_then(Interval::from_ms),
    };
    let mut subscriber = Subscription::new(url, plan.names()).terms(terms).start().unwrap();
    let events = usize::try_from(truth.end()).unwrap() + 1;
    let mut reader = Reader {
        plan,
        truth,
        wants: plan.wants(truth),
        copy: Copy::new(truth),
        since: None,
        came: vec![false; events],
        given: vec![false; events],
        gaps: Vec::new(),
        tally: Tally::default(),
        wrong: None,
        trace: Vec::new(),
        is_stormy: true,
    };
    loop {
        if let Err(error) = subscriber.read(STEP, |item| reader.take(&item)) {
            reader.fail(format!("it has ended: {error}"));
        }
        if weather.is_calm() && std::mem::take(&mut reader.is_stormy) {
            reader.trace.push("calm".into());
        }
        let has_all = subscriber.place().is_some_and(|place| place.seq >= truth.end());
        if reader.wrong.is_some() || weather.is_over() || weather.is_calm() && has_all {
            if !has_all {
                reader.fail(format!("has come to {:?}", subscriber.place()));
            }
            break;
        }
    }
    if reader.wrong.is_none() {
        reader.finish();
    }
    (reader.tally, reader.wrong)
}

impl Reader<'_> {
    fn fail(&mut self, what: String) {
        let from = self.trace.len().saturating_sub(20);
        let trace = self.trace[from..].join("\n    ");
        let plan = self.plan;
        self.wrong.get_or_insert_with(|| format!("library: {what}\n  {plan:?}\n    {trace}"));
    }

    fn take(&mut self, item: &Item<'_>) {
        let taken = match item {
            Item::Event(event) => self.take_event(event),
            Item::Gap(gap) => self.take_gap(gap),
            Item::Notice(notice) => self.take_notice(notice),
            Item::Control(_) => Ok(()),
        };
        if let Err(what) = taken {
            self.fail(what);
        }
    }

    fn take_event(&mut self, event: &Event<'_>) -> Result<(), String> {
        let truth = self.truth;
        let seq = truth.identify(event.text().as_bytes())?;
        let channel = truth.event(seq).expect("it was identified").channel;
        let at = usize::try_from(seq).unwrap();
        if self.wants[channel].is_none() {
            return Err(format!("event {seq} was not asked for"));
        }
        if std::mem::replace(&mut self.given[at], true) {
            return Err(format!("event {seq} of {} is given twice", event.channel));
        }
        self.came[at] = true;
        self.tally.events += 1;
        let is_new = self.copy.apply(truth, seq, event.text().as_bytes())?;
        self.tally.repeated += u64::from(!is_new);
        Ok(())
    }

    fn take_gap(&mut self, gap: &Gap) -> Result<(), String> {
        self.trace.push(format!("{gap:?}"));
        self.tally.receipts += 1;
        self.tally.missed += gap.missed.unwrap_or_default();
        let names = self.plan.named(&gap.channels, self.truth)?;
        for (channel, _) in self.truth.channels.iter().zip(&names).filter(|(_, named)| **named) {
            for &seq in &channel.seqs {
                self.given[usize::try_from(seq).unwrap()] = false;
            }
        }
        let receipt = Receipt { names, from: gap.from, to: gap.to, missed: gap.missed };
        self.copy.excuse([receipt.clone()]);
        self.gaps.push(receipt);
        Ok(())
    }

    fn take_notice(&mut self, notice: &Notice) -> Result<(), String> {
        self.trace.push(format!("{notice:?}"));
        match notice {
            Notice::Anew => return Err("another epoch".into()),
            Notice::Whole { seq } => {
                self.since.get_or_insert(*seq);
            }
            Notice::Resumed { .. } => self.tally.replays += 1,
            Notice::NotResumed { .. } => self.tally.too_old += 1,
            Notice::Lost { why, .. } if why.contains("a hole") => return Err(why.clone()),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) {
        let truth = self.truth;
        let since = self.since.unwrap_or_default();
        let (mut counted, mut missing) = (0, None);
        for (number, channel) in truth.channels.iter().enumerate() {
            if self.wants[number] != Some(Class::Each) {
                continue;
            }
            let came = |seq: u64| self.came[usize::try_from(seq).unwrap()];
            for &seq in channel.between(since, truth.end()).iter().filter(|seq| !came(**seq)) {
                let gaps = self.gaps.iter();
                let mut covering = gaps.filter(|gap| gap.covers(number, seq)).peekable();
                if covering.peek().is_none() {
                    missing.get_or_insert_with(|| format!("event {seq} of {} ", channel.name));
                }
                counted += u64::from(covering.all(|gap| gap.missed.is_some()));
            }
        }
        if let Some(event) = missing {
            self.fail(format!("{event} is missing, and no gap covers it"));
        }
        if counted > self.tally.missed {
            self.fail(format!("{counted} events are missing, gaps say {}", self.tally.missed));
        }
        for (number, slot) in truth.slots.iter().enumerate() {
            let channel = &truth.channels[slot.channel];
            let newest = slot.seqs.last().copied().unwrap_or_default();
            match self.wants[slot.channel] {
                None => continue,
                // The newest may be one that a gap declares.
                Some(Class::Each) if slot.book.is_none() => continue,
                Some(_) => {}
            }
            let last = self.copy.last(number);
            if last != newest {
                self.fail(format!("of {} the newest is {newest}, it has {last}", channel.name));
            }
            self.tally.books += u64::from(self.copy.is_book(number));
            if let Some(difference) = self.copy.differs(truth, number) {
                self.fail(difference);
            }
        }
    }
}
