//! `fanfare serve`: settings, a server, one ready line, an orderly stop.
//!
//! Not here: what the settings mean (`config`) and the server itself. Invariant: standard output
//! gets exactly one line (and the view, if asked for) unless `--check` is given; logs go to
//! standard error.

use std::io::{self, Write, stdout};
use std::net::SocketAddr;
use std::time::Duration;

use super::failure::{Failure, no_signals, written};
use super::flags::{SettingFlags, host, layers};
use super::logging::Log;
use super::watch::{Display, watch};
use crate::config::resolve::{Resolved, resolve};
use crate::config::{LogSettings, Settings};
use crate::server::{Reread, Server, StartError, check_access};
use crate::shell::signals::{self, Stop};
use crate::shell::supervisor;

/// Serves events from sources to WebSocket subscribers.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Settings file; flags and variables win over it [default: none] [env: FANFARE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Check the settings, print the effective ones with their origins, and exit
    #[arg(long)]
    check: bool,
    /// Show live figures: rows on a terminal, else a line every 2 s [default: off]
    #[arg(long)]
    view: bool,
    /// With --view: lines even on a terminal
    #[arg(long, requires = "view")]
    plain: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

impl Serve {
    /// Serves until a signal.
    ///
    /// # Errors
    /// Wrong settings, all of them; a start that failed; a view that cannot be drawn.
    pub fn run(self) -> Result<(), Failure> {
        let read = move || -> Result<Resolved, String> {
            let raw = layers(self.config.as_deref(), self.settings.raw.clone());
            resolve(&raw, &host(), None).map_err(|problems| problems.to_string())
        };
        let resolved = read().map_err(Failure::Usage)?;
        if self.check {
            if let Some(access) = &resolved.settings.access {
                check_access(access).map_err(|error| Failure::Usage(error.to_string()))?;
            }
            let text = resolved.lines.join("\n");
            return written(writeln!(stdout(), "{text}")).map(drop);
        }
        let display = if self.view { Display::suited(self.plain) } else { Display::Nothing };
        let log = start_log(&resolved.settings.log, display == Display::Rows)?;
        let logs = log.clone();
        let reread = Reread {
            in_force: resolved.values,
            read: Box::new(read),
            apply: Box::new(move |settings| logs.apply(&settings.log)),
        };
        let stop = Stop::install_with_reload();
        let running = Running::start(&resolved.settings, stop, Some(reread));
        let ended = running.and_then(|running| {
            running.say_ready()?;
            running.run(display)
        });
        log.flush();
        ended
    }
}

/// Starts the log of a server.
pub(super) fn start_log(settings: &LogSettings, plain: bool) -> Result<Log, Failure> {
    Log::start(settings, plain).map_err(|error| Failure::Run(format!("thread log: {error}")))
}

/// A server with the signals that stop it.
#[derive(Debug)]
pub struct Running {
    server: Server,
    stop: Stop,
}

impl Running {
    /// Starts a server that the signals of `stop` end in order, and whose settings can be read
    /// again with `reread`.
    ///
    /// # Errors
    /// Why it could not start, with the cure.
    pub fn start(
        settings: &Settings,
        stop: io::Result<Stop>,
        reread: Option<Reread>,
    ) -> Result<Self, Failure> {
        let stop = stop.map_err(no_signals)?;
        // A start takes as long as its journal, or the other end of a stream, makes it.
        let beginning = signals::Beginning::new().map_err(no_signals)?;
        let server = Server::start(settings, reread).map_err(|error| match error {
            StartError::Access(error) => Failure::Usage(error.to_string()),
            error => Failure::Run(error.to_string()),
        })?;
        drop(beginning);
        Ok(Self { server, stop })
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Prints the line that other programs wait for, and tells a service manager; a closed pipe is
    /// nobody waiting.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn say_ready(&self) -> Result<(), Failure> {
        let mut out = stdout().lock();
        let Server { listen, tls, sources, admin, .. } = &self.server;
        let line = ready_line(*listen, *tls, sources, *admin, std::process::id());
        let said = written(writeln!(out, "{line}").and_then(|()| out.flush())).map(drop);
        supervisor::ready(&format!("serving at {listen}"));
        said
    }

    /// Shows the figures until a signal or a command to drain, then drains and stops the server; a
    /// second signal ends the wait.
    ///
    /// # Errors
    /// The view cannot be drawn, or the server cannot go on; it is stopped in order even so.
    pub fn run(self, display: Display) -> Result<(), Failure> {
        let mut shown = watch(&self.server, &self.stop, display);
        if let (Ok(()), Some(why)) = (&shown, self.server.failure()) {
            shown = Err(Failure::Run(why.to_owned()));
        }
        if shown.is_ok() {
            self.drain();
        }
        self.stop();
        shown
    }

    fn stop(self) {
        tracing::info!("stopping; a second signal ends it at once");
        supervisor::stopping("stopping", self.server.stop_timeout());
        // Without a signal (the view failed) the first one is enough.
        let patience = self.stop.asked().min(1);
        let cut = self.server.stop(|| self.stop.asked() > patience);
        if cut > 0 {
            tracing::warn!("{cut} connections did not close in time and were cut");
        }
    }

    /// Serves until the sources have ended and every client was sent everything, or until a signal,
    /// then stops the server without a drain.
    pub fn run_to_end(self) {
        while !self.server.has_delivered() && !self.stop.wait(END_PERIOD) {}
        self.stop();
    }

    /// Sends the clients away one by one, if there is to be time for it, until a signal.
    fn drain(&self) {
        if !self.server.is_draining() {
            if !self.stop.is_gentle() || self.server.drain_window().is_zero() {
                return;
            }
            self.server.drain(None);
        }
        let asked = self.stop.asked();
        while self.stop.asked() == asked && !self.server.is_drained() {
            std::thread::sleep(DRAIN_PERIOD);
        }
    }
}

/// Between two looks whether everything was delivered.
const END_PERIOD: Duration = Duration::from_millis(50);

/// Between two looks at a drain.
const DRAIN_PERIOD: Duration = Duration::from_millis(5);

fn ready_line(
    listen: SocketAddr,
    tls: Option<SocketAddr>,
    sources: &[String],
    admin: Option<SocketAddr>,
    process: u32,
) -> String {
    let mut line = format!("ready listen={listen}");
    if let Some(tls) = tls {
        line.push_str(&format!(" tls={tls}"));
    }
    for source in sources {
        line.push_str(&format!(" source={source}"));
    }
    if let Some(admin) = admin {
        line.push_str(&format!(" admin={admin}"));
    }
    line.push_str(&format!(" pid={process}"));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_what_was_picked() {
        let sources = ["tcp://127.0.0.1:40001".into(), "stdin://".into()];
        let (listen, admin) = ("127.0.0.1:9001".parse().unwrap(), "127.0.0.1:9003".parse().ok());
        let tls = "127.0.0.1:9443".parse().ok();
        assert_eq!(
            ready_line(listen, tls, &sources, admin, 7),
            "ready listen=127.0.0.1:9001 tls=127.0.0.1:9443 source=tcp://127.0.0.1:40001 \
            source=stdin:// admin=127.0.0.1:9003 pid=7"
        );
    }
}
