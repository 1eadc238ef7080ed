//! What a client asks for: one JSON object in one text message.
//!
//! Nothing is silently ignored: a field that this server does not know or does not carry out is
//! refused by name. Not here: whether a channel name is valid (that is said for each channel in
//! the reply) and carrying a command out (`fanout`). Invariant: a refusal carries the request's
//! `req_id` whenever one can be found.

use std::fmt;
use std::ops::RangeInclusive;

use simd_json::borrowed::{Object, Value};
use simd_json::prelude::*;

use super::policy::Policy;
use super::terms::{Interval, Wish};
use crate::limits::{
    AGE_LIMIT_MS_MAX, AGE_LIMIT_MS_MIN, CREDENTIAL_BYTES_MAX, ECHO_BYTES_MAX, LAG_BYTES_LIMIT_MIN,
    REQ_ID_BYTES_MAX, SUBSCRIPTIONS_MAX,
};

/// The number or text that a client gave its request; replies repeat it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReqId {
    /// Any integer of 64 bits with sign.
    Number(i64),
    /// At most [`REQ_ID_BYTES_MAX`] bytes.
    Text(Box<str>),
}

/// A command with the name of its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `req_id`, or its alias `id`.
    pub req_id: Option<ReqId>,
    /// What to do.
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Adds patterns to the connection's subscription set.
    Subscribe {
        /// Patterns as they were written, 1 to [`SUBSCRIPTIONS_MAX`], not checked yet.
        channels: Vec<String>,
        /// The terms asked for, for all of them.
        wish: Wish,
    },
    /// Takes patterns out of the set.
    Unsubscribe {
        /// Patterns as they were written, 1 to [`SUBSCRIPTIONS_MAX`], not checked yet.
        channels: Vec<String>,
    },
    /// Asks for the subscription set.
    List,
    /// Asks for a sign of life and the server's time.
    Ping,
    /// Shows a credential, or a newer one.
    Auth {
        /// A key or a token, as it was written.
        token: Secret,
    },
}

/// A text that no `Debug` output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Box<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

impl Command {
    /// The method on the wire.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Subscribe { .. } => "subscribe",
            Self::Unsubscribe { .. } => "unsubscribe",
            Self::List => "list",
            Self::Ping => "ping",
            Self::Auth { .. } => "auth",
        }
    }

    /// Whether it is carried out for a client that has yet to show a credential.
    #[must_use]
    pub const fn is_for_strangers(&self) -> bool {
        matches!(self, Self::Ping | Self::Auth { .. })
    }

    /// The patterns that it names.
    #[must_use]
    pub fn channels(&self) -> &[String] {
        match self {
            Self::Subscribe { channels, .. } | Self::Unsubscribe { channels } => channels,
            Self::List | Self::Ping | Self::Auth { .. } => &[],
        }
    }
}

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
    /// A parameter of the protocol that this server does not carry out.
    ParamUnsupported,
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
            Self::ParamUnsupported => "param_unsupported",
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
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self, Self::TooManySubscriptions | Self::TooManyPolicies | Self::RateLimited)
    }
}

/// Why a request is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Refusal {
    /// The request's `method`, cut to [`ECHO_BYTES_MAX`] bytes.
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

    const fn new(code: ErrorCode, message: String) -> Self {
        Self { method: None, req_id: None, code, message }
    }
}

/// A refusal before the request's names are known to it.
struct Fault(ErrorCode, String);

/// Reads a request. `scratch` is the parser's working copy, kept by the caller for its capacity.
///
/// # Errors
/// What to answer instead of doing something; the connection goes on.
pub fn parse(text: &str, scratch: &mut Vec<u8>) -> Result<Request, Refusal> {
    scratch.clear();
    scratch.extend_from_slice(text.as_bytes());
    let value = simd_json::to_borrowed_value(scratch).map_err(|error| malformed(&error))?;
    let Value::Object(object) = &value else {
        let message = format!("a request must be a JSON object, found {}", type_of(&value));
        return Err(Refusal::new(ErrorCode::RequestInvalid, message));
    };
    let (req_id, fault) = match req_id(object) {
        Ok(req_id) => (req_id, None),
        Err(fault) => (None, Some(fault)),
    };
    match fault.map_or_else(|| command(object), Err) {
        Ok(command) => Ok(Request { req_id, command }),
        Err(Fault(code, message)) => {
            let method = object.get("method").and_then(ValueAsScalar::as_str);
            Err(Refusal { method: method.map(|method| cut(method).into()), req_id, code, message })
        }
    }
}

fn malformed(error: &simd_json::Error) -> Refusal {
    let found =
        error.character().map(|c| format!("; it goes wrong near byte {} ({c:?})", error.index()));
    let message = format!("this is not valid JSON{}", found.unwrap_or_default());
    Refusal::new(ErrorCode::JsonMalformed, message)
}

fn req_id(object: &Object<'_>) -> Result<Option<ReqId>, Fault> {
    let fault = |found: String| {
        let message = format!(
            "field 'req_id' must be an integer of 64 bits or a string of at most \
             {REQ_ID_BYTES_MAX} bytes, found {found}"
        );
        Err(Fault(ErrorCode::ReqIdInvalid, message))
    };
    let Some(value) = present(object, "req_id").or_else(|| present(object, "id")) else {
        return Ok(None);
    };
    match (value.as_i64(), value.as_str()) {
        (Some(number), _) => Ok(Some(ReqId::Number(number))),
        (_, Some(text)) if text.len() <= REQ_ID_BYTES_MAX => Ok(Some(ReqId::Text(text.into()))),
        (_, Some(text)) => fault(format!("{} bytes", text.len())),
        _ => fault(type_of(value).into()),
    }
}

fn command(object: &Object<'_>) -> Result<Command, Fault> {
    let method = match object.get("method") {
        None => {
            let message = "field 'method' is missing; the methods are subscribe, unsubscribe, \
                           list, ping, auth";
            return Err(Fault(ErrorCode::MethodMissing, message.into()));
        }
        Some(Value::String(method)) => method,
        Some(other) => return Err(wrong_type("method", "a string", other)),
    };
    only_fields(object, "a request", &["method", "params", "req_id", "id"], &[])?;
    let params = match present(object, "params") {
        None => &Object::default(),
        Some(Value::Object(params)) => &**params,
        Some(other) => return Err(wrong_type("params", "an object", other)),
    };
    match method.as_ref() {
        "subscribe" => subscribe(params),
        "unsubscribe" => {
            only_fields(params, "unsubscribe", &["channels"], &[])?;
            Ok(Command::Unsubscribe { channels: channels(params)? })
        }
        "list" => only_fields(params, "list", &[], &[]).map(|()| Command::List),
        "auth" => {
            only_fields(params, "auth", &["token"], &[])?;
            Ok(Command::Auth { token: token(params)? })
        }
        "ping" => only_fields(params, "ping", &[], &[]).map(|()| Command::Ping),
        unknown => {
            let message = format!(
                "there is no method '{}'; the methods are subscribe, unsubscribe, list, ping, auth",
                cut(unknown)
            );
            Err(Fault(ErrorCode::MethodUnknown, message))
        }
    }
}

/// `token`: a key or a token; what is wrong with it is said without it.
fn token(params: &Object<'_>) -> Result<Secret, Fault> {
    match present(params, "token") {
        Some(Value::String(token)) if token.len() <= CREDENTIAL_BYTES_MAX => {
            Ok(Secret((&**token).into()))
        }
        Some(Value::String(token)) => {
            let message = format!(
                "parameter 'token' has {} bytes; at most {CREDENTIAL_BYTES_MAX} are taken",
                token.len()
            );
            Err(Fault(ErrorCode::ParamInvalid, message))
        }
        Some(other) => Err(wrong_type("token", "a string", other)),
        None => {
            let message = "parameter 'token' is missing; it is a key or a JSON Web Token";
            Err(Fault(ErrorCode::ParamMissing, message.into()))
        }
    }
}

fn subscribe(params: &Object<'_>) -> Result<Command, Fault> {
    const KNOWN: [&str; 6] =
        ["channels", "policy", "max_age_ms", "max_lag_bytes", "interval_ms", "snapshot"];
    const LATER: [&str; 1] = ["resume"];
    only_fields(params, "subscribe", &KNOWN, &LATER)?;
    for name in LATER {
        if present(params, name).is_some() {
            return Err(unsupported(name));
        }
    }
    match present(params, "snapshot") {
        None => {}
        Some(value) => match value.as_bool() {
            Some(false) => {}
            Some(true) => return Err(unsupported("snapshot")),
            None => return Err(wrong_type("snapshot", "a boolean", value)),
        },
    }
    let wish = wish(params)?;
    Ok(Command::Subscribe { channels: channels(params)?, wish })
}

/// `policy`, `max_age_ms`, `max_lag_bytes` and `interval_ms`, each of which may be left out.
fn wish(params: &Object<'_>) -> Result<Wish, Fault> {
    let policy = match present(params, "policy") {
        None => None,
        Some(Value::String(word)) => Some(Policy::parse(word).map_err(|error| {
            let message = format!("parameter 'policy' is '{}': {error}", cut(word));
            Fault(ErrorCode::ParamInvalid, message)
        })?),
        Some(other) => return Err(wrong_type("policy", "a string", other)),
    };
    let max_age_ms = number(
        params,
        "max_age_ms",
        || format!("milliseconds from {AGE_LIMIT_MS_MIN} to {AGE_LIMIT_MS_MAX}"),
        |ms| u32::try_from(ms).ok().filter(|ms| AGE_LIMITS_MS.contains(ms)),
    )?;
    let max_lag_bytes = number(
        params,
        "max_lag_bytes",
        || format!("bytes, {LAG_BYTES_LIMIT_MIN} or more"),
        |bytes| Some(bytes).filter(|&bytes| bytes >= LAG_BYTES_LIMIT_MIN),
    )?;
    let interval = number(
        params,
        "interval_ms",
        || {
            let [first, second, third] = Interval::ALL.map(Interval::ms);
            format!("{first}, {second} or {third} milliseconds")
        },
        Interval::from_ms,
    )?;
    match policy {
        Some(policy) if interval.is_some() && !policy.conflates() => {
            let message = format!(
                "parameter 'interval_ms' skips events, which policy '{}' does not; use auto or \
                 latest, or leave interval_ms out",
                policy.as_str()
            );
            Err(Fault(ErrorCode::ParamInvalid, message))
        }
        _ => Ok(Wish { policy, max_age_ms, max_lag_bytes, interval }),
    }
}

const AGE_LIMITS_MS: RangeInclusive<u32> = AGE_LIMIT_MS_MIN..=AGE_LIMIT_MS_MAX;

/// A whole number that `take` accepts; `allowed` says in words which those are.
fn number<T>(
    params: &Object<'_>,
    name: &str,
    allowed: impl Fn() -> String,
    take: impl Fn(u64) -> Option<T>,
) -> Result<Option<T>, Fault> {
    let Some(value) = present(params, name) else { return Ok(None) };
    if let Some(taken) = value.as_u64().and_then(take) {
        return Ok(Some(taken));
    }
    let found = match value {
        Value::Static(StaticNode::Bool(_)) => type_of(value).to_owned(),
        Value::Static(number) => cut(&number.to_string()).to_owned(),
        other => type_of(other).to_owned(),
    };
    let message = format!(
        "parameter '{name}' must be a whole number ({}), found {found}; or leave it out",
        allowed()
    );
    Err(Fault(ErrorCode::ParamInvalid, message))
}

/// `channels`: an array of strings, or one string.
fn channels(params: &Object<'_>) -> Result<Vec<String>, Fault> {
    let list = match present(params, "channels") {
        None => {
            let message = "parameter 'channels' is missing; it names what to subscribe to or \
                           unsubscribe from, as in {\"channels\":[\"trade.*\"]}";
            return Err(Fault(ErrorCode::ParamMissing, message.into()));
        }
        Some(Value::String(one)) => return Ok(vec![one.to_string()]),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(wrong_type("channels", "an array of strings or one string", other));
        }
    };
    if list.is_empty() {
        let message = "parameter 'channels' is empty; name at least one channel or pattern";
        return Err(Fault(ErrorCode::ChannelsEmpty, message.into()));
    }
    if list.len() > SUBSCRIPTIONS_MAX {
        let message = format!(
            "parameter 'channels' has {} entries; at most {SUBSCRIPTIONS_MAX} are allowed, and \
             patterns such as 'trade.*' or '>' name many channels at once",
            list.len()
        );
        return Err(Fault(ErrorCode::ChannelsTooMany, message));
    }
    let name = |(at, value): (usize, &Value<'_>)| match value {
        Value::String(name) => Ok(name.to_string()),
        other => Err(wrong_type(&format!("channels[{at}]"), "a string", other)),
    };
    list.iter().enumerate().map(name).collect()
}

/// A field that is there and not null; null means that it was not given.
fn present<'a, 'value>(object: &'a Object<'value>, name: &str) -> Option<&'a Value<'value>> {
    object.get(name).filter(|value| !value.is_null())
}

/// Refuses fields that are neither `known` nor for `later`; only the known ones are proposed.
fn only_fields(
    object: &Object<'_>,
    owner: &str,
    known: &[&str],
    later: &[&str],
) -> Result<(), Fault> {
    match object.keys().find(|name| !known.iter().chain(later).any(|other| *other == &***name)) {
        None => Ok(()),
        Some(name) => {
            let allowed = if known.is_empty() { "no fields".into() } else { known.join(", ") };
            let message = format!("{owner} has no field '{}'; it takes {allowed}", cut(name));
            Err(Fault(ErrorCode::ParamUnknown, message))
        }
    }
}

fn unsupported(name: &str) -> Fault {
    let message = format!("parameter '{name}' is not supported by this server yet; leave it out");
    Fault(ErrorCode::ParamUnsupported, message)
}

fn wrong_type(field: &str, expected: &str, found: &Value<'_>) -> Fault {
    let message = format!("field '{field}' must be {expected}, found {}", type_of(found));
    Fault(ErrorCode::ParamInvalid, message)
}

fn type_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Static(StaticNode::Null) => "null",
        Value::Static(StaticNode::Bool(_)) => "a boolean",
        Value::Static(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(ECHO_BYTES_MAX)]
}

#[cfg(test)]
mod tests;
