//! A lagging connection: its places in the log, and what it is still to get.
//!
//! A connection that is not in sync has one [`Place`] for each class of its cohort. Every entry
//! between a place and the head is *open* (to be sent), superseded (a newer one of the slot stands
//! for it), or settled (sent, receipted, or no longer wanted). [`View`] tells them apart; all that
//! is sent, counted or skipped goes through it, so that no two parts of the shard can differ. Not
//! here: when limits are enforced (`shard::slow`). Invariant: for a class that does not conflate,
//! `due - taken` is the number of its open entries.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::handoff::batch::{ChannelId, SlotId};
use crate::limits::WALK_ENTRIES_MAX;

use super::classes::Class;
use super::cohorts::{Cohort, CohortId};
use super::cut::Cut;
use super::log::Entry;
use super::recovery::{Pending, Recovery};
use super::retained::Piece;
use super::send::{Collector, Taken, Walked};
use super::snapshot::Walk;
use super::store::Store;

/// Where a connection stands in one class.
#[derive(Debug, Clone)]
pub struct Place {
    /// Entries of the class before this one are not open.
    pub from: u64,
    /// Last `seq` before `from`.
    pub seq_from: u64,
    /// Entries before this one were receipted, but for books; see `books`.
    pub skipped_to: u64,
    /// Where books went on when the rest was skipped: their entries before that were receipted.
    /// Sorted; a book that is not here went on with its next delta.
    pub books: Vec<(SlotId, u64)>,
    /// The class's events that are not open. Below zero, modulo 2⁶⁴, where the place is older than
    /// the class; only differences mean something.
    pub taken: u64,
    /// Their bytes.
    pub taken_bytes: u64,
    /// Superseded entries are not sent.
    pub conflating: bool,
}

impl Place {
    /// A place of `class` at entry `from`, with the events before it taken.
    #[must_use]
    pub const fn new(class: &Class, from: u64, seq_from: u64) -> Self {
        Self {
            from,
            seq_from,
            skipped_to: 0,
            books: Vec::new(),
            taken: class.events,
            taken_bytes: class.bytes,
            conflating: class.sampler.is_some(),
        }
    }

    /// So many events with so many bytes are not open any more.
    pub(super) const fn take(&mut self, events: u64, bytes: u64) {
        self.taken = self.taken.wrapping_add(events);
        self.taken_bytes = self.taken_bytes.wrapping_add(bytes);
    }
}

/// Where that ends which a connection is sent on its present terms.
#[derive(Debug, Clone)]
pub struct End {
    /// Number behind its last entry.
    pub at: u64,
    /// Last `seq` before `at`.
    pub seq: u64,
    /// Events and bytes of each class at that point.
    pub due: Vec<(u64, u64)>,
}

impl End {
    /// The end at which `places` stand.
    #[must_use]
    pub fn of(places: &[Place], at: u64, seq: u64) -> Self {
        let due = places.iter().map(|place| (place.taken, place.taken_bytes)).collect();
        Self { at, seq, due }
    }
}

/// What a connection is to be sent after that.
#[derive(Debug)]
pub struct Stage {
    /// The set to come.
    pub cohort: CohortId,
    /// Places in it.
    pub places: Vec<Place>,
    /// Where it ends; the last one does not.
    pub end: Option<End>,
    /// Present when it is no live stage.
    pub recovery: Option<Box<Recovery>>,
}

/// What is kept of a connection while it is not in sync.
#[derive(Debug, Default)]
pub struct Lag {
    /// One for each class of the cohort; classes that began since are missing.
    pub places: Vec<Place>,
    /// Its socket has been full since it was last in sync.
    pub behind: bool,
    /// Where the present stage ends; none: it does not.
    pub end: Option<End>,
    /// Present when the present stage is a recovery.
    pub recovery: Option<Box<Recovery>>,
    /// Changes of the set, and recoveries before them; the last one has no end.
    pub stages: VecDeque<Stage>,
    /// Channels that were unsubscribed and of which nothing more of the present stage is sent.
    pub removed: FxHashSet<ChannelId>,
    /// Books that the stages before the next live one have not sent whole: they go on at their
    /// newest snapshots.
    pub cut: FxHashMap<SlotId, Cut>,
    /// Snapshots that are sent but for what has replaced parts of them.
    pub pending: Vec<Pending>,
    /// The client has everything up to this `seq`, which this shard has not come to yet.
    pub ahead: u64,
    /// While it is sent what is read back, and nothing of the log: everything up to this `seq` is
    /// done with.
    pub reading: Option<u64>,
    /// What the log has overwritten before the next live stage begins is read back for it.
    pub reads_back: bool,
}

impl Lag {
    /// The walk of the snapshot under way, if one is.
    #[must_use]
    pub fn walk(&self) -> Option<&Walk> {
        self.recovery.as_ref().and_then(|recovery| recovery.walk.as_ref())
    }

    /// Whether anything of `channel` is still to be sent in the present stage.
    #[must_use]
    pub fn concerns(&self, channel: ChannelId) -> bool {
        let is_removed = !self.removed.is_empty() && self.removed.contains(&channel);
        let recovery = self.recovery.as_ref();
        !is_removed && recovery.is_none_or(|recovery| recovery.concerns(channel))
    }

    /// Whether live events wait until the shard has come to where the client is.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.ahead > 0 && self.stages.is_empty()
    }

    /// Everything up to this `seq` is done with, while what comes next is waited for: by what is
    /// read back, or until the shard has come to it.
    #[must_use]
    pub fn waits_at(&self) -> Option<u64> {
        self.reading.or_else(|| self.waits().then_some(self.ahead))
    }

    fn move_walk(&mut self, walk: Walk) {
        if let Some(recovery) = &mut self.recovery {
            recovery.walk = Some(walk);
        }
    }
}

/// An entry that concerns a lagging connection.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// Its number.
    pub number: u64,
    /// What the index says of it.
    pub entry: Entry,
    /// Its class.
    pub class: usize,
    /// To be sent; otherwise superseded.
    pub is_open: bool,
    /// It is needed, and neither in the log nor kept.
    pub is_forgotten: bool,
}

/// Everything that decides what a connection of one cohort is still to get.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The events.
    pub store: &'a Store,
    /// The connection's cohort.
    pub cohort: &'a Cohort,
}

impl View<'_> {
    /// The lag of a connection that has everything before `cursor`, and of sampled classes what the
    /// last tick gathered up to `sampled_to`. Nothing before `joined_at` is for it.
    #[must_use]
    pub fn lag(&self, cursor: u64, sampled_to: u64, joined_at: u64) -> Lag {
        let ahead = self.count(cursor..self.store.log.head(), |_| true);
        let places = self.classes().iter().zip(ahead).map(|(class, (events, bytes))| {
            let from = match &class.sampler {
                None => cursor,
                Some(sampler) if sampler.previous < sampler.last => {
                    sampler.previous.max(sampled_to).max(joined_at)
                }
                Some(sampler) => sampler.last.max(joined_at),
            };
            let mut place = Place::new(class, from, self.seq_before(from).unwrap_or(0));
            if class.sampler.is_none() {
                place.taken = place.taken.wrapping_sub(events);
                place.taken_bytes = place.taken_bytes.wrapping_sub(bytes);
            }
            place
        });
        Lag { places: places.collect(), ..Lag::default() }
    }

    /// Places at entry `at`, which is in the log, with everything before it settled.
    #[must_use]
    pub fn places(&self, at: u64, seq: u64) -> Vec<Place> {
        let mut lag = self.lag(at, at, at);
        for place in &mut lag.places {
            (place.from, place.seq_from) = (at, seq);
        }
        lag.places
    }

    /// Events and bytes of each class among the log's entries in `range`, of the channels that
    /// `concerns`.
    #[must_use]
    pub fn count(
        &self,
        range: Range<u64>,
        concerns: impl Fn(ChannelId) -> bool,
    ) -> Vec<(u64, u64)> {
        let mut counts = vec![(0, 0); self.classes().len()];
        for number in range {
            let entry = self.store.log.entry(number);
            let is_keyed = self.store.slots.slot(entry.slot).is_keyed;
            if let Some(class) = self.cohort.classes.of(entry.channel, is_keyed)
                && concerns(entry.channel)
            {
                counts[class].0 += 1;
                counts[class].1 += u64::from(entry.len);
            }
        }
        counts
    }

    pub(super) fn classes(&self) -> &[Class] {
        self.cohort.classes.list()
    }

    /// Adds places for classes that began while the connection lagged.
    pub fn complete(&self, lag: &mut Lag) {
        for class in &self.classes()[lag.places.len()..] {
            let place = Place::new(class, class.born, class.seq_born);
            lag.places.push(Place { taken: 0, taken_bytes: 0, ..place });
        }
    }

    /// Whether nothing can be sent before the shard has come to where the client is.
    #[must_use]
    pub fn is_awaited(&self, lag: &Lag) -> bool {
        lag.waits() && self.store.log.seq_last() < lag.ahead
    }

    /// Whether something of the present stage is still to be sent; moves a snapshot up to it.
    pub fn is_behind(&self, lag: &mut Lag) -> bool {
        match lag.walk() {
            _ if lag.reading.is_some() => true,
            None => self.start(lag).is_some() || lag.waits(),
            Some(_) => self.first(lag).is_some() || lag.walk().is_some_and(|walk| !walk.is_done),
        }
    }

    /// Whether the log has left a place behind that does not conflate and may be of books: what is
    /// still open there can only be told from all that the log holds.
    #[must_use]
    pub fn is_laden(&self, lag: &Lag) -> bool {
        let tail = self.store.log.tail();
        self.store.slots.has_books()
            && (0..lag.places.len()).any(|class| {
                lag.places[class].from < tail
                    && !self.classes()[class].conflates()
                    && !self.is_done(lag, class)
            })
    }

    /// Last `seq` before entry `number`, if that can be told.
    fn seq_before(&self, number: u64) -> Option<u64> {
        (number >= self.store.log.tail()).then(|| self.store.log.seq_before(number))
    }

    /// Calls `each` for every open or superseded entry from `start` on, in order.
    pub fn each(&self, lag: &Lag, start: u64, each: impl FnMut(Item) -> ControlFlow<()>) {
        self.each_of(lag, start, usize::MAX, each);
    }

    /// The same, looking at `entries_max` entries at most; returns where it ended.
    fn each_of(
        &self,
        lag: &Lag,
        start: u64,
        entries_max: usize,
        mut each: impl FnMut(Item) -> ControlFlow<()>,
    ) -> u64 {
        let ends = (0..lag.places.len()).map(|class| self.end(lag, class));
        let end = ends.max().unwrap_or(0).max(start);
        let tail = self.store.log.tail();
        let mut left = entries_max;
        for (number, kept) in self.store.retained.range(start..tail.min(end)) {
            let item = self.item(lag, number, &kept.entry);
            if left == 0
                || item.is_some_and(|item| {
                    each(Item { is_forgotten: kept.frame.is_none(), ..item }).is_break()
                })
            {
                return number;
            }
            left -= 1;
        }
        let from = start.max(tail).min(end);
        let stop = end.min(from.saturating_add(left as u64));
        for number in from..stop {
            if let Some(item) = self.item(lag, number, self.store.log.entry(number))
                && each(item).is_break()
            {
                return number;
            }
        }
        stop
    }

    /// How many entries of a class in the log concern the connection, `count_max` at most, counted
    /// from the newest.
    #[must_use]
    pub fn newest(&self, lag: &Lag, class: usize, count_max: u64) -> u64 {
        let numbers = (self.store.log.tail()..self.end(lag, class)).rev();
        let items =
            numbers.filter_map(|number| self.item(lag, number, self.store.log.entry(number)));
        let at_most = usize::try_from(count_max).unwrap_or(usize::MAX);
        items.filter(|item| item.class == class).take(at_most).count() as u64
    }

    /// What an entry is to the connection; nothing when it is settled or of no concern.
    fn item(&self, lag: &Lag, number: u64, entry: &Entry) -> Option<Item> {
        let slot = self.store.slots.slot(entry.slot);
        let class = self.cohort.classes.of(entry.channel, slot.is_keyed)?;
        let place = &lag.places[class];
        if number < place.from || number >= self.end(lag, class) {
            return None;
        }
        if !lag.concerns(entry.channel) {
            return None;
        }
        let is_open = !(place.conflating && slot.supersedes(number));
        let book = place.books.binary_search_by_key(&entry.slot, |(slot, _)| *slot);
        let is_skipped = number < place.skipped_to;
        let went_on = match book {
            Ok(at) if is_skipped || slot.is_book_at(number) => place.books[at].1,
            Err(_) if is_skipped => slot.book_since,
            _ => 0,
        };
        if number < went_on {
            return None;
        }
        Some(Item { number, entry: *entry, class, is_open, is_forgotten: false })
    }

    /// The first entry that is to be sent; the places are moved up to it. Looks at
    /// [`WALK_ENTRIES_MAX`] entries at most, and finds none if there are none among them.
    pub fn first(&self, lag: &mut Lag) -> Option<Item> {
        if let Some(mut walk) = lag.walk().cloned() {
            let item = self.next_counting(lag, &mut walk);
            lag.move_walk(walk);
            return item;
        }
        let start = self.start(lag)?;
        let mut first = None;
        let end = self.each_of(lag, start, WALK_ENTRIES_MAX, |item| {
            if item.is_open {
                first = Some(item);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        self.move_to(lag, end);
        first
    }

    /// Moves every place up to entry `number`, before which nothing is open.
    pub fn move_to(&self, lag: &mut Lag, number: u64) {
        for class in 0..lag.places.len() {
            let to = number.min(self.end(lag, class));
            let seq = self.seq_before(to);
            let place = &mut lag.places[class];
            if to > place.from {
                place.from = to;
                place.seq_from = place.seq_from.max(seq.unwrap_or(0));
            }
        }
    }

    /// Collects what is to be sent next, within the bounds of one send.
    pub fn walk(&self, lag: &Lag, pieces_max: usize, each: impl FnMut(Piece)) -> Walked {
        if let Some(seq) = lag.reading {
            return self.collect_past(lag, seq, pieces_max, each);
        }
        if let Some(walk) = lag.walk() {
            return self.collect(lag, walk.clone(), pieces_max, each);
        }
        let Some(start) = self.start(lag).filter(|_| !lag.waits()) else {
            return Walked { bytes: 0, events: 0, end: 0 };
        };
        let mut collector = Collector::new(pieces_max, each);
        let end = self.each_of(lag, start, WALK_ENTRIES_MAX, |item| {
            if !item.is_open {
                return ControlFlow::Continue(());
            }
            collector.add(&item, self.piece(lag, &item))
        });
        collector.finish(end)
    }

    /// Moves the places over `bytes` of open frames that the socket took, and up to entry `end`,
    /// before which nothing else is open.
    pub fn advance(&self, lag: &mut Lag, bytes: usize, end: u64) -> Taken {
        if lag.reading.is_some() {
            return self.take_past(lag, bytes, end);
        }
        if let Some(mut walk) = lag.walk().cloned() {
            let taken = self.take(lag, &mut walk, bytes);
            lag.move_walk(walk);
            return taken;
        }
        let mut taken = Taken::default();
        let start = self.start(lag).unwrap_or(u64::MAX);
        let (mut left, mut reached) = (bytes, 0);
        let mut counts = vec![(0, 0); lag.places.len()];
        self.each(lag, start, |item| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            counts[item.class].0 += 1;
            counts[item.class].1 += u64::from(item.entry.len);
            reached = item.number + 1;
            if item.is_open {
                let piece = self.piece(lag, &item);
                left = taken.add(left, piece.len(), || self.store.bytes(piece));
            }
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        for (place, (events, bytes)) in lag.places.iter_mut().zip(counts) {
            place.take(events, bytes);
        }
        self.move_to(lag, reached.max(end));
        taken
    }

    /// Goes on after what [`Self::walk`] has looked at and found nothing to send in.
    pub fn pass_over(&self, lag: &mut Lag, end: u64) {
        match &mut lag.reading {
            Some(seq) => *seq = end.max(*seq),
            None => self.move_to(lag, end),
        }
    }

    /// Notes that nothing is open before the end of the present stage.
    pub fn settle(&self, lag: &mut Lag) {
        let Some(end) = &lag.end else { return };
        for (place, due) in lag.places.iter_mut().zip(&end.due) {
            (place.from, place.seq_from) = (end.at, end.seq);
            (place.taken, place.taken_bytes) = *due;
        }
    }

    /// Places at entry `from`, before which everything up to `seq_from` is settled, of a stage that
    /// ends before entry `at` and is for the channels that `concerns`; both are in the log.
    #[must_use]
    pub fn places_within(
        &self,
        (from, seq_from): (u64, u64),
        (at, seq): (u64, u64),
        concerns: impl Fn(ChannelId) -> bool,
    ) -> Vec<Place> {
        let mut places = self.places(at, seq);
        let open = self.count(from..at, concerns);
        for (place, (class, (events, bytes))) in
            places.iter_mut().zip(self.classes().iter().zip(open))
        {
            *place = Place {
                from,
                seq_from,
                taken: place.taken.wrapping_sub(events),
                taken_bytes: place.taken_bytes.wrapping_sub(bytes),
                conflating: class.conflates(),
                ..Place::new(class, from, seq_from)
            };
        }
        places
    }

    /// Sends nothing more of `channels` in the present stage; returns for each class how many open
    /// events that were.
    pub fn remove(&self, lag: &mut Lag, mut channels: FxHashSet<ChannelId>) -> Vec<u64> {
        channels.retain(|channel| !lag.removed.contains(channel));
        let mut lost = vec![(0, 0); lag.places.len()];
        if let Some(start) = self.start(lag).filter(|_| !channels.is_empty()) {
            self.each(lag, start, |item| {
                if channels.contains(&item.entry.channel) {
                    lost[item.class].0 += 1;
                    lost[item.class].1 += u64::from(item.entry.len);
                }
                ControlFlow::Continue(())
            });
        }
        for (place, (events, bytes)) in lag.places.iter_mut().zip(&lost) {
            place.take(*events, *bytes);
        }
        lag.removed.extend(channels);
        lost.into_iter().map(|(events, _)| events).collect()
    }

    /// What the connection is sent of an entry.
    pub(super) fn piece(&self, lag: &Lag, item: &Item) -> Piece {
        self.cohort.piece(self.store, item.number, &item.entry, lag.recovery.is_none())
    }

    /// Panics when a lag breaks this module's invariant.
    pub fn check(&self, lag: &Lag) {
        let mut open = vec![0; lag.places.len()];
        self.each(lag, self.start(lag).unwrap_or(u64::MAX), |item| {
            open[item.class] += 1;
            ControlFlow::Continue(())
        });
        for (class, place) in lag.places.iter().enumerate() {
            // Of what has left the log some may be lost; the next visit will tell.
            let lossy = place.from < self.store.log.tail() && !self.is_done(lag, class);
            if self.classes()[class].conflates() || lossy {
                continue;
            }
            let settled = place.taken.wrapping_add(open[class]);
            assert_eq!(settled, self.due(lag, class).0, "class {class} of {lag:?}");
        }
    }
}
