//! A run that bytes decide, one operation after the other: for fuzzing, which finds orders that the
//! turns of a seed never come to.
//!
//! Not here: the operations, which are those of a turn. Invariant: nothing that the shard asks of
//! the shell is broken, whatever the bytes.

use fanfare::protocol::ws::close::CloseReason;

use crate::totals::Totals;

use super::client::Client;
use super::random::Random;
use super::{CLIENTS_MAX, World};

/// Operations of a run at most.
const OPERATIONS_MAX: usize = 400;

impl World {
    /// A world that `bytes` decide.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self::new(Random::of_bytes(bytes), false, None)
    }

    /// Does what the bytes say, and then as [`Self::run`] does behind its busy turns.
    pub(crate) fn play(mut self) -> Totals {
        for _ in 0..OPERATIONS_MAX {
            if !self.random.has_bytes() {
                break;
            }
            self.operation();
            self.collect_closed();
            self.shard.check_invariants();
        }
        self.flush();
        self.finish()
    }

    fn operation(&mut self) {
        match self.random.below(16) {
            0 if self.clients.len() < CLIENTS_MAX => self.connect(),
            0..=2 => self.ask(),
            3..=5 => self.publish_some(),
            6 => self.hand_over(),
            7 | 8 => self.pass(),
            9 => self.flush(),
            10 => self.tick(),
            11 => self.wait(),
            12 | 13 => self.read_at(),
            14 => self.deliver_commands(),
            _ => self.change_client(),
        }
    }

    /// Events come; what came before them is with the shard by then.
    fn publish_some(&mut self) {
        if !self.held.is_empty() {
            self.flush();
            self.hand_over_all();
        }
        let cut = self.random.pick(&[0, 30]);
        self.publish(cut);
        self.batches_left = 1;
    }

    fn ask(&mut self) {
        let head = self.history.head();
        if let Some(at) = self.any() {
            let client = &mut self.clients[at];
            if !client.leaving && !client.mute {
                client.say_some(head, &mut self.random);
            }
        }
    }

    fn read_at(&mut self) {
        if let Some(at) = self.any() {
            self.read(at);
        }
    }

    /// One reads slower or faster, falls silent, or is cut off.
    fn change_client(&mut self) {
        let Some(at) = self.any() else { return };
        let client = &mut self.clients[at];
        match self.random.below(8) {
            0 => client.mute = true,
            1 => {
                client.leaving = true;
                let id = client.id;
                self.shard.handle_end(id, CloseReason::PeerReset);
            }
            2 if !client.leaving && !client.mute => client.close(1000, &mut self.random),
            _ => client.reads = self.random.pick(&Client::READS),
        }
    }

    /// One of those who are there.
    fn any(&mut self) -> Option<usize> {
        let count = self.clients.len();
        (count > 0).then(|| self.random.below(count))
    }
}
