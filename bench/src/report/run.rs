//! The folders of `results/`: what a run of the harness left there, and pages of older kinds.
//!
//! Not here: what is made of it (`figures`). Invariant: nothing is written, and a folder that
//! cannot be read is an error that names the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::outcome::Outcome;
use crate::scenario::{Kind, Readers};

/// A run of the harness.
#[derive(Debug, Clone)]
pub struct Run {
    pub folder: PathBuf,
    /// The folder's name, `<date>-<host>-<scenario>`.
    pub name: String,
    pub date: String,
    pub host: String,
    pub scenario: String,
    pub command: Command,
    /// All rounds, invalid ones too, in the order in which they were taken.
    pub outcomes: Vec<Outcome>,
}

/// `command.json`: how, where and from what a run was taken.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Command {
    pub argv: Vec<String>,
    pub commit: String,
    pub profile: String,
    pub cpu: String,
    pub kernel: String,
    pub memory: Value,
    /// Settings of the host by name.
    pub tuning: Map<String, Value>,
    pub scenario: Asked,
    /// The CPUs of each server, and of the load generator.
    pub server_cpus: Vec<Value>,
    pub load_cpus: Vec<Value>,
    pub server_titles: Map<String, Value>,
    pub server_notes: Map<String, Value>,
}

impl Command {
    /// Facts about the host may lie in an object of their own, `machine`.
    fn read(path: &Path) -> io::Result<Self> {
        let mut all: Map<String, Value> = json(path)?;
        if let Some(Value::Object(machine)) = all.remove("machine") {
            all.extend(machine);
        }
        serde_json::from_value(all.into()).map_err(|error| invalid(path, error))
    }
}

/// What of a scenario its page says. A scenario that has changed since is read as well.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    pub question: String,
    pub kind: Option<Kind>,
    pub tls: bool,
    /// Of a run before there was a choice, they slept.
    #[serde(default = "sleep")]
    pub readers: Readers,
}

const fn sleep() -> Readers {
    Readers::Sleep
}

/// A result that the harness has not made: it has a page of its own.
#[derive(Debug, Clone)]
pub struct Page {
    /// The folder's name.
    pub name: String,
    /// The first heading of its page.
    pub title: String,
    pub question: String,
}

/// All of a results folder, newest first.
#[derive(Debug, Default)]
pub struct Results {
    pub runs: Vec<Run>,
    pub pages: Vec<Page>,
}

impl Results {
    /// # Errors
    /// A folder that cannot be listed, or a run that cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut results = Self::default();
        let entries = fs::read_dir(root).map_err(|error| named(root, &error))?;
        for entry in entries {
            let folder = entry.map_err(|error| named(root, &error))?.path();
            if is_run(&folder) {
                results.runs.push(Run::read(&folder)?);
            } else if folder.join("README.md").is_file() {
                results.pages.push(Page::read(&folder)?);
            }
        }
        results.runs.sort_by(|a, b| b.age().cmp(&a.age()));
        results.pages.sort_by(|a, b| b.name.cmp(&a.name));
        Ok(results)
    }

    /// The newest run of a scenario that counts.
    pub fn newest(&self, scenario: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.scenario == scenario && run.counts())
    }

    /// The newest of those that can be held against a run: on the same machine, with the same kind
    /// of readers.
    pub fn newest_like(&self, run: &Run, scenario: &str) -> Option<&Run> {
        let machine = |run: &Run| (run.host.clone(), run.command.cpu.clone());
        let is_like = |other: &&Run| {
            machine(other) == machine(run)
                && other.command.scenario.readers == run.command.scenario.readers
        };
        let mut runs = self.runs.iter().filter(is_like);
        runs.find(|run| run.scenario == scenario && run.counts())
    }
}

/// Whether a folder is a run of the harness.
pub fn is_run(folder: &Path) -> bool {
    folder.join("rounds.json").is_file()
}

impl Run {
    /// # Errors
    /// A file that is missing, or is not what it should be.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let outcomes: Vec<Outcome> = json(&folder.join("rounds.json"))?;
        let command = Command::read(&folder.join("command.json"))?;
        let name = folder.canonicalize().map_err(|error| named(folder, &error))?;
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(first) = outcomes.first() else {
            return Err(invalid(&folder.join("rounds.json"), "it holds no round: run it again"));
        };
        let scenario = first.scenario.clone();
        let (date, rest) = name.split_at_checked(10).unwrap_or((&name, ""));
        // A second run of a day has a number behind the scenario.
        let end = rest.rfind(&format!("-{scenario}")).unwrap_or(rest.len());
        let host = rest[..end].trim_start_matches('-');
        Ok(Self {
            folder: folder.to_owned(),
            date: date.into(),
            host: host.into(),
            scenario,
            command,
            outcomes,
            name,
        })
    }

    /// Whether goals are judged by it: fanfare has a round that counts, or one that it broke
    /// itself, of a release build.
    pub fn counts(&self) -> bool {
        let own = self.own();
        let is_told = |own| self.valid(own).next().is_some() || self.broken(own).is_some();
        self.command.profile == "release" && own.is_some_and(is_told)
    }

    /// Servers, in the order in which they were measured.
    pub fn servers(&self) -> Vec<&str> {
        let mut servers: Vec<&str> = Vec::new();
        for outcome in &self.outcomes {
            if !servers.contains(&outcome.server.as_str()) {
                servers.push(&outcome.server);
            }
        }
        servers
    }

    /// The name of fanfare here: `fanfare`, or else the first that begins so (`fanfare-tls`).
    pub fn own(&self) -> Option<&str> {
        let servers = self.servers();
        let exact = servers.iter().find(|name| **name == "fanfare");
        exact.or_else(|| servers.iter().find(|name| is_own(name))).copied()
    }

    /// The name of the floor here.
    pub fn floor(&self) -> Option<&str> {
        self.servers().into_iter().find(|name| is_floor(name))
    }

    /// Rounds of a server that count.
    pub fn valid<'a>(&'a self, server: &'a str) -> impl Iterator<Item = &'a Outcome> {
        self.outcomes.iter().filter(move |round| round.server == server && round.is_valid())
    }

    /// The first of its rounds that a server broke, and how, in a line.
    pub fn broken(&self, server: &str) -> Option<String> {
        let rounds = self.outcomes.iter().filter(|round| round.server == server);
        let broken = |round: &Outcome| Some((round.round, round.broken.first()?.clone()));
        let (round, why) = rounds.filter_map(broken).next()?;
        let line = why.lines().next().unwrap_or_default().trim_end_matches("; it said:");
        Some(format!("round {round}: {line}"))
    }

    /// A server's name for people.
    pub fn title<'a>(&'a self, server: &'a str) -> &'a str {
        self.command.server_titles.get(server).and_then(Value::as_str).unwrap_or(server)
    }

    fn age(&self) -> (&str, &str) {
        (&self.date, self.outcomes.first().map_or("", |first| &first.began))
    }
}

/// Whether a server is fanfare, with whatever settings.
pub fn is_own(server: &str) -> bool {
    server.starts_with("fanfare")
}

/// Whether a server is somebody else's.
pub fn is_peer(server: &str) -> bool {
    !is_own(server) && !is_floor(server)
}

/// Whether a server is the machine's floor, with TLS or without.
pub fn is_floor(server: &str) -> bool {
    server.starts_with("floor")
}

impl Page {
    fn read(folder: &Path) -> io::Result<Self> {
        let text = text(&folder.join("README.md"))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let title = text.lines().find_map(|line| line.strip_prefix("# "));
        let question = text.lines().find_map(|line| line.strip_prefix("**Question**: "));
        Ok(Self {
            title: title.unwrap_or(&name).into(),
            question: question.unwrap_or_default().into(),
            name,
        })
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_str(&text(path)?).map_err(|error| invalid(path, error))
}

/// A file's text.
///
/// # Errors
/// Those of reading it, with its name.
pub fn text(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| named(path, &error))
}

/// Writes a file if it changes.
///
/// # Errors
/// Those of writing it, with its name.
pub fn put(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// An error about what a file holds.
pub fn invalid(path: &Path, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}
