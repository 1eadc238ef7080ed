//! What a subscription brings, printed and counted.
//!
//! Not here: the subscription (`client`), and the words of control frames (`notes`). Invariant:
//! what came before the end of a connection is printed before it.

use std::io::Write;

use super::{Output, notes};
use crate::cli::failure::{Failure, Flow, written};
use crate::cli::say::say;
use crate::cli::table;
use crate::cli::tally::Tally;
use crate::client::{Event, Item, Notice};
use crate::shell::clock;

const SECOND_NS: u64 = 1_000_000_000;

/// Prints a subscription, on standard output and standard error.
#[derive(Debug)]
pub(super) struct Printer {
    output: Output,
    tally: Tally,
    has_greeted: bool,
    count_max: u64,
    report_ns: u64,
    /// What is to be written after this read.
    text: Vec<u8>,
    /// Something came after the last event that was asked for, or could not be written.
    is_cut: bool,
}

impl Printer {
    pub(super) fn new(output: Output, count_max: u64, now_ns: u64) -> Self {
        Self {
            output,
            tally: Tally::new(now_ns),
            has_greeted: false,
            count_max,
            report_ns: now_ns + SECOND_NS,
            text: Vec::new(),
            is_cut: false,
        }
    }

    /// The summary of all connections; none: no server has greeted.
    pub(super) fn summary(&mut self, channels: usize, now_ns: u64) -> Option<String> {
        self.has_greeted.then(|| self.tally.summary(channels, now_ns))
    }

    /// True once there were as many events as were asked for.
    pub(super) fn is_done(&self) -> bool {
        self.tally.frames() >= self.count_max
    }

    /// Whether everything was printed that came, and people read along.
    pub(super) fn has_all(&self) -> bool {
        !self.is_cut && self.output != Output::Json
    }

    /// Takes what came; nothing after the last event that was asked for.
    pub(super) fn take(&mut self, item: Item<'_>) {
        if self.is_done() {
            self.is_cut = true;
            return;
        }
        match item {
            Item::Event(event) => self.take_event(&event),
            Item::Gap(gap) => {
                self.tally.handle_gap(&gap);
                if self.output != Output::Json || gap.is_unexpected() {
                    say(&gap);
                }
            }
            Item::Notice(notice) => {
                self.has_greeted |= matches!(notice, Notice::Connected { .. });
                self.tally.handle_notice(&notice);
                let is_shown = !matches!(notice, Notice::Whole { .. });
                if is_shown && (self.output != Output::Json || notes::is_urgent(&notice)) {
                    say(&notice);
                }
            }
            Item::Control(control) => {
                self.tally.handle_control(control.frame);
                if self.output == Output::Json {
                    self.line(control.text);
                }
                // Somebody has to act on this one.
                if (self.output != Output::Json || control.frame.kind == Some("auth_expiring"))
                    && let Some(note) = notes::note(&control)
                {
                    say(&note);
                }
            }
        }
    }

    fn take_event(&mut self, event: &Event<'_>) {
        let unix_ns = clock::now().unix_ns;
        self.tally.handle_event(event, unix_ns);
        match self.output {
            Output::Json => self.line(event.text()),
            Output::Table => table::write_row(&mut self.text, event, unix_ns),
            Output::Stats => {}
        }
    }

    fn line(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
        self.text.push(b'\n');
    }

    /// Prints a line of figures, once a second, if they are wanted.
    pub(super) fn report(
        &mut self,
        channels: usize,
        now_ns: u64,
        out: &mut impl Write,
    ) -> Result<Flow, Failure> {
        if self.output != Output::Stats || now_ns < self.report_ns {
            return Ok(Flow::Continue);
        }
        self.report_ns = now_ns + SECOND_NS;
        let line = self.tally.report(channels, now_ns);
        self.note(written(writeln!(out, "{line}").and_then(|()| out.flush())))
    }

    /// Writes what was taken.
    pub(super) fn write(&mut self, out: &mut impl Write) -> Result<Flow, Failure> {
        if self.text.is_empty() {
            return Ok(Flow::Continue);
        }
        let flow = written(out.write_all(&self.text).and_then(|()| out.flush()));
        self.text.clear();
        self.note(flow)
    }

    /// What nobody reads any more was not printed.
    fn note(&mut self, flow: Result<Flow, Failure>) -> Result<Flow, Failure> {
        self.is_cut |= matches!(flow, Ok(Flow::Stop));
        flow
    }
}
