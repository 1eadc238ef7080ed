//! `fanfare record`: a live feed into a capture that `fanfare replay` plays.
//!
//! Not here: the file (`sources::recording`) and the subscription (`client`). Invariant: every
//! event that came is in the file, and what did not come is said and counted.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::credentials::{TokenFlags, TrustFlags};
use super::ends::{EndFlags, LOOK_PERIOD};
use super::failure::{Failure, failure, no_signals};
use super::figures::{bytes, grouped, short};
use super::progress::spinner;
use super::say::say;
use crate::client::item::Control;
use crate::client::{Event, Gap, Item, Link, Notice, Policy, Subscriber, Subscription, Terms};
use crate::protocol::event;
use crate::shell::clock;
use crate::shell::signals::Stop;
use crate::sources::recording::{Recording, RecordingError};

/// Records a live feed, every event of it, into a file for `fanfare replay`.
#[derive(Debug, clap::Args)]
pub struct Record {
    /// Server, such as ws://127.0.0.1:9001/v1 or wss://HOST:PORT/v1; or several nodes, with commas
    /// between them
    url: String,
    /// Channels or patterns: * matches one token, > the rest; quote them for the shell
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// File to record into, gzip; it is called FILE.part until it is finished
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    ends: EndFlags,
    /// Begin with the next event [default: with what still counts: the newest of each key, and
    /// order books]
    #[arg(long)]
    no_snapshot: bool,
    #[command(flatten)]
    token: TokenFlags,
    #[command(flatten)]
    trust: TrustFlags,
}

impl Record {
    /// Records until the count, the time, a signal, or what makes another connection pointless.
    ///
    /// # Errors
    /// A wrong pattern, URL or file; a refusal; a server that cannot be reached at the start.
    pub fn run(&self) -> Result<(), Failure> {
        let stop = Stop::install_once().map_err(no_signals)?;
        let mut subscriber = self.subscription().start().map_err(failure)?;
        let recording = Recording::create(&self.out, self.force).map_err(unwritable)?;
        let mut recorder = Recorder::new(recording, self.ends.count_max());
        let result = self.follow(&mut subscriber, &mut recorder, &stop);
        subscriber.close();
        let summary = recorder.finish(&self.out, result.is_ok())?;
        if let Some(summary) = summary {
            say(&summary);
        }
        result
    }

    fn subscription(&self) -> Subscription {
        // Every event, in order: whoever records wants to know of each one that is missing.
        let terms = Terms { policy: Some(Policy::All), ..Terms::default() };
        let subscription = Subscription::new(&self.url, &self.patterns)
            .terms(terms)
            .credential(self.token.credential())
            .trust(self.trust.files());
        if self.no_snapshot { subscription.without_snapshot() } else { subscription }
    }

    fn follow(
        &self,
        subscriber: &mut Subscriber,
        recorder: &mut Recorder,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let start_ns = clock::now().monotonic_ns;
        let end_ns = self.ends.end_ns(start_ns);
        loop {
            let read = subscriber.read(LOOK_PERIOD, |item| recorder.take(item));
            let now_ns = clock::now().monotonic_ns;
            recorder.handle_time(now_ns, start_ns)?;
            read.map_err(failure)?;
            if recorder.is_done() || stop.asked() > 0 || now_ns >= end_ns {
                return Ok(());
            }
        }
    }
}

fn unwritable(error: RecordingError) -> Failure {
    let text = format!("--out: {error}");
    match error {
        RecordingError::Exists(_) | RecordingError::Cut(_) => Failure::Usage(text),
        RecordingError::File { .. } => Failure::Run(text),
    }
}

/// Puts a subscription into a recording, and counts what is missing.
struct Recorder {
    recording: Recording,
    /// The first thing that went wrong with the file.
    failed: Option<RecordingError>,
    bar: ProgressBar,
    count_max: u64,
    has_greeted: bool,
    gaps: u64,
    missed: u64,
    reconnects: u64,
    /// The time of the snapshot under way, by the server's clock, nanoseconds since the Unix epoch;
    /// none: what is under way is a replay, whose events have their own times.
    snapshot_ns: Option<u64>,
}

impl Recorder {
    fn new(recording: Recording, count_max: u64) -> Self {
        Self {
            recording,
            failed: None,
            bar: spinner("{spinner} {msg}  {elapsed}"),
            count_max,
            has_greeted: false,
            gaps: 0,
            missed: 0,
            reconnects: 0,
            snapshot_ns: None,
        }
    }

    fn is_done(&self) -> bool {
        self.recording.events() >= self.count_max
    }

    fn take(&mut self, item: Item<'_>) {
        if self.is_done() || self.failed.is_some() {
            return;
        }
        match item {
            Item::Event(event) => self.take_event(&event),
            Item::Gap(gap) => self.take_gap(&gap),
            Item::Notice(notice) => self.take_notice(&notice),
            Item::Control(control) => self.take_control(&control),
        }
    }

    fn take_event(&mut self, event: &Event<'_>) {
        let line = event::Event {
            channel: &event.channel,
            key: event.key.as_deref(),
            kind: event.kind,
            ts: event.ts,
            data: event.data().as_bytes(),
        };
        // A value of a snapshot may be old, and the snapshot is what it belongs to now.
        let snapshot_ns = self.snapshot_ns.filter(|_| event.link == Link::Recovered);
        let time_ns = snapshot_ns.or(event.ts_in).unwrap_or_default();
        let added = self.recording.add(&line, time_ns, clock::now().monotonic_ns);
        self.failed = added.err();
    }

    fn take_gap(&mut self, gap: &Gap) {
        self.gaps += 1;
        self.missed += gap.missed.unwrap_or_default();
        self.say(&gap.to_string());
    }

    fn take_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Connected { is_again, .. } => {
                self.has_greeted = true;
                self.reconnects += u64::from(*is_again);
                self.say(&notice.to_string());
            }
            Notice::Whole { .. } => {}
            _ => self.say(&notice.to_string()),
        }
    }

    fn take_control(&mut self, control: &Control<'_>) {
        let frame = control.frame;
        if frame.method == Some("subscribe") {
            let is_resumed = frame.outcomes().any(|outcome| outcome.resumed == Some(true));
            self.snapshot_ns = frame.time_out.filter(|_| !is_resumed);
        }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    /// Writes what has waited for long enough, and shows how far it is.
    fn handle_time(&mut self, now_ns: u64, start_ns: u64) -> Result<(), Failure> {
        if let Some(error) = self.failed.take() {
            return Err(unwritable(error));
        }
        self.recording.handle_time(now_ns).map_err(unwritable)?;
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let (events, size, seconds) = (
            self.recording.events() as f64,
            self.recording.bytes() as f64,
            (now_ns - start_ns).max(1) as f64 / 1e9,
        );
        let (count, rate) = (grouped(self.recording.events()), short(events / seconds));
        self.bar.set_message(format!("{count} events  {}  {rate}/s", bytes(size)));
        Ok(())
    }

    /// Finishes the file; what is in it, if there was a server and `all_is_well` or something came.
    fn finish(self, path: &Path, all_is_well: bool) -> Result<Option<String>, Failure> {
        let Self { recording, bar, gaps, missed, reconnects, has_greeted, .. } = self;
        bar.finish_and_clear();
        if !has_greeted || (recording.events() == 0 && !all_is_well) {
            recording.discard();
            return Ok(None);
        }
        let events = grouped(recording.events());
        recording.finish().map_err(unwritable)?;
        let size = std::fs::metadata(path).map_or(0, |file| file.len());
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let size = bytes(size as f64);
        let path = path.display();
        Ok(Some(format!(
            "{events} events in {path} ({size}); gaps {gaps} (missed {missed})  reconnects \
             {reconnects}"
        )))
    }
}
