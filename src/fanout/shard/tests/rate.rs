//! The rate of a client's messages, at a time that the test sets.

use serde_json::{Value, json};

use super::super::*;
use super::recovery::Play;
use super::settings;
use crate::fanout::Now;
use crate::protocol::ws::frame::{Opcode, write_masked};

/// How many times a request is refused that is sent again whenever the refusal before says so, by a
/// client that has just spent its burst.
fn refusals(request: &Value) -> usize {
    let settings = ShardSettings { command_rate: 20, command_burst: 10, ..settings() };
    let (mut play, mut now) = (Play::with(settings), Now::default());
    let mut ask = |request: &Value, now: Now| {
        let mut frame = Vec::new();
        write_masked(&mut frame, Opcode::Text, request.to_string().as_bytes(), [1, 2, 3, 4]);
        play.shard.handle_bytes(play.id, &mut frame, now);
        play.read().remove(0)
    };
    for _ in 0..10 {
        assert_eq!(ask(&json!({"method": "ping"}), now)["success"], true);
    }
    for refused in 0..10 {
        let reply = ask(request, now);
        if reply["success"] == true {
            return refused;
        }
        let message = reply["error"]["message"].as_str().unwrap();
        let wait = message.split_once("try again in ").unwrap().1.strip_suffix(" ms").unwrap();
        now.monotonic_ns += wait.parse::<u64>().unwrap() * 1_000_000;
    }
    panic!("never taken: {request}");
}

#[test]
fn what_is_refused_for_its_rate_is_taken_when_the_refusal_says() {
    assert_eq!(refusals(&json!({"method": "ping"})), 1);
    // Of what counts more than once, the first refusal does not know yet.
    let channels: Vec<_> = (0..250).map(|number| format!("c.{number}")).collect();
    let params = json!({ "channels": channels });
    assert_eq!(refusals(&json!({"method": "subscribe", "params": params})), 2);
}
