//! What one subscription has to bring, from where it begins up to what it has proven: an account.
//!
//! Of what does not conflate every event comes once and in order, or is covered by a receipt, and
//! receipts that count are exact in sum. Each request begins an account, so the accounts of one
//! client, each going on where the one before had come to, prove its merged stream. Not here: what
//! the values are ([`super::copy`]). Invariant: only what the protocol says is judged.

use super::truth::Truth;

/// How events of a channel may be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Not without a receipt.
    Each,
    /// Where a newer one of the slot stands for them.
    Newest,
}

/// Of each channel, by number; none: it is not subscribed to.
pub(crate) type Wants = Vec<Option<Class>>;

/// Where an account begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With everything that counts.
    Snapshot,
    /// After what the client has; everything after it is in the log.
    Replay(u64),
    /// After what the client has, and there is more than the log holds.
    Lost(u64),
    /// With the next event.
    Live,
}

/// A receipt.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    /// Of each channel, by number.
    pub(crate) names: Vec<bool>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) missed: Option<u64>,
}

impl Receipt {
    /// Whether it declares that this event may be missing.
    pub(crate) fn covers(&self, channel: usize, seq: u64) -> bool {
        self.names[channel] && (self.from..=self.to).contains(&seq)
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) start: Start,
    /// The `seq` of the reply: what comes after it is live.
    pub(crate) boundary: u64,
    pub(crate) is_recovering: bool,
    /// With a snapshot: where everything was there together; none: not yet.
    pub(crate) whole: Option<u64>,
    /// Everything up to it was sent, superseded or receipted.
    pub(crate) proven: Option<u64>,
    /// A bit for each event that came.
    came: Vec<u64>,
    receipts: Vec<Receipt>,
    /// Of the newest live event.
    live: u64,
    /// Of the newest event of each slot, and of the newest live one of each channel.
    slots: Vec<u64>,
    channels: Vec<u64>,
}

impl Account {
    pub(crate) fn new(start: Start, boundary: u64, truth: &Truth) -> Self {
        let words = usize::try_from(truth.end() / 64).expect("64 bits") + 1;
        let proven = match start {
            Start::Snapshot => None,
            Start::Replay(after) | Start::Lost(after) => Some(after),
            Start::Live => Some(boundary),
        };
        Self {
            start,
            boundary,
            is_recovering: start != Start::Live,
            whole: None,
            proven,
            came: vec![0; words],
            receipts: Vec::new(),
            live: 0,
            slots: vec![0; truth.slots.len()],
            channels: vec![0; truth.channels.len()],
        }
    }

    /// The last event that is not to come.
    fn after(&self) -> u64 {
        match self.start {
            Start::Snapshot => 0,
            Start::Replay(after) | Start::Lost(after) => after,
            Start::Live => self.boundary,
        }
    }

    fn has(&self, seq: u64) -> bool {
        let (word, bit) = (usize::try_from(seq / 64).expect("64 bits"), seq % 64);
        self.came[word] >> bit & 1 == 1
    }

    /// Takes an event that is what was sent.
    pub(crate) fn take(
        &mut self,
        truth: &Truth,
        wants: &Wants,
        seq: u64,
        is_sampled: bool,
    ) -> Result<(), String> {
        let event = truth.event(seq).expect("it was identified");
        let name = &truth.channels[event.channel].name;
        let wrong = |what: &str| Err(format!("event {seq} of {name} {what}"));
        let Some(class) = wants[event.channel] else { return wrong("was not asked for") };
        if self.has(seq) {
            return wrong("came twice");
        }
        if seq <= self.after() {
            return wrong("is one that the client has");
        }
        if seq <= self.slots[event.slot] {
            return wrong("came after a newer one of its slot");
        }
        self.slots[event.slot] = seq;
        if seq <= self.boundary {
            if !self.is_recovering {
                return wrong("is of a recovery that has ended");
            }
            let is_snapshot = matches!(self.start, Start::Snapshot | Start::Lost(_));
            if is_snapshot && !truth.counts(seq, self.boundary) {
                return wrong("does not count any more in a snapshot");
            }
            let is_stream = !truth.channels[event.channel].is_keyed && !event.is_of_book;
            if is_snapshot && is_stream && class == Class::Each {
                return wrong("belongs to no snapshot");
            }
        } else {
            if seq <= self.channels[event.channel] || !is_sampled && seq <= self.live {
                return wrong("came after a newer one");
            }
            self.channels[event.channel] = seq;
            self.live = self.live.max(seq);
        }
        let (word, bit) = (usize::try_from(seq / 64).expect("64 bits"), seq % 64);
        self.came[word] |= 1 << bit;
        Ok(())
    }

    pub(crate) fn take_receipt(&mut self, receipt: Receipt) {
        self.receipts.push(receipt);
    }

    /// Whether books may be in parts for one who goes on after `seq`: some of a snapshot was
    /// replaced before it was sent, and what replaced it came later than that.
    pub(crate) fn is_in_parts(&self, seq: u64) -> bool {
        let is_snapshot = matches!(self.start, Start::Snapshot | Start::Lost(_));
        is_snapshot && self.whole.is_none_or(|whole| seq < whole)
    }

    /// Everything up to `seq` is there.
    pub(crate) fn prove(&mut self, seq: u64) {
        self.proven = self.proven.max(Some(seq));
    }

    /// Its receipts, if everything adds up as far as it has come.
    pub(crate) fn close(self, truth: &Truth, wants: &Wants) -> Result<Vec<Receipt>, String> {
        let Some(proven) = self.proven else { return Ok(self.receipts) };
        let begun = if self.start == Start::Snapshot { self.boundary } else { self.after() };
        let mut counted = 0;
        for (number, channel) in truth.channels.iter().enumerate() {
            if wants[number] != Some(Class::Each) {
                continue;
            }
            for &seq in channel.between(begun, proven).iter().filter(|seq| !self.has(**seq)) {
                let receipts = self.receipts.iter();
                let mut covering = receipts.filter(|r| r.covers(number, seq)).peekable();
                if covering.peek().is_none() {
                    let name = &channel.name;
                    return Err(format!("event {seq} of {name} is missing, no receipt covers it"));
                }
                counted += u64::from(covering.all(|receipt| receipt.missed.is_some()));
            }
        }
        let missed: u64 = self.receipts.iter().filter_map(|receipt| receipt.missed).sum();
        let is_open = self.receipts.iter().any(|receipt| receipt.to > proven);
        if counted > missed || counted < missed && !is_open {
            return Err(format!(
                "{counted} events are missing up to {proven}, receipts say {missed}: {:?}",
                self.receipts
            ));
        }
        Ok(self.receipts)
    }
}
