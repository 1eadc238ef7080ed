//! The producer: a thread that sends each event when it is due, whatever the server does.
//!
//! Not here: what is due (`schedule`), and how it is written (`publisher`). Invariant: an event
//! that a full socket held up goes out later with the time at which it should have gone; after a
//! break, which may have been in the middle of an event, nothing is sent any more.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::clock::{SECOND_NS, now_ns, sleep_until};
use crate::cpus;
use crate::publisher::Publisher;
use crate::schedule::{Numbers, Pace, Schedule};

/// Bytes of one write at most, and about what waits in this program when a socket is full.
const WRITE_BYTES: usize = 256 << 10;
/// Between two writes: above 10,000 events a second, those of this time leave together.
const PAUSE_NS: u64 = 100_000;
/// How long after the end of a part a server may take to accept the last events.
const PATIENCE_NS: u64 = 10 * SECOND_NS;
/// Writes after which the producer looks whether the server said something.
const LISTEN_EVERY: u64 = 16;

/// A part of a run.
#[derive(Debug, Clone)]
pub struct Part {
    pub pace: Pace,
    pub begin_ns: u64,
    /// From here on it is measured.
    pub measure_ns: u64,
    pub end_ns: u64,
}

/// What was sent in a part.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// Of the measured part, by channel.
    pub by_channel: Vec<u64>,
    /// By second of the measured part.
    pub by_second: Vec<u64>,
    /// How late an event was written when no socket was full.
    pub late_max_ns: u64,
    /// The longest time for which the socket was full.
    pub blocked_max_ns: u64,
    /// The newest event of each channel.
    pub newest: Vec<u64>,
    /// Why the part ended early.
    pub broken: Option<String>,
}

impl Sent {
    /// Events of the measured part.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.by_channel.iter().sum()
    }
}

/// The running thread.
#[derive(Debug)]
pub struct Producer {
    parts: Option<Sender<Part>>,
    sent: Receiver<Sent>,
    thread: Option<JoinHandle<()>>,
}

impl Producer {
    /// Starts the thread on these CPUs.
    #[must_use]
    pub fn start(publisher: Publisher, channels: u64, cpus: Vec<usize>) -> Self {
        let (parts, todo) = channel::<Part>();
        let (done, sent) = channel();
        let work = move || {
            cpus::pin(&cpus);
            cpus::prefer();
            let mut state = State::new(publisher, channels);
            for part in todo {
                if done.send(state.send(&part)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("producer".into()).spawn(work);
        let thread = thread.expect("a host that runs servers has room for a thread");
        Self { parts: Some(parts), sent, thread: Some(thread) }
    }

    /// Begins a part.
    pub fn begin(&self, part: Part) {
        let parts = self.parts.as_ref().expect("it is there until the drop");
        parts.send(part).expect("the thread lives as long as this");
    }

    /// Waits for the end of the part.
    #[must_use]
    pub fn end(&self) -> Sent {
        self.sent.recv().expect("the thread answers every part")
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.parts = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed, and its part is missing.
            let _ = thread.join();
        }
    }
}

struct State {
    publisher: Publisher,
    numbers: Numbers,
    out: Vec<u8>,
    /// Why the connection is of no use any more.
    broken: Option<String>,
}

impl State {
    fn new(publisher: Publisher, channels: u64) -> Self {
        Self { publisher, numbers: Numbers::new(channels), out: Vec::new(), broken: None }
    }

    fn send(&mut self, part: &Part) -> Sent {
        let channels = self.numbers.newest.len();
        let mut sent = Sent { by_channel: vec![0; channels], ..Sent::default() };
        let wait = |until_ns| {
            sleep_until(until_ns);
            now_ns()
        };
        if self.broken.is_none()
            && let Err(error) = self.run(part, &mut sent, wait)
        {
            self.broken = Some(format!("the producer: {error}"));
        }
        sent.broken.clone_from(&self.broken);
        sent.newest.clone_from(&self.numbers.newest);
        sent
    }

    /// Sends a part; `wait` sleeps until a time and says what time it is then.
    fn run(
        &mut self,
        part: &Part,
        sent: &mut Sent,
        mut wait: impl FnMut(u64) -> u64,
    ) -> io::Result<()> {
        let mut schedule = Schedule::new(part.pace.clone(), part.begin_ns, part.end_ns);
        let (mut free_since_ns, mut writes) = (0, 0);
        while let Some(next_ns) = schedule.next_ns() {
            let now = wait(next_ns);
            let was_held_up = next_ns < free_since_ns;
            if !was_held_up && next_ns >= part.measure_ns {
                sent.late_max_ns = sent.late_max_ns.max(now - next_ns);
            }
            self.encode(part, &mut schedule, now, sent);
            // More than a write holds was held up: what waits behind it is the server's doing, too.
            let is_behind = schedule.next_ns().is_some_and(|next_ns| next_ns <= now);
            let blocked_ns = self.flush(part.end_ns + PATIENCE_NS)?;
            sent.blocked_max_ns = sent.blocked_max_ns.max(blocked_ns);
            if blocked_ns > 0 || was_held_up && is_behind {
                free_since_ns = wait(0);
            }
            writes += 1;
            if writes % LISTEN_EVERY == 0 {
                self.publisher.listen()?;
            }
            if schedule.next_ns().is_some_and(|next_ns| next_ns < now + PAUSE_NS) {
                wait(now + PAUSE_NS);
            }
        }
        self.publisher.listen()
    }

    fn encode(&mut self, part: &Part, schedule: &mut Schedule, now: u64, sent: &mut Sent) {
        while self.out.len() < WRITE_BYTES
            && let Some(said) = schedule.due(now, &mut self.numbers)
        {
            self.publisher.write(&mut self.out, said);
            let Some(since_ns) = said.intended_ns.checked_sub(part.measure_ns) else { continue };
            sent.by_channel[said.channel as usize] += 1;
            let second = usize::try_from(since_ns / SECOND_NS).expect("rounds are short");
            if sent.by_second.len() <= second {
                sent.by_second.resize(second + 1, 0);
            }
            sent.by_second[second] += 1;
        }
    }

    /// Writes everything; how long the socket was full meanwhile.
    fn flush(&mut self, give_up_ns: u64) -> io::Result<u64> {
        let (mut written, mut full_since_ns) = (0, None);
        while written < self.out.len() {
            match self.publisher.stream.write(&self.out[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let now = now_ns();
                    full_since_ns.get_or_insert(now);
                    if now > give_up_ns {
                        return Err(io::Error::other("the server takes no more events"));
                    }
                    self.publisher.listen()?;
                    wait_writable(self.publisher.stream.as_raw_fd());
                }
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        Ok(full_since_ns.map_or(0, |since| now_ns() - since))
    }
}

/// Waits until a socket takes bytes, or has some, for 20 ms at most.
fn wait_writable(socket: i32) {
    let mut wait = libc::pollfd { fd: socket, events: libc::POLLOUT | libc::POLLIN, revents: 0 };
    // SAFETY: `wait` is one valid entry for the length of the call.
    unsafe { libc::poll(&raw mut wait, 1, 20) };
}

#[cfg(test)]
mod tests {
    use std::io::{Read, copy, sink};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::payload::{BYTES_MIN, Template, intended_ns};
    use crate::server::Publish;

    fn connected() -> (Publisher, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let template = Template::new(BYTES_MIN).unwrap();
        let address = listener.local_addr().unwrap();
        let publisher = Publisher::connect(address, Publish::Lines, "", template).unwrap();
        (publisher, listener.accept().unwrap().0)
    }

    #[test]
    fn a_producer_that_oversleeps_is_late_at_any_rate() {
        const MS: u64 = 1_000_000;
        for events_per_s in [100.0, 20_000.0] {
            let (publisher, mut server) = connected();
            thread::spawn(move || copy(&mut server, &mut sink()));
            let mut state = State::new(publisher, 1);
            let pace = Pace::Constant { events_per_s };
            let part = Part { pace, begin_ns: MS, measure_ns: MS, end_ns: 101 * MS };
            // A clock of its own, which stands still between waits and oversleeps once.
            let (mut now, mut overslept) = (0, false);
            let wait = |until_ns: u64| {
                now = until_ns.max(now);
                if now >= 30 * MS && !overslept {
                    (now, overslept) = (now + 50 * MS, true);
                }
                now
            };
            let mut sent = Sent { by_channel: vec![0], ..Sent::default() };
            state.run(&part, &mut sent, wait).unwrap();
            assert!(sent.late_max_ns >= 40 * MS, "{events_per_s}/s: {sent:?}");
            assert!(sent.late_max_ns <= 51 * MS, "{events_per_s}/s: {sent:?}");
            assert_eq!(sent.events() as f64, events_per_s / 10.0);
        }
    }

    #[test]
    fn after_a_break_no_other_part_begins_in_the_middle_of_an_event() {
        let (publisher, server) = connected();
        let mut state = State::new(publisher, 1);
        drop(server);
        let now = now_ns();
        let pace = Pace::Constant { events_per_s: 1e6 };
        let part = Part { pace, begin_ns: now, measure_ns: now, end_ns: now + 50_000_000 };
        let first = state.send(&part);
        assert!(first.broken.is_some(), "{first:?}");
        let next_ns = now + 60_000_000;
        let next = Part { begin_ns: next_ns, measure_ns: next_ns, end_ns: next_ns + 1000, ..part };
        let second = state.send(&next);
        assert_eq!((second.events(), second.broken), (0, first.broken));
    }

    #[test]
    fn a_server_that_reads_late_gets_every_event_with_its_intended_time() {
        let (publisher, mut server) = connected();
        let producer = Producer::start(publisher, 1, Vec::new());
        // 50 MB in 50 ms are more than the sockets hold: the producer is pushed back.
        let (begin_ns, count) = (now_ns(), 600_000);
        let pace = Pace::Constant { events_per_s: 12e6 };
        let end_ns = begin_ns + 50_000_000;
        producer.begin(Part { pace, begin_ns, measure_ns: begin_ns, end_ns });
        sleep_until(begin_ns + 100_000_000);
        let mut bytes = vec![0; count * (BYTES_MIN + 1)];
        server.read_exact(&mut bytes).unwrap();
        let sent = producer.end();
        assert_eq!((sent.events(), &*sent.newest), (count as u64, &[count as u64][..]));
        assert!(sent.blocked_max_ns > 10_000_000, "{sent:?}");
        assert_eq!(sent.broken, None);
        for (number, line) in bytes.chunks_exact(BYTES_MIN + 1).enumerate() {
            let due_ns = (number as f64 * 1e9 / 12e6) as u64;
            assert_eq!(intended_ns(line), begin_ns + due_ns, "event {number}");
        }
    }
}
