//! Layers, precedence, and everything that can be wrong at once.
//!
//! Method: layers are given as text, and the whole message is compared, since it is what an
//! operator has to work with.

use super::*;
use crate::config::file::file;
use crate::config::raw::{RawRule, RawSource, environment};
use crate::config::{Replay, ReplayInput, Speed};

const SHIPPED: &str = include_str!("../../../fanfare.toml");

fn machine() -> Host {
    Host { cores: vec![0, 1], name: "host-a".into() }
}

fn flags(values: &[(&'static str, &str)], sources: &[&str], maps: &[&str]) -> Raw {
    let given = |key: &str, text: &str| Given {
        text: text.into(),
        origin: Origin::Flag(format!("--{}", key.replace('_', "-"))),
    };
    Raw {
        values: values.iter().map(|(key, text)| (*key, given(key, text))).collect(),
        sources: sources
            .iter()
            .map(|url| RawSource { url: given("source", url), map: Vec::new() })
            .collect(),
        maps: maps.iter().map(|rule| given("map", rule)).collect(),
        rules: Vec::new(),
        problems: Vec::new(),
    }
}

fn variables(pairs: &[(&str, &str)]) -> Raw {
    environment(pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
}

fn with_source(raw: Raw) -> Raw {
    let mut base = flags(&[], &["tcp://127.0.0.1:9002"], &[]);
    base.overlay(raw);
    base
}

fn refusal(raw: &Raw) -> String {
    resolve(raw, &machine(), None).unwrap_err().to_string()
}

#[test]
fn the_shipped_file_is_the_defaults() {
    let from_file = resolve(&file("fanfare.toml", SHIPPED), &machine(), None).unwrap();
    let defaults = with_source(Raw::default());
    let defaults = resolve(&defaults, &machine(), None).unwrap();
    assert_eq!(format!("{:?}", from_file.settings), format!("{:?}", defaults.settings));
    // What is off has values, too.
    let value = |line: &String| line.split("  # ").next().map(str::to_owned);
    let values = |lines: &[String]| lines.iter().map(value).collect::<Vec<_>>();
    assert_eq!(values(&from_file.lines), values(&defaults.lines));
    for key in KEYS {
        let named = SHIPPED
            .lines()
            .any(|line| line.trim_start_matches("# ").starts_with(&format!("{} = ", key.name)));
        assert!(named, "{} is in the shipped file, as a value or a comment", key.name);
    }
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let text = "node = 'file'\nheartbeat = '1s'\nring_batches = 8\n[[source]]\nurl = 'stdin://'";
    let mut raw = file("f.toml", text);
    raw.overlay(variables(&[("FANFARE_NODE", "variable"), ("FANFARE_HEARTBEAT", "2s")]));
    raw.overlay(flags(&[("node", "flag")], &[], &[]));
    let Resolved { settings, lines, .. } = resolve(&raw, &machine(), None).unwrap();
    assert_eq!(settings.node, "flag");
    assert_eq!(settings.heartbeat, Duration::from_secs(2));
    assert_eq!(settings.ring_batches, 8);
    assert_eq!(settings.cores, [0, 1]);
    for line in [
        "node = \"flag\"  # --node",
        "heartbeat = \"2s\"  # FANFARE_HEARTBEAT",
        "ring_batches = 8  # f.toml:3",
        "log_bytes = \"64MiB\"  # default",
        "cores = \"0-1\"  # default",
        "# admin is not set",
        "source = \"stdin://\"  # f.toml:5",
    ] {
        assert!(lines.iter().any(|shown| shown == line), "{line} in {lines:#?}");
    }
}

#[test]
fn sources_of_a_layer_replace_those_below_and_lists_are_split() {
    let mut raw = file("f.toml", "[[source]]\nurl = 'stdin://'");
    raw.overlay(variables(&[("FANFARE_SOURCE", "tcp://127.0.0.1:0|unix:///run/a.sock\n")]));
    let settings = resolve(&raw, &machine(), None).unwrap().settings;
    assert_eq!(settings.sources.len(), 2);
    let unix = SourceAddress::Unix { path: "/run/a.sock".into(), mode: 0o600 };
    assert_eq!(settings.sources[1].address, unix);
}

#[test]
fn mapping_rules_of_flags_go_to_sources_of_flags() {
    let rule = "{ channel = \"trade.{/s}\" }";
    let raw = flags(&[], &["stdin://", "replay:Cargo.toml?speed=max"], &[rule]);
    let settings = resolve(&raw, &machine(), None).unwrap().settings;
    assert_eq!(settings.sources[0].map.len(), 1);
    assert_eq!(settings.sources[1].map, settings.sources[0].map);
    let replay = Replay {
        input: ReplayInput::Files(vec!["Cargo.toml".into()]),
        speed: Speed::Max,
        looping: false,
        sort: false,
        time: None,
        clients_min: 0,
    };
    assert_eq!(settings.sources[1].address, SourceAddress::Replay(replay));
    let mut raw = file("f.toml", "[[source]]\nurl = 'stdin://'");
    raw.overlay(flags(&[], &[], &[rule]));
    assert_eq!(
        refusal(&raw),
        "--map: rules for sources of the command line, but there are none; \
        allowed: --source beside it, or [[source.map]] in the file"
    );
}

#[test]
fn everything_wrong_is_reported_at_once_with_its_place() {
    let text = "\
listn = '127.0.0.1:1'
log_bytes = '64MB'
spin = 'maybe'
cores = [0, 7]

[[source]]
url = 'tcp://nowhere'
mapp = []

[[source]]
[[source.map]]
channel = 'a'
";
    let mut raw = file("f.toml", text);
    raw.overlay(variables(&[("FANFARE_HEARTBEAT", "5"), ("FANFARE_LISTN", "x")]));
    raw.overlay(flags(&[("ring_batches", "1"), ("node", "a b")], &[], &[]));
    let expected = "\
f.toml:1: listn: no such setting; did you mean listen?
f.toml:2: log_bytes: `64MB` is not a size; allowed: 8MiB to 16GiB, in B, KiB, MiB or GiB
f.toml:3: spin: `maybe` is not a yes or no; allowed: true or false
f.toml:4: cores: core 7 is not available; allowed: cores 0-1 of this process, such as 0-1,4
f.toml:7: source: `nowhere` is not an address; allowed: IP:PORT such as 0.0.0.0:9001, [::1]:9001 \
or localhost:9001; port 0 picks a port
f.toml:8: source.mapp: no such setting; allowed: url, map
f.toml:10: source.url: missing; allowed: url = \"tcp://127.0.0.1:9002\", unix:///PATH, stdin://, \
nats://… or replay:FILE
FANFARE_LISTN: no such setting; did you mean FANFARE_LISTEN?
FANFARE_HEARTBEAT: `5` is not a time with its unit; allowed: 100ms to 5m, in ms, s or m
--node: `a b` is not a node name; allowed: 1 to 64 of a-z A-Z 0-9 . _ -
--ring-batches: 1 is out of range; allowed: a whole number from 2 to 65536";
    let mut refusal: Vec<_> = refusal(&raw).lines().map(str::to_owned).collect();
    let mut expected: Vec<_> = expected.lines().map(str::to_owned).collect();
    assert_eq!(refusal[..7], expected[..7], "lines of the file come first, in order");
    refusal.sort();
    expected.sort();
    assert_eq!(refusal, expected);
}

#[test]
fn without_a_source_the_error_says_how_to_give_one() {
    assert_eq!(
        refusal(&Raw::default()),
        "--source: no source of events; allowed: one or more, such as \
        --source tcp://127.0.0.1:9002"
    );
}

#[test]
fn a_file_that_is_not_toml_names_the_line() {
    let message = refusal(&file("f.toml", "spin = true\nlog_bytes = 64MiB\n"));
    assert!(message.starts_with("f.toml:2: syntax: "), "{message}");
    let message = refusal(&file("f.toml", "spin = [[1]\n"));
    assert!(message.starts_with("f.toml:1: syntax: "), "{message}");
    let message = refusal(&file("f.toml", "source = 'tcp://127.0.0.1:1'\nadmin = { a = 1 }\n"));
    assert_eq!(
        message,
        "f.toml:1: source: one table or value instead of a list; allowed: [[source]] tables with \
        url\nf.toml:2: admin: a table is not one value; allowed: a string, number or true"
    );
}

#[test]
fn forms_are_named_once_and_only_those_that_can_be_there_from_the_start() {
    let forms = |text| with_source(flags(&[("forms", text)], &[], &[]));
    let resolved = resolve(&forms("sse, binary,sse"), &machine(), None).unwrap();
    assert_eq!(resolved.settings.forms, ["sse", "binary"]);
    let message = refusal(&forms("binary,xml"));
    let expected = "`xml` is no form that can be there from the start; allowed: binary, sse";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_wrong_mapping_rule_names_its_line() {
    let text = "[[source]]\nurl = 'stdin://'\n[[source.map]]\nchannel = 'a'\nkeey = '/k'\n";
    let message = refusal(&file("f.toml", text));
    assert!(message.starts_with("f.toml:5: source.map: "), "{message}");
    let message = refusal(&flags(&[], &["stdin://"], &["channel = 'a'"]));
    assert!(message.starts_with("--map: "), "{message}");
}

#[test]
fn addresses_that_collide_are_refused_and_port_0_never_does() {
    let collide = |listen: &str, admin: &str, sources: &[&str]| {
        refusal(&flags(&[("listen", listen), ("admin", admin)], sources, &[]))
    };
    let message = collide("127.0.0.1:1", "127.0.0.1:1", &["stdin://"]);
    assert_eq!(
        message,
        "--admin: 127.0.0.1:1 is the address of listen already; \
        allowed: another port, or port 0"
    );
    let message = collide("127.0.0.1:1", "127.0.0.1:2", &["tcp://127.0.0.1:2"]);
    assert!(message.starts_with("--source: 127.0.0.1:2 is the address of admin"));
    let message = collide("127.0.0.1:1", "127.0.0.1:2", &["stdin://", "stdin:"]);
    assert_eq!(message, "--source: `stdin:` is there twice; allowed: each source once");
    let sources = "[[source]]\nurl = 'tcp://127.0.0.1:3'\n[[source]]\nurl = 'tcp://127.0.0.1:2'\n";
    let message = refusal(&file("f.toml", &format!("admin = '127.0.0.1:2'\n{sources}")));
    assert!(message.starts_with("f.toml:5: source: 127.0.0.1:2 is the address of admin"));
    let message = collide("127.0.0.1:1", "127.0.0.1:2", &["tls://127.0.0.1:3"]);
    assert!(message.contains("`tls://127.0.0.1:3` has no certificate; allowed: tls_listen"));
    let message = collide("0.0.0.0:1", "127.0.0.1:1", &["stdin://"]);
    let expected = "--admin: 127.0.0.1:1 overlaps with 0.0.0.0:1, the address of listen; allowed: ";
    assert!(message.starts_with(expected), "{message}");
    let message = collide("[::1]:1", "127.0.0.1:1", &["tcp://127.0.0.1:2", "tcp://0.0.0.0:2"]);
    let expected = "--source: 0.0.0.0:2 overlaps with 127.0.0.1:2, the address of source; ";
    assert!(message.starts_with(expected) && !message.contains('\n'), "{message}");
    let message = collide("[::]:1", "127.0.0.1:1", &["stdin://"]);
    assert!(message.contains("127.0.0.1:1 overlaps with [::]:1"), "{message}");
    let tls = [("tls_listen", "127.0.0.1:3"), ("tls_certificates", "c.pem")];
    let given = [&tls[..], &[("admin", "127.0.0.1:3")]].concat();
    let message = refusal(&flags(&given, &["stdin://"], &[]));
    assert!(message.contains("127.0.0.1:3 is the address of tls_listen already"), "{message}");
    let twice = ["unix:///run/a", "unix:///run/a?mode=600"];
    let message = refusal(&flags(&[("control", "/run/a")], &twice, &[]));
    assert!(message.contains("`unix:///run/a?mode=600` is there twice"), "{message}");
    assert!(message.contains("--control: it is the path of a source already"), "{message}");
    // What is counted of a source has its name, without its options.
    let message =
        collide("127.0.0.1:1", "127.0.0.1:2", &["replay:Cargo.toml", "replay:Cargo.toml?speed=2"]);
    assert!(
        message.starts_with("--source: `replay:Cargo.toml?speed=2` is there twice"),
        "{message}"
    );
    let free = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"];
    let raw = flags(&[("listen", "127.0.0.1:0"), ("admin", "127.0.0.1:0")], &free, &[]);
    assert!(resolve(&raw, &machine(), None).is_ok());
}

#[test]
fn variables_that_a_platform_made_are_left_alone() {
    let raw = with_source(variables(&[
        ("FANFARE_PORT", "tcp://10.0.0.1:9001"),
        ("FANFARE_SERVICE_HOST", "10.0.0.1"),
        ("FANFARE_CONFIG", "x"),
        ("FANFARE_LOG", "debug"),
        ("HOME", "/"),
    ]));
    assert!(resolve(&raw, &machine(), None).is_ok());
}

fn rule_flags(rules: &[&str]) -> Raw {
    let mut raw = with_source(Raw::default());
    let given = |text: &&str| Given { text: (*text).into(), origin: Origin::Flag("--rule".into()) };
    raw.rules = rules.iter().map(|text| RawRule::parse(&given(text))).collect();
    raw
}

#[test]
fn a_rule_is_the_same_by_table_flag_and_variable_and_is_shown_as_a_flag() {
    let table = "[[rule]]\npattern = 'book.>'\npolicy = 'close'\nmax_age_ms = 500\n\
        max_lag_bytes = '1MiB'\n[[rule]]\npattern = 'quote.*'\ninterval_ms = 100\n";
    let texts =
        ["book.>?policy=close&max_age_ms=500&max_lag_bytes=1MiB", "quote.*?interval_ms=100"];
    let from_file = with_source(file("f.toml", table));
    let from_flags = rule_flags(&texts);
    let from_variable = with_source(variables(&[("FANFARE_RULE", &texts.join("|"))]));
    for (raw, origins) in [
        (from_file, ["f.toml:1", "f.toml:6"]),
        (from_flags, ["--rule", "--rule"]),
        (from_variable, ["FANFARE_RULE", "FANFARE_RULE"]),
    ] {
        let Resolved { settings, lines, .. } = resolve(&raw, &machine(), None).unwrap();
        assert_eq!(settings.rules[0].policy, Some("close"));
        assert_eq!(settings.rules[0].max_age_ms, Some(500));
        assert_eq!(settings.rules[0].max_lag_bytes, Some(1 << 20));
        assert_eq!(settings.rules[1].interval_ms, Some(100));
        let shown: Vec<_> = settings.rules.iter().map(ToString::to_string).collect();
        assert_eq!(shown, texts);
        for (text, origin) in texts.iter().zip(origins) {
            let line = format!("rule = \"{text}\"  # {origin}");
            assert!(lines.contains(&line), "{line} in {lines:#?}");
        }
    }
    let mut raw = with_source(file("f.toml", table));
    raw.overlay(rule_flags(&["a"]));
    let settings = resolve(&raw, &machine(), None).unwrap().settings;
    assert_eq!(settings.rules.len(), 1, "rules of a layer replace those below");
}

#[test]
fn a_wrong_rule_names_its_part_and_what_is_allowed() {
    for (rule, message) in [
        (
            "a..b?policy=all",
            "--rule: pattern: `a..b` is not a pattern; allowed: tokens of a-z A-Z 0-9 _ - \
            separated by dots, * for any one token, > for the rest at the end, such as book.> or \
            trade.*",
        ),
        (
            "a?policy=best",
            "--rule: policy: `best` is not a policy; allowed: auto, all, latest, close, \
            unsubscribe",
        ),
        ("a?polcy=all", "--rule: `polcy` is no part of a rule; allowed: policy, if it is meant"),
        (
            "a?x",
            "--rule: `x` is no part of a rule; allowed: pattern, policy, max_age_ms, \
            max_lag_bytes, interval_ms",
        ),
        (
            "a?max_age_ms=9",
            "--rule: max_age_ms: 9 is out of range; allowed: a whole number from 10 to 3600000 \
            (milliseconds)",
        ),
        (
            "a?max_lag_bytes=1MB",
            "--rule: max_lag_bytes: `1MB` is not a size; allowed: 1KiB to 16GiB, in B, KiB, MiB \
            or GiB",
        ),
        (
            "a?interval_ms=50",
            "--rule: interval_ms: `50` is not a sampling interval; allowed: 10, 100 or 1000 \
            (milliseconds)",
        ),
        (
            "a?interval_ms=100&policy=unsubscribe",
            "--rule: interval_ms skips events, which policy unsubscribe does not; allowed: with \
            policy auto or latest, or without a policy",
        ),
        (
            "a?policy=all&policy=close",
            "--rule: `policy` is there twice; allowed: each part of a rule once",
        ),
    ] {
        assert_eq!(refusal(&rule_flags(&[rule])), message);
    }
    assert_eq!(
        refusal(&rule_flags(&["a.*?policy=all", "b", "a.*"])),
        "--rule: `a.*` has a rule already; allowed: one rule for each pattern"
    );
    let many: Vec<_> = (0..=limits::RULES_MAX).map(|at| format!("a{at}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let allowed = "at most 64; one pattern covers many channels";
    assert_eq!(refusal(&rule_flags(&many)), format!("--rule: 65 rules; allowed: {allowed}"));
}

#[test]
fn a_wrong_rule_of_the_file_names_its_line() {
    let text = "[[source]]\nurl = 'stdin://'\n[[rule]]\npolicy = 'all'\n[[rule]]\n\
        pattern = 'a b'\n[[rule]]\npattern = 'c'\nmax_age_ms = 5\n[[rule]]\npattern = 'd'\n\
        policy = { a = 1 }\n";
    let message = refusal(&file("f.toml", text));
    let starts = [
        "f.toml:3: rule: pattern is missing; allowed: the channels, such as book.> or trade.*",
        "f.toml:6: rule.pattern: `a b` is not a pattern; allowed: ",
        "f.toml:9: rule.max_age_ms: 5 is out of range; allowed: ",
        "f.toml:12: rule.policy: a table is not one value; allowed: [[rule]] tables such as",
    ];
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{message}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{start} in {message}");
    }
    let message = refusal(&file("f.toml", "rule = 'a'\n[[source]]\nurl = 'stdin://'\n"));
    assert!(message.starts_with("f.toml:1: rule: one table or value instead of a list"));
    let message = refusal(&file("f.toml", "[[rules]]\npattern = 'a'\n"));
    assert!(message.contains("f.toml:1: rules: no such setting; did you mean rule?"), "{message}");
}

#[test]
fn a_connections_socket_and_rates_have_defaults_and_bounds() {
    let settings = resolve(&with_source(Raw::default()), &machine(), None).unwrap().settings;
    assert_eq!(settings.sockets.send_buffer_bytes, limits::SEND_BUFFER_BYTES);
    assert_eq!(settings.sockets.unsent_bytes, limits::UNSENT_BYTES);
    assert_eq!(settings.sockets.peer_timeout, Duration::from_millis(limits::PEER_TIMEOUT_MS));
    assert_eq!(settings.retained_bytes, limits::RETAINED_BYTES);
    assert_eq!((settings.command_rate, settings.command_burst), (20, 100));
    assert!(!settings.tier_moves);
    for (key, text, allowed) in [
        ("retained_bytes", "0", "1MiB to 16GiB"),
        ("command_rate", "0", "a whole number from 1 to 1000000"),
        ("command_burst", "10", "a whole number from 12 to 1000000"),
        ("unsent_bytes", "1KiB", "4KiB to 64MiB"),
        ("peer_timeout", "500ms", "1s to 5m"),
    ] {
        let message = refusal(&flags(&[(key, text)], &["stdin://"], &[]));
        assert!(message.contains(allowed), "{key}: {message}");
    }
}
