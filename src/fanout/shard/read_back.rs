//! Reading back: clients whose place is older than the log are sent what a stream still has.
//!
//! A reader goes from shelf to shelf ([`super::super::shelves`]) up to what the log holds, and
//! there becomes a laggard like any other. If the log has overwritten the boundary meanwhile, the
//! live stage goes on in the same way. What is missing is asked for; the shell passes questions and
//! answers on. Not here: what is sent of a shelf ([`super::super::reading`]). Invariant: whoever
//! waits for a passage has asked for it, or is visited when another one comes; and every event up
//! to the place where the log takes over was sent, superseded, or is covered by a receipt.

use crate::handoff::passage::{Answer, Lapse, Passage};
use crate::limits::READERS_MAX;
use crate::protocol::data;
use crate::protocol::json;
use crate::protocol::policy::Policy;
use crate::protocol::reply::Cause;

use super::super::cohorts::Subscription;
use super::super::connection::{ConnectionId, find_mut};
use super::super::cut::Cut;
use super::super::shelves::Shelf;
use super::super::snapshot::Walk;
use super::Shard;

/// Whether a connection is sent what is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is not, or not any more.
    Not,
    /// What comes next is on a shelf.
    Here,
    /// It is on no shelf yet.
    Awaited,
}

impl Shard {
    /// The passage that is to be asked for next, by its first `seq`. There are never more on their
    /// way than [`crate::limits::PASSAGES_ASKED`].
    pub fn next_ask(&mut self) -> Option<u64> {
        self.store.shelves.next_ask()
    }

    /// What has become of a question.
    pub fn handle_answer(&mut self, answer: Answer) {
        let from = answer.from;
        self.store.shelves.handle_answer(from);
        if self.readers == 0 {
            return;
        }
        let outcome = answer.outcome.and_then(|passage| self.shelve(&passage));
        let waiting = std::mem::take(&mut self.awaiting);
        if let Err(lapse) = outcome {
            for &id in &waiting {
                match (self.wanted(id), lapse) {
                    (Some((seq, _)), Lapse::Expired) if seq == from => {
                        self.give_up(id, Cause::Expired);
                    }
                    (Some((_, start)), Lapse::Unreadable) if start == from => {
                        self.give_up(id, Cause::TooOld);
                    }
                    _ => {}
                }
            }
            if lapse == Lapse::Expired {
                // Those who want none of its beginning ask for the rest.
                self.store.shelves.add(Shelf::new(from, from - 1));
            }
        }
        self.ready.extend(waiting);
    }

    /// No question will be answered any more.
    pub fn handle_no_answers(&mut self) {
        self.settings.reads_back = false;
        for id in std::mem::take(&mut self.awaiting) {
            self.give_up(id, Cause::TooOld);
            self.ready.push_back(id);
        }
    }

    /// Whether a client that wants these subscriptions from a place before the log is to be sent
    /// what is read back. Where newest values are all that is wanted, a snapshot has them.
    pub(super) fn may_read_back(&self, wanted: &[&Subscription]) -> bool {
        if !self.settings.reads_back || self.telemetry.stream.is_up.value() == 0 {
            return false;
        }
        let conflates_all = self.effective(wanted, 0).iter().all(|effective| {
            let parts = effective.except.iter().map(|(_, terms)| terms);
            parts.chain([&effective.terms]).all(|terms| terms.policy == Policy::Latest)
        });
        if conflates_all {
            return false;
        }
        let has_room = self.readers + self.readers_to_come.len() < READERS_MAX;
        self.counters().read_backs_refused.add(u64::from(!has_room));
        has_room
    }

    /// The present stage, of which nothing is open in the log, begins with what came after `since`.
    pub(super) fn read_back(&mut self, id: ConnectionId, since: u64) {
        self.readers_to_come.remove(&id);
        if self.names_since(id, since).is_empty() {
            return; // None of its channels has had an event since.
        }
        self.set_reading(id, Some(since));
        if let Some((_, lag)) = self.lagging(id) {
            lag.reads_back = true;
        }
    }

    /// The live stage begins: if the log has overwritten its beginning while what was before it was
    /// read back, it is read back as well.
    pub(super) fn read_live_back(&mut self, id: ConnectionId) -> bool {
        let oldest = self.store.log.tail().max(self.whole_from);
        let Some((_, lag)) = self.lagging(id) else { return false };
        // Books that are not whole go on at their newest snapshots.
        if !std::mem::take(&mut lag.reads_back) || !lag.cut.is_empty() {
            return false;
        }
        let behind = lag.places.iter().filter(|place| place.from < oldest);
        let Some(since) = behind.map(|place| place.seq_from).min() else { return false };
        lag.reads_back = true;
        self.set_reading(id, Some(since));
        true
    }

    /// Makes up what a reader is to be sent next: from a shelf, or from the log if that has it.
    pub(super) fn read_on(&mut self, id: ConnectionId) -> Reading {
        if self.readers == 0 {
            return Reading::Not;
        }
        let (oldest, gone) = (self.store.log.tail().max(self.whole_from), self.seq_gone());
        let Some((view, lag)) = self.lagging(id) else { return Reading::Not };
        let Some(seq) = lag.reading else { return Reading::Not };
        if lag.end.as_ref().is_some_and(|end| seq >= end.seq) {
            view.settle(lag);
            self.set_reading(id, None);
            return Reading::Not;
        }
        if seq >= gone {
            self.go_over(id, seq, oldest);
            return Reading::Not;
        }
        let encoding = view.cohort.key.encoding;
        if let Some(place) = view.store.shelves.find(seq + 1) {
            self.store.prepare_shelf(place, encoding);
            return Reading::Here;
        }
        if !self.settings.reads_back {
            self.give_up(id, Cause::TooOld);
            return Reading::Not;
        }
        if let Some((_, start)) = self.wanted(id) {
            self.store.shelves.want(start);
        }
        Reading::Awaited
    }

    /// The `seq` that a reader wants next, and the beginning of the passage to be asked for it.
    fn wanted(&self, id: ConnectionId) -> Option<(u64, u64)> {
        let seq = self.connection(id)?.lag.as_ref()?.reading? + 1;
        let first = self.telemetry.stream.first_seq.value();
        Some((seq, self.store.shelves.start(seq, first)))
    }

    /// A reader that has everything up to `seq` has come to what the log holds from entry `oldest`
    /// on.
    fn go_over(&mut self, id: ConnectionId, seq: u64, oldest: u64) {
        self.set_reading(id, None);
        let Some((view, lag)) = self.lagging(id) else { return };
        let log = &view.store.log;
        let end = lag.end.as_ref().map(|end| (end.at, end.seq));
        let from = log.first_after(seq, oldest..end.map_or_else(|| log.head(), |(at, _)| at));
        if let Some(end) = end {
            lag.places = view.places_within((from, seq), end, |channel| lag.concerns(channel));
            return;
        }
        let replaced = view.replaced_books(lag, from, |class| view.conflates(lag, class));
        lag.cut(replaced, Cut::Replaced);
        lag.reads_back = false;
        let exact = view.places(from, seq);
        self.join_at(id, exact, from);
    }

    /// What a reader wants next cannot be had: it is told so. Of a request that wanted it, a
    /// snapshot follows; a live stage goes on with what the log has.
    fn give_up(&mut self, id: ConnectionId, cause: Cause) {
        let oldest = self.store.log.tail().max(self.whole_from);
        let Some((view, lag)) = self.lagging(id) else { return };
        let Some(seq) = lag.reading else { return };
        lag.reads_back = false;
        if lag.recovery.is_none() && view.store.slots.has_books() {
            return self.close_reading(id);
        }
        if lag.end.is_none() {
            let log = &view.store.log;
            let at = log.first_after(seq, oldest..log.head());
            let to = log.seq_before(at);
            let exact = view.places(at, to);
            self.set_reading(id, None);
            self.tell_overrun(id, exact, (seq, to), cause);
            return self.join_skipped(id);
        }
        let Some(recovery) = lag.recovery.as_mut().filter(|r| r.past.is_some_and(|p| p.snapshot))
        else {
            return self.leave_reading(id, cause);
        };
        (recovery.walk, recovery.lost) = (Some(Walk::new(seq)), Some((seq, cause)));
        view.settle(lag);
        self.set_reading(id, None);
        self.announce(id);
    }

    /// Ends reading before a change of the set, because the log has gone on past it.
    pub(super) fn abandon_reading(&mut self, id: ConnectionId) {
        if self.lagging(id).is_none_or(|(_, lag)| lag.reading.is_none()) {
            return;
        }
        if self.store.slots.has_books() {
            return self.close_reading(id);
        }
        self.leave_reading(id, Cause::Slow);
    }

    /// Nothing would bring what a reader's books go on from: on a new connection it is read back
    /// to, or gets a snapshot.
    fn close_reading(&mut self, id: ConnectionId) {
        if let Some((view, lag)) = self.lagging(id) {
            view.settle(lag);
        }
        self.set_reading(id, None);
        self.close_slow(id);
    }

    /// Receipts what is left to be read back of the present stage, which has an end.
    fn leave_reading(&mut self, id: ConnectionId, cause: Cause) {
        let Some((view, lag)) = self.lagging(id) else { return };
        let (Some(seq), Some(end)) = (lag.reading, &lag.end) else { return };
        let (at, to) = (end.at, end.seq);
        lag.reads_back = false;
        lag.cut(view.replaced_books(lag, at, |_| true), Cut::Skipped);
        view.settle(lag);
        let names = self.names_since(id, seq);
        self.set_reading(id, None);
        if !names.is_empty() && seq < to {
            self.write_gap(id, names, (seq + 1, to), None, (cause, None));
        }
    }

    /// What may have had an event after `since`, as for a receipt.
    fn names_since(&self, id: ConnectionId, since: u64) -> Vec<String> {
        match self.is_unknown_since(since) {
            true => self.pattern_names(id),
            false => self.channels_since(id, since, |_| true),
        }
    }

    /// Changes where a connection reads, if it does, and counts those that do.
    pub(super) fn set_reading(&mut self, id: ConnectionId, reading: Option<u64>) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let Some(lag) = connection.lag.as_deref_mut() else { return };
        let before = std::mem::replace(&mut lag.reading, reading);
        if before.is_some() == reading.is_some() {
            return;
        }
        if reading.is_some() {
            self.readers += 1;
        } else {
            self.readers -= 1;
        }
        if self.readers == 0 {
            self.store.shelves.clear();
        }
        self.counters().reading_back.set(self.readers as u64);
    }

    /// Makes the frames of a passage, as they went out live.
    fn shelve(&mut self, passage: &Passage) -> Result<(), Lapse> {
        let mut key_json = Vec::new();
        let Self { store, channels, .. } = self;
        // The stream may be ahead of the ring, with channels and keys that are new.
        let to = passage.to.min(store.log.seq_last());
        let mut shelf = Shelf::new(passage.from, to);
        for past in passage.events().take_while(|past| past.seq <= to) {
            let event = past.event;
            // Without room for its channel, nobody was ever sent it.
            let Some(id) = channels.id(event.channel) else { continue };
            let key = event.key.map(|key| {
                key_json.clear();
                json::write_string(&mut key_json, key);
                &*key_json
            });
            let slots = store.slots.of_channel(id);
            let all = slots.iter().map(|&slot| (slot, channels.key_json(slot)));
            // Without room for a key, `prev` of what follows is not that of the stream.
            let slot = store.shelves.slot(id, key, all).ok_or(Lapse::Unreadable)?;
            let prefix = &channels.channel(id).prefix;
            let (seq, prev, ts_in) = (past.seq, past.prev, past.ts_in);
            let frame =
                data::frame(prefix, key, event.kind, seq, prev, event.ts, ts_in, event.data);
            frame.write(shelf.append((seq, id, slot), frame.len()));
        }
        store.shelves.add(shelf);
        Ok(())
    }
}
