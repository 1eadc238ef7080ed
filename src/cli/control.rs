//! `fanfare drain`, `fanfare reload` and `fanfare status`: an operator's words to a running server.
//!
//! Not here: what the server does. Invariant: success means that the server has said so.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::time::Duration;

use super::failure::{Failure, written};
use super::figures::grouped;
use crate::config::values::{duration, show_duration};
use crate::limits::DRAIN_MS_MAX;
use crate::protocol::control::{Reply, Request};
use crate::shell::control::ControlStream;

/// Sends every client of a running server away, one by one; the server then ends.
#[derive(Debug, clap::Args)]
pub struct Drain {
    /// The server's control socket, its setting `control`
    path: PathBuf,
    /// Time over which the connections are closed, in ms, s or m [default: the server's]
    #[arg(long, value_name = "TIME")]
    window: Option<String>,
}

/// Makes a running server read its settings, certificates and access rules again.
#[derive(Debug, clap::Args)]
pub struct Reload {
    /// The server's control socket, its setting `control`
    path: PathBuf,
}

/// Says how a running server is; succeeds while it serves, for health checks.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// The server's control socket, its setting `control`
    path: PathBuf,
}

impl Status {
    /// Asks, and says what was answered.
    ///
    /// # Errors
    /// A server that cannot be reached or does not serve newcomers.
    pub fn run(&self) -> Result<(), Failure> {
        let Reply { stage, clients, .. } = ask(&self.path, Request::Status)?;
        let stage = stage.unwrap_or_default();
        say(&format!("{stage}, {} clients", grouped(clients.unwrap_or_default())))?;
        if stage == "serving" { Ok(()) } else { Err(Failure::Said) }
    }
}

impl Drain {
    /// Asks, and says what was answered.
    ///
    /// # Errors
    /// A window that is none, a server that cannot be reached or refuses.
    pub fn run(&self) -> Result<(), Failure> {
        let window = self.window.as_deref().map(|text| duration(text, 0..=DRAIN_MS_MAX));
        let window = window.transpose().map_err(|wrong| {
            Failure::Usage(format!("--window: {}; allowed: {}", wrong.what, wrong.allowed))
        })?;
        let milliseconds =
            |time: Duration| u64::try_from(time.as_millis()).expect("its range allows no more");
        let Reply { clients, window_ms, .. } =
            ask(&self.path, Request::Drain { window_ms: window.map(milliseconds) })?;
        let clients = grouped(clients.unwrap_or_default());
        // Some of it is over when the answer comes.
        let left_ms = match window_ms.unwrap_or_default() {
            left_ms @ 0..1_000 => left_ms,
            left_ms => left_ms.next_multiple_of(1_000),
        };
        let time = show_duration(Duration::from_millis(left_ms));
        say(&format!("draining {clients} clients over {time}"))
    }
}

impl Reload {
    /// Asks, and says what was answered.
    ///
    /// # Errors
    /// A server that cannot be reached, or what is wrong with the files.
    pub fn run(&self) -> Result<(), Failure> {
        let Reply { reloaded, after_restart, .. } = ask(&self.path, Request::Reload)?;
        match reloaded.unwrap_or_default() {
            none if none.is_empty() => say("nothing has changed that can be reloaded")?,
            reloaded => say(&format!("reloaded: {}", reloaded.join(", ")))?,
        }
        for key in after_restart.unwrap_or_default() {
            say(&format!("{key} has changed, and is in force after a restart"))?;
        }
        Ok(())
    }
}

fn ask(path: &std::path::Path, request: Request) -> Result<Reply, Failure> {
    ControlStream::connect(path)
        .and_then(|mut server| server.ask(request))
        .map_err(|error| Failure::Run(error.to_string()))
}

fn say(line: &str) -> Result<(), Failure> {
    written(writeln!(stdout(), "{line}")).map(drop)
}
