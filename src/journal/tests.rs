//! A journal against what was published: whatever happened to it, it gives back a beginning of that
//! under the same epoch, or says by a new epoch that it does not.
//!
//! Method: a producer makes batches as a sequencer does; all of them are the history. What a
//! journal gives back is folded to what a shard would know of it and compared with the same fold of
//! the history. Not here: single records ([`super::record`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::handoff::batch::{Batch, NewSlot, Sequenced};
use crate::limits::{JOURNAL_RETRY_MS, RETAINED_BOOK_BYTES_MAX};
use crate::protocol::event::Kind;

mod crashes;
mod full_disk;
mod start;

const EPOCH_A: &str = "01JAAAAAAAAAAAAAAAAAAAAAAA";
const EPOCH_B: &str = "01JBBBBBBBBBBBBBBBBBBBBBBB";
const BOOT: &str = "this boot";

/// Bytes of a journal with four segments of some batches each.
const BYTES: u64 = 4 * 2_048;

/// A folder of its own, gone when it is dropped.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanfare-journal-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn settings(&self, bytes: u64) -> JournalSettings {
        JournalSettings { folder: self.0.join("j"), bytes, sync: Duration::ZERO }
    }

    fn open(&self, epoch_new: &str) -> Opened {
        open_in_boot(&self.settings(BYTES), BOOT, epoch_new).unwrap()
    }

    /// The names and bytes of all files but the lock.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.0.join("j")).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
            })
            .filter(|(name, _)| name != "lock")
            .collect()
    }

    /// Puts these files in the place of what is there.
    fn lay_out(&self, files: &BTreeMap<String, Vec<u8>>) {
        let folder = self.0.join("j");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An event that counts: `seq`, `prev`, `ts`, `ts_in`, data.
type Counts = (u64, u64, Option<u64>, u64, Vec<u8>);

/// What a shard would know: of each slot the events that count, and what is broken.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    channels: Vec<String>,
    slots: Vec<(u32, Option<String>)>,
    books: BTreeMap<u32, bool>,
    values: BTreeMap<u32, Vec<Counts>>,
}

impl Known {
    fn of<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Self {
        let mut known = Self::default();
        batches.into_iter().for_each(|batch| known.take(batch));
        known
    }

    fn take(&mut self, batch: &Batch) {
        self.channels.extend(batch.channels.iter().map(|name| name.to_string()));
        let slots = batch.slots.iter();
        self.slots.extend(slots.map(|s| (s.channel, s.key.as_ref().map(|key| key.to_string()))));
        for event in &batch.events {
            let is_book = *self.books.entry(event.slot).or_default();
            let value = self.values.entry(event.slot).or_default();
            if event.kind == Kind::Snapshot || !is_book {
                value.clear();
            }
            self.books.insert(event.slot, is_book || event.kind == Kind::Snapshot);
            let data = batch.data(event).to_vec();
            value.push((event.seq, event.prev, event.ts, event.ts_in, data));
        }
    }
}

/// What a journal gives back, checked for what always holds.
fn read_back(opened: &mut Opened) -> Vec<Batch> {
    let batches: Vec<Batch> = opened.replay.by_ref().map(|batch| batch.unwrap()).collect();
    let dense = batches.iter().skip_while(|batch| batch.is_sparse);
    assert!(dense.clone().all(|batch| !batch.is_sparse), "what is sparse comes first");
    let seqs: Vec<u64> = batches.iter().flat_map(|b| &b.events).map(|event| event.seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "in order: {seqs:?}");
    let dense: Vec<u64> = dense.flat_map(|batch| &batch.events).map(|event| event.seq).collect();
    assert!(dense.is_sorted_by(|a, b| a + 1 == *b), "without holes: {dense:?}");
    if let Some(&last) = dense.last() {
        assert_eq!(last, opened.tables.seq_last);
    }
    batches
}

/// Asserts that a journal gives back the history up to one of its batches, and says how many of
/// them.
fn is_beginning(opened: &mut Opened, history: &[Arc<Batch>]) -> usize {
    let batches = read_back(opened);
    let last = opened.tables.seq_last;
    let count = history.iter().take_while(|b| b.events.last().unwrap().seq <= last).count();
    let history = &history[..count];
    let mut tables = Tables::default();
    history.iter().for_each(|batch| tables.handle_batch(batch).unwrap());
    assert_eq!(opened.tables, tables);
    let dense: Vec<_> = batches.iter().skip_while(|batch| batch.is_sparse).collect();
    let newest = &history[count - dense.len()..];
    assert_eq!(dense, newest.iter().map(Arc::as_ref).collect::<Vec<_>>(), "byte for byte");
    assert_eq!(Known::of(&batches), Known::of(history.iter().map(Arc::as_ref)));
    count
}

/// Makes batches and keeps them.
#[derive(Default)]
struct Producer {
    history: Vec<Arc<Batch>>,
    /// Names with their newest `seq`, by id.
    channels: Vec<(String, u64)>,
    slots: Vec<(u32, Option<String>)>,
    seq: u64,
    next: Batch,
}

impl Producer {
    fn event(&mut self, channel: &str, key: Option<&str>, kind: Kind, data: &[u8]) {
        let known = self.channels.iter().position(|(name, _)| name == channel);
        let id = known.unwrap_or_else(|| {
            self.channels.push((channel.into(), 0));
            self.next.channels.push(channel.into());
            self.channels.len() - 1
        });
        let channel = u32::try_from(id).unwrap();
        let named = (channel, key.map(str::to_owned));
        let slot = self.slots.iter().position(|slot| *slot == named).unwrap_or_else(|| {
            self.slots.push(named);
            self.next.slots.push(NewSlot { channel, key: key.map(Arc::from) });
            self.slots.len() - 1
        });
        self.seq += 1;
        let start = u32::try_from(self.next.bytes.len()).unwrap();
        self.next.bytes.extend_from_slice(data);
        self.next.events.push(Sequenced {
            seq: self.seq,
            prev: std::mem::replace(&mut self.channels[id].1, self.seq),
            ts: (!self.seq.is_multiple_of(3)).then_some(self.seq),
            ts_in: 7 * self.seq,
            channel,
            slot: u32::try_from(slot).unwrap(),
            kind,
            data: start..u32::try_from(self.next.bytes.len()).unwrap(),
        });
    }

    fn take(&mut self) -> Arc<Batch> {
        let batch = Arc::new(std::mem::take(&mut self.next));
        self.history.push(Arc::clone(&batch));
        batch
    }

    /// A batch with an event for each choice.
    fn batch(&mut self, choices: &[(u8, u8)]) -> Arc<Batch> {
        for &(channel, what) in choices {
            let key = (what % 4 > 0).then(|| format!("k{}", what % 4));
            // Of two channels some slots are books.
            let is_book = what >= 128 && channel % 5 < 2;
            let kind = if is_book { Kind::Snapshot } else { Kind::Update };
            let data = format!("{}{}", self.seq, "x".repeat(usize::from(what)));
            let channel = format!("c{}", channel % 5);
            self.event(&channel, key.as_deref(), kind, data.as_bytes());
        }
        self.take()
    }

    /// Writes batches of some events until there are `count`.
    fn fill(&mut self, journal: &mut Journal, count: usize) {
        for number in 0..count {
            let what = u8::try_from(number * 37 % 256).unwrap();
            let batch = self.batch(&[(what % 7, what), (what % 3, what / 2), (4, what / 3)]);
            assert!(journal.append(&batch, 0) > 0);
        }
    }
}

/// A journal with so many batches of a producer.
fn filled(place: &Place, count: usize) -> (Producer, Opened) {
    let (mut producer, mut opened) = (Producer::default(), place.open(EPOCH_A));
    producer.fill(&mut opened.journal, count);
    (producer, opened)
}

/// Merges until `bytes` are left, as the worker does.
fn compact(place: &Place, bytes: u64) {
    worker::compact(&place.0.join("j"), EPOCH_A, bytes, u64::MAX, &mut || Ok(())).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<(u8, u8)>),
    Compact(u64),
    Kill,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(any::<(u8, u8)>(), 1..8).prop_map(Step::Publish),
        2 => (0..BYTES).prop_map(Step::Compact),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Kills lose nothing, merges lose nothing that counts, and the epoch stays.
    #[test]
    fn a_journal_gives_back_everything_that_counts(steps in prop::collection::vec(step(), 1..80)) {
        let place = Place::new();
        let mut producer = Producer::default();
        let mut opened = place.open(EPOCH_A);
        for step in steps.into_iter().chain([Step::Kill]) {
            match step {
                Step::Publish(choices) => {
                    opened.journal.append(&producer.batch(&choices), 0);
                }
                Step::Compact(bytes) => compact(&place, bytes),
                Step::Kill | Step::Close => {
                    if matches!(step, Step::Close) {
                        opened.journal.close();
                    } else {
                        drop(opened);
                    }
                    let is_empty = producer.history.is_empty();
                    opened = place.open(if is_empty { EPOCH_A } else { EPOCH_B });
                    let count = is_beginning(&mut opened, &producer.history);
                    prop_assert_eq!(count, producer.history.len());
                    prop_assert_eq!(&opened.epoch, EPOCH_A);
                }
            }
        }
    }
}

#[test]
fn a_journal_stays_within_its_bytes_and_the_values_of_a_restart_with_it() {
    let place = Place::new();
    let mut producer = Producer::default();
    let mut opened = place.open(EPOCH_A);
    for _ in 0..20 {
        producer.fill(&mut opened.journal, 30);
        compact(&place, BYTES);
        let files = place.files();
        let segments = files.iter().filter(|(name, _)| name.starts_with("segment-"));
        let bytes: usize = segments.map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes as u64 <= BYTES, "{bytes} bytes");
    }
    assert!(place.files().contains_key("checkpoint"));
    drop(opened);
    let mut opened = place.open(EPOCH_B);
    assert_eq!(is_beginning(&mut opened, &producer.history), producer.history.len());
    assert_eq!(opened.epoch, EPOCH_A);
}

/// Past its bound a book is dropped whole, and said to be broken until its next snapshot.
#[test]
fn a_book_that_is_too_large_is_broken_until_its_next_snapshot() {
    let place = Place::new();
    let settings = place.settings(1 << 30);
    let data = vec![b'1'; RETAINED_BOOK_BYTES_MAX / 8];
    let mut producer = Producer::default();
    // Each run is a segment of its own; those before the newest one are merged.
    let mut run = |events: &[(&str, Kind)]| {
        let mut opened = open_in_boot(&settings, BOOT, EPOCH_A).unwrap();
        for &(channel, kind) in events {
            producer.event(channel, None, kind, &data);
            assert!(opened.journal.append(&producer.take(), 0) > 0);
        }
        drop(opened);
        worker::compact(&settings.folder, EPOCH_A, 0, u64::MAX, &mut || Ok(())).unwrap();
        let mut opened = open_in_boot(&settings, BOOT, EPOCH_B).unwrap();
        assert_eq!(opened.epoch, EPOCH_A);
        let batches = read_back(&mut opened);
        let broken: Vec<u32> = batches.iter().flat_map(|b| b.books_broken.clone()).collect();
        (broken, Known::of(&batches).values.get(&1).map_or(0, Vec::len))
    };
    let (small, large) = (("small", Kind::Update), ("large", Kind::Update));
    let begin = [("small", Kind::Snapshot), ("large", Kind::Snapshot)];
    assert_eq!(run(&[&begin[..], &[large; 7]].concat()), (vec![], 8));
    assert_eq!(run(&[small]), (vec![], 8), "it just fits");
    assert_eq!(run(&[large]), (vec![], 9), "the newest segment has all of its events");
    assert_eq!(run(&[small]), (vec![1], 0));
    assert_eq!(run(&[large]), (vec![1], 1));
    assert_eq!(run(&[small]), (vec![1], 0), "updates do not mend it");
    assert_eq!(run(&[("large", Kind::Snapshot), large]), (vec![1], 2));
    assert_eq!(run(&[small]), (vec![], 2));
}

/// What a checkpoint may take of the disk is not only data.
#[test]
fn many_small_events_take_no_more_of_a_checkpoint_than_it_may_have() {
    const ROOM: u64 = 64 << 10;
    let place = Place::new();
    let settings = place.settings(1 << 30);
    let mut producer = Producer::default();
    let mut opened = open_in_boot(&settings, BOOT, EPOCH_A).unwrap();
    for number in 0..20_000 {
        let channel = format!("c{}", number % 4);
        let kind = if number < 4 { Kind::Snapshot } else { Kind::Update };
        producer.event(&channel, None, kind, b"1");
        assert!(opened.journal.append(&producer.take(), 0) > 0);
    }
    drop(opened);
    // The segment before the newest one is merged.
    let mut opened = open_in_boot(&settings, BOOT, EPOCH_B).unwrap();
    producer.event("c0", None, Kind::Snapshot, b"1");
    opened.journal.append(&producer.take(), 0);
    worker::compact(&settings.folder, EPOCH_A, 0, ROOM, &mut || Ok(())).unwrap();
    let bytes = place.files()["checkpoint"].len();
    assert!(bytes as u64 <= ROOM + 1_024, "{bytes} bytes");
}

#[test]
fn what_the_segments_rest_on_is_made_durable_with_them() {
    let place = Place::new();
    let mut opened = place.open(EPOCH_A);
    Producer::default().fill(&mut opened.journal, 3);
    let folder = place.0.join("j");
    worker::sync_segments(&folder, 0).unwrap();
    // Nobody can open it.
    std::os::unix::fs::symlink("checkpoint", folder::checkpoint(&folder)).unwrap();
    worker::sync_segments(&folder, 0).unwrap_err();
}
