//! Seals what a plan sends to clients with TLS, into memory that all of a core share.
//!
//! The memory is written, submitted and free again within one turn, so it stays in the cache; what
//! a full socket did not take is copied aside into its session. Not here: TLS itself
//! ([`crate::protocol::tls`]) and the submission ([`super::flush_ring`]). Invariant: records do not
//! move while they are in flight.

use std::ops::Range;

use crate::fanout::shard::{Outcome, Plan, Run, Shard};
use crate::limits::{TLS_SCRATCH_BYTES, TLS_SEND_BYTES_MAX};
use crate::protocol::tls::Session;

use super::flush_ring::Routes;

/// A core's memory for records in flight.
#[derive(Debug, Default)]
pub(super) struct Sealer {
    /// The plaintext of [`Self::gathered`]; the sends of a run share theirs.
    plain: Vec<u8>,
    gathered: Range<usize>,
    /// Made for the first client with TLS.
    records: Vec<u8>,
    used: usize,
    /// Bytes by which records were longer than what is in them.
    overhead: u64,
    parts: Vec<Part>,
}

/// One send's records.
#[derive(Debug)]
struct Part {
    /// Which send of the plan.
    number: usize,
    /// Where they are.
    records: Range<usize>,
    /// Bytes before sealing.
    bytes: usize,
}

/// What became of a send that is to be sealed.
#[derive(Debug)]
pub(super) enum Sealed<'a> {
    /// These records are to be submitted.
    Records(&'a [u8]),
    /// There is no room until the others are sent.
    Full,
    /// The session is over.
    Failed,
}

impl Sealer {
    /// Forgets what is left of an earlier plan: its plaintext, and records whose submission failed.
    pub(super) fn begin(&mut self) {
        (self.gathered, self.used) = (0..0, 0);
        self.parts.clear();
    }

    /// Bytes by which records were longer than what is in them, since the last call.
    pub(super) const fn take_overhead(&mut self) -> u64 {
        std::mem::replace(&mut self.overhead, 0)
    }

    /// Seals send `number` of `plan`, which is of `run`, or its beginning, for the client of
    /// `session`.
    pub(super) fn seal(
        &mut self,
        shard: &Shard,
        plan: &Plan,
        run: &Run,
        number: usize,
        session: &mut Session,
    ) -> Sealed<'_> {
        self.gather(shard, plan, &run.slices);
        let room = session.sealed_bytes_max(self.plain.len());
        self.records.resize(TLS_SCRATCH_BYTES, 0);
        if self.used + room > self.records.len() {
            return if self.used == 0 { Sealed::Failed } else { Sealed::Full };
        }
        let Ok(len) = session.seal(&self.plain, &mut self.records[self.used..]) else {
            return Sealed::Failed;
        };
        self.overhead += (len - self.plain.len()) as u64;
        let records = self.used..self.used + len;
        self.used = records.end;
        self.parts.push(Part { number, records: records.clone(), bytes: self.plain.len() });
        Sealed::Records(&self.records[records])
    }

    /// Turns what the kernel took of the records into outcomes of the plan's sends, keeps what it
    /// did not take, and makes room.
    pub(super) fn finish(
        &mut self,
        plan: &Plan,
        routes: &mut impl Routes,
        outcomes: &mut [Outcome],
    ) {
        for Part { number, records, bytes } in self.parts.drain(..) {
            let Outcome::Took(count) = outcomes[number] else { continue };
            let left = &self.records[records][count..];
            let outcome = Outcome::Sealed { bytes, is_full: !left.is_empty() };
            if !left.is_empty()
                && let Some((_, Some(session))) = routes.route(plan.connections[number])
            {
                session.keep(left);
            }
            outcomes[number] = outcome;
        }
        self.used = 0;
    }

    /// Puts the beginning of a send's slices side by side, so that they fill records.
    fn gather(&mut self, shard: &Shard, plan: &Plan, slices: &Range<usize>) {
        if self.gathered == *slices {
            return;
        }
        self.gathered = slices.clone();
        self.plain.clear();
        for &slice in &plan.slices[slices.clone()] {
            let bytes = shard.slice(slice);
            let room = TLS_SEND_BYTES_MAX - self.plain.len();
            self.plain.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if bytes.len() >= room {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::RawFd;

    use super::*;
    use crate::fanout::connection::ConnectionId;

    struct Nobody;

    impl Routes for Nobody {
        fn route(&mut self, _: ConnectionId) -> Option<(RawFd, Option<&mut Session>)> {
            None
        }
    }

    #[test]
    fn what_a_failed_submission_has_left_behind_is_nothing_to_the_next_plan() {
        let mut sealer = Sealer { records: vec![0; 100], used: 100, ..Sealer::default() };
        sealer.parts.push(Part { number: 0, records: 0..100, bytes: 80 });
        sealer.begin();
        assert_eq!(sealer.used, 0, "all of the memory is free");
        let mut outcomes = [Outcome::Took(60)];
        sealer.finish(&Plan::default(), &mut Nobody, &mut outcomes);
        assert_eq!(outcomes, [Outcome::Took(60)], "of a client without TLS");
    }
}
