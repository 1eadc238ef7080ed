//! The only floor that names NATS and its runtime: streams that are read and written, and buckets.
//!
//! A thread of its own runs a small executor for the client; rings lead from and to the others. Not
//! here: what the ingest thread does with messages (`sources`). Invariant: nothing above this floor
//! waits for NATS without a bound, except for room.

pub mod bucket;
pub mod chunk;
mod connection;
mod error;
mod kept;
mod parcel;
mod passages;
mod past;
mod pipe;
mod publisher;
mod reader;
pub mod subject;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;

use async_nats::jetstream::stream::Stream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{Duration, sleep};

pub use connection::{Create, EPOCH};
pub use error::NatsError;
pub use parcel::Outlet;
#[cfg(test)]
pub(crate) use parcel::outlet;
pub use passages::{Desk, Judge};

use crate::config::{Forward, NatsSource};
use crate::handoff::ring::{Receiver, ring};
use crate::limits::{STREAM_CHUNKS, STREAM_HEAD_BYTES, STREAM_PARCELS, STREAM_RETRY_MS};
use crate::telemetry::{StreamCounters, Telemetry};
use chunk::Chunk;
use connection::{Connection, epoch, establish, find};
use passages::Passages;
use past::Past;
use pipe::Chunks;
use publisher::Publisher;
use reader::Reader;

/// How much of a stream a start takes in.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bytes of messages that are read whole, unless the source says how many messages.
    pub bytes: usize,
    /// Subjects at most.
    pub subjects: usize,
}

/// A stream that was found, and is not read yet.
#[derive(Debug)]
pub struct Subscription {
    /// What its numbers are of.
    pub epoch: String,
    begin: Option<oneshot::Sender<Arc<Telemetry>>>,
    /// What is read.
    pub chunks: Receiver<Chunk>,
    /// Where events go in that are to be published, if the source says so; taken once.
    pub outlet: Option<Outlet>,
    /// Where each shard asks for what is older than its log; taken once.
    pub desks: Vec<Desk>,
}

impl Subscription {
    /// Begins to read.
    pub fn begin(&mut self, telemetry: Arc<Telemetry>) {
        if let Some(begin) = self.begin.take() {
            // The thread has failed, and its ring is closed.
            let _ = begin.send(telemetry);
        }
    }
}

/// Finds the stream of `source`, on a thread of its own. What so many `shards` ask for is read
/// again, of events that `judge` takes.
///
/// # Errors
/// Why it cannot be used.
pub fn subscribe(
    source: &NatsSource,
    room: Room,
    shards: usize,
    judge: Judge,
) -> Result<Subscription, NatsError> {
    let (desks, hatches) = passages::desks(shards);
    let (sender, chunks) = ring(STREAM_CHUNKS);
    let (begin, begun) = oneshot::channel::<Arc<Telemetry>>();
    let (say, found) = channel();
    let (parcels_in, parcels) = ring(STREAM_PARCELS);
    let settled = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&settled);
    let (forward, source) = (source.forward, source.clone());
    start_thread(move || async move {
        let opened = establish(&source.servers, async |connection: &Connection| {
            find(connection, &source).await
        });
        let (connection, info) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return drop(say.send(Err(error))),
        };
        let epoch = epoch(&info, &source.prefix);
        if say.send(Ok((epoch.clone(), bytes_max(&connection)))).is_err() {
            return;
        }
        let Ok(telemetry) = begun.await else { return };
        let counters = &telemetry.stream;
        let publish = async {
            if let Some(forward) = source.forward {
                let name = ulid::Ulid::generate().to_string();
                let to = Publisher::new(&connection, &source, forward, counters, name, counted);
                to.run(parcels).await;
            }
        };
        let read = read(&source, room, connection.clone(), &epoch, counters, Chunks(sender));
        let of = (&source, &*epoch);
        let passages =
            Passages::new(&connection, of, counters, room.subjects, (judge, hatches)).run();
        tokio::join!(read, publish, passages);
    })?;
    let (epoch, bytes_max) = found.recv().map_err(|_| NatsError::Gone)??;
    let outlet = forward.map(|_| Outlet::new(parcels_in, bytes_max, settled));
    Ok(Subscription { epoch, begin: Some(begin), chunks, outlet, desks })
}

/// How a command publishes.
#[derive(Debug)]
pub struct Publishing {
    /// With acknowledgements or without.
    pub forward: Forward,
    /// What the events' identities begin with.
    pub name: String,
    /// How the stream is made if there is none.
    pub create: Option<Create>,
}

/// What there was published, while it is and afterwards.
#[derive(Debug)]
pub struct Published {
    /// Where events go in.
    pub outlet: Outlet,
    /// The thread's counters, of which those of the stream are in use.
    pub telemetry: Arc<Telemetry>,
    /// Says nothing, and closes when everything is settled after the outlet was dropped.
    pub end: std::sync::mpsc::Receiver<()>,
}

/// Begins to publish to the stream of `source`, on a thread of its own.
///
/// # Errors
/// Why it cannot be used or made.
pub fn publish(source: &NatsSource, publishing: Publishing) -> Result<Published, NatsError> {
    let (parcels_in, parcels) = ring(STREAM_PARCELS);
    let (say, found) = channel();
    let (ends, end) = channel();
    let (settled, telemetry) = (Arc::<AtomicU64>::default(), Arc::new(Telemetry::new(0)));
    let (counted, counters) = (Arc::clone(&settled), Arc::clone(&telemetry));
    let source = source.clone();
    start_thread(move || async move {
        let _ends = ends;
        let opened = establish(&source.servers, async |connection: &Connection| {
            if let Some(create) = &publishing.create {
                connection::create(connection, &source, create).await?;
            }
            find(connection, &source).await
        });
        let connection = match opened.await {
            Ok((connection, _)) => connection,
            Err(error) => return drop(say.send(Err(error))),
        };
        if say.send(Ok(bytes_max(&connection))).is_err() {
            return;
        }
        let Publishing { forward, name, .. } = publishing;
        let to = Publisher::new(&connection, &source, forward, &counters.stream, name, counted);
        to.run(parcels).await;
    })?;
    let bytes_max = found.recv().map_err(|_| NatsError::Gone)??;
    Ok(Published { outlet: Outlet::new(parcels_in, bytes_max, settled), telemetry, end })
}

/// Bytes of one event's data that the servers take.
fn bytes_max(connection: &Connection) -> usize {
    connection.client.server_info().max_payload.saturating_sub(STREAM_HEAD_BYTES)
}

/// Runs `task` on a thread with an executor of its own.
fn start_thread<F>(task: impl FnOnce() -> F + Send + 'static) -> Result<(), NatsError>
where
    F: Future<Output = ()>,
{
    let runtime = Builder::new_current_thread().enable_all().build().map_err(NatsError::Thread)?;
    let thread = std::thread::Builder::new().name("nats".into());
    thread.spawn(move || runtime.block_on(task())).map(drop).map_err(NatsError::Thread)
}

/// Reads the state as of a place near the end of the stream, and the stream from there on.
async fn read(
    source: &NatsSource,
    room: Room,
    connection: Connection,
    epoch: &str,
    counters: &StreamCounters,
    mut chunks: Chunks,
) {
    counters.is_up.set(1);
    let (stream, first, next, last) = loop {
        match take_in(source, room, &connection, &mut chunks).await {
            Ok(Some(begun)) => break begun,
            Ok(None) => return,
            // It will be too many the next time as well.
            Err(error @ NatsError::TooManySubjects { .. }) => {
                chunks.send(Chunk::end(error.to_string())).await;
                return;
            }
            Err(error) => {
                tracing::warn!("{error}; trying again");
                sleep(Duration::from_millis(STREAM_RETRY_MS)).await;
            }
        }
    };
    counters.first_seq.set(first);
    counters.last_seq.set(last);
    let reader = Reader {
        connection,
        stream,
        source,
        epoch,
        counters,
        chunks,
        next,
        target: Some(last),
        looks_short: 0,
        next_at_look: 0,
        looks_silent: 0,
    };
    reader.run().await;
}

/// Hands over the state before what is read whole. The stream, its first `seq`, the first that is
/// read whole, and its last; nothing when nobody wants more.
async fn take_in(
    source: &NatsSource,
    room: Room,
    connection: &Connection,
    chunks: &mut Chunks,
) -> Result<Option<(Stream, u64, u64, u64)>, NatsError> {
    let refused = |reason: String| NatsError::Refused {
        stream: source.stream.clone(),
        what: "its state",
        reason,
    };
    let stream = connection.jetstream.get_stream(&source.stream).await;
    let stream = stream.map_err(|error| refused(error.to_string()))?;
    let state = &stream.cached_info().state;
    let (first, last) = (state.first_sequence.max(1), state.last_sequence);
    let mean = (state.bytes / state.messages.max(1)).max(1);
    let window = source.window.unwrap_or(room.bytes as u64 / mean);
    let next = (last + 1).saturating_sub(window).max(first);
    let begin = if next > first {
        Past::new(connection, &stream, source, room.subjects).read(next - 1).await?
    } else {
        // What was there once and is not: a place before it is one that cannot be gone on from.
        let lost = (first > 1).then_some((1, first - 1));
        vec![Chunk { lost, ..Chunk::default() }]
    };
    for chunk in begin.into_iter().filter(|chunk| !chunk.is_empty()) {
        if !chunks.send(chunk).await {
            return Ok(None);
        }
    }
    Ok(Some((stream, first, next, last)))
}
