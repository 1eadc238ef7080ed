//! What nobody can be sent, because the stream that events come from had it no longer.
//!
//! Everybody who has subscribed to something is told the range: nobody knows which channels it was
//! of. Not here: where it was noticed (`nats`). Invariant: a place before the range is none that a
//! client can go on from, and a book goes on with its next snapshot.

use crate::protocol::reply::Cause;

use super::super::connection::ConnectionId;
use super::Shard;

impl Shard {
    /// Events with a `seq` in `range`, which is behind all that came so far, never come.
    pub(super) fn handle_loss(&mut self, range: (u64, u64)) {
        self.store.log.skip_to(range.1);
        self.begin_whole();
        self.lost_to = range.1;
        self.store.slots.break_books();
        let ids: Vec<_> = (self.connections.iter())
            .map(|(index, connection)| ConnectionId::new(index, connection.generation))
            .collect();
        for id in ids {
            let names = self.pattern_names(id);
            if !names.is_empty() {
                self.write_gap(id, names, range, None, (Cause::Expired, None));
            }
        }
    }

    /// Whether nobody knows which channels have had an event after `since`.
    pub(super) const fn is_unknown_since(&self, since: u64) -> bool {
        since < self.lost_to
    }
}
