//! The flush: which bytes go to which connection next, and what follows from what the kernel took.
//!
//! A pass visits the in-sync members of every cohort with news, in rotating order, and sends all of
//! them the same gather list; then each ready connection gets one send of its own. Not here: the
//! sends themselves. Invariant: a frame that has begun is finished before anything else is sent,
//! because its rest goes in front of what is owed.

use std::ops::Range;

use crate::limits::{FLUSH_SENDS_MAX, GATHER_BYTES_MAX, GATHER_SLICES_MAX, WALK_ENTRIES_MAX};
use crate::protocol::ws::close::CloseReason;

use super::super::Now;
use super::super::cohorts::CohortId;
use super::super::connection::{ConnectionId, Lane, Phase, find, find_mut};
use super::super::log::Run;
use super::Shard;

/// A piece of one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice {
    /// All that the connection is owed.
    Owed(ConnectionId),
    /// A part of the log, shared by every connection that is sent it.
    Log(Run),
}

/// One send to one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// To whom.
    pub connection: ConnectionId,
    /// What: a part of [`Plan::slices`]; sends of one cohort name the same part.
    pub slices: Range<usize>,
    /// Bytes in all.
    pub bytes: usize,
    /// Events in all.
    events: u64,
    /// Where the cursor is while nothing was taken.
    start: u64,
    /// Where the cursor is when all was taken.
    end: u64,
}

/// Sends that are made together.
#[derive(Debug, Default)]
pub struct Plan {
    /// The sends.
    pub sends: Vec<Send>,
    /// What they are made of.
    pub slices: Vec<Slice>,
}

/// What the kernel made of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took this many bytes; fewer than planned, 0 included, means that the socket is full.
    Took(usize),
    /// The connection is broken.
    Failed,
}

/// How far the current pass has come.
#[derive(Debug, Default)]
pub(super) struct Pass {
    cohorts: Vec<CohortId>,
    cohort_at: usize,
    chunk_at: usize,
    /// Members of the cohort at hand, in the order of this pass.
    visits: Vec<ConnectionId>,
    visit_at: usize,
    /// Ready connections that this pass still looks at.
    ready_left: usize,
    /// Passes begun; turns the order, so that nobody is always last.
    turn: usize,
    /// `ts_in` of the oldest event of this pass.
    ts_in: Option<u64>,
    /// Sends with events that were taken in full.
    sends: u64,
}

impl Pass {
    pub(super) const fn is_over(&self) -> bool {
        self.cohort_at == self.cohorts.len() && self.ready_left == 0
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
            pass.cohorts.rotate_left(pass.turn % len);
        }
        (pass.cohort_at, pass.chunk_at, pass.visit_at) = (0, 0, 0);
        pass.visits.clear();
        pass.ready_left = self.ready.len();
        (pass.ts_in, pass.sends) = (None, 0);
    }

    /// Plans the next sends of the pass, [`FLUSH_SENDS_MAX`] at most; none when the pass is over.
    pub fn next_sends(&mut self, plan: &mut Plan) {
        plan.sends.clear();
        plan.slices.clear();
        while plan.sends.len() < FLUSH_SENDS_MAX && self.plan_in_sync(plan) {}
        while plan.sends.len() < FLUSH_SENDS_MAX && self.pass.ready_left > 0 {
            self.pass.ready_left -= 1;
            if let Some(id) = self.ready.pop_front() {
                self.plan_ready(id, plan);
            }
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
            Slice::Log(run) => self.log.bytes(run),
            Slice::Owed(id) => self.connection(id).map_or(&[], |c| c.owed.bytes()),
        }
    }

    /// Takes what became of a planned send. True when the socket is full: the shell then waits
    /// until it is writable, and goes on with [`Self::next_write`].
    pub fn handle_sent(&mut self, send: &Send, outcome: Outcome, now: Now) -> bool {
        let Some(connection) = self.connection_mut(send.connection) else { return false };
        let Outcome::Took(bytes) = outcome else {
            self.finish(send.connection, CloseReason::PeerReset);
            return false;
        };
        if bytes < send.bytes {
            self.handle_partial(send, bytes, now);
            return self.connection(send.connection).is_some();
        }
        connection.sent_ns = now.monotonic_ns;
        let owed = connection.owed.bytes().len();
        connection.owed.consume(owed);
        connection.taken = connection.taken.wrapping_add(send.events);
        let in_sync = matches!(connection.lane, Lane::InSync(_));
        if in_sync {
            connection.cursor = send.end;
        }
        self.count_send(bytes, send.events);
        self.pass.sends += u64::from(send.events > 0);
        if !in_sync {
            self.move_to(send.connection, send.end);
            self.settle(send.connection);
        }
        false
    }

    /// The next bytes that a full socket shall get once it is writable: what is owed, or the next
    /// run of the log; nothing when there is neither.
    pub fn next_write(&mut self, id: ConnectionId) -> Option<&[u8]> {
        self.receipt_overwritten(id);
        let connection = self.connection(id)?;
        if !connection.owed.is_empty() {
            return Some(connection.owed.bytes());
        }
        let mut next = None;
        if connection.phase == Phase::Open {
            self.walk(id, 1, |run| next = Some(run));
        }
        next.map(|run| self.log.bytes(run))
    }

    /// Takes what a writable socket accepted of [`Self::next_write`]; the connection goes on in the
    /// next pass.
    pub fn handle_written(&mut self, id: ConnectionId, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::Failed => self.finish(id, CloseReason::PeerReset),
            Outcome::Took(bytes) => {
                self.advance(id, bytes, now);
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
            let start = if members.is_empty() { 0 } else { pass.turn % members.len() };
            pass.visits.clear();
            pass.visits.extend_from_slice(&members[start..]);
            pass.visits.extend_from_slice(&members[..start]);
            let oldest = pass.ts_in.map_or(chunks[0].ts_in, |ts_in| ts_in.min(chunks[0].ts_in));
            pass.ts_in = Some(oldest);
        }
        let chunk = &chunks[pass.chunk_at];
        let slices = plan.slices.len()..plan.slices.len() + chunk.runs.len();
        plan.slices.extend(gather.runs(chunk).iter().copied().map(Slice::Log));
        while plan.sends.len() < FLUSH_SENDS_MAX && pass.visit_at < pass.visits.len() {
            let connection = pass.visits[pass.visit_at];
            pass.visit_at += 1;
            let in_sync = find(&self.connections, connection).is_some_and(|c| {
                c.cohort == id && c.cursor <= chunk.first && matches!(c.lane, Lane::InSync(_))
            });
            if in_sync {
                plan.sends.push(Send {
                    connection,
                    slices: slices.clone(),
                    bytes: chunk.bytes,
                    events: chunk.events,
                    start: chunk.first,
                    end: chunk.end,
                });
            }
        }
        if pass.visit_at < pass.visits.len() {
            return false;
        }
        pass.visit_at = 0;
        pass.chunk_at += 1;
        if pass.chunk_at < chunks.len() && !pass.visits.is_empty() {
            // Zero would start the cohort again; the visits are still those of this pass.
            return plan.sends.is_empty();
        }
        pass.chunk_at = 0;
        pass.cohort_at += 1;
        self.cohorts.clear_gather(id);
        true
    }

    /// Plans the one send of a connection that is owed something or lags.
    fn plan_ready(&mut self, id: ConnectionId, plan: &mut Plan) {
        if self.connection(id).is_none_or(|connection| connection.lane != Lane::Ready) {
            return;
        }
        self.receipt_overwritten(id);
        let Some(connection) = self.connection(id) else { return };
        let owed = connection.owed.bytes().len();
        let start = plan.slices.len();
        let mut send = Send {
            connection: id,
            slices: start..start,
            bytes: owed,
            events: 0,
            start: connection.cursor,
            end: connection.cursor,
        };
        if owed > 0 {
            plan.slices.push(Slice::Owed(id));
        }
        if connection.phase == Phase::Open {
            let slices = &mut plan.slices;
            let walked = self.walk(id, GATHER_SLICES_MAX, |run| slices.push(Slice::Log(run)));
            send.bytes += walked.bytes;
            send.events = walked.events;
            send.end = walked.end;
        }
        send.slices.end = plan.slices.len();
        if send.bytes > 0 {
            plan.sends.push(send);
        } else {
            self.move_to(id, send.end);
            self.settle(id);
        }
    }

    /// Collects what a lagging connection wants next, within the bounds of one send.
    fn walk(&self, id: ConnectionId, runs_max: usize, mut each: impl FnMut(Run)) -> Walked {
        let connection = self.connection(id).expect("the caller has just seen it");
        let cohort = self.cohorts.cohort(connection.cohort);
        let stop = self.log.head().min(connection.cursor + WALK_ENTRIES_MAX as u64);
        let mut walked = Walked { bytes: 0, events: 0, end: connection.cursor };
        let (mut run, mut runs): (Option<Run>, usize) = (None, 0);
        while walked.end < stop {
            let entry = self.log.entry(walked.end);
            if cohort.wants(entry.channel) {
                let len = entry.len as usize;
                if walked.events > 0 && walked.bytes + len > GATHER_BYTES_MAX {
                    break;
                }
                if !run.as_mut().is_some_and(|run| run.extend(entry)) {
                    if runs == runs_max {
                        break;
                    }
                    if let Some(finished) = run.replace(Run::from(entry)) {
                        each(finished);
                    }
                    runs += 1;
                }
                walked.bytes += len;
                walked.events += 1;
            }
            walked.end += 1;
        }
        if let Some(run) = run {
            each(run);
        }
        walked
    }

    /// A socket took less than was planned: the connection leaves the pass until it is writable.
    fn handle_partial(&mut self, send: &Send, bytes: usize, now: Now) {
        let id = send.connection;
        self.leave_members(id);
        self.move_to(id, send.start);
        self.advance(id, bytes, now);
        let Some(connection) = self.connection_mut(id) else { return };
        connection.lane = Lane::Blocked;
        self.counters().blocked.add(1);
    }

    /// Moves a connection over `bytes` that its socket took: first what is owed, then wanted
    /// frames; the rest of a frame that was cut becomes owed.
    fn advance(&mut self, id: ConnectionId, bytes: usize, now: Now) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let mut left = bytes - connection.owed.consume(bytes);
        let cohort = self.cohorts.cohort(connection.cohort);
        let mut events = 0;
        while left > 0 {
            let entry = self.log.entry(connection.cursor);
            connection.cursor += 1;
            if !cohort.wants(entry.channel) {
                continue;
            }
            events += 1;
            let frame = self.log.bytes(Run::from(entry));
            if left < frame.len() {
                connection.owed.owe_rest(&frame[left..]);
            }
            left = left.saturating_sub(frame.len());
        }
        connection.taken = connection.taken.wrapping_add(events);
        if events > 0 {
            connection.seq_passed = self.log.seq_before(connection.cursor);
        }
        if bytes > 0 {
            connection.sent_ns = now.monotonic_ns;
        }
        self.count_send(bytes, events);
    }

    fn count_send(&self, bytes: usize, events: u64) {
        let counters = self.counters();
        counters.sends.add(1);
        counters.bytes_sent.add(bytes as u64);
        counters.deliveries.add(events);
    }

    /// Puts the cursor of a connection that is not in sync at `cursor`.
    pub(super) fn move_to(&mut self, id: ConnectionId, cursor: u64) {
        // A closing connection stays where it is, and the log may have gone on without it.
        if self.connection(id).is_none_or(|connection| connection.cursor == cursor) {
            return;
        }
        let seq_passed = self.log.seq_before(cursor);
        if let Some(connection) = self.connection_mut(id) {
            (connection.cursor, connection.seq_passed) = (cursor, seq_passed);
        }
    }

    /// Finds a ready connection's lane after its send: in sync, ready again, or done with closing.
    fn settle(&mut self, id: ConnectionId) {
        let head = self.log.head();
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        debug_assert_eq!(connection.lane, Lane::Ready, "only ready connections are settled");
        if !connection.owed.is_empty() {
            self.ready.push_back(id);
            return;
        }
        match connection.phase {
            Phase::Closing { reason, peer_closed: true, .. } => self.finish(id, reason),
            Phase::Closing { .. } => connection.lane = Lane::Silent,
            Phase::Open if connection.cursor < head => self.ready.push_back(id),
            Phase::Open => {
                let cohort = self.cohorts.cohort_mut(connection.cohort);
                debug_assert_eq!(connection.taken, cohort.wanted, "nothing is lost silently");
                let place = u32::try_from(cohort.members.len()).expect("ids are 32 bits");
                connection.lane = Lane::InSync(place);
                cohort.members.push(id);
            }
        }
    }
}

/// What a walk found.
#[derive(Debug, Clone, Copy)]
struct Walked {
    bytes: usize,
    events: u64,
    end: u64,
}
