//! Books that a client has not whole when its set changes.
//!
//! A stage ends at an entry ([`super::lag`]). If the newest snapshot of a book lies behind that,
//! and something before it was left out, the client cannot go on with the book's next change: it
//! goes on at the snapshot. Not here: what is sent then (`shard::slow`). Invariant: a book that is
//! not noted was sent whole up to the end of the stage.

use super::lag::{Lag, View};
use super::slots::Slot;
use super::store::Store;
use crate::handoff::batch::{ChannelId, SlotId};

/// Why a client has a book not whole, whose newest snapshot lies behind the end of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// The snapshot stood for what was still to be sent.
    Replaced,
    /// Something was skipped.
    Skipped,
}

impl Lag {
    /// Notes that these books are not whole.
    pub fn cut(&mut self, books: impl IntoIterator<Item = SlotId>, why: Cut) {
        for book in books {
            let known = self.cut.entry(book).or_insert(why);
            *known = why.max(*known);
        }
    }
}

/// A book that is of concern to a connection.
#[derive(Debug, Clone, Copy)]
pub struct Book<'a> {
    /// Its slot.
    pub id: SlotId,
    /// What is known of that.
    pub slot: &'a Slot,
    /// Its channel.
    pub channel: ChannelId,
    /// The class that it has in the connection's set.
    pub class: usize,
}

impl<'a> View<'a> {
    /// The books of the channels that the present stage is for; looks at every slot of these.
    pub fn books(self, lag: &Lag) -> impl Iterator<Item = Book<'a>> {
        let (slots, cohort) = (&self.store.slots, self.cohort);
        let channels = cohort.channels().filter(|&channel| lag.concerns(channel));
        let ids = channels
            .flat_map(|channel| slots.of_channel(channel).iter().map(move |&id| (channel, id)));
        ids.filter_map(move |(channel, id)| {
            let slot = slots.slot(id);
            let class = cohort.classes.of(channel, slot.is_keyed)?;
            slot.is_book_at(slot.base).then_some(Book { id, slot, channel, class })
        })
    }

    /// Whether newer events have stood for older ones of a class in the present stage.
    #[must_use]
    pub fn conflates(&self, lag: &Lag, class: usize) -> bool {
        let is_old = lag.recovery.is_some() || lag.reads_back;
        lag.places[class].conflating || is_old && self.classes()[class].conflates()
    }

    /// Books of the present stage that the server has not whole itself, if the stage lay in the log
    /// for long: some of them may have been forgotten before they were sent, and left no trace.
    #[must_use]
    pub fn forgotten_books(&self, lag: &Lag) -> Vec<SlotId> {
        let Store { log, slots, .. } = self.store;
        let is_overtaken = lag.behind || lag.end.as_ref().is_some_and(|end| end.at < log.tail());
        // A snapshot says itself what it has not, and what is read back was forgotten by nobody.
        let is_complete = lag
            .recovery
            .as_ref()
            .is_some_and(|recovery| recovery.walk.is_some() || recovery.past.is_some());
        if !slots.has_books() || !is_overtaken || is_complete {
            return Vec::new();
        }
        self.books(lag).filter(|book| !book.slot.is_whole()).map(|book| book.id).collect()
    }

    /// Books of the classes that are meant, whose newest snapshot is not before entry `at`.
    #[must_use]
    pub fn replaced_books(
        &self,
        lag: &Lag,
        at: u64,
        is_meant: impl Fn(usize) -> bool,
    ) -> Vec<SlotId> {
        let Store { log, slots, retained, .. } = self.store;
        if !slots.has_books() || !(0..lag.places.len()).any(&is_meant) {
            return Vec::new();
        }
        let kept = retained.range(at..log.tail()).map(|(number, kept)| (number, &kept.entry));
        let logged = at.max(log.tail())..log.head();
        let entries = kept.chain(logged.map(|number| (number, log.entry(number))));
        let books = entries.filter(|&(number, entry)| {
            let slot = slots.slot(entry.slot);
            let class = self.cohort.classes.of(entry.channel, slot.is_keyed);
            let is_newest = slot.base == number && slot.is_book_at(number);
            is_newest && class.is_some_and(&is_meant) && lag.concerns(entry.channel)
        });
        books.map(|(_, entry)| entry.slot).collect()
    }
}
