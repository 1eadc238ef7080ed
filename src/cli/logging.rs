//! Logs to standard error, also while a live view stands at the bottom of the terminal.
//!
//! Who logs only puts a line into a bounded queue; a thread of its own writes it. Not here: what is
//! logged. Invariant: while a view holds the terminal, log lines wait here (bounded, the oldest go
//! first) for the view to print above itself, and are written out when it ends.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use self::limiter::Limiter;
use self::queue::Queue;
use crate::config::{LogFormat, LogSettings};
use crate::limits::HELD_LINES_MAX;

mod limiter;
mod queue;
mod redact;

static HELD: Mutex<Option<VecDeque<Vec<u8>>>> = Mutex::new(None);

/// The log of this process; dropping it writes out what waits.
#[derive(Debug, Clone)]
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    limiter: Limiter,
    queue: Queue,
}

impl Log {
    /// Starts logging. A view cannot show colours that are in the text, so it asks for `plain`
    /// lines.
    ///
    /// # Errors
    /// The kernel's reason to refuse the thread.
    pub fn start(settings: &LogSettings, plain: bool) -> io::Result<Self> {
        let (filter, handle) = reload::Layer::new(filter(settings));
        let limiter = Limiter::new(settings.ends_per_second);
        let queue = Queue::start(limiter.clone(), print)?;
        let out = queue.clone();
        let base = Registry::default().with(filter).with(limiter.clone());
        let terminal = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || out.clone());
        // A second start, in tests, keeps the first one's settings.
        let _already_started = match settings.format {
            LogFormat::Text => {
                let colours = !plain && terminal;
                base.with(lines.with_ansi(colours).with_target(false)).try_init()
            }
            LogFormat::Json => base.with(lines.json().flatten_event(true)).try_init(),
        };
        write_out_before_a_panic(queue.clone());
        Ok(Self { filter: handle, limiter, queue })
    }

    /// Takes other settings; the format stays as it was.
    pub fn apply(&self, settings: &LogSettings) {
        self.limiter.set_ends_per_second(settings.ends_per_second);
        // Fails only when the log has ended.
        let _ = self.filter.reload(filter(settings));
    }

    /// Writes out what waits, for a bounded time.
    pub fn flush(&self) {
        self.queue.flush();
    }
}

fn filter(settings: &LogSettings) -> EnvFilter {
    EnvFilter::try_new(&settings.filter).expect("the settings checked it")
}

/// A panic may end the process before the queue is empty.
fn write_out_before_a_panic(queue: Queue) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        queue.flush();
        default(panic);
    }));
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

/// Writes one line, or leaves it to the view.
fn print(line: &[u8]) {
    let mut held = held();
    let Some(lines) = held.as_mut() else {
        drop(held);
        let _lost_terminal = io::stderr().write_all(line);
        return;
    };
    if lines.len() == HELD_LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(line.trim_ascii_end().to_vec());
}
