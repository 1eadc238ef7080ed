//! `verify`: the server's hash of a channel's state.
//!
//! Not here: the hash ([`super::super::state`]). Invariant: a client learns of no channel that it
//! may not subscribe to.

use crate::limits::VERIFY_ENTRIES;
use crate::protocol::channel::Pattern;
use crate::protocol::command::Request;
use crate::protocol::refusal::{ErrorCode, Refusal};
use crate::protocol::reply::{self, Verified};

use super::super::Now;
use super::super::connection::ConnectionId;
use super::super::state;
use super::Shard;

impl Shard {
    /// Answers `verify`.
    pub(super) fn verify(&mut self, id: ConnectionId, request: &Request, name: &str, now: Now) {
        let time = now.unix_ns;
        if let Some(refusal) = self.charge_for(id, name, now) {
            let refusal = refusal.answering(request);
            return self.say(id, |out| reply::refused(out, &refusal, time, time));
        }
        match self.state_of(id, name) {
            Ok(state) => {
                let state::State { seq, values, hash } = state;
                let verified = Verified { channel: name, seq, values, hash };
                let req_id = request.req_id.as_ref();
                self.say(id, |out| reply::verified(out, req_id, &verified, time, time));
            }
            Err((code, message)) => {
                let refusal = Refusal::new(code, message).answering(request);
                self.say(id, |out| reply::refused(out, &refusal, time, time));
            }
        }
    }

    /// A large state counts as more messages, because it is read at one go; never as more than half
    /// a burst, so that whoever is quiet can have it.
    fn charge_for(&mut self, id: ConnectionId, name: &str, now: Now) -> Option<Refusal> {
        let channel = self.channels.id(name)?;
        let slots = self.store.slots.of_channel(channel).iter();
        let entries: usize = slots.map(|&slot| self.store.slots.slot(slot).entries()).sum();
        let messages = (entries / VERIFY_ENTRIES) as u64;
        self.charge(id, messages.min(u64::from(self.settings.command_burst / 2)), 1, now)
    }

    fn state_of(&self, id: ConnectionId, name: &str) -> Result<state::State, (ErrorCode, String)> {
        let pattern =
            Pattern::parse(name).map_err(|error| (ErrorCode::ChannelInvalid, error.to_string()))?;
        if !pattern.is_exact() {
            let message = "a pattern has no state; name one channel".to_owned();
            return Err((ErrorCode::ChannelInvalid, message));
        }
        self.check_allowed(id, &pattern)?;
        let channel = self.channels.id(name).ok_or_else(|| {
            let message = format!("there has been no event on channel '{name}' yet");
            (ErrorCode::ChannelUnknown, message)
        })?;
        state::state(channel, &self.channels, &self.store).ok_or_else(|| {
            let message = format!(
                "the server does not keep all of '{name}' any more (see retained_bytes); it will \
                 after the next snapshot"
            );
            (ErrorCode::Forgotten, message)
        })
    }
}
