//! Passages: parts of a stream that are read again, for shards whose clients' places are older than
//! their logs.
//!
//! One at a time, one answer of the stream each, so that the live feed never waits for more than
//! that; what one shard was given the next one gets without the stream. What came before a passage
//! on each channel is known from the passage before it, or is looked up. Not here: who is sent what
//! (`fanout`). Invariant: an event has the place, and `prev`, that it had when it was live; where
//! that cannot be told, there is no passage.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::jetstream::stream::Stream;
use tokio::time::{Duration, sleep, timeout};

use super::chunk::Chunk;
use super::connection::{Connection, epoch};
use super::error::NatsError;
use super::kept::Kept;
use super::past::{Past, by_channel};
use super::subject::Address;
use crate::config::NatsSource;
use crate::handoff::passage::{Answer, Lapse, Passage, Past as PastEvent};
use crate::handoff::ring::{Receiver, Sender, ring};
use crate::limits::{
    PASSAGE_CHAINS, PASSAGE_EVENTS, PASSAGES_ASKED, PASSAGES_IDLE_MS, PASSAGES_KEPT,
    STREAM_REQUEST_MS, STREAM_RETRY_MS, STREAM_SUBJECTS,
};
use crate::protocol::event::Event;
use crate::telemetry::StreamCounters;

/// Says of an event whether this server takes it.
pub struct Judge(Box<dyn FnMut(&Event<'_>) -> bool + Send>);

impl Judge {
    /// One that takes what `takes` says.
    #[must_use]
    pub fn new(takes: impl FnMut(&Event<'_>) -> bool + Send + 'static) -> Self {
        Self(Box::new(takes))
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

/// Where a shard asks for passages, by their first `seq`, and where they come; what is on its way
/// to it is [`PASSAGES_ASKED`] at most.
#[derive(Debug)]
pub struct Desk {
    /// The questions.
    pub asks: Sender<u64>,
    /// The answers, one for each.
    pub answers: Receiver<Answer>,
}

/// The other side of a [`Desk`].
#[derive(Debug)]
pub(super) struct Hatch {
    asks: Receiver<u64>,
    answers: Sender<Answer>,
}

/// Both sides, for each of so many shards.
pub(super) fn desks(shards: usize) -> (Vec<Desk>, Vec<Hatch>) {
    let pair = |_| {
        let (asks_in, asks) = ring(PASSAGES_ASKED);
        let (answers, answers_out) = ring(PASSAGES_ASKED);
        (Desk { asks: asks_in, answers: answers_out }, Hatch { asks, answers })
    };
    (0..shards).map(pair).unzip()
}

/// A place that was read up to, and what is needed to read on.
#[derive(Debug, Default)]
struct Chain {
    next: u64,
    /// The last `seq` of each channel before `next`, as far as it is known.
    last: HashMap<String, u64>,
}

/// Reads passages.
#[derive(Debug)]
pub(super) struct Passages<'a> {
    connection: &'a Connection,
    source: &'a NatsSource,
    epoch: &'a str,
    counters: &'a StreamCounters,
    subjects_max: usize,
    judge: Judge,
    hatches: Vec<Hatch>,
    /// The shard that was answered last.
    turn: usize,
    /// The stream as it was at the end of the last passage.
    stream: Option<Stream>,
    /// The newest last.
    kept: VecDeque<Arc<Passage>>,
    /// The last one that was used last.
    chains: VecDeque<Chain>,
    /// The subjects of each channel, and the stream's last `seq` when they were listed.
    subjects: Option<(u64, HashMap<String, Vec<String>>)>,
}

/// Why there is no passage at this attempt.
#[derive(Debug)]
enum Failed {
    /// Another attempt would fail as well.
    For(Lapse),
    /// It may not.
    Now(NatsError),
}

impl From<NatsError> for Failed {
    fn from(error: NatsError) -> Self {
        Self::Now(error)
    }
}

impl<'a> Passages<'a> {
    /// Nothing was read yet.
    pub(super) fn new(
        connection: &'a Connection,
        (source, epoch): (&'a NatsSource, &'a str),
        counters: &'a StreamCounters,
        subjects_max: usize,
        (judge, hatches): (Judge, Vec<Hatch>),
    ) -> Self {
        Self {
            connection,
            source,
            epoch,
            counters,
            subjects_max,
            judge,
            hatches,
            turn: 0,
            stream: None,
            kept: VecDeque::new(),
            chains: VecDeque::new(),
            subjects: None,
        }
    }

    /// Answers until no shard is left.
    pub(super) async fn run(mut self) {
        let patience = Duration::from_millis(PASSAGES_IDLE_MS);
        loop {
            let Ok(ask) = timeout(patience, poll_fn(|context| self.poll_ask(context))).await else {
                // Nobody goes on here.
                (self.stream, self.subjects) = (None, None);
                self.kept.clear();
                self.chains.clear();
                continue;
            };
            let Some((shard, from)) = ask else { return };
            let outcome = self.passage(from).await;
            self.answer(shard, from, outcome.clone());
            if outcome.is_err_and(|lapse| lapse == Lapse::Unreadable) {
                // Those behind it have waited for long enough.
                for shard in 0..self.hatches.len() {
                    while let Some(from) = self.hatches[shard].asks.receive() {
                        self.answer(shard, from, Err(Lapse::Unreadable));
                    }
                }
            }
        }
    }

    /// Ready with the next question and whose it is, the shards in turn; with none once all are
    /// gone.
    fn poll_ask(&mut self, context: &Context<'_>) -> Poll<Option<(usize, u64)>> {
        let (count, mut are_gone) = (self.hatches.len(), true);
        for step in 1..=count {
            let shard = (self.turn + step) % count;
            match self.hatches[shard].asks.poll_receive(context) {
                Poll::Ready(Some(from)) => {
                    self.turn = shard;
                    return Poll::Ready(Some((shard, from)));
                }
                Poll::Ready(None) => {}
                Poll::Pending => are_gone = false,
            }
        }
        if are_gone { Poll::Ready(None) } else { Poll::Pending }
    }

    fn answer(&mut self, shard: usize, from: u64, outcome: Result<Arc<Passage>, Lapse>) {
        self.counters.read_back_failures.add(u64::from(outcome.is_err()));
        // A shard asks for no more than its ring holds; one that is gone wants nothing.
        let sent = self.hatches[shard].answers.send(Answer { from, outcome });
        debug_assert!(sent.is_ok() || self.hatches[shard].answers.is_closed(), "there is room");
    }

    /// The passage that begins at `from`, tried again for as long as a request may take.
    async fn passage(&mut self, from: u64) -> Result<Arc<Passage>, Lapse> {
        if let Some(known) = self.kept.iter().find(|passage| passage.from == from) {
            return Ok(Arc::clone(known));
        }
        let mut why = None;
        let attempts = async {
            loop {
                match self.read(from).await {
                    Ok(passage) => return Ok(passage),
                    Err(Failed::For(lapse)) => return Err(lapse),
                    Err(Failed::Now(error)) => why = Some(error),
                }
                sleep(Duration::from_millis(STREAM_RETRY_MS)).await;
            }
        };
        let done = timeout(Duration::from_millis(STREAM_REQUEST_MS), attempts).await;
        let passage = Arc::new(done.unwrap_or_else(|_| {
            let why = why.map_or_else(|| "no answer".to_owned(), |error| error.to_string());
            tracing::warn!("{}: it cannot be read again from {from} on: {why}", self.source);
            Err(Lapse::Unreadable)
        })?);
        self.kept.push_back(Arc::clone(&passage));
        if self.kept.len() > PASSAGES_KEPT {
            self.kept.pop_front();
        }
        Ok(passage)
    }

    async fn read(&mut self, from: u64) -> Result<Passage, Failed> {
        let (connection, source, subjects_max) = (self.connection, self.source, self.subjects_max);
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.find().await?,
        };
        let past = Past::new(connection, &stream, source, subjects_max);
        let mut chain = match self.chains.iter().position(|chain| chain.next == from) {
            Some(at) => self.chains.remove(at).expect("it was just found"),
            None => self.begin(&past, from).await?,
        };
        let end = from.next_multiple_of(PASSAGE_EVENTS);
        let messages: Vec<_> = (past.passage(from).await?.into_iter().zip(from..=end))
            .take_while(|(message, seq)| message.seq == *seq)
            .map(|(message, _)| message)
            .collect();
        // Only after that is it certain which stream the messages are of.
        let after = self.find().await?;
        let Some(last) = messages.last() else {
            let is_gone = from <= after.cached_info().state.last_sequence;
            return Err(Failed::For(if is_gone { Lapse::Expired } else { Lapse::Unreadable }));
        };
        self.counters.read_back.add(messages.len() as u64);
        let chunk = chunk(&messages, &source.prefix);
        let events: Vec<_> = (chunk.events())
            .filter_map(|(place, event)| Some((place, event.ok()?)))
            .filter(|(_, event)| (self.judge.0)(event))
            .collect();
        let mut unknown: Vec<_> = (events.iter())
            .map(|(_, event)| event.channel.to_owned())
            .filter(|channel| !chain.last.contains_key(channel))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        self.look_up(&past, unknown, from - 1, &mut chain).await?;
        let mut passage = Passage::new(from);
        for (place, event) in events {
            let last = chain.last.get_mut(event.channel).expect("it was looked up");
            let prev = std::mem::replace(last, place.seq);
            passage.push(&PastEvent { seq: place.seq, prev, ts_in: place.ts_in, event });
        }
        passage.to = last.seq;
        chain.next = last.seq + 1;
        self.chains.push_back(chain);
        if self.chains.len() > PASSAGE_CHAINS {
            self.chains.pop_front();
        }
        self.stream = Some(after);
        Ok(passage)
    }

    /// The stream, if it is the one whose numbers are known here.
    async fn find(&self) -> Result<Stream, Failed> {
        let found = self.connection.jetstream.get_stream(&self.source.stream).await;
        let stream = found.map_err(|error| NatsError::Refused {
            stream: self.source.stream.clone(),
            what: "its state",
            reason: error.to_string(),
        })?;
        if epoch(stream.cached_info(), &self.source.prefix) != self.epoch {
            return Err(Failed::For(Lapse::Unreadable));
        }
        Ok(stream)
    }

    /// A chain at `from`: what came right before it is read, because most channels are in that.
    async fn begin(&mut self, past: &Past<'_>, from: u64) -> Result<Chain, Failed> {
        let mut chain = Chain { next: from, ..Chain::default() };
        let before = from.saturating_sub(PASSAGE_EVENTS).max(1);
        if before < from {
            let mut messages = past.passage(before).await?;
            // Large messages: what is behind the end of the answer may be of any channel.
            if messages.last().is_none_or(|last| last.seq + 1 < from) {
                messages.clear();
            }
            messages.retain(|message| message.seq < from);
            let chunk = chunk(&messages, &self.source.prefix);
            for (place, event) in chunk.events() {
                if let Ok(event) = event
                    && (self.judge.0)(&event)
                {
                    chain.last.insert(event.channel.to_owned(), place.seq);
                }
            }
        }
        Ok(chain)
    }

    /// Finds out which event of each of these channels was the last one up to `seq`.
    async fn look_up(
        &mut self,
        past: &Past<'_>,
        channels: Vec<String>,
        seq: u64,
        chain: &mut Chain,
    ) -> Result<(), Failed> {
        if channels.is_empty() {
            return Ok(());
        }
        if seq > 0 && self.subjects.as_ref().is_none_or(|(up_to, _)| *up_to < seq) {
            let up_to = past.stream.cached_info().state.last_sequence;
            let listed = past.subjects().await?;
            self.subjects = Some((up_to.max(seq), by_channel(&listed, &self.source.prefix)));
        }
        let subjects: Vec<_> = (self.subjects.iter().filter(|_| seq > 0))
            .flat_map(|(_, known)| channels.iter().filter_map(|channel| known.get(channel)))
            .flatten()
            .cloned()
            .collect();
        chain.last.extend(channels.into_iter().map(|channel| (channel, 0)));
        // The newest of each channel that was taken, and that was there.
        let mut newest: HashMap<String, u64> = HashMap::new();
        for part in subjects.chunks(STREAM_SUBJECTS) {
            let messages = past.last(part, seq).await?;
            for message in &messages {
                if let Ok(address) = Address::parse(&message.subject, &self.source.prefix) {
                    let newest = newest.entry(address.channel.to_owned()).or_default();
                    *newest = message.seq.max(*newest);
                }
            }
            for (place, event) in chunk(&messages, &self.source.prefix).events() {
                if let Ok(event) = event
                    && (self.judge.0)(&event)
                    && let Some(last) = chain.last.get_mut(event.channel)
                {
                    *last = place.seq.max(*last);
                }
            }
        }
        // Which event was before one that was refused, nobody has kept.
        let is_known = |(channel, seq): (&String, &u64)| chain.last.get(channel) == Some(seq);
        if !newest.iter().all(is_known) {
            return Err(Failed::For(Lapse::Unreadable));
        }
        Ok(())
    }
}

fn chunk(messages: &[Kept], prefix: &str) -> Chunk {
    let mut chunk = Chunk::default();
    messages.iter().for_each(|message| message.add_to(&mut chunk, prefix));
    chunk
}
