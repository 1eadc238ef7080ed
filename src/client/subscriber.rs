//! A subscription as a stream of items, over as many connections as it takes.
//!
//! Blocking, in steps: every step ends after its patience at the latest, so that a caller sees a
//! signal. Not here: what frames mean ([`super::progress`]), and when and where to connect again
//! ([`super::reconnect`]). Invariant: a subscriber that has given an error gives nothing more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::announced::Announced;
use super::connector::{Connector, Dialling, Loss, Places};
use super::error::Error;
use super::frame::Frame;
use super::item::Item;
use super::place::Place;
use super::progress::Progress;
use super::reconnect::{Silence, When, after_close, close_text};
use super::subscription::Subscription;
use crate::limits::TOKEN_LOOK_MS;
use crate::protocol::json::write_string;
use crate::shell::client::{Client, Said, Status};
use crate::shell::clock;
use crate::shell::dial::ClientError;

const MS_NS: u64 = 1_000_000;
/// How long an iterator's step takes.
const STEP: Duration = Duration::from_millis(100);

/// A subscription that goes on through lost connections; see [`crate::client`] for an example.
#[derive(Debug)]
pub struct Subscriber {
    subscription: Subscription,
    connector: Connector,
    link: Link,
    session: Session,
    /// What an iterator has read and not given yet.
    queue: VecDeque<Item<'static>>,
    /// The place after what was given.
    given: Option<Place>,
    /// What an iterator gives after the queue.
    failed: Option<Error>,
}

#[derive(Debug)]
enum Link {
    /// Until this monotonic time, nanoseconds.
    Waiting(u64),
    Dialling(Dialling),
    Open(Box<Client>),
    Over,
}

/// What was heard on the present connection, and what has become of the subscription.
#[derive(Debug)]
struct Session {
    progress: Progress,
    announced: Announced,
    scratch: Vec<u8>,
    silence: Silence,
    /// Why the connection is no good any more.
    broken: Option<Loss>,
    /// The server's notice that it drains: when to come back, milliseconds, and where.
    drain: Option<(u64, Vec<String>)>,
    /// When this client's turn to connect anew comes, monotonic nanoseconds.
    turn_ns: Option<u64>,
    /// Monotonic time of the next look for a new token, nanoseconds; none: none is needed.
    token_look_ns: Option<u64>,
    /// The token that was shown last is not taken yet.
    is_refused: bool,
}

impl Subscriber {
    pub(super) fn new(subscription: Subscription) -> Self {
        let Subscription { patterns, wants_snapshot, place, .. } = &subscription;
        let mut progress = Progress::new(patterns.clone(), *wants_snapshot, place.clone());
        if subscription.is_single {
            progress = progress.lenient();
        }
        Self {
            connector: Connector::new(&subscription),
            link: Link::Waiting(0),
            session: Session::new(progress),
            given: place.clone(),
            queue: VecDeque::new(),
            failed: None,
            subscription,
        }
    }

    /// Makes one step, of `patience` at most: waits, connects, or reads once and gives everything
    /// that came.
    ///
    /// # Errors
    /// What makes another connection pointless, or the end of a single one. There is nothing more.
    pub fn read(
        &mut self,
        patience: Duration,
        mut give: impl FnMut(Item<'_>),
    ) -> Result<(), Error> {
        let stepped = self.step(patience, &mut give);
        if stepped.is_err() {
            self.link = Link::Over;
        }
        self.given = self.session.progress.place();
        stepped
    }

    /// The place to go on at after everything that was given: what a program that is to be started
    /// again keeps. While an iterator gives what one read has brought, it is the place before that.
    /// None: before the first snapshot is whole, or when a subscription has ended.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        self.given.as_ref()
    }

    /// What the `seq` belong to; none: no server has greeted.
    pub(super) fn epoch(&self) -> Option<Arc<str>> {
        self.session.progress.epoch().cloned()
    }

    /// It is one of two, which are not to be at the same node.
    pub(super) fn join(&mut self, places: Arc<Places>, side: usize) {
        self.connector.join(places, side);
    }

    /// Channels that something came of.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.session.progress.channel_count()
    }

    /// Sends a request beside the subscription; its answer comes as an [`Item::Control`]. Where
    /// there is no connection it is lost; one that the server refuses ends the subscriber, except
    /// an `auth`, and that `verify` may be asked again later where the server was asked too often.
    pub fn ask(&mut self, request: &str) {
        if let Link::Open(client) = &mut self.link {
            // What is wrong with the connection is found by the next read.
            let _broken = client.send_text(request);
        }
    }

    /// Says goodbye, and waits for the server's, for two seconds at most.
    pub fn close(self) {
        if let Link::Open(client) = self.link {
            client.close();
        }
    }

    fn step(&mut self, patience: Duration, give: &mut dyn FnMut(Item<'_>)) -> Result<(), Error> {
        match std::mem::replace(&mut self.link, Link::Over) {
            Link::Over => Err(Error::Over),
            Link::Waiting(due_ns) => {
                let now_ns = clock::now().monotonic_ns;
                let end_ns = now_ns.saturating_add(clock::nanoseconds(patience));
                clock::sleep_until(due_ns.min(end_ns));
                self.link = if due_ns <= end_ns {
                    Link::Dialling(self.connector.dial(&mut |notice| give(Item::Notice(notice)))?)
                } else {
                    Link::Waiting(due_ns)
                };
                Ok(())
            }
            Link::Dialling(dialling) => match dialling.recv_timeout(patience) {
                Ok(Ok(client)) => self.open(client, give),
                Ok(Err(error)) => {
                    let loss = self.connector.failed(error);
                    self.lose(loss, give)
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.link = Link::Dialling(dialling);
                    Ok(())
                }
                // The thread has panicked, and said so.
                Err(RecvTimeoutError::Disconnected) => Err(Error::Over),
            },
            Link::Open(client) => self.read_open(client, patience, give),
        }
    }

    fn open(&mut self, mut client: Client, give: &mut dyn FnMut(Item<'_>)) -> Result<(), Error> {
        self.connector.opened(clock::now().monotonic_ns);
        let place = self.session.progress.place();
        self.session.begin(client.security());
        match client.send_text(&self.subscription.request(place.as_ref())) {
            Ok(()) => {
                self.link = Link::Open(Box::new(client));
                Ok(())
            }
            Err(error) => {
                let loss = self.connector.lost(error);
                self.lose_open(loss, give)
            }
        }
    }

    /// An open connection is lost: another node's turn, unless the server has named one.
    fn lose_open(&mut self, loss: Loss, give: &mut dyn FnMut(Item<'_>)) -> Result<(), Error> {
        self.connector.ended(clock::now().monotonic_ns);
        if self.session.turn_ns.is_none() {
            self.connector.fail_over();
        }
        self.lose(loss, give)
    }

    /// The connection is lost, or was never made.
    fn lose(&mut self, loss: Loss, give: &mut dyn FnMut(Item<'_>)) -> Result<(), Error> {
        let due_ns = self.connector.due_ns(loss, &mut |notice| give(Item::Notice(notice)))?;
        self.link = Link::Waiting(due_ns);
        Ok(())
    }

    fn read_open(
        &mut self,
        mut client: Box<Client>,
        patience: Duration,
        give: &mut dyn FnMut(Item<'_>),
    ) -> Result<(), Error> {
        let session = &mut self.session;
        let status = client.read(patience, |said| session.take(said, give));
        let now_ns = clock::now().monotonic_ns;
        if let Some((retry_after_ms, to)) = session.drain.take() {
            session.turn_ns = Some(self.connector.handle_drain(retry_after_ms, &to, now_ns));
        }
        let lost = match status {
            Ok(status) => session.lost(status, now_ns),
            Err(error) => session.broken.take().or_else(|| Some(self.connector.lost(error))),
        };
        if let Some(mut loss) = lost {
            if let (When::After(_), Some(turn_ns)) = (loss.when, session.turn_ns) {
                loss.when = When::At(turn_ns);
            }
            return self.lose_open(loss, give);
        }
        if let Some(turn_ns) = session.turn_ns.filter(|turn_ns| *turn_ns <= now_ns)
            && !self.subscription.is_single
        {
            client.close();
            return self.lose_open(Loss { why: Error::Drained, when: When::At(turn_ns) }, give);
        }
        match self.renew(&mut client, now_ns) {
            Ok(()) => {
                self.link = Link::Open(client);
                Ok(())
            }
            Err(error) => {
                let loss = self.connector.lost(error);
                self.lose_open(loss, give)
            }
        }
    }

    /// Shows the server a new token, once the one it knows is to expire and there is another.
    fn renew(&mut self, client: &mut Client, now_ns: u64) -> Result<(), ClientError> {
        if self.session.token_look_ns.is_none_or(|look_ns| now_ns < look_ns) {
            return Ok(());
        }
        let Some(token) = self.connector.new_token(self.session.is_refused) else {
            self.session.token_look_ns = Some(now_ns + TOKEN_LOOK_MS * MS_NS);
            return Ok(());
        };
        (self.session.token_look_ns, self.session.is_refused) = (None, false);
        let mut command = br#"{"method":"auth","params":{"token":"#.to_vec();
        write_string(&mut command, token.secret());
        command.extend_from_slice(br#"},"req_id":2}"#);
        client.send_text(std::str::from_utf8(&command).expect("a token is ASCII"))
    }
}

impl Session {
    fn new(progress: Progress) -> Self {
        Self {
            progress,
            announced: Announced::default(),
            scratch: Vec::new(),
            silence: Silence::new(0),
            broken: None,
            drain: None,
            turn_ns: None,
            token_look_ns: None,
            is_refused: false,
        }
    }

    /// A new connection, secured like this, goes on for the last one.
    fn begin(&mut self, security: Option<String>) {
        self.progress.handle_connection(security);
        self.announced = Announced::default();
        self.silence = Silence::new(clock::now().monotonic_ns);
        (self.broken, self.drain) = (None, None);
        (self.turn_ns, self.token_look_ns, self.is_refused) = (None, None, false);
    }

    /// Takes a message of the server.
    fn take(&mut self, said: Said<'_>, give: &mut dyn FnMut(Item<'_>)) {
        let message = match said {
            Said::Text(text) => return self.take_text(text, give),
            Said::Binary(message) => message,
        };
        // Taken out, because the text borrows it while the session changes.
        let mut announced = std::mem::take(&mut self.announced);
        match announced.text(message) {
            Ok(Some(text)) => self.take_text(text, give),
            Ok(None) => {}
            Err(error) if self.broken.is_none() => {
                self.broken = Some(Loss { why: error.into(), when: When::Never });
            }
            Err(_) => {}
        }
        self.announced = announced;
    }

    fn take_text(&mut self, text: &str, give: &mut dyn FnMut(Item<'_>)) {
        if self.broken.is_some() {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(text.as_bytes());
        if let Some(frame) = Frame::parse(&mut scratch) {
            self.announced.learn(&frame);
            self.look(&frame);
            if let Err(hole) = self.progress.handle_frame(&frame, text, give) {
                let why = Error::Hole { channel: hole.channel, seq: hole.seq };
                self.broken = Some(Loss { why, when: When::After(0) });
            }
        }
        self.scratch = scratch;
    }

    /// What a frame means for the connection.
    fn look(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            // What is held goes on. The file may have been read while it was written, or the
            // server does not know the token yet.
            _ if frame.success == Some(false) && frame.method == Some("auth") => {
                self.is_refused = true;
                self.token_look_ns = Some(clock::now().monotonic_ns + TOKEN_LOOK_MS * MS_NS);
            }
            _ if frame.success == Some(false) && !was_too_often(frame) => {
                self.broken = Some(Loss { why: Error::refused(frame), when: When::Never });
            }
            Some("welcome") => {
                if let Some(ms) = frame.heartbeat_ms {
                    self.silence.handle_heartbeat_ms(ms);
                }
            }
            Some("drain") => {
                let to = frame.addresses().map(str::to_owned).collect();
                self.drain = Some((frame.retry_after_ms.unwrap_or_default(), to));
            }
            Some("auth_expiring") => self.token_look_ns = Some(0),
            _ => {}
        }
    }

    /// Whether the connection is over after a read, or might as well be.
    fn lost(&mut self, status: Status, now_ns: u64) -> Option<Loss> {
        if let Some(broken) = self.broken.take() {
            return Some(broken);
        }
        let (why, when) = match status {
            Status::Open => {
                self.silence.handle_bytes(now_ns);
                return None;
            }
            Status::Quiet => (Error::Silent(self.silence.is_over(now_ns)?), When::After(0)),
            Status::Closed(code, reason) => {
                (Error::Closed(close_text(code, &reason)), after_close(code))
            }
            Status::Ended => (Error::Ended, When::After(0)),
        };
        Some(Loss { why, when })
    }
}

/// Whether a refusal is of something that can be asked again, and is nothing that it ends.
fn was_too_often(frame: &Frame<'_>) -> bool {
    let code = frame.error.as_ref().and_then(|error| error.code);
    frame.method == Some("verify") && code == Some("rate_limited")
}

/// Events, gaps and notices, one after the other; waits for them without end.
impl Iterator for Subscriber {
    type Item = Result<Item<'static>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                if self.queue.is_empty() {
                    self.given = self.session.progress.place();
                }
                return Some(Ok(item));
            }
            if let Some(error) = self.failed.take() {
                return Some(Err(error));
            }
            if matches!(self.link, Link::Over) {
                return None;
            }
            let mut queue = std::mem::take(&mut self.queue);
            self.failed = self.step(STEP, &mut |item| queue.extend(item.into_owned())).err();
            self.queue = queue;
        }
    }
}

#[cfg(test)]
mod tests;
