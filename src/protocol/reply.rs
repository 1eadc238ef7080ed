//! What the server says about itself and about requests: the JSON text of control messages.
//!
//! Every function appends one message's payload. Not here: frames around it (`ws`) and events
//! ([`super::data`]). Invariant: the text is one JSON object, whatever the strings in it hold.

use std::sync::Arc;

use super::channel::Pattern;
use super::command::ReqId;
use super::json::{write_i64, write_string, write_u64};
use super::refusal::{ErrorCode, Refusal};
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
    /// What came of the place that the client wanted to go on from; none: it named none.
    pub resumed: Option<Resumed>,
    /// The terms of a part of the pattern, where the operator has other rules for it.
    pub except: Vec<(Pattern, Terms)>,
    /// Channels that exist now and match, for a client that reads their ids.
    pub ids: Option<ChannelIds>,
}

/// Channels with the ids that stand for them in binary messages.
pub type ChannelIds = Vec<(Arc<str>, u32)>;

/// Whether a client goes on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// Everything after its place follows.
    Whole,
    /// Its place is not in the log, for this reason.
    Not(Cause),
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
    /// The client wanted to go on from a place of another epoch.
    Epoch,
    /// The client wanted to go on from a place that the log has overwritten.
    TooOld,
    /// The client wanted to go on from a place that this server has not come to.
    Ahead,
    /// The server does not keep the value any more.
    Forgotten,
    /// The stream that the events come from has them no longer.
    Expired,
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
            Self::Epoch => "epoch",
            Self::TooOld => "too_old",
            Self::Ahead => "ahead",
            Self::Forgotten => "forgotten",
            Self::Expired => "expired",
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
    /// Events on these channels in the range that will never come; none: nobody knows how many.
    pub missed: Option<u64>,
    /// Why.
    pub cause: Cause,
}

impl Gap<'_> {
    /// What the client may do about it: `resume` while the log has the range, `snapshot` for the
    /// newest values, `none` where those follow anyway.
    #[must_use]
    pub const fn recover(&self) -> &'static str {
        match self.cause {
            Cause::MaxAge | Cause::MaxLagBytes => "resume",
            Cause::Slow => "snapshot",
            _ => "none",
        }
    }
}

/// The request that a recovery is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The patterns of it that were taken.
    pub channels: Box<[Box<str>]>,
    /// Its `req_id`.
    pub req_id: Option<ReqId>,
}

/// What a client gets at the start of a subscription, before live events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The values that still count.
    Snapshot,
    /// Everything after the client's place.
    Replay,
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

/// Appends the end of a connection that has no close frame, with its code and words.
pub fn closed(out: &mut Vec<u8>, code: u16, reason: &str) {
    number(out, r#"{"channel":"control","type":"closed","code":"#, code.into());
    literal(out, r#","reason":"#);
    write_string(out, reason);
    literal(out, "}");
}

/// Appends the ids of channels that have appeared since the client was told of others.
pub fn channels(out: &mut Vec<u8>, new: &ChannelIds) {
    literal(out, r#"{"channel":"control","type":"channels""#);
    ids(out, new);
    literal(out, "}");
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
    if let Some(missed) = gap.missed {
        number(out, r#","missed":"#, missed);
    }
    literal(out, r#","cause":"#);
    write_string(out, gap.cause.as_str());
    literal(out, r#","recover":"#);
    write_string(out, gap.recover());
    literal(out, "}");
}

/// Appends the notice that what follows up to `seq` is no live event of these patterns.
pub fn recovery_begin(out: &mut Vec<u8>, recovery: Recovery, asked: &Asked, seq: u64) {
    let kind = match recovery {
        Recovery::Snapshot => "snapshot_begin",
        Recovery::Replay => "replay_begin",
    };
    notice(out, kind, asked, seq);
}

/// Appends the notice that of these patterns everything up to `seq` is there.
pub fn recovery_end(out: &mut Vec<u8>, recovery: Recovery, asked: &Asked, seq: u64) {
    let kind = match recovery {
        Recovery::Snapshot => "snapshot_end",
        Recovery::Replay => "replay_end",
    };
    notice(out, kind, asked, seq);
}

fn notice(out: &mut Vec<u8>, kind: &str, asked: &Asked, seq: u64) {
    literal(out, r#"{"channel":"control","type":"#);
    write_string(out, kind);
    literal(out, r#","channels":["#);
    separated(out, &asked.channels, |out, channel| write_string(out, channel));
    number(out, r#"],"seq":"#, seq);
    echo(out, asked.req_id.as_ref());
    literal(out, "}");
}

/// The answer to `verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'a> {
    /// The channel.
    pub channel: &'a str,
    /// `seq` of its newest event.
    pub seq: u64,
    /// Values in its state.
    pub values: u64,
    /// The hash of its state.
    pub hash: u32,
}

/// Appends the answer to `verify`.
pub fn verified(
    out: &mut Vec<u8>,
    req_id: Option<&ReqId>,
    verified: &Verified<'_>,
    time_in: u64,
    time_out: u64,
) {
    head(out, Some("verify"), true, req_id);
    literal(out, r#","result":{"channel":"#);
    write_string(out, verified.channel);
    number(out, r#","seq":"#, verified.seq);
    number(out, r#","values":"#, verified.values);
    literal(out, &format!(r#","hash":"{:08x}"}}"#, verified.hash));
    times(out, time_in, time_out);
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
pub(super) fn head(out: &mut Vec<u8>, method: Option<&str>, success: bool, req_id: Option<&ReqId>) {
    literal(out, "{");
    if let Some(method) = method {
        literal(out, r#""method":"#);
        write_string(out, method);
        literal(out, ",");
    }
    literal(out, if success { r#""success":true"# } else { r#""success":false"# });
    echo(out, req_id);
}

fn echo(out: &mut Vec<u8>, req_id: Option<&ReqId>) {
    let Some(req_id) = req_id else { return };
    literal(out, r#","req_id":"#);
    match req_id {
        ReqId::Number(number) => write_i64(out, *number),
        ReqId::Text(text) => write_string(out, text),
    }
}

pub(super) fn times(out: &mut Vec<u8>, time_in: u64, time_out: u64) {
    number(out, r#","time_in":"#, time_in);
    number(out, r#","time_out":"#, time_out);
    literal(out, "}");
}

fn effective(out: &mut Vec<u8>, effective: &Effective) {
    terms(out, &effective.terms);
    number(out, r#","seq":"#, effective.seq);
    number(out, r#","matched":"#, effective.matched);
    match effective.resumed {
        None => {}
        Some(Resumed::Whole) => literal(out, r#","resumed":true"#),
        Some(Resumed::Not(cause)) => {
            literal(out, r#","resumed":false,"why":"#);
            write_string(out, cause.as_str());
        }
    }
    if let Some(known) = &effective.ids {
        ids(out, known);
    }
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

fn ids(out: &mut Vec<u8>, ids: &ChannelIds) {
    literal(out, r#","ids":{"#);
    separated(out, ids, |out, (name, id)| {
        write_string(out, name);
        number(out, ":", u64::from(*id));
    });
    literal(out, "}");
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

pub(super) fn separated<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            literal(out, ",");
        }
        write(out, item);
    }
}

pub(super) fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    literal(out, name);
    write_u64(out, value);
}

pub(super) fn literal(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
