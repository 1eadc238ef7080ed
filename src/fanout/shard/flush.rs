//! The flush: what follows from what the kernel took, and the sends of single connections.
//!
//! Not here: what goes to those in sync, and when ([`super::pass`]); the sends themselves; limits
//! (`slow`). Invariant: a frame that has begun is finished before anything else is sent, because
//! its rest goes in front of what is owed.

use crate::limits::GATHER_SLICES_MAX;
use crate::protocol::ws::close::CloseReason;

use super::super::Now;
use super::super::connection::{ConnectionId, Lane, Phase, find_mut};
use super::Shard;
use super::plan::{Outcome, Plan, Run, Slice};
use super::read_back::Reading;

impl Shard {
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
            self.pass.note_sent(run, kept_up, now);
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
        if self.pass.is_sampling() {
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
        if is_whole && run.events > 0 {
            self.pass.note_other();
        }
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

    /// Plans the one send of a connection that is owed something or lags.
    pub(super) fn plan_ready(&mut self, id: ConnectionId, plan: &mut Plan) {
        if self.connection(id).is_none_or(|connection| connection.lane != Lane::Ready)
            || self.waits_for_form(id)
        {
            return;
        }
        self.keep_up(id);
        self.tell_whole(id, None);
        let Some(connection) = self.connection(id) else { return };
        let (owed, phase) = (connection.owed.bytes().len(), connection.phase);
        let (at, start) = (plan.len(), plan.slices.len());
        let mut run = Run {
            sends: at..at + 1,
            slices: start..start,
            bytes: owed,
            events: 0,
            end: 0,
            ts_in: u64::MAX,
        };
        if owed > 0 {
            plan.slices.push(Slice::Owed(id));
        }
        if phase == Phase::Open
            && self.is_told(id)
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
            view.pass_over(lag, run.end);
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
                match self.read_on(id) {
                    Reading::Not => {}
                    Reading::Here => return self.ready.push_back(id),
                    Reading::Awaited => {
                        self.awaiting.insert(id);
                        return;
                    }
                }
                if self.connection(id).is_some_and(|connection| !connection.owed.is_empty()) {
                    return self.ready.push_back(id);
                }
                if self.lagging(id).is_some_and(|(view, lag)| view.is_awaited(lag)) {
                    self.waiting.insert(id);
                    return;
                }
                let is_behind = self.lagging(id).is_some_and(|(view, lag)| view.is_behind(lag));
                if is_behind
                    || self.begin_next(id)
                    || self.tell_whole(id, None)
                    || self.tell_channels(id)
                {
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
        cohort.gather.cut();
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
