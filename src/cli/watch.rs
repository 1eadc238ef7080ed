//! Waits for a signal while a server runs, and shows the live view meanwhile if asked to.
//!
//! On a terminal the view is a few rows below the scrolled text (the screen is not taken);
//! elsewhere it is a plain line every two seconds. Invariant: the cursor is visible again
//! afterwards, also after a panic.

use std::io::{self, IsTerminal, Stdout, Write, stdout};
use std::sync::Once;
use std::time::Duration;

use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::prelude::CrosstermBackend;
use ratatui::text::Line;
use ratatui::widgets::Widget;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::failure::{Failure, Flow, written};
use super::logging::Hold;
use super::view::{ROWS, View};
use crate::server::Server;
use crate::shell::clock;
use crate::shell::signals::Stop;

/// Between two looks on a terminal.
const ROWS_PERIOD: Duration = Duration::from_millis(500);
/// Between two plain lines, and between two checks for the end of the sources.
const LINE_PERIOD: Duration = Duration::from_secs(2);

/// Between two looks whether a command has begun a drain.
const DRAIN_PERIOD: Duration = Duration::from_millis(50);

/// How the server's figures are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Not at all.
    Nothing,
    /// A plain line every two seconds.
    Lines,
    /// Rows at the bottom of the terminal.
    Rows,
}

impl Display {
    /// Rows where there is a terminal for them, lines elsewhere.
    #[must_use]
    pub fn suited(plain: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if plain || dumb || !stdout().is_terminal() { Self::Lines } else { Self::Rows }
    }
}

/// Shows `server` until `stop` is asked for, or a drain has begun.
///
/// # Errors
/// A terminal or standard output that cannot be written to; a closed pipe only ends the lines.
pub fn watch(server: &Server, stop: &Stop, display: Display) -> Result<(), Failure> {
    let mut ending = Ending::default();
    match display {
        Display::Nothing => {
            while !has_ended(server, stop, LINE_PERIOD) {
                ending.check(server);
            }
            Ok(())
        }
        Display::Lines => lines(server, stop, &mut ending),
        Display::Rows => rows(server, stop, &mut ending)
            .map_err(|error| Failure::Run(format!("the live view: {error}; try --plain"))),
    }
}

/// Waits for `period`; true as soon as the process was asked to stop, or drains. Passes on what was
/// asked meanwhile.
fn has_ended(server: &Server, stop: &Stop, period: Duration) -> bool {
    let end_ns = clock::now().monotonic_ns + clock::nanoseconds(period);
    loop {
        let left_ns = end_ns.saturating_sub(clock::now().monotonic_ns);
        let asked = stop.wait(Duration::from_nanos(left_ns).min(DRAIN_PERIOD));
        if stop.take_reload() {
            server.reload();
        }
        if asked || server.is_draining() || server.failure().is_some() {
            return true;
        }
        if left_ns == 0 {
            return false;
        }
    }
}

fn lines(server: &Server, stop: &Stop, ending: &mut Ending) -> Result<(), Failure> {
    let mut view = View::default();
    let mut flow = Flow::Continue;
    view.handle_snapshot(server.telemetry.snapshot(), clock::now().monotonic_ns);
    while !has_ended(server, stop, LINE_PERIOD) {
        ending.check(server);
        if flow == Flow::Continue {
            view.handle_snapshot(server.telemetry.snapshot(), clock::now().monotonic_ns);
            flow = written(writeln!(stdout(), "{}", view.line()))?;
        }
    }
    Ok(())
}

fn rows(server: &Server, stop: &Stop, ending: &mut Ending) -> io::Result<()> {
    show_cursor_after_panic();
    let hold = Hold::begin();
    let options = TerminalOptions { viewport: Viewport::Inline(ROWS + 1) };
    let mut terminal = Terminal::with_options(CrosstermBackend::new(stdout()), options)?;
    let mut view = View::default();
    let result = loop {
        ending.check(server);
        view.handle_snapshot(server.telemetry.snapshot(), clock::now().monotonic_ns);
        if let Err(error) = draw(&mut terminal, &view, &hold) {
            break Err(error);
        }
        if has_ended(server, stop, ROWS_PERIOD) {
            break Ok(());
        }
    };
    // What follows goes below the rows, not into them.
    let bottom = terminal.get_frame().area().bottom().saturating_sub(1);
    terminal.set_cursor_position((0, bottom))?;
    terminal.show_cursor()?;
    println!();
    result
}

fn draw(
    terminal: &mut Terminal<CrosstermBackend<Stdout>>,
    view: &View,
    hold: &Hold,
) -> io::Result<()> {
    for line in hold.take() {
        let text = String::from_utf8_lossy(&line).into_owned();
        terminal.insert_before(1, |buffer| Line::from(text).render(buffer.area, buffer))?;
    }
    terminal.draw(|frame| {
        let mut area = frame.area();
        area.height = area.height.saturating_sub(1);
        area.y += 1;
        view.render(area, frame.buffer_mut());
    })?;
    Ok(())
}

/// Says once that every source has ended.
#[derive(Debug, Default)]
struct Ending {
    said: bool,
}

impl Ending {
    fn check(&mut self, server: &Server) {
        if !self.said && server.sources_ended() {
            self.said = true;
            tracing::info!("every source has ended; serving what is known until stopped");
        }
    }
}

fn show_cursor_after_panic() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let _lost_terminal = execute!(stdout(), Show);
            default(panic);
        }));
    });
}
