//! Events on their way to the NATS thread, which publishes them.
//!
//! Not here: what becomes of them there ([`super::publisher`]). Invariant: a full ring makes who
//! offers events wait, so what is not published yet is bounded.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use crate::handoff::ring::Sender;
use crate::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};
use crate::protocol::event::{Event, Kind};

/// Events that travel together.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub(super) events: Vec<Packed>,
    pub(super) bytes: Vec<u8>,
}

/// One event; its texts are in the parcel.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) channel: Range<usize>,
    pub(super) key: Option<Range<usize>>,
    pub(super) kind: Kind,
    pub(super) ts: Option<u64>,
    pub(super) data: Range<usize>,
}

/// Where events go in that are to be published.
#[derive(Debug)]
pub struct Outlet {
    parcel: Parcel,
    sender: Sender<Parcel>,
    /// Bytes of one event's data at most.
    bytes_max: usize,
    offered: u64,
    settled: Arc<AtomicU64>,
}

impl Outlet {
    pub(super) fn new(sender: Sender<Parcel>, bytes_max: usize, settled: Arc<AtomicU64>) -> Self {
        Self { parcel: Parcel::default(), sender, bytes_max, offered: 0, settled }
    }

    /// Adds an event; false when it is too large for the servers.
    pub fn offer(&mut self, event: &Event<'_>) -> bool {
        if event.data.len() > self.bytes_max {
            return false;
        }
        let Parcel { events, bytes } = &mut self.parcel;
        let mut keep = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            start..bytes.len()
        };
        events.push(Packed {
            channel: keep(event.channel.as_bytes()),
            key: event.key.map(|key| keep(key.as_bytes())),
            kind: event.kind,
            ts: event.ts,
            data: keep(event.data),
        });
        self.offered += 1;
        true
    }

    /// Bytes of one event's data at most.
    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// True when what was offered should be handed over before another event.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.parcel.events.len() >= BATCH_EVENTS_MAX || self.parcel.bytes.len() >= BATCH_BYTES_MAX
    }

    /// Hands over what was offered. Ready when that is done, or when the thread is gone.
    pub fn poll_flush(&mut self, context: &Context<'_>) -> Poll<()> {
        while !self.parcel.events.is_empty() {
            let parcel = std::mem::take(&mut self.parcel);
            match self.sender.send(parcel) {
                Ok(()) => {}
                Err(_) if self.sender.is_closed() => {}
                Err(back) => {
                    self.parcel = back;
                    if self.sender.poll_room(context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(())
    }

    /// Events that were offered and of which nothing is known yet.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.offered - self.settled.load(Ordering::Acquire)
    }
}

/// An outlet with room for `parcels` until they are taken, and what takes one: how many events it
/// has.
#[cfg(test)]
pub(crate) fn outlet(parcels: usize) -> (Outlet, impl FnMut() -> Option<usize> + Send) {
    let (sender, mut receiver) = crate::handoff::ring::ring(parcels);
    let outlet = Outlet::new(sender, usize::MAX, Arc::default());
    (outlet, move || receiver.receive().map(|parcel: Parcel| parcel.events.len()))
}
