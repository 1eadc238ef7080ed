//! `fanfare drill drop`: cuts a share of a server's clients as a network would, and reports how the
//! others fared and when as many were back.
//!
//! Everything is told from what `/stats` says before, during and after. Not here: the cuts.
//! Invariant: the figures of a part of the drill are differences of two looks at counters that only
//! grow.

mod look;

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use super::failure::{Failure, written};
use super::figures::{grouped, microseconds};
use super::operator::{admin, failed};
use crate::config::values::duration;
use crate::limits::DRAIN_MS_MAX;
use crate::shell::clock;
use crate::shell::inquiry::Inquiry;

use look::Look;

/// Rehearses a failure on a running server that was started with --drills
#[derive(Debug, clap::Args)]
pub struct Drill {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Cut a share of the clients as a network would, and see them come back
    Drop(Drop),
}

#[derive(Debug, clap::Args)]
struct Drop {
    /// The server's admin address, its setting `admin`
    #[arg(long, value_name = "ADDRESS")]
    admin: String,
    /// The share of all clients, from 0 to 1
    #[arg(long)]
    fraction: f64,
    /// Time over which they are cut, in ms, s or m
    #[arg(long, value_name = "TIME", default_value = "0ms")]
    over: String,
    /// How long the clients may take to come back, in ms, s or m
    #[arg(long, value_name = "TIME", default_value = "60s")]
    patience: String,
    /// File with the admin token, if the server wants one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(100);

/// What the time before the drill is judged by.
const BEFORE: Duration = Duration::from_secs(3);

/// Time over which the highest rate of handshakes is taken.
const PEAK: Duration = Duration::from_secs(1);

/// How a drill went.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    /// Connections that were open before.
    connections: u64,
    /// Those that were cut.
    cut: u64,
    /// Upgrades in a second, from the beginning until as many had subscribed again.
    handshakes_per_second: f64,
    /// The same in the busiest second.
    handshakes_per_second_max: f64,
    /// The part of TLS handshakes that a ticket shortened; none without TLS.
    tls_resumed: Option<f64>,
    /// 99th percentile of ingest until the last client was sent an event, microseconds; none
    /// without events.
    last_send_p99_us_before: Option<u64>,
    /// The same during the drill.
    last_send_p99_us_during: Option<u64>,
    /// From the beginning until as many clients had subscribed again; none: not in time.
    recovered_ms: Option<u64>,
    /// Clients that were subscribed before, and at the end.
    subscribed: (u64, u64),
}

impl Drill {
    /// Does the drill, and reports.
    ///
    /// # Errors
    /// A server that refuses, or clients that do not come back.
    pub fn run(&self) -> Result<(), Failure> {
        let What::Drop(drop) = &self.what;
        drop.run()
    }
}

impl Drop {
    fn run(&self) -> Result<(), Failure> {
        let time = |flag: &str, text: &str| {
            duration(text, 0..=DRAIN_MS_MAX).map_err(|wrong| {
                Failure::Usage(format!("{flag}: {}; allowed: {}", wrong.what, wrong.allowed))
            })
        };
        let (over, patience) = (time("--over", &self.over)?, time("--patience", &self.patience)?);
        if !(0.0..=1.0).contains(&self.fraction) {
            return Err(Failure::Usage("--fraction is from 0 to 1, such as 0.3".into()));
        }
        let admin = admin(&self.admin, self.token_file.as_ref())?;
        let outcome = self.rehearse(&admin, over, patience)?;
        let text = if self.json {
            simd_json::serde::to_string(&outcome).expect("all keys are strings")
        } else {
            outcome.text(over)
        };
        written(writeln!(stdout(), "{text}"))?;
        match outcome.recovered_ms {
            Some(_) => Ok(()),
            None => Err(Failure::Run(format!(
                "only {} of {} clients are back; they may need longer than --patience {}",
                outcome.subscribed.1, outcome.subscribed.0, self.patience
            ))),
        }
    }

    fn rehearse(
        &self,
        admin: &Inquiry,
        over: Duration,
        patience: Duration,
    ) -> Result<Outcome, Failure> {
        let look = || Look::at(admin);
        let first = look()?;
        sleep(BEFORE);
        let before = look()?;
        let path = format!("/drill/drop?fraction={}&over={}ms", self.fraction, over.as_millis());
        admin.ask("POST", &path).map_err(failed)?;
        let begun_ns = clock::now().monotonic_ns;
        let mut looks = vec![(Duration::ZERO, before.clone())];
        let (passed, end) = loop {
            sleep(PERIOD);
            let passed = Duration::from_nanos(clock::now().monotonic_ns - begun_ns);
            let now = look()?;
            if !now.follows(&looks.last().expect("the first is there").1) {
                let what = "the server was started anew during the drill; its figures are gone";
                return Err(Failure::Run(what.into()));
            }
            looks.push((passed, now.clone()));
            // A tick later all that shall be cut is, and the gauge says so.
            let is_cut = passed > over + PERIOD;
            let is_back = is_cut && now.subscribed >= before.subscribed;
            if is_back || passed > over + patience {
                break (is_back.then_some(passed), now);
            }
        };
        let elapsed = passed.unwrap_or(over + patience).as_secs_f64();
        let tls = end.tls_handshakes - before.tls_handshakes;
        let resumed = (end.tls_resumed - before.tls_resumed) as f64;
        let milliseconds =
            |time: Duration| u64::try_from(time.as_millis()).expect("its range allows no more");
        Ok(Outcome {
            connections: before.connections,
            cut: end.drilled - before.drilled,
            handshakes_per_second: (end.opened - before.opened) as f64 / elapsed,
            handshakes_per_second_max: peak(&looks),
            tls_resumed: (tls > 0).then(|| resumed / tls as f64),
            last_send_p99_us_before: before.last_send_p99_us(&first),
            last_send_p99_us_during: end.last_send_p99_us(&before),
            recovered_ms: passed.map(milliseconds),
            subscribed: (before.subscribed, end.subscribed),
        })
    }
}

/// The highest rate of upgrades over about [`PEAK`], in a second.
fn peak(looks: &[(Duration, Look)]) -> f64 {
    let rate = |(at, (time, look)): (usize, &(Duration, Look))| {
        let later = looks[at..].iter().find(|(later, _)| *later >= *time + PEAK);
        let (later, then) = later.or_else(|| looks.last())?;
        let seconds = later.saturating_sub(*time).max(PERIOD).as_secs_f64();
        Some((then.opened - look.opened) as f64 / seconds.max(PEAK.as_secs_f64()))
    };
    looks.iter().enumerate().filter_map(rate).fold(0.0, f64::max)
}

impl Outcome {
    fn text(&self, over: Duration) -> String {
        let time = |us: Option<u64>| us.map_or_else(|| "no events".to_owned(), microseconds);
        let resumed = match self.tls_resumed {
            Some(part) => format!("; TLS resumed: {:.0} %", 100.0 * part),
            None => String::new(),
        };
        let back = match self.recovered_ms {
            Some(ms) => format!("after {}", microseconds(ms * 1_000)),
            None => "not in time".into(),
        };
        format!(
            "cut {} of {} clients over {}\n\
             handshakes       {:.0}/s, {:.0}/s in the busiest second{resumed}\n\
             last send p99    {} before, {} during\n\
             subscribed again {back}",
            grouped(self.cut),
            grouped(self.connections),
            crate::config::values::show_duration(over),
            self.handshakes_per_second,
            self.handshakes_per_second_max,
            time(self.last_send_p99_us_before),
            time(self.last_send_p99_us_during),
        )
    }
}
