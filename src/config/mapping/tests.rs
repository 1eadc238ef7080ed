//! What a person who writes a mapping relies on: it means what it says, and mistakes are named.

use super::*;

#[test]
fn a_full_rule_reads_as_it_is_written() {
    let rule = MapRule::parse_inline(
        r#"{ channel = "binance.{@dir}.{/data/s}-x.{@stem}", data = "/data", key = "/data/s",
             ts = "/data/E", ts_unit = "ms", kind = "/data/k", when = ["/data/b", "/a~1b"],
             lookup = { "/data/s" = { "0" = "BTCUSDT" } } }"#,
    )
    .unwrap();
    assert_eq!(rule.when[1].steps()[0].name.as_ref(), "a/b");
    assert_eq!(rule.channel.pieces().len(), 6);
    assert_eq!(rule.channel.pieces()[4], Piece::Literal("-x.".into()));
    assert_eq!(rule.ts_unit, TimeUnit::Ms);
    assert_eq!(rule.kind, KindRule::At(Pointer::parse("/data/k").unwrap()));
    assert_eq!(rule.lookup(&rule.key.clone().unwrap()).unwrap()["0"], "BTCUSDT");

    let least = MapRule::parse_inline(r#"{ channel = "all", kind = "snapshot" }"#).unwrap();
    assert_eq!((least.data.as_str(), least.kind), ("", KindRule::Snapshot));
    assert_eq!((least.ts, least.when), (None, vec![]));
}

#[test]
fn pointers_follow_rfc_6901() {
    let names = |text: &str| -> Vec<String> {
        let pointer = Pointer::parse(text).unwrap();
        assert_eq!(pointer.as_str(), text);
        pointer.steps().iter().map(|step| step.name.to_string()).collect()
    };
    assert_eq!(names(""), Vec::<String>::new());
    assert_eq!(names("/"), [""]);
    assert_eq!(names("/a~1b/m~0n/~01/0"), ["a/b", "m~n", "~1", "0"]);
    let index = |text: &str| Pointer::parse(text).unwrap().steps()[0].index;
    assert_eq!(index("/0"), Some(0));
    assert_eq!(index("/12"), Some(12));
    for not_an_index in ["/01", "/-", "/+1", "/", "/1a"] {
        assert_eq!(index(not_an_index), None, "{not_an_index}");
    }
    assert_eq!(Pointer::parse("a"), Err(PointerError::NoSlash));
    assert_eq!(Pointer::parse("/a~2"), Err(PointerError::Tilde));
    assert_eq!(Pointer::parse("/a~"), Err(PointerError::Tilde));
}

#[test]
fn a_wrong_rule_is_refused_with_its_key_and_what_is_allowed() {
    for (rule, expected) in [
        (r#"channel = "a""#, &["inline table"] as &[&str]),
        ("{ }", &["channel: missing"]),
        ("{ channel = 1 }", &["channel: must be a string, not integer"]),
        (r#"{ channel = "a", chanel = "b" }"#, &["chanel", "ts_unit"]),
        (r#"{ channel = "a.{/x" }"#, &["channel:", "brace"]),
        (r#"{ channel = "a.}" }"#, &["channel:", "brace"]),
        (r#"{ channel = "a.{x}" }"#, &["channel: {x}", "{@stem}"]),
        (r#"{ channel = "a.{/x~}" }"#, &["channel: {/x~}", "~0"]),
        (r#"{ channel = "a b" }"#, &["channel: ' '", "a-z"]),
        (r#"{ channel = "a..{/x}" }"#, &["channel: empty token"]),
        (r#"{ channel = "" }"#, &["channel: empty token"]),
        (r#"{ channel = "a", data = "x" }"#, &["data: \"x\"", "starts with /"]),
        (r#"{ channel = "a", when = 3 }"#, &["when:", "array"]),
        (r#"{ channel = "a", ts_unit = "ms" }"#, &["ts_unit:", "without ts"]),
        (r#"{ channel = "a", ts = "/t", ts_unit = "m" }"#, &["ts_unit: \"m\"", "ns, us, ms, s"]),
        (r#"{ channel = "a", kind = "delta" }"#, &["kind: \"delta\"", "update, snapshot"]),
        (r#"{ channel = "a", lookup = { "/x" = { "0" = "b" } } }"#, &["lookup: /x"]),
        (r#"{ channel = "{/x}", lookup = { "/x" = { "0" = 1 } } }"#, &["\"/x\"", "integer"]),
        (r#"{ channel = "{/x}", lookup = { "/x" = "y" } }"#, &["lookup:", "tables", "string"]),
    ] {
        let error = MapRule::parse_inline(rule).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{rule}\n gave {error:?}\n without {part:?}");
        }
    }
}
