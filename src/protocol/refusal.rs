//! Why something that was asked for is not done.
//!
//! Not here: reading requests ([`super::command`]), and the text around a refusal
//! ([`super::reply`]). Invariant: a message says what was wrong, where, and what is allowed.

use super::command::{ReqId, Request};

/// Every code of an `error` in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The message is not JSON.
    JsonMalformed,
    /// The message is a binary one.
    MessageNotText,
    /// The message is JSON, but not a request.
    RequestInvalid,
    /// `req_id` is neither an integer nor a short text.
    ReqIdInvalid,
    /// There is no `method`.
    MethodMissing,
    /// There is no such method.
    MethodUnknown,
    /// The method needs `params`, or a field of them, that is not there.
    ParamMissing,
    /// A parameter has the wrong type or a value that is not allowed.
    ParamInvalid,
    /// There is no such parameter.
    ParamUnknown,
    /// `channels` is empty.
    ChannelsEmpty,
    /// `channels` names more than a subscription set may hold.
    ChannelsTooMany,
    /// A channel name or pattern is not valid.
    ChannelInvalid,
    /// The subscription set does not hold this pattern.
    NotSubscribed,
    /// The subscription set is full.
    TooManySubscriptions,
    /// The subscription set would need more than [`crate::limits::CLASSES_MAX`] combinations of
    /// policy, limits and sampling.
    TooManyPolicies,
    /// The connection has yet to show a credential.
    AuthRequired,
    /// The credential is not good.
    AuthFailed,
    /// The credential does not allow this.
    Forbidden,
    /// More requests than the server takes from one connection in that time.
    RateLimited,
    /// There is no such channel.
    ChannelUnknown,
    /// The server does not keep what is asked for any more.
    Forgotten,
    /// More recoveries than a connection may wait for.
    TooManyRecoveries,
}

impl ErrorCode {
    /// The code on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JsonMalformed => "json_malformed",
            Self::MessageNotText => "message_not_text",
            Self::RequestInvalid => "request_invalid",
            Self::ReqIdInvalid => "req_id_invalid",
            Self::MethodMissing => "method_missing",
            Self::MethodUnknown => "method_unknown",
            Self::ParamMissing => "param_missing",
            Self::ParamInvalid => "param_invalid",
            Self::ParamUnknown => "param_unknown",
            Self::ChannelsEmpty => "channels_empty",
            Self::ChannelsTooMany => "channels_too_many",
            Self::ChannelInvalid => "channel_invalid",
            Self::NotSubscribed => "not_subscribed",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::TooManyPolicies => "too_many_policies",
            Self::AuthRequired => "auth_required",
            Self::AuthFailed => "auth_failed",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::ChannelUnknown => "channel_unknown",
            Self::Forgotten => "forgotten",
            Self::TooManyRecoveries => "too_many_recoveries",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::TooManySubscriptions
                | Self::TooManyPolicies
                | Self::RateLimited
                | Self::ChannelUnknown
                | Self::TooManyRecoveries
        )
    }
}

/// Why a request is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Refusal {
    /// The request's `method`, cut to [`crate::limits::ECHO_BYTES_MAX`] bytes.
    pub method: Option<String>,
    /// The request's `req_id`.
    pub req_id: Option<ReqId>,
    /// What kind of mistake.
    pub code: ErrorCode,
    /// What was wrong, where, and what is allowed.
    pub message: String,
}

impl Refusal {
    /// The answer to a binary message.
    #[must_use]
    pub fn message_not_text() -> Self {
        let message = "send requests as text messages, not as binary ones".into();
        Self::new(ErrorCode::MessageNotText, message)
    }

    /// The answer to one message too many of a connection that may send `rate` a second, or `burst`
    /// at once; it may try again in `retry_after_ms` milliseconds.
    #[must_use]
    pub fn rate_limited(rate: u32, burst: u32, retry_after_ms: u64) -> Self {
        let message = format!(
            "too many messages: a connection may send {burst} at once and {rate} a second after \
             that, and many channels in one request count as more; try again in \
             {retry_after_ms} ms"
        );
        Self::new(ErrorCode::RateLimited, message)
    }

    /// The answer to a request of somebody who has yet to show a credential.
    #[must_use]
    pub fn auth_required() -> Self {
        let message = "send {\"method\":\"auth\",\"params\":{\"token\":\"…\"}} first".into();
        Self::new(ErrorCode::AuthRequired, message)
    }

    /// The answer to a credential that is not good, for this reason.
    #[must_use]
    pub fn auth_failed(reason: String) -> Self {
        Self::new(ErrorCode::AuthFailed, reason)
    }

    /// The same as the answer to `request`, with its names.
    #[must_use]
    pub fn answering(self, request: &Request) -> Self {
        let method = Some(request.command.method().to_owned());
        Self { method, req_id: request.req_id.clone(), ..self }
    }

    /// A refusal of nothing yet; see [`Self::answering`].
    #[must_use]
    pub const fn new(code: ErrorCode, message: String) -> Self {
        Self { method: None, req_id: None, code, message }
    }
}
