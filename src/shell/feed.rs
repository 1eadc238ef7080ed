//! The ingest side of the handoff: sources offer events, every shard's ring gets every batch.
//!
//! One per server, on the ingest executor; all sources share it. A full ring makes
//! [`Feed::publish`] wait, and with it the source that called. Invariant: batches enter each ring
//! in `seq` order, because one publisher at a time holds the turn; and the journal, if there is
//! one, has a batch before any ring does.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use glommio::sync::Semaphore;

use crate::fanout::Now;
use crate::fanout::sequencer::{Place, Refused, Sequencer};
use crate::handoff::batch::Batch;
use crate::handoff::ring::Sender;
use crate::journal::{Journal, Replay};
use crate::limits::{RESTORE_LOOK_MS, STREAM_END_MS};
use crate::nats::Outlet;
use crate::protocol::event::Event;
use crate::telemetry::{IngestCounters, SourceCounters, Telemetry};

use super::clock;
use super::executor;
use super::life::Life;

#[derive(Debug)]
struct Shared {
    sequencer: RefCell<Sequencer>,
    rings: RefCell<Vec<Sender<Arc<Batch>>>>,
    turn: Semaphore,
    journal: RefCell<Option<Journal>>,
    /// Where what sources offer goes instead, to come back with its place in a stream.
    outlet: RefCell<Option<Outlet>>,
    /// One source at a time waits for room there; not [`Self::turn`], which what comes back takes.
    outlet_turn: Semaphore,
    /// Nothing gets a place any more.
    is_over: Cell<bool>,
    telemetry: Arc<Telemetry>,
    life: Arc<Life>,
}

/// A source's handle.
#[derive(Debug, Clone)]
pub struct Feed(Rc<Shared>);

impl Feed {
    /// The feed of a server; the end of its `life` ends the sources.
    #[must_use]
    pub fn new(
        sequencer: Sequencer,
        rings: Vec<Sender<Arc<Batch>>>,
        telemetry: Arc<Telemetry>,
        life: Arc<Life>,
    ) -> Self {
        Self(Rc::new(Shared {
            sequencer: RefCell::new(sequencer),
            rings: RefCell::new(rings),
            turn: Semaphore::new(1),
            journal: RefCell::new(None),
            outlet: RefCell::new(None),
            outlet_turn: Semaphore::new(1),
            is_over: Cell::new(false),
            telemetry,
            life,
        }))
    }

    /// The time, read once for each chunk of input.
    #[must_use]
    pub fn now(&self) -> Now {
        clock::now()
    }

    /// Gives an event its place in the total order; [`Self::publish`] sends it out.
    ///
    /// # Errors
    /// When the event needs a new channel or key and there is no room, or is too large for the
    /// stream that it is to go to.
    pub fn offer(&self, event: &Event<'_>, ts_in: u64) -> Result<(), Refused> {
        if let Some(outlet) = &mut *self.0.outlet.borrow_mut() {
            // It is refused here or by every node that reads it back.
            self.0.sequencer.borrow().check(event)?;
            return match outlet.offer(event) {
                true => Ok(()),
                false => Err(Refused::TooLarge(outlet.bytes_max())),
            };
        }
        let mut sequencer = self.0.sequencer.borrow_mut();
        sequencer.handle_event(event, ts_in)?;
        self.count(&sequencer);
        Ok(())
    }

    /// Takes an event that has its place already; the only source does that.
    ///
    /// # Errors
    /// As for [`Self::offer`].
    pub fn place(&self, event: &Event<'_>, place: Place) -> Result<(), Refused> {
        let mut sequencer = self.0.sequencer.borrow_mut();
        sequencer.handle_placed(event, place)?;
        self.count(&sequencer);
        Ok(())
    }

    fn count(&self, sequencer: &Sequencer) {
        let counters = self.counters();
        counters.events.add(1);
        counters.head_seq.set(sequencer.seq_last());
        counters.channels.set(sequencer.channel_count() as u64);
    }

    /// Changes the batch under construction otherwise than by an event.
    pub fn mark<T>(&self, change: impl FnOnce(&mut Sequencer) -> T) -> T {
        let mut sequencer = self.0.sequencer.borrow_mut();
        let value = change(&mut sequencer);
        self.counters().head_seq.set(sequencer.seq_last());
        value
    }

    /// The last `seq` that was given or noted as lost.
    #[must_use]
    pub fn seq_last(&self) -> u64 {
        self.0.sequencer.borrow().seq_last()
    }

    /// Waits until the batch has room for an event; call [`Self::offer`] at once, because other
    /// sources fill the same batch.
    pub async fn room(&self) {
        while self.is_full() {
            self.publish().await;
        }
    }

    /// True when the batch is to be published before another event.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match &*self.0.outlet.borrow() {
            Some(outlet) => outlet.is_full(),
            None => self.is_batch_full(),
        }
    }

    /// True when what was placed is to be passed on before another event.
    #[must_use]
    pub fn is_batch_full(&self) -> bool {
        self.0.sequencer.borrow().is_batch_full()
    }

    /// Puts all that was offered into every ring, and waits where one is full.
    pub async fn publish(&self) {
        if self.0.outlet.borrow().is_none() {
            return self.pass_on().await;
        }
        let Ok(_turn) = self.0.outlet_turn.acquire_permit(1).await else { return };
        poll_fn(|context| match &mut *self.0.outlet.borrow_mut() {
            Some(outlet) => outlet.poll_flush(context),
            None => Poll::Ready(()),
        })
        .await;
    }

    /// What is offered from now on goes into a stream.
    pub fn forward_to(&self, outlet: Outlet) {
        *self.0.outlet.borrow_mut() = Some(outlet);
    }

    /// Waits until what was offered is in the stream (bounded), if it goes into one.
    pub async fn settle(&self) {
        if self.0.outlet.borrow().is_none() {
            return;
        }
        let unsettled = || self.0.outlet.borrow().as_ref().map_or(0, Outlet::unsettled);
        let settled = async {
            self.publish().await;
            while unsettled() > 0 {
                executor::sleep(Duration::from_millis(RESTORE_LOOK_MS)).await;
            }
        };
        if executor::within(Duration::from_millis(STREAM_END_MS), settled).await.is_none() {
            tracing::error!("{} accepted events may not be in the stream", unsettled());
        }
    }

    /// Puts all that was placed into every ring, and waits where one is full; without an end after
    /// [`Self::close`].
    pub async fn pass_on(&self) {
        let Ok(_turn) = self.0.turn.acquire_permit(1).await else { return };
        if self.0.is_over.get() && self.0.sequencer.borrow().has_batch() {
            // It stays there, so that no producer is told that it was taken.
            return pending().await;
        }
        let Some(batch) = self.0.sequencer.borrow_mut().next_batch() else { return };
        self.note(&batch);
        self.send(&batch, true).await;
    }

    /// Puts what a journal holds into every ring, says up to which `seq`, and goes on with that
    /// journal. Before any source runs.
    ///
    /// # Errors
    /// A file cannot be read any more: what is in the rings is not whole.
    pub async fn restore(&self, replay: Replay, mut journal: Journal) -> io::Result<u64> {
        let mut seq = 0;
        for batch in replay {
            let batch = Arc::new(batch?);
            seq = batch.events.last().map_or(seq, |event| event.seq);
            self.send(&batch, false).await;
            executor::yield_if_needed().await;
        }
        let (channels, seq_last) = {
            let sequencer = self.0.sequencer.borrow();
            (sequencer.channel_count() as u64, sequencer.seq_last())
        };
        let counters = self.counters();
        counters.channels.set(channels);
        counters.head_seq.set(seq_last);
        counters.journal_seq.set(seq_last);
        journal.start_worker(|| clock::now().monotonic_ns);
        *self.0.journal.borrow_mut() = Some(journal);
        Ok(seq)
    }

    /// Closes the journal, if there is one. Nothing is published from now on: its place could be
    /// given to another event by the next start.
    pub fn close(&self) {
        self.0.is_over.set(true);
        if let Some(journal) = self.0.journal.borrow_mut().take() {
            journal.close();
        }
    }

    /// Writes a batch to the journal, if there is one.
    fn note(&self, batch: &Batch) {
        let mut journal = self.0.journal.borrow_mut();
        let Some(journal) = &mut *journal else { return };
        let begun_ns = self.now().monotonic_ns;
        let bytes = journal.append(batch, begun_ns);
        let counters = self.counters();
        counters.journal_append_ns.record(self.now().monotonic_ns - begun_ns);
        counters.journal_bytes.add(bytes);
        if let Some(event) = batch.events.last().filter(|_| bytes > 0) {
            counters.journal_seq.set(event.seq);
        }
        counters.journal_is_degraded.set(u64::from(journal.is_suspended()));
    }

    /// Puts a batch into every ring, and waits where one is full; whether that
    /// keeps a source waiting, and counts.
    async fn send(&self, batch: &Arc<Batch>, has_source: bool) {
        let count = self.0.rings.borrow().len();
        for number in 0..count {
            while !self.put(number, batch) {
                if has_source {
                    self.counters().pauses.add(1);
                }
                poll_fn(|context| self.0.rings.borrow_mut()[number].poll_room(context)).await;
            }
        }
    }

    /// All counters of the server.
    #[must_use]
    pub fn telemetry(&self) -> Arc<Telemetry> {
        Arc::clone(&self.0.telemetry)
    }

    /// Ends the server, because what it serves is not right any more.
    pub fn fail(&self, why: String) {
        self.0.life.fail(why);
    }

    /// The ingest thread's counters.
    #[must_use]
    pub fn counters(&self) -> &IngestCounters {
        &self.0.telemetry.ingest
    }

    /// The counters of source `number`, if there is one.
    #[must_use]
    pub fn source(&self, number: usize) -> Option<&SourceCounters> {
        self.0.telemetry.sources.get(number)
    }

    /// Clients that have subscribed to something, a tick ago.
    #[must_use]
    pub fn subscribed(&self) -> u64 {
        self.0.telemetry.shards.iter().map(|shard| shard.subscribed.value()).sum()
    }

    /// True once the server stops; sources then end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.life.is_stopping()
    }

    /// True when the batch is in the ring, or when the shard is gone.
    fn put(&self, number: usize, batch: &Arc<Batch>) -> bool {
        let ring = &mut self.0.rings.borrow_mut()[number];
        ring.send(Arc::clone(batch)).is_ok() || ring.is_closed()
    }
}

#[cfg(test)]
mod tests;
