//! What comes over one connection after the other, printed and counted.
//!
//! Not here: making the connections (`connector`), and the words (`notes`). Invariant: a session
//! ends with everything printed that came before its end.

use std::io::Write;

use super::connector::{Connector, End, Loss};
use super::{LOOK_PERIOD, MS_NS, Output, Subscribe, notes};
use crate::cli::continuity::Progress;
use crate::cli::failure::{Failure, Flow, written};
use crate::cli::frame::Frame;
use crate::cli::reconnect::{Silence, When, after_close, close_text};
use crate::cli::table;
use crate::cli::tally::Tally;
use crate::limits::TOKEN_LOOK_MS;
use crate::protocol::json::write_string;
use crate::shell::client::{Client, Status};
use crate::shell::clock;
use crate::shell::dial::ClientError;

const SECOND_NS: u64 = 1_000 * MS_NS;

/// How a connection ended.
pub(super) enum Ended {
    /// By count, time or signal.
    Here,
    /// Nobody reads the output any more.
    Quietly,
    /// The server drains, and this client's turn to go has come.
    Moved(Loss),
    /// By the server, the network, or a refusal.
    Lost(Loss),
}

/// What a command has seen, and what it has heard on the present connection.
#[derive(Debug)]
pub(super) struct Session {
    output: Output,
    tally: Tally,
    progress: Progress,
    count_max: u64,
    report_ns: u64,
    scratch: Vec<u8>,
    /// What is to be written after this read.
    text: Vec<u8>,
    heard: Heard,
}

/// What the server said on the present connection.
#[derive(Debug)]
struct Heard {
    silence: Silence,
    security: Option<String>,
    refused: Option<String>,
    /// Its notice that it drains: when to come back, milliseconds, and where.
    drain: Option<(u64, Vec<String>)>,
    /// Monotonic time of the next look for a new token, nanoseconds; none: none is needed.
    token_look_ns: Option<u64>,
}

impl Heard {
    const fn nothing(now_ns: u64, security: Option<String>) -> Self {
        let silence = Silence::new(now_ns);
        Self { silence, security, refused: None, drain: None, token_look_ns: None }
    }
}

impl Session {
    pub(super) fn new(command: &Subscribe, now_ns: u64) -> Self {
        Self {
            output: command.output(),
            tally: Tally::new(now_ns),
            progress: Progress::default(),
            count_max: command.count.unwrap_or(u64::MAX),
            report_ns: now_ns + SECOND_NS,
            scratch: Vec::new(),
            text: Vec::new(),
            heard: Heard::nothing(now_ns, None),
        }
    }

    /// The summary of all connections; none: no server has greeted.
    pub(super) fn summary(&mut self, now_ns: u64) -> Option<String> {
        (!self.progress.is_new()).then(|| self.tally.summary(now_ns))
    }

    /// A new connection, secured like this, goes on for the last one.
    pub(super) fn begin(&mut self, security: Option<String>) {
        self.heard = Heard::nothing(clock::now().monotonic_ns, security);
    }

    /// Reads until the connection or the command ends.
    pub(super) fn run(
        &mut self,
        client: &mut Client,
        connector: &mut Connector,
        end: &End<'_>,
        out: &mut impl Write,
    ) -> Result<Ended, Failure> {
        // When this client's turn to connect anew comes, monotonic nanoseconds.
        let mut turn_ns = None;
        loop {
            let status = client.read(LOOK_PERIOD, |text| self.take(text));
            if self.write(out)? == Flow::Stop {
                return Ok(Ended::Quietly);
            }
            let now_ns = clock::now().monotonic_ns;
            if let Some((retry_after_ms, to)) = self.heard.drain.take() {
                let to: Vec<_> = to.iter().map(String::as_str).collect();
                turn_ns = Some(connector.handle_drain(retry_after_ms, &to, now_ns));
            }
            let lost = match status {
                Ok(status) => self.lost(status, now_ns),
                Err(error) => Some(connector.lost(error)),
            };
            if let Some(mut loss) = lost {
                if let (When::After(_), Some(turn_ns)) = (loss.when, turn_ns) {
                    loss.when = When::At(turn_ns);
                }
                return Ok(Ended::Lost(loss));
            }
            if let Some(turn_ns) = turn_ns.filter(|turn_ns| *turn_ns <= now_ns)
                && !connector.is_single()
            {
                let why = Failure::Run("the server drains".into());
                return Ok(Ended::Moved(Loss { why, when: When::At(turn_ns) }));
            }
            if let Err(error) = self.renew(client, connector, now_ns) {
                return Ok(Ended::Lost(connector.lost(error)));
            }
            if self.report(now_ns, out)? == Flow::Stop {
                return Ok(Ended::Quietly);
            }
            if self.tally.frames() >= self.count_max || end.has_come(now_ns) {
                return Ok(Ended::Here);
            }
        }
    }

    /// Whether the connection is over after a read, or might as well be.
    fn lost(&mut self, status: Status, now_ns: u64) -> Option<Loss> {
        let loss = |why: &str, when| Some(Loss { why: Failure::Run(why.into()), when });
        if let Some(refused) = self.heard.refused.take() {
            return loss(&refused, When::Never);
        }
        match status {
            Status::Open => {
                self.heard.silence.handle_bytes(now_ns);
                None
            }
            Status::Quiet => {
                let silent_ms = self.heard.silence.is_over(now_ns)?;
                let why =
                    format!("nothing came for {silent_ms} ms; the server or the network is gone");
                loss(&why, When::After(0))
            }
            Status::Closed(code, reason) => loss(&close_text(code, &reason), after_close(code)),
            Status::Ended => loss(
                "the connection ended without a close; the server may have died, a retry makes \
                 sense",
                When::After(0),
            ),
        }
    }

    /// Shows the server a new token, once the one it knows is to expire and the file has another.
    fn renew(
        &mut self,
        client: &mut Client,
        connector: &mut Connector,
        now_ns: u64,
    ) -> Result<(), ClientError> {
        if self.heard.token_look_ns.is_none_or(|look_ns| now_ns < look_ns) {
            return Ok(());
        }
        let Some(token) = connector.new_token() else {
            self.heard.token_look_ns = Some(now_ns + TOKEN_LOOK_MS * MS_NS);
            return Ok(());
        };
        self.heard.token_look_ns = None;
        let mut command = br#"{"method":"auth","params":{"token":"#.to_vec();
        write_string(&mut command, token.secret());
        command.extend_from_slice(br#"},"req_id":2}"#);
        client.send_text(std::str::from_utf8(&command).expect("a token is ASCII"))
    }

    fn report(&mut self, now_ns: u64, out: &mut impl Write) -> Result<Flow, Failure> {
        if self.output != Output::Stats || now_ns < self.report_ns {
            return Ok(Flow::Continue);
        }
        self.report_ns = now_ns + SECOND_NS;
        let line = self.tally.report(now_ns);
        written(writeln!(out, "{line}").and_then(|()| out.flush()))
    }

    fn take(&mut self, text: &str) {
        if self.tally.frames() >= self.count_max {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(text.as_bytes());
        if self.output == Output::Json {
            self.text.extend_from_slice(text.as_bytes());
            self.text.push(b'\n');
        }
        match Frame::parse(&mut scratch) {
            Some(frame) if frame.is_data() => self.take_data(&frame, text),
            Some(frame) => self.take_control(&frame, text),
            None => {}
        }
        self.scratch = scratch;
    }

    fn take_data(&mut self, frame: &Frame<'_>, text: &str) {
        let unix_ns = clock::now().unix_ns;
        self.tally.handle_data(frame, text.len(), unix_ns);
        self.progress.handle_seq(frame.seq.unwrap_or_default());
        if self.output == Output::Table {
            table::write_row(&mut self.text, frame, text, unix_ns);
        }
    }

    fn take_control(&mut self, frame: &Frame<'_>, text: &str) {
        self.tally.handle_control(frame);
        match (frame.kind, frame.method) {
            _ if frame.success == Some(false) => {
                self.heard.refused = Some(notes::refusal(frame));
                return;
            }
            (Some("welcome"), _) => self.welcome(frame),
            (Some("heartbeat"), _) => self.progress.handle_seq(frame.seq.unwrap_or_default()),
            (Some("drain"), _) => {
                let to = frame.addresses().map(str::to_owned).collect();
                self.heard.drain = Some((frame.retry_after_ms.unwrap_or_default(), to));
            }
            (Some("auth_expiring"), _) => self.heard.token_look_ns = Some(0),
            (None, Some("subscribe")) => {
                let outcomes = frame.outcomes();
                let boundary = outcomes.filter_map(|outcome| outcome.seq).min();
                let missed = boundary.and_then(|seq| self.progress.handle_subscribed(seq));
                if let Some(missed) = missed {
                    eprintln!("{missed}");
                }
            }
            _ => {}
        }
        if self.output != Output::Json || notes::is_urgent(frame) {
            notes::note(frame, text, self.heard.security.as_deref());
        }
    }

    fn welcome(&mut self, frame: &Frame<'_>) {
        if let Some(ms) = frame.heartbeat_ms {
            self.heard.silence.handle_heartbeat_ms(ms);
        }
        let is_first = self.progress.is_new();
        let is_anew = self.progress.handle_welcome(frame.epoch.unwrap_or_default());
        if !is_first {
            self.tally.handle_reconnect(is_anew);
        }
        if is_anew {
            eprintln!(
                "the server has begun anew: its seq have nothing to do with those before, and \
                 events in between may have been missed"
            );
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
