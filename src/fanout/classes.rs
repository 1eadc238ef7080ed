//! Classes: the events of one cohort that are treated alike.
//!
//! A cohort's set can hold patterns of different terms, and `auto` treats events with and without a
//! key differently; a class is what remains when all of that is resolved. A lagging connection has
//! one place in the log for each class. Not here: lagging connections ([`super::lag`]). Invariant:
//! a class lives as long as its cohort, and its policy is not `auto`.

use rustc_hash::FxHashMap;

use crate::handoff::batch::{ChannelId, SlotId};
use crate::limits::SAMPLES_START;
use crate::protocol::policy::Policy;
use crate::protocol::terms::{Interval, Terms};

use super::channel_set::ChannelSet;
use super::log::Entry;
use super::slots::Slots;

/// A class's place in its cohort's list.
pub type ClassId = u16;

/// The classes of one channel: for its events without a key, and for those with one.
pub type ClassPair = [ClassId; 2];

/// One class of a cohort.
#[derive(Debug)]
pub struct Class {
    /// The terms; never with the policy `auto`.
    pub terms: Terms,
    /// Head of the log when the class began.
    pub born: u64,
    /// Last `seq` before `born`.
    pub seq_born: u64,
    /// Number behind its newest entry; `born` while there is none.
    pub end: u64,
    /// Its events since it began.
    pub events: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Present when the class is sampled.
    pub sampler: Option<Sampler>,
}

impl Class {
    /// Whether a newer event of a slot may stand for those before.
    #[must_use]
    pub const fn conflates(&self) -> bool {
        matches!(self.terms.policy, Policy::Latest)
    }

    /// Where that ends which may be sent now: the head, or the last tick of a sampled class.
    #[must_use]
    pub fn due_until(&self, head: u64) -> u64 {
        self.sampler.as_ref().map_or(head, |sampler| sampler.last)
    }

    /// Counts an entry of the class; true when it is the first that waits for a tick.
    fn handle_entry(&mut self, number: u64, entry: &Entry, slots: &Slots) -> bool {
        self.end = number + 1;
        self.events += 1;
        self.bytes += u64::from(entry.len);
        self.sampler.as_mut().is_some_and(|sampler| sampler.add(number, entry.slot, slots))
    }
}

/// What a sampled class has not sent yet.
#[derive(Debug)]
pub struct Sampler {
    /// How often the newest of each slot is sent.
    pub interval: Interval,
    /// Entries since the last tick, in order; superseded ones are dropped now and then.
    pending: Vec<(u64, SlotId)>,
    /// Length of `pending` at which superseded entries are dropped.
    pending_max: usize,
    /// Head of the log at the last tick: everything before it was sent to in-sync members, or is in
    /// their gather list.
    pub last: u64,
    /// Last `seq` before `last`.
    pub seq_last: u64,
    /// Head at the tick before, while what the last tick gathered is being sent; `last` otherwise.
    pub previous: u64,
}

impl Sampler {
    const fn new(interval: Interval, head: u64, seq: u64) -> Self {
        Self {
            interval,
            pending: Vec::new(),
            pending_max: SAMPLES_START,
            last: head,
            seq_last: seq,
            previous: head,
        }
    }

    /// Whether something came since the last tick.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn add(&mut self, number: u64, slot: SlotId, slots: &Slots) -> bool {
        if self.pending.len() >= self.pending_max {
            self.pending.retain(|&(number, slot)| !slots.slot(slot).supersedes(number));
            self.pending_max = SAMPLES_START.max(2 * self.pending.len());
        }
        self.pending.push((number, slot));
        self.pending.len() == 1
    }

    /// Ends the interval: appends the numbers of what came in it and still counts.
    pub(super) fn tick(&mut self, head: u64, seq: u64, slots: &Slots, into: &mut Vec<u64>) {
        let still = |&(number, slot): &(u64, SlotId)| {
            (!slots.slot(slot).supersedes(number)).then_some(number)
        };
        into.extend(self.pending.iter().filter_map(still));
        self.pending.clear();
        (self.previous, self.last, self.seq_last) = (self.last, head, seq);
    }
}

/// The classes of a cohort, and which channels are in which.
#[derive(Debug, Default)]
pub struct Classes {
    list: Vec<Class>,
    wanted: ChannelSet,
    /// The pair of most channels.
    usual: ClassPair,
    /// The pairs of the others.
    others: FxHashMap<ChannelId, ClassPair>,
}

impl Classes {
    /// All of them, by id.
    #[must_use]
    pub fn list(&self) -> &[Class] {
        &self.list
    }

    /// All of them, to change them.
    pub(super) fn list_mut(&mut self) -> &mut [Class] {
        &mut self.list
    }

    /// Whether events of `channel` are wanted.
    #[must_use]
    pub fn wants(&self, channel: ChannelId) -> bool {
        self.wanted.contains(channel)
    }

    /// The first channel from `channel` on of which events are wanted.
    #[must_use]
    pub fn next_wanted(&self, channel: ChannelId) -> Option<ChannelId> {
        self.wanted.next(channel)
    }

    /// The class of an event, if it is wanted.
    #[must_use]
    pub fn of(&self, channel: ChannelId, is_keyed: bool) -> Option<usize> {
        if !self.wants(channel) {
            return None;
        }
        let pair = if self.others.is_empty() { None } else { self.others.get(&channel) };
        Some(usize::from(pair.unwrap_or(&self.usual)[usize::from(is_keyed)]))
    }

    /// Wants a channel on these terms; the log stands at `head` and `seq`.
    pub(super) fn add(
        &mut self,
        channel: ChannelId,
        terms: Terms,
        head: u64,
        seq: u64,
    ) -> ClassPair {
        let pair = [false, true].map(|keyed| self.class(terms.of_events(keyed), head, seq));
        if self.wanted.is_empty() {
            self.usual = pair;
        } else if pair != self.usual {
            self.others.insert(channel, pair);
        }
        self.wanted.insert(channel);
        pair
    }

    fn class(&mut self, terms: Terms, head: u64, seq: u64) -> ClassId {
        let known = self.list.iter().position(|class| class.terms == terms);
        let id = known.unwrap_or_else(|| {
            self.list.push(Class {
                terms,
                born: head,
                seq_born: seq,
                end: head,
                events: 0,
                bytes: 0,
                sampler: terms.interval.map(|interval| Sampler::new(interval, head, seq)),
            });
            self.list.len() - 1
        });
        ClassId::try_from(id).expect("limits keep classes below 65,536")
    }

    /// Counts an entry of class `id`; true when it is the first of its class that waits for a tick.
    pub(super) fn handle_entry(
        &mut self,
        id: ClassId,
        number: u64,
        entry: &Entry,
        slots: &Slots,
    ) -> bool {
        self.list[usize::from(id)].handle_entry(number, entry, slots)
    }
}
