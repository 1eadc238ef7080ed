//! Changes of a connection's subscription set, by its client or by the server.
//!
//! A connection that has everything moves to the cohort of its new set at once. For one that lags
//! the new set holds from the head on, as the answer's `seq` says, and the old one up to there;
//! only what is wanted no more stops at once. Not here: the texts of answers (`protocol`).
//! Invariant: an event is wanted by the set in force at its place in the log, and by no other.

use std::rc::Rc;

use rustc_hash::FxHashSet;

use crate::limits::{CLASSES_MAX, RECOVERIES_MAX};
use crate::protocol::channel::Pattern;
use crate::protocol::command::{ReqId, Start};
use crate::protocol::refusal::ErrorCode;
use crate::protocol::reply::{self, ChannelResult, Effective, Resumed};
use crate::protocol::terms::{Interval, Terms, Wish};

use super::super::cohorts::{Cohort, CohortId, CohortKey, Subscription};
use super::super::connection::{ConnectionId, find_mut};
use super::super::lag::{End, Lag, Stage, View};
use super::Shard;
use super::recovery::{Wanted, stage};

impl Shard {
    pub(super) fn subscribe<'a>(
        &mut self,
        id: ConnectionId,
        channels: &'a [String],
        wish: Wish,
        start: &Start,
        req_id: Option<&ReqId>,
    ) -> Vec<ChannelResult<'a>> {
        self.prepare_change(id);
        let mut set = self.subscriptions(id).to_vec();
        let is_first = set.is_empty();
        let wishes: FxHashSet<_> = set.iter().map(|held| held.wish).collect();
        let has_room = wishes.len() < CLASSES_MAX || wishes.contains(&wish);
        let may_recover = self.may_recover(id) || *start == Start::LIVE;
        let outcomes: Vec<_> = (channels.iter())
            .map(|channel| match may_recover {
                true => self.add_to(id, &mut set, channel, wish, has_room),
                false => Err(too_many_recoveries()),
            })
            .collect();
        let taken: Vec<_> = outcomes.iter().flatten().collect();
        let (wanted, resumed) = self.recovery_of(id, &taken, is_first, start, req_id);
        let ahead = wanted.as_ref().map_or(0, |wanted| wanted.ahead);
        let is_changed = !taken.is_empty();
        self.resubscribe(id, set, wanted);
        if is_changed {
            self.wait_for(id, is_first, ahead);
        }
        let mut results = self.results(id, channels, outcomes, resumed);
        self.add_ids(id, &mut results);
        results
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
        self.resubscribe(id, set, None);
        self.results(id, channels, outcomes, None)
    }

    fn results<'a>(
        &mut self,
        id: ConnectionId,
        channels: &'a [String],
        outcomes: Vec<Result<Subscription, (ErrorCode, String)>>,
        resumed: Option<Resumed>,
    ) -> Vec<ChannelResult<'a>> {
        let subscriptions: Vec<_> = outcomes.iter().flatten().collect();
        let mut effective = self.effective(&subscriptions, self.boundary(id)).into_iter();
        let mut next = || effective.next().expect("one for each subscription");
        (channels.iter().zip(outcomes))
            .map(|(channel, outcome)| ChannelResult {
                channel,
                outcome: outcome.map(|_| Effective { resumed, ..next() }),
            })
            .collect()
    }

    /// Brings a connection within its limits by its present set, which decides for what is behind,
    /// and makes sure that the log still has what comes after a pending change.
    pub(super) fn prepare_change(&mut self, id: ConnectionId) {
        self.make_ready(id);
        self.keep_up(id);
        while let Some((view, lag)) = self.lagging(id)
            && lag.end.as_ref().is_some_and(|end| end.at < view.store.log.tail())
        {
            self.abandon_snapshot(id);
            self.abandon_reading(id);
            self.skip_to_next(id);
            if !self.begin_next(id) {
                return;
            }
            self.keep_up(id);
        }
    }

    /// Gives a connection that is not in sync another set; returns for each class of the present
    /// one how many open events it loses, because nothing of the new set matches their channels.
    pub(super) fn resubscribe(
        &mut self,
        id: ConnectionId,
        set: Vec<Subscription>,
        wanted: Option<Wanted>,
    ) -> Vec<u64> {
        let Some(connection) = self.connection(id) else { return Vec::new() };
        if wanted.is_none() && *self.subscriptions(id) == set {
            return Vec::new();
        }
        let tier = connection.tier;
        self.change_cohort(id, Rc::from(set), tier, wanted)
    }

    /// Moves a client's conflating subscriptions to a slower or faster tier, and tells it.
    pub(super) fn change_tier(&mut self, id: ConnectionId, tier: Option<Interval>) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        if connection.lag.as_ref().is_some_and(|lag| !lag.stages.is_empty()) {
            return; // One change at a time; there will be another look.
        }
        let classes = self.cohorts.cohort(connection.cohort).classes.list();
        if !classes.iter().any(|class| class.conflates()) {
            return;
        }
        connection.tier = tier;
        self.prepare_change(id);
        let set = self.subscriptions(id);
        self.change_cohort(id, set, tier, None);
        let seq = self.boundary(id);
        self.counters().tier_moves.add(1);
        self.say(id, |out| reply::tier(out, tier, seq));
    }

    fn change_cohort(
        &mut self,
        id: ConnectionId,
        set: Rc<[Subscription]>,
        tier: Option<Interval>,
        wanted: Option<Wanted>,
    ) -> Vec<u64> {
        let Some(connection) = self.connection(id) else { return Vec::new() };
        let encoding = self.cohorts.cohort(connection.cohort).key.encoding;
        let key = CohortKey { set, tier, encoding };
        let head = (&self.store.log).into();
        let cohort = self.cohorts.hold(key, &mut self.channels, head);
        let Some((view, lag)) = self.lagging(id) else {
            self.cohorts.release(cohort);
            return Vec::new();
        };
        let is_idle = lag.end.is_none() && !view.is_behind(lag) && !view.cohort.is_pending();
        if is_idle && wanted.is_none() {
            self.enter_cohort(id, cohort);
            return Vec::new();
        }
        self.schedule(id, cohort, wanted)
    }

    /// Makes `cohort` the set in force for a connection that has everything.
    fn enter_cohort(&mut self, id: ConnectionId, cohort: CohortId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let before = std::mem::replace(&mut connection.cohort, cohort);
        let behind = connection.lag.as_ref().is_some_and(|lag| lag.behind);
        let cohort = self.cohorts.cohort(cohort);
        let view = View { store: &self.store, cohort };
        let head = self.store.log.head();
        let pending = connection.lag.as_mut().map(|lag| std::mem::take(&mut lag.pending));
        let pending = pending.unwrap_or_default();
        let lag = Lag { behind, pending, ..view.lag(head, head, head) };
        connection.joined_at = head;
        connection.lag = Some(Box::new(lag));
        self.cohorts.release(before);
    }

    /// Notes `cohort` as the set that a lagging connection is to have from its pending change on,
    /// or else from the head, after a recovery if one is wanted; returns what it loses of each
    /// class of the present set.
    fn schedule(&mut self, id: ConnectionId, cohort: CohortId, wanted: Option<Wanted>) -> Vec<u64> {
        let (head, seq_last) = (self.store.log.head(), self.store.log.seq_last());
        let Some(connection) = find_mut(&mut self.connections, id) else { return Vec::new() };
        if wanted.is_some() {
            self.cohorts.cohort_mut(cohort).add_holder();
        }
        let present = self.cohorts.cohort(connection.cohort);
        let coming = self.cohorts.cohort(cohort);
        let Some(lag) = connection.lag.as_deref_mut() else { return Vec::new() };
        let has_all = lag.waits();
        let end = lag.end.get_or_insert_with(|| End {
            at: head,
            seq: seq_last,
            due: present.classes.list().iter().map(|class| (class.events, class.bytes)).collect(),
        });
        let (at, seq) = (end.at, end.seq);
        if has_all {
            View { store: &self.store, cohort: present }.settle(lag);
        }
        // The live stage that was to come; recoveries before it stay.
        let before = lag.stages.pop_back();
        let view = View { store: &self.store, cohort: coming };
        let mut former = Vec::new();
        for stage in &mut lag.stages {
            former.extend(adopt(stage, &view, cohort, |id| self.cohorts.cohort(id)));
        }
        if let Some(wanted) = wanted {
            if wanted.reads_back() {
                self.readers_to_come.insert(id);
            }
            lag.stages.push_back(stage(&view, cohort, wanted, (at, seq)));
        }
        let places = view.places(at, seq);
        lag.stages.push_back(Stage { cohort, places, end: None, recovery: None });
        let view = View { store: &self.store, cohort: present };
        let unwanted = present.channels().filter(|&channel| !coming.classes.wants(channel));
        let lost = view.remove(lag, unwanted.collect());
        for former in former {
            self.cohorts.cohort_mut(cohort).add_holder();
            self.cohorts.release(former);
        }
        if let Some(before) = before {
            self.cohorts.release(before.cohort);
        }
        lost
    }

    /// The set that the client has, or is about to have.
    pub(super) fn subscriptions(&self, id: ConnectionId) -> Rc<[Subscription]> {
        let connection = self.connection(id).expect("the caller has just seen it");
        let last = connection.lag.as_ref().and_then(|lag| lag.stages.back());
        let cohort = last.map_or(connection.cohort, |last| last.cohort);
        Rc::clone(&self.cohorts.cohort(cohort).key.set)
    }

    /// The client's set holds for every event after this `seq`.
    pub(super) fn boundary(&self, id: ConnectionId) -> u64 {
        self.end(id).map_or_else(|| self.store.log.seq_last(), |end| end.seq)
    }

    /// Number of the first log entry that the client's set holds for.
    pub(super) fn boundary_entry(&self, id: ConnectionId) -> u64 {
        self.end(id).map_or_else(|| self.store.log.head(), |end| end.at)
    }

    fn end(&self, id: ConnectionId) -> Option<&End> {
        self.connection(id).and_then(|connection| connection.lag.as_ref()?.end.as_ref())
    }

    /// What each of some subscriptions comes to; they hold after `seq`.
    pub(super) fn effective(&self, subscriptions: &[&Subscription], seq: u64) -> Vec<Effective> {
        let matched = self.channels.count(subscriptions.iter().map(|held| &held.pattern));
        let effective = |(held, matched): (&&Subscription, u64)| {
            let (whole, parts) = self.cohorts.rules().of_pattern(&held.pattern);
            let agree = |rule| Terms::agree(&held.wish, rule);
            let except = parts.map(|rule| (rule.pattern.clone(), agree(Some(&rule.wish))));
            let except = except.collect();
            Effective { terms: agree(whole), seq, matched, resumed: None, except, ids: None }
        };
        subscriptions.iter().zip(matched).map(effective).collect()
    }
}

/// A snapshot that has not begun is sent on the terms of the newest set, so that a client holds no
/// more sets than it has replays to come; returns the set that it was to be sent on.
fn adopt<'a>(
    stage: &mut Stage,
    view: &View<'_>,
    cohort: CohortId,
    of: impl Fn(CohortId) -> &'a Cohort,
) -> Option<CohortId> {
    let recovery = stage.recovery.as_mut().filter(|recovery| recovery.walk.is_some())?;
    let end = stage.end.as_mut().filter(|_| stage.cohort != cohort)?;
    // It stays one of the channels that it was asked for.
    recovery.only.get_or_insert_with(|| of(stage.cohort).channels().collect());
    stage.places = view.places(end.at, end.seq);
    *end = End::of(&stage.places, end.at, end.seq);
    Some(std::mem::replace(&mut stage.cohort, cohort))
}

fn too_many_recoveries() -> (ErrorCode, String) {
    let message = format!(
        "{RECOVERIES_MAX} snapshots or replays are still to be sent; wait for their end, or name \
         more channels in one request"
    );
    (ErrorCode::TooManyRecoveries, message)
}
