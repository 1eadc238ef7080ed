//! Who a client is, and what follows when that changes: `auth`, expiry, other rules.
//!
//! Not here: the rules themselves ([`crate::access`]). Invariant: a connection holds no
//! subscription that its present grant does not cover.

use crate::access::{Credential, Denied};
use crate::limits::EXPIRY_WARNING_MS;
use crate::protocol::channel::Pattern;
use crate::protocol::command::{Request, Secret};
use crate::protocol::refusal::{ErrorCode, Refusal};
use crate::protocol::reply::{self, Cause, Dropped};
use crate::protocol::terms::Terms;
use crate::protocol::ws::close::CloseReason;

use super::super::Now;
use super::super::cohorts::Subscription;
use super::super::connection::{Connection, ConnectionId, find_mut};
use super::Shard;

impl Shard {
    /// Carries out `auth`: a better credential takes the place of the one before.
    pub(super) fn authenticate(
        &mut self,
        id: ConnectionId,
        request: &Request,
        token: &Secret,
        now: Now,
    ) {
        let gate = std::sync::Arc::clone(&self.settings.gate);
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let was_stranger = gate.is_stranger(&connection.member);
        let credential = Credential::Bearer(token.0.clone());
        let time = now.unix_ns;
        match gate.renew(&mut connection.member, &credential, time) {
            Ok(()) => {
                connection.life.is_warned = false;
                let expires_ns = connection.member.grant().expires_ns;
                let req_id = request.req_id.as_ref();
                self.say(id, |out| reply::authenticated(out, req_id, expires_ns, time, time));
                self.drop_forbidden(id);
            }
            Err(denied) => {
                self.counters().auth_failures.add(1);
                let refusal = Refusal::auth_failed(denied.text().into()).answering(request);
                self.say(id, |out| reply::refused(out, &refusal, time, time));
                // Whoever is in keeps what it had; whoever is not may not try on.
                if was_stranger && denied != Denied::TooManyConnections {
                    self.close(id, CloseReason::AuthFailed, now);
                }
            }
        }
    }

    /// Whether a client has yet to show a credential.
    pub(super) fn is_stranger(&self, id: ConnectionId) -> bool {
        let connection = self.connection(id);
        connection.is_some_and(|connection| self.settings.gate.is_stranger(&connection.member))
    }

    /// Closes a client whose time or credential has ended, warns one whose credential soon will,
    /// and takes from it what newer rules allow no longer.
    pub(super) fn check_membership(&mut self, id: ConnectionId, now: Now) {
        let auth_ns = self.settings.auth_ns;
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        match self.settings.gate.recheck(&mut connection.member) {
            Some(false) => return self.close(id, CloseReason::AuthRevoked, now),
            Some(true) => {
                connection.life.is_warned = false;
                self.drop_forbidden(id);
            }
            None => {}
        }
        let is_stranger = self.is_stranger(id);
        let Some(connection) = self.connection_mut(id) else { return };
        if is_stranger {
            // Without a subscription it has been idle since it came.
            let since_ns = connection.life.idle_since_ns.map_or(u64::MAX, |ns| ns.get());
            if now.monotonic_ns.saturating_sub(since_ns) >= auth_ns {
                self.close(id, CloseReason::AuthMissed, now);
            }
            return;
        }
        let Some(expires_ns) = connection.member.grant().expires_ns else { return };
        let left_ms = expires_ns.saturating_sub(now.unix_ns) / 1_000_000;
        if connection.member.grant().is_expired(now.unix_ns) {
            self.close(id, CloseReason::AuthExpired, now);
        } else if left_ms <= EXPIRY_WARNING_MS
            && !std::mem::replace(&mut connection.life.is_warned, true)
        {
            self.say(id, |out| reply::expiring(out, left_ms));
        }
    }

    /// Patterns that a connection may hold.
    pub(super) fn subscriptions_max(&self, connection: &Connection) -> usize {
        let own = connection.member.grant().subscriptions_max.unwrap_or(usize::MAX);
        own.min(self.settings.subscriptions_max)
    }

    /// Why a connection may not subscribe to `pattern`.
    pub(super) fn check_allowed(
        &self,
        id: ConnectionId,
        pattern: &Pattern,
    ) -> Result<(), (ErrorCode, String)> {
        let Some(connection) = self.connection(id) else { return Ok(()) };
        let grant = connection.member.grant();
        if grant.may_subscribe(pattern) {
            return Ok(());
        }
        const SHOWN: usize = 8;
        let shown: Vec<_> = grant.subscribe.iter().take(SHOWN).map(Pattern::as_str).collect();
        let more = if grant.subscribe.len() > SHOWN { ", …" } else { "" };
        let message = match shown.is_empty() {
            true => "your credential allows no subscription".to_owned(),
            false => format!("your credential allows: {}{more}", shown.join(", ")),
        };
        Err((ErrorCode::Forbidden, message))
    }

    /// Why a connection may not have the policies that a subscription would come to.
    pub(super) fn check_policies(
        &self,
        id: ConnectionId,
        subscription: &Subscription,
    ) -> Result<(), (ErrorCode, String)> {
        let grant = self.connection(id).map(|connection| connection.member.grant());
        let Some(policies) = grant.and_then(|grant| grant.policies.as_ref()) else {
            return Ok(());
        };
        let (whole, parts) = self.cohorts.rules().of_pattern(&subscription.pattern);
        let wishes = std::iter::once(whole).chain(parts.map(|rule| Some(&rule.wish)));
        let forbidden = (wishes.map(|rule| Terms::agree(&subscription.wish, rule).policy))
            .find(|policy| !policies.contains(policy));
        let Some(policy) = forbidden else { return Ok(()) };
        let allowed: Vec<_> = policies.iter().map(|policy| policy.as_str()).collect();
        let message = format!(
            "your credential does not allow policy '{}', only: {}",
            policy.as_str(),
            allowed.join(", ")
        );
        Err((ErrorCode::Forbidden, message))
    }

    fn may_hold(&self, id: ConnectionId, held: &Subscription) -> bool {
        self.check_allowed(id, &held.pattern).is_ok() && self.check_policies(id, held).is_ok()
    }

    /// Ends the subscriptions that the grant does not cover, with a notice.
    fn drop_forbidden(&mut self, id: ConnectionId) {
        if self.connection(id).is_none_or(Connection::is_closing)
            || self.subscriptions(id).iter().all(|held| self.may_hold(id, held))
        {
            return;
        }
        // It may end subscriptions, or the connection.
        self.prepare_change(id);
        if self.connection(id).is_none_or(Connection::is_closing) {
            return;
        }
        let set = self.subscriptions(id);
        let (kept, gone): (Vec<_>, Vec<_>) =
            (set.iter().cloned()).partition(|held| self.may_hold(id, held));
        if gone.is_empty() {
            return;
        }
        self.resubscribe(id, kept, None);
        let names: Vec<_> = gone.iter().map(|held| held.pattern.as_str()).collect();
        let dropped = Dropped { channels: &names, seq: self.boundary(id), cause: Cause::Forbidden };
        self.counters().dropped.add(names.len() as u64);
        self.say(id, |out| reply::dropped(out, &dropped));
    }
}
