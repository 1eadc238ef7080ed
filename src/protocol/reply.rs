//! What the server says about itself and about requests: the JSON text of control messages.
//!
//! Every function appends one message's payload. Not here: frames around it (`ws`) and events
//! ([`super::data`]). Invariant: the text is one JSON object, whatever the strings in it hold.

use super::channel::Pattern;
use super::command::{ErrorCode, Refusal, ReqId};
use super::json::{write_i64, write_string, write_u64};
use super::terms::{Interval, Terms};

/// The first message of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Welcome<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The life of the total order that `seq` belongs to.
    pub epoch: &'a str,
    /// The last `seq` given out.
    pub seq: u64,
    /// Milliseconds of quiet after which a heartbeat comes.
    pub heartbeat_ms: u64,
    /// Bytes of one message from the client at most.
    pub message_bytes_max: usize,
    /// Patterns in the connection's subscription set at most.
    pub subscriptions_max: usize,
    /// Messages from the client in a second, once the burst is used up.
    pub command_rate: u32,
    /// Messages from the client at once.
    pub command_burst: u32,
    /// Milliseconds without a byte from the client after which it is pinged; 0: never.
    pub ping_ms: u64,
    /// Milliseconds that it then has to send something.
    pub pong_ms: u64,
    /// Milliseconds that it may be without a subscription; 0: for ever.
    pub idle_ms: u64,
    /// Milliseconds that it has to show a credential; none: it has shown one, or needs none.
    pub auth_ms: Option<u64>,
    /// When its credential ends, nanoseconds since the Unix epoch.
    pub expires_ns: Option<u64>,
}

/// What a subscription came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The terms in effect.
    pub terms: Terms,
    /// The boundary: the change holds for every event after it.
    pub seq: u64,
    /// Channels that exist now and match.
    pub matched: u64,
    /// The terms of a part of the pattern, where the operator has other rules for it.
    pub except: Vec<(Pattern, Terms)>,
}

/// The outcome for one of a request's channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelResult<'a> {
    /// The pattern as the client wrote it.
    pub channel: &'a str,
    /// Done, or why not.
    pub outcome: Result<Effective, (ErrorCode, String)>,
}

/// Why events were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The client read too slowly and the log went on without it.
    Slow,
    /// Something had waited to be sent for longer than the subscription's `max_age_ms`.
    MaxAge,
    /// More waited to be sent than the subscription's `max_lag_bytes`.
    MaxLagBytes,
    /// The client's credential allows it no longer.
    Forbidden,
    /// A newer snapshot of the book has come, and the subscription set was changed before it was
    /// sent.
    Snapshot,
}

impl Cause {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::MaxAge => "max_age",
            Self::MaxLagBytes => "max_lag_bytes",
            Self::Forbidden => "forbidden",
            Self::Snapshot => "snapshot",
        }
    }
}

/// A loss receipt.
#[derive(Debug, Clone, Copy)]
pub struct Gap<'a> {
    /// Channels, or patterns when there are too many channels, that lost something.
    pub channels: &'a [&'a str],
    /// First `seq` of the range that was skipped.
    pub from: u64,
    /// Last `seq` of the range that was skipped.
    pub to: u64,
    /// Events on these channels in the range that will never come.
    pub missed: u64,
    /// Why.
    pub cause: Cause,
    /// What the client may do about it.
    pub recover: &'a str,
}

/// The end of subscriptions by the server, as policy `unsubscribe` has it.
#[derive(Debug, Clone, Copy)]
pub struct Dropped<'a> {
    /// The client's patterns that are held no more.
    pub channels: &'a [&'a str],
    /// Nothing of them after this `seq` will come.
    pub seq: u64,
    /// The limit that was passed.
    pub cause: Cause,
}

/// Appends the `welcome` message.
pub fn welcome(out: &mut Vec<u8>, welcome: &Welcome<'_>) {
    literal(out, r#"{"channel":"control","type":"welcome","v":1,"node":"#);
    write_string(out, welcome.node);
    literal(out, r#","epoch":"#);
    write_string(out, welcome.epoch);
    number(out, r#","seq":"#, welcome.seq);
    number(out, r#","limits":{"message_bytes_max":"#, welcome.message_bytes_max as u64);
    number(out, r#","subscriptions_max":"#, welcome.subscriptions_max as u64);
    number(out, r#","command_rate":"#, welcome.command_rate.into());
    number(out, r#","command_burst":"#, welcome.command_burst.into());
    number(out, r#","ping_ms":"#, welcome.ping_ms);
    number(out, r#","pong_ms":"#, welcome.pong_ms);
    number(out, r#","idle_ms":"#, welcome.idle_ms);
    number(out, r#"},"heartbeat_ms":"#, welcome.heartbeat_ms);
    if let Some(ms) = welcome.auth_ms {
        number(out, r#","auth_ms":"#, ms);
    }
    if let Some(ns) = welcome.expires_ns {
        number(out, r#","expires":"#, ns);
    }
    literal(out, "}");
}

/// Appends the answer to `subscribe`. The good channels are subscribed even if others failed;
/// `success` says whether all were good. Times are nanoseconds since the Unix epoch.
pub fn subscribed(
    out: &mut Vec<u8>,
    req_id: Option<&ReqId>,
    results: &[ChannelResult<'_>],
    time_in: u64,
    time_out: u64,
) {
    channel_results(out, "subscribe", req_id, results, effective);
    times(out, time_in, time_out);
}

/// Appends the answer to `unsubscribe`, with the same rule for failures.
pub fn unsubscribed(
    out: &mut Vec<u8>,
    req_id: Option<&ReqId>,
    results: &[ChannelResult<'_>],
    time_in: u64,
    time_out: u64,
) {
    let boundary = |out: &mut Vec<u8>, done: &Effective| number(out, r#","seq":"#, done.seq);
    channel_results(out, "unsubscribe", req_id, results, boundary);
    times(out, time_in, time_out);
}

/// Appends the answer to `list`: the subscription set.
pub fn listed(
    out: &mut Vec<u8>,
    req_id: Option<&ReqId>,
    subscriptions: &[(&str, Effective)],
    time_in: u64,
    time_out: u64,
) {
    head(out, Some("list"), true, req_id);
    literal(out, r#","result":["#);
    separated(out, subscriptions, |out, (channel, subscription)| {
        literal(out, r#"{"channel":"#);
        write_string(out, channel);
        effective(out, subscription);
        literal(out, "}");
    });
    literal(out, "]");
    times(out, time_in, time_out);
}

/// Appends the answer to `ping`.
pub fn pong(out: &mut Vec<u8>, req_id: Option<&ReqId>, time_in: u64, time_out: u64) {
    head(out, Some("pong"), true, req_id);
    times(out, time_in, time_out);
}

/// Appends the answer to `auth`; `expires_ns` is when the credential ends, nanoseconds since the
/// Unix epoch.
pub fn authenticated(
    out: &mut Vec<u8>,
    req_id: Option<&ReqId>,
    expires_ns: Option<u64>,
    time_in: u64,
    time_out: u64,
) {
    head(out, Some("auth"), true, req_id);
    if let Some(ns) = expires_ns {
        number(out, r#","result":{"expires":"#, ns);
        literal(out, "}");
    }
    times(out, time_in, time_out);
}

/// Appends the warning that the credential ends in `ms` milliseconds.
pub fn expiring(out: &mut Vec<u8>, ms: u64) {
    number(out, r#"{"channel":"control","type":"auth_expiring","expires_in_ms":"#, ms);
    literal(out, "}");
}

/// Appends the notice that the server drains: this connection is closed in `deadline_ms`
/// milliseconds at the latest, and shall be made anew after `retry_after_ms`, at one of `to` if
/// there are any.
pub fn drain(out: &mut Vec<u8>, deadline_ms: u64, retry_after_ms: u64, to: &[Box<str>]) {
    number(out, r#"{"channel":"control","type":"drain","deadline_ms":"#, deadline_ms);
    number(out, r#","retry_after_ms":"#, retry_after_ms);
    literal(out, r#","to":["#);
    separated(out, to, |out, address| write_string(out, address));
    literal(out, "]}");
}

/// Appends the answer to a request that was refused as a whole.
pub fn refused(out: &mut Vec<u8>, refusal: &Refusal, time_in: u64, time_out: u64) {
    head(out, refusal.method.as_deref(), false, refusal.req_id.as_ref());
    error(out, refusal.code, &refusal.message);
    times(out, time_in, time_out);
}

/// Appends a heartbeat: everything subscribed to up to `seq` was sent, superseded or receipted.
pub fn heartbeat(out: &mut Vec<u8>, seq: u64) {
    number(out, r#"{"channel":"control","type":"heartbeat","seq":"#, seq);
    literal(out, "}");
}

/// Appends a loss receipt.
pub fn gap(out: &mut Vec<u8>, gap: &Gap<'_>) {
    literal(out, r#"{"channel":"control","type":"gap","channels":["#);
    separated(out, gap.channels, |out, channel| write_string(out, channel));
    number(out, r#"],"from":"#, gap.from);
    number(out, r#","to":"#, gap.to);
    number(out, r#","missed":"#, gap.missed);
    literal(out, r#","cause":"#);
    write_string(out, gap.cause.as_str());
    literal(out, r#","recover":"#);
    write_string(out, gap.recover);
    literal(out, "}");
}

/// Appends the notice that the server ended subscriptions, of type `unsubscribed`.
pub fn dropped(out: &mut Vec<u8>, dropped: &Dropped<'_>) {
    literal(out, r#"{"channel":"control","type":"unsubscribed","channels":["#);
    separated(out, dropped.channels, |out, channel| write_string(out, channel));
    number(out, r#"],"seq":"#, dropped.seq);
    literal(out, r#","cause":"#);
    write_string(out, dropped.cause.as_str());
    literal(out, "}");
}

/// Appends the notice that after `seq` the client's conflating subscriptions are sampled at
/// `interval` at least; none: as agreed.
pub fn tier(out: &mut Vec<u8>, interval: Option<Interval>, seq: u64) {
    literal(out, r#"{"channel":"control","type":"tier""#);
    number(out, r#","interval_ms":"#, interval.map_or(0, Interval::ms));
    number(out, r#","seq":"#, seq);
    literal(out, "}");
}

fn channel_results(
    out: &mut Vec<u8>,
    method: &str,
    req_id: Option<&ReqId>,
    results: &[ChannelResult<'_>],
    done: impl Fn(&mut Vec<u8>, &Effective),
) {
    let failed = results.iter().find_map(|result| result.outcome.as_ref().err());
    head(out, Some(method), failed.is_none(), req_id);
    if let Some((code, message)) = failed {
        error(out, *code, message);
    }
    literal(out, r#","result":["#);
    separated(out, results, |out, result| {
        literal(out, r#"{"channel":"#);
        write_string(out, result.channel);
        match &result.outcome {
            Ok(effective) => done(out, effective),
            Err((code, message)) => error(out, *code, message),
        }
        literal(out, "}");
    });
    literal(out, "]");
}

/// Opens a reply; [`times`] ends it.
fn head(out: &mut Vec<u8>, method: Option<&str>, success: bool, req_id: Option<&ReqId>) {
    literal(out, "{");
    if let Some(method) = method {
        literal(out, r#""method":"#);
        write_string(out, method);
        literal(out, ",");
    }
    literal(out, if success { r#""success":true"# } else { r#""success":false"# });
    if let Some(req_id) = req_id {
        literal(out, r#","req_id":"#);
        match req_id {
            ReqId::Number(number) => write_i64(out, *number),
            ReqId::Text(text) => write_string(out, text),
        }
    }
}

fn times(out: &mut Vec<u8>, time_in: u64, time_out: u64) {
    number(out, r#","time_in":"#, time_in);
    number(out, r#","time_out":"#, time_out);
    literal(out, "}");
}

fn effective(out: &mut Vec<u8>, effective: &Effective) {
    terms(out, &effective.terms);
    number(out, r#","seq":"#, effective.seq);
    number(out, r#","matched":"#, effective.matched);
    if effective.except.is_empty() {
        return;
    }
    literal(out, r#","except":["#);
    separated(out, &effective.except, |out, (pattern, part)| {
        literal(out, r#"{"channel":"#);
        write_string(out, pattern.as_str());
        terms(out, part);
        literal(out, "}");
    });
    literal(out, "]");
}

/// The policy, and of the rest what is in force.
fn terms(out: &mut Vec<u8>, terms: &Terms) {
    literal(out, r#","policy":"#);
    write_string(out, terms.policy.as_str());
    if let Some(ms) = terms.max_age_ms {
        number(out, r#","max_age_ms":"#, ms.into());
    }
    if let Some(bytes) = terms.max_lag_bytes {
        number(out, r#","max_lag_bytes":"#, bytes);
    }
    if let Some(interval) = terms.interval {
        number(out, r#","interval_ms":"#, interval.ms());
    }
}

fn error(out: &mut Vec<u8>, code: ErrorCode, message: &str) {
    literal(out, r#","error":{"code":"#);
    write_string(out, code.as_str());
    literal(out, r#","message":"#);
    write_string(out, message);
    literal(out, r#","retryable":"#);
    literal(out, if code.retryable() { "true}" } else { "false}" });
}

fn separated<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            literal(out, ",");
        }
        write(out, item);
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    literal(out, name);
    write_u64(out, value);
}

fn literal(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::policy::Policy;
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    const GOOD: Effective = Effective { terms: ALL, seq: 1041, matched: 2, except: Vec::new() };
    const ALL: Terms =
        Terms { policy: Policy::All, max_age_ms: None, max_lag_bytes: None, interval: None };

    #[test]
    fn control_messages_have_the_shape_of_the_protocol() {
        let greeting = Welcome {
            node: "a \"quoted\" node",
            epoch: "01J",
            seq: 1040,
            heartbeat_ms: 5_000,
            message_bytes_max: 65_536,
            subscriptions_max: 1_024,
            command_rate: 20,
            command_burst: 100,
            ping_ms: 20_000,
            pong_ms: 10_000,
            idle_ms: 0,
            auth_ms: Some(5_000),
            expires_ns: Some(7),
        };
        assert_eq!(
            written(|out| welcome(out, &greeting)),
            json!({"channel":"control","type":"welcome","v":1,"node":"a \"quoted\" node",
                "epoch":"01J","seq":1040,"heartbeat_ms":5000,"auth_ms":5000,"expires":7,
                "limits":{"message_bytes_max":65536,"subscriptions_max":1024,
                    "command_rate":20,"command_burst":100,
                    "ping_ms":20000,"pong_ms":10000,"idle_ms":0}})
        );
        assert_eq!(
            written(|out| expiring(out, 59_000)),
            json!({"channel":"control","type":"auth_expiring","expires_in_ms":59000})
        );
        assert_eq!(
            written(|out| drain(out, 30_000, 1_830, &["wss://b.example".into()])),
            json!({"channel":"control","type":"drain","deadline_ms":30000,"retry_after_ms":1830,
                "to":["wss://b.example"]})
        );
        assert_eq!(
            written(|out| heartbeat(out, u64::MAX)),
            json!({"channel":"control","type":"heartbeat","seq":u64::MAX})
        );
        let receipt = Gap {
            channels: &["trade.BTCUSDT", "quote.*"],
            from: 1043,
            to: 1090,
            missed: 31,
            cause: Cause::Slow,
            recover: "resume",
        };
        assert_eq!(
            written(|out| gap(out, &receipt)),
            json!({"channel":"control","type":"gap","channels":["trade.BTCUSDT","quote.*"],
                "from":1043,"to":1090,"missed":31,"cause":"slow","recover":"resume"})
        );
    }

    #[test]
    fn a_subscribe_that_is_good_in_full_succeeds() {
        let results = [ChannelResult { channel: "trade.BTCUSDT", outcome: Ok(GOOD) }];
        assert_eq!(
            written(|out| subscribed(out, Some(&ReqId::Number(1)), &results, 5, 6)),
            json!({"method":"subscribe","success":true,"req_id":1,"time_in":5,"time_out":6,
                "result":[{"channel":"trade.BTCUSDT","policy":"all","seq":1041,"matched":2}]})
        );
    }

    #[test]
    fn what_the_server_does_to_a_slow_client_is_said_with_its_cause() {
        let notice = Dropped { channels: &["trade.*"], seq: 1090, cause: Cause::MaxAge };
        assert_eq!(
            written(|out| dropped(out, &notice)),
            json!({"channel":"control","type":"unsubscribed","channels":["trade.*"],"seq":1090,
                "cause":"max_age"})
        );
        for (interval, interval_ms) in [(Some(Interval::Ms100), 100), (None, 0)] {
            assert_eq!(
                written(|out| tier(out, interval, 1090)),
                json!({"channel":"control","type":"tier","interval_ms":interval_ms,"seq":1090})
            );
        }
        assert_eq!(Cause::MaxLagBytes.as_str(), "max_lag_bytes");
    }

    #[test]
    fn terms_show_what_is_in_force_and_where_the_operator_has_others() {
        let terms = Terms {
            policy: Policy::Auto,
            max_age_ms: Some(250),
            max_lag_bytes: Some(1_000_000),
            interval: Some(Interval::Ms100),
        };
        let part = Terms { policy: Policy::Close, max_age_ms: Some(500), ..ALL };
        let except = vec![(Pattern::parse("quote.BTCUSDT").unwrap(), part)];
        let held = Effective { terms, seq: 1041, matched: 3, except };
        let entry = json!({"channel":"quote.*","policy":"auto","max_age_ms":250,
            "max_lag_bytes":1000000,"interval_ms":100,"seq":1041,"matched":3,
            "except":[{"channel":"quote.BTCUSDT","policy":"close","max_age_ms":500}]});
        let result = [ChannelResult { channel: "quote.*", outcome: Ok(held.clone()) }];
        let reply = written(|out| subscribed(out, None, &result, 5, 6));
        assert_eq!(reply["result"], json!([entry]));
        let reply = written(|out| listed(out, None, &[("quote.*", held)], 5, 6));
        assert_eq!(reply["result"], json!([entry]));
    }

    #[test]
    fn a_request_with_one_bad_channel_says_which_and_does_the_rest() {
        let bad = (ErrorCode::ChannelInvalid, "empty token".to_owned());
        let full = (ErrorCode::TooManySubscriptions, "at most 2".to_owned());
        let results = [
            ChannelResult { channel: "a", outcome: Ok(GOOD) },
            ChannelResult { channel: "\"..", outcome: Err(bad) },
            ChannelResult { channel: "b", outcome: Err(full) },
        ];
        let error = json!({"code":"channel_invalid","message":"empty token","retryable":false});
        let full = json!({"code":"too_many_subscriptions","message":"at most 2","retryable":true});
        let id = ReqId::Text("x\n".into());
        assert_eq!(
            written(|out| unsubscribed(out, Some(&id), &results, 5, 6)),
            json!({"method":"unsubscribe","success":false,"req_id":"x\n","error":error,
                "result":[{"channel":"a","seq":1041},{"channel":"\"..","error":error},
                    {"channel":"b","error":full}],
                "time_in":5,"time_out":6})
        );
    }

    #[test]
    fn list_ping_and_refusals_have_the_shape_of_the_protocol() {
        assert_eq!(
            written(|out| listed(out, None, &[("a.*", GOOD), (">", GOOD)], 5, 6)),
            json!({"method":"list","success":true,"time_in":5,"time_out":6,"result":[
                {"channel":"a.*","policy":"all","seq":1041,"matched":2},
                {"channel":">","policy":"all","seq":1041,"matched":2}]})
        );
        assert_eq!(
            written(|out| pong(out, Some(&ReqId::Number(i64::MIN)), 5, 6)),
            json!({"method":"pong","success":true,"req_id":i64::MIN,"time_in":5,"time_out":6})
        );
        let refusal = Refusal::message_not_text();
        assert_eq!(
            written(|out| refused(out, &refusal, 5, 6)),
            json!({"success":false,"time_in":5,"time_out":6,"error":{"code":"message_not_text",
                "message":refusal.message,"retryable":false}})
        );
    }
}
