//! A capture into a source of a server that is elsewhere.
//!
//! Not here: reading and merging captures (`sources::capture`) and mapping (`sources::parser`).
//! Invariant: lines leave in the order of their recorded times.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::cli::failure::{Failure, no_signals};
use crate::cli::figures::grouped;
use crate::cli::progress::spinner;
use crate::cli::publish::Outlet;
use crate::cli::say::say;
use crate::client::Token;
use crate::config::mapping::MapRule;
use crate::config::{self, Speed};
use crate::limits::{LINE_BYTES_MAX, READ_BYTES, SKIPPED_SHOWN_MAX};
use crate::shell::clock;
use crate::shell::signals::Stop;
use crate::sources::capture::{Capture, Record};
use crate::sources::parser::Parser;

/// The longest sleep between two looks at the signals.
const SLEEP_NS_MAX: u64 = 100_000_000;

/// Sends everything to the source at `address`, or until a signal.
pub(super) fn send(
    address: &str,
    replay: &config::Replay,
    rules: Vec<MapRule>,
    token: Option<&Token>,
) -> Result<(), Failure> {
    let stop = Stop::install_once().map_err(no_signals)?;
    let bar = spinner("{spinner} {human_pos} lines  {per_sec}  {elapsed}");
    let words = bar.clone();
    let print = move |line: &str| words.suspend(|| say(line));
    let outlet = Outlet::connect(address, token, print)?;
    let mut sender = Sender {
        outlet,
        parser: (!rules.is_empty()).then(|| Parser::new(rules, LINE_BYTES_MAX)),
        out: Vec::with_capacity(READ_BYTES),
        bar,
        sent: 0,
        skipped: 0,
    };
    let result = sender.run(replay, &stop);
    sender.bar.finish_and_clear();
    let refused = sender.outlet.finish();
    let count = grouped(refused.as_ref().copied().unwrap_or_default());
    let (sent, skipped) = (grouped(sender.sent), grouped(sender.skipped));
    say(format_args!("{sent} lines sent, {skipped} skipped, {count} refused"));
    // First what the other end said: it explains a broken connection.
    let refused = refused?;
    result?;
    if refused + sender.skipped == 0 { Ok(()) } else { Err(Failure::Said) }
}

struct Sender {
    outlet: Outlet,
    parser: Option<Parser>,
    /// Lines that wait to be sent together.
    out: Vec<u8>,
    bar: ProgressBar,
    sent: u64,
    skipped: u64,
}

impl Sender {
    fn run(&mut self, replay: &config::Replay, stop: &Stop) -> Result<(), Failure> {
        loop {
            let before = self.sent;
            let ended = self.round(replay, stop)?;
            self.flush()?;
            if !ended || !replay.looping || self.sent == before {
                return Ok(());
            }
        }
    }

    /// Sends the capture once; false when a signal ended it.
    fn round(&mut self, replay: &config::Replay, stop: &Stop) -> Result<bool, Failure> {
        let run = |error: crate::sources::capture::CaptureError| Failure::Run(error.to_string());
        let mut capture = Capture::open(replay).map_err(run)?;
        let mut pacer = Pacer::new(replay.speed);
        while let Some(record) = capture.next_record().map_err(run)? {
            if let Ok(time_ns) = record.time_ns
                && let Some(due_ns) = pacer.due_ns(time_ns, clock::now().monotonic_ns)
                && !self.wait(due_ns, stop)?
            {
                return Ok(false);
            }
            self.add(&record);
            if self.out.len() >= READ_BYTES {
                self.flush()?;
            }
            if stop.asked() > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends what waits, then sleeps; false when a signal came.
    fn wait(&mut self, due_ns: u64, stop: &Stop) -> Result<bool, Failure> {
        let mut now_ns = clock::now().monotonic_ns;
        if now_ns < due_ns {
            self.flush()?;
        }
        while now_ns < due_ns {
            if stop.asked() > 0 {
                return Ok(false);
            }
            clock::sleep_until(due_ns.min(now_ns + SLEEP_NS_MAX));
            now_ns = clock::now().monotonic_ns;
        }
        Ok(true)
    }

    fn add(&mut self, record: &Record<'_>) {
        let wrong = match (&record.time_ns, &mut self.parser) {
            (Err(error), _) => Some(error.to_string()),
            (Ok(_), None) => {
                self.out.extend_from_slice(record.line);
                self.out.push(b'\n');
                None
            }
            (Ok(_), Some(parser)) => match parser.parse(record.line, Some(record.file)) {
                Ok(event) => {
                    event.write_line(&mut self.out);
                    None
                }
                Err(error) => Some(error.to_string()),
            },
        };
        match wrong {
            None => {
                self.sent += 1;
                self.bar.inc(1);
            }
            Some(why) => {
                self.skipped += 1;
                let (path, line) = (&record.file.path, record.line_number);
                let more = match self.skipped {
                    ..SKIPPED_SHOWN_MAX => "",
                    SKIPPED_SHOWN_MAX => "; what follows is counted only",
                    _ => return,
                };
                self.bar.suspend(|| say(format_args!("{path}:{line}: {why}{more}")));
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if !self.out.is_empty() {
            self.outlet.write(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// When each record is due: the recorded distances, divided by the speed, from the first one on.
#[derive(Debug)]
struct Pacer {
    speed: Speed,
    /// Recorded time and moment of the first record.
    first: Option<(u64, u64)>,
}

impl Pacer {
    const fn new(speed: Speed) -> Self {
        Self { speed, first: None }
    }

    /// The moment that a record of `time_ns` is due; none when it is sent at once.
    fn due_ns(&mut self, time_ns: u64, now_ns: u64) -> Option<u64> {
        let Speed::Times(times) = self.speed else { return None };
        let (first_ns, start_ns) = *self.first.get_or_insert((time_ns, now_ns));
        let distance = Duration::from_nanos(time_ns.saturating_sub(first_ns)).as_secs_f64() / times;
        let distance = Duration::try_from_secs_f64(distance).unwrap_or(Duration::MAX);
        let distance_ns = clock::nanoseconds(distance);
        Some(start_ns.saturating_add(distance_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event::{Event, Kind};

    #[test]
    fn the_pace_is_the_recorded_distances_over_the_speed() {
        let mut pacer = Pacer::new(Speed::Times(2.0));
        assert_eq!(pacer.due_ns(1_000_000, 500), Some(500));
        assert_eq!(pacer.due_ns(3_000_000, 900), Some(1_000_500));
        assert_eq!(pacer.due_ns(900_000, 900), Some(500));
        assert_eq!(Pacer::new(Speed::Max).due_ns(1, 2), None);
    }

    #[test]
    fn a_mapped_event_reads_back_as_the_same_event() {
        let event = Event {
            channel: "book.A",
            key: Some("a\"b"),
            kind: Kind::Snapshot,
            ts: Some(7),
            data: br#"{"p":1.10}"#,
        };
        let mut out = Vec::new();
        event.write_line(&mut out);
        assert_eq!(
            String::from_utf8(out.clone()).unwrap(),
            "{\"channel\":\"book.A\",\"key\":\"a\\\"b\",\"ts\":7,\"kind\":\"snapshot\",\
            \"data\":{\"p\":1.10}}\n"
        );
        let mut parser = Parser::new(Vec::new(), LINE_BYTES_MAX);
        assert_eq!(parser.parse(out.trim_ascii_end(), None).unwrap(), event);
    }
}
