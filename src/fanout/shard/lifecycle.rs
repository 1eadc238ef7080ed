//! How a connection begins and ends, and how it changes lanes in between.
//!
//! Every end goes through [`Shard::finish`] and has exactly one [`CloseReason`]. Not here: what
//! clients say (`session`), and bytes on their way (`flush`). Invariant: a member list holds
//! exactly the connections whose lane says so.

use std::sync::Arc;

use crate::access::Member;
use crate::limits::{CLOSE_MS, OWED_BYTES_MAX};
use crate::protocol::encoding::Encoding;
use crate::protocol::reply::{self, Welcome};
use crate::protocol::sse;
use crate::protocol::ws::close::{self, CloseReason};
use crate::protocol::ws::deflate::Agreed;
use crate::protocol::ws::frame::{self, Opcode};
use crate::telemetry::tally::CLOSES;

use super::super::Now;
use super::super::connection::{
    Connection, ConnectionId, Ended, Lane, Life, Owed, Phase, Sent, find_mut,
};
use super::super::lag::{Lag, View};
use super::Shard;

impl Shard {
    /// A connection has been upgraded: it is welcomed, and commands are taken from now on. Events
    /// are sent to it as `encoding`.
    pub fn handle_open(&mut self, member: Member, encoding: Encoding, now: Now) -> ConnectionId {
        let id = self.insert(member, encoding, now);
        if !self.is_echo() {
            self.welcome(id);
        }
        id
    }

    /// Adds a connection, which is owed nothing yet.
    pub(super) fn insert(&mut self, member: Member, encoding: Encoding, now: Now) -> ConnectionId {
        let generation = self.generation;
        self.generation = self.generation.wrapping_add(1);
        self.store.begin(encoding.form());
        let head = (&self.store.log).into();
        let cohort = self.cohorts.hold_empty(encoding, &mut self.channels, head);
        let index = self.connections.insert(Connection {
            cursor: self.store.log.head(),
            sampled: (0, 0),
            joined_at: 0,
            lag: Some(Box::default()),
            sent_ns: now.monotonic_ns,
            cohort,
            lane: Lane::Ready,
            tier: None,
            looks: 0,
            messages_ns: 0,
            generation,
            phase: Phase::Open,
            owed: Owed::default(),
            inflates: false,
            reader: None,
            member,
            life: Life { heard_ns: now.monotonic_ns, ..Life::default() },
            sent: Sent::default(),
            told: self.told_at_first(encoding),
        });
        let id = ConnectionId::new(index, generation);
        self.places = self.places.max(index + 1);
        self.ready.push_back(id);
        let counters = self.counters();
        counters.opened.add(1);
        counters.connections.set(self.connections.len() as u64);
        counters.encodings.at(encoding.form() as usize).add(1);
        id
    }

    /// What was agreed on with a connection that has just been upgraded.
    pub fn handle_agreed(&mut self, id: ConnectionId, agreed: Agreed) {
        let is_echo = self.is_echo();
        let Some(connection) = self.connection_mut(id) else { return };
        connection.inflates = true;
        debug_assert!(is_echo || !agreed.client_context, "one inflater serves all clients");
        #[cfg(feature = "echo")]
        self.keep_codec(id, agreed);
    }

    /// Whether clients get back what they say, instead of the feed.
    #[cfg(not(feature = "echo"))]
    pub(super) const fn is_echo(&self) -> bool {
        false
    }

    pub(super) fn welcome(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        let settings = self.settings.clone();
        let is_stranger = settings.gate.is_stranger(&connection.member);
        let welcome = Welcome {
            node: &settings.node,
            epoch: &settings.epoch,
            seq: self.store.log.seq_last(),
            heartbeat_ms: settings.heartbeat_ns / 1_000_000,
            message_bytes_max: settings.message_bytes_max,
            subscriptions_max: self.subscriptions_max(connection),
            command_rate: settings.command_rate,
            command_burst: settings.command_burst,
            ping_ms: settings.ping_ns / 1_000_000,
            pong_ms: settings.pong_ns / 1_000_000,
            idle_ms: settings.idle_ns / 1_000_000,
            auth_ms: is_stranger.then_some(settings.auth_ns / 1_000_000),
            expires_ns: connection.member.grant().expires_ns,
        };
        self.say(id, |out| reply::welcome(out, &welcome));
    }

    /// The peer will send no more, or its socket failed. A close frame that is still owed is sent
    /// all the same: peers that end right behind their own close frame wait for it.
    pub fn handle_end(&mut self, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self.connection_mut(id) else { return };
        match &mut connection.phase {
            Phase::Closing { peer_closed, .. } if !connection.owed.is_empty() => {
                *peer_closed = true;
            }
            Phase::Closing { reason: first, .. } => {
                let first = *first;
                self.finish(id, first);
            }
            Phase::Open => self.finish(id, reason),
        }
    }

    /// Begins the closing handshake with every connection.
    pub fn handle_shutdown(&mut self, now: Now) {
        for id in self.connection_ids() {
            self.close(id, CloseReason::Shutdown, now);
        }
    }

    /// Cuts every connection that is left, at the end of an orderly stop's patience, and returns
    /// how many there were.
    pub fn handle_cut(&mut self) -> usize {
        let ids = self.connection_ids();
        for &id in &ids {
            self.finish(id, CloseReason::Shutdown);
        }
        ids.len()
    }

    /// A connection that has ended; the shell closes its socket.
    pub fn next_closed(&mut self) -> Option<Ended> {
        self.closed.pop_front()
    }

    /// Queues a close frame; no data follows it.
    pub(super) fn close(&mut self, id: ConnectionId, reason: CloseReason, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        let Some(code) = reason.close_code() else { return self.finish(id, reason) };
        let deadline_ns = now.monotonic_ns + CLOSE_MS * 1_000_000;
        if self.is_stream(id) {
            // Nobody answers, so this is the last word.
            self.say(id, |out| reply::closed(out, code, &reason.text()));
            self.set_phase(id, Phase::Closing { reason, peer_closed: true, deadline_ns });
        } else {
            self.set_phase(id, Phase::Closing { reason, peer_closed: false, deadline_ns });
            self.owe(id, |out| close::write_close(out, code, &reason.text()));
        }
    }

    fn set_phase(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(connection) = self.connection_mut(id) {
            connection.phase = phase;
        }
    }

    /// The peer's close frame: answered with its own code unless it answers ours.
    pub(super) fn handle_peer_close(&mut self, id: ConnectionId, code: Option<u16>, now: Now) {
        let Some(connection) = self.connection_mut(id) else { return };
        match &mut connection.phase {
            Phase::Closing { reason, peer_closed, .. } => {
                *peer_closed = true;
                let reason = *reason;
                if connection.owed.is_empty() {
                    self.finish(id, reason);
                }
            }
            Phase::Open => {
                connection.phase = Phase::Closing {
                    reason: CloseReason::PeerClosed,
                    peer_closed: true,
                    deadline_ns: now.monotonic_ns + CLOSE_MS * 1_000_000,
                };
                self.owe(id, |out| match code {
                    Some(code) => close::write_close(out, code, ""),
                    None => frame::write_frame(out, Opcode::Close, &[]),
                });
            }
        }
    }

    /// Owes a connection one text message, whose payload `write` appends. Nothing follows a close
    /// frame.
    pub(super) fn say(&mut self, id: ConnectionId, write: impl FnOnce(&mut Vec<u8>)) {
        self.say_whole(id, None, write);
    }

    /// The same of a message that says that the client has everything up to `seq`.
    pub(super) fn say_whole(
        &mut self,
        id: ConnectionId,
        seq: Option<u64>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        write(&mut text);
        if self.connection(id).is_some_and(|connection| !connection.is_closing()) {
            if self.is_stream(id) {
                let epoch = Arc::clone(&self.settings.epoch);
                self.owe(id, |out| sse::control(out, &text, seq.map(|seq| (&*epoch, seq))));
            } else {
                self.owe(id, |out| frame::write_frame(out, Opcode::Text, &text));
            }
        }
        self.text = text;
    }

    /// Owes a connection the frame that `write` appends; it is sent in the next pass, before
    /// anything else.
    pub(super) fn owe(&mut self, id: ConnectionId, write: impl FnOnce(&mut Vec<u8>)) {
        self.make_ready(id);
        let Some(connection) = self.connection_mut(id) else { return };
        write(connection.owed.buffer());
        if connection.lane == Lane::Silent {
            connection.lane = Lane::Ready;
            self.ready.push_back(id);
        }
    }

    /// Closes a connection that asks on without reading the answers.
    pub(super) fn check_owed(&mut self, id: ConnectionId, now: Now) {
        let is_beyond = |c: &Connection| c.owed.control_bytes() > OWED_BYTES_MAX;
        if !self.is_echo() && self.connection(id).is_some_and(is_beyond) {
            self.close(id, CloseReason::OwedTooMuch, now);
        }
    }

    /// Takes an in-sync connection out of its cohort's member list, or one that waits for a batch
    /// or a passage out of those, to be visited by itself.
    pub(super) fn make_ready(&mut self, id: ConnectionId) {
        if self.waiting.remove(&id) || self.awaiting.remove(&id) || self.leave_members(id) {
            self.ready.push_back(id);
        }
    }

    /// Takes an in-sync connection out of its cohort's member list, its places where the shared
    /// gather list begins for it; false when it was not in sync.
    pub(super) fn leave_members(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        let Lane::InSync(place) = connection.lane else { return false };
        let head = self.store.log.head();
        let cohort = self.cohorts.cohort(connection.cohort);
        let cursor = match cohort.gather.first() {
            Some(first) if !self.pass.is_sampling() => connection.cursor.max(first),
            _ => head,
        };
        let view = View { store: &self.store, cohort };
        let sampled_to = connection.sampled_to(self.pass.turn);
        let pending = self.ticking.remove(&id).unwrap_or_default();
        let lag = Lag { pending, ..view.lag(cursor, sampled_to, connection.joined_at) };
        connection.lag = Some(Box::new(lag));
        connection.lane = Lane::Ready;
        let cohort = self.cohorts.cohort_mut(connection.cohort);
        cohort.members.swap_remove(place as usize);
        if let Some(moved) = cohort.members.get(place as usize) {
            self.connections[moved.index as usize].lane = Lane::InSync(place);
        }
        true
    }

    /// What a connection that is not in sync is still to get.
    pub(super) fn lagging(&mut self, id: ConnectionId) -> Option<(View<'_>, &mut Lag)> {
        let connection = find_mut(&mut self.connections, id)?;
        let cohort = self.cohorts.cohort(connection.cohort);
        let view = View { store: &self.store, cohort };
        let lag = connection.lag.as_deref_mut()?;
        view.complete(lag);
        Some((view, lag))
    }

    /// Removes a connection; the shell learns of it by [`Self::next_closed`].
    pub(super) fn finish(&mut self, id: ConnectionId, reason: CloseReason) {
        self.leave_members(id);
        if self.connection(id).is_none() {
            return;
        }
        self.set_reading(id, None);
        self.readers_to_come.remove(&id);
        let connection = self.connections.remove(id.index as usize);
        #[cfg(feature = "echo")]
        self.codecs.remove(&id);
        let missed = self.losses.remove(&id).map_or(0, |losses| losses.missed);
        let encoding = self.cohorts.cohort(connection.cohort).key.encoding;
        self.cohorts.release(connection.cohort);
        for stage in connection.lag.into_iter().flat_map(|lag| lag.stages) {
            self.cohorts.release(stage.cohort);
        }
        self.forms_left_ns[encoding.form() as usize] = self.now_ns;
        let Connection { member, sent, lane, .. } = connection;
        self.closed.push_back(Ended { id, reason, member, sent, missed });
        let counters = self.counters();
        if lane == Lane::Blocked {
            counters.blocked.sub(1);
        }
        counters.closed.add(1);
        counters.closes.of(&CLOSES, reason.name()).add(1);
        counters.encodings.at(encoding.form() as usize).sub(1);
        counters.connections.set(self.connections.len() as u64);
    }

    fn connection_ids(&self) -> Vec<ConnectionId> {
        (self.connections.iter())
            .map(|(index, connection)| ConnectionId::new(index, connection.generation))
            .collect()
    }
}
