//! SIGINT, SIGTERM and SIGHUP as values.
//!
//! Not here: what follows from them. Invariant: once installed, no signal that is taken ends the
//! process by itself, except while a [`Beginning`] lives, and the second one after
//! [`Stop::install_once`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::iterator::{Handle, Signals};

/// The exit code of a program that a second signal has ended, as shells have it for SIGINT.
const INTERRUPTED: i32 = 130;

#[derive(Debug, Default)]
struct Asked {
    stops: AtomicUsize,
    /// Whether the first one was SIGTERM.
    is_gentle: AtomicBool,
    reload: AtomicBool,
}

/// The signals that asked this process to stop. Dropping it ends the thread; the signals stay
/// without effect.
#[derive(Debug)]
pub struct Stop {
    receiver: Receiver<()>,
    asked: Arc<Asked>,
    handle: Handle,
}

/// While it lives, SIGINT and SIGTERM end the process at once and in order: a program that has not
/// begun to serve has nothing to say goodbye to.
#[derive(Debug)]
pub struct Beginning(Arc<AtomicBool>);

impl Beginning {
    /// Begins.
    ///
    /// # Errors
    /// The operating system's, when the handlers cannot be made.
    pub fn new() -> io::Result<Self> {
        let is_beginning = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM] {
            register_conditional_shutdown(signal, 0, Arc::clone(&is_beginning))?;
        }
        Ok(Self(is_beginning))
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Stop {
    /// Takes SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// The operating system's, when the handlers or their thread cannot be made.
    pub fn install() -> io::Result<Self> {
        Self::take(&[SIGINT, SIGTERM])
    }

    /// Takes the first SIGINT or SIGTERM, for programs that may wait in a write and look at nothing
    /// meanwhile: a second one ends the process at once.
    ///
    /// # Errors
    /// As for [`Self::install`].
    pub fn install_once() -> io::Result<Self> {
        let has_come = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first one only notes that it has come.
            register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&has_come))?;
            signal_hook::flag::register(signal, Arc::clone(&has_come))?;
        }
        Self::install()
    }

    /// Takes SIGHUP too, for programs that outlive their terminal.
    ///
    /// # Errors
    /// As for [`Self::install`].
    pub fn install_with_reload() -> io::Result<Self> {
        Self::take(&[SIGINT, SIGTERM, SIGHUP])
    }

    fn take(taken: &[i32]) -> io::Result<Self> {
        let signals = Signals::new(taken)?;
        let handle = signals.handle();
        let asked = Arc::new(Asked::default());
        let (sender, receiver) = channel();
        let noted = Arc::clone(&asked);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || note(signals, &noted, &sender))?;
        Ok(Self { receiver, asked, handle })
    }

    /// Waits for a signal; true once this process was asked to stop. A signal to reload ends the
    /// wait as well.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let ended = self.receiver.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected);
        ended || self.asked() > 0
    }

    /// How often this process was asked to stop.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.stops.load(Ordering::Acquire)
    }

    /// Whether the first one of them was SIGTERM, which leaves time, and not SIGINT.
    #[must_use]
    pub fn is_gentle(&self) -> bool {
        self.asked() > 0 && self.asked.is_gentle.load(Ordering::Relaxed)
    }

    /// Whether a signal has asked to reload since the last call.
    #[must_use]
    pub fn take_reload(&self) -> bool {
        self.asked.reload.swap(false, Ordering::Relaxed)
    }
}

fn note(mut signals: Signals, asked: &Asked, sender: &Sender<()>) {
    for signal in signals.forever() {
        if signal == SIGHUP {
            asked.reload.store(true, Ordering::Relaxed);
        } else {
            if asked.stops.load(Ordering::Relaxed) == 0 {
                asked.is_gentle.store(signal == SIGTERM, Ordering::Relaxed);
            }
            asked.stops.fetch_add(1, Ordering::Release);
        }
        if sender.send(()).is_err() {
            break;
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.handle.close();
    }
}
