//! What clients say, and the answers.
//!
//! Every command is answered once, in order; a refused one changes nothing and costs the connection
//! nothing. Not here: the texts of commands and replies (`protocol`). Invariant: the answer to a
//! subscription is queued before the first event of it, and its `seq` says where that begins.

use std::rc::Rc;

use crate::limits::{READ_BYTES, READ_BYTES_LAGGING, WALK_ENTRIES_MAX};
use crate::protocol::channel::Pattern;
use crate::protocol::command::{self, Command, ErrorCode, Refusal, Request};
use crate::protocol::policy::Policy;
use crate::protocol::reply::{self, ChannelResult, Effective};
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::frame::{self, Opcode};
use crate::protocol::ws::reader::{Message, Reader, Role};

use super::super::Now;
use super::super::cohorts::Subscription;
use super::super::connection::{Connection, ConnectionId, Lane, Phase, find_mut};
use super::Shard;

impl Shard {
    /// How many bytes may be read from a client before other clients have their turn.
    #[must_use]
    pub fn read_bytes_max(&self, id: ConnectionId) -> usize {
        let ahead = |connection: &Connection| self.log.head() - connection.cursor;
        match self.connection(id) {
            Some(connection)
                if !matches!(connection.lane, Lane::InSync(_))
                    && ahead(connection) > WALK_ENTRIES_MAX as u64 =>
            {
                READ_BYTES_LAGGING
            }
            _ => READ_BYTES,
        }
    }

    /// Bytes from a client; they are unmasked in place.
    pub fn handle_bytes(&mut self, id: ConnectionId, bytes: &mut [u8], now: Now) {
        let Some(connection) = self.connection_mut(id) else { return };
        if matches!(connection.phase, Phase::Closing { peer_closed: true, .. }) {
            return; // RFC 6455, section 5.5.1: nothing follows a close frame.
        }
        // The reader is taken out, because a message borrows it while the shard changes.
        let mut reader = std::mem::replace(&mut connection.reader, Reader::new(Role::Server, 0));
        let mut at = 0;
        let violation = loop {
            let mut used = 0;
            match reader.next_message(&mut bytes[at..], &mut used) {
                Ok(Some(message)) => {
                    // Before each, because one read can hold thousands of requests; not after, or
                    // one long answer would close a connection that reads.
                    self.check_owed(id, now);
                    self.handle_message(id, &message, now);
                }
                Ok(None) => break None,
                Err(violation) => break Some(violation),
            }
            at += used;
        };
        match violation {
            // The stream has no meaning from here on, so a close frame of the peer's would not be
            // seen: ours is the last word, and the reader is not used again.
            Some(violation) => {
                self.close(id, CloseReason::from(violation), now);
                self.handle_peer_close(id, None, now);
            }
            None => {
                let Some(connection) = self.connection_mut(id) else { return };
                connection.reader = reader;
            }
        }
    }

    fn handle_message(&mut self, id: ConnectionId, message: &Message<'_>, now: Now) {
        if self.connection(id).is_none_or(|connection| connection.is_closing()) {
            if let Message::Close { code, .. } = message {
                self.handle_peer_close(id, *code, now);
            }
            return;
        }
        match message {
            Message::Text(text) => self.handle_command(id, text, now),
            Message::Binary(_) => {
                let refusal = Refusal::message_not_text();
                self.say(id, |out| reply::refused(out, &refusal, now.unix_ns, now.unix_ns));
            }
            Message::Ping(payload) => {
                self.owe(id, |out| frame::write_frame(out, Opcode::Pong, payload));
            }
            Message::Pong(_) => {}
            Message::Close { code, .. } => self.handle_peer_close(id, *code, now),
        }
    }

    fn handle_command(&mut self, id: ConnectionId, text: &str, now: Now) {
        self.counters().commands.add(1);
        let mut scratch = std::mem::take(&mut self.scratch);
        let parsed = command::parse(text, &mut scratch);
        self.scratch = scratch;
        let time = now.unix_ns;
        match parsed {
            Err(refusal) => self.say(id, |out| reply::refused(out, &refusal, time, time)),
            Ok(Request { req_id, command }) => match command {
                Command::Ping => self.say(id, |out| reply::pong(out, req_id.as_ref(), time, time)),
                Command::List => {
                    let set = self.subscriptions(id);
                    let seq = self.boundary(id);
                    let results: Vec<_> = (set.iter())
                        .map(|held| (held.pattern.as_str(), self.effective(held, seq)))
                        .collect();
                    self.say(id, |out| reply::listed(out, req_id.as_ref(), &results, time, time));
                }
                Command::Subscribe { channels, policy } => {
                    let results = self.subscribe(id, &channels, policy.unwrap_or_default());
                    self.say(id, |out| {
                        reply::subscribed(out, req_id.as_ref(), &results, time, time);
                    });
                }
                Command::Unsubscribe { channels } => {
                    let results = self.unsubscribe(id, &channels);
                    self.say(id, |out| {
                        reply::unsubscribed(out, req_id.as_ref(), &results, time, time);
                    });
                }
            },
        }
    }

    fn subscribe<'a>(
        &mut self,
        id: ConnectionId,
        channels: &'a [String],
        policy: Policy,
    ) -> Vec<ChannelResult<'a>> {
        let mut set = self.subscriptions(id).to_vec();
        let outcomes =
            channels.iter().map(|channel| self.add_to(&mut set, channel, policy)).collect();
        self.resubscribe(id, set);
        self.results(id, channels, outcomes)
    }

    fn add_to(
        &self,
        set: &mut Vec<Subscription>,
        channel: &str,
        policy: Policy,
    ) -> Result<Subscription, (ErrorCode, String)> {
        let pattern = Pattern::parse(channel)
            .map_err(|error| (ErrorCode::ChannelInvalid, error.to_string()))?;
        let subscription = Subscription { pattern, policy };
        match set.binary_search_by(|held| held.pattern.cmp(&subscription.pattern)) {
            Ok(at) => set[at] = subscription.clone(),
            Err(_) if set.len() >= self.settings.subscriptions_max => {
                let max = self.settings.subscriptions_max;
                let message = format!("{max} subscriptions are held already; unsubscribe some");
                return Err((ErrorCode::TooManySubscriptions, message));
            }
            Err(at) => set.insert(at, subscription.clone()),
        }
        Ok(subscription)
    }

    fn unsubscribe<'a>(
        &mut self,
        id: ConnectionId,
        channels: &'a [String],
    ) -> Vec<ChannelResult<'a>> {
        let mut set = self.subscriptions(id).to_vec();
        let outcomes = (channels.iter())
            .map(|channel| {
                let at = set.binary_search_by(|held| held.pattern.as_str().cmp(channel));
                at.map(|at| set.remove(at)).map_err(|_| {
                    let message = "not in the subscription list; `list` shows what is";
                    (ErrorCode::NotSubscribed, message.to_owned())
                })
            })
            .collect();
        self.resubscribe(id, set);
        self.results(id, channels, outcomes)
    }

    fn results<'a>(
        &mut self,
        id: ConnectionId,
        channels: &'a [String],
        outcomes: Vec<Result<Subscription, (ErrorCode, String)>>,
    ) -> Vec<ChannelResult<'a>> {
        let seq = self.boundary(id);
        (channels.iter().zip(outcomes))
            .map(|(channel, outcome)| ChannelResult {
                channel,
                outcome: outcome.map(|subscription| self.effective(&subscription, seq)),
            })
            .collect()
    }

    /// Moves a connection to the cohort of `set`; its place in the log stays.
    fn resubscribe(&mut self, id: ConnectionId, set: Vec<Subscription>) {
        self.make_ready(id);
        self.receipt_overwritten(id);
        let cohort = self.cohorts.hold(Rc::from(set), &mut self.channels);
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let before = std::mem::replace(&mut connection.cohort, cohort);
        let state = self.cohorts.cohort(cohort);
        let ahead = (connection.cursor..self.log.head())
            .filter(|&number| state.wants(self.log.entry(number).channel))
            .count();
        connection.taken = state.wanted.wrapping_sub(ahead as u64);
        self.cohorts.release(before);
    }

    fn subscriptions(&self, id: ConnectionId) -> Rc<[Subscription]> {
        let connection = self.connection(id).expect("its message is being handled");
        Rc::clone(&self.cohorts.cohort(connection.cohort).set)
    }

    /// Everything up to this `seq` was sent, receipted or not wanted; what follows is to come.
    fn boundary(&mut self, id: ConnectionId) -> u64 {
        self.make_ready(id);
        self.connection(id).expect("its message is being handled").seq_passed
    }

    fn effective(&self, subscription: &Subscription, seq: u64) -> Effective {
        let pattern = &subscription.pattern;
        let matched = if pattern.is_exact() {
            u64::from(self.channels.id(pattern.as_str()).is_some())
        } else {
            self.channels.iter().filter(|(_, c)| pattern.matches(&c.name)).count() as u64
        };
        Effective { policy: subscription.policy, seq, matched }
    }
}
