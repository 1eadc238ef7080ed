//! The feed: what is published, and when the shard gets it.
//!
//! Others have the same total order, and a shard may be late for it, by several batches. Not here:
//! who asks for what ([`super::client`]). Invariant: the shard gets every batch, in order, and none
//! that it has no room for.

use fanfare::fanout::sequencer::Place;
use fanfare::protocol::event::{Event, Kind};

use crate::model::Given;

use super::World;

const CHANNELS: [&str; 7] =
    ["trade.BTC", "trade.ETH", "quote.BTC", "quote.ETH", "book.BTC.raw", "book.ETH.raw", "status"];

impl World {
    /// Events come, or not. A shard that is late for them gets them in parts.
    pub(super) fn produce(&mut self) {
        if self.random.chance(20) {
            return;
        }
        let is_late = self.random.chance(self.late);
        if !is_late || self.held.len() > 5 {
            self.hand_over_all();
        }
        self.publish(if is_late { 30 } else { 0 });
        if !is_late {
            self.hand_over_all();
        }
    }

    /// Some events, which the sequencer has put in order; behind `cut` of a hundred a batch ends.
    pub(super) fn publish(&mut self, cut: usize) {
        for _ in 0..self.random.below(self.events_a_turn) {
            if self.has_holes && self.random.chance(15) {
                self.skip_some();
            }
            let given = self.event();
            let kind = if given.snapshot { Kind::Snapshot } else { Kind::Update };
            let Given { channel, key, ts, .. } = given;
            let event = Event { channel, key, kind, ts, data: given.data.as_bytes() };
            let (seq, ts_in) = (self.history.head() + 1, self.now.unix_ns);
            self.sequencer.handle_placed(&event, Place { seq, prev: None, ts_in }).unwrap();
            self.stream.push(&event, ts_in);
            assert_eq!(seq, self.history.push(given));
            if self.random.chance(cut) {
                self.held.extend(self.sequencer.next_batch());
            }
        }
        self.held.extend(self.sequencer.next_batch());
        self.telemetry.ingest.head_seq.set(self.sequencer.seq_last());
    }

    /// Numbers that are no events: the stream has messages of other subjects there.
    fn skip_some(&mut self) {
        for _ in 0..=self.random.below(3) {
            self.stream.skip();
            self.history.skip();
            self.totals.skipped += 1;
        }
    }

    /// The shard takes in the next batch that it was late for, if there is one and it has room.
    pub(super) fn hand_over(&mut self) {
        if self.shard.may_append()
            && let Some(batch) = self.held.pop_front()
        {
            self.shard.handle_batch(&batch, self.now);
        }
    }

    /// It takes in all of them. Not in the middle of a pass.
    pub(super) fn hand_over_all(&mut self) {
        while !self.held.is_empty() {
            if !self.shard.may_append() {
                self.flush();
            }
            self.hand_over();
        }
    }

    /// More comes in the middle of a pass.
    pub(super) fn hand_over_more(&mut self) {
        if self.batches_left > 0 && self.random.chance(30) && self.shard.may_append() {
            self.batches_left -= 1;
            if self.held.is_empty() {
                self.publish(0);
            }
            self.totals.appended_in_pass += u64::from(!self.held.is_empty());
            self.hand_over();
        }
    }

    /// Quotes have keys; one book is a slot without a key, the other two slots with keys.
    fn event(&mut self) -> Given<'static> {
        let random = &mut self.random;
        let late = self.history.head() > 30 && random.chance(10);
        let channel = if late { "late.x" } else { random.pick(&CHANNELS) };
        let keyed = channel.starts_with("quote")
            || channel == "book.ETH.raw"
            || (channel == "status" && random.chance(50));
        let key = keyed.then(|| random.pick(&["x", "y\"\\"]));
        let snapshot = channel.starts_with("book") && random.chance(25);
        let ts = random.chance(50).then(|| random.next() >> 2);
        let pad = "é".repeat(random.below(self.data_bytes_max / 2));
        let data = format!("{{ \"n\":{}.50,\"pad\":\"{pad}\"}}", self.history.head());
        Given { channel, key, snapshot, ts, data }
    }
}
