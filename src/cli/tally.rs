//! What a subscriber sees, counted: rates, what is missing, latency from `ts_in`.
//!
//! Not here: telling what is missing (`client::progress`), and the printing. Invariant: everything
//! that was taken is in the interval until it is reported, and in the total after that.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::figures::{bytes, grouped, microseconds, short};
use crate::client::frame::Frame;
use crate::client::{Cause, Event, Gap, Link, Notice};
use crate::telemetry::new_lag;

/// Figures since the start and since the last report.
#[derive(Debug)]
pub struct Tally {
    interval: Interval,
    total: Interval,
    started_ns: u64,
    reported_ns: u64,
}

#[derive(Debug)]
struct Interval {
    frames: u64,
    bytes: u64,
    /// Events that never came, and no receipt covers them.
    gaps: u64,
    /// Places where newer events stood for older ones, as agreed.
    skips: u64,
    receipts: u64,
    missed: u64,
    /// Of `missed`, by the word on the wire; none: at least one receipt does not know.
    missed_by_cause: BTreeMap<String, Option<u64>>,
    unsubscribed: u64,
    tiers: u64,
    reconnects: u64,
    /// New connections that went on where the last one had ended.
    resumed: u64,
    /// New connections before which something may be missing, without a receipt.
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
            resumed: 0,
            torn: 0,
            latency_us: new_lag(),
        }
    }
}

impl Interval {
    fn add_missed(&mut self, cause: String, missed: Option<u64>) {
        let of_cause = self.missed_by_cause.entry(cause).or_insert(Some(0));
        *of_cause = of_cause.zip(missed).map(|(before, missed)| before + missed);
    }

    /// What was lost or ended, and why; what there is nothing of is left out.
    fn losses(&self) -> String {
        let mut out = String::new();
        if self.skips > 0 {
            out.push_str(&format!("  skips {}", self.skips));
        }
        out.push_str(&format!("  receipts {} (missed {}", self.receipts, self.missed));
        for (at, (cause, missed)) in self.missed_by_cause.iter().enumerate() {
            let missed = missed.map_or_else(|| "unknown".to_owned(), |missed| missed.to_string());
            out.push_str(&format!("{}{cause} {missed}", if at == 0 { ": " } else { ", " }));
        }
        out.push(')');
        for (name, count) in [
            ("unsubscribed", self.unsubscribed),
            ("tiers", self.tiers),
            ("reconnects", self.reconnects),
            ("resumed", self.resumed),
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
            interval: Interval::new(),
            total: Interval::new(),
            started_ns: monotonic_ns,
            reported_ns: monotonic_ns,
        }
    }

    /// Counts an event that arrived at `unix_ns`.
    pub fn handle_event(&mut self, event: &Event<'_>, unix_ns: u64) {
        self.interval.frames += 1;
        self.interval.bytes += event.text().len() as u64;
        self.interval.skips += u64::from(event.link == Link::Skips);
        // What comes late, because it is sent again, says nothing about the way here.
        if let Some(ts_in) = event.ts_in.filter(|_| event.link != Link::Recovered) {
            self.interval.latency_us.saturating_record(unix_ns.saturating_sub(ts_in) / 1_000);
        }
    }

    /// Counts what is missing.
    pub fn handle_gap(&mut self, gap: &Gap) {
        match &gap.cause {
            Cause::Hole => self.interval.gaps += 1,
            Cause::Reconnect => self.interval.torn += 1,
            Cause::Server(word) => {
                self.interval.receipts += 1;
                self.interval.missed += gap.missed.unwrap_or_default();
                self.interval.add_missed(word.clone(), gap.missed);
            }
        }
    }

    /// Counts new connections, and what the server has ended.
    pub const fn handle_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Connected { is_again: true, .. } => self.interval.reconnects += 1,
            Notice::Resumed { .. } => self.interval.resumed += 1,
            Notice::Unsubscribed { channels, .. } => {
                self.interval.unsubscribed += channels.len() as u64;
            }
            _ => {}
        }
    }

    /// Counts moves between tiers.
    pub fn handle_control(&mut self, frame: &Frame<'_>) {
        self.interval.tiers += u64::from(frame.kind == Some("tier"));
    }

    /// Events so far.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.total.frames + self.interval.frames
    }

    /// The line for the time since the last report; events came of so many channels.
    pub fn report(&mut self, channels: usize, monotonic_ns: u64) -> String {
        let elapsed_ns = monotonic_ns.saturating_sub(self.reported_ns);
        let line = self.line(&self.interval, channels, elapsed_ns, true);
        self.reported_ns = monotonic_ns;
        self.fold();
        line
    }

    /// The summary of everything.
    pub fn summary(&mut self, channels: usize, monotonic_ns: u64) -> String {
        self.fold();
        let elapsed_ns = monotonic_ns.saturating_sub(self.started_ns);
        #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
        let seconds = elapsed_ns as f64 / 1e9;
        format!(
            "{} events in {seconds:.1} s: {}",
            grouped(self.total.frames),
            self.line(&self.total, channels, elapsed_ns, false)
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
            self.total.add_missed(cause, missed);
        }
        self.total.unsubscribed += interval.unsubscribed;
        self.total.tiers += interval.tiers;
        self.total.reconnects += interval.reconnects;
        self.total.resumed += interval.resumed;
        self.total.torn += interval.torn;
        self.total.latency_us.add(interval.latency_us).expect("both have the bounds of new_lag");
    }

    fn line(&self, figures: &Interval, channels: usize, elapsed_ns: u64, aligned: bool) -> String {
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
            "{:>width$}/s  {:>width$}/s  channels {channels}  gaps {}{}  latency {latency}",
            short(rate(figures.frames)),
            bytes(rate(figures.bytes)),
            figures.gaps,
            figures.losses(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(tally: &mut Tally, seq: u64, link: Link) {
        let text = format!(
            r#"{{"channel":"a","type":"update","seq":{seq},"ts_in":1000000,"data":{{"seq":7}}}}"#
        );
        let mut scratch = text.clone().into_bytes();
        let frame = Frame::parse(&mut scratch).unwrap();
        tally.handle_event(&Event::of(&frame, &text, link), 1_085_000);
    }

    fn lose(tally: &mut Tally, cause: Cause, missed: Option<u64>) {
        tally.handle_gap(&Gap { channels: vec!["a".into()], from: 1, to: 9, missed, cause });
    }

    fn receipt(tally: &mut Tally, word: &str, missed: u64) {
        lose(tally, Cause::Server(word.into()), Some(missed));
    }

    #[test]
    fn a_report_is_of_its_interval_and_the_summary_of_everything() {
        let mut tally = Tally::new(0);
        for seq in 1..=100 {
            feed(&mut tally, seq, Link::Follows);
        }
        let line = tally.report(1, 2_000_000_000);
        assert!(line.starts_with("   50/s"), "{line}");
        assert!(line.ends_with("latency p50 85 µs p99 85 µs max 85 µs"), "{line}");
        feed(&mut tally, 200, Link::Skips);
        lose(&mut tally, Cause::Hole, None);
        receipt(&mut tally, "slow", 31);
        let line = tally.report(1, 3_000_000_000);
        assert!(line.starts_with("    1/s"), "{line}");
        assert!(line.contains("gaps 1  skips 1  receipts 1 (missed 31: slow 31)"), "{line}");
        let summary = tally.summary(1, 4_000_000_000);
        assert!(summary.starts_with("101 events in 4.0 s: 25/s"), "{summary}");
        assert!(summary.contains("channels 1  gaps 1"), "{summary}");
        assert_eq!(tally.frames(), 101);
    }

    #[test]
    fn what_is_sent_again_has_no_latency() {
        let mut tally = Tally::new(0);
        feed(&mut tally, 1, Link::Recovered);
        let line = tally.report(1, 1_000_000_000);
        assert!(line.ends_with("latency unknown"), "{line}");
    }

    #[test]
    fn what_the_server_did_to_a_slow_client_is_counted_by_its_cause() {
        let mut tally = Tally::new(0);
        receipt(&mut tally, "slow", 20);
        receipt(&mut tally, "max_age", 11);
        receipt(&mut tally, "slow", 5);
        let channels = vec!["a".into(), "b.*".into()];
        tally.handle_notice(&Notice::Unsubscribed { channels, seq: 9, cause: "max_age".into() });
        let mut text = br#"{"channel":"control","type":"tier","interval_ms":100,"seq":9}"#.to_vec();
        tally.handle_control(&Frame::parse(&mut text).unwrap());
        let expected = "gaps 0  receipts 3 (missed 36: max_age 11, slow 25)  unsubscribed 2  \
            tiers 1  latency";
        let line = tally.report(0, 1_000_000_000);
        assert!(line.contains(expected), "{line}");
        let line = tally.report(0, 2_000_000_000);
        assert!(line.contains("gaps 0  receipts 0 (missed 0)  latency"), "{line}");
        let summary = tally.summary(0, 3_000_000_000);
        assert!(summary.contains(expected), "{summary}");
    }

    #[test]
    fn what_lies_between_two_connections_is_counted_and_the_unknown_is_no_number() {
        let mut tally = Tally::new(0);
        for is_again in [false, true, true, true] {
            tally.handle_notice(&Notice::Connected { seq: 1, is_again, security: None });
        }
        tally.handle_notice(&Notice::Resumed { seq: 1 });
        lose(&mut tally, Cause::Reconnect, None);
        receipt(&mut tally, "too_old", 7);
        lose(&mut tally, Cause::Server("too_old".into()), None);
        tally.report(0, 1);
        receipt(&mut tally, "too_old", 7);
        let summary = tally.summary(0, 1_000_000_000);
        let expected = "gaps 0  receipts 3 (missed 14: too_old unknown)  reconnects 3  resumed 1  \
            torn 1  latency";
        assert!(summary.contains(expected), "{summary}");
    }
}
