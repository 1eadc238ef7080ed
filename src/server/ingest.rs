//! The ingest: what a server goes on from, and then its sources, as work for one executor.
//!
//! It has a thread of its own, except where its core is a shard's: there it is a guest of that
//! shard's executor, and an event costs no switch of threads. Not here: what a source does
//! ([`super::sources`]). Invariant: it ends only when the server stops, and with it the journal;
//! and no producer is let in before clients are.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender as Teller;

use crate::config::Settings;
use crate::handoff::batch::Batch;
use crate::handoff::ring::Sender;
use crate::shell::executor::{self, Guest};
use crate::shell::feed::Feed;
use crate::shell::life::Life;
use crate::shell::ticker::Ticks;
use crate::telemetry::Telemetry;

use super::journal::{self, Beginning};
use super::sources::{self, Ready};

/// What the ingest works with.
pub(super) struct Ingest {
    pub(super) beginning: Beginning,
    /// Where batches go in, for each shard.
    pub(super) rings: Vec<Sender<Arc<Batch>>>,
    pub(super) sources: Vec<Ready>,
    /// How many of them have not ended.
    pub(super) sources_left: Arc<AtomicUsize>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) life: Arc<Life>,
    pub(super) ticks: Ticks,
    /// Told up to which `seq` the rings have what there was.
    pub(super) said: Teller<io::Result<u64>>,
}

impl Ingest {
    /// The work, to be begun on the thread that does it.
    pub(super) fn into_work(self) -> Guest {
        Box::new(move || Box::pin(self.run()))
    }

    async fn run(mut self) {
        let Beginning { sequencer, journal, .. } = self.beginning;
        let feed = Feed::new(sequencer, self.rings, self.telemetry, Arc::clone(&self.life));
        let mut done = journal::restore(&feed, journal).await;
        for source in &mut self.sources {
            if let Some(seq) = sources::take_in(source, &feed).await {
                done = seq;
            }
        }
        let is_whole = done.is_ok();
        // Nobody waits for it if another part of the start has failed.
        let _ = self.said.send(done);
        while self.life.is_restoring() && !feed.is_stopping() {
            self.ticks.next().await;
        }
        for source in self.sources.into_iter().filter(|_| is_whole) {
            let (feed, sources_left) = (feed.clone(), Arc::clone(&self.sources_left));
            executor::spawn(async move {
                sources::run(source, feed).await;
                sources_left.fetch_sub(1, Ordering::Relaxed);
            });
        }
        while !feed.is_stopping() {
            self.ticks.next().await;
        }
        feed.settle().await;
        feed.close();
    }
}

/// The number of the shard that has the ingest for a guest: the one on whose core it would be, but
/// not where that shard spins, and so never looks up from its ring, or where a disk that stands
/// still would keep its clients waiting, too.
pub(super) fn host(settings: &Settings) -> Option<usize> {
    let cores_all = std::thread::available_parallelism().map_or(1, usize::from);
    let shard = match settings.ingest_core {
        Some(core) => settings.cores.iter().position(|&shards| shards == core),
        None => (cores_all == 1).then_some(0),
    };
    if shard.is_some() || settings.ingest_core.is_none() && settings.cores.len() >= cores_all {
        tracing::info!("the sources share a core with a shard; see --cores and --ingest-core");
    }
    shard.filter(|_| !settings.spin && settings.journal.is_none())
}
