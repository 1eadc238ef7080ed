//! The connections of one subscriber, one after the other.
//!
//! Not here: what is said over them ([`super::subscriber`]), and the rules for when and where
//! ([`super::reconnect`]). Invariant: every connection shows the token as its file has it then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use super::credential::{Credential, Token};
use super::error::Error;
use super::item::Notice;
use super::reconnect::{Backoff, When, after_error};
use super::route::Route;
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

/// Where the connections of one client are, which are not to be at the same node.
#[derive(Debug, Default)]
pub(super) struct Places {
    addresses: Mutex<[Option<String>; 2]>,
    /// One of them was made.
    is_open: AtomicBool,
}

impl Places {
    /// Notes where a side goes to; false, and nothing is noted, where the other one is.
    fn claim(&self, side: usize, address: &str) -> bool {
        let mut addresses = self.addresses.lock().expect("nobody panics with it");
        let is_free = addresses[1 - side].as_deref() != Some(address);
        if is_free {
            addresses[side] = Some(address.to_owned());
        }
        is_free
    }

    fn other(&self, side: usize) -> Option<String> {
        self.addresses.lock().expect("nobody panics with it")[1 - side].clone()
    }
}

/// Where the thread that connects says what came of it.
pub(super) type Dialling = Receiver<Result<Client, ClientError>>;

/// Makes a subscriber's connections.
#[derive(Debug)]
pub(super) struct Connector {
    dialer: Arc<Dialer>,
    route: Route,
    /// Where the other one of two connections is, and which of them this is.
    beside: Option<(Arc<Places>, usize)>,
    backoff: Backoff,
    /// Attempts that came to nothing.
    failures: usize,
    credential: Credential,
    /// The one that the server was shown.
    token: Option<Token>,
    /// When the present or last connection was made; none: there has been none.
    opened_ns: Option<u64>,
    /// The subscriber ends with its first connection.
    is_single: bool,
}

impl Connector {
    pub(super) fn new(subscription: &Subscription) -> Self {
        Self {
            dialer: Arc::new(
                Dialer::new(subscription.trust.clone())
                    .compressing(subscription.compress)
                    .binary(subscription.binary),
            ),
            route: Route::new(&subscription.url, &mut random::number),
            beside: None,
            backoff: Backoff::default(),
            failures: 0,
            credential: subscription.credential.clone(),
            token: None,
            opened_ns: None,
            is_single: subscription.is_single,
        }
    }

    /// This is one of two connections, which are not to be at the same node.
    pub(super) fn join(&mut self, places: Arc<Places>, side: usize) {
        self.beside = Some((places, side));
    }

    /// Where the other one of two connections is.
    fn taken(&self) -> Option<String> {
        self.beside.as_ref().and_then(|(places, side)| places.other(*side))
    }

    /// Goes elsewhere if the other one of two connections was faster.
    fn settle(&mut self) {
        let Some((places, side)) = &self.beside else { return };
        if !places.claim(*side, self.route.address()) {
            self.route.handle_failure(places.other(*side).as_deref());
            // It is the same one again where there is no other.
            let _is_free = places.claim(*side, self.route.address());
        }
    }

    /// Another node's turn.
    pub(super) fn fail_over(&mut self) {
        self.route.handle_failure(self.taken().as_deref());
    }

    /// Connects in a thread of its own, which is left behind when nobody waits for it any more: a
    /// connection that nobody answers is given up only after seconds.
    pub(super) fn dial(&mut self, tell: &mut dyn FnMut(Notice)) -> Result<Dialling, Error> {
        self.settle();
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

    /// A connection was made, at `now_ns` (monotonic).
    pub(super) fn opened(&mut self, now_ns: u64) {
        self.opened_ns = Some(now_ns);
        if let Some((places, _)) = &self.beside {
            places.is_open.store(true, Ordering::Relaxed);
        }
    }

    /// An open connection has ended, at `now_ns`: a good one lets the next wait be a short one.
    pub(super) fn ended(&mut self, now_ns: u64) {
        let lasted_ns = self.opened_ns.map_or(0, |opened_ns| now_ns.saturating_sub(opened_ns));
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
        let to = to.iter().map(String::as_str);
        self.route.handle_drain(to, self.taken().as_deref(), &mut random::number);
        now_ns + retry_after_ms.min(DRAIN_MS_MAX) * MS_NS
    }

    /// The token, if it is another one now than the server was shown, or that one `is_refused`.
    pub(super) fn new_token(&mut self, is_refused: bool) -> Option<&Token> {
        // A file that is being written may be read the next time.
        let now = self.credential.read().ok().flatten();
        if now.is_none() || now == self.token && !is_refused {
            return None;
        }
        self.token = now;
        self.token.as_ref()
    }

    /// What could not be connected to. An address that will not serve is left out, and only the
    /// last one's word is the last word; at the start, each is tried before that.
    pub(super) fn failed(&mut self, error: ClientError) -> Loss {
        self.failures += 1;
        let is_other_open =
            self.beside.as_ref().is_some_and(|(places, _)| places.is_open.load(Ordering::Relaxed));
        let has_hope =
            self.opened_ns.is_some() || is_other_open || self.failures < self.route.len();
        let taken = self.taken();
        let when = match after_error(&error, has_hope) {
            When::Never if self.route.forget(taken.as_deref()) => When::After(0),
            when => {
                self.route.handle_failure(taken.as_deref());
                when
            }
        };
        Loss { why: error.into(), when }
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
