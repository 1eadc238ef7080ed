//! A disk that takes nothing more: the feed goes on, and no number comes twice under one epoch.

use super::*;

const RETRY_NS: u64 = JOURNAL_RETRY_MS * 1_000_000;

#[test]
fn a_write_that_fails_suspends_the_journal_and_ends_the_epoch_for_the_next_start() {
    let place = Place::new();
    let (mut producer, mut opened) = filled(&place, 10);
    let written = producer.history.clone();
    opened.journal.fill_disk();
    for _ in 0..3 {
        let batch = producer.batch(&[(1, 2)]);
        assert_eq!(opened.journal.append(&batch, 0), 0);
        assert!(opened.journal.is_suspended());
        assert!(place.files().contains_key("epoch.ended") && !place.files().contains_key("epoch"));
    }
    // An orderly end changes nothing about it.
    opened.journal.close();
    let mut opened = place.open(EPOCH_B);
    assert_eq!(opened.epoch, EPOCH_B);
    assert_eq!(is_beginning(&mut opened, &written), written.len());
    assert!(!opened.journal.is_suspended() && !place.files().contains_key("epoch.ended"));
}

#[test]
fn an_epoch_that_could_not_be_marked_as_ended_is_marked_at_the_end() {
    let place = Place::new();
    let (mut producer, mut opened) = filled(&place, 10);
    let in_the_way = place.0.join("j/epoch.ended");
    fs::create_dir_all(in_the_way.join("x")).unwrap();
    opened.journal.fill_disk();
    assert_eq!(opened.journal.append(&producer.batch(&[(1, 2)]), 0), 0);
    fs::remove_dir_all(&in_the_way).unwrap();
    opened.journal.close();
    assert_eq!(place.open(EPOCH_B).epoch, EPOCH_B, "what nobody has written was seen");
}

#[test]
fn an_epoch_that_has_ended_before_anything_was_written_does_not_come_back() {
    let place = Place::new();
    let (mut producer, opened) = filled(&place, 10);
    opened.journal.close();
    let mut opened = place.open(EPOCH_B);
    assert_eq!(opened.epoch, EPOCH_A);
    opened.journal.fail_worker(std::io::ErrorKind::StorageFull.into());
    for now_ns in [0, RETRY_NS, RETRY_NS] {
        opened.journal.append(&producer.batch(&[(1, 2)]), now_ns);
    }
    assert!(!opened.journal.is_suspended());
    drop(opened);
    assert_eq!(place.open(EPOCH_B).epoch, EPOCH_B, "what came before is missing");
}

/// The journal that begins anew has every name and number, so that ids and links go on.
#[test]
fn a_journal_that_is_written_again_has_names_and_numbers_and_what_came_since() {
    for is_closed in [true, false] {
        let place = Place::new();
        let (mut producer, mut opened) = filled(&place, 40);
        opened.journal.fill_disk();
        let mut append = |journal: &mut Journal, choice, now_ns| {
            journal.append(&producer.batch(&[choice]), now_ns)
        };
        assert_eq!(append(&mut opened.journal, (1, 2), 0), 0);
        assert_eq!(append(&mut opened.journal, (7, 1), RETRY_NS - 1), 0);
        // The worker as well, at files that are about to go.
        opened.journal.fail_worker(std::io::ErrorKind::StorageFull.into());
        assert!(opened.journal.is_suspended());
        // The try itself writes no events, only what they left behind.
        assert_eq!(append(&mut opened.journal, (3, 1), RETRY_NS), 0);
        assert!(!opened.journal.is_suspended());
        assert!(append(&mut opened.journal, (1, 200), RETRY_NS) > 0);
        assert!(append(&mut opened.journal, (3, 3), RETRY_NS) > 0);
        if is_closed {
            opened.journal.close();
        } else {
            drop(opened);
        }
        let mut opened = place.open(EPOCH_B);
        assert_eq!(opened.epoch, EPOCH_B, "what came before is missing");
        let batches = read_back(&mut opened);
        let seqs: Vec<_> = batches.iter().flat_map(|b| &b.events).map(|event| event.seq).collect();
        let last = producer.seq;
        assert_eq!(seqs, [last - 1, last]);
        let mut tables = Tables::default();
        producer.history.iter().for_each(|batch| tables.handle_batch(batch).unwrap());
        assert_eq!(opened.tables.channels, tables.channels);
        assert_eq!(opened.tables.seq_last, tables.seq_last);
        // Books are broken but for the one with a snapshot since.
        let since = batches[batches.len() - 2].events[0].slot;
        let books: Vec<u32> = (0..)
            .zip(&tables.slots)
            .filter(|(_, slot)| slot.shape == tables::Shape::Book)
            .map(|(id, _)| id)
            .collect();
        assert!(books.len() > 1 && books.contains(&since), "{books:?} {since}");
        let broken: Vec<u32> = batches.iter().flat_map(|b| b.books_broken.clone()).collect();
        let unborn = |id: &u32| {
            producer.history[..40]
                .iter()
                .flat_map(|b| &b.events)
                .any(|event| event.slot == *id && event.kind == Kind::Snapshot)
        };
        assert_eq!(broken, books.iter().copied().filter(unborn).collect::<Vec<_>>());
        let left: Vec<u32> = books.iter().copied().filter(|&id| id != since).collect();
        assert_eq!(opened.tables.broken().collect::<Vec<_>>(), left);
    }
}

/// The worker's errors count as well: what it cannot merge or make durable is no journal.
#[test]
fn a_segment_that_cannot_be_merged_begins_the_journal_anew() {
    let place = Place::new();
    let (mut producer, mut opened) = filled(&place, 40);
    let folder = place.0.join("j");
    let first = folder::segments(&folder).unwrap()[0].path.clone();
    let mut bytes = fs::read(&first).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&first, bytes).unwrap();
    let error = worker::compact(&folder, EPOCH_A, 0, u64::MAX, &mut || Ok(())).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    opened.journal.fail_worker(error);
    assert_eq!(opened.journal.append(&producer.batch(&[(1, 1)]), 0), 0);
    assert!(opened.journal.is_suspended());
    assert_eq!(opened.journal.append(&producer.batch(&[(1, 1)]), RETRY_NS), 0);
    assert!(opened.journal.append(&producer.batch(&[(1, 1)]), RETRY_NS) > 0);
    drop(opened);
    let mut opened = place.open(EPOCH_B);
    let seqs: Vec<_> =
        read_back(&mut opened).iter().flat_map(|b| b.events.clone()).map(|e| e.seq).collect();
    assert_eq!((opened.epoch.as_str(), seqs), (EPOCH_B, vec![producer.seq]));
}
