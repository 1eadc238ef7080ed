//! The start of subscriptions: where a client goes on from, and what is said around it.
//!
//! The order of everything is: the answer, what was still due of the former set, the beginning's
//! notice, a receipt if something is lost, the recovery's frames, the end's notice, live events.
//! Not here: what is sent ([`super::super::recovery`], [`super::super::snapshot`]). Invariant: a
//! client that wants to go on is replayed everything after its place, or told that it is not.

use crate::limits::{RECOVERIES_MAX, REPLAYS_MAX};
use crate::protocol::channel::Pattern;
use crate::protocol::command::{ReqId, Resume, Start};
use crate::protocol::reply::{self, Asked, Cause, Resumed};

use super::super::channel_set::ChannelSet;
use super::super::classes::Class;
use super::super::cohorts::Subscription;
use super::super::connection::{ConnectionId, find_mut};
use super::super::cut::Cut;
use super::super::lag::{End, Item, Place, Stage, View};
use super::super::pattern_index::PatternIndex;
use super::super::recovery::{Past, Pending, Recovery};
use super::super::snapshot::Walk;
use super::Shard;

/// A recovery that a request asks for.
pub(super) struct Wanted {
    recovery: Recovery,
    /// Number of the first entry that is replayed, and the last `seq` before it.
    from: Option<(u64, u64)>,
    /// The client has everything up to this `seq`, which is yet to come here; 0: there is none.
    pub(super) ahead: u64,
}

impl Wanted {
    /// Whether it begins with what is read back.
    pub(super) const fn reads_back(&self) -> bool {
        self.recovery.past.is_some()
    }
}

/// Where a client goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// At this log entry.
    Entry(u64),
    /// At an event that other shards have and this one is about to get.
    Ahead,
    /// At an event that is read back.
    Past,
}

impl Shard {
    /// What new subscriptions begin with, and what came of the client's place; nothing when they
    /// begin with the next event.
    pub(super) fn recovery_of(
        &self,
        id: ConnectionId,
        subscriptions: &[&Subscription],
        is_first: bool,
        start: &Start,
        req_id: Option<&ReqId>,
    ) -> (Option<Wanted>, Option<Resumed>) {
        let seq = self.boundary(id);
        let at = self.boundary_entry(id);
        let patterns: Vec<_> = subscriptions.iter().map(|held| &held.pattern).collect();
        let origin = start.resume.as_ref().map(|resume| {
            let located = self.locate(resume, at, seq);
            (resume.seq, located.or_else(|cause| self.locate_past(cause, subscriptions)))
        });
        let resumed =
            origin.map(|(_, origin)| origin.map_or_else(Resumed::Not, |_| Resumed::Whole));
        let recovery = |walk, lost| Recovery {
            asked: Asked {
                channels: patterns.iter().map(|pattern| pattern.as_str().into()).collect(),
                req_id: req_id.cloned(),
            },
            // A first set is recovered as a whole.
            only: (!is_first).then(|| self.matching(&patterns)),
            lost,
            walk,
            past: None,
        };
        let wanted = match origin {
            _ if patterns.is_empty() => return (None, None),
            None if !start.snapshot => return (None, None),
            None => Wanted { recovery: recovery(Some(Walk::new(0)), None), from: None, ahead: 0 },
            Some((since, Ok(Origin::Entry(number)))) => {
                Wanted { recovery: recovery(None, None), from: Some((number, since)), ahead: 0 }
            }
            Some((since, Ok(Origin::Ahead))) => {
                Wanted { recovery: recovery(None, None), from: Some((at, seq)), ahead: since }
            }
            Some((since, Ok(Origin::Past))) => {
                let past = Some(Past { since, snapshot: start.snapshot });
                let recovery = Recovery { past, ..recovery(None, None) };
                Wanted { recovery, from: None, ahead: 0 }
            }
            Some((since, Err(cause))) => {
                let is_past = matches!(cause, Cause::TooOld | Cause::Expired);
                let since = if is_past { since } else { 0 };
                let walk = start.snapshot.then(|| Walk::new(since));
                let from = (!start.snapshot).then_some((at, seq));
                Wanted { recovery: recovery(walk, Some((since, cause))), from, ahead: 0 }
            }
        };
        (Some(wanted), resumed)
    }

    /// Where the log goes on after the client's place, before entry `at` and its boundary `seq`.
    fn locate(&self, resume: &Resume, at: u64, seq: u64) -> Result<Origin, Cause> {
        if *resume.epoch != *self.settings.epoch {
            return Err(Cause::Epoch);
        }
        if resume.seq > seq {
            // Cores take in the same batch one after the other.
            // The same total order comes to other servers, perhaps a moment earlier.
            let is_given =
                self.settings.is_shared || resume.seq <= self.telemetry.ingest.head_seq.value();
            return if is_given { Ok(Origin::Ahead) } else { Err(Cause::Ahead) };
        }
        let oldest = self.store.log.tail().max(self.whole_from).min(at);
        if resume.seq < self.seq_gone().min(seq) {
            let is_gone = resume.seq + 1 < self.telemetry.stream.first_seq.value();
            return Err(if is_gone { Cause::Expired } else { Cause::TooOld });
        }
        Ok(Origin::Entry(self.store.log.first_after(resume.seq, oldest..at)))
    }

    /// The same for a place that the log does not have: whether it is read back.
    fn locate_past(&self, cause: Cause, wanted: &[&Subscription]) -> Result<Origin, Cause> {
        match cause {
            Cause::TooOld if self.may_read_back(wanted) => Ok(Origin::Past),
            cause => Err(cause),
        }
    }

    /// Channels that exist and that one of `patterns` matches.
    fn matching(&self, patterns: &[&Pattern]) -> ChannelSet {
        if patterns.iter().all(|pattern| pattern.is_exact()) {
            return patterns.iter().filter_map(|p| self.channels.id(p.as_str())).collect();
        }
        let index = PatternIndex::of(patterns.iter().copied());
        let matching =
            self.channels.iter().filter(|(_, c)| index.matching(&c.name).next().is_some());
        matching.map(|(id, _)| id).collect()
    }

    /// Whether a connection may ask for another recovery before those are done that it waits for.
    pub(super) fn may_recover(&self, id: ConnectionId) -> bool {
        let lag = self.connection(id).and_then(|connection| connection.lag.as_ref());
        let is_replay = |stage: &&Stage| stage.recovery.as_ref().is_some_and(|r| r.walk.is_none());
        lag.is_none_or(|lag| {
            lag.stages.len() + lag.pending.len() < RECOVERIES_MAX
                && lag.stages.iter().filter(is_replay).count() < REPLAYS_MAX
        })
    }

    /// Makes a pending change take effect, when everything before it was sent; false when there is
    /// none.
    pub(super) fn begin_next(&mut self, id: ConnectionId) -> bool {
        let Some((view, lag)) = self.lagging(id) else { return false };
        if lag.stages.is_empty() {
            return false;
        }
        let replaced = match (lag.walk(), &lag.end) {
            (None, Some(end)) => {
                view.replaced_books(lag, end.at, |class| view.conflates(lag, class))
            }
            (walk, _) => walk.map(|walk| walk.books.clone()).unwrap_or_default(),
        };
        let forgotten = view.forgotten_books(lag);
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        let Some(lag) = connection.lag.as_deref_mut() else { return false };
        let Some(stage) = lag.stages.pop_front() else { return false };
        let end = lag.end.take().expect("what is followed by a stage has an end");
        let finished = lag.recovery.take();
        lag.cut(replaced, Cut::Replaced);
        lag.cut(forgotten, Cut::Skipped);
        lag.places = stage.places;
        lag.end = stage.end;
        lag.recovery = stage.recovery;
        lag.removed.clear();
        connection.joined_at = end.at;
        let before = std::mem::replace(&mut connection.cohort, stage.cohort);
        self.cohorts.release(before);
        match finished {
            None => {
                self.tell_whole(id, Some(end.at));
            }
            Some(recovery) => self.end_recovery(id, *recovery, &end),
        }
        self.begin_stage(id);
        true
    }

    /// Says what a stage begins with.
    fn begin_stage(&mut self, id: ConnectionId) {
        let Some((_, lag)) = self.lagging(id) else { return };
        let Some(recovery) = &lag.recovery else {
            if lag.waits() {
                return self.catch_up_with(id);
            }
            if self.read_live_back(id) {
                return;
            }
            return self.join_skipped(id);
        };
        let past = recovery.past;
        self.leave_out_unwanted(id);
        self.announce(id);
        if let Some(past) = past {
            self.read_back(id, past.since);
        }
    }

    /// Says that the recovery of the present stage begins, and what is lost before it.
    pub(super) fn announce(&mut self, id: ConnectionId) {
        let Some((_, lag)) = self.lagging(id) else { return };
        let Some(recovery) = &lag.recovery else { return };
        let seq = lag.end.as_ref().map_or(0, |end| end.seq);
        let (kind, lost) = (recovery.kind(), recovery.lost);
        let asked = recovery.asked.clone();
        self.say(id, |out| reply::recovery_begin(out, kind, &asked, seq));
        if let Some((since, cause)) = lost {
            let names = self.lost_channels(id, since);
            if !names.is_empty() {
                self.write_gap(id, names, (since + 1, seq), None, (cause, None));
            }
        }
    }

    fn end_recovery(&mut self, id: ConnectionId, recovery: Recovery, end: &End) {
        let (kind, asked) = (recovery.kind(), recovery.asked);
        if recovery.walk.as_ref().is_some_and(|walk| walk.is_replaced) {
            let (at, seq) = (self.store.log.head(), self.store.log.seq_last());
            if let Some((_, lag)) = self.lagging(id) {
                lag.pending.push(Pending { at, seq, asked });
            }
            return;
        }
        // One that is ahead has a later place.
        let is_ahead = self.lagging(id).is_some_and(|(_, lag)| lag.ahead > end.seq);
        let place = (!is_ahead).then_some(end.seq);
        self.say_whole(id, place, |out| reply::recovery_end(out, kind, &asked, end.seq));
    }

    /// Says of snapshots that they are whole, once what has replaced parts of them is sent and does
    /// not wait for a tick, or is before the `end` of what was to be sent; false when there is
    /// nothing to say.
    pub(super) fn tell_whole(&mut self, id: ConnectionId, end: Option<u64>) -> bool {
        let Some((view, lag)) = self.lagging(id) else { return false };
        if lag.pending.is_empty() || lag.recovery.is_some() {
            return false;
        }
        let start = view.start(lag);
        let stage_end = lag.end.as_ref().map_or(u64::MAX, |end| end.at);
        let is_sent = |pending: &mut Pending| match end {
            Some(end) => end >= pending.at,
            None => {
                let waits = view.cohort.is_within_interval(pending.at);
                start.unwrap_or(stage_end) >= pending.at && !waits
            }
        };
        let told: Vec<_> = lag.pending.extract_if(.., is_sent).collect();
        // Live events behind it have said a later place.
        let has_places = view.cohort.has_places();
        for Pending { seq, asked, .. } in &told {
            let kind = reply::Recovery::Snapshot;
            let place = (!has_places).then_some(*seq);
            self.say_whole(id, place, |out| reply::recovery_end(out, kind, asked, *seq));
        }
        !told.is_empty()
    }

    /// Leaves those channels out of a recovery that were unsubscribed since it was asked for.
    fn leave_out_unwanted(&mut self, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let Some(lag) = connection.lag.as_deref_mut() else { return };
        let Some(last) = lag.stages.back().filter(|last| last.cohort != connection.cohort) else {
            return;
        };
        let coming = self.cohorts.cohort(last.cohort);
        let cohort = self.cohorts.cohort(connection.cohort);
        let view = View { store: &self.store, cohort };
        let unwanted = cohort.channels().filter(|&channel| !coming.classes.wants(channel));
        view.remove(lag, unwanted.collect());
    }

    /// What a recovery may have lost after `since`: channels, or all that it is for.
    fn lost_channels(&self, id: ConnectionId, since: u64) -> Vec<String> {
        let Some(connection) = self.connection(id) else { return Vec::new() };
        let Some(lag) = &connection.lag else { return Vec::new() };
        let Some(recovery) = &lag.recovery else { return Vec::new() };
        if self.is_unknown_since(since) {
            return recovery.asked.channels.iter().map(|name| name.to_string()).collect();
        }
        let classes = self.cohorts.cohort(connection.cohort).classes.list();
        // Without a snapshot, also the newest value is one that never comes.
        let is_snapshot = recovery.walk.is_some();
        self.channels_since(id, since, |class| !is_snapshot || !classes[class].conflates())
    }

    /// Says that a value which belongs into a snapshot is not kept any more, and goes on behind it.
    pub(super) fn tell_unkept(&mut self, id: ConnectionId, item: &Item) {
        let Some((view, lag)) = self.lagging(id) else { return };
        let end = lag.end.as_ref().map_or(0, |end| end.seq);
        let slot = view.store.slots.slot(item.entry.slot);
        let is_uncounted = slot.is_broken || slot.is_book_at(item.number);
        let seq = item.entry.seq;
        let Some(walk) = lag.recovery.as_mut().and_then(|recovery| recovery.walk.as_mut()) else {
            return;
        };
        let since = walk.since();
        walk.leave_slot();
        let name = self.channels.channel(item.entry.channel).name.to_string();
        // Of a book everything since its snapshot is lost with one part, and nobody counted it.
        let (range, missed) =
            if is_uncounted { ((since + 1, end), None) } else { ((seq, seq), Some(1)) };
        self.write_gap(id, vec![name], range, missed, (Cause::Forgotten, None));
    }

    /// Ends a snapshot that is still to be sent, because the log has gone on past its end.
    pub(super) fn abandon_snapshot(&mut self, id: ConnectionId) {
        let Some((view, lag)) = self.lagging(id) else { return };
        let (at, seq) = lag.end.as_ref().map_or((0, 0), |end| (end.at, end.seq));
        let books = view.replaced_books(lag, at, |_| true);
        let Some(recovery) = &mut lag.recovery else { return };
        let Some(walk) = &mut recovery.walk else { return };
        if !walk.is_done {
            // The receipt is for all of it.
            (walk.is_done, walk.is_replaced, walk.books) = (true, false, books);
            let names = recovery.asked.channels.iter().map(|name| name.to_string()).collect();
            self.write_gap(id, names, (1, seq), None, (Cause::Slow, None));
        }
    }

    /// Notes up to where a client has what comes behind its boundary, if that is so for all of its
    /// set: its live events begin after that.
    pub(super) fn wait_for(&mut self, id: ConnectionId, is_first: bool, ahead: u64) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let Some(lag) = connection.lag.as_deref_mut() else { return };
        lag.ahead = if is_first { ahead } else { lag.ahead.min(ahead) };
        let Some(live) = lag.stages.back_mut().filter(|_| lag.ahead > 0) else { return };
        if lag.ahead <= self.store.log.seq_last() {
            let log = &self.store.log;
            let from = log.first_after(lag.ahead, log.tail()..log.head());
            let view = View { store: &self.store, cohort: self.cohorts.cohort(live.cohort) };
            live.places = view.places(from, lag.ahead);
        }
    }

    /// A client that is ahead of this shard needs nothing up to its place.
    pub(super) fn catch_up_with(&mut self, id: ConnectionId) {
        let Some((view, lag)) = self.lagging(id) else { return };
        if !lag.waits() || view.store.log.seq_last() < lag.ahead {
            return;
        }
        let ahead = std::mem::take(&mut lag.ahead);
        let log = &view.store.log;
        let at = log.first_after(ahead, log.tail()..log.head());
        let seq = log.seq_before(at);
        let exact = view.places(at, seq);
        if log.seq_gone() > ahead {
            // Nothing would bring what a book goes on from; on a new connection a snapshot does.
            if self.has_book_since(id, ahead) {
                return self.close_slow(id);
            }
            self.tell_overrun(id, exact, (ahead, seq), Cause::Slow);
            return self.join_skipped(id);
        }
        self.join_at(id, exact, at);
    }

    /// Whether a book of a client's set, on terms that do not conflate, may have had an event after
    /// `seq`.
    fn has_book_since(&self, id: ConnectionId, seq: u64) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        let Some(lag) = &connection.lag else { return false };
        let cohort = self.cohorts.cohort(connection.cohort);
        let classes = cohort.classes.list();
        View { store: &self.store, cohort }.books(lag).any(|book| {
            let seq_last = self.channels.channel(book.channel).seq_last;
            !classes[book.class].conflates() && seq_last[usize::from(book.slot.is_keyed)] > seq
        })
    }

    /// Live events begin with entry `at`, where the places are `exact`.
    pub(super) fn join_at(&mut self, id: ConnectionId, exact: Vec<Place>, at: u64) {
        let Some((_, lag)) = self.lagging(id) else { return };
        for (place, exact) in lag.places.iter_mut().zip(exact) {
            *place = Place { conflating: place.conflating, ..exact };
        }
        // The ticks to come leave out what is before that, too.
        if let Some(connection) = self.connection_mut(id) {
            connection.joined_at = connection.joined_at.max(at);
        }
        self.join_skipped(id);
    }

    /// The log has overwritten more than the client has in the moment of coming to it, or cannot be
    /// reached by what is read back, and nobody counted it: `exact` are the places at what is left.
    /// What is conflated is kept.
    pub(super) fn tell_overrun(
        &mut self,
        id: ConnectionId,
        exact: Vec<Place>,
        (ahead, seq): (u64, u64),
        cause: Cause,
    ) {
        let Some((view, _)) = self.lagging(id) else { return };
        let (retained, log) = (&view.store.retained, &view.store.log);
        let first_kept = (retained.range(0..log.tail()))
            .find(|(_, kept)| kept.entry.seq > ahead)
            .map_or_else(|| log.first_after(ahead, log.tail()..log.head()), |(number, _)| number);
        let conflated: Vec<_> = view.cohort.classes.list().iter().map(Class::conflates).collect();
        let counted = (0..conflated.len()).filter(|&class| !conflated[class]);
        let mut names: Vec<_> = counted.flat_map(|class| self.lossy_channels(id, class)).collect();
        names.sort_unstable();
        names.dedup();
        let names = self.in_receipt(id, names);
        let Some((_, lag)) = self.lagging(id) else { return };
        for ((place, exact), is_conflated) in lag.places.iter_mut().zip(exact).zip(conflated) {
            let conflating = place.conflating || is_conflated;
            *place = match is_conflated {
                true => Place { from: first_kept, seq_from: ahead, conflating, ..exact },
                false => Place { conflating, ..exact },
            };
        }
        if !names.is_empty() {
            self.write_gap(id, names, (ahead + 1, seq), None, (cause, None));
        }
    }

    /// Live events begin: books go on at their newest snapshots where something may be missing.
    pub(super) fn join_skipped(&mut self, id: ConnectionId) {
        let Some((_, lag)) = self.lagging(id) else { return };
        let cut = std::mem::take(&mut lag.cut);
        self.join_books(id, &cut);
    }
}

/// The stage that carries out `wanted` in a set, which is that of `view`, before entry `at`.
pub(super) fn stage(view: &View<'_>, cohort: u32, wanted: Wanted, (at, seq): (u64, u64)) -> Stage {
    let settled = view.places(at, seq);
    let end = End::of(&settled, at, seq);
    let places = wanted.from.map_or(settled, |from| {
        view.places_within(from, (at, seq), |channel| wanted.recovery.concerns(channel))
    });
    let recovery = Some(Box::new(wanted.recovery));
    Stage { cohort, places, end: Some(end), recovery }
}
