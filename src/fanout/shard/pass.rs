//! The pass: who is sent something next, and what.
//!
//! A pass visits the in-sync members of each cohort in the queue, in rotating order, and brings
//! each up to the newest event, which may have come since the visit before: batches are appended
//! between two plans. Then the same with what a tick took from the samplers; then each ready
//! connection gets one send of its own. A cohort that has something to send again goes to the end
//! of the queue, for the next pass. Not here: what follows from the sends ([`super::flush`]).
//!
//! Invariant: whatever a gather list refers to is in the log, because nothing is appended when too
//! much was since the oldest of it, and nothing while samples are sent.

use crate::limits::{FLUSH_SENDS_FAST, FLUSH_SENDS_MAX, READY_PER_PASS, SENDS_PER_OTHER};

use super::super::Now;
use super::super::cohorts::CohortId;
use super::super::connection::{ConnectionId, Lane, find};
use super::super::gather::{Gather, Mark};
use super::Shard;
use super::plan::{Latency, Plan, Run, Slice};

/// Whose turn it is in a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// No pass is under way.
    #[default]
    Over,
    /// Those in sync, with what was appended.
    Live,
    /// Those in sync, with what a tick took from the samplers.
    Samples,
    /// Ready connections.
    Ready,
}

/// How far the current pass has come.
#[derive(Debug, Default)]
pub(super) struct Pass {
    stage: Stage,
    /// Cohorts of which something that was due is forgotten.
    holed: Vec<CohortId>,
    /// Cohorts whose members have all been visited, and the entry before which each will have been
    /// sent everything when the outcomes of the last sends are known.
    visited: Vec<(CohortId, u64)>,
    cohorts: Vec<CohortId>,
    cohort_at: usize,
    /// Members of the cohort at hand, in the order of this pass.
    visits: Vec<ConnectionId>,
    visit_at: usize,
    /// The entry before which those that were visited will have been sent everything.
    settled_to: u64,
    /// Sends to clients in sync that this pass has made.
    sends: usize,
    /// Ready connections that this pass still looks at.
    ready_left: usize,
    /// A visit had to look through the whole log; the next one waits for the next pass.
    pub(super) is_laden: bool,
    /// Passes begun; turns the order, so that nobody is always last.
    pub(super) turn: u64,
    /// The pass before has left cohorts in the queue.
    follows: bool,
    /// Sends of one plan: few while events come, so that none waits long for its clients' turns.
    sends_max: usize,
    /// Position in the log before which everything was sent to all in sync.
    unsent_from: u64,
    /// The same for the time when every cohort of this pass was visited.
    left_from: u64,
    /// None before the first sends to clients in sync.
    latency: Option<Latency>,
}

impl Pass {
    /// Which of `len` comes first in this pass.
    fn start(&self, len: usize) -> usize {
        usize::try_from(self.turn % len.max(1) as u64).expect("below a length")
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether gather lists hold what a tick took from the samplers.
    pub(super) fn is_sampling(&self) -> bool {
        self.stage == Stage::Samples
    }

    /// Notes when the sends of a run were taken in full, by so many in sync.
    pub(super) fn note_sent(&mut self, run: &Run, sends: u64, now: Now) {
        if sends > 0 && run.ts_in != u64::MAX {
            let ns = now.unix_ns.saturating_sub(run.ts_in);
            let first = Latency { first_ns: ns, last_ns: 0, sends: 0 };
            let latency = self.latency.get_or_insert(first);
            latency.last_ns = latency.last_ns.max(ns);
            latency.sends += sends;
        }
    }

    /// Notes that a connection that lags took all of a send with events.
    pub(super) const fn note_other(&mut self) {
        if let Some(latency) = &mut self.latency {
            latency.sends += 1;
        }
    }
}

impl Shard {
    /// Whether a batch may be appended now. Where not, a pass is due or under way.
    #[must_use]
    pub fn may_append(&self) -> bool {
        if self.is_all_sent() {
            return true;
        }
        let unsent = self.store.log.position() - self.pass.unsent_from;
        matches!(self.pass.stage, Stage::Over | Stage::Live)
            && self.ticks_due.is_empty()
            && unsent < self.settings.unsent_bytes_max as u64
    }

    /// Whether no pass is under way and every gather list is empty.
    fn is_all_sent(&self) -> bool {
        self.pass.is_over() && !self.cohorts.is_dirty()
    }

    /// A batch is about to be appended.
    pub(super) fn prepare_append(&mut self) {
        debug_assert!(self.may_append(), "the log still has all that is to be sent");
        if self.is_all_sent() {
            self.pass.unsent_from = self.store.log.position();
        } else if !self.pass.is_over() {
            self.pass.sends_max = self.settings.plan_sends_max.min(FLUSH_SENDS_FAST);
        }
    }

    /// Begins a pass over everything that can be sent now.
    pub fn begin_pass(&mut self) {
        debug_assert!(self.pass.is_over(), "one pass at a time");
        self.cohorts.reap(&mut self.channels);
        self.fill_form();
        let pass = &mut self.pass;
        self.cohorts.take_dirty(&mut pass.cohorts);
        pass.turn = pass.turn.wrapping_add(1);
        // Those that a pass has left in the queue are in the order in which they have waited.
        if !pass.follows {
            let start = pass.start(pass.cohorts.len());
            pass.cohorts.rotate_left(start);
        }
        (pass.stage, pass.is_laden) = (Stage::Live, false);
        let sends_max = if pass.follows { FLUSH_SENDS_FAST } else { FLUSH_SENDS_MAX };
        pass.sends_max = sends_max.min(self.settings.plan_sends_max);
        (pass.cohort_at, pass.visit_at) = (0, 0);
        pass.left_from = self.store.log.position();
        pass.sends = 0;
        pass.latency = None;
    }

    /// Plans the next sends of the pass, [`super::ShardSettings::plan_sends_max`] at most; none
    /// when the pass is over.
    pub fn next_sends(&mut self, plan: &mut Plan) {
        plan.clear();
        self.end_rotations();
        while self.pass.stage != Stage::Ready {
            while plan.len() < self.pass.sends_max && self.plan_in_sync(plan) {}
            if !plan.is_empty() {
                self.pass.sends += plan.len();
                // The ready ones wait for the outcomes, because those may make others ready.
                return;
            }
            self.end_rotations();
            match self.pass.stage {
                Stage::Live => self.begin_sampling(),
                _ => self.begin_ready(),
            }
        }
        while plan.len() < self.pass.sends_max && self.pass.ready_left > 0 {
            self.pass.ready_left -= 1;
            if let Some(id) = self.ready.pop_front() {
                self.plan_ready(id, plan);
            }
            if std::mem::take(&mut self.pass.is_laden) {
                self.pass.ready_left = 0;
            }
        }
        if plan.is_empty() {
            self.pass.stage = Stage::Over;
        }
    }

    /// Ends the pass. Returns how long its events took, if it had any for clients in sync.
    pub fn end_pass(&mut self) -> Option<Latency> {
        debug_assert!(self.pass.is_over(), "every planned send was reported");
        self.pass.latency
    }

    /// Plans sends of the cohort at hand; false when no cohort is left.
    // By itself its loop keeps more in registers (case `gather` of scripts/micro).
    #[inline(never)]
    fn plan_in_sync(&mut self, plan: &mut Plan) -> bool {
        let pass = &mut self.pass;
        let Some(&id) = pass.cohorts.get(pass.cohort_at) else { return false };
        let cohort = self.cohorts.cohort_mut(id);
        let gather = &mut cohort.gather;
        let is_sampling = pass.stage == Stage::Samples;
        if pass.visit_at == 0 {
            let (before, from) = cohort.members.split_at(pass.start(cohort.members.len()));
            pass.visits.clear();
            pass.visits.extend_from_slice(from);
            pass.visits.extend_from_slice(before);
            pass.settled_to = gather.cut();
        }
        let visits = &pass.visits[pass.visit_at..];
        let (mut mark, mut run) = (Mark::default(), None);
        let sends_max = pass.sends_max;
        for &connection in visits {
            if plan.connections.len() == sends_max {
                break;
            }
            pass.visit_at += 1;
            let Some(member) = find(&self.connections, connection) else { continue };
            if member.cohort != id || !matches!(member.lane, Lane::InSync(_)) {
                continue;
            }
            let cursor = if is_sampling { member.sampled_to(pass.turn) } else { member.cursor };
            if !mark.is_of(cursor) {
                plan.end_run(run.take());
                mark = gather.mark(cursor);
                run = begin_run(plan, gather, &mark);
                if let Some(run) = &run {
                    pass.settled_to = pass.settled_to.min(run.end);
                }
            }
            if run.is_some() {
                plan.connections.push(connection);
            }
        }
        plan.end_run(run);
        if pass.visit_at == pass.visits.len() {
            pass.visited.push((id, pass.settled_to));
            (pass.cohort_at, pass.visit_at) = (pass.cohort_at + 1, 0);
        }
        true
    }

    /// Forgets what all members of the visited cohorts were sent, and sees to those that have more
    /// to send.
    fn end_rotations(&mut self) {
        let pass = &mut self.pass;
        for (id, settled_to) in pass.visited.drain(..) {
            if self.cohorts.forget(id, settled_to) {
                continue;
            }
            if pass.stage == Stage::Samples {
                pass.cohorts.push(id);
                continue;
            }
            // What is not sampled is in the log; whatever its form, JSON is the measure.
            if let Some(first) = self.cohorts.cohort(id).gather.first() {
                pass.left_from = pass.left_from.min(self.store.log.entry(first).position);
            }
            self.cohorts.put_back(id);
        }
    }

    /// Goes on to ready connections: the more, the longer those in sync have kept them waiting.
    fn begin_ready(&mut self) {
        let pass = &mut self.pass;
        let visits_max = READY_PER_PASS + pass.sends / SENDS_PER_OTHER;
        (pass.stage, pass.ready_left) = (Stage::Ready, self.ready.len().min(visits_max));
    }

    /// Ends the intervals that are due: what their samplers hold becomes gather lists, where these
    /// are empty; if not, that waits for the next pass.
    fn begin_sampling(&mut self) {
        let pass = &mut self.pass;
        (pass.stage, pass.unsent_from) = (Stage::Samples, pass.left_from);
        pass.follows = self.cohorts.is_dirty();
        if pass.follows || self.ticks_due.is_empty() {
            return;
        }
        let ticking = std::mem::take(&mut self.ticks_due);
        self.cohorts.tick(&ticking, &self.store, &mut pass.cohorts, &mut pass.holed);
        (pass.cohort_at, pass.visit_at) = (0, 0);
        // Those who came within an interval have no right to the first part of it.
        for at in 0..self.pass.cohorts.len() {
            let id = self.pass.cohorts[at];
            for member in std::mem::take(&mut self.cohorts.cohort_mut(id).joined) {
                if self.connection(member).is_some_and(|connection| connection.cohort == id) {
                    self.make_ready(member);
                }
            }
        }
        // Each member walks by itself and is told what is missing.
        while let Some(id) = self.pass.holed.pop() {
            while let Some(&member) = self.cohorts.cohort(id).members.last() {
                self.make_ready(member);
            }
            self.cohorts.forget(id, u64::MAX);
        }
    }
}

/// A run to those who stand at `mark`, the first of whom comes next; none when they have been sent
/// everything.
fn begin_run(plan: &mut Plan, gather: &mut Gather, mark: &Mark) -> Option<Run> {
    let (sends, slices) = (plan.connections.len(), plan.slices.len());
    let portion = gather.portion(mark, |piece| plan.slices.push(Slice::Frames(piece)))?;
    Some(Run {
        sends: sends..sends,
        slices: slices..plan.slices.len(),
        bytes: portion.bytes,
        events: portion.events,
        end: portion.end,
        ts_in: portion.ts_in,
    })
}
