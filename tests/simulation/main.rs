//! The seeded simulation of one shard: everything between the ring and the sockets, with neither.
//!
//! Goal: whatever sockets and clients do, each client gets every event of its subscriptions once,
//! in order and byte for byte, or a loss receipt that says exactly what is missing. Method:
//!
//! 1. a seed decides everything: events, clients, commands, what sockets take, stalls, resets;
//! 2. the real sequencer and the real shard are driven as the shell drives them, on a virtual
//!    clock;
//! 3. each client parses the bytes it got and compares them with the list of events ([`model`]),
//!    which shares no code with the implementation;
//! 4. at the end the healthy clients have everything, and nothing is left open.
//!
//! `SEED=n` runs one seed and prints what happens; `SEEDS=n` sets how many run (10,000 by default).

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod model;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, found {text:?}")))
}

#[test]
fn every_client_gets_everything_or_a_receipt_for_it() {
    if let Some(seed) = number_from("SEED") {
        World::new(seed, true).run();
        return;
    }
    let seeds = number_from("SEEDS").unwrap_or(10_000);
    let next = AtomicU64::new(0);
    let totals = [const { AtomicU64::new(0) }; 4];
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let ran = catch_unwind(AssertUnwindSafe(|| World::new(seed, false).run()));
                    let Ok(counts) = ran else { panic!("failed; replay it with SEED={seed}") };
                    for (total, count) in totals.iter().zip(counts) {
                        total.fetch_add(count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let [delivered, missed, receipts, partial] = totals.map(AtomicU64::into_inner);
    println!(
        "{seeds} seeds: {delivered} events delivered, {missed} covered by {receipts} receipts, \
         {partial} partial sends"
    );
    assert!(delivered > 0 && receipts > seeds / 100 && partial > seeds / 10, "the seeds do little");
}

#[test]
#[should_panic(expected = "was never sent")]
fn the_model_notices_a_frame_that_is_lost() {
    let mut world = World::new(1, false);
    world.lose_a_frame();
    world.run();
}
