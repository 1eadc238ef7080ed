//! The folder of a run: `rounds.json`, `command.json`, and the latencies of each server.
//!
//! Not here: pages and pictures (`report`). Invariant: after each round the folder is complete, so
//! a run that is broken off keeps what it has.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::histogram;
use crate::machine;
use crate::outcome::Outcome;
use crate::rig::{Round, Setup};
use crate::server::Server;

#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    rounds: Vec<Outcome>,
    latencies: BTreeMap<String, Latencies>,
}

/// Of one server.
#[derive(Debug)]
struct Latencies {
    /// Of the rounds that count.
    sum: Histogram<u64>,
    /// One line a round: its number, and the histogram.
    text: String,
}

impl Folder {
    /// Makes `<date>-<host>-<scenario>` in `parent`; with a number behind it when that is taken.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(parent: &Path, setups: &[Setup]) -> Result<Self, String> {
        let setup = setups.first().ok_or("a run needs a server")?;
        let (today, host) = (machine::today(), machine::host());
        let name = format!("{today}-{host}-{}", setup.scenario.name);
        let names = (1..).map(|number| match number {
            1 => name.clone(),
            more => format!("{name}-{more}"),
        });
        let mut free = names.map(|name| parent.join(name)).filter(|path| !path.exists());
        let path = free.next().expect("there is always a larger number");
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let folder = Self { path, rounds: Vec::new(), latencies: BTreeMap::new() };
        folder.write_json("command.json", &command(setup, setups))?;
        Ok(folder)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn rounds(&self) -> &[Outcome] {
        &self.rounds
    }

    /// Adds a round and writes it down.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, round: Round) -> Result<(), String> {
        let Round { outcome, latency, .. } = round;
        let server = outcome.server.clone();
        let new = || Latencies { sum: histogram::empty(), text: String::new() };
        let latencies = self.latencies.entry(server.clone()).or_insert_with(new);
        let line = histogram::to_text(&latency);
        writeln!(latencies.text, "{}\t{line}", outcome.round).expect("memory takes everything");
        if outcome.is_valid() {
            histogram::add(&mut latencies.sum, &latency);
        }
        let (lines, table) = (latencies.text.clone(), histogram::table(&latencies.sum));
        self.rounds.push(outcome);
        self.write(&format!("{server}.hdr"), &lines)?;
        self.write(&format!("{server}.hgrm"), &table)?;
        self.write_rounds()
    }

    /// Notes for all rounds of a server what was measured beside them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_syscalls(&mut self, server: &str, per_delivery: f64) -> Result<(), String> {
        for outcome in self.rounds.iter_mut().filter(|outcome| outcome.server == server) {
            outcome.server_use.syscalls_per_delivery = Some(per_delivery);
        }
        self.write_rounds()
    }

    fn write_rounds(&self) -> Result<(), String> {
        self.write_json("rounds.json", &serde_json::to_value(&self.rounds).expect("plain data"))
    }

    fn write_json(&self, name: &str, value: &Value) -> Result<(), String> {
        let text = serde_json::to_string_pretty(value).expect("plain data");
        self.write(name, &(text + "\n"))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// How a run was made and where.
fn command(setup: &Setup, setups: &[Setup]) -> Value {
    let said = |text: fn(&Server) -> &String| -> Map<String, Value> {
        let servers = setups.iter().map(|setup| &setup.server);
        servers.map(|server| (server.name.clone(), text(server).as_str().into())).collect()
    };
    let words: Vec<String> = std::env::args().collect();
    json!({
        "argv": words,
        "commit": machine::commit(),
        "profile": machine::profile(),
        "date": jiff::Timestamp::now().to_string(),
        "server_cpus": setup.server_cpus,
        "load_cpus": setup.load_cpus,
        "processes": setup.processes,
        "scenario": setup.scenario,
        "server_titles": said(|server| &server.title),
        "server_notes": said(|server| &server.notes),
        "machine": machine::describe(),
    })
}
