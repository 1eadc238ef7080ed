//! What `fanfare top` knows and what its keys do.
//!
//! Not here: drawing (`screen`), asking the server (`super`). Invariant: a client is kicked only
//! after its id was shown and confirmed, and the choice follows the client, not the row.

use ratatui::crossterm::event::KeyCode;

use super::look::{Channel, Connection, Look, Rates};

/// By what clients are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Those that are furthest behind first.
    #[default]
    Lag,
    /// Those that missed most.
    Drops,
    /// Those with the longest round trip.
    Rtt,
}

impl Sort {
    /// Its name in the query of `/connections`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Drops => "drops",
            Self::Rtt => "rtt",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Lag => Self::Drops,
            Self::Drops => Self::Rtt,
            Self::Rtt => Self::Lag,
        }
    }
}

/// What a key asks for beyond the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    None,
    /// To end.
    Quit,
    /// To look at once: something else is to be shown.
    Look,
    /// To close a connection.
    Kick(String),
}

/// What keys mean now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Watching,
    /// They are the filter's text.
    Filtering,
    /// Yes or no to kicking this connection.
    Confirming(String),
    Helping,
}

/// The newest look and what was chosen.
#[derive(Debug, Default)]
pub struct Board {
    /// The server's admin address.
    pub(super) address: String,
    pub(super) look: Option<Look>,
    pub(super) rates: Option<Rates>,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// The id of the chosen client.
    pub(super) chosen: Option<String>,
    /// What was last said of the server or by it.
    pub(super) note: Option<String>,
}

impl Board {
    /// An empty board for the server at `address`.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), ..Self::default() }
    }

    /// By what clients are to be sorted.
    #[must_use]
    pub const fn sort(&self) -> Sort {
        self.sort
    }

    /// Takes a look.
    pub fn handle_look(&mut self, look: Look) {
        let before = self.look.as_ref().map(|before| &before.stats);
        self.rates = before.and_then(|before| look.stats.since(before));
        let was_lost = self.note.as_ref().is_some_and(|note| note.starts_with(LOST));
        if was_lost {
            self.note = None;
        }
        self.look = Some(look);
    }

    /// Takes note that a look has failed.
    pub fn handle_loss(&mut self, why: &str) {
        self.rates = None;
        self.note = Some(format!("{LOST}: {why}; trying again"));
    }

    /// Takes note of what the server said.
    pub fn handle_word(&mut self, text: String) {
        self.note = Some(text);
    }

    /// Clients that the filter lets through.
    pub(super) fn clients(&self) -> Vec<&Connection> {
        let all = self.look.as_ref().map_or(&[][..], |look| &look.connections);
        let wanted = |one: &&Connection| {
            let address = one.address.as_deref().unwrap_or_default();
            [&one.id, address, &one.identity, &one.state].iter().any(|text| self.lets(text))
        };
        all.iter().filter(wanted).collect()
    }

    /// Channels that the filter lets through.
    pub(super) fn channels(&self) -> Vec<&Channel> {
        let all = self.look.as_ref().map_or(&[][..], |look| &look.channels);
        all.iter().filter(|one| self.lets(&one.channel)).collect()
    }

    fn lets(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// Does what a key is for.
    pub fn handle_key(&mut self, key: KeyCode) -> Wish {
        match std::mem::take(&mut self.mode) {
            Mode::Watching => self.command(key),
            Mode::Filtering => {
                self.edit(key);
                Wish::None
            }
            Mode::Confirming(id) => match key {
                KeyCode::Char('y' | 'Y') => Wish::Kick(id),
                _ => {
                    self.note = Some(format!("{id} was left alone"));
                    Wish::None
                }
            },
            Mode::Helping => Wish::None,
        }
    }

    fn command(&mut self, key: KeyCode) -> Wish {
        match key {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                return Wish::Look;
            }
            KeyCode::Char('f' | '/') => self.mode = Mode::Filtering,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Helping,
            KeyCode::Char('k') => match self.chosen_client() {
                Some(id) => self.mode = Mode::Confirming(id),
                None => self.note = Some("choose a client with the arrow keys first".into()),
            },
            KeyCode::Down => self.choose(1),
            KeyCode::Up => self.choose(-1),
            KeyCode::Esc => (self.chosen, self.note) = (None, None),
            _ => {}
        }
        Wish::None
    }

    fn edit(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.filter.clear();
                return;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.mode = Mode::Filtering;
    }

    /// The chosen client, if it is still shown.
    fn chosen_client(&self) -> Option<String> {
        self.place().and_then(|_| self.chosen.clone())
    }

    /// The row of the chosen client.
    pub(super) fn place(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.clients().iter().position(|client| client.id == *chosen)
    }

    /// Chooses the client `step` rows below the chosen one.
    fn choose(&mut self, step: isize) {
        let place = match self.place() {
            Some(place) => place.saturating_add_signed(step),
            None => 0,
        };
        let clients = self.clients();
        let chosen = clients.get(place).or_else(|| clients.last()).map(|client| client.id.clone());
        self.chosen = chosen;
    }
}

/// How a note begins that goes with the next look.
const LOST: &str = "lost the server";

#[cfg(test)]
mod tests {
    use super::super::screen::made_up;
    use super::*;

    fn press(board: &mut Board, keys: &str) -> Wish {
        keys.chars().map(|key| board.handle_key(KeyCode::Char(key))).last().unwrap()
    }

    #[test]
    fn a_client_is_kicked_after_a_yes_only() {
        let mut board = made_up();
        assert_eq!(press(&mut board, "k"), Wish::None);
        assert!(board.note.as_ref().unwrap().contains("choose a client"));
        board.handle_key(KeyCode::Down);
        board.handle_key(KeyCode::Down);
        assert_eq!(press(&mut board, "kn"), Wish::None);
        assert_eq!(press(&mut board, "ky"), Wish::Kick("1-0-4".into()));
    }

    #[test]
    fn the_choice_follows_the_client_and_ends_with_it() {
        let mut board = made_up();
        board.handle_key(KeyCode::Down);
        assert_eq!(board.place(), Some(0));
        let mut look = board.look.clone().unwrap();
        look.connections.reverse();
        board.handle_look(look.clone());
        assert_eq!((board.place(), board.chosen.as_deref()), (Some(1), Some("0-7-1")));
        look.connections.pop();
        board.handle_look(look);
        assert_eq!(press(&mut board, "ky"), Wish::None);
    }

    #[test]
    fn what_is_typed_filters_and_is_no_command() {
        let mut board = made_up();
        assert_eq!(press(&mut board, "fquote"), Wish::None);
        assert_eq!((board.channels().len(), board.clients().len()), (1, 0));
        board.handle_key(KeyCode::Esc);
        assert_eq!((board.channels().len(), board.clients().len()), (2, 2));
        assert_eq!(press(&mut board, "s"), Wish::Look);
        assert_eq!(board.sort().name(), "drops");
        assert_eq!(press(&mut board, "?"), Wish::None);
        assert_eq!(press(&mut board, "q"), Wish::None, "a key ends the help");
        assert_eq!(press(&mut board, "q"), Wish::Quit);
    }

    #[test]
    fn a_loss_is_said_until_the_next_look() {
        let mut board = made_up();
        board.handle_loss("nothing listens");
        assert!(board.note.as_ref().unwrap().starts_with("lost the server: nothing listens"));
        let look = board.look.clone().unwrap();
        board.handle_look(look);
        assert_eq!(board.note, None);
    }
}
