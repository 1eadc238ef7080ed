//! Logs to standard error, also while a live view stands at the bottom of the terminal.
//!
//! Not here: what is logged. Invariant: while a view holds the terminal, log lines wait here
//! (bounded, the oldest go first) for the view to print above itself, and are written out when it
//! ends.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;

use crate::config::values::Wrong;
use crate::limits::HELD_LINES_MAX;

static HELD: Mutex<Option<VecDeque<Vec<u8>>>> = Mutex::new(None);

/// Takes `info`, `debug` or any directive of tracing's filter.
///
/// # Errors
/// What is wrong with it.
pub fn filter(text: &str) -> Result<EnvFilter, Wrong> {
    EnvFilter::try_new(text).map_err(|error| {
        let allowed = "off, error, warn, info, debug, trace or target=level";
        Wrong::new(format!("`{text}`: {error}"), allowed)
    })
}

/// Starts logging. A view cannot show colours that are in the text, so it asks for `plain` lines.
pub fn start(filter: EnvFilter, plain: bool) {
    let colours = !plain && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    // A second start, in tests, keeps the first one's settings.
    let _already_started = logs.with_target(false).with_writer(|| Sink).try_init();
}

/// Holds log lines back from the terminal until dropped.
#[derive(Debug)]
pub struct Hold(());

impl Hold {
    /// Begins to hold lines back.
    #[must_use]
    pub fn begin() -> Self {
        held().get_or_insert_default();
        Self(())
    }

    /// The lines that came since the last call, without their newlines.
    #[must_use]
    pub fn take(&self) -> Vec<Vec<u8>> {
        held().as_mut().map(|lines| lines.drain(..).collect()).unwrap_or_default()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        for line in held().take().into_iter().flatten() {
            let _lost_terminal =
                io::stderr().write_all(&line).and_then(|()| writeln!(io::stderr()));
        }
    }
}

fn held() -> MutexGuard<'static, Option<VecDeque<Vec<u8>>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where tracing writes one event at a time.
#[derive(Debug)]
struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match held().as_mut() {
            None => io::stderr().write_all(bytes)?,
            Some(lines) => {
                if lines.len() == HELD_LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(bytes.trim_ascii_end().to_vec());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
