//! What one credential allows.
//!
//! Not here: how it was proven. Invariant: what a grant does not name, it does not allow.

use std::fmt;
use std::sync::Arc;

use crate::protocol::channel::Pattern;
use crate::protocol::policy::Policy;

/// Whose a connection is; its text is for logs and never secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Nobody in particular: access is not restricted, or this much is allowed to all.
    Anyone,
    /// The holder of the static key of this id.
    Key(Box<str>),
    /// The subject of a token.
    Subject(Box<str>),
    /// The holder of a client certificate of this name.
    Certificate(Box<str>),
}

impl fmt::Display for Identity {
    /// For logs: others choose the names, so what could begin a new line or field is escaped.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Anyone => return out.write_str("anyone"),
            Self::Key(name) => ("key", name),
            Self::Subject(name) => ("subject", name),
            Self::Certificate(name) => ("certificate", name),
        };
        write!(out, "{kind}:{}", name.escape_debug())
    }
}

/// What one credential allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is.
    pub identity: Identity,
    /// Channels that may be subscribed to: those that a pattern covers.
    pub subscribe: Arc<[Pattern]>,
    /// Channels that may be published to.
    pub publish: Arc<[Pattern]>,
    /// Policies that may be in force; none: all of them.
    pub policies: Option<Arc<[Policy]>>,
    /// Patterns in one connection's set at most, if fewer than the server's.
    pub subscriptions_max: Option<usize>,
    /// Open connections of the identity at most, over all cores.
    pub connections_max: Option<u32>,
    /// When it ends, nanoseconds since the Unix epoch.
    pub expires_ns: Option<u64>,
    /// What proved it, so that it ends when that counts no longer.
    pub proof: Option<Proof>,
}

/// What proved a credential: the digest of a static key's secret, or of an issuer's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Proof(pub [u8; 32]);

impl fmt::Debug for Proof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Proof(…)")
    }
}

impl Grant {
    /// All that there is, for anyone and for ever: access is not restricted.
    #[must_use]
    pub fn everything() -> Self {
        let all: Arc<[Pattern]> =
            Arc::new([Pattern::parse(">").expect("a constant that is a pattern")]);
        Self {
            identity: Identity::Anyone,
            subscribe: Arc::clone(&all),
            publish: all,
            policies: None,
            subscriptions_max: None,
            connections_max: None,
            expires_ns: None,
            proof: None,
        }
    }

    /// Nothing, for somebody who has yet to say who it is.
    #[must_use]
    pub fn nothing() -> Self {
        let none: Arc<[Pattern]> = Arc::new([]);
        Self { subscribe: Arc::clone(&none), publish: none, ..Self::everything() }
    }

    /// Whether everything that `pattern` matches may be subscribed to.
    #[must_use]
    pub fn may_subscribe(&self, pattern: &Pattern) -> bool {
        self.subscribe.iter().any(|allowed| allowed.covers(pattern))
    }

    /// Whether events may be published on `channel`.
    #[must_use]
    pub fn may_publish(&self, channel: &str) -> bool {
        self.publish.iter().any(|allowed| allowed.is_everything() || allowed.matches(channel))
    }

    /// Whether a subscription may have `policy`.
    #[must_use]
    pub fn may_use(&self, policy: Policy) -> bool {
        self.policies.as_ref().is_none_or(|policies| policies.contains(&policy))
    }

    /// Whether it has ended at `now_ns`, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn is_expired(&self, now_ns: u64) -> bool {
        self.expires_ns.is_some_and(|expires_ns| expires_ns <= now_ns)
    }
}
