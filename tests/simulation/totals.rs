//! What happened in how many seeds, so that the simulation cannot silently stop covering something.

/// Counts of one client, one seed, or all of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) delivered: u64,
    pub(crate) superseded: u64,
    pub(crate) missed: u64,
    pub(crate) receipts_slow: u64,
    pub(crate) receipts_max_age: u64,
    pub(crate) receipts_max_lag_bytes: u64,
    pub(crate) receipts_snapshot: u64,
    /// With code 4100.
    pub(crate) closes: u64,
    /// Subscriptions that the server ended.
    pub(crate) notices: u64,
    pub(crate) tiers: u64,
    pub(crate) sampled: u64,
    pub(crate) partial: u64,
    pub(crate) rate_limited: u64,
    /// Sends of which a part was sealed that the socket had no room for.
    pub(crate) sealed_full: u64,
    /// Sends that were too much to be sealed at once.
    pub(crate) sealed_part: u64,
    /// With code 4101.
    pub(crate) heartbeats_missed: u64,
    /// Clients that were told of a drain and closed by it.
    pub(crate) drained: u64,
    /// Frames of snapshots and replays.
    pub(crate) recovered: u64,
    pub(crate) snapshots: u64,
    /// Snapshots of which something was replaced before it was sent.
    pub(crate) snapshots_replaced: u64,
    pub(crate) replays: u64,
    /// Events of replays that the log had overwritten.
    pub(crate) replays_missed: u64,
    /// Of values that are not kept, and of places that are not in the log.
    pub(crate) receipts_of_recoveries: u64,
    /// Places behind which the log was overwritten before the shard came to them; seldom.
    pub(crate) overruns: u64,
    /// Batches that came between two plans of a pass.
    pub(crate) appended_in_pass: u64,
    /// Clients that came from another shard that was ahead of this one.
    pub(crate) ahead: u64,
    /// Changes of their sets before it had come to where they are.
    pub(crate) ahead_changed: u64,
    /// Numbers that are no events.
    pub(crate) skipped: u64,
    /// Messages that came compressed.
    pub(crate) compressed: u64,
    /// Events that came as binary messages.
    pub(crate) binary: u64,
    /// Events of streams that said where their client would go on from.
    pub(crate) placed: u64,
    /// Passages of the stream that the shard had asked for.
    pub(crate) passages: u64,
    /// Those that it could not get.
    pub(crate) lapses: u64,
    /// Replays that ended because of that, with a snapshot in place of the rest.
    pub(crate) lapsed: u64,
    /// Passes behind whose beginning a form was still to be filled.
    pub(crate) filling: u64,
    pub(crate) forms_ended: u64,
}

impl Totals {
    fn named(&mut self) -> [(&'static str, &mut u64); 35] {
        [
            ("delivered", &mut self.delivered),
            ("superseded", &mut self.superseded),
            ("missed", &mut self.missed),
            ("receipts for slow", &mut self.receipts_slow),
            ("receipts for max_age", &mut self.receipts_max_age),
            ("receipts for max_lag_bytes", &mut self.receipts_max_lag_bytes),
            ("receipts for snapshot", &mut self.receipts_snapshot),
            ("closes 4100", &mut self.closes),
            ("unsubscribed notices", &mut self.notices),
            ("tier messages", &mut self.tiers),
            ("sampled deliveries", &mut self.sampled),
            ("partial sends", &mut self.partial),
            ("rate-limited requests", &mut self.rate_limited),
            ("sealed for a full socket", &mut self.sealed_full),
            ("sealed in parts", &mut self.sealed_part),
            ("closes 4101", &mut self.heartbeats_missed),
            ("closed by a drain", &mut self.drained),
            ("recovered events", &mut self.recovered),
            ("snapshots", &mut self.snapshots),
            ("snapshots with something replaced", &mut self.snapshots_replaced),
            ("replays", &mut self.replays),
            ("events missed by replays", &mut self.replays_missed),
            ("receipts of recoveries", &mut self.receipts_of_recoveries),
            ("batches within a pass", &mut self.appended_in_pass),
            ("clients ahead of the shard", &mut self.ahead),
            ("changes of sets of clients ahead", &mut self.ahead_changed),
            ("numbers without an event", &mut self.skipped),
            ("compressed messages", &mut self.compressed),
            ("binary messages", &mut self.binary),
            ("events of streams with a place", &mut self.placed),
            ("passages read back", &mut self.passages),
            ("passages that lapsed", &mut self.lapses),
            ("replays that became snapshots", &mut self.lapsed),
            ("passes while a form is filled", &mut self.filling),
            ("forms that ended", &mut self.forms_ended),
        ]
    }

    pub(crate) fn count_receipt(&mut self, cause: &str, missed: u64) {
        self.missed += missed;
        match cause {
            "slow" => self.receipts_slow += 1,
            "max_age" => self.receipts_max_age += 1,
            "max_lag_bytes" => self.receipts_max_lag_bytes += 1,
            "snapshot" => self.receipts_snapshot += 1,
            other => panic!("unknown cause {other}"),
        }
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        for ((_, total), (_, count)) in self.named().into_iter().zip(other.named()) {
            *total += *count;
        }
    }

    /// Prints all of them; each must have happened in one seed of a hundred on average.
    pub(crate) fn check(mut self, seeds: u64) {
        println!("{seeds} seeds:");
        let mut seldom = Vec::new();
        for (name, &mut count) in self.named() {
            println!("  {count:>12} {name}");
            if count < seeds / 100 || count == 0 {
                seldom.push(name);
            }
        }
        assert!(seldom.is_empty(), "the seeds hardly cover {seldom:?}");
    }
}
