//! Layers, precedence, and everything that can be wrong at once.
//!
//! Method: layers are given as text, and the whole message is compared, since it is what an
//! operator has to work with.

use super::*;
use crate::config::file::file;
use crate::config::raw::{RawSource, environment};
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
    let from_file = resolve(&file("fanfare.toml", SHIPPED), &machine(), None).unwrap().settings;
    let defaults = with_source(Raw::default());
    let defaults = resolve(&defaults, &machine(), None).unwrap().settings;
    assert_eq!(format!("{from_file:?}"), format!("{defaults:?}"));
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
    let Resolved { settings, lines } = resolve(&raw, &machine(), None).unwrap();
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
    assert_eq!(settings.sources[1].address, SourceAddress::Unix("/run/a.sock".into()));
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
f.toml:10: source.url: missing; allowed: url = \"tcp://127.0.0.1:9002\", unix:///PATH, stdin:// \
or replay:FILE
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
