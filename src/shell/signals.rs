//! SIGINT and SIGTERM as values.
//!
//! Not here: what a stop does. Invariant: once installed, no signal ends the process by itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// The signals that asked this process to stop. Dropping it ends the thread; the signals stay
/// without effect.
#[derive(Debug)]
pub struct Stop {
    receiver: Receiver<()>,
    asked: Arc<AtomicUsize>,
    handle: Handle,
}

impl Stop {
    /// Takes SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// The operating system's, when the handlers or their thread cannot be made.
    pub fn install() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let (sender, receiver) = channel();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                counter.fetch_add(1, Ordering::Relaxed);
                if sender.send(()).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { receiver, asked, handle })
    }

    /// Waits for a signal; false when `timeout` passed without one.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        match self.receiver.recv_timeout(timeout) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => self.asked() > 0,
            Err(RecvTimeoutError::Disconnected) => true,
        }
    }

    /// Signals so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.handle.close();
    }
}
