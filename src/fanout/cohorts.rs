//! Cohorts: connections with the same subscription set share one.
//!
//! A cohort holds the set, the channels it matches, and the gather list: what its in-sync members
//! have not been sent yet, worked out once for all of them. Channels and cohorts are linked both
//! ways, so that an event finds its cohorts and a subscription change costs as much as the set is
//! long, whatever the number of clients. Not here: members that lag; each walks the log by itself.
//!
//! Invariant: `wanted` counts every event since the cohort began that it wants, and the gather list
//! holds the last of them, those appended since the last pass.

use std::ops::Range;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use slab::Slab;

use crate::handoff::batch::ChannelId;
use crate::limits::{GATHER_BYTES_MAX, GATHER_SLICES_MAX};
use crate::protocol::channel::Pattern;
use crate::protocol::policy::Policy;

use super::channels::{Channels, Interest};
use super::connection::ConnectionId;
use super::log::{Entry, Run};

/// A cohort's number; reused after the cohort was reaped.
pub type CohortId = u32;

/// The cohort of connections that subscribe to nothing; it always exists.
pub const COHORT_EMPTY: CohortId = 0;

/// One pattern with what was agreed for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// The channels.
    pub pattern: Pattern,
    /// What happens when the reader is too slow.
    pub policy: Policy,
}

/// What one send brings to every in-sync member of a cohort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its part of [`Gather::runs`].
    pub runs: Range<usize>,
    /// Bytes in all.
    pub bytes: usize,
    /// Events in all.
    pub events: u64,
    /// Number of its first log entry.
    pub first: u64,
    /// Number behind its last log entry.
    pub end: u64,
    /// `ts_in` of its oldest event.
    pub ts_in: u64,
}

/// What a cohort's in-sync members have not been sent, cut into sends.
#[derive(Debug, Default)]
pub struct Gather {
    runs: Vec<Run>,
    chunks: Vec<Chunk>,
}

impl Gather {
    /// Adds the log entry `number`.
    fn add(&mut self, number: u64, entry: &Entry, ts_in: u64) {
        let len = entry.len as usize;
        if let Some(chunk) = self.chunks.last_mut()
            && chunk.bytes + len <= GATHER_BYTES_MAX
        {
            let adjacent = self.runs.last_mut().is_some_and(|run| run.extend(entry));
            if adjacent || chunk.runs.len() < GATHER_SLICES_MAX {
                if !adjacent {
                    self.runs.push(Run::from(entry));
                    chunk.runs.end += 1;
                }
                chunk.bytes += len;
                chunk.events += 1;
                chunk.end = number + 1;
                return;
            }
        }
        let start = self.runs.len();
        self.runs.push(Run::from(entry));
        self.chunks.push(Chunk {
            runs: start..start + 1,
            bytes: len,
            events: 1,
            first: number,
            end: number + 1,
            ts_in,
        });
    }

    /// The runs of `chunk`.
    #[must_use]
    pub fn runs(&self, chunk: &Chunk) -> &[Run] {
        &self.runs[chunk.runs.clone()]
    }

    /// The sends, in order.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.chunks.clear();
    }
}

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
    /// The set, sorted by pattern, each pattern once.
    pub set: Rc<[Subscription]>,
    /// In-sync members, in no order; the lagging ones are not here.
    pub members: Vec<ConnectionId>,
    /// What the in-sync members have not been sent.
    pub gather: Gather,
    /// Events wanted since the cohort began.
    pub wanted: u64,
    /// Connections that hold the set, lagging ones included.
    holders: usize,
    channels: ChannelSet,
    links: Vec<Link>,
}

impl Cohort {
    /// Whether an event of `channel` is wanted.
    #[must_use]
    pub fn wants(&self, channel: ChannelId) -> bool {
        self.channels.contains(channel)
    }

    /// Channels that exist and are wanted.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> {
        self.links.iter().map(|link| link.channel)
    }

    /// One more connection holds the set.
    pub const fn add_holder(&mut self) {
        self.holders += 1;
    }

    fn matches(&self, name: &str) -> bool {
        self.set.iter().any(|subscription| subscription.pattern.matches(name))
    }
}

/// A set of channel ids, one bit each.
#[derive(Debug, Default)]
struct ChannelSet(Vec<u64>);

impl ChannelSet {
    fn insert(&mut self, channel: ChannelId) {
        let word = channel as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (channel % 64);
    }

    fn contains(&self, channel: ChannelId) -> bool {
        self.0.get(channel as usize / 64).is_some_and(|word| word >> (channel % 64) & 1 == 1)
    }
}

/// All cohorts of a shard.
#[derive(Debug)]
pub struct Cohorts {
    cohorts: Slab<Cohort>,
    by_set: FxHashMap<Rc<[Subscription]>, CohortId>,
    /// Cohorts whose gather list is not empty.
    dirty: Vec<CohortId>,
    /// Cohorts that nobody held at some moment since the last reaping.
    abandoned: Vec<CohortId>,
}

impl Default for Cohorts {
    fn default() -> Self {
        let mut cohorts = Self {
            cohorts: Slab::new(),
            by_set: FxHashMap::default(),
            dirty: Vec::new(),
            abandoned: Vec::new(),
        };
        let empty = cohorts.hold(Rc::from([]), &mut Channels::default());
        debug_assert_eq!(empty, COHORT_EMPTY, "and its own hold keeps it for good");
        cohorts
    }
}

impl Cohorts {
    /// The cohort `id`.
    #[must_use]
    pub fn cohort(&self, id: CohortId) -> &Cohort {
        &self.cohorts[id as usize]
    }

    /// The cohort `id`, to change it.
    pub fn cohort_mut(&mut self, id: CohortId) -> &mut Cohort {
        &mut self.cohorts[id as usize]
    }

    /// The cohort of `set` (sorted, no pattern twice), made when nobody has it, with one more
    /// holder.
    pub fn hold(&mut self, set: Rc<[Subscription]>, channels: &mut Channels) -> CohortId {
        debug_assert!(set.is_sorted_by(|a, b| a.pattern < b.pattern), "sets are sorted");
        if let Some(&id) = self.by_set.get(&set) {
            self.cohort_mut(id).add_holder();
            return id;
        }
        let cohort = Cohort {
            set: Rc::clone(&set),
            members: Vec::new(),
            gather: Gather::default(),
            wanted: 0,
            holders: 1,
            channels: ChannelSet::default(),
            links: Vec::new(),
        };
        let id = CohortId::try_from(self.cohorts.insert(cohort)).expect("fewer than connections");
        self.by_set.insert(set, id);
        for channel in self.matching(id, channels) {
            self.link(id, channel, channels);
        }
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
            self.by_set.remove(&cohort.set);
            for link in cohort.links {
                self.unlink(link, channels);
            }
        }
    }

    /// Links a channel that has just appeared to every cohort that matches it.
    pub fn handle_channel(&mut self, channel: ChannelId, channels: &mut Channels) {
        let name = channels.channel(channel).name.clone();
        let matching: Vec<_> = (self.cohorts.iter())
            .filter(|(_, cohort)| cohort.matches(&name))
            .map(|(id, _)| CohortId::try_from(id).expect("ids are 32 bits"))
            .collect();
        for id in matching {
            self.link(id, channel, channels);
        }
    }

    /// Adds a log entry to the gather list of every cohort that wants it.
    pub fn handle_entry(&mut self, number: u64, entry: &Entry, ts_in: u64, wanting: &[Interest]) {
        for interest in wanting {
            let cohort = &mut self.cohorts[interest.cohort as usize];
            cohort.wanted += 1;
            if cohort.members.is_empty() && cohort.gather.chunks.is_empty() {
                continue; // Nobody is in sync; the laggards walk the log.
            }
            if cohort.gather.chunks.is_empty() {
                self.dirty.push(interest.cohort);
            }
            cohort.gather.add(number, entry, ts_in);
        }
    }

    /// Takes the list of cohorts with something to send. Ids of reaped cohorts may be in it.
    pub fn take_dirty(&mut self, into: &mut Vec<CohortId>) {
        into.clear();
        into.append(&mut self.dirty);
    }

    /// True when a gather list is not empty.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The gather list of `id`, unless there is nothing in it or no such cohort.
    #[must_use]
    pub fn gather(&self, id: CohortId) -> Option<&Gather> {
        self.cohorts.get(id as usize).map(|c| &c.gather).filter(|g| !g.chunks.is_empty())
    }

    /// Forgets the gather list of `id`: every in-sync member was visited.
    pub fn clear_gather(&mut self, id: CohortId) {
        self.cohort_mut(id).gather.clear();
    }

    /// Cohorts that exist, the empty one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cohorts.len()
    }

    /// Never true: the empty cohort always exists.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cohorts.is_empty()
    }

    /// Channels that exist and that the set of `id` matches, by name.
    fn matching(&self, id: CohortId, channels: &Channels) -> Vec<ChannelId> {
        let set = &self.cohort(id).set;
        if set.iter().all(|subscription| subscription.pattern.is_exact()) {
            return set.iter().filter_map(|s| channels.id(s.pattern.as_str())).collect();
        }
        let cohort = self.cohort(id);
        channels.iter().filter(|(_, c)| cohort.matches(&c.name)).map(|(id, _)| id).collect()
    }

    fn link(&mut self, id: CohortId, channel: ChannelId, channels: &mut Channels) {
        let interests = &mut channels.channel_mut(channel).interests;
        let cohort = &mut self.cohorts[id as usize];
        let link = u32::try_from(cohort.links.len()).expect("at most one a channel");
        let interest = u32::try_from(interests.len()).expect("at most one a cohort");
        interests.push(Interest { cohort: id, link });
        cohort.links.push(Link { channel, interest });
        cohort.channels.insert(channel);
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

    const NAMES: [&str; 6] = ["a", "b", "a.x", "a.y", "b.x", "c"];
    const PATTERNS: [&str; 8] = ["*", "*.x", ">", "a", "a.*", "a.x", "b.>", "c"];

    fn set(mask: u8) -> Rc<[Subscription]> {
        (0..8)
            .filter(|bit| mask >> bit & 1 == 1)
            .map(|bit| Subscription {
                pattern: Pattern::parse(PATTERNS[bit]).unwrap(),
                policy: Policy::All,
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
            let mut cohorts = Cohorts::default();
            let mut held: Vec<(CohortId, u8)> = Vec::new();
            for (operation, value) in operations {
                match operation {
                    0 if channels.iter().count() < NAMES.len() => {
                        let name = NAMES[channels.iter().count()];
                        let id = channels.add_channel(name.into());
                        cohorts.handle_channel(id, &mut channels);
                    }
                    0 | 1 => held.push((cohorts.hold(set(value), &mut channels), value)),
                    2 if !held.is_empty() => {
                        let (id, _) = held.swap_remove(usize::from(value) % held.len());
                        cohorts.release(id);
                    }
                    _ => cohorts.reap(&mut channels),
                }
                for (id, mask) in &held {
                    let cohort = cohorts.cohort(*id);
                    prop_assert_eq!(&cohort.set, &set(*mask));
                    for (channel, state) in channels.iter() {
                        let expected = set(*mask).iter().any(|s| s.pattern.matches(&state.name));
                        prop_assert_eq!(cohort.wants(channel), expected);
                        let linked = state.interests.iter().filter(|i| i.cohort == *id).count();
                        prop_assert_eq!(linked, usize::from(expected));
                    }
                }
            }
            held.into_iter().for_each(|(id, _)| cohorts.release(id));
            cohorts.reap(&mut channels);
            prop_assert_eq!(cohorts.len(), 1, "only the empty cohort is left");
            prop_assert!(channels.iter().all(|(_, channel)| channel.interests.is_empty()));
        }

        /// The chunks hold exactly the added entries, in order, within the bounds of one send.
        #[test]
        fn a_gather_list_is_every_entry_once_in_sends_within_bounds(
            steps in prop::collection::vec((1_u32..4_000, any::<bool>()), 1..900),
        ) {
            let mut gather = Gather::default();
            let (mut position, mut expected) = (0, Vec::new());
            for (number, (len, gap)) in (0..).zip(steps) {
                position += if gap { 10 } else { 0 };
                let entry = Entry { seq: number + 1, position, len, channel: 0 };
                gather.add(number, &entry, 0);
                expected.extend(position..position + u64::from(len));
                position += u64::from(len);
            }
            let mut bytes = Vec::new();
            let mut end = 0;
            for chunk in gather.chunks() {
                prop_assert!(chunk.runs.len() <= GATHER_SLICES_MAX);
                prop_assert!(chunk.bytes <= GATHER_BYTES_MAX);
                prop_assert_eq!((chunk.first, chunk.end - chunk.first), (end, chunk.events));
                end = chunk.end;
                let runs = gather.runs(chunk);
                prop_assert_eq!(runs.iter().map(|r| r.len as usize).sum::<usize>(), chunk.bytes);
                for run in runs {
                    bytes.extend(run.position..run.position + u64::from(run.len));
                }
            }
            prop_assert_eq!(bytes, expected);
        }
    }
}
