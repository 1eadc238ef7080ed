//! What a server goes on from, a journal or a stream: opened at the start, taken in by the shards
//! before clients come.
//!
//! Not here: what is in them ([`crate::journal`], [`crate::nats`]). Invariant: a client is welcomed
//! by shards that have all of it, or not at all.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::error::StartError;
use crate::config::{Settings, SourceAddress};
use crate::fanout::sequencer::Sequencer;
use crate::journal::{self, Journal, Replay};
use crate::limits::RESTORE_LOOK_MS;
use crate::nats::{self, Room, Subscription};
use crate::shell::control::ControlError;
use crate::shell::executor::Thread;
use crate::shell::feed::Feed;
use crate::shell::life::Life;
use crate::sources::nats::judges;
use crate::telemetry::Telemetry;

/// Where the numbers of a server begin, and what there was before.
pub(super) struct Beginning {
    pub(super) epoch: String,
    /// Other servers have the same numbers.
    pub(super) is_shared: bool,
    pub(super) sequencer: Sequencer,
    /// What there is on disk, and where it goes on.
    pub(super) journal: Option<(Replay, Journal)>,
    /// The stream that gives the numbers, if one does.
    pub(super) stream: Option<Subscription>,
}

impl Beginning {
    /// Opens the journal, if there is to be one, or finds the stream.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn open(settings: &Settings) -> Result<Self, StartError> {
        let epoch = ulid::Ulid::generate().to_string();
        let (channels_max, keys_max) = (settings.channels_max, settings.keys_max);
        let fresh = || Sequencer::new(channels_max, keys_max);
        let stream = settings.sources.iter().find_map(|source| match &source.address {
            SourceAddress::Nats(stream) => Some(stream),
            _ => None,
        });
        if let Some(stream) = stream {
            let room = Room { bytes: settings.log_bytes, subjects: channels_max + 2 * keys_max };
            let judge = judges(settings.line_bytes_max);
            let stream = nats::subscribe(stream, room, settings.cores.len(), judge)?;
            let (epoch, stream) = (stream.epoch.clone(), Some(stream));
            return Ok(Self { epoch, is_shared: true, sequencer: fresh(), journal: None, stream });
        }
        let Some(journal) = &settings.journal else {
            return Ok(Self {
                epoch,
                is_shared: false,
                sequencer: fresh(),
                journal: None,
                stream: None,
            });
        };
        let opened = journal::open(journal, &epoch)?;
        tracing::info!(
            epoch = opened.epoch,
            seq = opened.tables.seq_last,
            "journal {}: going on from here",
            journal.folder.display()
        );
        let sequencer = Sequencer::restore(&opened.tables, channels_max, keys_max);
        let journal = Some((opened.replay, opened.journal));
        Ok(Self { epoch: opened.epoch, is_shared: false, sequencer, journal, stream: None })
    }

    /// What the numbers are of, and whether other servers have the same.
    pub(super) fn numbers(&self) -> (&str, bool) {
        (&self.epoch, self.is_shared)
    }

    /// The stage that a server is in that begins here: whoever has something to take in, or to take
    /// over, lets nobody in before that.
    pub(super) fn life(&self, settings: &Settings) -> Life {
        if self.journal.is_some() || self.stream.is_some() || settings.take_over.is_some() {
            Life::restoring()
        } else {
            Life::default()
        }
    }
}

/// Gives the shards what there is, and the feed the journal; on the ingest thread. Says up to which
/// `seq`.
pub(super) async fn restore(feed: &Feed, journal: Option<(Replay, Journal)>) -> io::Result<u64> {
    let Some((replay, journal)) = journal else { return Ok(0) };
    feed.restore(replay, journal).await.map_err(|error| {
        io::Error::other(format!("{error}; start again, and see dmesg if it is the disk"))
    })
}

/// Waits until every shard has all that the ingest thread has given it, as long as `look` finds
/// nothing wrong.
///
/// # Errors
/// The journal could not be read, or what `look` has found.
pub(super) fn wait(
    restored: &Receiver<io::Result<u64>>,
    shards: &[Thread<usize>],
    telemetry: &Arc<Telemetry>,
    look: impl Fn() -> Result<(), ControlError>,
) -> Result<(), StartError> {
    let period = Duration::from_millis(RESTORE_LOOK_MS);
    let seq = loop {
        match restored.recv_timeout(period) {
            Ok(seq) => break seq.map_err(StartError::Restore)?,
            // If the thread has failed, its end says so later.
            Err(RecvTimeoutError::Disconnected) => break 0,
            Err(RecvTimeoutError::Timeout) => look()?,
        }
    };
    for (shard, counters) in shards.iter().zip(&telemetry.shards) {
        while counters.head_seq.value() < seq && !shard.is_finished() {
            look()?;
            std::thread::sleep(period);
        }
    }
    Ok(())
}
