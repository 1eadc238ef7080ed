//! Requests as clients write them, good and bad.
//!
//! Method: a table of texts beside what comes of each; a refusal is checked by its code and by what
//! its message names.

use super::*;

fn read(text: &str) -> Result<Request, Refusal> {
    parse(text, &mut Vec::new())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.into()).collect()
}

#[test]
fn requests_are_read_as_the_protocol_shows_them() {
    let subscribe = |channels: &[&str], wish, snapshot, resume| Command::Subscribe {
        channels: names(channels),
        wish,
        start: Start { snapshot, resume },
    };
    for (text, req_id, command) in [
        (
            r#"{"method":"subscribe","params":{"channels":["trade.BTCUSDT","quote.*"],
                "policy":"all","snapshot":false},"req_id":1}"#,
            Some(ReqId::Number(1)),
            subscribe(
                &["trade.BTCUSDT", "quote.*"],
                Wish { policy: Some(Policy::All), ..Wish::default() },
                false,
                None,
            ),
        ),
        (
            r#"{"method":"subscribe","params":{"channels":"quote.*","policy":"latest",
                "max_age_ms":250,"max_lag_bytes":1000000,"interval_ms":100,"resume":null}}"#,
            None,
            subscribe(
                &["quote.*"],
                Wish {
                    policy: Some(Policy::Latest),
                    max_age_ms: Some(250),
                    max_lag_bytes: Some(1_000_000),
                    interval: Some(Interval::Ms100),
                },
                true,
                None,
            ),
        ),
        (
            r#"{"method":"subscribe","params":{"channels":"a",
                "resume":{"epoch":"01J","seq":18446744073709551615}}}"#,
            None,
            subscribe(
                &["a"],
                Wish::default(),
                true,
                Some(Resume { epoch: "01J".into(), seq: u64::MAX }),
            ),
        ),
        (
            r#"{"id":"a-1","params":{"channels":"\u003e"},"method":"subscribe"}"#,
            Some(ReqId::Text("a-1".into())),
            subscribe(&[">"], Wish::default(), true, None),
        ),
        (
            r#"{"method":"unsubscribe","params":{"channels":["quote.*"]},"req_id":-2}"#,
            Some(ReqId::Number(-2)),
            Command::Unsubscribe { channels: names(&["quote.*"]) },
        ),
        (r#"{"method":"list","req_id":null}"#, None, Command::List),
        (r#" {"method":"ping","params":{}} "#, None, Command::Ping),
        (
            r#"{"method":"verify","params":{"channel":"book.BTCUSDT"}}"#,
            None,
            Command::Verify { channel: "book.BTCUSDT".into() },
        ),
    ] {
        assert_eq!(read(text), Ok(Request { req_id, command }), "{text}");
    }
}

#[test]
fn every_mistake_is_refused_by_its_code_and_named_in_the_message() {
    let many = format!(
        r#"{{"method":"subscribe","params":{{"channels":[{}"a"]}},"req_id":7}}"#,
        r#""a","#.repeat(SUBSCRIPTIONS_MAX)
    );
    let subscribe =
        |params: &str| format!(r#"{{"method":"subscribe","params":{params},"req_id":7}}"#);
    for (text, code, named) in [
        (r#"{"req_id":7}"#.into(), "method_missing", "method"),
        (r#"{"method":5,"req_id":7}"#.into(), "param_invalid", "a string, found a number"),
        (r#"{"method":"login","req_id":7}"#.into(), "method_unknown", "'login'"),
        (r#"{"method":"auth","req_id":7}"#.into(), "param_missing", "token"),
        (r#"{"method":"ping","req_id":7,"x":1}"#.into(), "param_unknown", "'x'"),
        (r#"{"method":"ping","req_id":7,"params":{"x":1}}"#.into(), "param_unknown", "'x'"),
        (r#"{"method":"subscribe","req_id":7}"#.into(), "param_missing", "channels"),
        (subscribe("[]"), "param_invalid", "'params' must be an object, found an array"),
        (subscribe("{}"), "param_missing", "channels"),
        (subscribe(r#"{"channels":[]}"#), "channels_empty", "channels"),
        (subscribe(r#"{"channels":{}}"#), "param_invalid", "found an object"),
        (subscribe(r#"{"channels":["a",true]}"#), "param_invalid", "channels[1]"),
        (subscribe(r#"{"channels":"a","policy":1}"#), "param_invalid", "'policy'"),
        (subscribe(r#"{"channels":"a","policy":"best"}"#), "param_invalid", "'best'"),
        (subscribe(r#"{"channels":"a","snapshot":1}"#), "param_invalid", "snapshot"),
        (subscribe(r#"{"channels":"a","resume":7}"#), "param_invalid", "'resume' must be an"),
        (subscribe(r#"{"channels":"a","resume":{"seq":7}}"#), "param_missing", "resume.epoch"),
        (subscribe(r#"{"channels":"a","resume":{"epoch":"x"}}"#), "param_missing", "resume.seq"),
        (
            subscribe(r#"{"channels":"a","resume":{"epoch":"x","seq":-1}}"#),
            "param_invalid",
            "'resume.seq' must be a whole number",
        ),
        (
            subscribe(r#"{"channels":"a","resume":{"epoch":"x","seq":1,"at":2}}"#),
            "param_unknown",
            "resume has no field 'at'; it takes epoch, seq",
        ),
        (r#"{"method":"verify","req_id":7}"#.into(), "param_missing", "'channel'"),
        (
            r#"{"method":"verify","params":{"channel":["a"]},"req_id":7}"#.into(),
            "param_invalid",
            "'channel' must be a string, found an array",
        ),
        (
            subscribe(r#"{"channels":"a","polcy":"all"}"#),
            "param_unknown",
            "'polcy'; it takes channels, policy, max_age_ms, max_lag_bytes, interval_ms, snapshot",
        ),
        (many, "channels_too_many", "1025"),
    ] {
        let refusal = read(&text).unwrap_err();
        assert_eq!(refusal.code.as_str(), code, "{text}: {refusal}");
        assert_eq!(refusal.req_id, Some(ReqId::Number(7)), "{text}");
        assert!(refusal.message.contains(named), "{text}: {refusal}");
    }
}

#[test]
fn of_many_unknown_fields_the_same_one_is_named_each_time() {
    let fields: Vec<_> = (10..90).rev().map(|number| format!(r#""x{number}":1"#)).collect();
    let text = format!(r#"{{"method":"ping","params":{{{}}}}}"#, fields.join(","));
    for _ in 0..10 {
        let refusal = read(&text).unwrap_err();
        assert!(refusal.to_string().contains("'x10'"), "{refusal}");
    }
}

#[test]
fn what_has_no_usable_req_id_is_refused_without_one() {
    for (text, code, named) in [
        ("".into(), "json_malformed", ""),
        ("subscribe".into(), "json_malformed", "byte 0 ('s')"),
        (r#"{"method":"ping",}"#.into(), "json_malformed", "byte 17 ('}')"),
        (r#"{"method":"ping"} x"#.into(), "json_malformed", "near byte 16"),
        ("[1]".into(), "request_invalid", "found an array"),
        ("3".into(), "request_invalid", "found a number"),
        (r#"{"method":"ping","req_id":1.5}"#.into(), "req_id_invalid", "a number"),
        (r#"{"method":"ping","req_id":{}}"#.into(), "req_id_invalid", "an object"),
        (
            format!(r#"{{"method":"ping","req_id":"{}"}}"#, "x".repeat(65)),
            "req_id_invalid",
            "65 bytes",
        ),
        ("[".repeat(5_000), "json_malformed", ""),
    ] {
        let refusal = read(&text).unwrap_err();
        assert_eq!((refusal.code.as_str(), refusal.req_id), (code, None), "{text}");
        assert!(refusal.message.contains(named), "{text}: {}", refusal.message);
    }
}

#[test]
fn a_refusal_repeats_the_method_cut_between_characters() {
    let refusal = read(r#"{"method":"subscribe","params":1}"#).unwrap_err();
    assert_eq!(refusal.method.as_deref(), Some("subscribe"));
    let long = read(&format!(r#"{{"method":"x{}"}}"#, "é".repeat(100))).unwrap_err();
    assert_eq!(long.method.map(|method| method.len()), Some(ECHO_BYTES_MAX - 1));
}

#[test]
fn terms_that_cannot_be_are_refused_with_what_is_allowed_and_the_cure() {
    for (params, named) in [
        (r#""policy":"best""#, "the policies are auto, all, latest, close, unsubscribe"),
        (r#""max_age_ms":9"#, "'max_age_ms' must be a whole number (milliseconds from 10 to"),
        (r#""max_age_ms":3600001"#, "to 3600000), found 3600001; or leave it out"),
        (r#""max_age_ms":4294967546"#, "found 4294967546"),
        (r#""max_age_ms":-1"#, "found -1"),
        (r#""max_age_ms":250.5"#, "found 250.5"),
        (r#""max_age_ms":"250""#, "found a string"),
        (r#""max_lag_bytes":1023"#, "'max_lag_bytes' must be a whole number (bytes, 1024 or more)"),
        (r#""max_lag_bytes":1e300"#, "found 1000"),
        (r#""max_lag_bytes":true"#, "found a boolean"),
        (r#""interval_ms":50"#, "(10, 100 or 1000 milliseconds), found 50"),
        (r#""interval_ms":[]"#, "found an array"),
        (r#""interval_ms":100,"policy":"all""#, "policy 'all' does not; use auto or latest, or"),
        (r#""interval_ms":100,"policy":"close""#, "leave interval_ms out"),
        (r#""interval_ms":100,"policy":"unsubscribe""#, "leave interval_ms out"),
    ] {
        let text = format!(r#"{{"method":"subscribe","params":{{"channels":"a",{params}}}}}"#);
        let refusal = read(&text).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::ParamInvalid, "{text}");
        assert!(refusal.message.contains(named), "{text}: {}", refusal.message);
        assert!(refusal.message.len() < 250, "{text}: {}", refusal.message);
    }
    for (word, interval) in [("auto", 10), ("latest", 1_000)] {
        let text = format!(
            r#"{{"method":"subscribe",
                "params":{{"channels":"a","policy":"{word}","interval_ms":{interval}}}}}"#
        );
        assert!(read(&text).is_ok(), "{text}");
    }
}

#[test]
fn a_rate_limit_names_the_limit_and_when_to_try_again_and_answers_its_request() {
    let request = read(r#"{"method":"list","req_id":7}"#).unwrap();
    let refusal = Refusal::rate_limited(20, 100, 250).answering(&request);
    assert_eq!(refusal.code.as_str(), "rate_limited");
    assert!(refusal.code.retryable());
    assert_eq!(refusal.method.as_deref(), Some("list"));
    assert_eq!(refusal.req_id, Some(ReqId::Number(7)));
    for named in ["100 at once", "20 a second", "try again in 250 ms"] {
        assert!(refusal.message.contains(named), "{}", refusal.message);
    }
}
