//! What a subscriber sees, counted: rates, gaps by `prev`, latency from `ts_in`.
//!
//! Not here: the connection and the printing. Invariant: a gap is a frame whose `prev` is not the
//! last `seq` seen on its channel; the first frame of a channel is never one, and where the terms
//! let newer events stand for older ones it is a skip instead.

use std::collections::{BTreeMap, HashMap};

use hdrhistogram::Histogram;
use serde::Deserialize;

use super::continuity::{Agreed, Skips};
use super::figures::{bytes, grouped, microseconds, short};
use crate::telemetry::new_lag;

/// A frame of the server; every field that a kind of frame does not have is absent.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// The channel, `control` for control frames, absent in replies.
    pub channel: Option<&'a str>,
    /// `update`, `snapshot`, `welcome`, `gap`, ….
    #[serde(rename = "type")]
    pub kind: Option<&'a str>,
    /// Position in the total order.
    pub seq: Option<u64>,
    /// The previous `seq` on the channel.
    pub prev: Option<u64>,
    /// The producer's time, nanoseconds since the Unix epoch.
    pub ts: Option<u64>,
    /// The time of ingest, nanoseconds since the Unix epoch.
    pub ts_in: Option<u64>,
    /// The key of last-value data.
    pub key: Option<&'a str>,
    /// The command that a reply answers.
    pub method: Option<&'a str>,
    /// Whether it succeeded.
    pub success: Option<bool>,
    /// Why not; the first reason when there are several.
    pub error: Option<ReplyError<'a>>,
    /// The outcome for each pattern of a subscribe command.
    pub result: Option<Vec<Outcome<'a>>>,
    /// Channels or patterns that lost something, or that the server ended.
    pub channels: Option<Vec<&'a str>>,
    /// Events that a loss receipt covers.
    pub missed: Option<u64>,
    /// Why they were lost, or the subscription was ended.
    pub cause: Option<&'a str>,
    /// The tier that the server moved this client to; 0: what was agreed.
    pub interval_ms: Option<u64>,
}

/// What became of one pattern.
#[derive(Debug, Deserialize)]
pub struct Outcome<'a> {
    /// The pattern.
    pub channel: Option<&'a str>,
    /// The policy that was agreed.
    pub policy: Option<&'a str>,
    /// Parts of the pattern with other terms.
    pub except: Option<Vec<TermsShown<'a>>>,
    /// Channels that exist now and match.
    pub matched: Option<u64>,
    /// Why it was refused.
    pub error: Option<ReplyError<'a>>,
}

/// What was agreed for a part of a pattern.
#[derive(Debug, Deserialize)]
pub struct TermsShown<'a> {
    /// The part.
    pub channel: Option<&'a str>,
    /// The policy.
    pub policy: Option<&'a str>,
}

/// Why a command failed.
#[derive(Debug, Deserialize)]
pub struct ReplyError<'a> {
    /// The documented code.
    pub code: Option<&'a str>,
    /// Words for people.
    pub message: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// Reads a frame's envelope; `scratch` is overwritten.
    #[must_use]
    pub fn parse(scratch: &'a mut [u8]) -> Option<Self> {
        simd_json::serde::from_slice(scratch).ok()
    }

    /// True for events.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.seq.is_some() && self.channel.is_some_and(|channel| channel != "control")
    }
}

/// Figures since the start and since the last report.
#[derive(Debug)]
pub struct Tally {
    channels: HashMap<String, Channel>,
    agreed: Agreed,
    interval: Interval,
    total: Interval,
    started_ns: u64,
    reported_ns: u64,
}

#[derive(Debug)]
struct Channel {
    seq_last: u64,
    skips: Skips,
}

#[derive(Debug)]
struct Interval {
    frames: u64,
    bytes: u64,
    gaps: u64,
    /// Places where newer events stood for older ones, as agreed.
    skips: u64,
    receipts: u64,
    missed: u64,
    /// Of `missed`, by the word on the wire.
    missed_by_cause: BTreeMap<String, u64>,
    unsubscribed: u64,
    tiers: u64,
    latency_us: Histogram<u64>,
}

impl Interval {
    fn new() -> Self {
        Self {
            frames: 0,
            bytes: 0,
            gaps: 0,
            skips: 0,
            receipts: 0,
            missed: 0,
            missed_by_cause: BTreeMap::new(),
            unsubscribed: 0,
            tiers: 0,
            latency_us: new_lag(),
        }
    }
}

impl Interval {
    /// What came of reading slowly; what there is nothing of is left out.
    fn slowness(&self) -> String {
        let mut out = String::new();
        if self.skips > 0 {
            out.push_str(&format!("  skips {}", self.skips));
        }
        out.push_str(&format!("  receipts {} (missed {}", self.receipts, self.missed));
        for (at, (cause, missed)) in self.missed_by_cause.iter().enumerate() {
            out.push_str(&format!("{}{cause} {missed}", if at == 0 { ": " } else { ", " }));
        }
        out.push(')');
        for (name, count) in [("unsubscribed", self.unsubscribed), ("tiers", self.tiers)] {
            if count > 0 {
                out.push_str(&format!("  {name} {count}"));
            }
        }
        out
    }
}

impl Tally {
    /// Nothing seen yet; time is [`crate::fanout::Now::monotonic_ns`].
    #[must_use]
    pub fn new(monotonic_ns: u64) -> Self {
        Self {
            channels: HashMap::new(),
            agreed: Agreed::default(),
            interval: Interval::new(),
            total: Interval::new(),
            started_ns: monotonic_ns,
            reported_ns: monotonic_ns,
        }
    }

    /// Counts an event of `bytes` bytes that arrived at `unix_ns`.
    pub fn handle_data(&mut self, frame: &Frame<'_>, bytes: usize, unix_ns: u64) {
        let (Some(channel), Some(seq)) = (frame.channel, frame.seq) else { return };
        self.interval.frames += 1;
        self.interval.bytes += bytes as u64;
        if !self.channels.contains_key(channel) {
            let skips = self.agreed.skips(channel);
            let follows = Channel { seq_last: frame.prev.unwrap_or_default(), skips };
            self.channels.insert(channel.to_owned(), follows);
        }
        let state = self.channels.get_mut(channel).expect("it was just looked for");
        // `prev` counts every event of the channel: once it has keys, any may have been skipped.
        if state.skips == Skips::Keyed && frame.key.is_some() {
            state.skips = Skips::Anything;
        }
        if frame.prev.is_some_and(|prev| prev != state.seq_last) {
            match state.skips {
                Skips::Anything => self.interval.skips += 1,
                Skips::Keyed | Skips::Nothing => self.interval.gaps += 1,
            }
        }
        state.seq_last = seq;
        if let Some(ts_in) = frame.ts_in {
            self.interval.latency_us.saturating_record(unix_ns.saturating_sub(ts_in) / 1_000);
        }
    }

    /// Takes a frame that is no event: counts receipts and notices, and learns what was agreed.
    pub fn handle_control(&mut self, frame: &Frame<'_>) {
        match (frame.kind, frame.method) {
            (Some("gap"), _) => {
                let missed = frame.missed.unwrap_or_default();
                self.interval.receipts += 1;
                self.interval.missed += missed;
                let cause = frame.cause.unwrap_or("unknown").to_owned();
                *self.interval.missed_by_cause.entry(cause).or_default() += missed;
            }
            (Some("unsubscribed"), _) => {
                let channels = frame.channels.as_ref().map_or(1, Vec::len);
                self.interval.unsubscribed += channels as u64;
            }
            (Some("tier"), _) => self.interval.tiers += 1,
            (None, Some("subscribe")) => self.agreed.handle_reply(frame),
            _ => {}
        }
    }

    /// Events so far.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.total.frames + self.interval.frames
    }

    /// The line for the time since the last report.
    pub fn report(&mut self, monotonic_ns: u64) -> String {
        let elapsed_ns = monotonic_ns.saturating_sub(self.reported_ns);
        let line = self.line(&self.interval, elapsed_ns, true);
        self.reported_ns = monotonic_ns;
        self.fold();
        line
    }

    /// The summary of everything.
    pub fn summary(&mut self, monotonic_ns: u64) -> String {
        self.fold();
        let elapsed_ns = monotonic_ns.saturating_sub(self.started_ns);
        #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
        let seconds = elapsed_ns as f64 / 1e9;
        format!(
            "{} events in {seconds:.1} s: {}",
            grouped(self.total.frames),
            self.line(&self.total, elapsed_ns, false)
        )
    }

    fn fold(&mut self) {
        let interval = std::mem::replace(&mut self.interval, Interval::new());
        self.total.frames += interval.frames;
        self.total.bytes += interval.bytes;
        self.total.gaps += interval.gaps;
        self.total.skips += interval.skips;
        self.total.receipts += interval.receipts;
        self.total.missed += interval.missed;
        for (cause, missed) in interval.missed_by_cause {
            *self.total.missed_by_cause.entry(cause).or_default() += missed;
        }
        self.total.unsubscribed += interval.unsubscribed;
        self.total.tiers += interval.tiers;
        self.total.latency_us.add(interval.latency_us).expect("both have the bounds of new_lag");
    }

    fn line(&self, figures: &Interval, elapsed_ns: u64, aligned: bool) -> String {
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let rate = |count: u64| count as f64 / (elapsed_ns.max(1) as f64 / 1e9);
        let latency = &figures.latency_us;
        let latency = if latency.is_empty() {
            "unknown".to_owned()
        } else {
            format!(
                "p50 {} p99 {} max {}",
                microseconds(latency.value_at_quantile(0.5)),
                microseconds(latency.value_at_quantile(0.99)),
                microseconds(latency.max())
            )
        };
        let width = if aligned { 5 } else { 0 };
        format!(
            "{:>width$}/s  {:>width$}/s  channels {}  gaps {}{}  latency {latency}",
            short(rate(figures.frames)),
            bytes(rate(figures.bytes)),
            self.channels.len(),
            figures.gaps,
            figures.slowness(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(tally: &mut Tally, text: &str) {
        let mut scratch = text.as_bytes().to_vec();
        let frame = Frame::parse(&mut scratch).unwrap();
        assert!(!frame.is_data());
        tally.handle_control(&frame);
    }

    fn feed(tally: &mut Tally, channel: &str, seq: u64, prev: u64) {
        feed_event(tally, channel, seq, prev, "");
    }

    fn feed_keyed(tally: &mut Tally, channel: &str, seq: u64, prev: u64) {
        feed_event(tally, channel, seq, prev, r#""key":"k","#);
    }

    fn feed_event(tally: &mut Tally, channel: &str, seq: u64, prev: u64, key: &str) {
        let text = format!(
            r#"{{"channel":"{channel}","type":"update","seq":{seq},"prev":{prev},
                "ts_in":1000000,{key}"data":{{"seq":7}}}}"#
        );
        let mut scratch = text.clone().into_bytes();
        let frame = Frame::parse(&mut scratch).unwrap();
        assert!(frame.is_data());
        tally.handle_data(&frame, text.len(), 1_085_000);
    }

    #[test]
    fn a_gap_is_a_prev_that_is_not_the_last_seq_of_its_channel() {
        let mut tally = Tally::new(0);
        feed(&mut tally, "a", 10, 9); // The first frame of a channel follows nothing.
        feed(&mut tally, "b", 11, 4);
        feed(&mut tally, "a", 12, 10);
        feed(&mut tally, "b", 13, 11);
        assert_eq!(tally.interval.gaps, 0);
        feed(&mut tally, "a", 20, 15);
        assert_eq!(tally.interval.gaps, 1);
        feed(&mut tally, "a", 21, 20);
        feed(&mut tally, "a", 21, 20); // Twice the same is a gap as well: 20 is not the last.
        assert_eq!(tally.interval.gaps, 2);
    }

    #[test]
    fn a_report_is_of_its_interval_and_the_summary_of_everything() {
        let mut tally = Tally::new(0);
        for seq in 1..=100 {
            feed(&mut tally, "a", seq, seq - 1);
        }
        let line = tally.report(2_000_000_000);
        assert!(line.starts_with("   50/s"), "{line}");
        assert!(line.ends_with("latency p50 85 µs p99 85 µs max 85 µs"), "{line}");
        feed(&mut tally, "a", 200, 150);
        control(&mut tally, r#"{"channel":"control","type":"gap","missed":31,"cause":"slow"}"#);
        let line = tally.report(3_000_000_000);
        assert!(line.starts_with("    1/s"), "{line}");
        assert!(line.contains("gaps 1  receipts 1 (missed 31: slow 31)"), "{line}");
        let summary = tally.summary(4_000_000_000);
        assert!(summary.starts_with("101 events in 4.0 s: 25/s"), "{summary}");
        assert!(summary.contains("channels 1  gaps 1"), "{summary}");
        assert_eq!(tally.frames(), 101);
    }

    #[test]
    fn where_newer_events_stand_for_older_ones_a_skipped_prev_is_no_gap() {
        let mut tally = Tally::new(0);
        control(
            &mut tally,
            r#"{"method":"subscribe","success":true,"result":[
                {"channel":"quote.*","policy":"latest"},{"channel":"trade.*","policy":"all"},
                {"channel":"both.*","policy":"auto"}]}"#,
        );
        for channel in ["quote.a", "trade.a", "both.a", "both.b"] {
            feed(&mut tally, channel, 10, 9);
        }
        assert_eq!((tally.interval.gaps, tally.interval.skips), (0, 0));
        feed(&mut tally, "quote.a", 20, 15);
        assert_eq!((tally.interval.gaps, tally.interval.skips), (0, 1));
        feed(&mut tally, "trade.a", 20, 15);
        feed(&mut tally, "both.a", 20, 15); // No event with a key: every one was promised.
        assert_eq!((tally.interval.gaps, tally.interval.skips), (2, 1));
        feed_keyed(&mut tally, "both.b", 20, 15);
        feed(&mut tally, "both.b", 30, 25); // The one before may have had a key.
        assert_eq!((tally.interval.gaps, tally.interval.skips), (2, 3));
    }

    #[test]
    fn what_the_server_did_to_a_slow_client_is_counted_by_its_cause() {
        let mut tally = Tally::new(0);
        for text in [
            r#"{"channel":"control","type":"gap","channels":["a"],"missed":20,"cause":"slow"}"#,
            r#"{"channel":"control","type":"gap","channels":["a"],"missed":11,"cause":"max_age"}"#,
            r#"{"channel":"control","type":"gap","channels":["a"],"missed":5,"cause":"slow"}"#,
            r#"{"channel":"control","type":"unsubscribed","channels":["a","b.*"],"seq":9,
                "cause":"max_age"}"#,
            r#"{"channel":"control","type":"tier","interval_ms":100,"seq":9}"#,
        ] {
            control(&mut tally, text);
        }
        let expected = "gaps 0  receipts 3 (missed 36: max_age 11, slow 25)  unsubscribed 2  \
            tiers 1  latency";
        let line = tally.report(1_000_000_000);
        assert!(line.contains(expected), "{line}");
        let line = tally.report(2_000_000_000);
        assert!(line.contains("gaps 0  receipts 0 (missed 0)  latency"), "{line}");
        let summary = tally.summary(3_000_000_000);
        assert!(summary.contains(expected), "{summary}");
    }

    #[test]
    fn replies_and_control_frames_are_told_from_events() {
        let mut scratch = br#"{"channel":"control","type":"heartbeat","seq":9}"#.to_vec();
        assert!(!Frame::parse(&mut scratch).unwrap().is_data());
        let mut scratch =
            br#"{"method":"subscribe","success":false,"error":{"code":"x","message":"y"}}"#
                .to_vec();
        let frame = Frame::parse(&mut scratch).unwrap();
        assert!(!frame.is_data());
        assert_eq!(frame.error.unwrap().code, Some("x"));
    }
}
