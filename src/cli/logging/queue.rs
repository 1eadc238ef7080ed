//! The lines on their way to standard error: a bounded queue and the thread that writes.
//!
//! Not here: which lines there are (`limiter`). Invariant: who logs never waits, neither for the
//! terminal, a pipe or a disk nor for the thread; what finds the queue full is lost, and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::Duration;

use super::limiter::{LOG_TARGET, Limiter};
use super::redact::redact;
use crate::limits::{LOG_END_MS, LOG_LINES_MAX, LOG_REPORT_MS};
use crate::shell::clock;

/// Where lines go in.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    sender: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Everything before was written once this is answered.
    Flush(std::sync::mpsc::Sender<()>),
}

impl Queue {
    /// Starts the thread, which gives each line to `print`.
    pub(super) fn start(limiter: Limiter, print: fn(&[u8])) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(LOG_LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { receiver, lost: Arc::clone(&lost), limiter, print };
        std::thread::Builder::new().name("log".into()).spawn(move || writer.run())?;
        Ok(Self { sender, lost })
    }

    /// Waits, for a bounded time, until what was put in before was written.
    pub(super) fn flush(&self) {
        let (done, flushed) = channel();
        if self.sender.try_send(Item::Flush(done)).is_ok() {
            let _out_of_patience = flushed.recv_timeout(Duration::from_millis(LOG_END_MS));
        }
    }
}

/// Takes one whole line at a time.
impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Item::Line(bytes.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer {
    receiver: Receiver<Item>,
    lost: Arc<AtomicU64>,
    limiter: Limiter,
    print: fn(&[u8]),
}

impl Writer {
    fn run(self) {
        let mut reported_ns = clock::now().monotonic_ns;
        loop {
            match self.receiver.recv_timeout(Duration::from_millis(LOG_REPORT_MS)) {
                Ok(item) => self.handle(item),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now_ns = clock::now().monotonic_ns;
            if now_ns - reported_ns >= LOG_REPORT_MS * 1_000_000 {
                self.report();
                reported_ns = now_ns;
            }
        }
    }

    fn handle(&self, item: Item) {
        match item {
            Item::Line(mut line) => {
                redact(&mut line);
                (self.print)(&line);
            }
            Item::Flush(done) => {
                self.report();
                while let Ok(Item::Line(line)) = self.receiver.try_recv() {
                    self.handle(Item::Line(line));
                }
                // Whoever asked may have lost patience.
                let _ = done.send(());
            }
        }
    }

    /// Says what was left out, by lines of this same queue.
    fn report(&self) {
        self.limiter.report();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(
                target: LOG_TARGET,
                lost,
                "log lines were lost, because standard error is not read fast enough"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::Sender;

    use super::*;

    static GATE: Mutex<()> = Mutex::new(());
    static WRITTEN: AtomicU64 = AtomicU64::new(0);

    fn print(line: &[u8]) {
        let _open = GATE.lock().unwrap();
        assert_eq!(line, b"token=***\n");
        WRITTEN.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_costs_what_does_not_fit() {
        let mut queue = Queue::start(Limiter::new(0), print).unwrap();
        let more = 100;
        let closed = GATE.lock().unwrap();
        for _ in 0..LOG_LINES_MAX + more {
            queue.write_all(b"token=secret.secret\n").unwrap();
        }
        let lost = queue.lost.load(Ordering::Relaxed);
        // The thread may have taken one line already.
        assert!((more as u64 - 1..=more as u64).contains(&lost), "{lost} were lost");
        drop(closed);
        let (done, flushed): (Sender<()>, _) = channel();
        queue.sender.send(Item::Flush(done)).unwrap();
        flushed.recv().unwrap();
        assert_eq!(WRITTEN.load(Ordering::Relaxed), (LOG_LINES_MAX + more) as u64 - lost);
    }
}
