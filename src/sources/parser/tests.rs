//! What users rely on: payloads byte for byte, and a precise reply for every wrong line.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::limits::LINE_BYTES_MAX;

fn parser(rules: &[&str]) -> Parser {
    let rules = rules.iter().map(|rule| MapRule::parse_inline(rule).unwrap()).collect();
    Parser::new(rules, LINE_BYTES_MAX)
}

fn error(rules: &[&str], line: &str) -> (&'static str, String) {
    let error = parser(rules).parse(line.as_bytes(), None).unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn a_producer_event_is_read_in_any_order_and_spacing() {
    let line = " { \"data\" : { \"b\":\"60001.10\" , \"a\":1e5 } , \"ts\":1723161256000000000,\
                 \"kind\":\"snap\\u0073hot\", \"key\":\"BTC\\\"é\",\
                 \"ch\\u0061nnel\":\"a\\u002eb\" } \r";
    let mut parser = parser(&[]);
    let event = parser.parse(line.as_bytes(), None).unwrap();
    assert_eq!(event.channel, "a.b");
    assert_eq!(event.key, Some("BTC\"é"));
    assert_eq!(event.kind, Kind::Snapshot);
    assert_eq!(event.ts, Some(1_723_161_256_000_000_000));
    assert_eq!(event.data, b"{ \"b\":\"60001.10\" , \"a\":1e5 }");

    let event = parser.parse(b"{\"channel\":\"t\",\"data\":null}", None).unwrap();
    assert_eq!((event.key, event.ts, event.kind), (None, None, Kind::Update));
    assert_eq!(event.data, b"null");
}

#[test]
fn a_wrong_producer_event_is_refused_with_field_and_reason() {
    for (line, code, part) in [
        ("[]", "not_an_object", "not an array"),
        ("{}", "field_missing", "\"channel\""),
        (r#"{"channel":"a"}"#, "field_missing", "\"data\""),
        (r#"{"channel":"a","data":1,"extra":2}"#, "field_unknown", "\"extra\""),
        (r#"{"channel":"a","data":1,"data":1}"#, "field_twice", "\"data\""),
        (r#"{"channel":"a","d\u0061ta":1,"data":1}"#, "field_twice", "\"data\""),
        (r#"{"channel":1,"data":1}"#, "field_type", "a string, not a number"),
        (
            r#"{"channel":"a","key":null,"data":1}"#,
            "field_type",
            "\"key\" must be a string, not null",
        ),
        (r#"{"channel":"a","ts":"1","data":1}"#, "field_type", "\"ts\" must be an integer"),
        (r#"{"channel":"a","ts":1.5,"data":1}"#, "time_invalid", "ts: not a time: 1.5"),
        (r#"{"channel":"a","ts":-1,"data":1}"#, "time_invalid", "-1"),
        (r#"{"channel":"a","ts":18446744073709551616,"data":1}"#, "time_invalid", "nanoseconds"),
        (r#"{"channel":"a","kind":"delta","data":1}"#, "kind_invalid", "\"delta\""),
        (r#"{"channel":"a","kind":true,"data":1}"#, "field_type", "not a boolean"),
        (r#"{"channel":"a..b","data":1}"#, "channel_invalid", "empty token"),
        (r#"{"channel":"a.*","data":1}"#, "channel_invalid", "not allowed"),
        (r#"{"channel":"a","key":"","data":1}"#, "key_invalid", "1 to 255"),
        (r#"{"channel":"a","data":1} x"#, "json_invalid", "JSON"),
        (r#"{"channel":"a","data":01}"#, "json_invalid", "byte"),
        (r#"{"channel":"a","data":1e999}"#, "number_range", "send it as a string"),
        ("\u{feff}{}", "byte_order_mark", "byte order mark"),
        ("", "json_invalid", "not valid JSON"),
    ] {
        let (found, text) = error(&[], line);
        assert_eq!(found, code, "{line} gave {text}");
        assert!(text.contains(part), "{line} gave {text:?} without {part:?}");
    }
    let long = format!("{{\"channel\":\"a\",\"key\":\"{}\",\"data\":1}}", "k".repeat(256));
    assert_eq!(error(&[], &long).0, "key_invalid");
    let unknown = format!("{{\"{}\":1}}", "é".repeat(5_000));
    assert!(error(&[], &unknown).1.len() < 200);
    let mut small = Parser::new(Vec::new(), 10);
    assert_eq!(small.parse(b"[12345678]", None), Err(LineError::TooLong { limit: 10 }));
    let limit = small.parse(b"[1234567]", None).unwrap_err();
    assert_eq!(limit.code(), "not_an_object");
    let utf8 = parser(&[]).parse(b"{\"a\":\"\xc3\x28\"}", None).unwrap_err();
    assert_eq!(utf8, LineError::Utf8 { at: 7 });
}

#[test]
fn the_first_rule_that_applies_maps_the_line() {
    let rules = [
        r#"{ when = "/d/B", channel = "q.{/d/s}", data = "/d", key = "/d/s" }"#,
        r#"{ channel = "{/d/e}.{/d/s}", data = "/d", ts = "/d/E", ts_unit = "ms" }"#,
        r#"{ when = "/snap/0", channel = "book", kind = "/how",
             lookup = { "/how" = { "F" = "snapshot" } } }"#,
    ];
    let mut parser = parser(&rules);
    let event = parser.parse(br#"{"d":{"s":"a.B@c/\u00e9","B":1}}"#, None).unwrap();
    assert_eq!((event.channel, event.key), ("q.a_B_c__", Some("a.B@c/é")));
    assert_eq!(event.data, br#"{"s":"a.B@c/\u00e9","B":1}"#);
    let event = parser.parse(br#"{"d":{"s":7,"e":true,"E":12}}"#, None).unwrap();
    assert_eq!((event.channel, event.key, event.ts), ("true.7", None, Some(12_000_000)));
    let event = parser.parse(br#" {"snap":[1],"how":"F"} "#, None).unwrap();
    assert_eq!((event.channel, event.kind), ("book", Kind::Snapshot));
    assert_eq!(event.data, br#"{"snap":[1],"how":"F"}"#);

    for (line, code, part) in [
        (
            r#"{"d":{"s":"x"}}"#,
            "no_rule",
            "rule 1 needs /d/B, rule 2 needs /d/e, rule 3 needs /snap/0",
        ),
        (r#"{"d":{"s":"","B":1}}"#, "value_empty", "/d/s"),
        (r#"{"d":{"s":null,"B":1}}"#, "value_type", "/d/s: must be a string"),
        (r#"{"d":{"s":"x","e":"t"}}"#, "value_missing", "/d/E"),
        (r#"{"d":{"s":"x","e":"t","E":"noon"}}"#, "time_invalid", "\"noon\""),
        (r#"{"snap":[1],"how":"G"}"#, "value_unknown", "\"G\""),
        (r#"{"snap":[1]}"#, "value_missing", "/how"),
    ] {
        let (found, text) = error(&rules, line);
        assert_eq!(found, code, "{line} gave {text}");
        assert!(text.contains(part), "{line} gave {text:?} without {part:?}");
    }
    let kind = [r#"{ channel = "a", kind = "/k" }"#];
    assert_eq!(error(&kind, r#"{"k":"delta"}"#).0, "kind_invalid");
}

#[test]
fn file_variables_are_for_files() {
    let rules = [r#"{ channel = "{@dir}.{@stem}" }"#];
    let names = FileNames::of(std::path::Path::new("/data/us dm/btc.1.gz"));
    let mut parser = parser(&rules);
    assert_eq!(parser.parse(b"1", Some(&names)).unwrap().channel, "us_dm.btc");
    assert_eq!(error(&rules, "1").0, "file_variable");
}

/// JSON text with arbitrary spacing, number spellings, escapes and member order.
fn json_text() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("1.10".to_owned()),
        Just("-0".to_owned()),
        Just("1E+5".to_owned()),
        Just("12345678901234567890123".to_owned()),
        Just("-98765432109876543210.0012300".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?",
    ];
    let word = prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(str::to_owned);
    let leaf = prop_oneof![number, word, string_text()];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let spaced =
            (space(), inner, space()).prop_map(|(a, value, b)| format!("{a}{value}{b}")).boxed();
        let member = (space(), string_text(), space(), spaced.clone())
            .prop_map(|(a, name, b, value)| format!("{a}{name}{b}:{value}"));
        prop_oneof![
            (space(), prop::collection::vec(spaced, 0..6))
                .prop_map(|(a, values)| format!("[{a}{}]", values.join(","))),
            (space(), prop::collection::vec(member, 0..6))
                .prop_map(|(a, members)| format!("{{{a}{}}}", members.join(","))),
        ]
    })
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r]{0,3}"
}

fn string_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-z]{1,9}",
        2 => "[^\\x00-\\x1f\"\\\\]{1,4}",
        1 => r#"\\(["\\/bfnrt]|u00[0-9a-fA-F]{2}|ud83d\\uDE0[0-9]|u20ac)"#,
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

proptest! {
    #[test]
    fn data_is_passed_digit_for_digit(
        data in json_text(),
        other in json_text(),
        spaces in prop::collection::vec(space(), 8),
        data_first in any::<bool>(),
    ) {
        let [a, b, c, d, e, f, g, h] = &spaces[..] else { unreachable!() };
        let channel = format!("{a}\"channel\"{b}:{c}\"x.y\"{d}");
        let payload = format!("{e}\"data\"{f}:{g}{data}{h}");
        let line = if data_first {
            format!("{h}{{{payload},{channel}}}{a}")
        } else {
            format!("{h}{{{channel},{payload}}}{a}")
        };
        let judged: std::collections::HashMap<String, &RawValue> =
            serde_json::from_str(&line).unwrap();
        let mut native = parser(&[]);
        let event = native.parse(line.as_bytes(), None).unwrap();
        prop_assert_eq!(event.data, data.as_bytes());
        prop_assert_eq!(event.data, judged["data"].get().as_bytes());

        let inner = format!("[{c}{other}{d},{e}{data}{f}]");
        let line = format!("{{{a}\"\\u006f\":{other},\"in\"{b}:{inner}{g}}}{h}");
        let mut mapped = parser(&[r#"{ channel = "c", data = "/in/1" }"#]);
        prop_assert_eq!(mapped.parse(line.as_bytes(), None).unwrap().data, data.as_bytes());
        let mut mapped = parser(&[r#"{ channel = "c", data = "/o" }"#]);
        prop_assert_eq!(mapped.parse(line.as_bytes(), None).unwrap().data, other.as_bytes());
        let mut whole = parser(&[r#"{ channel = "c" }"#]);
        prop_assert_eq!(whole.parse(line.as_bytes(), None).unwrap().data, line.trim().as_bytes());
    }

    #[test]
    fn what_the_other_judge_refuses_is_refused(
        data in json_text(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut line = data.into_bytes();
        let at = at.index(line.len());
        line[at] = byte;
        let mut any = parser(&[r#"{ channel = "c" }"#]);
        let accepted = any.parse(&line, None).is_ok();
        if accepted {
            let judged: Result<&RawValue, _> = serde_json::from_slice(&line);
            prop_assert!(judged.is_ok(), "{:?}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn keys_and_channels_are_unescaped(
        key in "\\PC{1,40}",
        channel in "[a-z0-9_-]{1,9}(\\.[a-z]{1,9}){0,3}",
    ) {
        let mut written = String::new();
        for unit in key.encode_utf16() {
            written.push_str(&format!("\\u{unit:04x}"));
        }
        let line = format!("{{\"channel\":\"{channel}\",\"key\":\"{written}\",\"data\":0}}");
        let mut parser = parser(&[]);
        let event = parser.parse(line.as_bytes(), None).unwrap();
        prop_assert_eq!((event.channel, event.key), (channel.as_str(), Some(key.as_str())));
    }
}
