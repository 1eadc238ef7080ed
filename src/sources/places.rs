//! Places of those who connect to a source: taken as they are accepted, given back when they are
//! gone.
//!
//! Strangers, who have not shown yet that they may publish, have a few places of their own at each
//! source. They never take one of a producer, and those of another source do not know of them. Not
//! here: who is a stranger ([`super::publisher`]), and for how long ([`super::producers`]).
//! Invariant: a place counts once, from before its connection is served until after it.

use std::cell::Cell;
use std::rc::Rc;

use crate::limits::{PRODUCERS_MAX, STRANGERS_MAX};
use crate::shell::feed::Feed;
use crate::sources::intake::Refusal;

/// The places at one source.
#[derive(Debug)]
pub(super) struct Places {
    feed: Feed,
    /// Which source of the server it is.
    number: usize,
    strangers: Cell<usize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Rc<Places>,
    is_strangers: bool,
}

impl Places {
    pub(super) fn new(feed: Feed, number: usize) -> Rc<Self> {
        Rc::new(Self { feed, number, strangers: Cell::new(0) })
    }

    /// A place for one who has come, perhaps as a stranger.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn take(self: &Rc<Self>, is_stranger: bool) -> Result<Place, Refusal> {
        if !is_stranger {
            self.count_producer()?;
        } else if self.strangers.get() < STRANGERS_MAX {
            self.strangers.update(|strangers| strangers + 1);
        } else {
            return Err(self.full(format!(
                "{STRANGERS_MAX} others are here that have not shown a credential yet; try again"
            )));
        }
        Ok(Place { places: Rc::clone(self), is_strangers: is_stranger })
    }

    fn count_producer(&self) -> Result<(), Refusal> {
        let all = &self.feed.counters().producers;
        if all.value() >= PRODUCERS_MAX {
            return Err(self.full(format!("{PRODUCERS_MAX} producers are connected already")));
        }
        all.add(1);
        if let Some(source) = self.feed.source(self.number) {
            source.producers.add(1);
            source.is_up.set(1);
        }
        Ok(())
    }

    fn full(&self, message: String) -> Refusal {
        tracing::warn!(source = self.number, "a producer is refused: {message}");
        if let Some(source) = self.feed.source(self.number) {
            source.refused.add(1);
        }
        Refusal { code: "too_many_producers", message }
    }
}

impl Place {
    /// Makes it a producer's for good.
    ///
    /// # Errors
    /// There is no room for another one.
    pub(super) fn admit(&mut self) -> Result<(), Refusal> {
        if self.is_strangers {
            self.places.count_producer()?;
            self.places.strangers.update(|strangers| strangers - 1);
            self.is_strangers = false;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Places { feed, number, strangers } = &*self.places;
        if self.is_strangers {
            strangers.update(|strangers| strangers - 1);
            return;
        }
        feed.counters().producers.sub(1);
        if let Some(source) = feed.source(*number) {
            source.producers.sub(1);
            source.is_up.set(u64::from(source.producers.value() > 0));
        }
    }
}
