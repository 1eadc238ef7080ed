//! Changes of a connection's subscription set, by its client or by the server.
//!
//! A connection that has everything moves to the cohort of its new set at once. For one that lags
//! the new set holds from the head on, as the answer's `seq` says, and the old one up to there;
//! only what is wanted no more stops at once. Not here: the texts of answers (`protocol`).
//! Invariant: an event is wanted by the set in force at its place in the log, and by no other.

use std::ops::ControlFlow;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use crate::limits::CLASSES_MAX;
use crate::protocol::channel::Pattern;
use crate::protocol::command::ErrorCode;
use crate::protocol::reply::{self, ChannelResult, Effective};
use crate::protocol::terms::{Interval, Terms, Wish};

use super::super::cohorts::{CohortId, CohortKey, Subscription};
use super::super::connection::{ConnectionId, find_mut};
use super::super::lag::{Lag, Next, Place, View};
use super::Shard;

impl Shard {
    pub(super) fn subscribe<'a>(
        &mut self,
        id: ConnectionId,
        channels: &'a [String],
        wish: Wish,
    ) -> Vec<ChannelResult<'a>> {
        self.prepare_change(id);
        let mut set = self.subscriptions(id).to_vec();
        let wishes: FxHashSet<_> = set.iter().map(|held| held.wish).collect();
        let has_room = wishes.len() < CLASSES_MAX || wishes.contains(&wish);
        let outcomes = channels
            .iter()
            .map(|channel| self.add_to(id, &mut set, channel, wish, has_room))
            .collect();
        self.resubscribe(id, set);
        self.results(id, channels, outcomes)
    }

    /// Adds one pattern to `set`, which `has_room` for the wish or has it already.
    fn add_to(
        &self,
        id: ConnectionId,
        set: &mut Vec<Subscription>,
        channel: &str,
        wish: Wish,
        has_room: bool,
    ) -> Result<Subscription, (ErrorCode, String)> {
        let pattern = Pattern::parse(channel)
            .map_err(|error| (ErrorCode::ChannelInvalid, error.to_string()))?;
        self.check_allowed(id, &pattern)?;
        let subscription = Subscription { pattern, wish };
        self.check_policies(id, &subscription)?;
        let place = set.binary_search_by(|held| held.pattern.cmp(&subscription.pattern));
        let max = self.connection(id).map_or(0, |connection| self.subscriptions_max(connection));
        if place.is_err() && set.len() >= max {
            let message = format!("{max} subscriptions are held already; unsubscribe some");
            return Err((ErrorCode::TooManySubscriptions, message));
        }
        if !has_room {
            let message = format!(
                "{CLASSES_MAX} different combinations of policy, limits and interval are held \
                 already; use one of them"
            );
            return Err((ErrorCode::TooManyPolicies, message));
        }
        match place {
            Ok(at) => set[at] = subscription.clone(),
            Err(at) => set.insert(at, subscription.clone()),
        }
        Ok(subscription)
    }

    pub(super) fn unsubscribe<'a>(
        &mut self,
        id: ConnectionId,
        channels: &'a [String],
    ) -> Vec<ChannelResult<'a>> {
        self.prepare_change(id);
        let mut set = self.subscriptions(id).to_vec();
        let outcomes = (channels.iter())
            .map(|channel| {
                let at = set.binary_search_by(|held| held.pattern.as_str().cmp(channel));
                at.map(|at| set.remove(at)).map_err(|_| {
                    let message = "not in the subscription list; `list` shows what is";
                    (ErrorCode::NotSubscribed, message.to_owned())
                })
            })
            .collect();
        self.resubscribe(id, set);
        self.results(id, channels, outcomes)
    }

    fn results<'a>(
        &mut self,
        id: ConnectionId,
        channels: &'a [String],
        outcomes: Vec<Result<Subscription, (ErrorCode, String)>>,
    ) -> Vec<ChannelResult<'a>> {
        let seq = self.boundary(id);
        (channels.iter().zip(outcomes))
            .map(|(channel, outcome)| ChannelResult {
                channel,
                outcome: outcome.map(|subscription| self.effective(&subscription, seq)),
            })
            .collect()
    }

    /// Brings a connection within its limits by its present set, which decides for what is behind,
    /// and makes sure that the log still has what comes after a pending change.
    pub(super) fn prepare_change(&mut self, id: ConnectionId) {
        self.make_ready(id);
        self.keep_up(id);
        let Some((view, lag)) = self.lagging(id) else { return };
        if lag.next.as_ref().is_some_and(|next| next.at < view.log.tail()) {
            self.skip_to_next(id);
            self.begin_next(id);
            self.keep_up(id);
        }
    }

    /// Gives a connection that is not in sync another set; returns for each class of the present
    /// one how many open events it loses, because nothing of the new set matches their channels.
    pub(super) fn resubscribe(&mut self, id: ConnectionId, set: Vec<Subscription>) -> Vec<u64> {
        let Some(connection) = self.connection(id) else { return Vec::new() };
        if *self.subscriptions(id) == set {
            return Vec::new();
        }
        let tier = connection.tier;
        self.change_cohort(id, CohortKey { set: Rc::from(set), tier })
    }

    /// Moves a client's conflating subscriptions to a slower or faster tier, and tells it.
    pub(super) fn change_tier(&mut self, id: ConnectionId, tier: Option<Interval>) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        if connection.lag.as_ref().is_some_and(|lag| lag.next.is_some()) {
            return; // One change at a time; there will be another look.
        }
        let classes = self.cohorts.cohort(connection.cohort).classes.list();
        if !classes.iter().any(|class| class.conflates()) {
            return;
        }
        connection.tier = tier;
        self.prepare_change(id);
        let set = self.subscriptions(id);
        self.change_cohort(id, CohortKey { set, tier });
        let seq = self.boundary(id);
        self.counters().tier_moves.add(1);
        self.say(id, |out| reply::tier(out, tier, seq));
    }

    fn change_cohort(&mut self, id: ConnectionId, key: CohortKey) -> Vec<u64> {
        let head = (&self.log).into();
        let cohort = self.cohorts.hold(key, &mut self.channels, head);
        let Some((view, lag)) = self.lagging(id) else {
            self.cohorts.release(cohort);
            return Vec::new();
        };
        if lag.next.is_none() && view.start(lag).is_none() && !view.cohort.is_pending() {
            self.enter_cohort(id, cohort);
            return Vec::new();
        }
        self.schedule(id, cohort)
    }

    /// Makes `cohort` the set in force for a connection that has everything.
    fn enter_cohort(&mut self, id: ConnectionId, cohort: CohortId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let before = std::mem::replace(&mut connection.cohort, cohort);
        let behind = connection.lag.as_ref().is_some_and(|lag| lag.behind);
        let cohort = self.cohorts.cohort(cohort);
        let view = View { log: &self.log, retained: &self.retained, slots: &self.slots, cohort };
        let head = self.log.head();
        let lag = Lag { behind, ..view.lag(head, head, head) };
        connection.joined_at = head;
        connection.lag = Some(Box::new(lag));
        self.cohorts.release(before);
    }

    /// Notes `cohort` as the set that a lagging connection is to have from its pending change on,
    /// or else from the head; returns what it loses of each class of the present set.
    fn schedule(&mut self, id: ConnectionId, cohort: CohortId) -> Vec<u64> {
        let (head, seq_last) = (self.log.head(), self.log.seq_last());
        let Some(connection) = find_mut(&mut self.connections, id) else { return Vec::new() };
        let present = self.cohorts.cohort(connection.cohort);
        let coming = self.cohorts.cohort(cohort);
        let Some(lag) = connection.lag.as_deref_mut() else { return Vec::new() };
        let (log, retained, slots) = (&self.log, &self.retained, &self.slots);
        let view = View { log, retained, slots, cohort: present };
        let before = lag.next.take();
        let (at, seq) = before.as_ref().map_or((head, seq_last), |next| (next.at, next.seq));
        let due = before.as_ref().map_or_else(
            || present.classes.list().iter().map(|class| (class.events, class.bytes)).collect(),
            |next| next.due.clone(),
        );
        let places = places_at(&View { log, retained, slots, cohort: coming }, at, seq);
        lag.next = Some(Next { cohort, at, seq, due, places });

        let removed: FxHashSet<_> = (present.channels())
            .filter(|&channel| !coming.classes.wants(channel) && !lag.removed.contains(&channel))
            .collect();
        let mut lost = vec![(0, 0); lag.places.len()];
        if let Some(start) = view.start(lag).filter(|_| !removed.is_empty()) {
            view.each(lag, start, |item| {
                if removed.contains(&item.entry.channel) {
                    lost[item.class].0 += 1;
                    lost[item.class].1 += u64::from(item.entry.len);
                }
                ControlFlow::Continue(())
            });
        }
        for (place, (events, bytes)) in lag.places.iter_mut().zip(&lost) {
            place.take(*events, *bytes);
        }
        lag.removed.extend(removed);
        if let Some(before) = before {
            self.cohorts.release(before.cohort);
        }
        lost.into_iter().map(|(events, _)| events).collect()
    }

    /// Makes a pending change take effect, when everything before it was sent; false when there is
    /// none.
    pub(super) fn begin_next(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        let Some(lag) = connection.lag.as_deref_mut() else { return false };
        let Some(next) = lag.next.take() else { return false };
        let before = std::mem::replace(&mut connection.cohort, next.cohort);
        connection.joined_at = next.at;
        let may_have_skipped = lag.behind || lag.places.iter().any(|place| place.conflating);
        lag.places = next.places;
        lag.removed = FxHashSet::default();
        self.cohorts.release(before);
        if may_have_skipped {
            self.join_books(id);
        }
        true
    }

    /// The set that the client has, or is about to have.
    pub(super) fn subscriptions(&self, id: ConnectionId) -> Rc<[Subscription]> {
        let connection = self.connection(id).expect("the caller has just seen it");
        let next = connection.lag.as_ref().and_then(|lag| lag.next.as_ref());
        let cohort = next.map_or(connection.cohort, |next| next.cohort);
        Rc::clone(&self.cohorts.cohort(cohort).key.set)
    }

    /// The client's set holds for every event after this `seq`.
    pub(super) fn boundary(&self, id: ConnectionId) -> u64 {
        let next = self.connection(id).and_then(|c| c.lag.as_ref()?.next.as_ref());
        next.map_or_else(|| self.log.seq_last(), |next| next.seq)
    }

    pub(super) fn effective(&self, subscription: &Subscription, seq: u64) -> Effective {
        let pattern = &subscription.pattern;
        let matched = if pattern.is_exact() {
            u64::from(self.channels.id(pattern.as_str()).is_some())
        } else {
            self.channels.iter().filter(|(_, c)| pattern.matches(&c.name)).count() as u64
        };
        let (whole, parts) = self.cohorts.rules().of_pattern(pattern);
        let agree = |rule| Terms::agree(&subscription.wish, rule);
        let except = parts.map(|rule| (rule.pattern.clone(), agree(Some(&rule.wish)))).collect();
        Effective { terms: agree(whole), seq, matched, except }
    }
}

/// Places of a connection that enters a cohort at entry `at`, which is in the log.
fn places_at(view: &View<'_>, at: u64, seq: u64) -> Vec<Place> {
    let mut lag = view.lag(at, at, at);
    for place in &mut lag.places {
        (place.from, place.seq_from) = (at, seq);
    }
    lag.places
}
