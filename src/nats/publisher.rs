//! Publishes events to a stream, on the NATS thread.
//!
//! Each event has an identity of its own, by which the stream takes it once however often it is
//! sent. One event of each channel is on its way at a time, and is sent again until the stream has
//! acknowledged it: so a channel keeps its order whatever fails, and channels do not wait for each
//! other. Without acknowledgements events are sent as they come. Not here: where they come from
//! ([`super::parcel`]). Invariant: an event is settled when the stream has it, or has refused it
//! for good, and is then counted once.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{Context, ContextBuilder, PublishErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::connection::Connection;
use super::parcel::Parcel;
use super::subject;
use crate::config::{Forward, NatsSource};
use crate::handoff::ring::Receiver;
use crate::limits::{STREAM_ACK_MS, STREAM_PENDING_MAX, STREAM_RETRY_MS};
use crate::telemetry::StreamCounters;

/// Publishes what comes through a ring.
#[derive(Debug)]
pub(super) struct Publisher<'a> {
    connection: &'a Connection,
    /// What subjects begin with.
    prefix: &'a str,
    forward: Forward,
    counters: &'a StreamCounters,
    /// What identities begin with.
    name: String,
    settled: Arc<AtomicU64>,
    /// Events taken so far.
    taken: u64,
    /// Channels of which an event is on its way, and what waits behind it.
    waiting: HashMap<Box<str>, VecDeque<Outgoing>>,
    /// Events that wait or are on their way.
    pending: usize,
}

/// An event as the stream gets it.
#[derive(Debug)]
struct Outgoing {
    channel: Box<str>,
    subject: String,
    headers: HeaderMap,
    data: Bytes,
    /// Times that it was sent.
    attempts: u32,
}

/// What became of one that was sent.
enum Sent {
    /// The stream has it.
    Taken { is_again: bool },
    /// The stream will never have it.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

impl<'a> Publisher<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        source: &'a NatsSource,
        forward: Forward,
        counters: &'a StreamCounters,
        name: String,
        settled: Arc<AtomicU64>,
    ) -> Self {
        let (taken, waiting, pending) = (0, HashMap::new(), 0);
        let prefix = &source.prefix;
        Self { connection, prefix, forward, counters, name, settled, taken, waiting, pending }
    }

    /// Publishes until nobody can offer any more, and everything is settled.
    pub(super) async fn run(mut self, mut parcels: Receiver<Parcel>) {
        let jetstream = ContextBuilder::new()
            .timeout(Duration::from_millis(STREAM_ACK_MS))
            .build(self.connection.client.clone());
        let mut under_way = FuturesUnordered::new();
        let mut is_open = true;
        while is_open || !under_way.is_empty() {
            tokio::select! {
                parcel = poll_fn(|context| parcels.poll_receive(context)),
                    if is_open && self.pending < STREAM_PENDING_MAX =>
                {
                    let Some(parcel) = parcel else {
                        is_open = false;
                        continue;
                    };
                    if self.forward == Forward::Fast {
                        self.send_on(parcel).await;
                        continue;
                    }
                    for outgoing in self.unpack(parcel) {
                        if let Some(first) = self.line_up(outgoing) {
                            under_way.push(send(&jetstream, first));
                        }
                    }
                }
                Some((outgoing, sent)) = under_way.next() => {
                    if let Some(next) = self.settle(outgoing, sent) {
                        under_way.push(send(&jetstream, next));
                    }
                }
            }
        }
        // What was sent without acknowledgement is in the client's buffer, perhaps.
        let _ = self.connection.client.flush().await;
    }

    /// Sends without waiting for anything but the client's buffer.
    async fn send_on(&mut self, parcel: Parcel) {
        for Outgoing { subject, headers, data, .. } in self.unpack(parcel) {
            let sent = self.connection.client.publish_with_headers(subject, headers, data).await;
            match sent {
                Ok(()) => self.counters.unacknowledged.add(1),
                Err(error) => {
                    self.counters.refused.add(1);
                    tracing::error!("an event was not published: {error}");
                }
            }
            self.settled.fetch_add(1, Ordering::Release);
        }
    }

    fn unpack(&mut self, parcel: Parcel) -> Vec<Outgoing> {
        let bytes = Bytes::from(parcel.bytes);
        let text = |range: &std::ops::Range<usize>| {
            std::str::from_utf8(&bytes[range.clone()]).expect("it was text when it was packed")
        };
        let outgoing = parcel.events.iter().map(|packed| {
            self.taken += 1;
            let channel = text(&packed.channel);
            let mut subject = String::new();
            let key = packed.key.as_ref().map(text);
            subject::write(&mut subject, self.prefix, channel, key, packed.kind);
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, format!("{}-{}", self.name, self.taken));
            if let Some(ts) = packed.ts {
                headers.insert("ts", ts.to_string());
            }
            let data = bytes.slice(packed.data.clone());
            Outgoing { channel: channel.into(), subject, headers, data, attempts: 0 }
        });
        outgoing.collect()
    }

    /// Puts an event behind those of its channel; gives it back when there are none.
    fn line_up(&mut self, outgoing: Outgoing) -> Option<Outgoing> {
        self.pending += 1;
        self.counters.unsettled.set(self.pending as u64);
        match self.waiting.get_mut(&outgoing.channel) {
            Some(line) => {
                line.push_back(outgoing);
                None
            }
            None => {
                self.waiting.insert(outgoing.channel.clone(), VecDeque::new());
                Some(outgoing)
            }
        }
    }

    /// Takes note of what became of an event, and gives what is to be sent next on its channel.
    fn settle(&mut self, mut outgoing: Outgoing, sent: Sent) -> Option<Outgoing> {
        match sent {
            Sent::Taken { is_again } => {
                self.counters.acknowledged.add(1);
                self.counters.duplicates.add(u64::from(is_again));
            }
            Sent::Refused(why) => {
                self.counters.refused.add(1);
                tracing::error!("the stream refused an event of {}: {why}", outgoing.channel);
            }
            Sent::Unknown(why) => {
                self.counters.retries.add(1);
                outgoing.attempts += 1;
                if outgoing.attempts.is_power_of_two() {
                    let Outgoing { channel, attempts, .. } = &outgoing;
                    tracing::warn!(attempts, "no acknowledgement on {channel}: {why}; sent again");
                }
                return Some(outgoing);
            }
        }
        self.pending -= 1;
        self.counters.unsettled.set(self.pending as u64);
        self.settled.fetch_add(1, Ordering::Release);
        let line = self.waiting.get_mut(&outgoing.channel).expect("it is there while one is sent");
        let next = line.pop_front();
        if next.is_none() {
            self.waiting.remove(&outgoing.channel);
        }
        next
    }
}

/// Sends an event, and waits for the acknowledgement (bounded).
async fn send(jetstream: &Context, outgoing: Outgoing) -> (Outgoing, Sent) {
    if outgoing.attempts > 0 {
        sleep(Duration::from_millis(STREAM_RETRY_MS)).await;
    }
    let Outgoing { subject, headers, data, .. } = &outgoing;
    let sent = async {
        let subject = subject.clone();
        jetstream.publish_with_headers(subject, headers.clone(), data.clone()).await?.await
    };
    let sent = match sent.await {
        Ok(acknowledgement) => Sent::Taken { is_again: acknowledgement.duplicate },
        Err(error) => match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Sent::Refused(error.to_string()),
            _ if is_final(&error) => Sent::Refused(error.to_string()),
            _ => Sent::Unknown(error.to_string()),
        },
    };
    (outgoing, sent)
}

/// Whether the stream answers the same whenever it is asked.
fn is_final(error: &(dyn std::error::Error + 'static)) -> bool {
    let words = std::iter::successors(error.source(), |error| error.source());
    words
        .filter_map(|error| error.downcast_ref::<async_nats::jetstream::Error>())
        .any(|error| error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM)
}
