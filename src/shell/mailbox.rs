//! Questions of the admin pages to a core, and the answers.
//!
//! A core looks at one flag at each of its ticks; the queue behind it is locked only when somebody
//! asks. Not here: how a core answers (`clerk`). Invariant: a letter is answered once, or
//! its asker stops waiting.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use atomic_waker::AtomicWaker;

use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::inspect::{ChannelReport, ConnectionReport, Sort};
use crate::handoff::batch::ChannelId;
use crate::limits::{ANSWER_MS, LETTERS_MAX};

use super::executor;
use super::tcp_info::TcpInfo;

/// What a core is asked.
#[derive(Debug, Clone)]
pub enum Question {
    /// The first connections in this order; none: by their round trips.
    Connections {
        /// The order.
        sort: Option<Sort>,
        /// How many.
        limit: usize,
    },
    /// The busiest channels.
    Channels {
        /// How many.
        limit: usize,
    },
    /// Connections that have each of these channels in their sets.
    Subscribers(Arc<[ChannelId]>),
    /// End a connection.
    Kick(ConnectionId),
    /// Cut connections as a network would.
    Drill(Drill),
}

/// A share of all connections, to be cut.
#[derive(Debug, Clone, Copy)]
pub struct Drill {
    /// Parts of a million.
    pub parts: u32,
    /// The time over which they are cut.
    pub window: Duration,
}

/// What a core answers.
#[derive(Debug)]
pub enum Answer {
    /// Connections, the first ones of the order first.
    Connections(Vec<Listed>),
    /// Channels, the busiest first.
    Channels(Vec<ChannelReport>),
    /// In the order of the question.
    Subscribers(Vec<u64>),
    /// Whether the connection was there.
    Kicked(bool),
    /// It has begun; false while an earlier one is under way.
    Drilling(bool),
}

/// A connection as the shard and its socket know it.
#[derive(Debug)]
pub struct Listed {
    /// What the shard knows.
    pub report: ConnectionReport,
    /// Where it comes from.
    pub peer: Option<SocketAddr>,
    /// Time since it was opened, milliseconds.
    pub open_ms: u64,
    /// The cipher of its TLS, if it has any.
    pub cipher: Option<String>,
    /// What the kernel knows.
    pub tcp: Option<TcpInfo>,
}

/// Where one core is asked.
#[derive(Debug, Default)]
pub struct Mailbox {
    has_mail: AtomicBool,
    letters: Mutex<VecDeque<Letter>>,
}

/// A question with the way back.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) question: Question,
    reply: Arc<Reply>,
}

#[derive(Debug, Default)]
struct Reply {
    answer: Mutex<Option<Answer>>,
    waker: AtomicWaker,
}

impl Mailbox {
    /// Asks, and waits for the answer; none when the core is too busy, or stops.
    /// The question is on its way when this returns.
    pub fn ask(&self, question: Question) -> impl Future<Output = Option<Answer>> + use<> {
        let reply = self.post(question);
        async move {
            let reply = reply?;
            let answered = poll_fn(|context| {
                reply.waker.register(context.waker());
                lock(&reply.answer).take().map_or(Poll::Pending, Poll::Ready)
            });
            executor::within(Duration::from_millis(ANSWER_MS), answered).await
        }
    }

    fn post(&self, question: Question) -> Option<Arc<Reply>> {
        let reply = Arc::new(Reply::default());
        let mut letters = lock(&self.letters);
        if letters.len() >= LETTERS_MAX {
            return None;
        }
        letters.push_back(Letter { question, reply: Arc::clone(&reply) });
        self.has_mail.store(true, Ordering::Release);
        Some(reply)
    }

    /// The oldest letter, if there is one.
    pub(super) fn take(&self) -> Option<Letter> {
        if !self.has_mail.load(Ordering::Acquire) {
            return None;
        }
        let mut letters = lock(&self.letters);
        let letter = letters.pop_front();
        self.has_mail.store(!letters.is_empty(), Ordering::Release);
        letter
    }
}

impl Letter {
    /// Whether nobody waits for the answer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.reply) == 1
    }

    /// Sends the answer.
    pub(super) fn answer(self, answer: Answer) {
        *lock(&self.reply.answer) = Some(answer);
        self.reply.waker.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_from_another_thread_and_a_full_box_says_so() {
        let mailbox = Arc::new(Mailbox::default());
        let core = Arc::clone(&mailbox);
        let thread = std::thread::spawn(move || {
            loop {
                if let Some(letter) = core.take() {
                    letter.answer(Answer::Kicked(true));
                    return;
                }
                std::thread::yield_now();
            }
        });
        let id = ConnectionId { index: 1, generation: 2 };
        let asker = Arc::clone(&mailbox);
        let answer = executor::start("ask", None, move || async move {
            matches!(asker.ask(Question::Kick(id)).await, Some(Answer::Kicked(true)))
        });
        assert!(answer.unwrap().join().unwrap());
        thread.join().unwrap();
        assert!(mailbox.take().is_none());
        for _ in 0..LETTERS_MAX {
            let letter = Letter { question: Question::Kick(id), reply: Arc::default() };
            lock(&mailbox.letters).push_back(letter);
        }
        let full = Arc::clone(&mailbox);
        let refused = executor::start("full", None, move || async move {
            full.ask(Question::Kick(id)).await.is_none()
        });
        assert!(refused.unwrap().join().unwrap());
    }
}
