//! Files that end anywhere, or are not what was written; and merges that are broken off.

use super::*;

/// A journal of several segments and no checkpoint, and what is in it.
fn written(place: &Place) -> (Producer, BTreeMap<String, Vec<u8>>) {
    let (producer, opened) = filled(place, 40);
    drop(opened);
    let files = place.files();
    assert!(files.len() > 4, "{:?}", files.keys());
    (producer, files)
}

fn newest(files: &BTreeMap<String, Vec<u8>>) -> String {
    files.keys().rfind(|name| name.starts_with("segment-")).unwrap().clone()
}

/// A process that is killed in a write leaves a beginning of it; nobody has seen that batch.
#[test]
fn a_newest_segment_that_ends_anywhere_gives_back_its_whole_batches_in_the_same_epoch() {
    let place = Place::new();
    let (producer, mut files) = written(&place);
    let name = newest(&files);
    let bytes = files[&name].clone();
    let mut count_last = 0;
    for end in 0..=bytes.len() {
        files.insert(name.clone(), bytes[..end].to_vec());
        place.lay_out(&files);
        let mut opened = place.open(EPOCH_B);
        let count = is_beginning(&mut opened, &producer.history);
        assert_eq!(opened.epoch, EPOCH_A, "cut at {end}");
        assert!(count >= count_last, "cut at {end}");
        count_last = count;
        drop(opened);
        // What was mended stays so; a look now and then is enough, because each waits for the disk.
        if end % 16 == 0 {
            let mut again = place.open(EPOCH_B);
            assert_eq!(is_beginning(&mut again, &producer.history), count);
            assert_eq!(again.epoch, EPOCH_A);
        }
    }
    assert_eq!(count_last, producer.history.len());
}

/// What clients may have seen is lost: its numbers must not come again under the same epoch.
#[test]
fn a_changed_byte_anywhere_is_the_end_of_the_epoch_and_what_is_before_it_is_kept() {
    let place = Place::new();
    let (producer, files) = written(&place);
    let all = producer.history.len();
    let mut fewest = all;
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("segment-")) {
        for at in (0..bytes.len()).step_by(101) {
            let mut files = files.clone();
            files.get_mut(name).unwrap()[at] ^= 0x10;
            place.lay_out(&files);
            let opened = open_in_boot(&place.settings(BYTES), BOOT, EPOCH_B);
            let mut opened = opened.unwrap_or_else(|error| panic!("{name} at {at}: {error}"));
            let count = is_beginning(&mut opened, &producer.history);
            assert!(count < all, "{name} at {at}: it went unnoticed");
            assert_eq!(opened.epoch, EPOCH_B, "{name} at {at}");
            fewest = fewest.min(count);
            drop(opened);
            // The new epoch goes on from what was kept.
            let mut again = place.open(EPOCH_A);
            assert_eq!(is_beginning(&mut again, &producer.history), count);
            assert_eq!(again.epoch, if count > 0 { EPOCH_B } else { EPOCH_A });
            // From some byte before the changed one on, it is there to be looked at.
            let aside = &place.files()[&format!("{name}.damaged")];
            assert!(files[name].ends_with(aside) && aside.len() >= files[name].len() - at);
        }
    }
    assert_eq!(fewest, 0, "the first byte counts as well");
}

#[test]
fn a_segment_that_is_missing_is_noticed() {
    let place = Place::new();
    let (producer, files) = written(&place);
    let segments: Vec<_> = files.keys().filter(|name| name.starts_with("segment-")).collect();
    for missing in &segments[..segments.len() - 1] {
        let mut files = files.clone();
        files.remove(*missing);
        place.lay_out(&files);
        let mut opened = place.open(EPOCH_B);
        assert!(is_beginning(&mut opened, &producer.history) < producer.history.len());
        assert_eq!(opened.epoch, EPOCH_B, "without {missing}");
    }
}

/// A damaged checkpoint leaves nothing to go on from: ids of segments mean nothing without it.
#[test]
fn a_damaged_checkpoint_is_set_aside_with_all_that_rests_on_it() {
    let place = Place::new();
    let (_, _) = written(&place);
    compact(&place, 2_048);
    let files = place.files();
    let length = files["checkpoint"].len();
    for at in (0..length).step_by(11) {
        for is_cut in [false, true] {
            let mut files = files.clone();
            let bytes = files.get_mut("checkpoint").unwrap();
            if is_cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1;
            }
            place.lay_out(&files);
            let mut opened = place.open(EPOCH_B);
            assert_eq!((read_back(&mut opened).len(), opened.tables.seq_last), (0, 0));
            assert_eq!(opened.epoch, EPOCH_B, "{at} {is_cut}");
            assert!(place.files().contains_key("checkpoint.damaged"));
        }
    }
}

/// A merge may take long: between two records it can do something else, or end.
#[test]
fn a_merge_that_ends_between_two_records_changes_nothing() {
    let place = Place::new();
    let (mut producer, _) = written(&place);
    compact(&place, 6_144);
    let mut opened = place.open(EPOCH_B);
    producer.fill(&mut opened.journal, 20);
    drop(opened);
    let before = place.files();
    let folder = place.0.join("j");
    let mut steps = 0;
    loop {
        let mut left = steps;
        let mut step = || match left {
            0 => Err(std::io::ErrorKind::Interrupted.into()),
            _ => {
                left -= 1;
                Ok(())
            }
        };
        if worker::compact(&folder, EPOCH_A, 2_048, u64::MAX, &mut step).is_ok() {
            break;
        }
        assert_eq!(place.files(), before, "after {steps} steps");
        steps += 1;
    }
    // Those of the checkpoint that is read, of the segments, and of the one that is written.
    assert!(steps > 20, "{steps}");
    let mut opened = place.open(EPOCH_B);
    assert_eq!(is_beginning(&mut opened, &producer.history), producer.history.len());
}

/// Every state of the folder that a merge passes through.
#[test]
fn a_merge_that_is_broken_off_anywhere_loses_nothing() {
    let place = Place::new();
    let (mut producer, _) = written(&place);
    // Twice: the first merge has no checkpoint before it, the second one has.
    for _ in 0..2 {
        let before = place.files();
        compact(&place, 2_048);
        let after = place.files();
        let gone: Vec<_> = before.keys().filter(|name| !after.contains_key(*name)).collect();
        assert!(gone.len() > 1, "{gone:?}");
        let mut states = Vec::new();
        let checkpoint = &after["checkpoint"];
        for end in (0..=checkpoint.len()).step_by(97).chain([checkpoint.len()]) {
            let mut files = before.clone();
            files.insert("checkpoint.new".into(), checkpoint[..end].to_vec());
            states.push(files);
        }
        for removed in 0..=gone.len() {
            let mut files = before.clone();
            files.insert("checkpoint".into(), checkpoint.clone());
            gone[..removed].iter().for_each(|name| drop(files.remove(*name)));
            states.push(files);
        }
        for files in states {
            place.lay_out(&files);
            let mut opened = place.open(EPOCH_B);
            let count = is_beginning(&mut opened, &producer.history);
            assert_eq!(count, producer.history.len());
            assert_eq!(opened.epoch, EPOCH_A);
            assert!(!place.files().contains_key("checkpoint.new"));
        }
        place.lay_out(&after);
        let mut opened = place.open(EPOCH_B);
        assert_eq!(is_beginning(&mut opened, &producer.history), producer.history.len());
        producer.fill(&mut opened.journal, 40);
    }
}
