//! Gives every event its place in one total order and collects events into batches.
//!
//! One per server, on the ingest thread. Channels and keys get dense numbers here, so that they are
//! the same on every core. Not here: frames, and who wants what. Invariant: `seq` rises with each
//! accepted event, by one from 1 unless the events bring their own, and a refused event changes
//! nothing.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::handoff::batch::{Batch, ChannelId, NewSlot, Sequenced, SlotId};
use crate::journal::Tables;
use crate::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};
use crate::protocol::event::Event;

/// Why an event was not accepted; the operator can cure it, the producer at most by sending less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The event names a new channel and there is no room for one.
    #[error("channel is new and {0} channels exist already (raise channels_max)")]
    TooManyChannels(usize),
    /// The event names a new key and there is no room for one.
    #[error("key is new and {0} keys exist already (raise keys_max)")]
    TooManyKeys(usize),
    /// The event is larger than a message of the stream may be.
    #[error(
        "data has more than {0} bytes, which the stream's servers allow (raise max_payload there)"
    )]
    TooLarge(usize),
}

impl Refused {
    /// The code in the reply to the producer.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooManyChannels(_) => "too_many_channels",
            Self::TooManyKeys(_) => "too_many_keys",
            Self::TooLarge(_) => "too_large",
        }
    }
}

/// The place of an event that brings its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its `seq`, above all before.
    pub seq: u64,
    /// The `seq` before it on its channel, where that is known better than from what came before.
    pub prev: Option<u64>,
    /// When it came into the total order, nanoseconds since the Unix epoch.
    pub ts_in: u64,
}

#[derive(Debug, Default)]
struct Channel {
    seq_last: u64,
    /// The slot of its events without a key.
    slot_keyless: Option<SlotId>,
    slots: FxHashMap<Arc<str>, SlotId>,
}

/// The one writer of the total order.
#[derive(Debug)]
pub struct Sequencer {
    seq_last: u64,
    ids: FxHashMap<Arc<str>, ChannelId>,
    channels: Vec<Channel>,
    slot_count: usize,
    key_count: usize,
    channels_max: usize,
    keys_max: usize,
    batch: Batch,
}

impl Sequencer {
    /// A sequencer with nothing behind it.
    #[must_use]
    pub fn new(channels_max: usize, keys_max: usize) -> Self {
        Self {
            seq_last: 0,
            ids: FxHashMap::default(),
            channels: Vec::new(),
            slot_count: 0,
            key_count: 0,
            channels_max,
            keys_max,
            batch: Batch::default(),
        }
    }

    /// A sequencer that goes on after what a journal holds. More channels and keys than there may
    /// be are kept; then there is no room for new ones.
    #[must_use]
    pub fn restore(tables: &Tables, channels_max: usize, keys_max: usize) -> Self {
        let mut sequencer = Self::new(channels_max, keys_max);
        sequencer.seq_last = tables.seq_last;
        for channel in &tables.channels {
            let id = sequencer.register_channel(Arc::clone(&channel.name));
            sequencer.channels[id as usize].seq_last = channel.seq_last;
        }
        for slot in &tables.slots {
            sequencer.register_slot(slot.named.channel, slot.named.key.clone());
        }
        sequencer
    }

    /// Appends an event to the batch under construction and returns its `seq`.
    ///
    /// # Errors
    /// When the event needs a new channel or key and there is no room.
    pub fn handle_event(&mut self, event: &Event<'_>, ts_in: u64) -> Result<u64, Refused> {
        let place = Place { seq: self.seq_last + 1, prev: None, ts_in };
        self.handle_placed(event, place).map(|()| place.seq)
    }

    /// Appends an event that has its place already.
    ///
    /// # Errors
    /// As for [`Self::handle_event`].
    pub fn handle_placed(&mut self, event: &Event<'_>, place: Place) -> Result<(), Refused> {
        debug_assert!(place.seq > self.seq_last, "{} after {}", place.seq, self.seq_last);
        let (channel, slot) = self.slot(event.channel, event.key)?;
        self.seq_last = place.seq;
        let last = std::mem::replace(&mut self.channels[channel as usize].seq_last, place.seq);
        let start = offset(self.batch.bytes.len());
        self.batch.bytes.extend_from_slice(event.data);
        let data = start..offset(self.batch.bytes.len());
        self.batch.events.push(Sequenced {
            seq: place.seq,
            prev: place.prev.unwrap_or(last),
            ts: event.ts,
            ts_in: place.ts_in,
            channel,
            slot,
            kind: event.kind,
            data,
        });
        Ok(())
    }

    /// Notes that events will never come, before the batch under construction, which has none yet.
    pub fn handle_loss(&mut self, (from, to): (u64, u64)) {
        debug_assert!(self.batch.events.is_empty(), "what is lost comes before a batch");
        debug_assert!(from > self.seq_last, "{from} after {}", self.seq_last);
        self.seq_last = self.seq_last.max(to);
        self.batch.lost = Some((from, to));
    }

    /// Notes a book of which something is missing, before the batch under construction.
    ///
    /// # Errors
    /// As for [`Self::handle_event`].
    pub fn handle_broken_book(&mut self, channel: &str, key: Option<&str>) -> Result<(), Refused> {
        let slot = self.slot(channel, key)?.1;
        self.batch.books_broken.push(slot);
        Ok(())
    }

    /// Marks the batch under construction: events are missing between its own.
    pub const fn mark_sparse(&mut self) {
        self.batch.is_sparse = true;
    }

    /// Takes what was collected, if anything was.
    pub fn next_batch(&mut self) -> Option<Arc<Batch>> {
        self.has_batch().then(|| Arc::new(std::mem::take(&mut self.batch)))
    }

    /// Whether anything was collected.
    #[must_use]
    pub fn has_batch(&self) -> bool {
        let Batch { events, books_broken, lost, .. } = &self.batch;
        !events.is_empty() || !books_broken.is_empty() || lost.is_some()
    }

    /// True when the batch under construction should be taken before another event.
    #[must_use]
    pub fn is_batch_full(&self) -> bool {
        self.batch.events.len() >= BATCH_EVENTS_MAX || self.batch.bytes.len() >= BATCH_BYTES_MAX
    }

    /// Channels known.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// The last `seq` given, 0 if none.
    #[must_use]
    pub const fn seq_last(&self) -> u64 {
        self.seq_last
    }

    /// Whether there is room for an event that is to get its place elsewhere.
    ///
    /// # Errors
    /// As for [`Self::handle_event`].
    pub fn check(&self, event: &Event<'_>) -> Result<(), Refused> {
        self.find(event.channel, event.key).map(drop)
    }

    /// The channel and the slot of an event, new ones if need be.
    fn slot(&mut self, channel: &str, key: Option<&str>) -> Result<(ChannelId, SlotId), Refused> {
        let (channel_known, slot_known) = self.find(channel, key)?;
        let channel = channel_known.unwrap_or_else(|| self.add_channel(channel));
        let slot = slot_known.unwrap_or_else(|| self.add_slot(channel, key));
        Ok((channel, slot))
    }

    /// The channel and the slot of an event, as far as they are there; there is room for the rest.
    fn find(
        &self,
        channel: &str,
        key: Option<&str>,
    ) -> Result<(Option<ChannelId>, Option<SlotId>), Refused> {
        let known = self.ids.get(channel).copied();
        if known.is_none() && self.channels.len() >= self.channels_max {
            return Err(Refused::TooManyChannels(self.channels_max));
        }
        let slot_known = known.and_then(|channel| {
            let channel = &self.channels[channel as usize];
            key.map_or(channel.slot_keyless, |key| channel.slots.get(key).copied())
        });
        if key.is_some() && slot_known.is_none() && self.key_count >= self.keys_max {
            return Err(Refused::TooManyKeys(self.keys_max));
        }
        Ok((known, slot_known))
    }

    fn add_channel(&mut self, name: &str) -> ChannelId {
        let name: Arc<str> = name.into();
        self.batch.channels.push(Arc::clone(&name));
        self.register_channel(name)
    }

    fn register_channel(&mut self, name: Arc<str>) -> ChannelId {
        let id = ChannelId::try_from(self.channels.len()).expect("channels_max fits 32 bits");
        self.ids.insert(name, id);
        self.channels.push(Channel::default());
        id
    }

    fn add_slot(&mut self, channel: ChannelId, key: Option<&str>) -> SlotId {
        let key: Option<Arc<str>> = key.map(Arc::from);
        self.batch.slots.push(NewSlot { channel, key: key.clone() });
        self.register_slot(channel, key)
    }

    fn register_slot(&mut self, channel: ChannelId, key: Option<Arc<str>>) -> SlotId {
        let id = SlotId::try_from(self.slot_count).expect("channels_max and keys_max are 24 bits");
        self.slot_count += 1;
        let state = &mut self.channels[channel as usize];
        match key {
            None => state.slot_keyless = Some(id),
            Some(key) => {
                self.key_count += 1;
                state.slots.insert(key, id);
            }
        }
        id
    }
}

fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch is BATCH_BYTES_MAX and one line at most")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event::Kind;

    fn event<'a>(channel: &'a str, key: Option<&'a str>, data: &'a str) -> Event<'a> {
        Event { channel, key, kind: Kind::Update, ts: None, data: data.as_bytes() }
    }

    #[test]
    fn seq_is_dense_and_prev_links_each_channel() {
        let mut sequencer = Sequencer::new(8, 8);
        for (channel, data) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
            sequencer.handle_event(&event(channel, None, data), 7).unwrap();
        }
        let batch = sequencer.next_batch().unwrap();
        let links: Vec<_> = batch.events.iter().map(|e| (e.seq, e.prev, e.channel)).collect();
        assert_eq!(links, [(1, 0, 0), (2, 0, 1), (3, 1, 0), (4, 3, 0), (5, 2, 1)]);
        assert_eq!(batch.data(&batch.events[3]), b"4");
        assert_eq!(batch.channels, [Arc::from("a"), Arc::from("b")]);
        assert_eq!(sequencer.next_batch(), None);
    }

    #[test]
    fn events_that_bring_their_own_place_keep_it() {
        let mut sequencer = Sequencer::new(8, 8);
        let place = |seq, prev| Place { seq, prev, ts_in: 7 };
        sequencer.handle_placed(&event("a", None, "1"), place(10, Some(4))).unwrap();
        sequencer.handle_placed(&event("a", None, "2"), place(15, None)).unwrap();
        let batch = sequencer.next_batch().unwrap();
        let links: Vec<_> = batch.events.iter().map(|e| (e.seq, e.prev)).collect();
        assert_eq!((links, batch.lost), (vec![(10, 4), (15, 10)], None));
        sequencer.handle_loss((16, 19));
        sequencer.handle_broken_book("a", Some("k")).unwrap();
        sequencer.handle_placed(&event("a", None, "3"), place(20, None)).unwrap();
        let batch = sequencer.next_batch().unwrap();
        assert_eq!((batch.lost, &batch.books_broken[..]), (Some((16, 19)), &[1][..]));
        assert_eq!((batch.events[0].seq, batch.events[0].prev), (20, 15));
    }

    #[test]
    fn slots_are_numbered_for_each_channel_and_announced_once() {
        let mut sequencer = Sequencer::new(8, 3);
        for (channel, key) in [
            ("a", Some("x")),
            ("b", Some("x")),
            ("a", Some("x")),
            ("a", None),
            ("a", Some("y")),
            ("a", None),
        ] {
            sequencer.handle_event(&event(channel, key, "0"), 0).unwrap();
        }
        let batch = sequencer.next_batch().unwrap();
        assert_eq!(batch.events.iter().map(|e| e.slot).collect::<Vec<_>>(), [0, 1, 0, 2, 3, 2]);
        let keys: Vec<_> = batch.slots.iter().map(|slot| slot.key.as_deref()).collect();
        assert_eq!(keys, [Some("x"), Some("x"), None, Some("y")]);
    }

    #[test]
    fn a_refused_event_changes_nothing() {
        let mut sequencer = Sequencer::new(1, 1);
        sequencer.handle_event(&event("a", Some("x"), "0"), 0).unwrap();
        for (refused, why) in [
            (event("b", None, "0"), Refused::TooManyChannels(1)),
            (event("a", Some("y"), "0"), Refused::TooManyKeys(1)),
        ] {
            assert_eq!(sequencer.check(&refused), Err(why));
            assert_eq!(sequencer.handle_event(&refused, 0), Err(why));
        }
        assert_eq!(sequencer.check(&event("a", Some("x"), "0")), Ok(()));
        assert_eq!(sequencer.handle_event(&event("a", Some("x"), "0"), 0), Ok(2));
        assert_eq!(sequencer.next_batch().unwrap().channels.len(), 1);
    }

    #[test]
    fn a_restored_sequencer_goes_on_as_if_it_had_never_ended() {
        let names = [("a", Some("x")), ("b", None), ("a", None), ("a", Some("y")), ("c", None)];
        for count in 0..=names.len() {
            let (before, after) = names.split_at(count);
            let mut whole = Sequencer::new(8, 3);
            for (channel, key) in before {
                whole.handle_event(&event(channel, *key, "0"), 0).unwrap();
            }
            let mut tables = Tables::default();
            if let Some(batch) = whole.next_batch() {
                tables.handle_batch(&batch).unwrap();
            }
            let mut restored = Sequencer::restore(&tables, 8, 3);
            for (channel, key) in after.iter().chain(before) {
                let event = event(channel, *key, "1");
                assert_eq!(restored.handle_event(&event, 1), whole.handle_event(&event, 1));
            }
            let refused = event("d", Some("z"), "0");
            assert_eq!(restored.handle_event(&refused, 1), whole.handle_event(&refused, 1));
            assert_eq!(restored.next_batch(), whole.next_batch());
        }
    }
}
