//! The NATS thread's ends of the rings to other threads.
//!
//! Not here: the rings ([`crate::handoff::ring`]). Invariant: a full ring makes the sender wait.

use std::future::poll_fn;

use super::chunk::Chunk;
use crate::handoff::ring::Sender;

/// Where chunks go in.
#[derive(Debug)]
pub(super) struct Chunks(pub(super) Sender<Chunk>);

impl Chunks {
    /// Hands a chunk over; false when nobody wants more.
    pub(super) async fn send(&mut self, mut chunk: Chunk) -> bool {
        loop {
            match self.0.send(chunk) {
                Ok(()) => return true,
                Err(_) if self.0.is_closed() => return false,
                Err(back) => chunk = back,
            }
            poll_fn(|context| self.0.poll_room(context)).await;
        }
    }

    /// Whether nobody wants more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}
