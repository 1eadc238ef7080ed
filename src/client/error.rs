//! Why a subscriber has ended.
//!
//! Invariant: the text says what was wrong, and where; what would be tried again is no error.

use super::announced::AnnouncedError;
use super::credential::TokenError;
use super::frame::{Frame, ReplyError};
use crate::protocol::channel::NameError;
use crate::protocol::ws::client::ClientHandshakeError;
use crate::shell::dial::ClientError;
use crate::shell::trust::TrustError;

/// Why a subscriber has ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is no channel and no pattern.
    #[error("pattern `{0}`: {1}")]
    Pattern(String, NameError),
    /// There is no channel to subscribe to.
    #[error("no channel to subscribe to; name at least one, `>` means all")]
    NoPattern,
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The connection could not be made, or broke.
    #[error(transparent)]
    Connection(#[from] ClientError),
    /// The server refused a request.
    #[error("the server refused {method}: {reasons}")]
    Refused {
        /// Of the request.
        method: String,
        /// Every pattern that was refused with its code, or the refusal of the whole.
        reasons: String,
        /// It wants a credential.
        wants_credential: bool,
    },
    /// The server closed the connection: what the code means and whether a retry makes sense.
    #[error("{0}")]
    Closed(String),
    /// The server, or the way to it, is gone.
    #[error("nothing came for {0} ms; the server or the network is gone")]
    Silent(u64),
    /// The stream has ended.
    #[error("the connection ended without a close; the server may have died, a retry makes sense")]
    Ended,
    /// An event names one before it that never came.
    #[error("a hole on {channel}: the event of seq {seq} never came, and no receipt covers it")]
    Hole {
        /// Where.
        channel: String,
        /// The event that is missing.
        seq: u64,
    },
    /// The server is about to stop, and this client's turn to go has come.
    #[error("the server drains")]
    Drained,
    /// A binary message that cannot be read.
    #[error(transparent)]
    Binary(#[from] AnnouncedError),
    /// There is no thread to connect with.
    #[error("no thread to connect with: {0}")]
    Thread(std::io::Error),
    /// An error was given before.
    #[error("the subscription has ended")]
    Over,
}

impl Error {
    /// Whether what was asked for is wrong, here and now, whatever any server does.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Pattern(..)
                | Self::NoPattern
                | Self::Token(_)
                | Self::Connection(
                    ClientError::Address(..)
                        | ClientError::Trust(
                            TrustError::File { .. } | TrustError::NoAuthorities(_)
                        )
                )
        )
    }

    /// Whether a good credential may help.
    #[must_use]
    pub const fn wants_credential(&self) -> bool {
        match self {
            Self::Refused { wants_credential, .. } => *wants_credential,
            Self::Connection(ClientError::Upgrade(_, error)) => {
                matches!(error, ClientHandshakeError::Refused { status: 401, .. })
            }
            _ => false,
        }
    }

    /// The refusal of every pattern that was refused, or of the whole request.
    pub(super) fn refused(frame: &Frame<'_>) -> Self {
        let reason = |error: &ReplyError<'_>| {
            let code = error.code.unwrap_or("no code");
            format!("{code}: {}", error.message.unwrap_or("no reason given"))
        };
        let refused: Vec<_> = frame
            .outcomes()
            .filter_map(|outcome| Some((outcome.channel?, outcome.error.as_ref()?)))
            .map(|(channel, error)| format!("{channel}: {}", reason(error)))
            .collect();
        let reasons = match &frame.error {
            _ if !refused.is_empty() => refused.join("; "),
            Some(error) => reason(error),
            None => "no reason given".into(),
        };
        let code = frame.error.as_ref().and_then(|error| error.code);
        Self::Refused {
            method: frame.method.unwrap_or("the command").to_owned(),
            reasons,
            wants_credential: code == Some("auth_required"),
        }
    }
}
