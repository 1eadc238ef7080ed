//! Slow clients cost nothing and are never lied to: real sockets, small enough for every change.
//!
//! Goal: of 120 clients 36 stop reading and 12 read slowly while a capture goes through a log that
//! is overwritten several times; the healthy ones miss nothing, what each slow one got and was told
//! adds up, and neither the server nor the kernel holds more than was configured. Method: one
//! client of everything is compared with the capture and is the measure of all others; at the end
//! everybody reads on until a heartbeat says that nothing is left. `cargo bench --bench slow` is
//! the same with a thousand.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use fanfare::limits::{LOG_BYTES_MIN, RETAINED_BOOK_BYTES_MAX};

use scenario::account::Ask;
use scenario::crowd::Pace;
use scenario::{Count, Memory, Stage};

#[path = "end_to_end/day.rs"]
#[expect(dead_code, reason = "the test of the whole capture uses the rest")]
mod day;
#[path = "frames/mod.rs"]
mod frames;
#[path = "slow_clients/mod.rs"]
#[expect(dead_code, reason = "the benchmark uses the rest")]
mod scenario;
#[path = "end_to_end/support.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod support;

const COUNT: Count = Count { healthy: 72, stalled: 36, slow: 12 };
const MEMORY: Memory = Memory { log_bytes: LOG_BYTES_MIN, retained_bytes: 64 << 20 };

/// Reads too slowly for what it asks for, and fast enough to empty the kernel's buffers while the
/// server waits for its close to be answered.
const TOO_SLOW: Pace = Pace::Slowly(100_000);

#[test]
fn healthy_clients_miss_nothing_and_the_accounts_of_slow_ones_add_up_in_bounded_memory() {
    let mut stage = Stage::new(&MEMORY.flags());
    stage.join_healthy(COUNT.healthy);
    stage.join_slow(COUNT);
    let [_, _, mixed] = stage.day.groups;
    for policy in ["close", "unsubscribe"] {
        stage.join(Ask { max_age_ms: Some(1_000), ..Ask::new(mixed, policy) }, TOO_SLOW);
    }
    let (mut resident, mut tcp) = (0, 0);
    stage.play(Duration::from_secs(8), |sample, _| {
        resident = resident.max(sample.resident);
        tcp = tcp.max(sample.tcp);
    });
    stage.drain(Duration::from_secs(20));

    let (count, healthy, wrong) = stage.tally(|_, healthy| healthy);
    assert_eq!((count, wrong, healthy.missed), (COUNT.healthy, Vec::new(), 0));
    let (count, slow, wrong) = stage.tally(|_, healthy| !healthy);
    assert_eq!((count, wrong), (COUNT.stalled + COUNT.slow + 2, Vec::new()));
    println!("healthy: {healthy:?}\nslow: {slow:?}");
    assert!(slow.missed > 0 && slow.superseded > 0, "they were slow");
    for member in &stage.crowd.members {
        let account = &member.account;
        let lost_a_book = account.may_lose_a_book(RETAINED_BOOK_BYTES_MAX, &stage.crowd.truth);
        let ask = &account.ask;
        match ask.policy {
            "close" => assert_eq!(account.closed, Some(4100), "{ask:?}"),
            _ => assert!(account.closed.is_none() || lost_a_book, "{ask:?}"),
        }
        assert_eq!(account.unsubscribed(), ask.policy == "unsubscribe", "{ask:?}");
    }
    let resident_max =
        MEMORY.resident_max(stage.resident_idle, COUNT, stage.crowd.truth.frame_bytes_max);
    let tcp_max = stage.tcp_idle + COUNT.tcp_max();
    println!("resident {resident} of {resident_max} bytes, TCP buffers {tcp} of {tcp_max}");
    assert!(resident <= resident_max, "{resident} of {resident_max} resident bytes");
    assert!(tcp <= tcp_max, "{tcp} of {tcp_max} bytes of TCP buffers");
}
