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
use super::refusal::{ErrorCode, Refusal};
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
        /// Where they begin.
        start: Start,
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
    /// Asks for the hash of a channel's state.
    Verify {
        /// The channel as it was written, not checked yet.
        channel: String,
    },
    /// Asks how this connection is doing.
    Whoami,
    /// Shows a credential, or a newer one.
    Auth {
        /// A key or a token, as it was written.
        token: Secret,
    },
}

/// What comes of new subscriptions before the first live event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The values that still count.
    pub snapshot: bool,
    /// In place of them, what came after this place.
    pub resume: Option<Resume>,
}

impl Start {
    /// The next event.
    pub const LIVE: Self = Self { snapshot: false, resume: None };
}

/// The place up to which a client has everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The life of the total order that `seq` belongs to.
    pub epoch: Box<str>,
    /// The last event that the client has, or knows that it lacks none before.
    pub seq: u64,
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
            Self::Whoami => "whoami",
            Self::Verify { .. } => "verify",
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
            Self::List | Self::Ping | Self::Whoami | Self::Verify { .. } | Self::Auth { .. } => &[],
        }
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
                           list, ping, verify, whoami, auth";
            return Err(Fault(ErrorCode::MethodMissing, message.into()));
        }
        Some(Value::String(method)) => method,
        Some(other) => return Err(wrong_type("method", "a string", other)),
    };
    only_fields(object, "a request", &["method", "params", "req_id", "id"])?;
    let params = match present(object, "params") {
        None => &Object::default(),
        Some(Value::Object(params)) => &**params,
        Some(other) => return Err(wrong_type("params", "an object", other)),
    };
    match method.as_ref() {
        "subscribe" => subscribe(params),
        "unsubscribe" => {
            only_fields(params, "unsubscribe", &["channels"])?;
            Ok(Command::Unsubscribe { channels: channels(params)? })
        }
        "list" => only_fields(params, "list", &[]).map(|()| Command::List),
        "auth" => {
            only_fields(params, "auth", &["token"])?;
            Ok(Command::Auth { token: token(params)? })
        }
        "verify" => {
            only_fields(params, "verify", &["channel"])?;
            Ok(Command::Verify { channel: channel(params)? })
        }
        "ping" => only_fields(params, "ping", &[]).map(|()| Command::Ping),
        "whoami" => only_fields(params, "whoami", &[]).map(|()| Command::Whoami),
        unknown => {
            let message = format!(
                "there is no method '{}'; the methods are subscribe, unsubscribe, list, ping, \
                 verify, whoami, auth",
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
    const KNOWN: [&str; 7] =
        ["channels", "policy", "max_age_ms", "max_lag_bytes", "interval_ms", "snapshot", "resume"];
    only_fields(params, "subscribe", &KNOWN)?;
    let snapshot = match present(params, "snapshot") {
        None => true,
        Some(value) => value.as_bool().ok_or_else(|| wrong_type("snapshot", "a boolean", value))?,
    };
    let start = Start { snapshot, resume: resume(params)? };
    Ok(Command::Subscribe { channels: channels(params)?, wish: wish(params)?, start })
}

/// `resume`: the `epoch` of a welcome and a `seq` of it.
fn resume(params: &Object<'_>) -> Result<Option<Resume>, Fault> {
    let value = match present(params, "resume") {
        None => return Ok(None),
        Some(Value::Object(value)) => &**value,
        Some(other) => {
            return Err(wrong_type(
                "resume",
                "an object such as {\"epoch\":\"…\",\"seq\":7}",
                other,
            ));
        }
    };
    only_fields(value, "resume", &["epoch", "seq"])?;
    let epoch = match present(value, "epoch") {
        Some(Value::String(epoch)) => (&**epoch).into(),
        Some(other) => return Err(wrong_type("resume.epoch", "a string", other)),
        None => return Err(missing("resume.epoch", "the `epoch` of the welcome message")),
    };
    match present(value, "seq").map(|seq| seq.as_u64().ok_or(seq)) {
        Some(Ok(seq)) => Ok(Some(Resume { epoch, seq })),
        Some(Err(other)) => Err(wrong_type("resume.seq", "a whole number, 0 or more", other)),
        None => Err(missing("resume.seq", "the `seq` up to which you have everything")),
    }
}

/// `channel`: one name.
fn channel(params: &Object<'_>) -> Result<String, Fault> {
    match present(params, "channel") {
        Some(Value::String(name)) => Ok(name.to_string()),
        Some(other) => Err(wrong_type("channel", "a string", other)),
        None => Err(missing("channel", "the name of one channel, not a pattern")),
    }
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

/// Refuses fields that are not `known`.
fn only_fields(object: &Object<'_>, owner: &str, known: &[&str]) -> Result<(), Fault> {
    // Of several the first by name: a large object has another order each time.
    match object.keys().filter(|name| !known.contains(&&***name)).min() {
        None => Ok(()),
        Some(name) => {
            let allowed = if known.is_empty() { "no fields".into() } else { known.join(", ") };
            let message = format!("{owner} has no field '{}'; it takes {allowed}", cut(name));
            Err(Fault(ErrorCode::ParamUnknown, message))
        }
    }
}

fn missing(name: &str, what: &str) -> Fault {
    Fault(ErrorCode::ParamMissing, format!("parameter '{name}' is missing; it is {what}"))
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
