//! The properties of the fuzz targets, over their seeds and over random bytes, without a fuzzer.
//!
//! A counter-example that `cargo fuzz` finds becomes a file in `fuzz/seeds/` and so a test here.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[path = "../fuzz/src/lib.rs"]
pub mod properties;

/// Panics when its input is a counter-example.
type Property = fn(&[u8]);

const PROPERTIES: [(&str, Property); 10] = [
    ("ws_reader", properties::ws_reader),
    ("inflate", properties::inflate),
    ("extensions", properties::extensions),
    ("upgrade", properties::upgrade),
    ("binary", properties::binary),
    ("command", properties::command),
    ("pattern", properties::pattern),
    ("client_response", properties::client_response),
    ("journal_record", properties::journal_record),
    ("tls_session", properties::tls_session),
];

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let entries = fs::read_dir(&folder).expect("every target has a folder of seeds");
    let seeds: Vec<_> = entries
        .map(|entry| fs::read(entry.expect("a folder can be listed").path()).expect("readable"))
        .collect();
    assert!(!seeds.is_empty(), "{} is empty", folder.display());
    seeds
}

#[test]
fn every_seed_and_every_beginning_of_it_keeps_its_property() {
    for (name, property) in PROPERTIES {
        for seed in seeds(name) {
            for end in 0..=seed.len() {
                property(&seed[..end]);
            }
        }
    }
}

proptest! {
    #[test]
    fn seeds_with_bytes_changed_and_random_bytes_keep_every_property(
        choice: prop::sample::Index,
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
        random: Vec<u8>,
    ) {
        for (name, property) in PROPERTIES {
            let mut bytes = choice.get(&seeds(name)).clone();
            for (at, byte) in &changes {
                *at.get_mut(&mut bytes) = *byte;
            }
            property(&bytes);
            property(&random);
        }
    }
}
