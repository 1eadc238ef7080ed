//! What one client has made of its events: of each key the newest, of each book its levels.
//!
//! Not here: whether an event was to come ([`super::account`]). Invariant: a book that has begun
//! with a snapshot has had every change since. One that lacks a change is an error, unless an
//! earlier request's receipt declares it: who goes on in the middle of what that receipt is about
//! gets changes of a book that he lacks, up to the next snapshot.

use crc32fast::Hasher;
use serde_json::Value;

use super::account::Receipt;
use super::truth::Truth;

#[derive(Debug, Clone, Default)]
struct Slot {
    /// Of the newest event that was applied.
    last: u64,
    /// Over the frames that count.
    crc: u32,
    is_book: bool,
    /// The number of the size of each level.
    sizes: Vec<u32>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Copy {
    slots: Vec<Slot>,
    /// Receipts of requests before the present one.
    excused: Vec<Receipt>,
}

impl Copy {
    pub(crate) fn new(truth: &Truth) -> Self {
        Self { slots: vec![Slot::default(); truth.slots.len()], excused: Vec::new() }
    }

    /// Books may lack what these receipts declare.
    pub(crate) fn excuse(&mut self, receipts: impl IntoIterator<Item = Receipt>) {
        self.excused.extend(receipts);
    }

    /// Begins anew.
    pub(crate) fn forget(&mut self) {
        self.slots.fill(Slot::default());
        self.excused.clear();
    }

    /// Begins anew with the slots of a channel.
    pub(crate) fn forget_channel(&mut self, truth: &Truth, channel: usize) {
        for &slot in &truth.channels[channel].slots {
            self.slots[slot] = Slot::default();
        }
    }

    /// Takes an event, unless it or a newer one of its slot was taken before; whether it was new.
    pub(crate) fn apply(&mut self, truth: &Truth, seq: u64, frame: &[u8]) -> Result<bool, String> {
        let event = truth.event(seq).expect("it was identified");
        let slot = &mut self.slots[event.slot];
        if seq <= slot.last {
            return Ok(false);
        }
        if event.is_snapshot {
            *slot = Slot { is_book: true, ..Slot::default() };
        } else if slot.is_book && event.before != slot.last {
            let (last, before, channel) = (slot.last, event.before, event.channel);
            let is_excused = |seq: &u64| self.excused.iter().any(|r| r.covers(channel, *seq));
            let channel = &truth.channels[channel];
            if !channel.between(last, before).iter().all(is_excused) {
                let name = &channel.name;
                return Err(format!(
                    "the book {name} is cut: it had {last} when {seq} came, which changes {before}"
                ));
            }
            *slot = Slot::default();
        }
        let so_far = if slot.is_book && !event.is_snapshot { slot.crc } else { 0 };
        let mut crc = Hasher::new_with_initial(so_far);
        crc.update(frame);
        (slot.last, slot.crc) = (seq, crc.finalize());
        if slot.is_book {
            for &(level, size) in truth.changes(event) {
                let level = level as usize;
                if slot.sizes.len() <= level {
                    slot.sizes.resize(level + 1, 0);
                }
                slot.sizes[level] = size;
            }
        }
        Ok(true)
    }

    /// The newest event of a slot that was applied.
    pub(crate) fn last(&self, slot: usize) -> u64 {
        self.slots[slot].last
    }

    /// What differs from the reference of a book, level by level; nothing for one that has not
    /// begun.
    pub(crate) fn differs(&self, truth: &Truth, slot: usize) -> Option<String> {
        let own = &self.slots[slot];
        let expected = truth.slots[slot].book.as_ref().filter(|_| own.is_book)?;
        let book = truth.book_of(slot, &own.sizes);
        if book == *expected {
            return None;
        }
        let wrong = expected.iter().find(|(level, size)| book.get(*level) != Some(*size));
        let name = &truth.channels[truth.slots[slot].channel].name;
        let (levels, should) = (book.len(), expected.len());
        Some(format!("book {name}: {levels} levels of {should}; the first wrong one {wrong:?}"))
    }

    pub(crate) fn is_book(&self, slot: usize) -> bool {
        self.slots[slot].is_book
    }

    /// Whether the server's hash of a channel is that of what is here.
    pub(crate) fn verify(
        &self,
        truth: &Truth,
        channel: usize,
        result: &Value,
    ) -> Result<(), String> {
        let slots = &truth.channels[channel].slots;
        let mut slots: Vec<_> = (slots.iter())
            .map(|&slot| (truth.slots[slot].key_json.as_str(), &self.slots[slot]))
            .filter(|(key, slot)| slot.last > 0 && (slot.is_book || *key != "null"))
            .collect();
        slots.sort_unstable_by_key(|(key, _)| *key);
        let lines: String =
            slots.iter().map(|(key, slot)| format!("{key}:{:08x}\n", slot.crc)).collect();
        let hash = format!("{:08x}", crc32fast::hash(lines.as_bytes()));
        let seq = truth.channels[channel].seqs.last().copied().unwrap_or_default();
        let own = serde_json::json!({
            "channel": truth.channels[channel].name, "seq": seq, "values": slots.len(),
            "hash": hash,
        });
        if *result == own { Ok(()) } else { Err(format!("verify: {result} here {own}")) }
    }
}
