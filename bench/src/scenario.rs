//! A scenario: what is sent, to how many, for how long. One TOML file in `bench/scenarios/`.
//!
//! Not here: who is measured (`server`). Invariant: an unknown key is an error.

use std::fs;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::server::{Server, Subscribe};
use crate::{payload, server};

/// Clients have addresses and ports on loopback, and descriptors of one process.
const CLIENTS_MAX: u64 = 1_000_000;
/// A round of a day shows everything that an hour does not.
const SECONDS_MAX: f64 = 86_400.0;

/// What a scenario asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The name of the file, without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// One sentence for the report.
    pub question: String,
    pub kind: Kind,
    pub clients: u64,
    /// Events a second.
    #[serde(default)]
    pub events_per_s: f64,
    /// Bytes of a payload.
    #[serde(default = "two_hundred_fifty_six")]
    pub payload_bytes: u64,
    /// The measured part; what comes before it, unmeasured.
    pub seconds: f64,
    #[serde(default = "two")]
    pub warm_up_s: f64,
    /// Rounds of each server, taking turns.
    #[serde(default = "five")]
    pub rounds: u32,
    /// Channels, and how many of them each client subscribes to.
    #[serde(default = "one")]
    pub channels: u64,
    #[serde(default = "one")]
    pub channels_per_client: u64,
    /// Subscriptions changed, a second, of all clients together.
    #[serde(default)]
    pub changes_per_s: f64,
    /// The share of clients that stop reading.
    #[serde(default)]
    pub stalled: f64,
    /// The share of clients that leave and are replaced, a second.
    #[serde(default)]
    pub churn_per_s: f64,
    /// Over TLS.
    #[serde(default)]
    pub tls: bool,
    /// What subscribers do when there is nothing to read.
    #[serde(default)]
    pub readers: Readers,
    /// Of a capture: how many times as fast as it was recorded.
    #[serde(default = "one_times")]
    pub pace: f64,
    /// Of a storm: clients that stay, and the time over which the others come back.
    #[serde(default)]
    pub stay: u64,
    #[serde(default)]
    pub jitter_s: f64,
    /// Whether peers, and the floor, can do it: one channel.
    #[serde(default)]
    pub peers: bool,
    /// The servers it is about; none: every one that can do it.
    #[serde(default)]
    pub servers: Vec<String>,
}

/// What a thread of subscribers does when nothing has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Readers {
    /// It asks again at once, while it is measured: on loopback whoever sends to a thread that
    /// sleeps pays for waking it
    #[default]
    Spin,
    /// It sleeps until something comes, as on CPUs that are not its own
    Sleep,
}

/// What is done in the measured part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Events at a constant rate.
    Constant,
    /// The rate is raised until the 99th percentile is above 50 ms or a message is lost.
    Capacity,
    /// The recorded feed, at a multiple of its pace.
    Capture,
    /// Connections without events.
    Idle,
    /// All clients are dropped at once and come back.
    Storm,
}

const fn one() -> u64 {
    1
}
const fn one_times() -> f64 {
    1.0
}
const fn two() -> f64 {
    2.0
}
const fn five() -> u32 {
    5
}
const fn two_hundred_fifty_six() -> u64 {
    256
}

impl Scenario {
    /// Reads a scenario's file.
    ///
    /// # Errors
    /// Which file and key is wrong, and the names there are.
    pub fn load(name: &str) -> Result<Self, String> {
        let path = folder().join(format!("{name}.toml"));
        let text = fs::read_to_string(&path).map_err(|error| {
            let all = names().join(", ");
            format!("{}: {error}; scenarios are: {all}", path.display())
        })?;
        let mut scenario: Self =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        name.clone_into(&mut scenario.name);
        scenario.check().map_err(|wrong| format!("{}: {wrong}", path.display()))?;
        Ok(scenario)
    }

    /// Whether its values make sense together.
    ///
    /// # Errors
    /// The key that does not, and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let bytes = usize::try_from(self.payload_bytes).unwrap_or(usize::MAX);
        payload::Template::new(bytes.min(1 << 20)).map(|_| ())?;
        if self.payload_bytes > 1 << 16 {
            return Err("payload_bytes: at most 65536, so that a frame fits a read".into());
        }
        let rated = matches!(self.kind, Kind::Constant | Kind::Capacity | Kind::Storm);
        if rated && !(self.events_per_s > 0.0 && self.events_per_s.is_finite()) {
            return Err("events_per_s: a number above 0 is needed".into());
        }
        if !(1..=CLIENTS_MAX).contains(&self.clients) {
            return Err(format!("clients: 1 to {CLIENTS_MAX}"));
        }
        if self.channels == 0 || self.channels > payload::CHANNELS_MAX {
            return Err(format!("channels: 1 to {}", payload::CHANNELS_MAX));
        }
        if self.channels_per_client == 0 {
            return Err("channels_per_client: 1 at least".into());
        }
        if !(0.0..1.0).contains(&self.stalled) {
            return Err("stalled: a share from 0 to below 1".into());
        }
        if self.kind == Kind::Storm && (self.stay == 0 || self.stay >= self.clients) {
            return Err("stay: some clients, but not all, stay in a storm".into());
        }
        if self.kind == Kind::Storm && self.stalled > 0.0 {
            return Err("stalled: not in a storm, whose clients are dropped and come back".into());
        }
        let is_number_above_0 = self.pace > 0.0 && self.pace.is_finite();
        if self.kind == Kind::Capture && !is_number_above_0 {
            return Err("pace: a number above 0 is needed".into());
        }
        if !(1.0..=SECONDS_MAX).contains(&self.seconds) {
            return Err(format!("seconds: 1 to {SECONDS_MAX}"));
        }
        for (key, seconds) in [("warm_up_s", self.warm_up_s), ("jitter_s", self.jitter_s)] {
            if !(0.0..=SECONDS_MAX).contains(&seconds) {
                return Err(format!("{key}: 0 to {SECONDS_MAX}"));
            }
        }
        for (key, rate) in
            [("churn_per_s", self.churn_per_s), ("changes_per_s", self.changes_per_s)]
        {
            if !(rate >= 0.0 && rate.is_finite()) {
                return Err(format!("{key}: a number, 0 or above"));
            }
        }
        Ok(())
    }

    /// Whether a server can do it: all that are ours, peers where it says so or names them.
    #[must_use]
    pub fn is_for(&self, server: &Server) -> bool {
        server.subscribe == Subscribe::Fanfare || self.peers || self.servers.contains(&server.name)
    }

    /// Whether clients come, go or change in the measured part, so that what they should receive
    /// follows only from what they received.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.churn_per_s > 0.0 || self.changes_per_s > 0.0
    }
}

fn folder() -> PathBuf {
    server::folder().join("scenarios")
}

/// All scenarios that have a file.
#[must_use]
pub fn names() -> Vec<String> {
    server::toml_names(&folder())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_make_no_sense_are_refused_by_their_key() {
        let steady = r#"question = "?"
            kind = "constant"
            clients = 10
            events_per_s = 10
            seconds = 1"#;
        let read = |text: &str| toml::from_str::<Scenario>(text).unwrap().check();
        read(steady).unwrap();
        let storm = "kind = \"storm\"\nstay = 5\njitter_s = 1";
        let capture = |pace: &str| format!("kind = \"capture\"\npace = {pace}");
        let with = |line: &str| {
            let key = line.split(' ').next().unwrap();
            let kept = steady.lines().filter(|kept| {
                let kept = kept.trim_start().split(' ').next().unwrap();
                kept != key && !(kept == "kind" && line.contains("kind"))
            });
            format!("{}\n{line}", kept.collect::<Vec<_>>().join("\n"))
        };
        read(&with(storm)).unwrap();
        read(&with(&capture("10"))).unwrap();
        for (line, key) in [
            ("clients = 0", "clients"),
            ("channels_per_client = 0", "channels_per_client"),
            ("seconds = nan", "seconds"),
            ("seconds = inf", "seconds"),
            ("warm_up_s = nan", "warm_up_s"),
            ("churn_per_s = -1", "churn_per_s"),
            ("changes_per_s = inf", "changes_per_s"),
            (&format!("{storm}\nstalled = 0.5"), "stalled"),
            (&capture("nan"), "pace"),
            (&capture("inf"), "pace"),
        ] {
            let refused = read(&with(line)).unwrap_err();
            assert!(refused.starts_with(&format!("{key}: ")), "{line}: {refused}");
        }
    }
}
