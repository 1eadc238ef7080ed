//! How a server ends: a drain, and an orderly stop.
//!
//! Not here: how clients end ([`super::client`]). Invariant: nobody is left.

use std::sync::Arc;

use super::World;

impl World {
    /// Every client is told to go, and closed within the window, those who read in order.
    pub(super) fn drain(&mut self) {
        let window_ns = self.random.pick(&[0, 1, 10]) * 1_000_000_000;
        self.shard.handle_drain(window_ns, Arc::new([]), self.now);
        let end_ns = self.now.monotonic_ns + window_ns;
        // A second round of looks after the first, and the patience of closing handshakes.
        while self.now.monotonic_ns < end_ns + 20_000_000_000 {
            self.turn(false);
        }
        let left = self.clients.iter().filter(|client| client.reads == 100);
        assert_eq!(left.count(), 0, "nobody who reads outlasts the drain");
    }

    /// An orderly stop: each client gets a close frame after its last event, and answers it. So
    /// does one whose upgrade was let through before and ends behind the beginning of the stop.
    pub(super) fn shut_down(&mut self) {
        self.is_stopping = true;
        let is_late = self.random.chance(30);
        for round in 0..200 {
            self.shard.handle_shutdown(self.now);
            if is_late && round == 0 {
                self.connect();
                // It reads, as all others do by now: its close frame needs room in its socket.
                self.clients.last_mut().expect("it has just come").reads = 100;
            }
            self.pass();
            for at in 0..self.clients.len() {
                self.read(at);
            }
            self.deliver_commands();
            self.collect_closed();
            if self.clients.is_empty() {
                break;
            }
        }
        self.now.monotonic_ns += 3_600_000_000_000;
        for _ in 0..100 {
            self.shard.handle_tick(self.now);
        }
        self.collect_closed();
        assert_eq!(self.shard.connection_count(), 0, "nobody is left");
        let counters = &self.telemetry.shards[0];
        assert_eq!((counters.connections.value(), counters.blocked.value()), (0, 0));
        assert_eq!(counters.opened.value(), counters.closed.value());
    }
}
