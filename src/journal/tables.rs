//! The numbers that a journal has given out: channels and slots by id, and where `seq` stands.
//!
//! They follow from the batches, one after the other; a sequencer goes on from them. Not here: what
//! events said ([`super::checkpoint`]). Invariant: every batch that was taken in was the one that
//! follows, so a batch that is missing or altered is noticed here even if each record is whole.

use std::sync::Arc;

use crate::handoff::batch::{Batch, ChannelId, NewSlot, SlotId};
use crate::protocol::event::Kind;

use super::record::Record;

/// A channel that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// Its newest `seq`, 0 if none.
    pub seq_last: u64,
}

/// What is known of a slot's events as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shape {
    /// Each event stands for itself, or replaces the one before.
    #[default]
    Values,
    /// It has had a snapshot: updates are deltas.
    Book,
    /// A book whose beginning is lost, until its next snapshot.
    Broken,
}

/// A slot that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its channel and key.
    pub named: NewSlot,
    /// What its events are.
    pub shape: Shape,
}

/// Everything that was announced, and where `seq` stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// The last `seq` given, 0 if none.
    pub seq_last: u64,
    /// By id.
    pub channels: Vec<Channel>,
    /// By id.
    pub slots: Vec<Slot>,
}

/// A batch that does not follow from those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfit;

impl Tables {
    /// Takes in the batch that follows.
    ///
    /// # Errors
    /// It is not the one that follows.
    pub fn handle_batch(&mut self, batch: &Batch) -> Result<(), Misfit> {
        self.announce(batch)?;
        for event in &batch.events {
            let slot = self.slots.get_mut(event.slot as usize).ok_or(Misfit)?;
            let channel = self.channels.get_mut(event.channel as usize).ok_or(Misfit)?;
            let follows = event.seq == self.seq_last + 1 && event.prev == channel.seq_last;
            if !follows || slot.named.channel != event.channel {
                return Err(Misfit);
            }
            if event.kind == Kind::Snapshot {
                slot.shape = Shape::Book;
            }
            channel.seq_last = event.seq;
            self.seq_last = event.seq;
        }
        Ok(())
    }

    /// Takes in a record of a checkpoint; true when it was the last one.
    ///
    /// # Errors
    /// It does not follow from those before it.
    pub fn handle_record(&mut self, record: &Record) -> Result<bool, Misfit> {
        match record {
            Record::Batch(batch) => {
                self.announce(batch)?;
                for event in &batch.events {
                    let slot = self.slots.get_mut(event.slot as usize).ok_or(Misfit)?;
                    if event.seq <= self.seq_last || slot.named.channel != event.channel {
                        return Err(Misfit);
                    }
                    if event.kind == Kind::Snapshot {
                        slot.shape = Shape::Book;
                    }
                    self.seq_last = event.seq;
                }
            }
            Record::Ends { from, seqs } => {
                let channels = self.channels.get_mut(*from as usize..).ok_or(Misfit)?;
                let channels = channels.get_mut(..seqs.len()).ok_or(Misfit)?;
                for (channel, &seq) in channels.iter_mut().zip(seqs) {
                    channel.seq_last = seq;
                }
            }
            Record::Broken(slots) => {
                for &slot in slots {
                    let slot = self.slots.get_mut(slot as usize).ok_or(Misfit)?;
                    slot.shape = Shape::Broken;
                }
            }
            Record::Closing(seq_last) => {
                let behind = self.channels.iter().all(|channel| channel.seq_last <= *seq_last);
                if *seq_last < self.seq_last || !behind {
                    return Err(Misfit);
                }
                self.seq_last = *seq_last;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The same with nothing known of any event: every book is broken.
    #[must_use]
    pub fn without_values(&self) -> Self {
        let mut tables = self.clone();
        for slot in tables.slots.iter_mut().filter(|slot| slot.shape == Shape::Book) {
            slot.shape = Shape::Broken;
        }
        tables
    }

    fn announce(&mut self, batch: &Batch) -> Result<(), Misfit> {
        let fits = |count: usize| ChannelId::try_from(count).is_ok();
        let channels =
            batch.channels.iter().map(|name| Channel { name: Arc::clone(name), seq_last: 0 });
        self.channels.extend(channels);
        for named in &batch.slots {
            if named.channel as usize >= self.channels.len() {
                return Err(Misfit);
            }
            self.slots.push(Slot { named: named.clone(), shape: Shape::default() });
        }
        if fits(self.channels.len()) && fits(self.slots.len()) { Ok(()) } else { Err(Misfit) }
    }

    /// Broken books, by id.
    pub fn broken(&self) -> impl Iterator<Item = SlotId> {
        let numbered = (0..).zip(&self.slots);
        numbered.filter(|(_, slot)| slot.shape == Shape::Broken).map(|(id, _)| id)
    }
}
