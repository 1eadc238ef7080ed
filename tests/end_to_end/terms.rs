//! Terms of subscriptions as a client that keeps up sees them: policies, sampling, rules, rates.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Client, Heard, Server};

fn ask_for(client: &mut Client, params: &Value) -> Value {
    let mut params = params.clone();
    params["snapshot"] = false.into();
    client.ask(&json!({"method": "subscribe", "params": params}).to_string())
}

#[test]
fn a_sampled_key_comes_at_most_once_an_interval_and_its_newest_value_always() {
    let server = Server::start("");
    let mut sampled = Client::connect(&server);
    let params = json!({"channels": "quote.*", "policy": "latest", "interval_ms": 1000});
    let reply = ask_for(&mut sampled, &params);
    assert_eq!(reply["result"][0]["interval_ms"], 1_000);
    let mut witness = Client::subscribed_to_all(&server, "quote.*");
    let mut producer = server.producer();
    let mut lines = String::new();
    for number in 1..=400 {
        let key = ["a", "b"][number % 2];
        lines += &format!("{{\"channel\":\"quote.x\",\"key\":\"{key}\",\"data\":{number}}}\n");
    }
    producer.send(&lines);
    for number in 1..=400 {
        assert_eq!(witness.event().seq, number, "whoever is not sampled gets every event");
    }
    let (mut events, mut newest) = (0, BTreeMap::new());
    while newest != BTreeMap::from([("a".to_owned(), 400), ("b".to_owned(), 399)]) {
        let event = sampled.event();
        let before = newest.insert(event.key.unwrap(), event.seq);
        assert!(before < Some(event.seq), "seq rises for a key");
        events += 1;
    }
    // The burst takes some milliseconds, so it lies in two intervals at most.
    assert!(events <= 4, "{events} samples");
}

#[test]
fn rules_of_the_operator_narrow_what_a_client_asks_for_and_are_told() {
    let server = Server::start(
        "--rule book.>?policy=close&max_age_ms=500 --rule trade.*?max_age_ms=300&interval_ms=100",
    );
    let mut client = Client::connect(&server);
    let reply = ask_for(&mut client, &json!({"channels": ["book.a", "trade.a", ">"]}));
    let result = &reply["result"];
    assert_eq!((&result[0]["policy"], &result[0]["max_age_ms"]), (&json!("close"), &json!(500)));
    assert_eq!((&result[1]["policy"], &result[1]["interval_ms"]), (&json!("auto"), &json!(100)));
    assert_eq!(result[2]["policy"], "auto");
    let except: Vec<_> = (result[2]["except"].as_array().unwrap().iter())
        .map(|part| part["channel"].as_str().unwrap())
        .collect();
    assert_eq!(except, ["trade.*", "book.>"]);
    let reply = ask_for(&mut client, &json!({"channels": "trade.b", "max_age_ms": 900}));
    assert_eq!(reply["result"][0]["max_age_ms"], 300, "the narrower limit holds");
}

#[test]
fn messages_over_the_rate_are_refused_and_going_on_ends_the_connection() {
    let server = Server::start("--command-rate 1 --command-burst 12");
    let mut client = Client::connect(&server);
    for number in 0..12 {
        let reply = client.ask(&format!(r#"{{"method":"ping","req_id":{number}}}"#));
        assert_eq!(reply["success"], true, "{reply}");
    }
    let reply = client.ask(r#"{"method":"ping","req_id":"over"}"#);
    assert_eq!((&reply["req_id"], &reply["success"]), (&json!("over"), &json!(false)));
    assert_eq!(reply["error"]["code"], "rate_limited");
    assert_eq!(reply["error"]["retryable"], true);
    let mut refused = 0;
    let code = loop {
        client.send(fanfare::protocol::ws::frame::Opcode::Text, br#"{"method":"ping"}"#);
        match client.hear() {
            Heard::Text(_) => refused += 1,
            Heard::Close(code, reason) => {
                assert!(reason.contains("too many messages"), "{reason}");
                break code;
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, Some(1008));
    assert!(refused <= 13, "{refused} were refused before the end");
}

#[test]
fn terms_that_contradict_themselves_are_refused_with_the_cure() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    for (params, code, words) in [
        (json!({"channels": "a", "policy": "all", "interval_ms": 100}), "param_invalid", "latest"),
        (json!({"channels": "a", "policy": "newest"}), "param_invalid", "unsubscribe"),
        (json!({"channels": "a", "interval_ms": 50}), "param_invalid", "100"),
        (json!({"channels": "a", "max_age_ms": 1}), "param_invalid", "10"),
        (json!({"channels": "a", "resume": {}}), "param_missing", "resume.epoch"),
    ] {
        let reply = ask_for(&mut client, &params);
        assert_eq!(reply["error"]["code"], code, "{reply}");
        assert!(reply["error"]["message"].as_str().unwrap().contains(words), "{reply}");
    }
}
