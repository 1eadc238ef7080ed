//! `fanfare top`: a running server's cores, channels and slowest clients, live.
//!
//! A thread asks the admin address, so that a server that is slow to answer does not hold the keys.
//! Not here: what is shown (`board`, `screen`), and what it is made of (`look`). Invariant: the
//! terminal is as it was afterwards, also after a panic.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use serde::de::DeserializeOwned;

use super::failure::{Failure, no_signals, written};
use super::operator::{admin, failed};
use crate::config::values::duration;
use crate::limits::{LOOK_INTERVAL_MS, ROWS};
use crate::shell::clock;
use crate::shell::inquiry::{Inquiry, InquiryError};
use crate::shell::signals::Stop;

pub mod board;
pub mod look;
pub mod screen;

use board::{Board, Sort, Wish};
use look::{Channels, Connections, Look};

/// Between two looks whether a key was pressed or an answer has come.
const KEYS_PERIOD: Duration = Duration::from_millis(50);

/// Shows the cores, channels and slowest clients of a running server.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// The server's admin address, such as 127.0.0.1:9003
    admin: String,
    /// File with the server's admin token [default: none is shown]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Time between two looks, in ms, s or m
    #[arg(long, value_name = "TIME", default_value = "1s")]
    interval: String,
    /// Print one frame as text, of one interval, and end
    #[arg(long)]
    once: bool,
}

impl Top {
    /// Shows the server until q is pressed; one frame with `--once`.
    ///
    /// # Errors
    /// Wrong flags; a server that does not answer at the start, or refuses; a terminal that cannot
    /// be drawn on.
    pub fn run(&self) -> Result<(), Failure> {
        let interval = duration(&self.interval, LOOK_INTERVAL_MS).map_err(|wrong| {
            Failure::Usage(format!("--interval: {}; allowed: {}", wrong.what, wrong.allowed))
        })?;
        let inquiry = admin(&self.admin, self.token_file.as_ref())?;
        let mut board = Board::new(inquiry.address());
        // The first look says what is wrong before the terminal is taken.
        board.handle_look(look(&inquiry, Sort::default()).map_err(failed)?);
        if self.once { once(board, &inquiry, interval) } else { live(board, inquiry, interval) }
    }
}

/// A second look an interval after the first, as text.
fn once(mut board: Board, inquiry: &Inquiry, interval: Duration) -> Result<(), Failure> {
    std::thread::sleep(interval);
    board.handle_look(look(inquiry, board.sort()).map_err(failed)?);
    let area = Rect::new(0, 0, screen::WIDTH, screen::HEIGHT);
    let mut buffer = Buffer::empty(area);
    board.render(area, &mut buffer);
    let row = |y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    // The last row is about keys.
    let rows: Vec<_> = (0..area.height - 1).map(row).collect();
    let text = rows.iter().map(|row| row.trim_end()).collect::<Vec<_>>().join("\n");
    written(writeln!(stdout(), "{}", text.trim_end())).map(drop)
}

fn live(board: Board, inquiry: Inquiry, interval: Duration) -> Result<(), Failure> {
    let terminal_failed =
        |error: std::io::Error| Failure::Run(format!("the terminal: {error}; try --once"));
    let stop = Stop::install_once().map_err(no_signals)?;
    let (questions, asked) = channel();
    let (answers, answered) = channel();
    // It ends when the questions do, and nobody waits for an answer that is late.
    std::thread::spawn(move || answer(&inquiry, &asked, &answers));
    let mut terminal = ratatui::try_init().map_err(terminal_failed)?;
    let shown = Watch { board, questions, answered, interval, stop }.run(&mut terminal);
    ratatui::try_restore().and(shown).map_err(terminal_failed)
}

/// What the thread is asked to do.
enum Question {
    Look(Sort),
    Kick(String),
}

/// What came of it.
enum Answer {
    Look(Result<Box<Look>, String>),
    Kick(String),
}

fn answer(inquiry: &Inquiry, asked: &Receiver<Question>, answers: &Sender<Answer>) {
    for question in asked {
        let answer = match question {
            Question::Look(sort) => {
                let look = look(inquiry, sort);
                Answer::Look(look.map(Box::new).map_err(|error| error.to_string()))
            }
            Question::Kick(id) => {
                Answer::Kick(match inquiry.ask("POST", &format!("/connections/{id}/kick")) {
                    Ok(_) => format!("{id} was closed"),
                    Err(error) => format!("{id} was not closed: {error}"),
                })
            }
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// The screen while it is shown.
struct Watch {
    board: Board,
    questions: Sender<Question>,
    answered: Receiver<Answer>,
    interval: Duration,
    stop: Stop,
}

impl Watch {
    fn run(mut self, terminal: &mut ratatui::DefaultTerminal) -> std::io::Result<()> {
        let mut next_ns = clock::now().monotonic_ns;
        let mut is_asked = false;
        while self.stop.asked() == 0 {
            terminal.draw(|frame| self.board.render(frame.area(), frame.buffer_mut()))?;
            let now_ns = clock::now().monotonic_ns;
            if !is_asked && now_ns >= next_ns {
                is_asked = self.ask(Question::Look(self.board.sort()));
                next_ns = now_ns + clock::nanoseconds(self.interval);
            }
            if event::poll(KEYS_PERIOD)?
                && let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                let is_interrupt =
                    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                match self.board.handle_key(key.code) {
                    _ if is_interrupt => return Ok(()),
                    Wish::Quit => return Ok(()),
                    Wish::Look => next_ns = now_ns,
                    Wish::Kick(id) => drop(self.ask(Question::Kick(id))),
                    Wish::None => {}
                }
            }
            loop {
                match self.answered.try_recv() {
                    Ok(Answer::Look(look)) => {
                        is_asked = false;
                        match look {
                            Ok(look) => self.board.handle_look(*look),
                            Err(why) => self.board.handle_loss(&why),
                        }
                    }
                    Ok(Answer::Kick(said)) => {
                        self.board.handle_word(said);
                        next_ns = now_ns;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
        }
        Ok(())
    }

    fn ask(&self, question: Question) -> bool {
        self.questions.send(question).is_ok()
    }
}

/// Everything that is shown, asked for now.
fn look(inquiry: &Inquiry, sort: Sort) -> Result<Look, InquiryError> {
    let stats = read(inquiry, "/stats")?;
    let Channels { channels } = read(inquiry, &format!("/channels?limit={ROWS}"))?;
    let path = format!("/connections?sort={}&limit={ROWS}", sort.name());
    let Connections { connections } = read(inquiry, &path)?;
    Ok(Look { stats, channels, connections })
}

fn read<T: DeserializeOwned>(inquiry: &Inquiry, path: &str) -> Result<T, InquiryError> {
    let mut body = inquiry.ask("GET", path)?;
    simd_json::serde::from_slice(&mut body).map_err(|_| {
        let what = "it is of another version, or no fanfare server";
        InquiryError::Strange(inquiry.address().to_owned(), what)
    })
}
