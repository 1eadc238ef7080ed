//! What a subscriber sees, counted: rates, gaps by `prev`, latency from `ts_in`.
//!
//! Not here: the connection and the printing. Invariant: a gap is a frame whose `prev` is not the
//! last `seq` seen on its channel; the first frame of a channel is never one. Where the terms let
//! newer events stand for older ones it is a skip instead, and between two connections a tear.

use std::collections::{BTreeMap, HashMap};

use hdrhistogram::Histogram;

use super::continuity::{Agreed, Skips};
use super::figures::{bytes, grouped, microseconds, short};
use super::frame::Frame;
use crate::telemetry::new_lag;

/// Figures since the start and since the last report.
#[derive(Debug)]
pub struct Tally {
    channels: HashMap<String, Channel>,
    agreed: Agreed,
    /// Connections so far, the present one included.
    connections: u64,
    interval: Interval,
    total: Interval,
    started_ns: u64,
    reported_ns: u64,
}

#[derive(Debug)]
struct Channel {
    seq_last: u64,
    skips: Skips,
    /// The connection that it was last seen on.
    connection: u64,
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
    reconnects: u64,
    /// Places where a `prev` shows that events were missed between two connections.
    torn: u64,
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
            reconnects: 0,
            torn: 0,
            latency_us: new_lag(),
        }
    }
}

impl Interval {
    /// What was lost or ended, and why; what there is nothing of is left out.
    fn losses(&self) -> String {
        let mut out = String::new();
        if self.skips > 0 {
            out.push_str(&format!("  skips {}", self.skips));
        }
        out.push_str(&format!("  receipts {} (missed {}", self.receipts, self.missed));
        for (at, (cause, missed)) in self.missed_by_cause.iter().enumerate() {
            out.push_str(&format!("{}{cause} {missed}", if at == 0 { ": " } else { ", " }));
        }
        out.push(')');
        for (name, count) in [
            ("unsubscribed", self.unsubscribed),
            ("tiers", self.tiers),
            ("reconnects", self.reconnects),
            ("torn", self.torn),
        ] {
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
            connections: 1,
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
            let seq_last = frame.prev.unwrap_or_default();
            let follows = Channel { seq_last, skips, connection: self.connections };
            self.channels.insert(channel.to_owned(), follows);
        }
        let state = self.channels.get_mut(channel).expect("it was just looked for");
        let is_other =
            std::mem::replace(&mut state.connection, self.connections) != self.connections;
        if is_other {
            state.skips = self.agreed.skips(channel);
        }
        // `prev` counts every event of the channel: once it has keys, any may have been skipped.
        if state.skips == Skips::Keyed && frame.key.is_some() {
            state.skips = Skips::Anything;
        }
        if frame.prev.is_some_and(|prev| prev != state.seq_last) {
            match state.skips {
                _ if is_other => self.interval.torn += 1,
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

    /// A new connection goes on for the last one; `is_anew`: its `seq` have nothing to do with
    /// those before.
    pub fn handle_reconnect(&mut self, is_anew: bool) {
        self.connections += 1;
        self.interval.reconnects += 1;
        self.agreed = Agreed::default();
        if is_anew {
            self.channels.clear();
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
        self.total.reconnects += interval.reconnects;
        self.total.torn += interval.torn;
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
            figures.losses(),
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
    fn what_was_missed_between_two_connections_is_a_tear_and_no_gap() {
        let mut tally = Tally::new(0);
        for channel in ["a", "b"] {
            feed(&mut tally, channel, 10, 9);
        }
        tally.handle_reconnect(false);
        feed(&mut tally, "a", 20, 10); // Nothing came in between.
        feed(&mut tally, "b", 21, 15);
        feed(&mut tally, "b", 22, 21);
        assert_eq!((tally.interval.gaps, tally.interval.torn), (0, 1));
        feed(&mut tally, "b", 30, 25);
        assert_eq!((tally.interval.gaps, tally.interval.torn), (1, 1), "on one connection: a gap");
        tally.handle_reconnect(true);
        feed(&mut tally, "a", 2, 1); // Of another epoch: it follows nothing.
        assert_eq!((tally.interval.gaps, tally.interval.torn), (1, 1));
        let summary = tally.summary(1_000_000_000);
        assert!(
            summary.contains("gaps 1  receipts 0 (missed 0)  reconnects 2  torn 1"),
            "{summary}"
        );
    }
}
