//! The recorded feeds of `../shared/data`, read and mapped whole.
//!
//! Goal: every line of the real captures comes out, in order, on the channel that the example
//! mappings promise, its payload untouched. The folder is not part of the repository; without it
//! (`FANFARE_DATA` names another place) the tests say so and pass.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fanfare::config::mapping::{MapRule, Pointer};
use fanfare::config::{Replay, ReplayInput, Speed};
use fanfare::limits::LINE_BYTES_MAX;
use fanfare::protocol::event::Kind;
use fanfare::sources::capture::Capture;
use fanfare::sources::parser::Parser;

const BINANCE: &str = include_str!("../examples/mappings/binance-20240808.toml");
const BARTER: &str = include_str!("../examples/mappings/barter-20250325.toml");

/// What is counted of one channel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    events: usize,
    keyed: usize,
    timed: usize,
    snapshots: usize,
}

fn data(set: &str) -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("FANFARE_DATA")
        .map_or_else(|| manifest.join("../shared/data"), PathBuf::from)
        .join(set);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {} is not there; FANFARE_DATA names another folder", folder.display());
    None
}

fn rules(example: &str) -> Vec<MapRule> {
    let mut file: toml::Table = example.parse().unwrap();
    let sources: Vec<toml::Table> = file.remove("source").unwrap().try_into().unwrap();
    let [source] = <[toml::Table; 1]>::try_from(sources).unwrap();
    source["map"].clone().try_into().unwrap()
}

/// Reads the capture whole; checks the order of time and that each payload is a part of its line.
fn map_all(replay: &Replay, example: &str) -> BTreeMap<String, Seen> {
    let mut capture = Capture::open(replay).unwrap();
    let mut parser = Parser::new(rules(example), LINE_BYTES_MAX);
    let mut channels = BTreeMap::<String, Seen>::new();
    let mut last_ns = 0;
    while let Some(record) = capture.next_record().unwrap() {
        let time_ns = record.time_ns.unwrap();
        assert!(time_ns >= last_ns, "{} line {}", record.file.path, record.line_number);
        last_ns = time_ns;
        let event = parser
            .parse(record.line, Some(record.file))
            .unwrap_or_else(|e| panic!("{} line {}: {e}", record.file.path, record.line_number));
        assert!(record.line.as_ptr_range().contains(&event.data.as_ptr()));
        let seen = match channels.get_mut(event.channel) {
            Some(seen) => seen,
            None => channels.entry(event.channel.to_owned()).or_default(),
        };
        seen.events += 1;
        seen.keyed += usize::from(event.key.is_some());
        seen.timed += usize::from(event.ts.is_some());
        seen.snapshots += usize::from(event.kind == Kind::Snapshot);
    }
    channels
}

#[test]
fn the_six_binance_files_give_332_200_events_on_18_channels() {
    let Some(folder) = data("binance-20240808") else { return };
    let names = [
        "usdm/btcusdt_20240808",
        "usdm/ethusdt_20240808",
        "spot/btcusdt_20240808",
        "spot/ethusdt_20240808",
        "cm/btcusd_perp_20240808",
        "cm/ethusd_perp_20240808",
    ];
    let files = names.map(|name| folder.join(name).with_extension("gz")).to_vec();
    let input = ReplayInput::Files(files);
    let speed = Speed::Max;
    let replay = Replay { input, speed, looping: false, sort: false, time: None, clients_min: 0 };
    let channels = map_all(&replay, BINANCE);

    let expected: BTreeSet<String> = names
        .iter()
        .flat_map(|name| {
            let prefix = name.replace('/', ".");
            ["trade", "bookTicker", "depthUpdate"].map(|kind| format!("binance.{prefix}.{kind}"))
        })
        .collect();
    assert_eq!(channels.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(channels.values().map(|seen| seen.events).sum::<usize>(), 332_200);
    assert_eq!(
        channels["binance.usdm.btcusdt_20240808.bookTicker"],
        Seen { events: 66_089, keyed: 66_089, timed: 66_089, snapshots: 0 }
    );
    assert_eq!(
        channels["binance.spot.btcusdt_20240808.bookTicker"],
        Seen { events: 28_040, keyed: 28_040, timed: 0, snapshots: 0 }
    );
    assert_eq!(
        channels["binance.cm.ethusd_perp_20240808.depthUpdate"],
        Seen { events: 22_910, keyed: 0, timed: 22_909, snapshots: 1 }
    );
    assert_eq!(
        channels["binance.spot.ethusdt_20240808.trade"],
        Seen { events: 6_106, keyed: 0, timed: 6_106, snapshots: 0 }
    );
}

#[test]
fn the_barter_file_sorted_gives_50_000_events_on_6_channels() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/binance-spot-20250325.json.gz");
    let input = ReplayInput::Files(vec![file]);
    let time = Some(Pointer::parse("/Item/time_received").unwrap());
    let speed = Speed::Max;
    let replay = Replay { input, speed, looping: false, sort: true, time, clients_min: 0 };
    let channels = map_all(&replay, BARTER);

    let events: Vec<(&str, usize, usize, usize)> = channels
        .iter()
        .map(|(name, seen)| (name.as_str(), seen.events, seen.keyed, seen.timed))
        .collect();
    assert_eq!(
        events,
        [
            ("quote.BTCUSDT", 17_634, 17_634, 17_634),
            ("quote.ETHUSDT", 12_033, 12_033, 12_033),
            ("quote.SOLUSDT", 9_301, 9_301, 9_301),
            ("trade.BTCUSDT", 6_770, 0, 6_770),
            ("trade.ETHUSDT", 1_805, 0, 1_805),
            ("trade.SOLUSDT", 2_457, 0, 2_457),
        ]
    );

    let mut capture = Capture::open(&Replay { sort: false, ..replay }).unwrap();
    let refused = loop {
        match capture.next_record() {
            Ok(record) => assert!(record.is_some(), "the file goes back in time"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(refused.contains("sort=true"), "{refused}");
}

#[test]
fn the_example_mappings_are_valid() {
    assert_eq!(rules(BINANCE).len(), 4);
    assert_eq!(rules(BARTER).len(), 2);
}
