//! The live view of a server: rates from differences of [`Snapshot`]s, as rows or as one line.
//!
//! Not here: when to look and where to draw (`watch`). Invariant: time is an argument; the same
//! snapshots give the same picture.

use std::collections::VecDeque;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, Widget};

use super::figures::{bytes, grouped, microseconds, short};
use crate::limits::VIEW_HISTORY_MAX;
use crate::telemetry::Snapshot;

/// Rows that [`View::render`] fills.
pub const ROWS: u16 = 5;

/// What happened between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Events in, a second.
    pub events: f64,
    /// Deliveries out, a second.
    pub deliveries: f64,
    /// Bytes out, a second.
    pub bytes: f64,
    /// Deliveries for each send.
    pub batch: f64,
}

/// The newest look at a server and a history of rates.
#[derive(Debug, Default)]
pub struct View {
    newest: Snapshot,
    newest_ns: Option<u64>,
    rates: Rates,
    lag_us: Option<(u64, u64, u64)>,
    events: VecDeque<u64>,
    deliveries: VecDeque<u64>,
}

impl View {
    /// Takes a look made at `monotonic_ns`.
    pub fn handle_snapshot(&mut self, snapshot: Snapshot, monotonic_ns: u64) {
        if let Some(before_ns) = self.newest_ns {
            self.rates = rates(&self.newest, &snapshot, monotonic_ns.saturating_sub(before_ns));
            remember(&mut self.events, self.rates.events);
            remember(&mut self.deliveries, self.rates.deliveries);
        }
        // A shard reports latencies after a pass, so a look may fall between two reports.
        if snapshot.lag_us.is_some() || self.rates.deliveries == 0.0 {
            self.lag_us = snapshot.lag_us;
        }
        self.newest = snapshot;
        self.newest_ns = Some(monotonic_ns);
    }

    /// The rates between the last two looks.
    #[must_use]
    pub const fn rates(&self) -> Rates {
        self.rates
    }

    /// Everything in one plain line.
    #[must_use]
    pub fn line(&self) -> String {
        let Snapshot { connections, blocked, gaps, missed, pauses, lines_bad, .. } = self.newest;
        format!(
            "in {}/s  out {}/s  {}/s  connections {connections} ({}{})  lag {}  blocked {blocked}  \
            gaps {gaps} (missed {missed})  pauses {pauses}  bad lines {lines_bad}",
            short(self.rates.events),
            short(self.rates.deliveries),
            bytes(self.rates.bytes),
            self.by_shard(),
            self.spread(),
            self.lag(),
        )
    }

    /// Draws [`ROWS`] rows.
    pub fn render(&self, area: Rect, buffer: &mut Buffer) {
        let rows = Layout::vertical([Constraint::Length(1); ROWS as usize]).split(area);
        let newest = &self.newest;
        let totals = format!("{} in all", grouped(newest.events_in));
        let events = format!("{}/s", short(self.rates.events));
        row(rows[0], buffer, "events in", &events, &self.events, &totals);
        let volume = format!("{}/s, {:.1} a send", bytes(self.rates.bytes), self.rates.batch);
        let deliveries = format!("{}/s", short(self.rates.deliveries));
        row(rows[1], buffer, "deliveries", &deliveries, &self.deliveries, &volume);
        let connections = format!("{} ({})", grouped(newest.connections), self.by_shard());
        facts(
            rows[2],
            buffer,
            "connections",
            &[
                (connections, false),
                (format!("blocked {}", newest.blocked), newest.blocked > 0),
                (format!("producers {}", newest.producers), false),
                (format!("channels {}", grouped(newest.channels)), false),
            ],
        );
        facts(rows[3], buffer, "lag", &[(self.lag(), false)]);
        facts(
            rows[4],
            buffer,
            "loss",
            &[
                (format!("gaps {} (missed {})", newest.gaps, newest.missed), newest.gaps > 0),
                (format!("pauses {}", newest.pauses), newest.pauses > 0),
                (format!("bad lines {}", newest.lines_bad), newest.lines_bad > 0),
            ],
        );
    }

    fn by_shard(&self) -> String {
        let shards: Vec<_> = self.newest.connections_by_shard.iter().map(u64::to_string).collect();
        format!("by shard {}", shards.join(" "))
    }

    /// How uneven the shards are, for those who compare lines.
    fn spread(&self) -> String {
        let percent = self.newest.spread_percent();
        percent.map_or_else(String::new, |percent| format!(", largest {percent} % of the mean"))
    }

    fn lag(&self) -> String {
        match self.lag_us {
            None => "nothing sent".into(),
            Some((median, high, max)) => format!(
                "p50 {}  p99 {}  max {}",
                microseconds(median),
                microseconds(high),
                microseconds(max)
            ),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
fn rates(before: &Snapshot, after: &Snapshot, elapsed_ns: u64) -> Rates {
    let seconds = elapsed_ns.max(1) as f64 / 1e9;
    let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
    let sends = rate(before.sends, after.sends);
    let deliveries = rate(before.deliveries, after.deliveries);
    Rates {
        events: rate(before.events_in, after.events_in),
        deliveries,
        bytes: rate(before.bytes_sent, after.bytes_sent),
        batch: if sends > 0.0 { deliveries / sends } else { 0.0 },
    }
}

fn remember(history: &mut VecDeque<u64>, rate: f64) {
    if history.len() == VIEW_HISTORY_MAX {
        history.pop_front();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are small")]
    history.push_back(rate as u64);
}

fn columns(area: Rect) -> [Rect; 4] {
    let widths = [
        Constraint::Length(13),
        Constraint::Length(10),
        Constraint::Fill(1),
        Constraint::Length(26),
    ];
    Layout::horizontal(widths).areas(area)
}

fn row(
    area: Rect,
    buffer: &mut Buffer,
    name: &str,
    rate: &str,
    history: &VecDeque<u64>,
    note: &str,
) {
    let [left, middle, chart, right] = columns(area);
    Line::from(name.dim()).render(left, buffer);
    Line::from(rate.bold()).right_aligned().render(middle, buffer);
    let chart = Rect { x: chart.x + 1, width: chart.width.saturating_sub(2), ..chart };
    let skipped = history.len().saturating_sub(usize::from(chart.width));
    Sparkline::default()
        .data(history.iter().skip(skipped).copied())
        .style(Style::new().fg(Color::Cyan))
        .render(chart, buffer);
    Line::from(note).render(right, buffer);
}

/// Facts beside each other, the first and what else fits; those marked true ask for attention.
fn facts(area: Rect, buffer: &mut Buffer, name: &str, facts: &[(String, bool)]) {
    let widths = [Constraint::Length(14), Constraint::Fill(1)];
    let [left, right] = Layout::horizontal(widths).areas(area);
    Line::from(name.dim()).render(left, buffer);
    let mut line = Line::default();
    for (text, attention) in facts {
        let gap = if line.spans.is_empty() { "" } else { "   " };
        let style = if *attention { Style::new().fg(Color::Yellow) } else { Style::new() };
        let fact = Span::styled(text.as_str(), style);
        if !gap.is_empty() && line.width() + gap.len() + fact.width() > usize::from(right.width) {
            break;
        }
        line.push_span(gap);
        line.push_span(fact);
    }
    line.render(right, buffer);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn busy() -> View {
        let mut view = View::default();
        let first = Snapshot { events_in: 1_000, deliveries: 10_000, ..Snapshot::default() };
        view.handle_snapshot(first, 1_000_000_000);
        let second = Snapshot {
            events_in: 2_500,
            deliveries: 1_510_000,
            sends: 100_000,
            bytes_sent: 345_600_000,
            connections: 1_000,
            connections_by_shard: vec![498, 502],
            blocked: 3,
            producers: 1,
            channels: 6,
            gaps: 2,
            missed: 31,
            lag_us: Some((85, 230, 1_250)),
            ..Snapshot::default()
        };
        view.handle_snapshot(second, 3_000_000_000);
        view
    }

    #[test]
    fn rates_are_differences_over_the_time_between_two_looks() {
        let rates = busy().rates();
        assert_eq!(rates, Rates { events: 750.0, deliveries: 750e3, bytes: 172.8e6, batch: 15.0 });
    }

    #[test]
    fn a_first_look_and_a_clock_that_stands_still_show_no_rates() {
        let mut view = View::default();
        assert_eq!(view.rates(), Rates::default());
        view.handle_snapshot(Snapshot::default(), 5);
        view.handle_snapshot(Snapshot::default(), 5);
        assert_eq!(view.rates(), Rates::default());
        assert!(view.line().contains("lag nothing sent"));
    }

    #[test]
    fn the_lag_stays_between_reports_and_goes_when_nothing_is_sent() {
        let mut view = busy();
        let more = Snapshot { deliveries: 1_600_000, ..Snapshot::default() };
        view.handle_snapshot(more.clone(), 4_000_000_000);
        assert!(view.line().contains("lag p50 85 µs"), "{}", view.line());
        view.handle_snapshot(more, 5_000_000_000);
        assert!(view.line().contains("lag nothing sent"), "{}", view.line());
    }

    #[test]
    fn one_line_holds_every_figure() {
        assert_eq!(
            busy().line(),
            "in 750/s  out 750k/s  173 MB/s  connections 1000 (by shard 498 502, \
            largest 100 % of the mean)  \
            lag p50 85 µs  p99 230 µs  max 1.25 ms  blocked 3  gaps 2 (missed 31)  pauses 0  \
            bad lines 0"
        );
    }

    fn drawn(columns: u16) -> impl Fn(u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, ROWS)).unwrap();
        terminal.draw(|frame| busy().render(frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer().clone();
        move |y| {
            let row = (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
            row.trim_end().to_owned()
        }
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_facts_and_no_part_of_one() {
        let line = drawn(60);
        assert_eq!(line(2), "connections   1,000 (by shard 498 502)   blocked 3");
        assert_eq!(line(4), "loss          gaps 2 (missed 31)   pauses 0   bad lines 0");
    }

    #[test]
    fn the_rows_fit_a_terminal_of_eighty_columns() {
        let line = drawn(80);
        assert_eq!(line(0).split_whitespace().next(), Some("events"));
        assert!(line(0).contains("750/s █") && line(0).ends_with("2,500 in all"), "{}", line(0));
        assert!(line(1).ends_with("173 MB/s, 15.0 a send"), "{}", line(1));
        assert_eq!(
            line(2),
            "connections   1,000 (by shard 498 502)   blocked 3   producers 1   channels 6"
        );
        assert_eq!(line(3), "lag           p50 85 µs  p99 230 µs  max 1.25 ms");
        assert_eq!(line(4), "loss          gaps 2 (missed 31)   pauses 0   bad lines 0");
    }
}
