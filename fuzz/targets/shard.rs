//! Whatever clients, sockets and time do, in whatever order: each client gets everything, or a
//! receipt for it. The body is the simulation's, decided by bytes.

#![no_main]
#![expect(dead_code, reason = "the simulation uses more of itself than a target does")]

#[path = "../../tests/frames/mod.rs"]
mod frames;
#[path = "../../tests/simulation/model/mod.rs"]
mod model;
#[path = "../../tests/random/mod.rs"]
mod random;
#[path = "../../tests/simulation/totals.rs"]
mod totals;
#[path = "../../tests/simulation/world/mod.rs"]
mod world;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    world::World::of_bytes(data).play();
});
