//! What a subscription does when its client falls behind, as it is spoken.
//!
//! Not here: how a policy is carried out (`fanout`).

/// The policy of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// Every event; what cannot be delivered is covered by a loss receipt.
    #[default]
    All,
}

/// Words of the protocol that this server does not carry out yet.
const UNSUPPORTED: [&str; 3] = ["latest", "close", "unsubscribe"];

/// Why a word is not taken as a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A policy of the protocol that this server does not carry out.
    #[error("this server supports only the policy 'all'")]
    Unsupported,
    /// No policy at all.
    #[error("no such policy; this server supports 'all'")]
    Unknown,
}

impl Policy {
    /// Takes a policy as a client wrote it.
    ///
    /// # Errors
    /// Whether the word is a policy that is not supported, or none.
    pub fn parse(word: &str) -> Result<Self, PolicyError> {
        match word {
            "all" => Ok(Self::All),
            _ if UNSUPPORTED.contains(&word) => Err(PolicyError::Unsupported),
            _ => Err(PolicyError::Unknown),
        }
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
        }
    }
}
