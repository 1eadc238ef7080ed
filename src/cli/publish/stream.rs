//! `fanfare publish nats://…`: events into a JetStream stream, without a server between.
//!
//! Lines are checked here, as a server's source checks them. Not here: sending ([`crate::nats`]).
//! Invariant: the command says success only if the stream has acknowledged every line; with
//! `--fast`, only if every line was sent.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::super::failure::Failure;
use super::super::figures::grouped;
use crate::cli::say::say;
use crate::cli::serve::start_log;
use crate::config::values::{self, Wrong};
use crate::config::{Forward, LogFormat, LogSettings, NatsSource};
use crate::limits::{LINE_BYTES_MAX, LOG_ENDS_PER_SECOND, READ_BYTES};
use crate::nats::{self, Create, NatsError, Outlet, Publishing};
use crate::shell::clock;
use crate::sources::intake::Refusal;
use crate::sources::lines::Lines;
use crate::sources::parser::Parser;

/// How events go into a stream.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct StreamFlags {
    /// nats://: send without acknowledgements; what a lost connection swallows is lost [default:
    /// every event is acknowledged, and sent again until it is]
    #[arg(long)]
    fast: bool,
    /// nats://: what the events' identities begin with, so that the same input sent again within
    /// two minutes is taken once [default: another one each time]
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// nats://: make the stream if there is none
    #[arg(long)]
    create: bool,
    /// --create: servers that each keep all of it [default: 1]
    #[arg(long, value_name = "N", requires = "create")]
    replicas: Option<usize>,
    /// --create: how long it keeps a message, in ms, s or m [default: for ever]
    #[arg(long, value_name = "TIME", requires = "create")]
    max_age: Option<String>,
    /// --create: how much it keeps, in B, KiB, MiB or GiB [default: what there is room for]
    #[arg(long, value_name = "SIZE", requires = "create")]
    max_bytes: Option<String>,
    /// --create: keep it in memory only [default: on disk]
    #[arg(long, requires = "create")]
    memory: bool,
}

/// Longest time that a stream may be told to keep a message: ten years.
const AGE_MS_MAX: u64 = 10 * 366 * 86_400_000;

impl StreamFlags {
    /// Publishes everything and waits until it is settled.
    ///
    /// # Errors
    /// Wrong flags, a stream that cannot be used, or lines that were refused.
    pub(super) fn publish(&self, address: &str, file: Option<&str>) -> Result<(), Failure> {
        let wrong = |what: &str, wrong: Wrong| {
            Failure::Usage(format!("{what}{}; allowed: {}", wrong.what, wrong.allowed))
        };
        let source = NatsSource::parse(address).map_err(|error| wrong("", error))?;
        let publishing = Publishing {
            forward: if self.fast { Forward::Fast } else { Forward::Acknowledged },
            name: self.id.clone().unwrap_or_else(|| ulid::Ulid::generate().to_string()),
            create: self.create().map_err(|error| wrong("--create: ", error))?,
        };
        match file {
            None | Some("-") => run(&source, publishing, io::stdin().lock(), "standard input"),
            Some(path) => {
                let file = File::open(path)
                    .map_err(|error| Failure::Usage(format!("cannot read `{path}`: {error}")))?;
                run(&source, publishing, file, path)
            }
        }
    }

    /// Says so when a flag is given and the address is none of a stream.
    ///
    /// # Errors
    /// It is.
    pub(super) fn refuse(&self) -> Result<(), Failure> {
        if *self == Self::default() {
            return Ok(());
        }
        let what = "--fast, --id and --create are for streams: nats://HOST[:PORT]/STREAM";
        Err(Failure::Usage(what.into()))
    }

    fn create(&self) -> Result<Option<Create>, Wrong> {
        if !self.create {
            return Ok(None);
        }
        let age = self.max_age.as_deref().map(|text| values::duration(text, 1_000..=AGE_MS_MAX));
        let bytes = self.max_bytes.as_deref().map(|text| values::size(text, 1..=usize::MAX >> 1));
        Ok(Some(Create {
            replicas: self.replicas.unwrap_or(1),
            age_max: age.transpose()?.unwrap_or(Duration::ZERO),
            bytes_max: bytes.transpose()?.map(|bytes| bytes as u64),
            in_memory: self.memory,
        }))
    }
}

fn run(
    source: &NatsSource,
    publishing: Publishing,
    input: impl Read,
    name: &str,
) -> Result<(), Failure> {
    let start_ns = clock::now().monotonic_ns;
    // Why an event is refused, or sent again and again.
    let settings = LogSettings {
        filter: "warn".into(),
        format: LogFormat::Text,
        ends_per_second: LOG_ENDS_PER_SECOND,
    };
    let log = start_log(&settings, false)?;
    let nats::Published { mut outlet, telemetry, end } = nats::publish(source, publishing)
        .map_err(|error| match error {
            NatsError::File { .. } => Failure::Usage(error.to_string()),
            error => Failure::Run(error.to_string()),
        })?;
    let sent = send(&mut outlet, input);
    drop(outlet);
    // Closes when everything is settled.
    let _ = end.recv();
    log.flush();
    let counters = &telemetry.stream;
    let (lines, mut refused) = sent.map_err(|error| Failure::Run(format!("{name}: {error}")))?;
    refused += counters.refused.value();
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let seconds = (clock::now().monotonic_ns - start_ns) as f64 / 1e9;
    let taken = match counters.unacknowledged.value() {
        0 => {
            let again = counters.duplicates.value();
            let there = grouped(again);
            let acknowledged = grouped(counters.acknowledged.value());
            format!("{acknowledged} acknowledged ({there} of them were there already)")
        }
        sent => format!("{} sent without acknowledgement", grouped(sent)),
    };
    say(format_args!(
        "{} lines in {seconds:.1} s: {taken}, {} refused",
        grouped(lines),
        grouped(refused)
    ));
    if refused == 0 { Ok(()) } else { Err(Failure::Said) }
}

/// Offers every line; how many there were, and how many of them were refused here.
fn send(outlet: &mut Outlet, mut input: impl Read) -> io::Result<(u64, u64)> {
    let (mut lines, mut parser) = (Lines::new(LINE_BYTES_MAX), Parser::new(vec![], LINE_BYTES_MAX));
    let mut buffer = vec![0; READ_BYTES];
    let (mut count, mut refused) = (0, 0);
    loop {
        let taken = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            taken => taken?,
        };
        let mut chunk = &buffer[..taken];
        loop {
            let line = if taken == 0 { lines.finish() } else { lines.next(&mut chunk) };
            let Some(line) = line else { break };
            count += 1;
            let offered = line
                .bytes
                .and_then(|line| parser.parse(line, None))
                .map(|event| outlet.offer(&event));
            let refusal = match offered {
                Ok(true) => None,
                Ok(false) => Some(too_large(outlet.bytes_max())),
                Err(error) => Some(error.into()),
            };
            if let Some(refusal) = refusal {
                refused += 1;
                let mut text = Vec::new();
                refusal.write(&mut text, line.number);
                say(String::from_utf8_lossy(text.trim_ascii_end()));
            }
            if outlet.is_full() {
                flush(outlet);
            }
        }
        flush(outlet);
        if taken == 0 {
            return Ok((count, refused));
        }
    }
}

fn too_large(bytes_max: usize) -> Refusal {
    let message = format!("data has more than {bytes_max} bytes, which the servers allow");
    Refusal { code: "too_large", message }
}

/// Hands over what was offered, and waits for room.
fn flush(outlet: &mut Outlet) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let context = Context::from_waker(&waker);
    while outlet.poll_flush(&context) == Poll::Pending {
        thread::park();
    }
}
