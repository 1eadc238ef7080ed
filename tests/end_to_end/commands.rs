//! Commands and their answers, and what a subscription then brings.

use serde_json::{Value, json};

use crate::support::{Client, Server};

#[test]
fn a_subscription_says_what_came_of_it_and_brings_the_producers_bytes() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    let mut producer = server.producer();
    let reply = client.ask(
        r#"{"method":"subscribe","params":{"channels":["trade.BTC","quote.*"],"snapshot":false},
            "req_id":"a"}"#,
    );
    assert_eq!((&reply["success"], &reply["req_id"]), (&json!(true), &json!("a")));
    let channels = ["trade.BTC", "quote.*"]
        .map(|channel| json!({"channel": channel, "policy": "auto", "seq": 0, "matched": 0}));
    assert_eq!(reply["result"], json!(channels));

    // Spaces, digits, escapes and order: all as the producer wrote them.
    let data = "{ \"b\" : 60001.10, \"a\":1e-7,\"\\u00e9\": \"é\\/\", \"n\":12345678901234567890}";
    let line = format!("{{\"channel\":\"quote.BTC\",\"key\":\"k\",\"ts\":7,\"data\":{data}}}\n");
    producer.send(&line);
    let event = client.event();
    assert_eq!((event.data(), event.channel.as_str()), (data, "quote.BTC"));
    assert_eq!(event.kind, "update");
    assert_eq!((event.seq, event.prev, event.ts, event.key.as_deref()), (1, 0, Some(7), Some("k")));
    producer.publish("quote.BTC", "2");
    let event = client.event();
    assert_eq!((event.seq, event.prev, event.ts, event.key), (2, 1, None, None));
}

#[test]
fn list_and_ping_answer_and_unsubscribing_ends_the_flow() {
    let server = Server::start("");
    let (mut client, mut witness) = (Client::connect(&server), Client::subscribed(&server, ">"));
    let mut producer = server.producer();
    client.subscribe(&["a", "b.>"]);
    let listed = client.ask(r#"{"method":"list","req_id":1}"#);
    let patterns: Vec<_> =
        listed["result"].as_array().unwrap().iter().map(|held| held["channel"].clone()).collect();
    assert_eq!(patterns, ["a", "b.>"]);
    assert!(
        client.ask(r#"{"method":"ping"}"#)["time_out"].as_u64() > Some(1_700_000_000_000_000_000)
    );

    producer.publish("a", "1");
    assert_eq!(client.data(), "1");
    let ended = client.ask(r#"{"method":"unsubscribe","params":{"channels":["a","c"]}}"#);
    assert_eq!(ended["success"], false);
    assert_eq!(ended["result"][0], json!({"channel": "a", "seq": 1}));
    assert_eq!(ended["result"][1]["error"]["code"], "not_subscribed");
    producer.publish("a", "2");
    producer.publish("b.x", "3");
    assert_eq!(client.data(), "3");
    assert_eq!([witness.data(), witness.data(), witness.data()], ["1", "2", "3"]);
}

#[test]
fn a_wildcard_brings_channels_that_appear_later() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    let mut producer = server.producer();
    client.subscribe(&["*.BTC", "late.>"]);
    for channel in ["other.ETH", "trade.BTC", "a.b.BTC", "late.x.y", "late"] {
        producer.publish(channel, &format!("\"{channel}\""));
    }
    assert_eq!([client.data(), client.data()], ["\"trade.BTC\"", "\"late.x.y\""]);
    client.hears_nothing_more();
}

#[test]
fn an_event_comes_once_however_often_it_is_subscribed_to() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.subscribe(&["a.b", "a.*", ">"]);
    client.subscribe(&["a.b"]);
    let mut producer = server.producer();
    for number in 1..=3 {
        producer.publish("a.b", &number.to_string());
        assert_eq!(client.event().seq, number);
    }
    client.hears_nothing_more();
}

#[test]
fn a_bad_channel_among_good_ones_costs_only_itself() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    let reply = client.subscribe(&["good", "bad..name", "also.good", "a.>.b", "sp ace"]);
    assert_eq!(
        (&reply["success"], &reply["error"]["code"]),
        (&json!(false), &json!("channel_invalid"))
    );
    let codes: Vec<&Value> =
        reply["result"].as_array().unwrap().iter().map(|one| &one["error"]["code"]).collect();
    let bad = json!("channel_invalid");
    assert_eq!(codes, [&Value::Null, &bad, &Value::Null, &bad, &bad]);
    server.producer().publish("also.good", "1");
    assert_eq!(client.data(), "1");
}

#[test]
fn a_mistake_is_answered_precisely_with_its_req_id_and_the_connection_kept() {
    let server = Server::start("--subscriptions-max 2");
    let mut client = Client::connect(&server);
    for (command, code, named) in [
        (r#"{"method":"subscribe","#, "json_malformed", "JSON"),
        ("[1,2]", "request_invalid", "array"),
        (r#"{"req_id":7}"#, "method_missing", "method"),
        (r#"{"method":"subscrib","req_id":7}"#, "method_unknown", "subscrib"),
        (r#"{"method":7,"req_id":7}"#, "param_invalid", "method"),
        (r#"{"method":"subscribe","req_id":7}"#, "param_missing", "channels"),
        (
            r#"{"method":"subscribe","params":{"channels":7},"req_id":7}"#,
            "param_invalid",
            "channels",
        ),
        (
            r#"{"method":"subscribe","params":{"channels":["a",7]},"req_id":7}"#,
            "param_invalid",
            "channels[1]",
        ),
        (r#"{"method":"subscribe","params":{"channels":[]},"req_id":7}"#, "channels_empty", ""),
        (
            r#"{"method":"subscribe","params":{"channels":["a"],"polcy":"all"},"req_id":7}"#,
            "param_unknown",
            "polcy",
        ),
        (
            r#"{"method":"subscribe","params":{"channels":["a","b","c"],"snapshot":false},
                "req_id":7}"#,
            "too_many_subscriptions",
            "2",
        ),
        (r#"{"method":"ping","req_id":{}}"#, "req_id_invalid", "req_id"),
    ] {
        let reply = client.ask(command);
        assert_eq!(reply["success"], false, "{command}: {reply}");
        assert_eq!(reply["error"]["code"], code, "{command}: {reply}");
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{command}: {message}");
        if command.ends_with(r#""req_id":7}"#) {
            assert_eq!(reply["req_id"], 7, "{command}: {reply}");
        }
    }
    assert_eq!(client.ask(r#"{"method":"ping","req_id":-1}"#)["req_id"], -1);
}

#[test]
fn a_heartbeat_proves_the_silence() {
    let server = Server::start("--heartbeat 100ms");
    let mut client = Client::subscribed(&server, "quiet");
    let mut loud = Client::subscribed(&server, "loud");
    server.producer().publish("loud", "1");
    assert_eq!(loud.data(), "1");
    let heartbeat = loop {
        let message = client.json();
        assert_eq!(message["type"], "heartbeat", "{message}");
        if message["seq"] == 1 {
            break message;
        }
    };
    assert_eq!(heartbeat["channel"], "control");
}
