//! A server under test: how it is started, fed and subscribed to. One TOML file in
//! `bench/servers/`.
//!
//! Not here: what is asked of it (`scenario`). Invariant: an unknown key is an error.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A server's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The name of the file, without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// For the report, without a version: `nats-server (WebSocket)`.
    pub title: String,
    /// Program and arguments. `{port}` is where subscribers connect, `{feed}` where the producer
    /// does, `{tools}` the folder that `bench/peers/install` fills, `{bench}` this folder,
    /// `{scratch}` a new folder for this start, `{self}` this program, `{fanfare}` the server built
    /// from this checkout, `{cpus}` how many CPUs it is given, `{cpu_list}` which (`0,2`).
    pub command: Vec<String>,
    /// As `command`: prints its version on its first line.
    pub version: Vec<String>,
    /// Files to write before the start, with the same placeholders: path in `{scratch}`, text.
    #[serde(default)]
    pub files: Vec<(String, String)>,
    pub subscribe: Subscribe,
    pub publish: Publish,
    /// The path of the subscribers' upgrade request, where there is one.
    #[serde(default = "root")]
    pub path: String,
    /// The path or subject that the producer publishes to, where there is one.
    #[serde(default)]
    pub target: String,
    /// Whether subscribers connect with TLS; its certificate and key, for `localhost`, are in
    /// `{scratch}/certificate.pem`.
    #[serde(default)]
    pub tls: bool,
    /// Whether subscribers ask for compression (permessage-deflate), which the server must agree to
    /// without keeping a context, so that a message is the same bytes for all of them.
    #[serde(default)]
    pub deflate: bool,
    /// Whether it is measured only where a scenario or the command line names it.
    #[serde(default)]
    pub by_name: bool,
    /// Settings chosen in its favour, and why, for the report.
    #[serde(default)]
    pub notes: String,
}

/// What a subscriber says and hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subscribe {
    /// Upgrade, then fanfare's `subscribe` method.
    Fanfare,
    /// Upgrade, and every message is the payload of an event.
    Websocket,
    /// Upgrade, then NATS' protocol inside binary messages.
    Nats,
    /// No upgrade: WebSocket frames at once (the floor).
    Frames,
}

/// How an event reaches the server, over one connection to `{feed}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// `{"channel":"bench.0","data":PAYLOAD}` and a line feed (fanfare).
    Ndjson,
    /// The payload and a line feed.
    Lines,
    /// Upgrade at `target`, then one masked text message an event.
    Websocket,
    /// `PUB`.
    Nats,
    /// `POST` to `target`, pipelined.
    Http,
}

fn root() -> String {
    "/".into()
}

impl Server {
    /// Reads a server's file.
    ///
    /// # Errors
    /// Which file and key is wrong, and the names there are.
    pub fn load(name: &str) -> Result<Self, String> {
        let path = folder().join("servers").join(format!("{name}.toml"));
        let text = fs::read_to_string(&path).map_err(|error| {
            let all = names().join(", ");
            format!("{}: {error}; servers are: {all}", path.display())
        })?;
        let mut server: Self =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        name.clone_into(&mut server.name);
        Ok(server)
    }

    /// Whether the file has this placeholder.
    #[must_use]
    pub fn names(&self, placeholder: &str) -> bool {
        let files = self.files.iter().map(|(_, text)| text);
        self.command.iter().chain(&self.version).chain(files).any(|word| word.contains(placeholder))
    }

    /// Why it cannot be started, with placeholders filled in: the file that is not there.
    #[must_use]
    pub fn missing(&self, words: &[String]) -> Option<String> {
        let tools = tools().display().to_string();
        let path = |word: &&String| word.starts_with(&tools) || word.starts_with('/');
        let gone = words.iter().take(1).chain(words.iter().filter(|word| word.starts_with(&tools)));
        let gone = gone.filter(path).find(|word| !Path::new(word.as_str()).exists())?;
        let (name, peer) = (&self.name, self.peer());
        Some(format!("{name}: {gone} is not there; run bench/peers/install {peer}"))
    }

    /// What `bench/peers/install` is to be told: the folder of what it needs, or its name for
    /// those that are built together.
    #[must_use]
    pub fn peer(&self) -> &str {
        let needed = self.command.iter().find_map(|word| word.strip_prefix("{tools}/"));
        let folder = needed.and_then(|path| path.split('/').next());
        folder.filter(|folder| *folder != "rust").unwrap_or(&self.name)
    }

    /// Whether what it needs is installed.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        let tools = tools().display().to_string();
        let words: Vec<String> =
            self.command.iter().map(|word| word.replace("{tools}", &tools)).collect();
        self.missing(&words).is_none()
    }
}

/// This package's folder.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os("FANFARE_BENCH")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// The folder that `bench/peers/install` fills.
#[must_use]
pub fn tools() -> PathBuf {
    repository().join(".tools").join("peers")
}

/// The repository's folder.
#[must_use]
pub fn repository() -> PathBuf {
    let bench = folder();
    bench.parent().map_or_else(|| bench.join(".."), Path::to_owned)
}

/// All servers that have a file.
#[must_use]
pub fn names() -> Vec<String> {
    toml_names(&folder().join("servers"))
}

/// The names of the TOML files of a folder, in order.
#[must_use]
pub fn toml_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_suffix(".toml").map(str::to_owned)
        })
        .collect();
    names.sort_unstable();
    names
}

/// The program to measure: this one, else that of the environment, else the release build.
///
/// # Errors
/// When it is not there, and the command that builds it.
pub fn fanfare(program: Option<&Path>) -> Result<PathBuf, String> {
    let given = program.map(Path::to_owned);
    let given = given.or_else(|| std::env::var_os("FANFARE_PROGRAM").map(PathBuf::from));
    let path = match given {
        Some(path) => path,
        None => {
            let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
            let profile = this.parent().expect("a program is in a folder");
            let builds = profile.parent().unwrap_or(profile);
            builds.join("release").join("fanfare")
        }
    };
    let path = std::path::absolute(&path).unwrap_or(path);
    if path.exists() {
        return Ok(path);
    }
    Err(format!(
        "{} is not there; build it with: cargo build --release -p fanfare (or name another one: \
         FANFARE_PROGRAM=…)",
        path.display()
    ))
}
