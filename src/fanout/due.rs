//! How much of the log a lagging connection is still to be sent: where a stage ends, and what of it
//! is left.
//!
//! Not here: which entries these are ([`super::lag`]). Invariant: of a class that does not
//! conflate, what is left is as many events as are open.

use super::lag::{End, Lag, Place, View};

/// What is left of one class of a stage.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// Number of its first entry, at the earliest.
    pub from: u64,
    /// Its events, at most.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl View<'_> {
    /// Where the class's entries that may be sent now end.
    #[must_use]
    pub fn end(&self, lag: &Lag, class: usize) -> u64 {
        self.end_of(lag.end.as_ref(), class)
    }

    /// The same for a stage that ends there.
    fn end_of(&self, end: Option<&End>, class: usize) -> u64 {
        let head = self.store.log.head();
        end.map_or_else(|| self.classes()[class].due_until(head), |end| end.at)
    }

    /// Events and bytes of a class up to [`Self::end`].
    #[must_use]
    pub fn due(&self, lag: &Lag, class: usize) -> (u64, u64) {
        self.due_of(lag.end.as_ref(), class)
    }

    /// The same for a stage that ends there.
    fn due_of(&self, end: Option<&End>, class: usize) -> (u64, u64) {
        match end {
            Some(end) => end.due.get(class).copied().unwrap_or_default(),
            None => (self.classes()[class].events, self.classes()[class].bytes),
        }
    }

    /// Whether nothing of a class is to be sent now.
    #[must_use]
    pub fn is_done(&self, lag: &Lag, class: usize) -> bool {
        lag.places[class].from >= self.end(lag, class).min(self.classes()[class].end)
    }

    /// Number of the first entry that may be open; none when nothing is to be sent now.
    #[must_use]
    pub fn start(&self, lag: &Lag) -> Option<u64> {
        let lagging = (0..lag.places.len()).filter(|&class| !self.is_done(lag, class));
        lagging.map(|class| lag.places[class].from).min()
    }

    /// What is left of each class of a stage with these places, where something is.
    pub fn left(self, places: &[Place], end: Option<&End>) -> impl Iterator<Item = Due> {
        let lags = move |&(class, place): &(usize, &Place)| {
            place.from < self.end_of(end, class).min(self.classes()[class].end)
        };
        places.iter().enumerate().filter(lags).map(move |(class, place)| {
            // Below zero where more was taken than the stage is due.
            let left = |due: u64, taken: u64| due.wrapping_sub(taken).cast_signed().max(0);
            let (events, bytes) = self.due_of(end, class);
            Due {
                from: place.from,
                events: left(events, place.taken).cast_unsigned(),
                bytes: left(bytes, place.taken_bytes).cast_unsigned(),
            }
        })
    }
}
