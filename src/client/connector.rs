//! The connections of one subscriber, one after the other.
//!
//! Not here: what is said over them ([`super::subscriber`]), and the rules for when and where
//! ([`super::reconnect`]). Invariant: every connection shows the token as its file has it then.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use super::credential::{Credential, Token};
use super::error::Error;
use super::item::Notice;
use super::reconnect::{Backoff, Route, When, after_error};
use super::subscription::Subscription;
use crate::limits::{DRAIN_MS_MAX, RECONNECT_GOOD_MS};
use crate::shell::client::{Client, Dialer, is_exposed, without_query};
use crate::shell::dial::ClientError;
use crate::shell::{clock, random};

const MS_NS: u64 = 1_000_000;

/// A connection that ended, or was never made.
#[derive(Debug)]
pub(super) struct Loss {
    /// Why, for people, and the error if it is the last one.
    pub(super) why: Error,
    pub(super) when: When,
}

/// Where the thread that connects says what came of it.
pub(super) type Dialling = Receiver<Result<Client, ClientError>>;

/// Makes a subscriber's connections.
#[derive(Debug)]
pub(super) struct Connector {
    dialer: Arc<Dialer>,
    route: Route,
    backoff: Backoff,
    credential: Credential,
    /// The one that the server knows.
    token: Option<Token>,
    /// When the present or last connection was made; none: there has been none.
    opened_ns: Option<u64>,
    /// The subscriber ends with its first connection.
    is_single: bool,
}

impl Connector {
    pub(super) fn new(subscription: &Subscription) -> Self {
        Self {
            dialer: Arc::new(Dialer::new(subscription.trust.clone())),
            route: Route::new(&subscription.url),
            backoff: Backoff::default(),
            credential: subscription.credential.clone(),
            token: None,
            opened_ns: None,
            is_single: subscription.is_single,
        }
    }

    /// Connects in a thread of its own, which is left behind when nobody waits for it any more: a
    /// connection that nobody answers is given up only after seconds.
    pub(super) fn dial(&mut self, tell: &mut dyn FnMut(Notice)) -> Result<Dialling, Error> {
        self.renew_token(tell)?;
        let (dialer, token) = (Arc::clone(&self.dialer), self.token.clone());
        let address = self.route.address().to_owned();
        let (sender, receiver) = channel();
        let dial = move || {
            let _nobody_waits =
                sender.send(dialer.connect(&address, token.as_ref().map(Token::secret)));
        };
        let thread = std::thread::Builder::new().name("dial".into());
        thread.spawn(dial).map(|_| receiver).map_err(Error::Thread)
    }

    /// A connection was made.
    pub(super) fn opened(&mut self) {
        self.opened_ns = Some(clock::now().monotonic_ns);
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
        Loss { why: error.into(), when }
    }

    /// A server that drains says when to come back, in milliseconds from `now_ns`, and where.
    pub(super) fn handle_drain(&mut self, retry_after_ms: u64, to: &[String], now_ns: u64) -> u64 {
        self.route.handle_drain(to.iter().map(String::as_str), random::number());
        now_ns + retry_after_ms.min(DRAIN_MS_MAX) * MS_NS
    }

    /// The token, if it is another one now than the server knows.
    pub(super) fn new_token(&mut self) -> Option<&Token> {
        // A file that is being written may be read the next time.
        let now = self.credential.read().ok().flatten();
        if now.is_none() || now == self.token {
            return None;
        }
        self.token = now;
        self.token.as_ref()
    }

    /// What could not be connected to; with other addresses left, none is the last word.
    pub(super) fn failed(&mut self, error: ClientError) -> Loss {
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

    /// The monotonic time at which to connect again, which is told.
    ///
    /// # Errors
    /// Why it was lost, if it is not to be made again.
    pub(super) fn due_ns(
        &mut self,
        loss: Loss,
        tell: &mut dyn FnMut(Notice),
    ) -> Result<u64, Error> {
        let now_ns = clock::now().monotonic_ns;
        let due_ns = match loss.when {
            _ if self.is_single => return Err(loss.why),
            When::Never => return Err(loss.why),
            When::After(ms) => now_ns + (ms + self.backoff.next_ms(random::number())) * MS_NS,
            When::At(ns) => ns,
        };
        tell(Notice::Lost {
            why: loss.why.to_string(),
            address: without_query(self.route.address()).to_owned(),
            retry_ms: due_ns.saturating_sub(now_ns) / MS_NS,
        });
        Ok(due_ns)
    }

    fn renew_token(&mut self, tell: &mut dyn FnMut(Notice)) -> Result<(), Error> {
        match self.credential.read() {
            Ok(token) => {
                let address = self.route.address();
                if token.is_some() && self.opened_ns.is_none() && is_exposed(address) {
                    tell(Notice::Exposed { address: without_query(address).to_owned() });
                }
                self.token = token;
            }
            Err(error) if self.opened_ns.is_none() => return Err(error.into()),
            Err(error) => tell(Notice::TokenKept { why: error.to_string() }),
        }
        Ok(())
    }
}
