//! The texts of replies and notices, each beside the JSON that it must be.

use serde_json::{Value, json};

use super::super::policy::Policy;
use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = Vec::new();
    write(&mut out);
    serde_json::from_slice(&out).unwrap()
}

const GOOD: Effective =
    Effective { terms: ALL, seq: 1041, matched: 2, resumed: None, except: Vec::new(), ids: None };
const ALL: Terms =
    Terms { policy: Policy::All, max_age_ms: None, max_lag_bytes: None, interval: None };

#[test]
fn control_messages_have_the_shape_of_the_protocol() {
    let greeting = Welcome {
        node: "a \"quoted\" node",
        epoch: "01J",
        seq: 1040,
        heartbeat_ms: 5_000,
        message_bytes_max: 65_536,
        subscriptions_max: 1_024,
        command_rate: 20,
        command_burst: 100,
        ping_ms: 20_000,
        pong_ms: 10_000,
        idle_ms: 0,
        auth_ms: Some(5_000),
        expires_ns: Some(7),
    };
    assert_eq!(
        written(|out| welcome(out, &greeting)),
        json!({"channel":"control","type":"welcome","v":1,"node":"a \"quoted\" node",
            "epoch":"01J","seq":1040,"heartbeat_ms":5000,"auth_ms":5000,"expires":7,
            "limits":{"message_bytes_max":65536,"subscriptions_max":1024,
                "command_rate":20,"command_burst":100,
                "ping_ms":20000,"pong_ms":10000,"idle_ms":0}})
    );
    assert_eq!(
        written(|out| expiring(out, 59_000)),
        json!({"channel":"control","type":"auth_expiring","expires_in_ms":59000})
    );
    assert_eq!(
        written(|out| drain(out, 30_000, 1_830, &["wss://b.example".into()])),
        json!({"channel":"control","type":"drain","deadline_ms":30000,"retry_after_ms":1830,
            "to":["wss://b.example"]})
    );
    assert_eq!(
        written(|out| heartbeat(out, u64::MAX)),
        json!({"channel":"control","type":"heartbeat","seq":u64::MAX})
    );
    let receipt = Gap {
        channels: &["trade.BTCUSDT", "quote.*"],
        from: 1043,
        to: 1090,
        missed: Some(31),
        cause: Cause::MaxAge,
    };
    assert_eq!(
        written(|out| gap(out, &receipt)),
        json!({"channel":"control","type":"gap","channels":["trade.BTCUSDT","quote.*"],
            "from":1043,"to":1090,"missed":31,"cause":"max_age","recover":"resume"})
    );
    let receipt = Gap { missed: None, cause: Cause::TooOld, ..receipt };
    assert_eq!(
        written(|out| gap(out, &receipt)),
        json!({"channel":"control","type":"gap","channels":["trade.BTCUSDT","quote.*"],
            "from":1043,"to":1090,"cause":"too_old","recover":"none"})
    );
    let asked = Asked { channels: ["a".into(), "b".into()].into(), req_id: Some(ReqId::Number(3)) };
    assert_eq!(
        written(|out| recovery_end(out, Recovery::Snapshot, &asked, 7)),
        json!({"channel":"control","type":"snapshot_end","channels":["a","b"],"seq":7,"req_id":3})
    );
    assert_eq!(
        written(|out| recovery_begin(out, Recovery::Replay, &asked, 7)),
        json!({"channel":"control","type":"replay_begin","channels":["a","b"],"seq":7,"req_id":3})
    );
}

#[test]
fn a_subscribe_that_is_good_in_full_succeeds() {
    let results = [ChannelResult { channel: "trade.BTCUSDT", outcome: Ok(GOOD) }];
    assert_eq!(
        written(|out| subscribed(out, Some(&ReqId::Number(1)), &results, 5, 6)),
        json!({"method":"subscribe","success":true,"req_id":1,"time_in":5,"time_out":6,
            "result":[{"channel":"trade.BTCUSDT","policy":"all","seq":1041,"matched":2}]})
    );
}

#[test]
fn whether_a_place_was_resumed_is_said_with_the_reason() {
    for (resumed, said) in [
        (Resumed::Whole, json!({"resumed":true})),
        (Resumed::Not(Cause::Epoch), json!({"resumed":false,"why":"epoch"})),
    ] {
        let outcome = Ok(Effective { resumed: Some(resumed), ..GOOD });
        let results = [ChannelResult { channel: "a", outcome }];
        let reply = written(|out| subscribed(out, None, &results, 5, 6));
        for (name, value) in said.as_object().unwrap() {
            assert_eq!(&reply["result"][0][name], value, "{reply}");
        }
    }
    let state = Verified { channel: "a.b", seq: 9, values: 2, hash: 0xab };
    assert_eq!(
        written(|out| verified(out, Some(&ReqId::Number(7)), &state, 5, 6)),
        json!({"method":"verify","success":true,"req_id":7,"time_in":5,"time_out":6,
            "result":{"channel":"a.b","seq":9,"values":2,"hash":"000000ab"}})
    );
}

#[test]
fn what_the_server_does_to_a_slow_client_is_said_with_its_cause() {
    let notice = Dropped { channels: &["trade.*"], seq: 1090, cause: Cause::MaxAge };
    assert_eq!(
        written(|out| dropped(out, &notice)),
        json!({"channel":"control","type":"unsubscribed","channels":["trade.*"],"seq":1090,
            "cause":"max_age"})
    );
    for (interval, interval_ms) in [(Some(Interval::Ms100), 100), (None, 0)] {
        assert_eq!(
            written(|out| tier(out, interval, 1090)),
            json!({"channel":"control","type":"tier","interval_ms":interval_ms,"seq":1090})
        );
    }
    assert_eq!(Cause::MaxLagBytes.as_str(), "max_lag_bytes");
}

#[test]
fn terms_show_what_is_in_force_and_where_the_operator_has_others() {
    let terms = Terms {
        policy: Policy::Auto,
        max_age_ms: Some(250),
        max_lag_bytes: Some(1_000_000),
        interval: Some(Interval::Ms100),
    };
    let part = Terms { policy: Policy::Close, max_age_ms: Some(500), ..ALL };
    let except = vec![(Pattern::parse("quote.BTCUSDT").unwrap(), part)];
    let held = Effective { terms, seq: 1041, matched: 3, resumed: None, except, ids: None };
    let entry = json!({"channel":"quote.*","policy":"auto","max_age_ms":250,
        "max_lag_bytes":1000000,"interval_ms":100,"seq":1041,"matched":3,
        "except":[{"channel":"quote.BTCUSDT","policy":"close","max_age_ms":500}]});
    let result = [ChannelResult { channel: "quote.*", outcome: Ok(held.clone()) }];
    let reply = written(|out| subscribed(out, None, &result, 5, 6));
    assert_eq!(reply["result"], json!([entry]));
    let reply = written(|out| listed(out, None, &[("quote.*", held)], 5, 6));
    assert_eq!(reply["result"], json!([entry]));
}

#[test]
fn a_request_with_one_bad_channel_says_which_and_does_the_rest() {
    let bad = (ErrorCode::ChannelInvalid, "empty token".to_owned());
    let full = (ErrorCode::TooManySubscriptions, "at most 2".to_owned());
    let results = [
        ChannelResult { channel: "a", outcome: Ok(GOOD) },
        ChannelResult { channel: "\"..", outcome: Err(bad) },
        ChannelResult { channel: "b", outcome: Err(full) },
    ];
    let error = json!({"code":"channel_invalid","message":"empty token","retryable":false});
    let full = json!({"code":"too_many_subscriptions","message":"at most 2","retryable":true});
    let id = ReqId::Text("x\n".into());
    assert_eq!(
        written(|out| unsubscribed(out, Some(&id), &results, 5, 6)),
        json!({"method":"unsubscribe","success":false,"req_id":"x\n","error":error,
            "result":[{"channel":"a","seq":1041},{"channel":"\"..","error":error},
                {"channel":"b","error":full}],
            "time_in":5,"time_out":6})
    );
}

#[test]
fn list_ping_and_refusals_have_the_shape_of_the_protocol() {
    assert_eq!(
        written(|out| listed(out, None, &[("a.*", GOOD), (">", GOOD)], 5, 6)),
        json!({"method":"list","success":true,"time_in":5,"time_out":6,"result":[
            {"channel":"a.*","policy":"all","seq":1041,"matched":2},
            {"channel":">","policy":"all","seq":1041,"matched":2}]})
    );
    assert_eq!(
        written(|out| pong(out, Some(&ReqId::Number(i64::MIN)), 5, 6)),
        json!({"method":"pong","success":true,"req_id":i64::MIN,"time_in":5,"time_out":6})
    );
    let refusal = Refusal::message_not_text();
    assert_eq!(
        written(|out| refused(out, &refusal, 5, 6)),
        json!({"success":false,"time_in":5,"time_out":6,"error":{"code":"message_not_text",
            "message":refusal.message,"retryable":false}})
    );
}
