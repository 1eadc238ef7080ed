//! `nats://…`: events of a JetStream stream, with the stream's own numbers and times.
//!
//! Before clients come, the state of the feed is taken in; after that, what comes. Not here: how
//! the stream is read ([`crate::nats`]). Invariant: the numbers and frames are those that every
//! other node with the same stream has.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use crate::fanout::sequencer::Sequencer;
use crate::limits::STREAM_RETRY_MS;
use crate::nats::chunk::Chunk;
use crate::nats::subject::Flaw;
use crate::nats::{Judge, Subscription};
use crate::protocol::event::Event;
use crate::shell::executor;
use crate::shell::feed::Feed;
use crate::shell::turns;
use crate::sources::error::{LineError, bounded};
use crate::sources::intake::Refusal;
use crate::sources::producers::SourceSettings;
use crate::sources::report::Report;
use crate::sources::span::Scanner;

/// Takes in what there was when the start began, and says up to which `seq`.
///
/// # Errors
/// The stream has become another one meanwhile, or its thread has failed.
pub async fn take_in(
    subscription: &mut Subscription,
    feed: &Feed,
    settings: &SourceSettings,
) -> io::Result<u64> {
    if let Some(outlet) = subscription.outlet.take() {
        feed.forward_to(outlet);
    }
    subscription.begin(feed.telemetry());
    let mut taker = Taker::new(feed, settings);
    while let Some(chunk) = poll_fn(|context| subscription.chunks.poll_receive(context)).await {
        if let Some(why) = &chunk.ended {
            return Err(io::Error::other(why.clone()));
        }
        taker.take(&chunk).await;
        if chunk.is_caught_up || feed.is_stopping() {
            tracing::info!("stream taken in up to {}", feed.seq_last());
            return Ok(feed.seq_last());
        }
    }
    Err(io::Error::other("the nats thread has failed"))
}

/// Passes on what comes, until the server stops or the stream is another one.
pub async fn run(mut subscription: Subscription, feed: Feed, settings: SourceSettings) {
    let mut taker = Taker::new(&feed, &settings);
    executor::spawn(show(feed.clone(), settings.number));
    while let Some(chunk) = poll_fn(|context| subscription.chunks.poll_receive(context)).await {
        if feed.is_stopping() {
            return;
        }
        if let Some(why) = &chunk.ended {
            tracing::error!("{why}; what is served here is not what other nodes have");
            feed.fail(format!("source nats: {why}; started again, it begins with what is there"));
            return;
        }
        taker.take(&chunk).await;
    }
}

/// Shows whether the stream can be read, also while nothing comes.
async fn show(feed: Feed, number: usize) {
    while let Some(source) = feed.source(number).filter(|_| !feed.is_stopping()) {
        source.is_up.set(feed.telemetry().stream.is_up.value());
        executor::sleep(Duration::from_millis(STREAM_RETRY_MS)).await;
    }
}

/// What one source does with its chunks.
struct Taker<'a> {
    feed: &'a Feed,
    settings: &'a SourceSettings,
    scanner: Scanner,
    report: Report,
}

impl<'a> Taker<'a> {
    fn new(feed: &'a Feed, settings: &'a SourceSettings) -> Self {
        Self { feed, settings, scanner: Scanner::default(), report: Report::new("nats") }
    }

    async fn take(&mut self, chunk: &Chunk) {
        let feed = self.feed;
        feed.counters().bytes.add(chunk.bytes() as u64);
        if let Some(range) = chunk.lost {
            feed.mark(|sequencer| sequencer.handle_loss(range));
        }
        for (channel, key) in &chunk.books_broken {
            // Without room its events are refused as well.
            let _ = feed.mark(|sequencer| sequencer.handle_broken_book(channel, key.as_deref()));
        }
        for (place, event) in chunk.events() {
            if feed.is_batch_full() {
                turns::give_way().await;
                self.pass_on(chunk.is_sparse).await;
            }
            let judged = event.map_err(Refusal::from).and_then(|event| {
                self.judge(&event)?;
                feed.place(&event, place).map_err(|refused| Refusal {
                    code: refused.code(),
                    message: format!("{refused}: {}", bounded(event.channel)),
                })
            });
            let source = feed.source(self.settings.number);
            match judged {
                Ok(()) => {
                    if let Some(source) = source {
                        source.events.add(1);
                        source.event_ns.set(place.ts_in);
                    }
                }
                Err(refusal) => {
                    feed.counters().lines_bad.add(1);
                    if let Some(source) = source {
                        source.lines_bad.add(1);
                    }
                    self.report.refused(place.seq, &refusal);
                }
            }
        }
        self.pass_on(chunk.is_sparse).await;
        turns::give_way().await;
    }

    async fn pass_on(&self, is_sparse: bool) {
        if is_sparse {
            self.feed.mark(Sequencer::mark_sparse);
        }
        self.feed.pass_on().await;
    }

    fn judge(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        judge(&mut self.scanner, event, self.settings.line_bytes_max)
    }
}

/// Whether the body is what an event of a producer's line may have as `data`; `limit` is what such
/// a line may be long. It takes whatever a producer's line was taken with.
fn judge(scanner: &mut Scanner, event: &Event<'_>, limit: usize) -> Result<(), Refusal> {
    if event.data.len() >= limit {
        return Err(LineError::TooLong { limit }.into());
    }
    scanner.scan(event.data)?;
    // Recordings have one event a line.
    if memchr::memchr(b'\n', event.data).is_some() {
        return Err(LineError::Newline.into());
    }
    Ok(())
}

/// What says of a message that is read again whether it was taken when it was live.
#[must_use]
pub fn judges(line_bytes_max: usize) -> Judge {
    let mut scanner = Scanner::default();
    Judge::new(move |event| judge(&mut scanner, event, line_bytes_max).is_ok())
}

impl From<&Flaw> for Refusal {
    fn from(flaw: &Flaw) -> Self {
        Self { code: "message", message: bounded(&flaw.to_string()) }
    }
}
