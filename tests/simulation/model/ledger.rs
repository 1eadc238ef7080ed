//! One client's account: what became of each event since its welcome.
//!
//! An event is *open* from when it is wanted until it is delivered. One that stays open to the end
//! must be superseded or counted by a receipt ([`super::receipts`]). Not here: what messages say.
//! Invariant: `states` holds every event from `base + 1` on that a message has spoken of.

use std::collections::BTreeMap;

use super::behind::Behind;
use super::history::{Expected, History};
use super::terms::{Policy, Terms};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Unwanted,
    /// Wanted under these terms, and not delivered so far.
    Open(u16),
    Delivered,
    /// Unsubscribed while open; the receipts before that may have counted it.
    Dropped(u16),
}

/// A loss receipt.
#[derive(Debug, Clone)]
pub(super) struct Receipt {
    /// Names, or patterns where there are too many names.
    pub(super) channels: Vec<String>,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) missed: u64,
}

/// What was delivered last in a slot.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    seq: u64,
    /// Number of the tick that brought it, at the earliest.
    tick: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    base: u64,
    states: Vec<State>,
    terms: Vec<Terms>,
    pub(super) receipts: Vec<Receipt>,
    /// By channel and interval: the last event delivered.
    channel_last: Vec<u64>,
    /// By terms: the last event delivered.
    terms_last: Vec<u64>,
    /// By slot: the last event delivered under sampled terms.
    sampled_last: Vec<Sample>,
    /// The last event delivered under terms that are not sampled.
    unsampled_last: u64,
    /// By channel: where it was wanted no more, last.
    ended: Vec<u64>,
    /// Up to here a heartbeat has said that all is accounted for.
    pub(super) proven: u64,
    /// Events of books that a replay did not bring, and whether they might give way to newer ones.
    pub(super) left_out: BTreeMap<u64, bool>,
    /// Where the newest terms begin.
    pub(super) changed: u64,
    /// When its socket was full.
    pub(super) slow: Behind,
    /// When live events may have waited for a recovery, or for a set to take effect.
    pub(super) waited: Behind,
    /// The server keeps hardly anything beside its log.
    pub(super) forgets: bool,
}

impl Ledger {
    pub(super) fn new(forgets: bool) -> Self {
        Self { forgets, ..Self::default() }
    }

    pub(super) fn begin(&mut self, seq: u64) {
        (self.base, self.proven, self.changed) = (seq, seq, seq);
    }

    /// Whether anything was ever sampled.
    pub(super) fn samples(&self) -> bool {
        self.terms.iter().any(|terms| terms.interval_ms.is_some())
    }

    /// A channel is wanted no more from `seq` on.
    pub(super) fn end(&mut self, channel: usize, seq: u64) {
        *place(&mut self.ended, channel) = seq;
    }

    /// Whether what event `seq` is like was wanted no more, or conflated, at some time after the
    /// event `since`.
    pub(super) fn may_end_or_conflate(&self, since: u64, seq: u64, history: &History) -> bool {
        let like = history.event(seq);
        let is_like = |seq: &u64| {
            let event = history.event(*seq);
            (event.channel, event.key.is_some()) == (like.channel, like.key.is_some())
        };
        let is_ended = self.ended.get(like.channel).is_some_and(|&ended| ended > since);
        let after = since.max(self.base) + 1..=self.opened();
        is_ended
            || after.filter(is_like).any(|seq| match self.state(seq) {
                State::Open(number) => self.terms(number).policy == Policy::Latest,
                _ => false,
            })
    }

    /// The last event that has a state.
    pub(super) fn opened(&self) -> u64 {
        self.base + self.states.len() as u64
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn state(&self, seq: u64) -> State {
        self.states[self.at(seq)]
    }

    pub(super) fn terms(&self, number: u16) -> &Terms {
        &self.terms[usize::from(number)]
    }

    fn at(&self, seq: u64) -> usize {
        assert!(seq > self.base, "event {seq} is from before the welcome ({})", self.base);
        usize::try_from(seq - self.base - 1).unwrap()
    }

    /// The state of an event that nothing has been heard of, where `terms` hold for its channel.
    pub(super) fn wanted(&mut self, event: &Expected, terms: Option<Terms>) -> State {
        let Some(terms) = terms else { return State::Unwanted };
        let terms = terms.of_events(event.key.is_some());
        let known = self.terms.iter().position(|known| *known == terms);
        let number = known.unwrap_or_else(|| {
            self.terms.push(terms);
            self.terms.len() - 1
        });
        State::Open(u16::try_from(number).unwrap())
    }

    pub(super) fn push(&mut self, state: State) {
        self.states.push(state);
    }

    pub(super) fn set(&mut self, seq: u64, state: State) {
        let at = self.at(seq);
        self.states[at] = state;
    }

    /// Whether event `seq`, still open, can come no more, because something behind it has come.
    pub(super) fn is_passed(&self, seq: u64, channel: usize) -> bool {
        let State::Open(number) = self.state(seq) else { return true };
        let at = lane(channel, self.terms(number));
        seq <= self.proven || self.channel_last.get(at).is_some_and(|&last| seq < last)
    }

    /// Takes a delivery; true if it is a sampled one.
    pub(super) fn deliver(&mut self, seq: u64, history: &History, ticks: [u32; 3]) -> bool {
        let event = history.event(seq);
        let what = || history.describe(seq);
        let number = match self.state(seq) {
            State::Open(number) => number,
            State::Unwanted => panic!("{} is not subscribed", what()),
            State::Delivered => panic!("{}: no repeats, it came already", what()),
            State::Dropped(_) => panic!("{} came although it was unsubscribed", what()),
        };
        let terms = *self.terms(number);
        assert!(seq > self.proven, "{} came after heartbeat {}", what(), self.proven);
        let last = place(&mut self.channel_last, lane(event.channel, &terms));
        assert!(seq > *last, "{} after {last}: seq rises on a channel", what());
        *last = seq;
        *place(&mut self.terms_last, number.into()) = seq;
        if let Some(interval_ms) = terms.interval_ms {
            if !event.book {
                self.sample(seq, event, interval_ms, history, ticks);
            }
        } else {
            let last = std::mem::replace(&mut self.unsampled_last, seq);
            assert!(seq > last, "{} ({terms:?}) after {last}: seq rises", what());
        }
        self.check_book(seq, &terms, history);
        self.check_passed(seq, terms.interval_ms, history);
        self.set(seq, State::Delivered);
        terms.interval_ms.is_some()
    }

    /// At most one event of a slot comes with a tick; what came between the tick and its pass may
    /// be in it.
    fn sample(
        &mut self,
        seq: u64,
        event: &Expected,
        interval_ms: u64,
        history: &History,
        ticks: [u32; 3],
    ) {
        let tier = super::history::INTERVALS_MS.iter().position(|&ms| ms == interval_ms).unwrap();
        let last = place(&mut self.sampled_last, event.slot);
        let first = event.ticks[tier];
        // Over a change of terms intervals are not comparable.
        let tick = if last.seq > self.changed { first.max(last.tick + 1) } else { first };
        assert!(
            tick <= ticks[tier].max(1),
            "{} came after {} of its slot with no tick of {interval_ms} ms between",
            history.describe(seq),
            last.seq,
        );
        *last = Sample { seq, tick };
    }

    /// A delta needs what it is a delta of.
    fn check_book(&self, seq: u64, terms: &Terms, history: &History) {
        let event = history.event(seq);
        let (before, ended) = (event.slot_prev, self.ended.get(event.channel).copied());
        let ended = ended.unwrap_or_default();
        if !event.book || event.snapshot || before <= ended {
            return;
        }
        let is_held = before > self.base && self.state(before) == State::Delivered;
        // What gave way under other terms than those of today is not judged.
        let is_left_out = (self.left_out.get(&before))
            .is_some_and(|&might_give_way| !might_give_way || terms.policy == Policy::Latest);
        assert!(
            is_held || !is_left_out,
            "a book cut in the middle: {} came, and a replay had left {before} before it out",
            history.describe(seq),
        );
        if before <= self.base {
            return;
        }
        let before = self.state(before);
        assert!(
            !matches!(before, State::Open(_)),
            "a book cut in the middle: {} came without {} before it ({before:?})",
            history.describe(seq),
            event.slot_prev,
        );
    }

    /// Nothing that counts may be left open before `seq` on its channel without a receipt, but for
    /// what is sampled otherwise.
    fn check_passed(&self, seq: u64, interval_ms: Option<u64>, history: &History) {
        let mut before = history.event(seq).prev;
        while before > self.base && self.state(before) != State::Delivered {
            let is_neighbour = match self.state(before) {
                State::Open(number) => self.terms(number).interval_ms == interval_ms,
                _ => false,
            };
            if is_neighbour {
                self.check_accounted(before, history, &format_args!("event {seq}"));
            }
            before = history.event(before).prev;
        }
    }

    /// A heartbeat or the end says that nothing up to `seq` is missing.
    pub(super) fn prove(&mut self, seq: u64, history: &History) {
        for before in self.proven + 1..=seq {
            self.check_accounted(before, history, &format_args!("heartbeat {seq}"));
        }
        self.proven = self.proven.max(seq);
    }

    fn check_accounted(&self, seq: u64, history: &History, by: &std::fmt::Arguments<'_>) {
        let State::Open(number) = self.state(seq) else { return };
        let (event, terms) = (history.event(seq), self.terms(number));
        let slot = &history.slots[event.slot];
        let newest = if event.book { slot.snapshot } else { slot.last };
        let may_conflate = self.may_conflate(seq, event.book);
        if (may_conflate && newest > seq) || self.is_receipted(seq, history) {
            return;
        }
        // The note that a book was dropped comes where its last dropped event was. Until then the
        // others of the channel go on; the settlement sees what is not made good.
        if event.book && (self.was_behind() || terms.interval_ms.is_some()) {
            return;
        }
        panic!(
            "{} ({terms:?}) was never sent: {by} came before it, no receipt covers it, and {} \
             (slow: {:?}, waited: {:?}, newest: {newest})",
            history.describe(seq),
            if may_conflate { "nothing replaces it" } else { "it is not conflated" },
            self.slow,
            self.waited,
        );
    }

    /// Whether anything ever held its client up.
    pub(super) const fn was_behind(&self) -> bool {
        self.slow.ever() || self.waited.ever()
    }

    /// Whether a newer event may stand for this one, if it is open. Of a book that has lost events
    /// nothing comes before its next snapshot, however fast its client is by then.
    pub(super) fn may_conflate(&self, seq: u64, is_book: bool) -> bool {
        let State::Open(number) = self.state(seq) else { return false };
        let terms = self.terms(number);
        let was_behind = self.slow.at(seq) || self.waited.at(seq);
        let may_lag = was_behind || is_book && self.was_behind();
        terms.policy == Policy::Latest && (may_lag || terms.interval_ms.is_some())
    }

    fn is_receipted(&self, seq: u64, history: &History) -> bool {
        let name = history.name(seq);
        self.receipts.iter().any(|receipt| receipt.covers(seq, name))
    }

    /// Where a reader that has yet to get event `seq`, which is open, may still be: behind the last
    /// event that it got under the same terms.
    pub(super) fn place_before(&self, seq: u64) -> u64 {
        let State::Open(number) = self.state(seq) else { return seq };
        let last = self.terms_last.get(usize::from(number)).copied().unwrap_or_default();
        let skipped = self.receipts.iter().map(|receipt| receipt.to).max().unwrap_or_default();
        seq.min(last.max(self.proven).max(self.changed).max(skipped) + 1)
    }

    /// Open events up to the end, with their terms.
    pub(super) fn open(&self) -> impl Iterator<Item = (u64, &Terms)> {
        let numbered = self.states.iter().zip(self.base + 1..);
        numbered.filter_map(|(state, seq)| match state {
            State::Open(number) => Some((seq, self.terms(*number))),
            _ => None,
        })
    }
}

impl Receipt {
    pub(super) fn covers(&self, seq: u64, channel: &str) -> bool {
        let named = |name: &String| name == channel || super::terms::matches(name, channel);
        (self.from..=self.to).contains(&seq) && self.channels.iter().any(named)
    }
}

fn place<T: Clone + Default>(table: &mut Vec<T>, at: usize) -> &mut T {
    if table.len() <= at {
        table.resize(at + 1, T::default());
    }
    &mut table[at]
}

/// The place of a channel's events of one interval in [`Ledger::channel_last`].
fn lane(channel: usize, terms: &Terms) -> usize {
    let intervals = &super::history::INTERVALS_MS;
    let at = intervals.iter().position(|&ms| Some(ms) == terms.interval_ms);
    channel * (intervals.len() + 1) + at.map_or(0, |at| at + 1)
}
