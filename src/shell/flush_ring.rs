//! The flush ring: one io_uring of a shard's own, through which a plan's sends go in one system
//! call.
//!
//! Every send is `MSG_DONTWAIT`, so the kernel completes it before `io_uring_enter` returns (with
//! `-EAGAIN` when the socket is full) and never keeps a reference into the log. Not here: what to
//! send, and the sockets ([`Routes`]). Invariant: between two calls nothing is in flight.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::{Outcome, Plan, Shard};
use crate::limits::FLUSH_SENDS_MAX;
use crate::protocol::tls::Session;

use super::sealer::{Sealed, Sealer};

const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Where the bytes for a shard's connections go.
pub trait Routes {
    /// The socket to send to, and what seals for it where that is sealed; none when there is no
    /// socket.
    fn route(&mut self, id: ConnectionId) -> Option<(RawFd, Option<&mut Session>)>;
}

/// A shard's ring for sends. Not `Send`: it stays on its core.
pub struct FlushRing {
    ring: IoUring,
    iovecs: Vec<libc::iovec>,
    messages: Vec<libc::msghdr>,
    sealer: Sealer,
    /// System calls.
    calls: u64,
}

impl std::fmt::Debug for FlushRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlushRing").finish_non_exhaustive()
    }
}

impl FlushRing {
    /// A ring with room for one plan. Call it on the thread that will use it.
    ///
    /// # Errors
    /// The kernel's reason to refuse the ring.
    pub fn new() -> io::Result<Self> {
        let (iovecs, messages) = (Vec::new(), Vec::new());
        Ok(Self { ring: build()?, iovecs, messages, sealer: Sealer::default(), calls: 0 })
    }

    /// Makes every send of `plan`, and appends an outcome for each, in the plan's order.
    ///
    /// # Errors
    /// When the ring itself fails; the outcomes are then incomplete.
    pub fn send(
        &mut self,
        shard: &Shard,
        plan: &Plan,
        routes: &mut impl Routes,
        outcomes: &mut Vec<Outcome>,
    ) -> io::Result<()> {
        outcomes.clear();
        outcomes.resize(plan.len(), Outcome::Failed);
        if !self.ring.submission().is_empty() || !self.ring.completion().is_empty() {
            // Left behind by a call that failed: those entries point to memory that is gone.
            self.ring = build()?;
        }
        self.gather(shard, plan);
        self.sealer.begin();
        let mut next = 0;
        while next < plan.len() {
            let queued = self.queue(shard, plan, routes, &mut next);
            self.complete(queued, outcomes)?;
            self.sealer.finish(plan, routes, outcomes);
        }
        Ok(())
    }

    /// System calls, and bytes that TLS has added, since the last call.
    pub(super) const fn take_costs(&mut self) -> (u64, u64) {
        (std::mem::replace(&mut self.calls, 0), self.sealer.take_overhead())
    }

    /// Queues the plan's sends from `next` on, all of them or until the memory for records is full,
    /// and returns how many.
    fn queue(
        &mut self,
        shard: &Shard,
        plan: &Plan,
        routes: &mut impl Routes,
        next: &mut usize,
    ) -> usize {
        let mut submission = self.ring.submission();
        'runs: for (run, message) in plan.runs.iter().zip(&self.messages) {
            let slices = &self.iovecs[run.slices.clone()];
            while run.sends.contains(next) {
                let connection = plan.connections[*next];
                let entry = match routes.route(connection) {
                    None => None,
                    Some((descriptor, None)) => Some(prepare(descriptor, slices, message)),
                    Some((descriptor, Some(session))) => {
                        match self.sealer.seal(shard, plan, run, *next, session) {
                            Sealed::Records(records) => {
                                Some(send_one(descriptor, records.as_ptr(), records.len()))
                            }
                            Sealed::Full => break 'runs,
                            Sealed::Failed => None,
                        }
                    }
                };
                if let Some(entry) = entry {
                    // SAFETY: the pointers in the entry lead to `iovecs`, `messages`, the shard's
                    // log and the sealer's records; none of them changes before every completion
                    // has been seen. Where the ring fails before, what it has not been given is
                    // thrown away with it.
                    unsafe { submission.push(&entry.user_data(*next as u64)) }
                        .expect("the ring has room for a whole plan");
                }
                *next += 1;
            }
        }
        submission.len()
    }

    /// Lays out the plan's slices; the sends of one run share theirs.
    fn gather(&mut self, shard: &Shard, plan: &Plan) {
        self.iovecs.clear();
        self.iovecs.extend(plan.slices.iter().map(|&slice| {
            let bytes = shard.slice(slice);
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
        }));
        self.messages.clear();
        for run in &plan.runs {
            // SAFETY: all-zero bytes are a valid `msghdr`: no name, no control data, no slices.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = self.iovecs[run.slices.clone()].as_mut_ptr();
            message.msg_iovlen = run.slices.len();
            self.messages.push(message);
        }
    }

    fn complete(&mut self, queued: usize, outcomes: &mut [Outcome]) -> io::Result<()> {
        let mut seen = 0;
        while seen < queued {
            self.calls += 1;
            match self.ring.submit_and_wait(queued - seen) {
                Ok(_) => {}
                // A signal, or the kernel is short of memory or room for now: the rest is due.
                Err(error) if may_be_tried_again(&error) => {}
                Err(error) => return Err(error),
            }
            for completion in self.ring.completion() {
                let number = usize::try_from(completion.user_data()).expect("set by send");
                outcomes[number] = outcome(&completion);
                seen += 1;
            }
        }
        Ok(())
    }
}

/// A ring with room for the sends of one plan.
///
/// # Errors
/// The kernel's reason to refuse it.
pub fn build() -> io::Result<IoUring> {
    let entries = u32::try_from(FLUSH_SENDS_MAX).expect("a small constant");
    IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .build(entries)
        // Kernels before 6.0 do not know the flags, and do not need them.
        .or_else(|_| IoUring::new(entries))
}

/// Whether a submission that failed is to be made again.
#[must_use]
pub fn may_be_tried_again(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

fn prepare(socket: RawFd, slices: &[libc::iovec], message: &libc::msghdr) -> squeue::Entry {
    match slices {
        [one] => send_one(socket, one.iov_base.cast(), one.iov_len),
        _ => opcode::SendMsg::new(types::Fd(socket), message).flags(FLAGS.cast_unsigned()).build(),
    }
}

fn send_one(socket: RawFd, bytes: *const u8, len: usize) -> squeue::Entry {
    // A send of one slice has a length of 32 bits; a gather list is far shorter.
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    opcode::Send::new(types::Fd(socket), bytes, len).flags(FLAGS).build()
}

fn outcome(completion: &cqueue::Entry) -> Outcome {
    match usize::try_from(completion.result()) {
        Ok(bytes) => Outcome::Took(bytes),
        Err(_) if completion.result() == -libc::EAGAIN => Outcome::Took(0),
        Err(_) => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::sockets::Sockets;
    use super::*;
    use crate::fanout::shard::ShardSettings;
    use crate::limits::{self, LOG_BYTES_MIN};
    use crate::telemetry::Telemetry;

    #[test]
    fn what_a_failed_call_left_behind_is_not_submitted_by_the_next_one() {
        let settings = ShardSettings {
            node: "test".into(),
            epoch: "epoch".into(),
            log_bytes: LOG_BYTES_MIN,
            connections_max: 1,
            subscriptions_max: 1,
            message_bytes_max: 512,
            heartbeat_ns: 1,
            retained_bytes: limits::RETAINED_BYTES,
            rules: Arc::default(),
            command_rate: limits::COMMAND_RATE,
            command_burst: limits::COMMAND_BURST,
            tier_moves: false,
            ..ShardSettings::default()
        };
        let shard = Shard::new(settings, Arc::new(Telemetry::new(1)), 0);
        let mut flush = FlushRing::new().unwrap();
        // SAFETY: an entry that does nothing points to nothing.
        unsafe { flush.ring.submission().push(&opcode::Nop::new().build()) }.unwrap();
        let mut sockets = Sockets::new(1).unwrap();
        flush.send(&shard, &Plan::default(), &mut sockets, &mut Vec::new()).unwrap();
        assert!(flush.ring.submission().is_empty());
        flush.ring.submit().unwrap();
        assert!(flush.ring.completion().is_empty());
    }
}
