//! The seeded simulation of one shard: everything between the ring and the sockets, with neither.
//!
//! Goal: whatever sockets and clients do, each client gets every event of its subscriptions once,
//! in order and byte for byte, or something newer where its terms allow that, or a loss receipt
//! that says exactly how much is missing. Method:
//!
//! 1. a seed decides everything: events, rules, clients, terms, what sockets take, stalls, resets;
//! 2. the real sequencer and the real shard are driven as the shell drives them, on a virtual
//!    clock;
//! 3. each client parses the bytes it got and compares them with the list of events ([`model`]),
//!    which shares no code with the implementation;
//! 4. at the end the healthy clients have everything, and nothing is left open.
//!
//! A second test has bytes decide instead, one operation after the other; a fuzzer makes them up as
//! well (`fuzz/targets/shard.rs`).
//!
//! `SEED=n` runs one seed and prints what happens; `SEEDS=n` sets how many run (20,000 by default).

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

#[path = "../frames/mod.rs"]
mod frames;
mod model;
#[path = "../random/mod.rs"]
mod random;
mod totals;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use model::Mischief;
use totals::Totals;
use world::World;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, found {text:?}")))
}

#[test]
fn every_client_gets_everything_or_a_receipt_for_it() {
    if let Some(seed) = number_from("SEED") {
        World::of_seed(seed, true, None).run();
        return;
    }
    let seeds = number_from("SEEDS").unwrap_or(20_000);
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut own = Totals::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let ran =
                        catch_unwind(AssertUnwindSafe(|| World::of_seed(seed, false, None).run()));
                    let Ok(counts) = ran else { panic!("failed; replay it with SEED={seed}") };
                    own.add(counts);
                }
                totals.lock().unwrap().add(own);
            });
        }
    });
    totals.into_inner().unwrap().check(seeds);
}

/// Runs seeds until one fails.
fn run_with(mischief: Mischief) {
    for seed in 0..50 {
        World::of_seed(seed, false, Some(mischief)).run();
    }
}

/// The body of the fuzz target `shard`, over its seeds with every beginning of them, and over
/// random bytes.
#[test]
fn every_client_gets_everything_whatever_bytes_say_in_what_order() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/shard");
    let mut inputs = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        inputs.extend((0..=bytes.len()).map(|end| bytes[..end].to_vec()));
    }
    assert!(!inputs.is_empty(), "the target has seeds");
    let mut state = 1;
    for len in 0..number_from("SEEDS").unwrap_or(20_000) / 40 {
        let words = (0..len % 97).map(|_| random::next(&mut state).to_le_bytes());
        inputs.push(words.flatten().collect());
    }
    for bytes in inputs {
        let ran = catch_unwind(AssertUnwindSafe(|| World::of_bytes(&bytes).play()));
        assert!(ran.is_ok(), "failed; as a file in {folder} these bytes are a test: {bytes:02x?}");
    }
}

#[test]
#[should_panic(expected = "was never sent")]
fn the_model_notices_a_frame_that_is_lost() {
    run_with(Mischief::LoseData);
}

#[test]
#[should_panic(expected = "no repeats")]
fn the_model_notices_a_frame_that_comes_twice() {
    run_with(Mischief::RepeatData);
}

#[test]
#[should_panic(expected = "was never sent")]
fn the_model_notices_a_receipt_that_is_lost() {
    run_with(Mischief::LoseReceipts);
}

#[test]
#[should_panic(expected = "was never sent")]
fn the_model_notices_a_value_that_gives_way_when_its_client_has_caught_up() {
    run_with(Mischief::Conflate);
}
