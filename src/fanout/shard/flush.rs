//! The flush: which bytes go to which connection next, and what follows from what the kernel took.
//!
//! A pass visits the in-sync members of every cohort with news, in rotating order, and sends all of
//! them the same gather list; then the same with what a tick took from the samplers; then each
//! ready connection gets one send of its own. Not here: the sends themselves, and limits (`slow`).
//! Invariant: a frame that has begun is finished before anything else is sent, because its rest
//! goes in front of what is owed.

use crate::limits::{FLUSH_SENDS_MAX, GATHER_SLICES_MAX, READY_PER_PASS};
use crate::protocol::ws::close::CloseReason;

use super::super::Now;
use super::super::cohorts::CohortId;
use super::super::connection::{ConnectionId, Lane, Phase, find, find_mut};
use super::super::gather::Chunk;
use super::Shard;
use super::plan::{Outcome, Plan, Run, Slice};

/// How far the current pass has come.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// Begun and not ended.
    is_active: bool,
    /// The gather lists hold what a tick took from the samplers.
    pub(super) is_sampling: bool,
    /// Cohorts of which something that was due is forgotten.
    holed: Vec<CohortId>,
    /// Cohorts whose members have all been visited; their gather lists go when the outcomes of the
    /// last sends are known.
    visited: Vec<CohortId>,
    cohorts: Vec<CohortId>,
    cohort_at: usize,
    chunk_at: usize,
    /// Members of the cohort at hand, in the order of this pass.
    visits: Vec<ConnectionId>,
    visit_at: usize,
    /// Ready connections that this pass still looks at.
    ready_left: usize,
    /// A visit had to look through the whole log; the next one waits for the next pass.
    pub(super) is_laden: bool,
    /// Passes begun; turns the order, so that nobody is always last.
    pub(super) turn: u64,
    /// `ts_in` of the oldest event of this pass.
    ts_in: Option<u64>,
    /// Sends with events that were taken in full.
    sends: u64,
}

impl Pass {
    /// Which of `len` comes first in this pass.
    fn start(&self, len: usize) -> usize {
        usize::try_from(self.turn % len as u64).expect("below a length")
    }

    pub(super) const fn is_over(&self) -> bool {
        !self.is_active
    }
}

impl Shard {
    /// Begins a pass over everything that can be sent now.
    pub fn begin_pass(&mut self) {
        debug_assert!(self.pass.is_over(), "one pass at a time");
        let pass = &mut self.pass;
        self.cohorts.take_dirty(&mut pass.cohorts);
        pass.turn = pass.turn.wrapping_add(1);
        let len = pass.cohorts.len();
        if len > 1 {
            let start = pass.start(len);
            pass.cohorts.rotate_left(start);
        }
        (pass.is_active, pass.is_sampling, pass.is_laden) = (true, false, false);
        (pass.cohort_at, pass.chunk_at, pass.visit_at) = (0, 0, 0);
        pass.visits.clear();
        pass.ready_left = self.ready.len().min(READY_PER_PASS);
        (pass.ts_in, pass.sends) = (None, 0);
    }

    /// Plans the next sends of the pass, [`FLUSH_SENDS_MAX`] at most; none when the pass is over.
    pub fn next_sends(&mut self, plan: &mut Plan) {
        plan.clear();
        self.clear_visited();
        loop {
            while plan.len() < FLUSH_SENDS_MAX && self.plan_in_sync(plan) {}
            if !plan.is_empty() {
                // The ready ones wait for the outcomes, because those may make others ready.
                return;
            }
            if self.pass.is_sampling {
                break;
            }
            self.begin_sampling();
        }
        self.clear_visited();
        while plan.len() < FLUSH_SENDS_MAX && self.pass.ready_left > 0 {
            self.pass.ready_left -= 1;
            if let Some(id) = self.ready.pop_front() {
                self.plan_ready(id, plan);
            }
            if std::mem::take(&mut self.pass.is_laden) {
                self.pass.ready_left = 0;
            }
        }
        if plan.is_empty() {
            (self.pass.is_active, self.pass.is_sampling) = (false, false);
        }
    }

    /// Ends the pass; `now` is the time after its last send. Returns the pass's latency from ingest
    /// to kernel, nanoseconds, and for how many sends it stands: that of the oldest event, so it
    /// never flatters.
    pub fn end_pass(&mut self, now: Now) -> Option<(u64, u64)> {
        debug_assert!(self.pass.is_over(), "every planned send was reported");
        let ts_in = self.pass.ts_in.filter(|_| self.pass.sends > 0)?;
        Some((now.unix_ns.saturating_sub(ts_in), self.pass.sends))
    }

    /// The bytes of a slice. Valid until the next `handle_*`.
    #[must_use]
    pub fn slice(&self, slice: Slice) -> &[u8] {
        match slice {
            Slice::Frames(piece) => self.store.bytes(piece),
            Slice::Owed(id) => self.connection(id).map_or(&[], |c| c.owed.bytes()),
        }
    }

    /// Takes what became of each send of a plan, in its order. Connections whose socket is full are
    /// put into `full`: the shell waits until one is writable, and goes on with
    /// [`Self::next_write`].
    pub fn handle_sent(
        &mut self,
        plan: &Plan,
        outcomes: &[Outcome],
        now: Now,
        full: &mut Vec<ConnectionId>,
    ) {
        debug_assert_eq!(plan.len(), outcomes.len(), "an outcome for each send");
        for run in &plan.runs {
            let connections = &plan.connections[run.sends.clone()];
            let mut kept_up = 0;
            for (&id, &outcome) in connections.iter().zip(&outcomes[run.sends.clone()]) {
                if self.keeps_up(id, run, outcome, now) {
                    kept_up += 1;
                } else if self.handle_outcome(id, run, outcome, now) {
                    full.push(id);
                }
            }
            if !self.pass.is_sampling {
                self.pass.sends += kept_up;
            }
            self.count_sends(kept_up, run.bytes as u64 * kept_up, run.events * kept_up);
        }
    }

    /// The usual outcome: a connection in sync took everything. False when it is another one.
    #[inline]
    fn keeps_up(&mut self, id: ConnectionId, run: &Run, outcome: Outcome, now: Now) -> bool {
        if outcome.taken(run.bytes) != Some((run.bytes, false)) {
            return false;
        }
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        if !matches!(connection.lane, Lane::InSync(_)) {
            return false;
        }
        connection.sent_ns = now.monotonic_ns;
        if self.pass.is_sampling {
            connection.sampled = (self.pass.turn, run.end);
        } else {
            connection.cursor = run.end;
        }
        connection.sent.events += run.events;
        connection.sent.bytes += run.bytes as u64;
        true
    }

    /// Any other outcome; true when the socket is full.
    fn handle_outcome(&mut self, id: ConnectionId, run: &Run, outcome: Outcome, now: Now) -> bool {
        if self.connection(id).is_none() {
            return false;
        }
        let Some((bytes, is_full)) = outcome.taken(run.bytes) else {
            self.finish(id, CloseReason::PeerReset);
            return false;
        };
        if is_full {
            self.handle_partial(id, bytes, now);
            return self.connection(id).is_some();
        }
        // It lags; or there is room for the rest, which was too much for one go.
        let is_whole = bytes == run.bytes;
        self.leave_members(id);
        self.advance(id, bytes, if is_whole { run.end } else { 0 }, now);
        self.pass.sends += u64::from(is_whole && run.events > 0);
        self.settle(id);
        false
    }

    /// The next bytes that a full socket shall get once it is writable: what is owed, or the next
    /// run of the log; nothing when there is neither.
    pub fn next_write(&mut self, id: ConnectionId) -> Option<&[u8]> {
        self.keep_up(id);
        let connection = self.connection(id)?;
        if !connection.owed.is_empty() {
            return Some(self.slice(Slice::Owed(id)));
        }
        if connection.phase != Phase::Open {
            return None;
        }
        let mut next = None;
        let (view, lag) = self.lagging(id)?;
        view.walk(lag, 1, |piece| next = Some(piece));
        next.map(|piece| self.slice(Slice::Frames(piece)))
    }

    /// Takes what a writable socket accepted of [`Self::next_write`]; the connection goes on in the
    /// next pass. What is sealed is written by the shell, followed by [`Self::handle_writable`].
    pub fn handle_written(&mut self, id: ConnectionId, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::Failed => self.finish(id, CloseReason::PeerReset),
            Outcome::Took(bytes) | Outcome::Sealed { bytes, .. } => {
                self.advance(id, bytes, 0, now);
                self.handle_writable(id);
            }
        }
    }

    /// A full socket is writable again.
    pub fn handle_writable(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        if connection.lane == Lane::Blocked {
            connection.lane = Lane::Ready;
            self.counters().blocked.sub(1);
            self.ready.push_back(id);
        }
    }

    /// Plans sends of the cohort at hand; false when no cohort is left, or when the next part of a
    /// gather list must wait for the outcome of the previous one.
    fn plan_in_sync(&mut self, plan: &mut Plan) -> bool {
        let pass = &mut self.pass;
        let Some(&id) = pass.cohorts.get(pass.cohort_at) else { return false };
        let Some(gather) = self.cohorts.gather(id) else {
            pass.cohort_at += 1;
            return true;
        };
        let chunks = gather.chunks();
        if pass.chunk_at == 0 && pass.visit_at == 0 {
            let members = &self.cohorts.cohort(id).members;
            let start = if members.is_empty() { 0 } else { pass.start(members.len()) };
            pass.visits.clear();
            pass.visits.extend_from_slice(&members[start..]);
            pass.visits.extend_from_slice(&members[..start]);
            // A sample is as old as its interval by intent; that is no latency of the flush.
            if !pass.is_sampling {
                let oldest = pass.ts_in.map_or(chunks[0].ts_in, |ts_in| ts_in.min(chunks[0].ts_in));
                pass.ts_in = Some(oldest);
            }
        }
        let chunk = &chunks[pass.chunk_at];
        let start = plan.len();
        while plan.len() < FLUSH_SENDS_MAX
            && let Some(&connection) = pass.visits.get(pass.visit_at)
        {
            pass.visit_at += 1;
            let in_sync = find(&self.connections, connection).is_some_and(|c| {
                let position = if pass.is_sampling { c.sampled_to(pass.turn) } else { c.cursor };
                c.cohort == id && position <= chunk.first && matches!(c.lane, Lane::InSync(_))
            });
            if in_sync {
                plan.connections.push(connection);
            }
        }
        if plan.len() > start {
            let slices = plan.slices.len()..plan.slices.len() + chunk.pieces.len();
            plan.slices.extend(gather.pieces(chunk).iter().copied().map(Slice::Frames));
            let Chunk { bytes, events, end, .. } = *chunk;
            plan.runs.push(Run { sends: start..plan.len(), slices, bytes, events, end });
        }
        if pass.visit_at < pass.visits.len() {
            return false;
        }
        pass.visit_at = 0;
        pass.chunk_at += 1;
        if pass.chunk_at < chunks.len() && !pass.visits.is_empty() {
            // Zero would start the cohort again; the visits are still those of this pass.
            return plan.is_empty();
        }
        pass.chunk_at = 0;
        pass.cohort_at += 1;
        pass.visited.push(id);
        true
    }

    fn clear_visited(&mut self) {
        while let Some(id) = self.pass.visited.pop() {
            self.cohorts.clear_gather(id);
        }
    }

    /// Ends the intervals that are due: what their samplers hold becomes gather lists.
    fn begin_sampling(&mut self) {
        self.clear_visited();
        self.pass.is_sampling = true;
        let ticking = std::mem::take(&mut self.ticks_due);
        if ticking.is_empty() {
            return;
        }
        let pass = &mut self.pass;
        self.cohorts.tick(&ticking, &self.store, &mut pass.cohorts, &mut pass.holed);
        (pass.cohort_at, pass.chunk_at, pass.visit_at) = (0, 0, 0);
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
            self.cohorts.clear_gather(id);
        }
        self.pass.ready_left = self.ready.len().min(READY_PER_PASS);
    }

    /// Plans the one send of a connection that is owed something or lags.
    fn plan_ready(&mut self, id: ConnectionId, plan: &mut Plan) {
        if self.connection(id).is_none_or(|connection| connection.lane != Lane::Ready) {
            return;
        }
        self.keep_up(id);
        self.tell_whole(id, false);
        let Some(connection) = self.connection(id) else { return };
        let (owed, phase) = (connection.owed.bytes().len(), connection.phase);
        let (at, start) = (plan.len(), plan.slices.len());
        let mut run =
            Run { sends: at..at + 1, slices: start..start, bytes: owed, events: 0, end: 0 };
        if owed > 0 {
            plan.slices.push(Slice::Owed(id));
        }
        if phase == Phase::Open
            && let Some((view, lag)) = self.lagging(id)
        {
            let slices = &mut plan.slices;
            let walked =
                view.walk(lag, GATHER_SLICES_MAX, |piece| slices.push(Slice::Frames(piece)));
            run.bytes += walked.bytes;
            run.events = walked.events;
            run.end = walked.end;
        }
        run.slices.end = plan.slices.len();
        if run.bytes > 0 {
            plan.connections.push(id);
            plan.runs.push(run);
            return;
        }
        if let Some((view, lag)) = self.lagging(id) {
            view.move_to(lag, run.end);
        }
        self.settle(id);
    }

    /// A socket took less than was planned: the connection leaves the pass until it is writable.
    fn handle_partial(&mut self, id: ConnectionId, bytes: usize, now: Now) {
        self.leave_members(id);
        self.advance(id, bytes, 0, now);
        let Some(connection) = self.connection_mut(id) else { return };
        connection.lane = Lane::Blocked;
        if let Some(lag) = &mut connection.lag {
            lag.behind = true;
        }
        self.counters().blocked.add(1);
    }

    /// Moves a connection that is not in sync over `bytes` that its socket took, first what is
    /// owed, then frames, and up to entry `end`, before which nothing else is open. The rest of a
    /// frame that was cut becomes owed.
    fn advance(&mut self, id: ConnectionId, bytes: usize, end: u64, now: Now) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        if bytes > 0 {
            connection.sent_ns = now.monotonic_ns;
        }
        connection.sent.bytes += bytes as u64;
        let left = bytes - connection.owed.consume(bytes);
        let mut events = 0;
        if connection.phase == Phase::Open
            && let Some((view, lag)) = self.lagging(id)
        {
            let taken = view.advance(lag, left, end);
            events = taken.events;
            if let Some(connection) = self.connection_mut(id) {
                connection.sent.events += events;
                if let Some(rest) = taken.rest {
                    connection.owed.owe_rest(&rest);
                }
            }
        }
        self.count_sends(1, bytes as u64, events);
    }

    fn count_sends(&self, sends: u64, bytes: u64, events: u64) {
        let counters = self.counters();
        counters.sends.add(sends);
        counters.bytes_sent.add(bytes);
        counters.deliveries.add(events);
    }

    /// Finds a ready connection's lane after its send: in sync, ready again, or done with closing.
    fn settle(&mut self, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        debug_assert_eq!(connection.lane, Lane::Ready, "only ready connections are settled");
        if !connection.owed.is_empty() {
            self.ready.push_back(id);
            return;
        }
        match connection.phase {
            Phase::Closing { reason, peer_closed: true, .. } => self.finish(id, reason),
            Phase::Closing { .. } => connection.lane = Lane::Silent,
            Phase::Open => {
                let is_behind = self.lagging(id).is_some_and(|(view, lag)| view.is_behind(lag));
                if is_behind || self.begin_next(id) || self.tell_whole(id, false) {
                    self.ready.push_back(id);
                } else {
                    self.join_members(id);
                }
            }
        }
    }

    fn join_members(&mut self, id: ConnectionId) {
        let head = self.store.log.head();
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let pending = connection.lag.take().map(|lag| lag.pending).unwrap_or_default();
        let cohort = self.cohorts.cohort_mut(connection.cohort);
        let place = u32::try_from(cohort.members.len()).expect("ids are 32 bits");
        cohort.members.push(id);
        if !pending.is_empty() || cohort.is_within_interval(connection.joined_at) {
            cohort.joined.push(id);
        }
        connection.lane = Lane::InSync(place);
        connection.cursor = head;
        if !pending.is_empty() {
            self.ticking.insert(id, pending);
        }
    }
}
