//! The journal: what was published, on disk, so that a restart goes on where the process ended.
//!
//! Each batch is a record of the newest segment before any shard sees it; segments that are older
//! than the journal is large are merged into a checkpoint; a start reads both. Pure format and
//! files of the standard library; the time is an argument. Not here: what a shard does with what is
//! read again (`fanout`). Invariant: under one epoch no `seq` is given out twice, whatever the
//! process, the host or the disk does.

pub mod checkpoint;
pub mod error;
pub mod folder;
pub mod record;
pub mod recovery;
pub mod segment;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod worker;
pub mod writer;

use std::fs;

use crate::config::JournalSettings;

pub use error::JournalError;
use folder::{Epoch, Folder};
pub use recovery::Replay;
use recovery::{Recovered, recover};
pub use tables::Tables;
pub use writer::Journal;

/// A journal that was opened.
#[derive(Debug)]
pub struct Opened {
    /// What is written from now on.
    pub journal: Journal,
    /// The epoch that the numbers belong to.
    pub epoch: String,
    /// The numbers that were given out.
    pub tables: Tables,
    /// What there is; to be read before anything is written.
    pub replay: Replay,
}

/// Opens the journal; `epoch_new` is for when the epoch that it has cannot go on.
///
/// # Errors
/// It cannot be used, with the cure.
pub fn open(settings: &JournalSettings, epoch_new: &str) -> Result<Opened, JournalError> {
    // A host that does not say counts as started anew.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    open_in_boot(settings, boot.trim(), epoch_new)
}

/// The same in the given boot of the host.
fn open_in_boot(
    settings: &JournalSettings,
    boot: &str,
    epoch_new: &str,
) -> Result<Opened, JournalError> {
    let folder = Folder::lock(&settings.folder)?;
    let failed = |error| JournalError::at(&settings.folder)(error);
    let noted = folder.epoch().map_err(failed)?;
    let recovered = recover(&folder)?;
    // What was closed in order stays so until something is written: a start may fail.
    let (name, is_closed) = match why_anew(noted.as_ref(), boot, &recovered) {
        None => {
            let noted = noted.expect("it may go on, so it is there");
            (noted.name, noted.is_closed)
        }
        Some(why) => {
            if recovered.tables.seq_last > 0 {
                tracing::warn!(
                    "journal {}: a new epoch, {epoch_new}, because {why}; clients begin anew",
                    settings.folder.display()
                );
            }
            (epoch_new.to_owned(), false)
        }
    };
    let Recovered { tables, replay, .. } = recovered;
    let epoch = Epoch { name: name.clone(), boot: boot.to_owned(), is_closed };
    if !is_closed {
        folder.write_epoch(&epoch).map_err(failed)?;
    }
    let writer = Journal::new(folder, epoch, settings.clone(), tables.clone());
    Ok(Opened { journal: writer.map_err(failed)?, epoch: name, tables, replay })
}

/// Why the epoch cannot go on, if it cannot.
fn why_anew(noted: Option<&Epoch>, boot: &str, recovered: &Recovered) -> Option<&'static str> {
    let Some(noted) = noted else { return Some("none is noted, or it has ended") };
    if recovered.tables.seq_last == 0 {
        return Some("nothing is there");
    }
    if !recovered.is_sound || (noted.is_closed && recovered.is_cut) {
        return Some("something is lost");
    }
    if !noted.is_closed && (boot.is_empty() || noted.boot != boot) {
        return Some("the host was started anew before everything was on disk");
    }
    None
}
