//! What clients say, and the answers.
//!
//! Every command is answered once, in order; a refused one changes nothing and costs the connection
//! nothing. Not here: the texts of commands and replies (`protocol`). Invariant: the answer to a
//! subscription is queued before the first event of it, and its `seq` says where that begins.

use crate::limits::{COMMAND_CHANNELS, READ_BYTES, READ_BYTES_LAGGING, WALK_ENTRIES_MAX};
use crate::protocol::command::{self, Command, Request};
use crate::protocol::refusal::Refusal;
use crate::protocol::reply;
use crate::protocol::whoami::Socket;
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::deflate::Inflater;
use crate::protocol::ws::frame::{self, Opcode};
use crate::protocol::ws::reader::{Message, Reader, Role};

use super::super::Now;
use super::super::connection::{ConnectionId, Phase};
use super::Shard;

impl Shard {
    /// How many bytes may be read from a client before other clients have their turn.
    #[must_use]
    pub fn read_bytes_max(&self, id: ConnectionId) -> usize {
        let lag = self.connection(id).and_then(|connection| connection.lag.as_ref());
        let from = lag.and_then(|lag| lag.places.iter().map(|place| place.from).min());
        let head = self.store.log.head();
        let ahead = head.saturating_sub(from.unwrap_or(head));
        if ahead > WALK_ENTRIES_MAX as u64 { READ_BYTES_LAGGING } else { READ_BYTES }
    }

    /// Bytes from a client of whose socket nothing is known; they are unmasked in place.
    pub fn handle_bytes(&mut self, id: ConnectionId, bytes: &mut [u8], now: Now) {
        self.handle_bytes_of(id, bytes, &Socket::default, now);
    }

    /// Bytes from a client, and how to look at its socket; they are unmasked in place.
    pub fn handle_bytes_of(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
        socket: &dyn Fn() -> Socket,
        now: Now,
    ) {
        let Some(connection) = self.connection_mut(id) else { return };
        if matches!(connection.phase, Phase::Closing { peer_closed: true, .. }) {
            return; // RFC 6455, section 5.5.1: nothing follows a close frame.
        }
        self.hear(id, now);
        if self.is_stream(id) {
            return; // There is nothing that it could ask.
        }
        let bytes_max = self.settings.message_bytes_max;
        let Some(connection) = self.connection_mut(id) else { return };
        // The reader is taken out, because a message borrows it while the shard changes.
        let kept = connection.reader.take();
        let mut reader = kept.map_or_else(|| Reader::new(Role::Server, bytes_max), |kept| *kept);
        let mut inflater = self.take_inflater(id);
        let mut at = 0;
        let violation = loop {
            let mut used = 0;
            let rest = &mut bytes[at..];
            match reader.next_message_of(rest, &mut used, inflater.as_deref_mut()) {
                Ok(Some(message)) => {
                    // Before each, because one read can hold thousands of requests; not after, or
                    // one long answer would close a connection that reads.
                    self.check_owed(id, now);
                    self.handle_message(id, &message, socket, now);
                }
                Ok(None) => break None,
                Err(violation) => break Some(violation),
            }
            at += used;
        };
        self.keep_inflater(id, inflater);
        match violation {
            // The stream has no meaning from here on, so a close frame of the peer's would not be
            // seen: ours is the last word, and the reader is not used again.
            Some(violation) => {
                self.close(id, CloseReason::from(violation), now);
                self.handle_peer_close(id, None, now);
            }
            None => {
                let Some(connection) = self.connection_mut(id) else { return };
                connection.reader = (!reader.is_between_messages()).then(|| Box::new(reader));
            }
        }
    }

    /// What inflates the messages of a client that may compress them: one for all of them, because
    /// they keep no context.
    fn take_inflater(&mut self, id: ConnectionId) -> Option<Box<Inflater>> {
        if !self.connection(id)?.inflates {
            return None;
        }
        #[cfg(feature = "echo")]
        if let Some(codec) = self.codecs.get_mut(&id) {
            return codec.inflater.take();
        }
        Some(self.inflater.take().unwrap_or_else(|| Box::new(Inflater::new(false))))
    }

    fn keep_inflater(&mut self, id: ConnectionId, inflater: Option<Box<Inflater>>) {
        #[cfg(feature = "echo")]
        if let Some(codec) = self.codecs.get_mut(&id) {
            codec.inflater = inflater;
            return;
        }
        let _ = id;
        self.inflater = inflater.or_else(|| self.inflater.take());
    }

    /// A request that came with the upgrade: the first that the client makes.
    pub fn handle_request(
        &mut self,
        id: ConnectionId,
        text: &str,
        socket: &dyn Fn() -> Socket,
        now: Now,
    ) {
        self.handle_message(id, &Message::Text(text), socket, now);
    }

    fn handle_message(
        &mut self,
        id: ConnectionId,
        message: &Message<'_>,
        socket: &dyn Fn() -> Socket,
        now: Now,
    ) {
        if self.connection(id).is_none_or(|connection| connection.is_closing()) {
            if let Message::Close { code, .. } = message {
                self.handle_peer_close(id, *code, now);
            }
            return;
        }
        if let Message::Close { code, .. } = message {
            return self.handle_peer_close(id, *code, now);
        }
        #[cfg(feature = "echo")]
        if self.is_echo() {
            return self.echo(id, message);
        }
        let refusal = self.charge(id, 1, 0, now);
        if self.connection(id).is_none_or(|connection| connection.is_closing()) {
            return;
        }
        match (message, refusal) {
            // For clients that can do no better; the answer is as bare.
            (Message::Text("ping"), None) => {
                self.owe(id, |out| frame::write_frame(out, Opcode::Text, b"pong"));
            }
            (Message::Text(text), refusal) => {
                self.handle_command(id, text, refusal, socket, now);
            }
            (Message::Binary(_), refusal) => {
                let refusal = refusal.unwrap_or_else(Refusal::message_not_text);
                self.say(id, |out| reply::refused(out, &refusal, now.unix_ns, now.unix_ns));
            }
            (Message::Ping(payload), None) => {
                self.owe(id, |out| frame::write_frame(out, Opcode::Pong, payload));
            }
            (Message::Ping(_) | Message::Pong(_) | Message::Close { .. }, _) => {}
        }
    }

    /// Counts `messages` against a client's rate, of a request of which `counted` are already. Over
    /// it: the refusal, which says when there is room for the whole request; or if the client went
    /// on for as long as a whole burst, the end of the connection.
    pub(super) fn charge(
        &mut self,
        id: ConnectionId,
        messages: u64,
        counted: u64,
        now: Now,
    ) -> Option<Refusal> {
        let (rate, burst) = (self.settings.command_rate, self.settings.command_burst);
        let message_ns = 1_000_000_000 / u64::from(rate);
        let burst_ns = message_ns * u64::from(burst);
        let connection = self.connection_mut(id)?;
        let paid_ns = connection.messages_ns.max(now.monotonic_ns) + messages * message_ns;
        connection.messages_ns = paid_ns;
        let debt_ns = (paid_ns - now.monotonic_ns).checked_sub(burst_ns).filter(|&ns| ns > 0)?;
        self.counters().rate_limited.add(1);
        if debt_ns > burst_ns {
            self.close(id, CloseReason::RateLimited, now);
        }
        let wait_ns = debt_ns + (counted + messages) * message_ns;
        Some(Refusal::rate_limited(rate, burst, wait_ns.div_ceil(1_000_000)))
    }

    fn handle_command(
        &mut self,
        id: ConnectionId,
        text: &str,
        refusal: Option<Refusal>,
        socket: &dyn Fn() -> Socket,
        now: Now,
    ) {
        self.counters().commands.add(1);
        let mut scratch = std::mem::take(&mut self.scratch);
        let parsed = command::parse(text, &mut scratch);
        self.scratch = scratch;
        let time = now.unix_ns;
        let request = parsed.and_then(|request| {
            let extra = request.command.channels().len() / COMMAND_CHANNELS;
            let refusal = refusal.or_else(|| self.charge(id, extra as u64, 1, now));
            match refusal {
                None if self.is_stranger(id) && !request.command.is_for_strangers() => {
                    Err(Refusal::auth_required().answering(&request))
                }
                None => Ok(request),
                Some(refusal) => Err(refusal.answering(&request)),
            }
        });
        match request {
            Err(refusal) => self.say(id, |out| reply::refused(out, &refusal, time, time)),
            Ok(request) => self.carry_out(id, &request, socket, now),
        }
    }

    fn carry_out(
        &mut self,
        id: ConnectionId,
        request: &Request,
        socket: &dyn Fn() -> Socket,
        now: Now,
    ) {
        let time = now.unix_ns;
        let req_id = request.req_id.as_ref();
        match &request.command {
            Command::Auth { token } => self.authenticate(id, request, token, now),
            Command::Ping => self.say(id, |out| reply::pong(out, req_id, time, time)),
            Command::Whoami => self.whoami(id, req_id, &socket(), now),
            Command::List => {
                let set = self.subscriptions(id);
                let seq = self.boundary(id);
                let effective = self.effective(&set.iter().collect::<Vec<_>>(), seq);
                let names = set.iter().map(|held| held.pattern.as_str());
                let results: Vec<_> = names.zip(effective).collect();
                self.say(id, |out| reply::listed(out, req_id, &results, time, time));
            }
            Command::Subscribe { channels, wish, start } => {
                let results = self.subscribe(id, channels, *wish, start, req_id);
                self.say(id, |out| reply::subscribed(out, req_id, &results, time, time));
            }
            Command::Verify { channel } => self.verify(id, request, channel, now),
            Command::Unsubscribe { channels } => {
                let results = self.unsubscribe(id, channels);
                self.say(id, |out| reply::unsubscribed(out, req_id, &results, time, time));
            }
        }
    }
}
