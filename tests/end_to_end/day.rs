//! The captures that are replayed to many: a recorded day, or the short one of `examples/data`.
//!
//! The day is not part of the repository: `FANFARE_DATA` names its folder. Not here: who receives
//! it. Invariant: [`Day::for_each`] and [`Day::command`] give the same events in the same order.

use std::path::{Path, PathBuf};
use std::process::Command;

use fanfare::config::mapping::{MapRule, Pointer};
use fanfare::config::{Replay, ReplayInput, Speed};
use fanfare::limits::LINE_BYTES_MAX;
use fanfare::protocol::event::Event;
use fanfare::sources::capture::Capture;
use fanfare::sources::parser::Parser;

use crate::support::fanfare;

/// One of the captures.
pub(crate) struct Day {
    files: Vec<PathBuf>,
    mapping: &'static str,
    /// Pointer to the time of a line, for files that must be sorted.
    time: Option<&'static str>,
    /// Subscribers of everything, and of single channels, that one reading thread per core can
    /// serve at full speed.
    pub(crate) everything: usize,
    pub(crate) single: usize,
    /// Times the recorded pace that is a load: some MB a second.
    pub(crate) pace: u32,
    /// Patterns of several channels: streams, last values, and a mix of both.
    pub(crate) groups: [&'static str; 3],
}

impl Day {
    /// The recorded day if it is there, the short one otherwise, which is said.
    pub(crate) fn found() -> Self {
        Self::full().unwrap_or_else(|| {
            eprintln!(
                "SKIPPED the full capture: no binance-20240808 in ../shared/data or \
                 $FANFARE_DATA; the vendored one goes to fewer subscribers instead"
            );
            Self::vendored()
        })
    }

    fn full() -> Option<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = match std::env::var_os("FANFARE_DATA") {
            Some(folder) => vec![PathBuf::from(folder)],
            None => vec![manifest.join("../shared/data"), manifest.join("../../shared/data")],
        };
        let folder = folders.iter().map(|folder| folder.join("binance-20240808"));
        let folder = folder.into_iter().find(|folder| folder.is_dir())?;
        let files = [
            "usdm/btcusdt_20240808.gz",
            "usdm/ethusdt_20240808.gz",
            "spot/btcusdt_20240808.gz",
            "spot/ethusdt_20240808.gz",
            "cm/btcusd_perp_20240808.gz",
            "cm/ethusd_perp_20240808.gz",
        ];
        Some(Self {
            files: files.iter().map(|file| folder.join(file)).collect(),
            mapping: include_str!("../../examples/mappings/binance-20240808.toml"),
            time: None,
            everything: 1_000,
            single: 200,
            pace: 20,
            groups: ["binance.*.*.trade", "binance.*.*.bookTicker", "binance.spot.>"],
        })
    }

    pub(crate) fn vendored() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self {
            files: vec![manifest.join("examples/data/binance-spot-20250325.json.gz")],
            mapping: include_str!("../../examples/mappings/barter-20250325.toml"),
            time: Some("/Item/time_received"),
            everything: 100,
            single: 30,
            pace: 120,
            groups: ["trade.*", "quote.*", "*.SOLUSDT"],
        }
    }

    /// The example's rules as `--map` takes them.
    fn rules(&self) -> Vec<String> {
        let file: toml::Table = self.mapping.parse().unwrap();
        let rules = file["source"][0]["map"].as_array().unwrap();
        rules.iter().map(ToString::to_string).collect()
    }

    fn replay(&self) -> Replay {
        Replay {
            input: ReplayInput::Files(self.files.clone()),
            speed: Speed::Max,
            looping: false,
            sort: self.time.is_some(),
            time: self.time.map(|pointer| Pointer::parse(pointer).unwrap()),
            clients_min: 0,
        }
    }

    /// Calls `each` with every event of the capture, in order.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Event<'_>)) {
        let rules = self.rules().iter().map(|rule| MapRule::parse_inline(rule).unwrap()).collect();
        let mut parser = Parser::new(rules, LINE_BYTES_MAX);
        let mut capture = Capture::open(&self.replay()).unwrap();
        while let Some(record) = capture.next_record().unwrap() {
            each(&parser.parse(record.line, Some(record.file)).unwrap());
        }
    }

    /// `fanfare replay` of it into a server, with these flags, split at spaces.
    pub(crate) fn command(&self, to: &str, flags: &str) -> Command {
        let mut command = fanfare("replay");
        command.args(flags.split_whitespace()).args(["--to", to]);
        if let Some(pointer) = self.time {
            command.args(["--sort", "--time", pointer]);
        }
        for rule in self.rules() {
            command.args(["--map", &rule]);
        }
        command.args(&self.files);
        command
    }
}
