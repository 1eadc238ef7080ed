//! What a receipt names when a subscription ends for a client that does not read.

use serde_json::json;

use super::recovery::Play;
use super::{pass, settings};
use crate::fanout::sequencer::Sequencer;
use crate::limits::RECEIPT_CHANNELS_MAX;
use crate::protocol::event::Kind;

/// The channels of the one receipt that comes when, of a set, what is heaviest is ended: `heavy`
/// channels of a pattern, after one event on each of the `light` ones.
fn named(set: &[&str], light: &[String], heavy: &[String]) -> Vec<serde_json::Value> {
    let mut play = Play::with(settings());
    play.sequencer = Sequencer::new(1_000, 1_000);
    let params = json!({
        "channels": set, "policy": "unsubscribe", "max_lag_bytes": 30_000, "snapshot": false
    });
    play.ask("subscribe", params);
    play.publish(&light[0], None, Kind::Update, "0");
    pass(&mut play.shard, 0);
    for channel in light {
        play.publish(channel, None, Kind::Update, "1");
    }
    let long = format!("\"{}\"", "x".repeat(150));
    for channel in heavy {
        play.publish(channel, None, Kind::Update, &long);
    }
    play.shard.handle_writable(play.id);
    let messages = play.read();
    let gaps: Vec<_> = messages.iter().filter(|message| message["type"] == "gap").collect();
    let notices = messages.iter().filter(|message| message["type"] == "unsubscribed");
    assert_eq!((gaps.len(), notices.count()), (1, 1), "{messages:#?}");
    gaps[0]["channels"].as_array().unwrap().clone()
}

fn many(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}.{number}")).collect()
}

#[test]
fn of_what_ends_with_many_channels_the_receipt_names_the_pattern() {
    let count = 2 * RECEIPT_CHANNELS_MAX;
    let one = ["x".to_owned()];
    assert_eq!(named(&[">"], &one, &many("t", count)), [json!(">")]);
    // Those that are left have lost nothing, and that they are fewer changes nothing.
    assert_eq!(named(&["t.>", "x"], &one, &many("t", count)), [json!("t.>")]);
    let light = many("a", RECEIPT_CHANNELS_MAX - 28);
    assert_eq!(named(&["a.*", "b.>"], &light, &many("b", count)), [json!("b.>")]);
    // Of few channels each is named.
    let same = vec!["b.0".to_owned(); count];
    assert_eq!(named(&["a.*", "b.>"], &many("a", 1), &same), [json!("b.0")]);
}
