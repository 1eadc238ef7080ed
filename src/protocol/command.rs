//! What a client asks for: one JSON object in one text message.
//!
//! Nothing is silently ignored: a field that this server does not know or does not carry out is
//! refused by name. Not here: whether a channel name is valid (that is said for each channel in
//! the reply) and carrying a command out (`fanout`). Invariant: a refusal carries the request's
//! `req_id` whenever one can be found.

use simd_json::borrowed::{Object, Value};
use simd_json::prelude::*;

use super::policy::{Policy, PolicyError};
use crate::limits::{ECHO_BYTES_MAX, REQ_ID_BYTES_MAX, SUBSCRIPTIONS_MAX};

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
        /// For all of them; the server's default when absent.
        policy: Option<Policy>,
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
    /// A policy of the protocol that this server does not carry out.
    PolicyUnsupported,
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
            Self::PolicyUnsupported => "policy_unsupported",
            Self::ChannelsEmpty => "channels_empty",
            Self::ChannelsTooMany => "channels_too_many",
            Self::ChannelInvalid => "channel_invalid",
            Self::NotSubscribed => "not_subscribed",
            Self::TooManySubscriptions => "too_many_subscriptions",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self, Self::TooManySubscriptions)
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
                           list, ping";
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
        "ping" => only_fields(params, "ping", &[], &[]).map(|()| Command::Ping),
        unknown => {
            let message = format!(
                "there is no method '{}'; the methods are subscribe, unsubscribe, list, ping",
                cut(unknown)
            );
            Err(Fault(ErrorCode::MethodUnknown, message))
        }
    }
}

fn subscribe(params: &Object<'_>) -> Result<Command, Fault> {
    const LATER: [&str; 3] = ["resume", "max_age_ms", "interval_ms"];
    only_fields(params, "subscribe", &["channels", "policy", "snapshot"], &LATER)?;
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
    let policy = match present(params, "policy") {
        None => None,
        Some(Value::String(word)) => Some(Policy::parse(word).map_err(|error| {
            let code = match error {
                PolicyError::Unsupported => ErrorCode::PolicyUnsupported,
                PolicyError::Unknown => ErrorCode::ParamInvalid,
            };
            Fault(code, format!("parameter 'policy' is '{}': {error}", cut(word)))
        })?),
        Some(other) => return Err(wrong_type("policy", "a string", other)),
    };
    Ok(Command::Subscribe { channels: channels(params)?, policy })
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
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, Refusal> {
        parse(text, &mut Vec::new())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn requests_are_read_as_the_protocol_shows_them() {
        let subscribe =
            |channels: &[&str], policy| Command::Subscribe { channels: names(channels), policy };
        for (text, req_id, command) in [
            (
                r#"{"method":"subscribe","params":{"channels":["trade.BTCUSDT","quote.*"],
                    "policy":"all","snapshot":false},"req_id":1}"#,
                Some(ReqId::Number(1)),
                subscribe(&["trade.BTCUSDT", "quote.*"], Some(Policy::All)),
            ),
            (
                r#"{"id":"a-1","params":{"channels":"\u003e"},"method":"subscribe"}"#,
                Some(ReqId::Text("a-1".into())),
                subscribe(&[">"], None),
            ),
            (
                r#"{"method":"unsubscribe","params":{"channels":["quote.*"]},"req_id":-2}"#,
                Some(ReqId::Number(-2)),
                Command::Unsubscribe { channels: names(&["quote.*"]) },
            ),
            (r#"{"method":"list","req_id":null}"#, None, Command::List),
            (r#" {"method":"ping","params":{}} "#, None, Command::Ping),
        ] {
            assert_eq!(read(text), Ok(Request { req_id, command }), "{text}");
        }
    }

    #[test]
    fn every_mistake_is_refused_by_its_code_and_named_in_the_message() {
        let many = format!(
            r#"{{"method":"subscribe","params":{{"channels":[{}"a"]}},"req_id":7}}"#,
            r#""a","#.repeat(SUBSCRIPTIONS_MAX)
        );
        let subscribe =
            |params: &str| format!(r#"{{"method":"subscribe","params":{params},"req_id":7}}"#);
        for (text, code, named) in [
            (r#"{"req_id":7}"#.into(), "method_missing", "method"),
            (r#"{"method":5,"req_id":7}"#.into(), "param_invalid", "a string, found a number"),
            (r#"{"method":"auth","req_id":7}"#.into(), "method_unknown", "'auth'"),
            (r#"{"method":"ping","req_id":7,"x":1}"#.into(), "param_unknown", "'x'"),
            (r#"{"method":"ping","req_id":7,"params":{"x":1}}"#.into(), "param_unknown", "'x'"),
            (r#"{"method":"subscribe","req_id":7}"#.into(), "param_missing", "channels"),
            (subscribe("[]"), "param_invalid", "'params' must be an object, found an array"),
            (subscribe("{}"), "param_missing", "channels"),
            (subscribe(r#"{"channels":[]}"#), "channels_empty", "channels"),
            (subscribe(r#"{"channels":{}}"#), "param_invalid", "found an object"),
            (subscribe(r#"{"channels":["a",true]}"#), "param_invalid", "channels[1]"),
            (subscribe(r#"{"channels":"a","policy":1}"#), "param_invalid", "'policy'"),
            (subscribe(r#"{"channels":"a","policy":"best"}"#), "param_invalid", "'best'"),
            (subscribe(r#"{"channels":"a","policy":"latest"}"#), "policy_unsupported", "latest"),
            (subscribe(r#"{"channels":"a","snapshot":true}"#), "param_unsupported", "snapshot"),
            (subscribe(r#"{"channels":"a","snapshot":1}"#), "param_invalid", "snapshot"),
            (subscribe(r#"{"channels":"a","resume":{}}"#), "param_unsupported", "resume"),
            (subscribe(r#"{"channels":"a","max_age_ms":1}"#), "param_unsupported", "max_age_ms"),
            (subscribe(r#"{"channels":"a","interval_ms":1}"#), "param_unsupported", "interval_ms"),
            (
                subscribe(r#"{"channels":"a","polcy":"all"}"#),
                "param_unknown",
                "'polcy'; it takes channels, policy, snapshot",
            ),
            (many, "channels_too_many", "1025"),
        ] {
            let refusal = read(&text).unwrap_err();
            assert_eq!(refusal.code.as_str(), code, "{text}: {refusal}");
            assert_eq!(refusal.req_id, Some(ReqId::Number(7)), "{text}");
            assert!(refusal.message.contains(named), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_has_no_usable_req_id_is_refused_without_one() {
        for (text, code, named) in [
            ("".into(), "json_malformed", ""),
            ("subscribe".into(), "json_malformed", "byte 0 ('s')"),
            (r#"{"method":"ping",}"#.into(), "json_malformed", "byte 17 ('}')"),
            (r#"{"method":"ping"} x"#.into(), "json_malformed", "near byte 16"),
            ("[1]".into(), "request_invalid", "found an array"),
            ("3".into(), "request_invalid", "found a number"),
            (r#"{"method":"ping","req_id":1.5}"#.into(), "req_id_invalid", "a number"),
            (r#"{"method":"ping","req_id":{}}"#.into(), "req_id_invalid", "an object"),
            (
                format!(r#"{{"method":"ping","req_id":"{}"}}"#, "x".repeat(65)),
                "req_id_invalid",
                "65 bytes",
            ),
            ("[".repeat(5_000), "json_malformed", ""),
        ] {
            let refusal = read(&text).unwrap_err();
            assert_eq!((refusal.code.as_str(), refusal.req_id), (code, None), "{text}");
            assert!(refusal.message.contains(named), "{text}: {}", refusal.message);
        }
    }

    #[test]
    fn a_refusal_repeats_the_method_cut_between_characters() {
        let refusal = read(r#"{"method":"subscribe","params":1}"#).unwrap_err();
        assert_eq!(refusal.method.as_deref(), Some("subscribe"));
        let long = read(&format!(r#"{{"method":"x{}"}}"#, "é".repeat(100))).unwrap_err();
        assert_eq!(long.method.map(|method| method.len()), Some(ECHO_BYTES_MAX - 1));
    }
}
