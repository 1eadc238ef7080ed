//! Connections that are streams of Server-Sent Events: they are told and not asked.
//!
//! A stream holds the one subscription that its request was for. Everything else is as with any
//! connection, only written differently. Not here: that writing ([`crate::protocol::sse`]), and the
//! request's head. Invariant: a stream begins with the head of its response, and only if something
//! of its subscription was taken.

use crate::access::Member;
use crate::protocol::command::{self, Command, Request};
use crate::protocol::encoding::Encoding;
use crate::protocol::refusal::ErrorCode;
use crate::protocol::reply;
use crate::protocol::sse;
use crate::protocol::ws::close::CloseReason;

use super::super::Now;
use super::super::connection::ConnectionId;
use super::Shard;

/// A stream that does not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why; the first reason when there are several.
    pub code: ErrorCode,
    /// The reply, a JSON text.
    pub reply: Vec<u8>,
}

impl Shard {
    /// A stream is asked for, with `text` as the request that its URL stands for. It begins with
    /// `head`.
    ///
    /// # Errors
    /// Nothing of the request could be done.
    pub fn handle_stream(
        &mut self,
        member: Member,
        head: &[u8],
        text: &str,
        now: Now,
    ) -> Result<ConnectionId, Refused> {
        let time = now.unix_ns;
        let request = command::parse(text, &mut self.scratch).map_err(|refusal| {
            let mut reply = Vec::new();
            reply::refused(&mut reply, &refusal, time, time);
            Refused { code: refusal.code, reply }
        })?;
        let Request { command: Command::Subscribe { channels, wish, start }, .. } = &request else {
            unreachable!("a URL stands for a subscription");
        };
        let id = self.insert(member, Encoding::Sse, now);
        self.owe(id, |out| {
            out.extend_from_slice(head);
            out.extend_from_slice(sse::RETRY.as_bytes());
        });
        self.welcome(id);
        let results = self.subscribe(id, channels, *wish, start, None);
        let first = results.iter().find_map(|result| result.outcome.as_ref().err());
        let refused = first.filter(|_| results.iter().all(|result| result.outcome.is_err()));
        if let Some(&(code, _)) = refused {
            let mut reply = Vec::new();
            reply::subscribed(&mut reply, None, &results, time, time);
            self.finish(id, CloseReason::Refused);
            return Err(Refused { code, reply });
        }
        self.say(id, |out| reply::subscribed(out, None, &results, time, time));
        Ok(id)
    }

    /// Whether a connection is a stream.
    pub(super) fn is_stream(&self, id: ConnectionId) -> bool {
        self.connection(id).is_some_and(|connection| {
            self.cohorts.cohort(connection.cohort).key.encoding == Encoding::Sse
        })
    }
}
