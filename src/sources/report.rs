//! Logs the refused lines of a source that cannot be replied to, without flooding the log.

use crate::sources::intake::Refusal;

/// Refusals that are logged one by one; after that, each power of ten.
const SINGLE: u64 = 10;

/// The refusals of one source.
#[derive(Debug)]
pub struct Report {
    source: String,
    refused: u64,
}

impl Report {
    /// The report of `source`, a name for people.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self { source: source.to_owned(), refused: 0 }
    }

    /// Counts a refusal, and logs it unless there were many.
    pub fn refused(&mut self, line: u64, refusal: &Refusal) {
        self.refused += 1;
        let total = self.refused;
        if total <= SINGLE || 10_u64.pow(total.ilog10()) == total {
            let Refusal { code, message } = refusal;
            tracing::warn!(source = self.source, line, code, total, "line refused: {message}");
        }
    }

    /// Logs the total at the end of the source.
    pub fn end(&self) {
        tracing::info!(source = self.source, refused = self.refused, "source ended");
    }
}
