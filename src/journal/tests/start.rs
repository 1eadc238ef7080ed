//! Whose epoch goes on, and what a start refuses.

use std::io;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::journal::error::cure;

fn message(settings: &JournalSettings) -> String {
    open_in_boot(settings, BOOT, EPOCH_A).unwrap_err().to_string()
}

#[test]
fn the_epoch_goes_on_in_the_same_boot_or_after_an_orderly_end() {
    for (is_closed, boot, goes_on) in [
        (false, BOOT, true),
        (true, BOOT, true),
        (true, "another boot", true),
        (false, "another boot", false),
        (false, "", false),
    ] {
        let place = Place::new();
        let (mut producer, opened) = filled(&place, 5);
        if is_closed {
            opened.journal.close();
        } else {
            drop(opened);
        }
        let mut opened = open_in_boot(&place.settings(BYTES), boot, EPOCH_B).unwrap();
        let expected = if goes_on { EPOCH_A } else { EPOCH_B };
        assert_eq!(opened.epoch, expected, "{is_closed} {boot:?}");
        // The numbers go on either way.
        assert_eq!(is_beginning(&mut opened, &producer.history), 5);
        // Closed holds until something is written.
        producer.fill(&mut opened.journal, 1);
        drop(opened);
        let another =
            open_in_boot(&place.settings(BYTES), "a third boot", "01JCCCCCCCCCCCCCCCCCCCCCCC");
        assert_eq!(another.unwrap().epoch, "01JCCCCCCCCCCCCCCCCCCCCCCC");
    }
}

#[test]
fn a_start_that_fails_takes_nothing_from_an_orderly_end() {
    let place = Place::new();
    let (producer, opened) = filled(&place, 5);
    opened.journal.close();
    for boot in ["a second boot", "a third boot"] {
        let mut opened = open_in_boot(&place.settings(BYTES), boot, EPOCH_B).unwrap();
        assert_eq!(opened.epoch, EPOCH_A, "{boot}");
        assert_eq!(is_beginning(&mut opened, &producer.history), 5);
    }
}

#[test]
fn one_process_at_a_time_has_a_journal_and_the_other_is_told_which() {
    let place = Place::new();
    let held = place.open(EPOCH_A);
    let text = message(&place.settings(BYTES));
    let who =
        format!("{}: process {} writes to it;", place.0.join("j").display(), std::process::id());
    assert!(text.contains(&who) && text.contains("take_over"), "{text}");
    drop(held);
    place.open(EPOCH_A);
}

#[test]
fn a_folder_that_cannot_be_used_is_refused_with_the_cure() {
    let place = Place::new();
    let at = |name: &str| JournalSettings { folder: place.0.join(name), ..place.settings(BYTES) };
    let text = message(&at("absent/j"));
    let cured = format!("mkdir -p {}", place.0.join("absent").display());
    assert!(text.ends_with(&cured), "{text}");
    fs::write(place.0.join("file"), "x").unwrap();
    let text = message(&at("file"));
    assert!(text.contains("file: it is no folder"), "{text}");
    for (kind, word) in [
        (io::ErrorKind::PermissionDenied, "chown"),
        (io::ErrorKind::StorageFull, "df -h"),
        (io::ErrorKind::ReadOnlyFilesystem, "mount"),
    ] {
        assert!(cure(&place.0, &kind.into()).contains(word), "{kind}");
    }
}

#[test]
fn what_a_later_version_has_written_is_left_alone() {
    let place = Place::new();
    let mut opened = place.open(EPOCH_A);
    Producer::default().fill(&mut opened.journal, 3);
    drop(opened);
    let mut files = place.files();
    let (_, bytes) = files.iter_mut().find(|(name, _)| name.starts_with("segment-")).unwrap();
    bytes[8] = 2;
    let end = segment::HEADER_BYTES - 4;
    let checksum = crc32fast::hash(&bytes[..end]).to_le_bytes();
    bytes[end..end + 4].copy_from_slice(&checksum);
    place.lay_out(&files);
    let text = message(&place.settings(BYTES));
    assert!(text.contains("written in format 2, this program reads format 1"), "{text}");
    let mut after = place.files();
    after.remove("epoch.new");
    assert_eq!(after, files);
}

#[test]
fn room_that_a_killed_process_had_reserved_is_given_back() {
    let place = Place::new();
    let settings = place.settings(1 << 30);
    let mut producer = Producer::default();
    let blocks = |number: usize| {
        let segments = folder::segments(&settings.folder).unwrap();
        fs::metadata(&segments[number].path).unwrap().blocks()
    };
    let mut opened = open_in_boot(&settings, BOOT, EPOCH_A).unwrap();
    producer.fill(&mut opened.journal, 3);
    let reserved = blocks(0);
    drop(opened);
    let _opened = open_in_boot(&settings, BOOT, EPOCH_B).unwrap();
    assert!(blocks(0) <= 16, "{} of {reserved} blocks", blocks(0));
    assert_eq!(blocks(1), reserved);
}
