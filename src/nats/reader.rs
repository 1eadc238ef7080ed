//! A stream from one place on, without a hole and without end: what is there already, then live.
//!
//! An ordered consumer brings the messages; whatever happens to it, its server or the connection,
//! another one goes on behind the last message that was handed over. All subjects of the stream are
//! read, so that every number that is missing is a message that the stream has no longer. Not here:
//! what came before the place ([`super::past`]). Invariant: every `seq` from the place on is handed
//! over once, in order, or is within a [`Chunk::lost`].

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::Message;
use async_nats::jetstream::stream::Stream;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::chunk::Chunk;
use super::connection::{Connection, epoch};
use super::error::NatsError;
use super::kept::{Kept, raw};
use super::pipe::Chunks;
use crate::config::NatsSource;
use crate::limits::{
    STREAM_LOOK_MS, STREAM_LOOKS_SHORT, STREAM_LOOKS_SILENT, STREAM_PULL_MS, STREAM_REQUEST_MS,
    STREAM_RETRY_MS,
};
use crate::telemetry::StreamCounters;

/// Reads a stream.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) connection: Connection,
    pub(super) stream: Stream,
    pub(super) source: &'a NatsSource,
    pub(super) epoch: &'a str,
    pub(super) counters: &'a StreamCounters,
    pub(super) chunks: Chunks,
    /// The next `seq` to be read.
    pub(super) next: u64,
    /// The stream's last `seq` when the start began; none once that was said.
    pub(super) target: Option<u64>,
    /// Looks in a row that found less in the stream than was read.
    pub(super) looks_short: u32,
    /// The next `seq` to be read at the last look, and looks in a row that found it again.
    pub(super) next_at_look: u64,
    pub(super) looks_silent: u32,
}

/// Why nothing more is read.
#[derive(Debug)]
enum Stop {
    /// Something went wrong that another consumer may cure.
    Again(String),
    /// Nobody wants more.
    Unwanted,
    /// What was read so far is not of this stream.
    Ended(String),
}

type Step = ControlFlow<Stop>;

impl Reader<'_> {
    /// Reads until nobody wants more, or the stream is another one.
    pub(super) async fn run(mut self) {
        let mut looks = interval(Duration::from_millis(STREAM_LOOK_MS));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped_at = None;
        loop {
            match self.read(&mut looks).await {
                Stop::Unwanted => return,
                Stop::Ended(why) => {
                    self.chunks.send(Chunk::end(why)).await;
                    return;
                }
                Stop::Again(why) => {
                    self.counters.restarts.add(1);
                    let next = self.next;
                    tracing::warn!("{}: {why}; reading on from {next}", self.source);
                    // It may be the next message that it ends at each time.
                    let is_again = stopped_at.replace(next) == Some(next);
                    if is_again && self.skip().await.is_break() {
                        return;
                    }
                    sleep(Duration::from_millis(STREAM_RETRY_MS)).await;
                }
            }
        }
    }

    /// Reads with one consumer.
    async fn read(&mut self, looks: &mut Interval) -> Stop {
        self.connection.anew.mark_unchanged();
        if let ControlFlow::Break(stop) = self.say_caught_up(Chunk::default()).await {
            return stop;
        }
        let opened = timeout(Duration::from_millis(STREAM_REQUEST_MS), self.open()).await;
        let mut messages = match opened.unwrap_or_else(|_| Err("no answer".into())) {
            Ok(messages) => messages,
            Err(error) => return self.or_ended(error).await,
        };
        loop {
            let step = tokio::select! {
                message = messages.next() => self.take(message, &mut messages).await,
                changed = self.connection.anew.changed() => match changed {
                    Ok(()) => Step::Break(Stop::Again("the connection is a new one".into())),
                    Err(_) => Step::Break(Stop::Unwanted),
                },
                _ = looks.tick() => self.look().await,
            };
            if let ControlFlow::Break(stop) = step {
                return stop;
            }
        }
    }

    /// Skips messages whose headers cannot be read, at which every consumer would end.
    async fn skip(&mut self) -> Step {
        let patience = Duration::from_millis(STREAM_LOOK_MS);
        while let Ok(Ok(Some(message))) = timeout(patience, self.find_next()).await
            && !message.is_readable()
        {
            let mut chunk = Chunk { lost: self.lose_to(message.seq), ..Chunk::default() };
            message.add_to(&mut chunk, &self.source.prefix);
            self.counters.messages.add(1);
            self.next += 1;
            self.hand_over(chunk).await?;
        }
        Step::Continue(())
    }

    /// The next message that the stream has, whatever its header is.
    async fn find_next(&self) -> Result<Option<Kept>, NatsError> {
        Kept::find(&self.connection, &self.source.stream, ">", self.next).await
    }

    async fn open(&self) -> Result<Ordered, String> {
        let config = OrderedConfig {
            description: Some("fanfare".into()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next.max(1) },
            replay_policy: ReplayPolicy::Instant,
            max_expires: Duration::from_millis(STREAM_PULL_MS),
            ..OrderedConfig::default()
        };
        let consumer = self.stream.create_consumer(config).await;
        let consumer = consumer.map_err(|error| error.to_string())?;
        consumer.messages().await.map_err(|error| error.to_string())
    }

    /// Takes a message and those that are there already.
    async fn take(
        &mut self,
        message: Option<Result<Message, impl std::fmt::Display>>,
        messages: &mut Ordered,
    ) -> Step {
        let mut chunk = Chunk::default();
        let mut message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Step::Break(self.or_ended(error.to_string()).await),
            None => return Step::Break(Stop::Again("the consumer has ended".into())),
        };
        let failed = loop {
            match self.add(&mut chunk, &message) {
                Added::Yes => {}
                Added::Again => break Some("messages came again".to_owned()),
                Added::BehindHole(seq) => {
                    // What is lost is said in front of a chunk.
                    let full = std::mem::take(&mut chunk);
                    self.hand_over(full).await?;
                    chunk.lost = self.lose_to(seq);
                    continue;
                }
            }
            if chunk.is_full() {
                break None;
            }
            match messages.next().now_or_never() {
                None => break None,
                Some(Some(Ok(next))) => message = next,
                Some(Some(Err(error))) => break Some(error.to_string()),
                Some(None) => break Some("the consumer has ended".into()),
            }
        };
        self.hand_over(chunk).await?;
        match failed {
            None => Step::Continue(()),
            Some(why) => Step::Break(self.or_ended(why).await),
        }
    }

    fn add(&mut self, chunk: &mut Chunk, message: &Message) -> Added {
        let Ok(info) = message.info() else { return Added::Yes };
        let seq = info.stream_sequence;
        if seq < self.next {
            return Added::Again;
        }
        if seq > self.next {
            return Added::BehindHole(seq);
        }
        let ts_in = u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or_default();
        let headers = message.headers.as_ref();
        chunk.add(
            &raw(seq, ts_in, &message.subject, headers, &message.payload),
            &self.source.prefix,
        );
        self.counters.messages.add(1);
        self.counters.pending.set(info.pending);
        self.next = seq + 1;
        Added::Yes
    }

    /// Goes on at `seq`, behind what the stream has no longer; says what that is, if anything.
    fn lose_to(&mut self, seq: u64) -> Option<(u64, u64)> {
        if seq <= self.next {
            return None;
        }
        let (from, to) = (self.next, seq - 1);
        self.next = seq;
        // Before a start has caught up, nobody has missed anything.
        if self.target.is_none() {
            self.counters.lost.add(to + 1 - from);
            tracing::error!(
                "{}: {from} to {to} are not in the stream any more; clients are told. Keep more in \
                 it (max_age, max_bytes) than a node may be away",
                self.source
            );
        }
        Some((from, to))
    }

    async fn hand_over(&mut self, chunk: Chunk) -> Step {
        self.say_caught_up(chunk).await
    }

    /// Hands a chunk over, with the word that a start has caught up if it has.
    async fn say_caught_up(&mut self, mut chunk: Chunk) -> Step {
        if self.target.is_some_and(|target| self.next > target) {
            self.target = None;
            chunk.is_caught_up = true;
        }
        if chunk.is_empty() || self.chunks.send(chunk).await {
            return Step::Continue(());
        }
        Step::Break(Stop::Unwanted)
    }

    /// Looks whether the stream is still the same.
    async fn look(&mut self) -> Step {
        if self.chunks.is_closed() {
            return Step::Break(Stop::Unwanted);
        }
        self.counters.is_up.set(u64::from(self.connection.is_up()));
        match self.why_ended().await {
            Some(why) => Step::Break(Stop::Ended(why)),
            None => self.look_for_end().await,
        }
    }

    /// Ends a start whose last messages were removed from the stream, so that they never come.
    async fn look_for_end(&mut self) -> Step {
        let is_silent = self.next_at_look == self.next;
        self.looks_silent = if is_silent { self.looks_silent + 1 } else { 0 };
        self.next_at_look = self.next;
        let Some(target) = self.target.filter(|_| self.looks_silent >= STREAM_LOOKS_SILENT) else {
            return Step::Continue(());
        };
        match self.find_next().await {
            Ok(found) if found.as_ref().is_none_or(|message| message.seq > target) => {
                let lost = self.lose_to(target + 1);
                self.hand_over(Chunk { lost, ..Chunk::default() }).await
            }
            _ => Step::Continue(()),
        }
    }

    async fn or_ended(&mut self, error: String) -> Stop {
        match self.why_ended().await {
            _ if self.chunks.is_closed() => Stop::Unwanted,
            Some(why) => Stop::Ended(why),
            None => Stop::Again(error),
        }
    }

    /// Why what was read is not of the stream that is there now, if it is not.
    async fn why_ended(&mut self) -> Option<String> {
        let patience = Duration::from_millis(STREAM_LOOK_MS);
        let found = self.connection.jetstream.get_stream(&self.source.stream);
        let found = match timeout(patience, found).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                self.counters.is_up.set(0);
                if matches!(error.kind(), GetStreamErrorKind::JetStream(_)) {
                    tracing::error!("{}: {error}; waiting for it", self.source);
                }
                return None;
            }
            Err(_) => return None,
        };
        let info = found.cached_info();
        let state = &info.state;
        self.counters.first_seq.set(state.first_sequence);
        self.counters.last_seq.set(state.last_sequence);
        if epoch(info, &self.source.prefix) != self.epoch {
            return Some("the stream was deleted and made again".into());
        }
        self.looks_short = match state.last_sequence + 1 < self.next {
            true => self.looks_short + 1,
            false => 0,
        };
        (self.looks_short >= STREAM_LOOKS_SHORT).then(|| {
            let (last, read) = (state.last_sequence, self.next - 1);
            format!("the stream ends at {last} and {read} was read: its servers have lost messages")
        })
    }
}

/// What became of a message.
enum Added {
    Yes,
    /// It was handed over before.
    Again,
    /// Messages before it are missing; its `seq`.
    BehindHole(u64),
}
