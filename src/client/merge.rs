//! Two connections, one stream: the first of each event is taken, the other one dropped, and what
//! one of them has lost comes from the other.
//!
//! Values in, values out. Not here: the connections ([`super::pair`]). Invariants: of each channel
//! and key, `seq` only rises in what is given, but for a snapshot behind a gap; a gap is given only
//! if neither side has brought what it covers; and what is held back while one side has to catch
//! up with the other is bounded.

use std::collections::{HashMap, VecDeque};

use super::item::{Event, Gap, Item, Link, Notice};
use super::progress::Seen;
use crate::limits::{PAIR_GAPS_MAX, PAIR_HELD_MAX};
use crate::protocol::channel::Pattern;

/// Which of the two connections.
pub type SideNumber = usize;

/// What has come over two connections.
#[derive(Debug, Default)]
pub struct Merge {
    sides: [Side; 2],
    seen: HashMap<Box<str>, Seen>,
    /// What was given of gaps, the last ones.
    reported: VecDeque<Loss>,
    /// Everything up to it was given.
    place: Option<u64>,
}

/// One of the connections and those before it.
#[derive(Debug, Default)]
struct Side {
    is_up: bool,
    /// It has brought everything from here to `whole`, but for its gaps; none: not known yet.
    from: Option<u64>,
    whole: u64,
    /// What it has lost, the last ones.
    gaps: VecDeque<Loss>,
    /// Those that the other side may still fill.
    pending: Vec<Loss>,
    /// Its events behind these.
    held: VecDeque<Event<'static>>,
    /// Of these a snapshot is given whole, because a gap was.
    again: Vec<Pattern>,
}

/// A gap, and what it is about.
#[derive(Debug, Clone)]
struct Loss {
    gap: Gap,
    patterns: Vec<Pattern>,
}

type Give<'a> = &'a mut dyn FnMut(Item<'static>);

impl Merge {
    /// Takes what one read of a side has brought; everything up to `whole` was in it or before.
    pub fn handle_items(
        &mut self,
        number: SideNumber,
        items: impl IntoIterator<Item = Item<'static>>,
        whole: Option<u64>,
        give: Give<'_>,
    ) {
        for item in items {
            match item {
                Item::Event(event) => self.handle_event(number, event, give),
                Item::Gap(gap) => self.handle_gap(number, gap, give),
                Item::Notice(notice) => {
                    self.handle_notice(number, &notice, give);
                    give(Item::Notice(notice));
                }
                Item::Control(_) => {}
            }
        }
        self.handle_whole(number, whole, give);
    }

    /// A side has no connection.
    pub fn handle_loss(&mut self, number: SideNumber, give: Give<'_>) {
        self.sides[number].is_up = false;
        self.judge(give);
    }

    /// Another epoch: nothing of the former one can be compared.
    pub fn reset(&mut self, give: Give<'_>) {
        for side in &mut self.sides {
            let former = std::mem::take(side);
            former.pending.into_iter().for_each(|loss| give(Item::Gap(loss.gap)));
            side.is_up = former.is_up;
        }
        self.seen.clear();
        self.reported.clear();
        self.place = None;
    }

    /// Whether a side has a connection.
    #[must_use]
    pub const fn is_up(&self, number: SideNumber) -> bool {
        self.sides[number].is_up
    }

    /// Everything up to this `seq` was given.
    #[must_use]
    pub const fn place(&self) -> Option<u64> {
        self.place
    }

    /// Channels that something came of.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.seen.len()
    }

    fn handle_notice(&mut self, number: SideNumber, notice: &Notice, give: Give<'_>) {
        match notice {
            Notice::Connected { .. } => {
                self.sides[number].is_up = true;
                self.sides[number].again.clear();
            }
            Notice::Whole { .. } => self.sides[number].again.clear(),
            Notice::Lost { .. } => self.handle_loss(number, give),
            _ => {}
        }
    }

    fn handle_whole(&mut self, number: SideNumber, whole: Option<u64>, give: Give<'_>) {
        let side = &mut self.sides[number];
        let Some(whole) = whole else {
            side.from = None;
            return;
        };
        side.from.get_or_insert(whole + 1);
        if whole > side.whole {
            side.whole = whole;
            self.judge(give);
        }
        if self.sides[number].pending.is_empty() {
            self.place = self.place.max(Some(whole));
        }
    }

    fn handle_event(&mut self, number: SideNumber, event: Event<'static>, give: Give<'_>) {
        if !self.is_wanted(number, &event) {
            return;
        }
        if !self.sides[number].holds_back(&event) {
            return self.take(event, give);
        }
        let side = &mut self.sides[number];
        side.held.push_back(event);
        if side.held.len() > PAIR_HELD_MAX {
            for loss in std::mem::take(&mut side.pending) {
                self.report(number, loss, give);
            }
            self.release(number, give);
        }
    }

    fn handle_gap(&mut self, number: SideNumber, gap: Gap, give: Give<'_>) {
        let loss = Loss::of(gap);
        let side = &mut self.sides[number];
        side.gaps.push_back(loss.clone());
        if side.gaps.len() > PAIR_GAPS_MAX
            && let (Some(oldest), Some(from)) = (side.gaps.pop_front(), &mut side.from)
        {
            *from = (*from).max(oldest.gap.to + 1);
        }
        side.pending.push(loss);
        if side.pending.len() > PAIR_GAPS_MAX {
            let oldest = side.pending.remove(0);
            self.report(number, oldest, give);
        }
        self.judge(give);
    }

    /// Settles the gaps of which it is known now whether the other side fills them.
    fn judge(&mut self, give: Give<'_>) {
        loop {
            let mut is_settled = true;
            for number in 0..self.sides.len() {
                let pending = std::mem::take(&mut self.sides[number].pending);
                let count = pending.len();
                for loss in pending {
                    match self.verdict(number, &loss) {
                        Verdict::Pending => self.sides[number].pending.push(loss),
                        Verdict::Filled => {}
                        Verdict::Lost(rest) => self.report(number, rest, give),
                    }
                }
                if self.sides[number].pending.len() < count {
                    self.release(number, give);
                    // What was held back may be what a gap of the other side waits for.
                    is_settled = false;
                }
            }
            if is_settled {
                return;
            }
        }
    }

    fn verdict(&self, number: SideNumber, loss: &Loss) -> Verdict {
        let Some(rest) = self.unreported(loss) else { return Verdict::Filled };
        let other = &self.sides[1 - number];
        let holds = other.held.iter().any(|event| {
            event.seq <= rest.gap.to && rest.patterns.iter().any(|p| p.matches(&event.channel))
        });
        if other.is_whole_in(&rest) {
            if holds || (other.is_up && other.whole < rest.gap.to) {
                return Verdict::Pending;
            }
            if other.whole >= rest.gap.to {
                return Verdict::Filled;
            }
        }
        Verdict::Lost(rest)
    }

    /// What of a gap was not given before.
    fn unreported(&self, loss: &Loss) -> Option<Loss> {
        let Gap { mut from, to, .. } = loss.gap;
        for known in &self.reported {
            let is_same = loss.patterns.iter().all(|name| known.patterns.contains(name));
            if is_same && known.gap.from <= from && known.gap.to >= from {
                from = known.gap.to + 1;
            }
        }
        if from > to {
            return None;
        }
        let missed = loss.gap.missed.filter(|_| from == loss.gap.from);
        let gap = Gap { from, missed, ..loss.gap.clone() };
        Some(Loss { gap, patterns: loss.patterns.clone() })
    }

    fn report(&mut self, number: SideNumber, loss: Loss, give: Give<'_>) {
        let again = &mut self.sides[number].again;
        for pattern in &loss.patterns {
            if !again.contains(pattern) {
                again.push(pattern.clone());
            }
        }
        self.reported.push_back(loss.clone());
        if self.reported.len() > PAIR_GAPS_MAX {
            self.reported.pop_front();
        }
        give(Item::Gap(loss.gap));
    }

    /// Gives the events of a side that nothing holds back any more.
    fn release(&mut self, number: SideNumber, give: Give<'_>) {
        let held = std::mem::take(&mut self.sides[number].held);
        for event in held {
            if self.sides[number].holds_back(&event) {
                self.sides[number].held.push_back(event);
            } else if self.is_wanted(number, &event) {
                self.take(event, give);
            }
        }
    }

    /// Whether an event is new, or belongs to a snapshot behind a gap.
    fn is_wanted(&self, number: SideNumber, event: &Event<'_>) -> bool {
        let seen = self.seen.get(&*event.channel);
        seen.is_none_or(|seen| event.seq > seen.last(event.key.as_deref()))
            || (event.link == Link::Recovered
                && self.sides[number].again.iter().any(|p| p.matches(&event.channel)))
    }

    fn take(&mut self, event: Event<'static>, give: Give<'_>) {
        if !self.seen.contains_key(&*event.channel) {
            self.seen.insert((*event.channel).into(), Seen::default());
        }
        let seen = self.seen.get_mut(&*event.channel).expect("it was just looked for");
        // A snapshot behind a gap is older than what came before the gap.
        if event.seq > seen.last(event.key.as_deref()) {
            seen.note(event.key.as_deref(), event.seq);
        }
        give(Item::Event(event));
    }
}

enum Verdict {
    Pending,
    Filled,
    /// This of it is lost.
    Lost(Loss),
}

impl Side {
    /// Whether an event is behind a gap that may still be filled.
    fn holds_back(&self, event: &Event<'_>) -> bool {
        self.pending.iter().any(|loss| {
            event.seq >= loss.gap.from && loss.patterns.iter().any(|p| p.matches(&event.channel))
        })
    }

    /// Whether it has lost nothing of what a gap of the other side covers.
    fn is_whole_in(&self, loss: &Loss) -> bool {
        self.from.is_some_and(|from| from <= loss.gap.from)
            && !self.gaps.iter().any(|own| own.overlaps(loss))
    }
}

impl Loss {
    fn of(gap: Gap) -> Self {
        let patterns = gap.channels.iter().filter_map(|name| Pattern::parse(name).ok()).collect();
        Self { gap, patterns }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.gap.from <= other.gap.to
            && other.gap.from <= self.gap.to
            && self.patterns.iter().any(|one| other.patterns.iter().any(|p| p.overlaps(one)))
    }
}

#[cfg(test)]
mod tests;
