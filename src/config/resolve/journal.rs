//! The settings of the journal.
//!
//! Not here: whether its folder can be used (`journal`). Invariant: as for all of [`super`].

use super::Resolver;
use crate::config::JournalSettings;
use crate::limits;

impl Resolver<'_> {
    pub(super) fn journal(&mut self) -> Option<JournalSettings> {
        let folder = self.path("journal");
        let bytes =
            self.size("journal_bytes", limits::JOURNAL_BYTES_MIN..=limits::JOURNAL_BYTES_MAX);
        let sync = self.duration("journal_sync", 0);
        Some(JournalSettings { folder: folder?, bytes: bytes? as u64, sync: sync? })
    }
}
