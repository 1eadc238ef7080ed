//! An open-loop producer: events at intended times, whatever the server does.
//!
//! Not here: what is measured with them. Invariant: an event's `ts` is when it should have been
//! sent, so a producer that is late makes latencies longer, never shorter.

use std::fmt::Write as _;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two events of the channel that is measured: 100 a second.
const STEP: Duration = Duration::from_millis(10);

/// Channels of the crowd. Each client has one of them, so that an event for the crowd goes to a
/// hundredth of it: one that goes to all is late by itself, and would hide the storm.
pub(crate) const CROWD_CHANNELS: u64 = 100;

/// Beside each event that is measured, so many of the crowd's channels have one, in turn: every
/// channel has two a second.
const CROWD_EVENTS: u64 = 2;

/// Bytes of the frame of an event, about.
const FRAME_BYTES: usize = 256;

/// The channel that is measured, and the first token of the crowd's.
pub(crate) const STEADY: &str = "steady";
pub(crate) const CROWD: &str = "crowd";

/// A running producer.
pub(crate) struct Producer {
    stop: Arc<AtomicBool>,
    late_ns_max: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Producer {
    /// Starts to send to the source at `address`.
    pub(crate) fn start(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let late_ns_max = Arc::new(AtomicU64::new(0));
        let (stopped, late) = (Arc::clone(&stop), Arc::clone(&late_ns_max));
        let pad = "x".repeat(FRAME_BYTES - 130);
        let thread = thread::spawn(move || {
            let (start, start_ns) = (Instant::now(), unix_ns());
            let mut lines = String::new();
            for number in 1_u64.. {
                let intended = STEP * u32::try_from(number).expect("the run is short");
                thread::sleep(intended.saturating_sub(start.elapsed()));
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let late_ns = (start.elapsed() - intended).as_nanos();
                late.fetch_max(u64::try_from(late_ns).unwrap(), Ordering::Relaxed);
                let ts = start_ns + u64::try_from(intended.as_nanos()).unwrap();
                lines.clear();
                writeln!(lines, r#"{{"channel":"{STEADY}","ts":{ts},"data":"{pad}"}}"#).unwrap();
                for at in number * CROWD_EVENTS..(number + 1) * CROWD_EVENTS {
                    let channel = at % CROWD_CHANNELS;
                    writeln!(lines, r#"{{"channel":"{CROWD}.{channel}","ts":{ts},"data":1}}"#)
                        .unwrap();
                }
                stream.write_all(lines.as_bytes()).unwrap();
            }
        });
        Self { stop, late_ns_max, thread: Some(thread) }
    }

    /// How late it was at most since the last look, microseconds.
    pub(crate) fn late_us_max(&self) -> u64 {
        self.late_ns_max.swap(0, Ordering::Relaxed) / 1_000
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn unix_ns() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(unix.as_nanos()).unwrap()
}
