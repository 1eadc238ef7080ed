//! `fanfare replay`: a capture into a server's source, at its recorded pace or another.
//!
//! Not here: reading and merging captures (`sources::capture`) and mapping (`sources::parser`); a
//! server replays by itself with `--source replay:…`, this is for one that is elsewhere.
//! Invariant: lines leave in the order of their recorded times.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::credentials::TokenFlags;
use super::failure::Failure;
use super::figures::grouped;
use super::publish::Outlet;
use crate::config;
use crate::config::mapping::{MapRule, Pointer};
use crate::config::source_url::{files, speed};
use crate::config::values::Wrong;
use crate::config::{ReplayInput, Speed};
use crate::limits::{LINE_BYTES_MAX, READ_BYTES, SKIPPED_SHOWN_MAX};
use crate::protocol::event::{Event, Kind};
use crate::protocol::json::{write_string, write_u64};
use crate::shell::clock;
use crate::shell::signals::Stop;
use crate::sources::capture::{Capture, Record};
use crate::sources::parser::Parser;

/// The longest sleep between two looks at the signals.
const SLEEP_NS_MAX: u64 = 100_000_000;

/// Sends a capture to a server's source.
#[derive(Debug, clap::Args)]
pub struct Replay {
    /// Plain or gzip files, NDJSON or `<ns> <raw JSON>` lines, merged by time
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Source of the server: tcp://HOST:PORT or unix:///PATH
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// Pace: max, or a factor of the recorded pace
    #[arg(long, value_name = "N|max", default_value = "1")]
    speed: String,
    /// Start again at the end [default: send once]
    #[arg(long = "loop")]
    looping: bool,
    /// Read everything first and sort by time, for files that are not in order [default: off]
    #[arg(long)]
    sort: bool,
    /// JSON pointer to the time in a line, such as /data/E [default: the line's own `ts`]
    #[arg(long, value_name = "POINTER")]
    time: Option<String>,
    /// Mapping into events, a TOML inline table, repeatable [default: lines are events already]
    #[arg(long, value_name = "RULE")]
    map: Vec<String>,
    #[command(flatten)]
    token: TokenFlags,
}

impl Replay {
    /// Sends everything, or until a signal.
    ///
    /// # Errors
    /// Wrong flags, all of them; files or a connection that fail; lines that were refused.
    pub fn run(&self) -> Result<(), Failure> {
        let (replay, rules) = self.meant()?;
        let token = self.token.read()?;
        let stop = Stop::install().map_err(|error| Failure::Run(format!("signals: {error}")))?;
        let bar = progress();
        let words = bar.clone();
        let print = move |line: &str| words.suspend(|| eprintln!("{line}"));
        let outlet = Outlet::connect(&self.to, token.as_ref(), print)?;
        let mut sender = Sender {
            outlet,
            parser: (!rules.is_empty()).then(|| Parser::new(rules, LINE_BYTES_MAX)),
            out: Vec::with_capacity(READ_BYTES),
            bar,
            sent: 0,
            skipped: 0,
        };
        let result = sender.run(&replay, &stop);
        sender.bar.finish_and_clear();
        let refused = sender.outlet.finish();
        let count = grouped(refused.as_ref().copied().unwrap_or_default());
        let (sent, skipped) = (grouped(sender.sent), grouped(sender.skipped));
        eprintln!("{sent} lines sent, {skipped} skipped, {count} refused");
        // First what the other end said: it explains a broken connection.
        let refused = refused?;
        result?;
        if refused + sender.skipped == 0 { Ok(()) } else { Err(Failure::Said) }
    }

    fn meant(&self) -> Result<(config::Replay, Vec<MapRule>), Failure> {
        let mut problems = Vec::new();
        let paths = noted(&mut problems, "FILE", files(self.files.iter().map(String::as_str)));
        let speed = noted(&mut problems, "--speed", speed(&self.speed));
        let time = self.time.as_deref().map(|text| {
            let pointer = Pointer::parse(text);
            let wrong = |what| Wrong::new(format!("`{text}`: {what}"), "a pointer such as /data/E");
            noted(&mut problems, "--time", pointer.map_err(wrong))
        });
        let rules = self.map.iter().map(|text| {
            let wrong = |what| Wrong::new(what, "such as { channel = \"trade.{/s}\" }");
            noted(&mut problems, "--map", MapRule::parse_inline(text).map_err(wrong))
        });
        let rules: Option<Vec<_>> = rules.collect();
        match (paths, speed, rules) {
            (Some(paths), Some(speed), Some(rules)) if problems.is_empty() => {
                let input = ReplayInput::Files(paths);
                let (looping, sort, time) = (self.looping, self.sort, time.flatten());
                Ok((config::Replay { input, speed, looping, sort, time }, rules))
            }
            _ => Err(Failure::Usage(problems.join("\n"))),
        }
    }
}

fn noted<T>(problems: &mut Vec<String>, flag: &str, result: Result<T, Wrong>) -> Option<T> {
    result
        .map_err(|wrong| {
            problems.push(format!("{flag}: {}; allowed: {}", wrong.what, wrong.allowed))
        })
        .ok()
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
                if stop.asked() > 0 {
                    return Ok(false);
                }
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
                    write_event(&mut self.out, &event);
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
                self.bar.suspend(|| eprintln!("{path}:{line}: {why}{more}"));
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

/// Appends an event as a producer's line.
fn write_event(out: &mut Vec<u8>, event: &Event<'_>) {
    out.extend_from_slice(b"{\"channel\":");
    write_string(out, event.channel);
    if let Some(key) = event.key {
        out.extend_from_slice(b",\"key\":");
        write_string(out, key);
    }
    if let Some(ts) = event.ts {
        out.extend_from_slice(b",\"ts\":");
        write_u64(out, ts);
    }
    if event.kind != Kind::Update {
        out.extend_from_slice(b",\"kind\":");
        write_string(out, event.kind.as_str());
    }
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(event.data);
    out.extend_from_slice(b"}\n");
}

fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        return bar;
    }
    let template = "{spinner} {human_pos} lines  {per_sec}  {elapsed}";
    bar.set_style(ProgressStyle::with_template(template).expect("a constant"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::shell::fake::listen;

    fn replay(file: &str, to: &str) -> Replay {
        Replay {
            files: vec![file.into()],
            to: to.into(),
            speed: "max".into(),
            looping: false,
            sort: true,
            time: Some("/Item/time_received".into()),
            map: Vec::new(),
            token: TokenFlags::default(),
        }
    }

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
        write_event(&mut out, &event);
        assert_eq!(
            String::from_utf8(out.clone()).unwrap(),
            "{\"channel\":\"book.A\",\"key\":\"a\\\"b\",\"ts\":7,\"kind\":\"snapshot\",\
            \"data\":{\"p\":1.10}}\n"
        );
        let mut parser = Parser::new(Vec::new(), LINE_BYTES_MAX);
        assert_eq!(parser.parse(out.trim_ascii_end(), None).unwrap(), event);
    }

    #[test]
    fn a_capture_arrives_mapped_and_in_the_order_of_its_times() {
        let (address, source) = listen(|mut stream| {
            let mut taken = String::new();
            stream.read_to_string(&mut taken).unwrap();
            taken
        });
        let to = format!("tcp://{address}");
        let mut replay = replay("examples/data/binance-spot-20250325.json.gz", &to);
        replay.map = ["Trade", "OrderBookL1"]
            .map(|kind| {
                format!(
                    r#"{{ channel = "{kind}.{{/Item/instrument}}", data = "/Item/kind/{kind}",
                        ts = "/Item/time_received" }}"#
                )
            })
            .to_vec();
        replay.run().unwrap();
        let taken = source.join().unwrap();
        assert_eq!(taken.lines().count(), 50_000);
        let first = "{\"channel\":\"OrderBookL1.1\",\"ts\":1742944020773684644,\"data\":";
        assert!(taken.starts_with(first), "{}", &taken[..200]);
        let times = taken.lines().map(|line| {
            let at = line.find("\"ts\":").unwrap() + 5;
            line[at..at + 19].parse::<u64>().unwrap()
        });
        assert!(times.is_sorted());
    }

    #[test]
    fn all_wrong_flags_are_reported_at_once() {
        let mut replay = replay("absent.gz", "tcp://127.0.0.1:1");
        replay.speed = "fast".into();
        replay.time = Some("time".into());
        replay.map = vec!["channel".into()];
        let failure = replay.run().unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        let text = failure.to_string();
        for flag in ["FILE: cannot read `absent.gz`", "--speed: `fast`", "--time: ", "--map: "] {
            assert!(text.contains(flag), "{flag} in {text}");
        }
    }
}
