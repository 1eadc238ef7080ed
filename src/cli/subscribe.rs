//! `fanfare subscribe`: a subscriber for people and for pipes.
//!
//! Not here: the socket (`shell::client`) and the counting (`tally`). Invariant: what the server
//! sent as data reaches standard output in its order, or the command says why it ended.

use std::io::{Write, stdout};
use std::time::Duration;

use super::failure::{Failure, Flow, written};
use super::table;
use super::tally::{Frame, ReplyError, Tally};
use super::wish::WishFlags;
use crate::protocol::channel::Pattern;
use crate::protocol::json::write_string;
use crate::protocol::ws::close;
use crate::shell::client::{Client, Status};
use crate::shell::clock;
use crate::shell::dial::ClientError;
use crate::shell::signals::Stop;

/// How long one read waits before signals and the clock are looked at.
const READ_PERIOD: Duration = Duration::from_millis(100);
const SECOND_NS: u64 = 1_000_000_000;

/// Subscribes and prints what arrives.
#[derive(Debug, clap::Args)]
pub struct Subscribe {
    /// Server, such as ws://127.0.0.1:9001/v1
    url: String,
    /// Channels or patterns: * matches one token, > the rest; quote them for the shell
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Print every frame as it came, one a line; the default
    #[arg(long, group = "output")]
    json: bool,
    /// Print aligned columns: time, channel, type, seq, key, data
    #[arg(long, group = "output")]
    table: bool,
    /// Print rate, bytes, gaps and latency once a second, and a summary at the end
    #[arg(long, group = "output")]
    stats: bool,
    /// End after this many events [default: never]
    #[arg(long, value_name = "EVENTS")]
    count: Option<u64>,
    /// End after this many seconds [default: never]
    #[arg(long)]
    seconds: Option<f64>,
    #[command(flatten)]
    wish: WishFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Json,
    Table,
    Stats,
}

impl Subscribe {
    /// Runs until the count, the time, a signal or the server ends it.
    ///
    /// # Errors
    /// A wrong pattern or URL, a refusal, a broken connection, a close by the server.
    pub fn run(&self) -> Result<(), Failure> {
        let stop = Stop::install().map_err(|error| Failure::Run(format!("signals: {error}")))?;
        self.run_until(&|| stop.asked() > 0, &mut stdout().lock())
    }

    fn run_until(&self, stop: &dyn Fn() -> bool, out: &mut impl Write) -> Result<(), Failure> {
        let request = self.request()?;
        let mut client = Client::connect(&self.url).map_err(failed)?;
        client.send_text(&request).map_err(failed)?;
        let start_ns = clock::now().monotonic_ns;
        let output = match (self.table, self.stats) {
            (true, _) => Output::Table,
            (_, true) => Output::Stats,
            _ => Output::Json,
        };
        let mut printer = Printer {
            output,
            tally: Tally::new(start_ns),
            count_max: self.count.unwrap_or(u64::MAX),
            scratch: Vec::new(),
            text: Vec::new(),
            refused: None,
        };
        let end_ns = self.seconds.map(|seconds| start_ns + seconds_ns(seconds));
        let result = printer.run(&mut client, stop, end_ns, out);
        if matches!(result, Ok(Ended::Here)) {
            client.close();
        }
        let summary = printer.tally.summary(clock::now().monotonic_ns);
        match output {
            Output::Json => {}
            Output::Table => eprintln!("{summary}"),
            Output::Stats => drop(written(writeln!(out, "{summary}"))?),
        }
        match result? {
            Ended::Here | Ended::Quietly => Ok(()),
            Ended::ByServer(why) => Err(Failure::Run(why)),
        }
    }

    fn request(&self) -> Result<String, Failure> {
        let mut out = br#"{"method":"subscribe","params":{"channels":["#.to_vec();
        for (at, pattern) in self.patterns.iter().enumerate() {
            if let Err(error) = Pattern::parse(pattern) {
                return Err(Failure::Usage(format!("pattern `{pattern}`: {error}")));
            }
            if at > 0 {
                out.push(b',');
            }
            write_string(&mut out, pattern);
        }
        out.push(b']');
        self.wish.write(&mut out)?;
        out.extend_from_slice(br#"},"req_id":1}"#);
        Ok(String::from_utf8(out).expect("patterns are ASCII"))
    }
}

/// How a subscription ended without an error of the connection.
enum Ended {
    /// By count, time or signal.
    Here,
    /// Nobody reads the output any more.
    Quietly,
    /// The server closed, or refused the subscription.
    ByServer(String),
}

struct Printer {
    output: Output,
    tally: Tally,
    count_max: u64,
    scratch: Vec<u8>,
    /// What is to be written after this read.
    text: Vec<u8>,
    refused: Option<String>,
}

impl Printer {
    fn run(
        &mut self,
        client: &mut Client,
        stop: &dyn Fn() -> bool,
        end_ns: Option<u64>,
        out: &mut impl Write,
    ) -> Result<Ended, Failure> {
        let mut report_ns = clock::now().monotonic_ns + SECOND_NS;
        loop {
            let status = client.read(READ_PERIOD, |text| self.take(text));
            if self.write(out)? == Flow::Stop {
                return Ok(Ended::Quietly);
            }
            if let Some(refused) = self.refused.take() {
                return Ok(Ended::ByServer(refused));
            }
            match status.map_err(failed)? {
                Status::Open => {}
                Status::Closed(code, reason) => {
                    return Ok(Ended::ByServer(close_text(code, &reason)));
                }
                Status::Ended => {
                    let why = "the connection ended without a close; the server may have died, \
                        a retry makes sense";
                    return Ok(Ended::ByServer(why.into()));
                }
            }
            let now_ns = clock::now().monotonic_ns;
            if self.output == Output::Stats && now_ns >= report_ns {
                report_ns = now_ns + SECOND_NS;
                let line = self.tally.report(now_ns);
                if written(writeln!(out, "{line}").and_then(|()| out.flush()))? == Flow::Stop {
                    return Ok(Ended::Quietly);
                }
            }
            let enough = self.tally.frames() >= self.count_max;
            if enough || stop() || end_ns.is_some_and(|end_ns| now_ns >= end_ns) {
                return Ok(Ended::Here);
            }
        }
    }

    fn take(&mut self, text: &str) {
        if self.tally.frames() >= self.count_max {
            return;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(text.as_bytes());
        let frame = Frame::parse(&mut self.scratch);
        match self.output {
            Output::Json => {
                self.text.extend_from_slice(text.as_bytes());
                self.text.push(b'\n');
            }
            Output::Table | Output::Stats => {}
        }
        let Some(frame) = frame else { return };
        if frame.is_data() {
            let unix_ns = clock::now().unix_ns;
            self.tally.handle_data(&frame, text.len(), unix_ns);
            if self.output == Output::Table {
                table::write_row(&mut self.text, &frame, text, unix_ns);
            }
            return;
        }
        self.tally.handle_control(&frame);
        if frame.success == Some(false) {
            self.refused = Some(refusal(&frame));
        } else if self.output != Output::Json {
            note(&frame, text);
        }
    }

    fn write(&mut self, out: &mut impl Write) -> Result<Flow, Failure> {
        if self.text.is_empty() {
            return Ok(Flow::Continue);
        }
        let flow = written(out.write_all(&self.text).and_then(|()| out.flush()));
        self.text.clear();
        flow
    }
}

/// Every pattern that was refused, or the refusal of the whole command.
fn refusal(frame: &Frame<'_>) -> String {
    let reason = |error: &ReplyError<'_>| {
        let code = error.code.unwrap_or("no code");
        format!("{code}: {}", error.message.unwrap_or("no reason given"))
    };
    let refused: Vec<_> = frame
        .result
        .iter()
        .flatten()
        .filter_map(|outcome| Some((outcome.channel?, outcome.error.as_ref()?)))
        .map(|(channel, error)| format!("{channel}: {}", reason(error)))
        .collect();
    let method = frame.method.unwrap_or("the command");
    let reasons = match &frame.error {
        _ if !refused.is_empty() => refused.join("; "),
        Some(error) => reason(error),
        None => "no reason given".into(),
    };
    format!("the server refused {method}: {reasons}")
}

/// A short note of a control frame for standard error; heartbeats are silence.
fn note(frame: &Frame<'_>, text: &str) {
    match (frame.kind, frame.method) {
        (Some("heartbeat"), _) => {}
        (Some("gap" | "unsubscribed" | "tier"), _) => eprintln!("{}", slowness(frame)),
        (Some("welcome"), _) => eprintln!("connected at seq {}", frame.seq.unwrap_or_default()),
        (None, Some("subscribe")) => {
            let outcomes = frame.result.iter().flatten();
            match outcomes.filter_map(|outcome| outcome.matched).sum::<u64>() {
                0 => eprintln!("no channel matches yet; waiting for one to appear"),
                matched => eprintln!("subscribed; channels that match now: {matched}"),
            }
        }
        _ => eprintln!("{text}"),
    }
}

/// What the server did because this client reads slowly.
fn slowness(frame: &Frame<'_>) -> String {
    let cause = frame.cause.unwrap_or("unknown");
    let seq = frame.seq.unwrap_or_default();
    let channels = match frame.channels.as_deref().unwrap_or_default() {
        [] => "unnamed channels".to_owned(),
        [one] => (*one).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    match frame.kind {
        Some("gap") => {
            let missed = frame.missed.unwrap_or_default();
            format!("gap: {missed} events missed on {channels}, cause {cause}")
        }
        Some("unsubscribed") => {
            format!("unsubscribed: the server ended {channels} at seq {seq}, cause {cause}")
        }
        _ => match frame.interval_ms {
            Some(ms @ 1..) => format!("tier: slowed to one event of a key every {ms} ms at least"),
            _ => "tier: back to what was agreed".to_owned(),
        },
    }
}

/// What a close code means and whether connecting again makes sense.
fn close_text(code: Option<u16>, reason: &str) -> String {
    let Some(code) = code else {
        return "the server closed without a code; a retry makes sense".into();
    };
    let (meaning, retry) = match code {
        close::NORMAL => ("normal", "a retry makes sense"),
        close::GOING_AWAY | 1012 => ("the server is stopping", "a retry makes sense, soon"),
        close::PROTOCOL_ERROR | 1003 | close::INVALID_PAYLOAD => {
            ("this client broke the protocol", "a retry is pointless")
        }
        close::POLICY => ("against the server's policy", "a retry is pointless"),
        close::TOO_BIG => ("a message was too big", "a retry is pointless"),
        close::INTERNAL_ERROR => ("an error inside the server", "a retry makes sense"),
        close::TRY_AGAIN_LATER => ("the server is overloaded", "a retry makes sense, later"),
        4000..=4099 => ("not allowed", "a retry is pointless"),
        close::SLOW_CONSUMER => {
            ("this client read too slowly", "a retry makes sense, with fewer channels")
        }
        close::HEARTBEAT_MISSED => ("this client was silent for too long", "a retry makes sense"),
        4102..=4199 => ("temporary", "a retry makes sense"),
        _ => ("unknown to this client", "a retry may help"),
    };
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("the server closed with {code} ({meaning}){reason}; {retry}")
}

fn failed(error: ClientError) -> Failure {
    match error {
        ClientError::Address(..) => Failure::Usage(error.to_string()),
        error => Failure::Run(error.to_string()),
    }
}

fn seconds_ns(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds.max(0.0))
        .map_or(u64::MAX / 2, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2))
}

#[cfg(test)]
mod tests;
