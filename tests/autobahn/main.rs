//! The cases of the Autobahn|Testsuite in words of our own, against the echo endpoint over a real
//! socket: RFC 6455 and RFC 7692, strictly.
//!
//! `scripts/autobahn` runs the suite itself, where Python 2.7 is to be had. A case (`cases/`) is
//! data: what is sent, and what must come back; numbers are the suite's. `driver.rs` sends each in
//! several cuts, which must not matter. Sizes beyond the suite's are in `sizes.rs`. Not here: what
//! the server does with commands (`tests/end_to_end`).

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod cases;
mod driver;
mod echo;
#[path = "../random/mod.rs"]
mod random;
mod sizes;
mod talk;

use cases::Case;
use driver::Cut;
use echo::Echo;

/// Runs the cases of a part of the suite.
fn run(cases: Vec<Case>) {
    let echo = Echo::start();
    let mut names = Vec::new();
    for case in &cases {
        for cut in Cut::ALL.into_iter().filter(|cut| cut.is_for(case)) {
            driver::run(&echo, case, cut).unwrap();
        }
        names.push(&case.name);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "every case has its own number");
}

#[test]
fn part_1_framing() {
    run(cases::framing::cases());
}

#[test]
fn part_2_pings_and_pongs() {
    run(cases::pings::cases());
}

#[test]
fn part_3_reserved_bits() {
    run(cases::reserved::bits());
}

#[test]
fn part_4_opcodes() {
    run(cases::reserved::opcodes());
}

#[test]
fn part_5_fragmentation() {
    run(cases::fragments::cases());
}

#[test]
fn part_6_utf_8() {
    run(cases::utf8::cases());
}

#[test]
fn part_7_closing() {
    run(cases::closing::cases());
}

#[test]
fn part_9_sizes() {
    run(cases::limits::cases());
}

#[test]
fn part_10_automatic_fragmentation() {
    run(cases::limits::automatic());
}

#[test]
fn parts_12_and_13_compression() {
    let echo = Echo::start();
    for offer in cases::compression::OFFERS {
        cases::compression::run(&echo, offer);
    }
}

#[test]
fn a_case_that_is_not_kept_to_is_noticed() {
    let echo = Echo::start();
    for wrong in [
        Case::new("other text").text(b"Hello").hears_text(b"hello"),
        Case::new("no failure").frame(0x83, b"").closes(),
        Case::new("more than is said").ping(b"a").ping(b"b").hears_pong(b"a"),
    ] {
        assert!(driver::run(&echo, &wrong, Cut::Whole).is_err(), "{}", wrong.name);
    }
}
