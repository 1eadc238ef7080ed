//! A shard's questions for what its log has not got, and the answers of the thread that reads the
//! stream.
//!
//! Not here: what is asked, and who is sent what comes (`fanout`). Invariant: a question has room
//! in its ring, because a shard waits for no more answers than that holds.

use std::future::poll_fn;
use std::rc::Rc;

use crate::handoff::passage::Answer;
use crate::handoff::ring::{Receiver, Sender};

use super::executor;
use super::shard_loop::Core;

/// Passes the shard's questions on.
pub(super) fn ask(core: &Core, asks: &mut Sender<u64>) {
    while let Some(from) = core.shard.borrow_mut().next_ask() {
        if asks.send(from).is_err() {
            debug_assert!(asks.is_closed(), "there is room");
            return; // The end of the answers tells the shard.
        }
    }
}

/// Gives the shard the answers, until nobody answers any more.
pub(super) async fn run(core: Rc<Core>, mut answers: Receiver<Answer>) {
    while let Some(answer) = poll_fn(|context| answers.poll_receive(context)).await {
        core.shard.borrow_mut().handle_answer(answer);
        core.kick();
        executor::yield_if_needed().await;
    }
    core.shard.borrow_mut().handle_no_answers();
    core.kick();
}
