//! Draws a board: the server, its cores, its busiest channels, its slowest clients.
//!
//! Not here: keys (`board`). Invariant: the same board gives the same picture; what does not fit is
//! left out, rows of clients first.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Clear, Paragraph, Row, Table, Widget};

use super::board::{Board, Mode};
use super::look::{Connection, Look};
use crate::cli::figures::{bytes, grouped, microseconds, short};

/// Rows of channels, and of cores where there are more.
const CHANNELS: usize = 8;
const CORES: usize = 16;

/// Columns and rows that show everything of a small server.
pub const WIDTH: u16 = 100;
/// See [`WIDTH`].
pub const HEIGHT: u16 = 40;

const KEYS: &str = "q quit  s sort  f filter  ↑↓ choose  k kick  ? help";

const HELP: &str = "\
q        end
s        sort clients: by lag, by what they missed, by round trip
f or /   show only channels and clients with this text; Enter keeps it, Esc takes it away
↑ ↓      choose a client
k        close the chosen client's connection; asks first, and it may come back
?        this help; any key ends it

Rates and times are of the interval between two looks. `busy` is the part of it that a core spent
in turns of its fan-out loop; `lag` is from ingest to the last client of a pass.";

impl Board {
    /// Draws everything.
    pub fn render(&self, area: Rect, buffer: &mut Buffer) {
        let Some(look) = &self.look else {
            let text = self.note.as_deref().unwrap_or("asking the server …");
            Line::from(text).render(area, buffer);
            return;
        };
        let cores = look.stats.shards.len().min(CORES);
        let channels = self.channels();
        let rows = |count: usize| {
            Constraint::Length(u16::try_from(count + 2).expect("a few rows are shown"))
        };
        let parts = [
            Constraint::Length(3),
            rows(cores),
            rows(channels.len().min(CHANNELS)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ];
        let [head, middle, lower, rest, foot] = Layout::vertical(parts).areas(area);
        self.head(look, head, buffer);
        self.cores(look, middle, buffer);
        let shown = channels.iter().take(CHANNELS).map(|one| {
            [left(&one.channel), right(short_of(one.rate)), right(one.seq), right(one.subscribers)]
        });
        let head = [left("CHANNEL"), right("EVENTS/S"), right("SEQ"), right("CLIENTS")];
        table([32, 10, 14, 9], head, shown.map(Row::new)).render(lower, buffer);
        self.connections(rest, buffer);
        self.foot(foot, buffer);
        if self.mode == Mode::Helping {
            help(area, buffer);
        }
    }

    fn head(&self, look: &Look, area: Rect, buffer: &mut Buffer) {
        let stats = &look.stats;
        let server = &stats.server;
        let state = if server.state == "ready" { Color::Green } else { Color::Yellow };
        let first = Line::from_iter([
            format!("fanfare {}  ", server.version).bold(),
            server.state.clone().fg(state),
            format!("  {} at {}  up {}", server.node, self.address, age(server.uptime_ms)).into(),
        ]);
        let rates = self.rates.clone().unwrap_or_default();
        let lag = rates.lag_ns.map_or_else(
            || "lag -".into(),
            |(median, high)| format!("lag p50 {} p99 {}", time(median), time(high)),
        );
        let second = format!(
            "in {}/s  out {}/s  {}/s  {lag}  connections {}  blocked {}  missed {}  bad lines {}",
            short(rates.events),
            short(rates.deliveries),
            bytes(rates.bytes),
            grouped(stats.sum(|shard| shard.connections)),
            stats.sum(|shard| shard.blocked),
            grouped(stats.sum(|shard| shard.missed)),
            stats.ingest.lines_bad,
        );
        Text::from(vec![first, Line::from(second)]).render(area, buffer);
    }

    fn cores(&self, look: &Look, area: Rect, buffer: &mut Buffer) {
        let rates = self.rates.as_ref().map_or(&[][..], |rates| &rates.cores);
        let rows = look.stats.shards.iter().enumerate().take(CORES).map(|(number, shard)| {
            let core = rates.get(number).cloned().unwrap_or_default();
            let log = shard.log_bytes * 100 / shard.log_capacity_bytes.max(1);
            Row::new([
                right(number),
                right(grouped(shard.connections)),
                right(short(core.deliveries)),
                right(format!("{:.0} %", core.busy * 100.0)),
                right(core.longest_ns.map_or_else(|| "-".into(), time)),
                right(format!("{}/{}", shard.ring_depth, look.stats.server.ring_batches)),
                right(format!("{log} %")),
            ])
        });
        let head = ["CORE", "CLIENTS", "OUT/S", "BUSY", "LONGEST TURN", "RING", "LOG"].map(right);
        table([4, 10, 9, 6, 13, 8, 6], head, rows).render(area, buffer);
    }

    fn connections(&self, area: Rect, buffer: &mut Buffer) {
        let clients = self.clients();
        let room = usize::from(area.height.saturating_sub(1));
        let place = self.place();
        // The chosen one stays in sight.
        let first = place.map_or(0, |place| (place + 1).saturating_sub(room));
        let rows = clients.iter().enumerate().skip(first).take(room).map(|(number, one)| {
            let style = if place == Some(number) { Style::new().reversed() } else { Style::new() };
            client(one).style(style)
        });
        let head = [
            left("CLIENT"),
            left("ADDRESS"),
            left("WHO"),
            left("STATE"),
            right("BEHIND"),
            right("BYTES"),
            right("MISSED"),
            right("RTT"),
        ];
        table([10, 21, 16, 8, 8, 8, 9, 8], head, rows).render(area, buffer);
    }

    fn foot(&self, area: Rect, buffer: &mut Buffer) {
        let line = match (&self.mode, &self.note) {
            (Mode::Filtering, _) => Line::from(format!("filter: {}_", self.filter)),
            (Mode::Confirming(id), _) => {
                let who = self.clients().into_iter().find(|client| client.id == *id);
                let address = who.and_then(|who| who.address.as_deref()).unwrap_or("?");
                Line::from(format!("kick {id} ({address})? y or n")).fg(Color::Yellow)
            }
            (_, Some(note)) => Line::from(note.as_str()).fg(Color::Yellow),
            _ => {
                let filter = match self.filter.as_str() {
                    "" => String::new(),
                    text => format!("  filter: {text}"),
                };
                Line::from(format!("{KEYS}  sorted by {}{filter}", self.sort.name())).dim()
            }
        };
        line.render(area, buffer);
    }
}

fn client(one: &Connection) -> Row<'static> {
    let behind = match one.lag.ms {
        0 => "-".into(),
        ms => microseconds(ms * 1_000),
    };
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let waiting = bytes(one.lag.bytes as f64);
    let is_late = one.lag.ms > 0 || one.missed > 0;
    Row::new([
        left(&one.id),
        left(one.address.as_deref().unwrap_or("-")),
        left(&one.identity),
        left(&one.state),
        right(behind).style(if is_late { Style::new().fg(Color::Yellow) } else { Style::new() }),
        right(waiting),
        right(grouped(one.missed)),
        right(one.tcp.as_ref().map_or_else(|| "-".into(), |tcp| microseconds(tcp.rtt_us))),
    ])
}

fn table<'a, const N: usize>(
    widths: [u16; N],
    head: [Cell<'a>; N],
    rows: impl Iterator<Item = Row<'a>>,
) -> Table<'a> {
    Table::new(rows, widths.map(Constraint::Length)).header(Row::new(head).dim()).column_spacing(1)
}

fn left(text: impl Into<String>) -> Cell<'static> {
    Cell::from(text.into())
}

fn right(value: impl ToString) -> Cell<'static> {
    Cell::from(Text::from(value.to_string()).right_aligned())
}

fn help(area: Rect, buffer: &mut Buffer) {
    let height = u16::try_from(HELP.lines().count()).expect("it is short").min(area.height);
    let place = Rect { y: area.y + area.height - height, height, ..area };
    Clear.render(place, buffer);
    Paragraph::new(HELP).render(place, buffer);
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn short_of(count: u64) -> String {
    short(count as f64)
}

fn time(ns: u64) -> String {
    match ns {
        u64::MAX => "over 1 min".into(),
        ns => microseconds(ns / 1_000),
    }
}

fn age(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match days {
        0 => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
        _ => format!("{days} d {hours:02}:{minutes:02}"),
    }
}

/// A board of a made-up server.
#[cfg(test)]
pub(super) fn made_up() -> Board {
    let look = |uptime_ms: u64, events: u64| {
        let shard = |number: u64| {
            let (deliveries, fast) = (events * (number + 1), events / 100);
            format!(
                r#"{{"connections":{},"blocked":{number},"deliveries":{deliveries},
                "bytes_sent":{},"missed":31,"ring_depth":3,"log_bytes":50,
                "log_capacity_bytes":200,"histograms":{{"last_send_ns":{{"sum":0,
                "buckets":[[371000,{fast}],[1480000,{}]]}},"turn_ns":{{"sum":{},
                "buckets":[[220000,{fast}]]}}}}}}"#,
                number + 1,
                deliveries * 300,
                fast / 20,
                uptime_ms * 420_000,
            )
        };
        let mut text = format!(
            r#"{{"server":{{"version":"0.1.0","pid":7,"node":"vm","epoch":"E","state":"ready",
            "uptime_ms":{uptime_ms},"ring_batches":64}},
            "ingest":{{"events":{events},"lines_bad":0,"channels":2}},
            "shards":[{},{}]}}"#,
            shard(0),
            shard(1)
        );
        let mut lists = r#"[{"channel":"quote.BTCUSDT","rate":1234,"seq":99,"subscribers":3},
            {"channel":"trade.BTCUSDT","rate":20,"seq":98,"subscribers":2}]"#
            .to_owned();
        let mut clients = r#"[{"id":"0-7-1","address":"10.0.0.9:40001","identity":"key desk-7",
            "state":"blocked","lag":{"events":900,"bytes":81000,"ms":2500},"missed":62,
            "tcp":{"rtt_us":85}},{"id":"1-0-4","address":null,"identity":"anyone",
            "state":"in_sync","lag":{"events":0,"bytes":0,"ms":0},"missed":0,"tcp":null}]"#
            .to_owned();
        fn read<T: serde::de::DeserializeOwned>(text: &mut String) -> T {
            simd_json::serde::from_slice(&mut std::mem::take(text).into_bytes()).unwrap()
        }
        Look { stats: read(&mut text), channels: read(&mut lists), connections: read(&mut clients) }
    };
    let mut board = Board::new("127.0.0.1:9003");
    board.handle_look(look(60_000, 10_000));
    board.handle_look(look(62_000, 12_000));
    board
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::*;

    fn drawn(board: &Board, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| board.render(frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn everything_of_a_small_server_is_on_one_screen() {
        let lines = drawn(&made_up(), WIDTH, 18);
        let expected = [
            "fanfare 0.1.0  ready  vm at 127.0.0.1:9003  up 0:01:02",
            "in 1.00k/s  out 3.00k/s  900 kB/s  lag p50 371 µs p99 1.48 ms  connections 3  \
             blocked 1  missed 62",
            "",
            "CORE    CLIENTS     OUT/S   BUSY  LONGEST TURN     RING    LOG",
            "   0          1     1.00k   42 %        220 µs     3/64   25 %",
            "   1          2     2.00k   42 %        220 µs     3/64   25 %",
            "",
            "CHANNEL                            EVENTS/S            SEQ   CLIENTS",
            "quote.BTCUSDT                         1.23k             99         3",
            "trade.BTCUSDT                            20             98         2",
            "",
            "CLIENT     ADDRESS               WHO              STATE      BEHIND    BYTES    \
             MISSED      RTT",
            "0-7-1      10.0.0.9:40001        key desk-7       blocked    2.50 s  81.0 kB        \
             62    85 µs",
            "1-0-4      -                     anyone           in_sync         -      0 B         \
             0        -",
        ];
        assert_eq!(lines[..expected.len()], expected);
        assert_eq!(lines[17], format!("{KEYS}  sorted by lag"));
    }

    #[test]
    fn the_foot_asks_before_a_kick_and_shows_what_is_typed() {
        let mut board = made_up();
        board.handle_key(KeyCode::Down);
        board.handle_key(KeyCode::Char('k'));
        assert_eq!(drawn(&board, 80, 18)[17], "kick 0-7-1 (10.0.0.9:40001)? y or n");
        board.handle_key(KeyCode::Char('n'));
        assert_eq!(drawn(&board, 80, 18)[17], "0-7-1 was left alone");
        board.handle_key(KeyCode::Esc);
        board.handle_key(KeyCode::Char('f'));
        board.handle_key(KeyCode::Char('x'));
        assert_eq!(drawn(&board, 80, 18)[17], "filter: x_");
    }

    #[test]
    fn a_small_terminal_shows_what_fits_and_the_chosen_client() {
        let mut board = made_up();
        board.handle_key(KeyCode::Down);
        board.handle_key(KeyCode::Down);
        let lines = drawn(&board, 60, 14);
        assert!(lines[12].starts_with("1-0-4"), "{lines:?}");
        for (width, height) in [(1, 1), (20, 3), (80, 5)] {
            drawn(&board, width, height);
        }
        let help = {
            board.handle_key(KeyCode::Char('?'));
            drawn(&board, 100, 20)
        };
        assert!(help.iter().any(|line| line.starts_with("k        close")), "{help:?}");
    }

    #[test]
    fn before_the_first_answer_it_says_what_it_waits_for() {
        let mut board = Board::new("a:1");
        assert_eq!(drawn(&board, 40, 2)[0], "asking the server …");
        board.handle_loss("no");
        assert_eq!(drawn(&board, 60, 2)[0], "lost the server: no; trying again");
    }
}
