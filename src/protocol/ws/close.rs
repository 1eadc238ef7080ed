//! How a connection ends: one reason, and from it the close code, the words and the log name.
//!
//! Codes of our own follow one rule that clients can rely on: with 4000-4099 a retry is pointless
//! until something is changed, with 4100-4199 it is welcome. Not here: the close handshake's
//! timing, and what is refused before the upgrade ([`super::handshake::Rejection`]). Invariant:
//! every way out of a connection is one [`CloseReason`].

use super::frame::CONTROL_BYTES_MAX;
use super::frame::{Opcode, write_frame};
use super::reader::Violation;

/// Done, nothing was wrong.
pub const NORMAL: u16 = 1000;
/// The server goes away; connect again, here or elsewhere.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke RFC 6455.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Text that is not UTF-8.
pub const INVALID_PAYLOAD: u16 = 1007;
/// The peer broke a rule of this server.
pub const POLICY: u16 = 1008;
/// A message that is longer than the server accepts.
pub const TOO_BIG: u16 = 1009;
/// The server failed.
pub const INTERNAL_ERROR: u16 = 1011;
/// The server has no room; try again later.
pub const TRY_AGAIN_LATER: u16 = 1013;
/// The server restarts or drains; connect again after the time that its notice said.
pub const SERVICE_RESTART: u16 = 1012;
/// The credential is not good.
pub const AUTH_FAILED: u16 = 4000;
/// No credential came in time.
pub const AUTH_MISSED: u16 = 4001;
/// The credential has ended and was not renewed.
pub const AUTH_EXPIRED: u16 = 4002;
/// The operator has taken the credential back.
pub const AUTH_REVOKED: u16 = 4003;
/// The client read too slowly for its subscriptions.
pub const SLOW_CONSUMER: u16 = 4100;
/// The client was silent for too long.
pub const HEARTBEAT_MISSED: u16 = 4101;
/// The client held no subscription for too long.
pub const IDLE: u16 = 4102;
/// The operator has ended this one connection.
pub const KICKED: u16 = 4103;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer sent a close frame; it is answered with the peer's own code.
    PeerClosed,
    /// The peer, or the network, ended the TCP stream without a close frame.
    PeerReset,
    /// The peer broke RFC 6455.
    ProtocolViolation(Violation),
    /// A message passed the size limit.
    MessageTooBig,
    /// The peer kept asking without reading the answers.
    OwedTooMuch,
    /// The peer sent messages faster than its rate, and went on although it was told.
    RateLimited,
    /// The peer read too slowly and asked for disconnection rather than loss, or what it would need
    /// to go on is kept no more.
    SlowConsumer,
    /// The peer was silent for too long.
    HeartbeatMissed,
    /// The peer held no subscription for too long.
    Idle,
    /// The credential that an `auth` command brought is not good.
    AuthFailed,
    /// The peer did not say in time who it is.
    AuthMissed,
    /// The peer's credential has ended.
    AuthExpired,
    /// The peer's credential counts no longer.
    AuthRevoked,
    /// The server drains, and it is this client's turn.
    Drain,
    /// The server stops.
    Shutdown,
    /// The operator has ended this one connection.
    Kicked,
    /// A drill has cut it as a network would.
    Drill,
    /// The kernel reported an error on the socket.
    Io,
    /// A stream of events of which nothing could be subscribed to, which never began.
    Refused,
}

impl CloseReason {
    /// The code of the close frame; `None` when none can be sent, because the stream is gone.
    #[must_use]
    pub const fn close_code(self) -> Option<u16> {
        match self {
            Self::PeerReset | Self::Io | Self::Drill | Self::Refused => None,
            Self::PeerClosed => Some(NORMAL),
            Self::ProtocolViolation(violation) => Some(violation.close_code()),
            Self::MessageTooBig => Some(TOO_BIG),
            Self::OwedTooMuch | Self::RateLimited => Some(POLICY),
            Self::SlowConsumer => Some(SLOW_CONSUMER),
            Self::HeartbeatMissed => Some(HEARTBEAT_MISSED),
            Self::Idle => Some(IDLE),
            Self::AuthFailed => Some(AUTH_FAILED),
            Self::AuthMissed => Some(AUTH_MISSED),
            Self::AuthExpired => Some(AUTH_EXPIRED),
            Self::AuthRevoked => Some(AUTH_REVOKED),
            Self::Drain => Some(SERVICE_RESTART),
            Self::Shutdown => Some(GOING_AWAY),
            Self::Kicked => Some(KICKED),
        }
    }

    /// The words of the close frame: what happened and, where there is one, the cure.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::PeerClosed => "closed by the client".into(),
            Self::PeerReset => "connection reset by the client".into(),
            Self::ProtocolViolation(violation) => violation.to_string(),
            Self::MessageTooBig => "message too big; see limits in the welcome message".into(),
            Self::OwedTooMuch => "too many unread answers; read before asking more".into(),
            Self::RateLimited => "too many messages; keep to command_rate of the welcome message, \
                and pause when told rate_limited"
                .into(),
            Self::SlowConsumer => "reading too slowly; subscribe to less, or with policy auto or \
                latest, or with wider limits"
                .into(),
            Self::HeartbeatMissed => "silent for too long; answer pings".into(),
            Self::Idle => "no subscription for too long; subscribe after connecting".into(),
            Self::AuthFailed => "the credential is not valid here; connect with another one".into(),
            Self::AuthMissed => "no credential in time; send auth first, or a token with the \
                upgrade request"
                .into(),
            Self::AuthExpired => "the credential has expired; connect with a new one".into(),
            Self::AuthRevoked => "the credential was revoked by the operator".into(),
            Self::Drain => "server is draining; connect again after retry_after_ms".into(),
            Self::Shutdown => "server is stopping; connect again".into(),
            Self::Kicked => "closed by the operator; connect again after a while".into(),
            Self::Drill => "cut by a drill".into(),
            Self::Io => "socket error".into(),
            Self::Refused => "nothing could be subscribed to".into(),
        }
    }

    /// Whether the same client, unchanged, may connect again with hope.
    #[must_use]
    pub const fn retryable(self) -> bool {
        !matches!(
            self,
            Self::ProtocolViolation(_)
                | Self::MessageTooBig
                | Self::OwedTooMuch
                | Self::RateLimited
                | Self::AuthFailed
                | Self::AuthMissed
                | Self::AuthExpired
                | Self::AuthRevoked
        )
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::PeerReset => "peer_reset",
            Self::ProtocolViolation(_) => "protocol_violation",
            Self::MessageTooBig => "message_too_big",
            Self::OwedTooMuch => "owed_too_much",
            Self::RateLimited => "rate_limited",
            Self::SlowConsumer => "slow_consumer",
            Self::HeartbeatMissed => "heartbeat_missed",
            Self::Idle => "idle",
            Self::AuthFailed => "auth_failed",
            Self::AuthMissed => "auth_missed",
            Self::AuthExpired => "auth_expired",
            Self::AuthRevoked => "auth_revoked",
            Self::Drain => "drain",
            Self::Shutdown => "shutdown",
            Self::Kicked => "kicked",
            Self::Drill => "drill",
            Self::Io => "io",
            Self::Refused => "refused",
        }
    }
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::MessageTooBig => Self::MessageTooBig,
            violation => Self::ProtocolViolation(violation),
        }
    }
}

/// Whether a code may stand in a close frame (RFC 6455, section 7.4, and the IANA registry).
#[must_use]
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Appends a server's close frame; a reason of more than 123 bytes is cut between characters.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut payload = Vec::with_capacity(CONTROL_BYTES_MAX);
    write_close_payload(&mut payload, code, reason);
    write_frame(out, Opcode::Close, &payload);
}

/// Appends the payload of a close frame: the code, and the reason cut to 123 bytes.
pub fn write_close_payload(out: &mut Vec<u8>, code: u16, reason: &str) {
    debug_assert!(may_be_sent(code));
    out.extend_from_slice(&code.to_be_bytes());
    let end = reason.floor_char_boundary(CONTROL_BYTES_MAX - 2);
    out.extend_from_slice(&reason.as_bytes()[..end]);
}

#[cfg(test)]
mod tests {
    use super::super::reader::{Message, Reader, Role};
    use super::*;
    use crate::telemetry::tally::CLOSES;

    const ALL: [CloseReason; 19] = [
        CloseReason::PeerClosed,
        CloseReason::PeerReset,
        CloseReason::ProtocolViolation(Violation::ReservedOpcode(3)),
        CloseReason::MessageTooBig,
        CloseReason::OwedTooMuch,
        CloseReason::RateLimited,
        CloseReason::SlowConsumer,
        CloseReason::HeartbeatMissed,
        CloseReason::Idle,
        CloseReason::AuthFailed,
        CloseReason::AuthMissed,
        CloseReason::AuthExpired,
        CloseReason::AuthRevoked,
        CloseReason::Drain,
        CloseReason::Shutdown,
        CloseReason::Kicked,
        CloseReason::Drill,
        CloseReason::Refused,
        CloseReason::Io,
    ];

    #[test]
    fn every_close_frame_is_one_that_a_client_accepts() {
        for reason in ALL {
            let Some(code) = reason.close_code() else { continue };
            let text = reason.text();
            assert!(text.len() <= CONTROL_BYTES_MAX - 2, "{text} would be cut");
            let mut frame = Vec::new();
            write_close(&mut frame, code, &text);
            let mut reader = Reader::new(Role::Client, 0);
            let message = reader.next_message(&mut frame, &mut 0).unwrap();
            assert_eq!(message, Some(Message::Close { code: Some(code), reason: &text }));
        }
    }

    #[test]
    fn every_reason_has_its_own_counter() {
        let names = ALL.map(CloseReason::name);
        assert!(names.iter().all(|name| CLOSES.contains(name)), "{names:?}");
        assert_eq!(names.len(), CLOSES.len());
    }

    #[test]
    fn our_own_codes_say_by_their_range_whether_to_retry() {
        for reason in ALL {
            match reason.close_code() {
                Some(4000..4100) => assert!(!reason.retryable(), "{}", reason.name()),
                Some(4100..4200) => assert!(reason.retryable(), "{}", reason.name()),
                _ => {}
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut payload = Vec::new();
        write_close_payload(&mut payload, NORMAL, &"é".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert!(std::str::from_utf8(&payload[2..]).is_ok());
    }
}
