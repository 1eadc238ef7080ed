//! The connections of one command, one after the other.
//!
//! Not here: what is said over them (`session`), and the rules for when and where (`reconnect`).
//! Invariants: every connection shows the token as its file has it then, and no wait goes on after
//! a signal or the end of `--seconds`.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};

use super::{LOOK_PERIOD, MS_NS, Subscribe};
use crate::cli::credentials::{Token, TokenFlags};
use crate::cli::failure::Failure;
use crate::cli::reconnect::{Backoff, Route, When, after_error};
use crate::limits::{DRAIN_MS_MAX, RECONNECT_GOOD_MS};
use crate::protocol::ws::client::ClientHandshakeError;
use crate::shell::client::{Client, Dialer, is_exposed, without_query};
use crate::shell::dial::ClientError;
use crate::shell::trust::TrustError;
use crate::shell::{clock, random};

/// What ends the command from outside.
pub(super) struct End<'a> {
    /// Says whether a signal came.
    pub(super) stop: &'a dyn Fn() -> bool,
    /// Monotonic time, nanoseconds.
    pub(super) end_ns: Option<u64>,
}

impl End<'_> {
    pub(super) fn has_come(&self, now_ns: u64) -> bool {
        (self.stop)() || self.end_ns.is_some_and(|end_ns| now_ns >= end_ns)
    }
}

/// A connection that ended, or was never made.
#[derive(Debug)]
pub(super) struct Loss {
    /// Why, for people, and the exit code if it is the last one.
    pub(super) why: Failure,
    pub(super) when: When,
}

/// Makes a command's connections.
#[derive(Debug)]
pub(super) struct Connector {
    dialer: Arc<Dialer>,
    route: Route,
    backoff: Backoff,
    token_flags: TokenFlags,
    /// The one that the server knows.
    token: Option<Token>,
    /// When the present or last connection was made; none: there has been none.
    opened_ns: Option<u64>,
    /// The command ends with its first connection.
    is_single: bool,
}

impl Connector {
    pub(super) fn new(command: &Subscribe) -> Self {
        Self {
            dialer: Arc::new(Dialer::new(command.trust.files())),
            route: Route::new(&command.url),
            backoff: Backoff::default(),
            token_flags: command.token.clone(),
            token: None,
            opened_ns: None,
            is_single: command.no_reconnect,
        }
    }

    /// True if the command ends with its connection.
    pub(super) const fn is_single(&self) -> bool {
        self.is_single
    }

    /// Connects, after what was `lost` if anything was, as often as it takes; `None`: the end of
    /// the command came first.
    pub(super) fn connect(
        &mut self,
        mut lost: Option<Loss>,
        end: &End<'_>,
    ) -> Result<Option<Client>, Failure> {
        loop {
            if let Some(loss) = lost.take() {
                match self.due_ns(&loss) {
                    None => return Err(loss.why),
                    Some(due_ns) if !wait(due_ns, end) => return Ok(None),
                    Some(_) => {}
                }
            }
            self.renew_token()?;
            match self.dial(end)? {
                None => return Ok(None),
                Some(Ok(client)) => {
                    self.opened_ns = Some(clock::now().monotonic_ns);
                    return Ok(Some(client));
                }
                Some(Err(error)) => lost = Some(self.failed(error)),
            }
        }
    }

    /// Connects in a thread of its own, which is left behind when the end of the command comes
    /// first: a connection that nobody answers is given up only after seconds.
    fn dial(&self, end: &End<'_>) -> Result<Option<Result<Client, ClientError>>, Failure> {
        let (dialer, token) = (Arc::clone(&self.dialer), self.token.clone());
        let address = self.route.address().to_owned();
        let (sender, receiver) = channel();
        let dial = move || {
            let _nobody_waits =
                sender.send(dialer.connect(&address, token.as_ref().map(Token::secret)));
        };
        (std::thread::Builder::new().name("dial".into()).spawn(dial))
            .map_err(|error| Failure::Run(format!("no thread to connect with: {error}")))?;
        loop {
            match receiver.recv_timeout(LOOK_PERIOD) {
                Ok(result) => return Ok(Some(result)),
                Err(RecvTimeoutError::Timeout) if end.has_come(clock::now().monotonic_ns) => {
                    return Ok(None);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Said),
            }
        }
    }

    /// The connection has ended: a good one lets the next wait be a short one.
    pub(super) fn ended(&mut self) {
        let lasted_ns = clock::now().monotonic_ns - self.opened_ns.unwrap_or_default();
        if lasted_ns >= RECONNECT_GOOD_MS * MS_NS {
            self.backoff.reset();
        }
    }

    /// What an error of an open connection leads to.
    pub(super) fn lost(&self, error: ClientError) -> Loss {
        let when = after_error(&error, self.opened_ns.is_some());
        Loss { why: failure(error), when }
    }

    /// A server that drains says when to come back, in milliseconds from `now_ns`, and where.
    pub(super) fn handle_drain(&mut self, retry_after_ms: u64, to: &[&str], now_ns: u64) -> u64 {
        self.route.handle_drain(to.iter().copied(), random::number());
        now_ns + retry_after_ms.min(DRAIN_MS_MAX) * MS_NS
    }

    /// The token, if it is another one now than the server knows.
    pub(super) fn new_token(&mut self) -> Option<&Token> {
        // A file that is being written may be read the next time.
        let now = self.token_flags.read().ok().flatten();
        if now.is_none() || now == self.token {
            return None;
        }
        self.token = now;
        self.token.as_ref()
    }

    /// What could not be connected to; with other addresses left, none is the last word.
    fn failed(&mut self, error: ClientError) -> Loss {
        let Loss { why, when } = self.lost(error);
        let is_home = self.route.is_home();
        match when {
            When::Never if !is_home => {
                self.route.forget();
                Loss { why, when: When::After(0) }
            }
            _ => {
                self.route.handle_failure();
                Loss { why, when }
            }
        }
    }

    /// The monotonic time at which to connect again, which is said; none: not at all.
    fn due_ns(&mut self, loss: &Loss) -> Option<u64> {
        let now_ns = clock::now().monotonic_ns;
        let due_ns = match loss.when {
            _ if self.is_single => return None,
            When::Never => return None,
            When::After(ms) => now_ns + (ms + self.backoff.next_ms(random::number())) * MS_NS,
            When::At(ns) => ns,
        };
        #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
        let seconds = due_ns.saturating_sub(now_ns) as f64 / 1e9;
        let address = without_query(self.route.address());
        eprintln!("{}; connecting to {address} in {seconds:.1} s", loss.why);
        Some(due_ns)
    }

    fn renew_token(&mut self) -> Result<(), Failure> {
        match self.token_flags.read() {
            Ok(token) => {
                let address = self.route.address();
                if token.is_some() && self.opened_ns.is_none() && is_exposed(address) {
                    let address = without_query(address);
                    eprintln!("the token goes to {address} in the clear; wss:// keeps it secret");
                }
                self.token = token;
            }
            Err(failure) if self.opened_ns.is_none() => return Err(failure),
            Err(failure) => eprintln!("{failure}; the token from before is shown again"),
        }
        Ok(())
    }
}

/// False when the end of the command comes first.
fn wait(due_ns: u64, end: &End<'_>) -> bool {
    let step_ns = clock::nanoseconds(LOOK_PERIOD);
    loop {
        let now_ns = clock::now().monotonic_ns;
        if end.has_come(now_ns) {
            return false;
        }
        if now_ns >= due_ns {
            return true;
        }
        clock::sleep_until(due_ns.min(now_ns + step_ns));
    }
}

fn failure(error: ClientError) -> Failure {
    let text = error.to_string();
    match error {
        ClientError::Address(..)
        | ClientError::Trust(TrustError::File { .. } | TrustError::NoAuthorities(_)) => {
            Failure::Usage(text)
        }
        ClientError::Upgrade(_, ClientHandshakeError::Refused { status: 401, .. }) => {
            Failure::Run(format!("{text}; show a good key or token with --token-file FILE"))
        }
        _ => Failure::Run(text),
    }
}
