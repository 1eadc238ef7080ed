//! What a subscription does when its client falls behind, as it is spoken.
//!
//! Not here: the limits beside it ([`super::terms`]), and how a policy is carried out (`fanout`).

/// The policy of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// Events with a key as [`Self::Latest`], the others as [`Self::All`].
    #[default]
    Auto,
    /// Every event, in order; when a limit is passed, on at the newest with a loss receipt.
    All,
    /// While behind, of each channel and key only the newest; every event otherwise.
    Latest,
    /// The connection ends rather than that something is skipped.
    Close,
    /// The heaviest subscription ends with a notice rather than that something is skipped.
    Unsubscribe,
}

/// No such policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such policy; the policies are auto, all, latest, close, unsubscribe")]
pub struct PolicyUnknown;

impl Policy {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Auto, Self::All, Self::Latest, Self::Close, Self::Unsubscribe];

    /// Takes a policy as it was written.
    ///
    /// # Errors
    /// When the word is none.
    pub fn parse(word: &str) -> Result<Self, PolicyUnknown> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == word).ok_or(PolicyUnknown)
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::All => "all",
            Self::Latest => "latest",
            Self::Close => "close",
            Self::Unsubscribe => "unsubscribe",
        }
    }

    /// Whether it lets the newest event of a key stand for those before.
    #[must_use]
    pub const fn conflates(self) -> bool {
        matches!(self, Self::Auto | Self::Latest)
    }
}
