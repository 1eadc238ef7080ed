//! What happens when a client cannot keep up: limits, skips, receipts, and ends.
//!
//! Limits are looked at when a connection is visited: before it is sent something, and by the sweep
//! for those whose policy ends something. There is no timer for one client, and nothing is done for
//! one that is stalled. Not here: what is open ([`super::super::lag`]). Invariant: what is skipped
//! on terms that do not conflate is counted in one receipt, which is queued in the same step.

use std::ops::ControlFlow;

use rustc_hash::FxHashMap;

use crate::handoff::batch::{ChannelId, SlotId};
use crate::limits::{LOSSY_EVENTS_MAX, RECEIPT_CHANNELS_MAX, RECEIPTS_BYTES_MAX};
use crate::protocol::channel::Pattern;
use crate::protocol::policy::Policy;
use crate::protocol::reply::{self, Cause, Dropped, Gap};
use crate::protocol::ws::close::CloseReason;

use super::super::Now;
use super::super::cohorts::most_specific;
use super::super::connection::{ConnectionId, Phase};
use super::super::cut::Cut;
use super::super::lag::{Lag, View};
use super::super::recovery::Pending;
use super::read_back::Reading;
use super::{Shard, milliseconds};

impl Shard {
    /// Brings a connection that is not in sync within its limits, so that what it is sent next is
    /// what its terms say.
    pub(super) fn keep_up(&mut self, id: ConnectionId) {
        self.tell_channels(id);
        if self.read_on(id) != Reading::Not {
            return; // It is old by nature, and no limit holds for it.
        }
        self.pass.is_laden |= self.lagging(id).is_some_and(|(view, lag)| view.is_laden(lag));
        self.catch_up_with(id);
        if self.lagging(id).is_some_and(|(_, lag)| lag.waits()) {
            return; // What is behind the client's place is not known yet.
        }
        self.enforce(id, |_| true);
        self.tell_forgotten(id);
    }

    /// The same for the policies that end something, which must not wait for the client to read.
    pub(super) fn keep_up_or_leave(&mut self, id: ConnectionId) {
        if self.lagging(id).is_some_and(|(_, lag)| lag.waits() || lag.reading.is_some()) {
            return;
        }
        self.enforce(id, |policy| matches!(policy, Policy::Close | Policy::Unsubscribe));
    }

    fn enforce(&mut self, id: ConnectionId, concerns: impl Fn(Policy) -> bool) {
        let now_ms = milliseconds(self.now_ns);
        let mut class = 0;
        loop {
            if self.connection(id).is_none_or(|connection| connection.phase != Phase::Open) {
                return;
            }
            let Some((view, lag)) = self.lagging(id) else { return };
            let Some(terms) = view.cohort.classes.list().get(class).map(|class| class.terms) else {
                return;
            };
            let cause =
                if concerns(terms.policy) { passed(&view, lag, class, now_ms) } else { None };
            // A client that has asked for another set already shall not lose a part of that one.
            let is_changing = !lag.stages.is_empty();
            let looks_again = match (cause, terms.policy) {
                (None, _) => false,
                (Some(_), Policy::Latest) => {
                    lag.places[class].conflating = true;
                    false
                }
                (Some(_), Policy::Close) => return self.close_slow(id),
                (Some(cause), Policy::Unsubscribe) if !is_changing => {
                    self.drop_heaviest(id, class, cause)
                }
                (Some(cause), Policy::Auto | Policy::All | Policy::Unsubscribe) => {
                    self.skip(id, class, cause);
                    false
                }
            };
            class += usize::from(!looks_again);
        }
    }

    /// Skips what is open of a class, but for the newest snapshot of each book and its deltas.
    fn skip(&mut self, id: ConnectionId, class: usize, cause: Cause) {
        let Some((view, lag)) = self.lagging(id) else { return };
        let survey = survey(&view, lag, class);
        if survey.is_book_lost {
            return self.close_slow(id);
        }
        let end = view.end(lag, class);
        let (events, bytes) = view.due(lag, class);
        let place = &lag.places[class];
        let missed = events.wrapping_sub(place.taken).wrapping_sub(survey.events);
        let from = place.seq_from + 1;
        let names = self.lossy_channels(id, class);
        let Some((view, lag)) = self.lagging(id) else { return };
        let skipped = skipped_books(&view, lag, class, &survey);
        Pending::put_off(&mut lag.pending, &view.store.slots, skipped.iter().copied());
        let to = lag.end.as_ref().map_or_else(|| view.store.log.seq_last(), |end| end.seq);
        let place = &mut lag.places[class];
        place.taken = events.wrapping_sub(survey.events);
        place.taken_bytes = bytes.wrapping_sub(survey.bytes);
        place.skipped_to = end;
        place.books.retain(|(slot, _)| {
            survey.books.binary_search_by_key(slot, |(other, _)| *other).is_err()
        });
        place.books.extend(survey.books);
        place.books.sort_unstable();
        if survey.events == 0 {
            (place.from, place.seq_from) = (end, to);
        }
        if missed > 0 {
            if let Some(end) = lag.end.as_ref().map(|end| end.at) {
                let is_behind = |&id: &SlotId| view.store.slots.slot(id).base >= end;
                lag.cut(skipped.into_iter().filter(is_behind), Cut::Skipped);
            }
            let policy = self.policy(id, class);
            self.write_gap(id, names, (from, to), Some(missed), (cause, policy));
        }
    }

    /// Skips everything before a pending change that is still to be sent: newest values that are
    /// kept, since the log has overwritten the rest.
    pub(super) fn skip_to_next(&mut self, id: ConnectionId) {
        let Some((view, lag)) = self.lagging(id) else { return };
        let (mut missed, mut must_end) = (vec![0; lag.places.len()], false);
        view.each(lag, view.start(lag).unwrap_or(u64::MAX), |item| {
            let policy = view.cohort.classes.list()[item.class].terms.policy;
            let is_book = view.store.slots.slot(item.entry.slot).is_book_at(item.number);
            missed[item.class] += u64::from(item.is_open);
            must_end |= item.is_open && (is_book || policy == Policy::Close);
            ControlFlow::Continue(())
        });
        if must_end {
            return self.close_slow(id);
        }
        for (class, missed) in missed.into_iter().enumerate().filter(|(_, missed)| *missed > 0) {
            let names = self.lossy_channels(id, class);
            let Some((_, lag)) = self.lagging(id) else { return };
            let from = lag.places[class].seq_from + 1;
            let to = lag.end.as_ref().map_or(0, |end| end.seq);
            let policy = self.policy(id, class);
            self.write_gap(id, names, (from, to), Some(missed), (Cause::Slow, policy));
        }
    }

    /// A new set takes effect: books that are not whole go on at their newest snapshots.
    pub(super) fn join_books(&mut self, id: ConnectionId, cut: &FxHashMap<SlotId, Cut>) {
        let Some((view, lag)) = self.lagging(id) else { return };
        if cut.is_empty() {
            return;
        }
        let mut missed = vec![(0, 0); lag.places.len()];
        let mut books = vec![Vec::new(); lag.places.len()];
        view.each(lag, view.start(lag).unwrap_or(u64::MAX), |item| {
            let slot = view.store.slots.slot(item.entry.slot);
            let is_replaced = slot.is_book_at(item.number) && slot.supersedes(item.number);
            if is_replaced && cut.contains_key(&item.entry.slot) {
                missed[item.class].0 += 1;
                missed[item.class].1 += u64::from(item.entry.len);
                books[item.class].push((item.entry.slot, slot.base));
            }
            ControlFlow::Continue(())
        });
        for (class, ((missed, bytes), mut books)) in missed.into_iter().zip(books).enumerate() {
            let Some((view, lag)) = self.lagging(id) else { return };
            let terms = view.cohort.classes.list()[class].terms;
            let seq = view.store.log.seq_last();
            let place = &mut lag.places[class];
            if terms.policy == Policy::Latest {
                place.conflating |= missed > 0;
            } else if missed > 0 {
                let was_skipped = |(id, _): &(SlotId, u64)| cut[id] == Cut::Skipped;
                if terms.policy == Policy::Close && books.iter().any(was_skipped) {
                    return self.close_slow(id);
                }
                books.sort_unstable();
                books.dedup();
                let skipped = books.iter().map(|&(id, _)| id);
                Pending::put_off(&mut lag.pending, &view.store.slots, skipped);
                place.books = books;
                place.take(missed, bytes);
                let from = place.seq_from + 1;
                let names = self.lossy_channels(id, class);
                let why = (Cause::Snapshot, Some(terms.policy));
                self.write_gap(id, names, (from, seq), Some(missed), why);
            }
        }
    }

    /// Says which values are gone that a client would have needed, when they come next for it; as
    /// many as [`RECEIPTS_BYTES_MAX`] allows, and the others when these were sent.
    fn tell_forgotten(&mut self, id: ConnectionId) {
        loop {
            let Some(connection) = self.connection(id) else { return };
            let owed_bytes = connection.owed.control_bytes();
            if connection.phase != Phase::Open || owed_bytes > RECEIPTS_BYTES_MAX {
                return;
            }
            let Some((view, lag)) = self.lagging(id) else { return };
            let Some(item) = view.first(lag).filter(|item| item.is_forgotten) else { return };
            if lag.walk().is_some() {
                self.tell_unkept(id, &item);
                continue;
            }
            if view.store.slots.slot(item.entry.slot).is_book_at(item.number) {
                return self.close_slow(id);
            }
            view.move_to(lag, item.number + 1);
            let name = self.channels.channel(item.entry.channel).name.to_string();
            let seq = item.entry.seq;
            let policy = self.policy(id, item.class);
            self.write_gap(id, vec![name], (seq, seq), Some(1), (Cause::Slow, policy));
        }
    }

    pub(super) fn close_slow(&mut self, id: ConnectionId) {
        let now = Now { monotonic_ns: self.now_ns, unix_ns: 0 };
        self.close(id, CloseReason::SlowConsumer, now);
    }

    /// Ends the subscription of a class that has most to be sent, and every one of which the log
    /// has overwritten something. False when there is none.
    fn drop_heaviest(&mut self, id: ConnectionId, class: usize, cause: Cause) -> bool {
        let mut patterns = Vec::new();
        if cause != Cause::Slow {
            patterns.extend(self.heaviest(id, class));
        }
        // What is overwritten is receipted first: later nobody could tell which channels it was of.
        let classes = self.lagging(id).map_or(0, |(_, lag)| lag.places.len());
        for class in 0..classes {
            let now_ms = milliseconds(self.now_ns);
            let Some((view, lag)) = self.lagging(id) else { return false };
            let state = &view.cohort.classes.list()[class];
            let (policy, conflates) = (state.terms.policy, state.conflates());
            if conflates || passed(&view, lag, class, now_ms) != Some(Cause::Slow) {
                continue;
            }
            match policy {
                Policy::Close => self.close_slow(id),
                Policy::Unsubscribe => patterns.extend(self.patterns_of(id, class)),
                _ => {}
            }
            self.skip(id, class, Cause::Slow);
        }
        patterns.sort_unstable();
        patterns.dedup();
        if patterns.is_empty() || self.connection(id).is_none_or(|c| c.is_closing()) {
            return false;
        }
        let Some((view, lag)) = self.lagging(id) else { return false };
        let places = view.cohort.classes.list().iter().zip(&lag.places).enumerate();
        let counted: Vec<_> = places
            .filter(|(_, (class, _))| !class.conflates())
            .map(|(number, (class, place))| (number, class.terms.policy, place.seq_from + 1))
            .collect();
        let counted: Vec<_> = (counted.into_iter())
            .map(|(class, policy, from)| (class, policy, from, self.lossy_channels(id, class)))
            .collect();
        let mut set = self.subscriptions(id).to_vec();
        set.retain(|held| !patterns.contains(&held.pattern));
        let removed = self.resubscribe(id, set, None);
        let seq = self.boundary(id);
        let set = self.subscriptions(id);
        // Operator's rules can put the channels of one pattern into several classes.
        for (class, policy, from, names) in counted {
            let missed = removed.get(class).copied().unwrap_or_default();
            if missed == 0 {
                continue;
            }
            // Those that are too many are named by patterns.
            let is_gone = |name: &String| {
                patterns.iter().any(|pattern| pattern.as_str() == name)
                    || !set.iter().any(|held| held.pattern.matches(name))
            };
            let mut names: Vec<_> = names.into_iter().filter(is_gone).collect();
            if names.is_empty() {
                names = patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
            }
            self.write_gap(id, names, (from, seq), Some(missed), (cause, Some(policy)));
        }
        let names: Vec<_> = patterns.iter().map(Pattern::as_str).collect();
        self.counters().dropped.add(names.len() as u64);
        let dropped = Dropped { channels: &names, seq, cause };
        self.say(id, |out| reply::dropped(out, &dropped));
        true
    }

    /// The pattern of a class with the most bytes to be sent.
    fn heaviest(&mut self, id: ConnectionId, class: usize) -> Option<Pattern> {
        let set = self.subscriptions(id);
        let (view, lag) = self.lagging(id)?;
        let mut bytes: FxHashMap<ChannelId, u64> = FxHashMap::default();
        view.each(lag, lag.places[class].from, |item| {
            if item.class == class {
                *bytes.entry(item.entry.channel).or_default() += u64::from(item.entry.len);
            }
            ControlFlow::Continue(())
        });
        let mut by_pattern: FxHashMap<&Pattern, u64> = FxHashMap::default();
        for (channel, bytes) in bytes {
            let name = &self.channels.channel(channel).name;
            if let Some(held) = most_specific(&set, name) {
                *by_pattern.entry(&held.pattern).or_default() += bytes;
            }
        }
        let heaviest = by_pattern.into_iter().max_by_key(|&(pattern, bytes)| (bytes, pattern));
        heaviest.map(|(pattern, _)| pattern.clone())
    }

    /// The patterns of a connection's set of which some channel is in a class, in no order.
    fn patterns_of(&mut self, id: ConnectionId, class: usize) -> Vec<Pattern> {
        let set = self.subscriptions(id);
        let Some(connection) = self.connection(id) else { return Vec::new() };
        let cohort = self.cohorts.cohort(connection.cohort);
        (cohort.channels())
            .filter(|&channel| {
                [false, true].iter().any(|&keyed| cohort.classes.of(channel, keyed) == Some(class))
            })
            .filter_map(|channel| {
                let name = &self.channels.channel(channel).name;
                Some(most_specific(&set, name)?.pattern.clone())
            })
            .collect()
    }

    /// The policy of a class of a connection's cohort.
    fn policy(&self, id: ConnectionId, class: usize) -> Option<Policy> {
        let cohort = self.cohorts.cohort(self.connection(id)?.cohort);
        cohort.classes.list().get(class).map(|class| class.terms.policy)
    }

    /// Names of the channels of a class that have had an event since the class's place; see
    /// [`Self::channels_since`].
    pub(super) fn lossy_channels(&self, id: ConnectionId, class: usize) -> Vec<String> {
        let lag = self.connection(id).and_then(|connection| connection.lag.as_ref());
        let seq_from = lag.map_or(0, |lag| lag.places[class].seq_from);
        self.channels_since(id, seq_from, |other| other == class)
    }

    /// Names of the channels of the present stage that have had an event after `since` of a class
    /// that `is_meant`, as for a receipt: see [`Self::in_receipt`].
    pub(super) fn channels_since(
        &self,
        id: ConnectionId,
        since: u64,
        is_meant: impl Fn(usize) -> bool,
    ) -> Vec<String> {
        let Some(connection) = self.connection(id) else { return Vec::new() };
        let Some(lag) = &connection.lag else { return Vec::new() };
        let cohort = self.cohorts.cohort(connection.cohort);
        let names = (cohort.channels())
            .filter(|&channel| lag.concerns(channel))
            .map(|id| (id, self.channels.channel(id)))
            .filter(|(id, channel)| {
                [false, true].iter().any(|&keyed| {
                    channel.seq_last[usize::from(keyed)] > since
                        && cohort.classes.of(*id, keyed).is_some_and(&is_meant)
                })
            })
            .map(|(_, channel)| channel.name.to_string())
            .take(RECEIPT_CHANNELS_MAX + 1)
            .collect();
        self.in_receipt(id, names)
    }

    /// What a receipt names that is for these channels: all patterns of the set, if they are too
    /// many.
    pub(super) fn in_receipt(&self, id: ConnectionId, channels: Vec<String>) -> Vec<String> {
        if channels.len() <= RECEIPT_CHANNELS_MAX {
            return channels;
        }
        self.pattern_names(id)
    }

    /// All patterns of the set, for a receipt of which nobody knows the channels.
    pub(super) fn pattern_names(&self, id: ConnectionId) -> Vec<String> {
        let set = self.subscriptions(id);
        set.iter().map(|held| held.pattern.as_str().to_owned()).collect()
    }

    /// Owes a loss receipt for `missed` events with a `seq` in `range`, and says why, on which
    /// policy if on one.
    pub(super) fn write_gap(
        &mut self,
        id: ConnectionId,
        mut names: Vec<String>,
        (from, to): (u64, u64),
        missed: Option<u64>,
        (cause, policy): (Cause, Option<Policy>),
    ) {
        if self.connection(id).is_none_or(|connection| connection.is_closing()) {
            return;
        }
        names.sort_unstable();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let gap = Gap { channels: &names, from, to, missed, cause };
        self.say(id, |out| reply::gap(out, &gap));
        self.losses.entry(id).or_default().note(&gap);
        let missed = missed.unwrap_or_default();
        let counters = self.counters();
        counters.gaps.add(1);
        counters.missed.add(missed);
        let (cause, policy) = (cause.as_str(), policy.map_or("resume", Policy::as_str));
        counters.receipts.of(cause, policy).add(1);
        counters.losses.of(cause, policy).add(missed);
    }
}

/// Which limit of a class a connection has passed, if any.
fn passed(view: &View<'_>, lag: &mut Lag, class: usize, now_ms: u32) -> Option<Cause> {
    if view.is_done(lag, class) {
        return None;
    }
    let end = view.end(lag, class);
    let tail = view.store.log.tail();
    let state = &view.cohort.classes.list()[class];
    let place = &lag.places[class];
    if place.conflating {
        return None;
    }
    if !state.conflates() && place.taken == view.due(lag, class).0 {
        let seq = lag.end.as_ref().map_or_else(|| view.store.log.seq_last(), |end| end.seq);
        (lag.places[class].from, lag.places[class].seq_from) = (end, seq);
        return None;
    }
    let terms = state.terms;
    if place.from < tail.min(end) {
        if state.conflates() || is_lossy(view, lag, class) {
            return Some(Cause::Slow);
        }
        if !view.store.slots.has_books() {
            lag.places[class].from = tail.min(end);
        }
    }
    let place = &lag.places[class];
    // One whose socket takes everything is sent everything now, and is not late; what is replayed
    // is old by nature.
    if !lag.behind || lag.recovery.is_some() {
        return None;
    }
    if state.conflates() && terms.max_age_ms.is_none() && terms.max_lag_bytes.is_none() {
        return Some(Cause::Slow);
    }
    let (_, bytes) = view.due(lag, class);
    if terms.max_lag_bytes.is_some_and(|max| bytes.wrapping_sub(place.taken_bytes) > max) {
        return Some(Cause::MaxLagBytes);
    }
    let age_max = terms.max_age_ms?;
    let oldest = oldest(view, lag, class)?;
    (now_ms.wrapping_sub(oldest) > age_max).then_some(Cause::MaxAge)
}

/// Whether some of what was open of a class is neither in the log nor kept. Where much was open, it
/// is taken for granted: a place that the log has left behind is seldom one that lost nothing.
fn is_lossy(view: &View<'_>, lag: &Lag, class: usize) -> bool {
    let due = view.due(lag, class).0.wrapping_sub(lag.places[class].taken);
    let mut open = 0;
    if view.store.slots.has_books() {
        view.each(lag, lag.places[class].from, |item| {
            open += u64::from(item.class == class && !item.is_forgotten);
            ControlFlow::Continue(())
        });
        return open != due;
    }
    due > LOSSY_EVENTS_MAX || view.newest(lag, class, due) < due
}

/// When the oldest open entry of a class was appended; the class's place is moved up to it.
fn oldest(view: &View<'_>, lag: &mut Lag, class: usize) -> Option<u32> {
    let mut found = None;
    view.each(lag, lag.places[class].from, |item| {
        if item.class == class && item.is_open {
            found = Some((item.number, item.entry.time_ms));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    let (number, time_ms) = found?;
    lag.places[class].from = number;
    Some(time_ms)
}

/// What of a class stays open when the rest is skipped.
#[derive(Debug, Default)]
struct Survey {
    events: u64,
    bytes: u64,
    /// Books of which something is skipped, and where they go on; sorted.
    books: Vec<(u32, u64)>,
    /// A book cannot go on: some of it is neither in the log nor kept.
    is_book_lost: bool,
}

fn survey(view: &View<'_>, lag: &Lag, class: usize) -> Survey {
    let mut survey = Survey::default();
    if !view.store.slots.has_books() {
        return survey;
    }
    view.each(lag, lag.places[class].from, |item| {
        let slot = view.store.slots.slot(item.entry.slot);
        if item.class != class {
            return ControlFlow::Continue(());
        }
        if slot.supersedes(item.number) {
            if slot.is_book_at(slot.base) {
                survey.books.push((item.entry.slot, slot.base));
            }
        } else if slot.is_book_at(item.number) {
            survey.is_book_lost |= item.is_forgotten;
            survey.events += 1;
            survey.bytes += u64::from(item.entry.len);
        }
        ControlFlow::Continue(())
    });
    survey.books.sort_unstable();
    survey.books.dedup();
    survey
}

/// Books of which something is skipped with a class, as far as somebody wants to know.
fn skipped_books(view: &View<'_>, lag: &Lag, class: usize, survey: &Survey) -> Vec<SlotId> {
    if lag.places[class].from >= view.store.log.tail() {
        return survey.books.iter().map(|&(id, _)| id).collect();
    }
    if lag.pending.is_empty() && lag.end.is_none() {
        return Vec::new(); // What follows takes a while.
    }
    // Of which books the log has overwritten something, nobody can tell.
    view.books(lag).filter(|book| book.class == class).map(|book| book.id).collect()
}
