//! Cohorts: connections with the same subscription set share one.
//!
//! A cohort holds the set, the channels it matches with their classes, and the gather list: what
//! its in-sync members have not been sent yet, worked out once for all of them. Channels and
//! cohorts are linked both ways, so that an event finds its cohorts and a subscription change costs
//! as much as the set is long, whatever the number of clients. Not here: members that lag; each
//! walks the log by itself.
//!
//! Invariant: the gather list holds what was appended and is not sampled, or what the last tick
//! took from the samplers; never both. Of the first kind are those of the cohorts in the queue,
//! each once, and in a pass of those that it has taken.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;

use crate::handoff::batch::ChannelId;
use crate::protocol::channel::Pattern;
use crate::protocol::encoding::{Encoding, Form};
use crate::protocol::terms::{Interval, Rules, Terms};

use super::channels::{Channels, Interest};
use super::classes::{Classes, Sampler};
pub use super::cohort_key::{CohortKey, Subscription, most_specific};
use super::connection::ConnectionId;
use super::gather::Gather;
use super::log::{Entry, FrameLog};
use super::pattern_index::PatternIndex;
use super::retained::Piece;
use super::store::Store;

/// A cohort's number; reused after the cohort was reaped.
pub type CohortId = u32;

/// One end of the link between a cohort and a channel that it wants.
#[derive(Debug, Clone, Copy)]
struct Link {
    channel: ChannelId,
    /// Where the channel keeps its end.
    interest: u32,
}

/// Connections with one subscription set.
#[derive(Debug)]
pub struct Cohort {
    /// The set and the tier.
    pub key: CohortKey,
    /// In-sync members, in no order; the lagging ones are not here.
    pub members: Vec<ConnectionId>,
    /// Members that came while something from before them waited for the next tick, which takes
    /// them out.
    pub joined: Vec<ConnectionId>,
    /// What some of the in-sync members have not been sent.
    pub gather: Gather,
    /// How the events of the channels that are wanted are treated.
    pub classes: Classes,
    /// Connections that hold the set, lagging ones included, or are about to.
    holders: usize,
    links: Vec<Link>,
    /// Of a stream of Server-Sent Events: each live event says where its client goes on from. It
    /// must not where samples come out of order.
    has_places: bool,
}

impl Cohort {
    /// What members are sent of entry `number`, live or in a recovery. The same for as long as
    /// there is the cohort, so that what was planned and what was sent are.
    #[must_use]
    pub fn piece(&self, store: &Store, number: u64, entry: &Entry, is_live: bool) -> Piece {
        let piece = store.piece(self.key.encoding, number, entry);
        match self.key.encoding {
            Encoding::Sse if !(is_live && self.has_places) => store.without_place(piece, entry),
            _ => piece,
        }
    }

    /// Whether live events say where a client goes on from.
    #[must_use]
    pub const fn has_places(&self) -> bool {
        self.has_places
    }

    /// Channels that exist and are wanted.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> {
        self.links.iter().map(|link| link.channel)
    }

    /// How many channels exist and are wanted.
    #[must_use]
    pub const fn channel_count(&self) -> usize {
        self.links.len()
    }

    /// One more connection holds the set.
    pub const fn add_holder(&mut self) {
        self.holders += 1;
    }

    /// Connections that hold the set.
    #[must_use]
    pub const fn holders(&self) -> usize {
        self.holders
    }

    /// Last `seq` of which in-sync members have everything, when the gather list is empty and the
    /// log ends with `seq_last`.
    #[must_use]
    pub fn seq_settled(&self, seq_last: u64) -> u64 {
        let pending = self.samplers().filter(|sampler| sampler.is_pending());
        pending.map(|sampler| sampler.seq_last).fold(seq_last, u64::min)
    }

    /// Whether something came that waits for the next tick.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.samplers().any(Sampler::is_pending)
    }

    /// Whether something from before entry `number` may wait for the next tick.
    #[must_use]
    pub fn is_within_interval(&self, number: u64) -> bool {
        self.samplers().any(|sampler| sampler.is_pending() && sampler.last < number)
    }

    /// What the last tick gathered was sent.
    fn end_samples(&mut self) {
        for sampler in self.classes.list_mut().iter_mut().filter_map(|c| c.sampler.as_mut()) {
            sampler.previous = sampler.last;
        }
    }

    fn samplers(&self) -> impl Iterator<Item = &Sampler> {
        self.classes.list().iter().filter_map(|class| class.sampler.as_ref())
    }
}

/// Where the log stands.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Number of the next entry.
    pub number: u64,
    /// Last `seq` before it.
    pub seq: u64,
}

impl From<&FrameLog> for Head {
    fn from(log: &FrameLog) -> Self {
        Self { number: log.head(), seq: log.seq_last() }
    }
}

/// All cohorts of a shard.
#[derive(Debug)]
pub struct Cohorts {
    rules: Arc<Rules>,
    cohorts: Slab<Cohort>,
    by_key: FxHashMap<CohortKey, CohortId>,
    /// The cohorts that hold a pattern, and its place in their sets.
    by_pattern: PatternIndex<FxHashMap<CohortId, usize>>,
    /// The queue of cohorts whose gather list is not empty.
    dirty: Vec<CohortId>,
    /// Cohorts with something that waits for the next tick, by interval.
    waiting: [Vec<CohortId>; 3],
    /// Cohorts that nobody held at some moment since the last reaping.
    abandoned: Vec<CohortId>,
    /// The cohort without a subscription of each encoding that ever was; it has a hold of its own.
    empty: Vec<(Encoding, CohortId)>,
    /// Cohorts that read ids of channels.
    with_ids: usize,
}

impl Cohorts {
    /// No cohorts, and the operator's rules for those to come.
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            cohorts: Slab::new(),
            by_key: FxHashMap::default(),
            by_pattern: PatternIndex::default(),
            dirty: Vec::new(),
            waiting: Default::default(),
            abandoned: Vec::new(),
            empty: Vec::new(),
            with_ids: 0,
        }
    }

    /// The cohort `id`.
    #[must_use]
    pub fn cohort(&self, id: CohortId) -> &Cohort {
        &self.cohorts[id as usize]
    }

    /// The cohort `id`, to change it.
    pub fn cohort_mut(&mut self, id: CohortId) -> &mut Cohort {
        &mut self.cohorts[id as usize]
    }

    /// The operator's rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The cohort without a subscription of `encoding`, with one more holder.
    pub fn hold_empty(
        &mut self,
        encoding: Encoding,
        channels: &mut Channels,
        head: Head,
    ) -> CohortId {
        let known = self.empty.iter().find(|(of, _)| *of == encoding);
        let id = match known {
            Some(&(_, id)) => id,
            None => {
                let key = CohortKey { set: Rc::from([]), tier: None, encoding };
                let id = self.hold(key, channels, head);
                self.empty.push((encoding, id));
                id
            }
        };
        self.cohort_mut(id).add_holder();
        id
    }

    /// The cohort of `key`, made when nobody has it, with one more holder.
    pub fn hold(&mut self, key: CohortKey, channels: &mut Channels, head: Head) -> CohortId {
        debug_assert!(key.set.is_sorted_by(|a, b| a.pattern < b.pattern), "sets are sorted");
        if let Some(&id) = self.by_key.get(&key) {
            self.cohort_mut(id).add_holder();
            return id;
        }
        let cohort = Cohort {
            key: key.clone(),
            members: Vec::new(),
            joined: Vec::new(),
            gather: Gather::default(),
            classes: Classes::default(),
            holders: 1,
            links: Vec::new(),
            has_places: !key.may_sample(&self.rules),
        };
        let id = CohortId::try_from(self.cohorts.insert(cohort)).expect("fewer than connections");
        self.with_ids += usize::from(key.reads_ids());
        for (channel, terms) in self.matching(&key, channels) {
            self.link(id, channel, terms, channels, head);
        }
        for (place, held) in key.set.iter().enumerate() {
            self.by_pattern.value(&held.pattern).insert(id, place);
        }
        self.by_key.insert(key, id);
        id
    }

    /// One holder less. A cohort without holders is reaped later, so that ids stay valid in a pass.
    pub fn release(&mut self, id: CohortId) {
        let cohort = self.cohort_mut(id);
        cohort.holders -= 1;
        if cohort.holders == 0 {
            self.abandoned.push(id);
        }
    }

    /// Removes the cohorts that nobody holds. Only between passes.
    pub fn reap(&mut self, channels: &mut Channels) {
        while let Some(id) = self.abandoned.pop() {
            let Some(cohort) = self.cohorts.get(id as usize) else { continue };
            if cohort.holders > 0 {
                continue;
            }
            debug_assert!(cohort.members.is_empty(), "a member holds its cohort");
            let cohort = self.cohorts.remove(id as usize);
            if !cohort.gather.is_empty() {
                self.dirty.retain(|&dirty| dirty != id);
            }
            self.with_ids -= usize::from(cohort.key.reads_ids());
            self.by_key.remove(&cohort.key);
            for held in cohort.key.set.iter() {
                let holders = self.by_pattern.value(&held.pattern);
                holders.remove(&id);
                if holders.is_empty() {
                    self.by_pattern.remove(&held.pattern);
                }
            }
            for link in cohort.links {
                self.unlink(link, channels);
            }
        }
    }

    /// Links a channel that has just appeared to every cohort that matches it.
    pub fn handle_channel(&mut self, channel: ChannelId, channels: &mut Channels, head: Head) {
        let name = channels.channel(channel).name.clone();
        let mut seen = FxHashSet::default();
        // The most specific pattern of a set comes first.
        let matching: Vec<_> = (self.by_pattern.matching(&name).flatten())
            .filter(|&(&id, _)| seen.insert(id))
            .map(|(&id, &place)| (id, self.cohort(id).key.terms(place, &name, &self.rules)))
            .collect();
        for (id, terms) in matching {
            self.link(id, channel, terms, channels, head);
        }
    }

    /// Notes a log entry in every cohort that wants it: in the gather list, or for the next tick.
    pub fn handle_entry(
        &mut self,
        number: u64,
        entry: &Entry,
        ts_in: u64,
        wanting: &[Interest],
        store: &Store,
    ) {
        let slots = &store.slots;
        let is_keyed = usize::from(slots.slot(entry.slot).is_keyed);
        let json = Piece::Log(entry.into());
        for interest in wanting {
            let cohort = &mut self.cohorts[interest.cohort as usize];
            let class = interest.classes[is_keyed];
            let waits = cohort.classes.handle_entry(class, number, entry, slots);
            if let Some(interval) = cohort.classes.list()[usize::from(class)].terms.interval {
                if waits {
                    self.waiting[interval as usize].push(interest.cohort);
                }
                continue;
            }
            if cohort.members.is_empty() && cohort.gather.is_empty() {
                continue; // Nobody is in sync; the laggards walk the log.
            }
            if cohort.gather.is_empty() {
                self.dirty.push(interest.cohort);
            }
            let piece = match cohort.key.encoding {
                Encoding::Json => json,
                _ => cohort.piece(store, number, entry, true),
            };
            cohort.gather.add(number, piece, piece.len(), ts_in);
        }
    }

    /// Whether one of the cohorts in `wanting` reads an entry in `form`, whose frame of JSON has so
    /// many bytes.
    #[must_use]
    pub fn is_read_as(&self, form: Form, json_len: u32, wanting: &[Interest]) -> bool {
        let mut encodings = wanting.iter().map(|i| self.cohort(i.cohort).key.encoding);
        encodings.any(|encoding| encoding.form() == form && encoding.reads(json_len))
    }

    /// Connections that hold no subscription.
    #[must_use]
    pub fn strangers(&self) -> usize {
        // Each has a hold of its own.
        self.empty.iter().map(|&(_, id)| self.cohort(id).holders - 1).sum()
    }

    /// Whether some cohort's members are told ids of channels.
    #[must_use]
    pub const fn has_ids(&self) -> bool {
        self.with_ids > 0
    }

    /// Takes the queue of cohorts with something to send.
    pub fn take_dirty(&mut self, into: &mut Vec<CohortId>) {
        into.clear();
        into.append(&mut self.dirty);
    }

    /// Puts a cohort that was taken, and has something to send again, at the end of the queue.
    pub fn put_back(&mut self, id: CohortId) {
        self.dirty.push(id);
    }

    /// True when the queue is not empty.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// True when something waits for the tick of this interval.
    #[must_use]
    pub const fn is_waiting(&self, interval: Interval) -> bool {
        !self.waiting[interval as usize].is_empty()
    }

    /// Ends the interval of every sampler of `intervals`: what is due becomes the gather list of
    /// its cohort, which is put into `into`. Every gather list must be empty. Cohorts of which
    /// something due was forgotten are put into `holed` instead and have no gather list.
    pub fn tick(
        &mut self,
        intervals: &[Interval],
        store: &Store,
        into: &mut Vec<CohortId>,
        holed: &mut Vec<CohortId>,
    ) {
        into.clear();
        for &interval in intervals {
            into.append(&mut self.waiting[interval as usize]);
        }
        into.sort_unstable();
        into.dedup();
        let mut numbers = Vec::new();
        let (head, seq) = (store.log.head(), store.log.seq_last());
        let cohorts = &mut self.cohorts;
        into.retain(|&id| {
            let Some(cohort) = cohorts.get_mut(id as usize) else { return false };
            numbers.clear();
            for class in cohort.classes.list_mut() {
                if let Some(sampler) = &mut class.sampler
                    && intervals.contains(&sampler.interval)
                {
                    sampler.tick(head, seq, &store.slots, &mut numbers);
                }
            }
            if numbers.is_empty() {
                cohort.end_samples();
                return false;
            }
            numbers.sort_unstable();
            if numbers.iter().any(|&number| store.retained.is_forgotten(number)) {
                holed.push(id);
                return false;
            }
            for &number in &numbers {
                let entry = store.entry(number);
                let piece = cohort.piece(store, number, entry, true);
                // A sample's age is its interval, not a delay: it does not count as latency.
                cohort.gather.add(number, piece, piece.len(), u64::MAX);
            }
            true
        });
    }

    /// Forgets what the gather list of `id` has before entry `end`, which every in-sync member was
    /// sent; true when nothing is left.
    pub fn forget(&mut self, id: CohortId, end: u64) -> bool {
        let cohort = self.cohort_mut(id);
        cohort.gather.forget(end);
        let is_empty = cohort.gather.is_empty();
        if is_empty {
            cohort.end_samples();
        }
        is_empty
    }

    /// Cohorts that exist, those without a subscription included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cohorts.len()
    }

    /// Whether there is none, because nobody has come yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cohorts.is_empty()
    }

    /// Channels that exist and that a set matches, with their terms.
    fn matching(&self, key: &CohortKey, channels: &Channels) -> Vec<(ChannelId, Terms)> {
        let terms = |place, name: &str| key.terms(place, name, &self.rules);
        let patterns = key.set.iter().map(|held| &held.pattern);
        if patterns.clone().all(Pattern::is_exact) {
            let known = patterns.enumerate().filter_map(|(place, exact)| {
                let name = exact.as_str();
                Some((channels.id(name)?, terms(place, name)))
            });
            return known.collect();
        }
        let index = PatternIndex::of(patterns);
        let matching = channels.iter().filter_map(|(id, channel)| {
            let &place = index.matching(&channel.name).next()?;
            Some((id, terms(place, &channel.name)))
        });
        matching.collect()
    }

    fn link(
        &mut self,
        id: CohortId,
        channel: ChannelId,
        terms: Terms,
        channels: &mut Channels,
        head: Head,
    ) {
        let interests = &mut channels.channel_mut(channel).interests;
        let cohort = &mut self.cohorts[id as usize];
        let link = u32::try_from(cohort.links.len()).expect("at most one a channel");
        let interest = u32::try_from(interests.len()).expect("at most one a cohort");
        let classes = cohort.classes.add(channel, terms, head.number, head.seq);
        interests.push(Interest { cohort: id, link, classes });
        cohort.links.push(Link { channel, interest });
    }

    /// Removes the channel's end of a link whose cohort is gone; the last interest takes its place.
    fn unlink(&mut self, link: Link, channels: &mut Channels) {
        let interests = &mut channels.channel_mut(link.channel).interests;
        interests.swap_remove(link.interest as usize);
        if let Some(moved) = interests.get(link.interest as usize) {
            self.cohorts[moved.cohort as usize].links[moved.link as usize].interest = link.interest;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::terms::Wish;

    const NAMES: [&str; 6] = ["a", "b", "a.x", "a.y", "b.x", "c"];
    const PATTERNS: [&str; 8] = ["*", "*.x", ">", "a", "a.*", "a.x", "b.>", "c"];

    fn set(mask: u8) -> Rc<[Subscription]> {
        (0..8)
            .filter(|bit| mask >> bit & 1 == 1)
            .map(|bit| Subscription {
                pattern: Pattern::parse(PATTERNS[bit]).unwrap(),
                wish: Wish::default(),
            })
            .collect()
    }

    proptest! {
        /// Whatever comes and goes, in whatever order: the links say what the patterns say.
        #[test]
        fn links_agree_with_the_patterns(
            operations in prop::collection::vec((0_u8..4, any::<u8>()), 1..120),
        ) {
            let mut channels = Channels::default();
            let mut cohorts = Cohorts::new(Arc::default());
            let head = Head { number: 0, seq: 0 };
            let encoding = Encoding::Json;
            let key = |mask| CohortKey { set: set(mask), tier: None, encoding };
            let mut held: Vec<(CohortId, u8)> = Vec::new();
            for (operation, value) in operations {
                match operation {
                    0 if channels.iter().count() < NAMES.len() => {
                        let name = NAMES[channels.iter().count()];
                        let id = channels.add_channel(name.into());
                        cohorts.handle_channel(id, &mut channels, head);
                    }
                    0 | 1 => {
                        held.push((cohorts.hold(key(value), &mut channels, head), value));
                    }
                    2 if !held.is_empty() => {
                        let (id, _) = held.swap_remove(usize::from(value) % held.len());
                        cohorts.release(id);
                    }
                    _ => cohorts.reap(&mut channels),
                }
                for (id, mask) in &held {
                    let cohort = cohorts.cohort(*id);
                    prop_assert_eq!(&cohort.key, &key(*mask));
                    for (channel, state) in channels.iter() {
                        let expected = set(*mask).iter().any(|s| s.pattern.matches(&state.name));
                        prop_assert_eq!(cohort.classes.wants(channel), expected);
                        let linked = state.interests.iter().filter(|i| i.cohort == *id).count();
                        prop_assert_eq!(linked, usize::from(expected));
                    }
                }
            }
            held.into_iter().for_each(|(id, _)| cohorts.release(id));
            cohorts.reap(&mut channels);
            prop_assert!(cohorts.is_empty());
            prop_assert!(channels.iter().all(|(_, channel)| channel.interests.is_empty()));
        }
    }
}
