//! What the server sends, as far as a subscriber looks at it.
//!
//! Not here: events' data, which is never looked into, and what follows from a frame
//! ([`super::progress`]). Invariant: every frame that the server writes is understood.

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A frame of the server; every field that a kind of frame does not have is absent.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// The channel, `control` for control frames, absent in replies.
    pub channel: Option<&'a str>,
    /// `update`, `snapshot`, `welcome`, `gap`, ….
    #[serde(rename = "type")]
    pub kind: Option<&'a str>,
    /// Position in the total order.
    pub seq: Option<u64>,
    /// The previous `seq` on the channel.
    pub prev: Option<u64>,
    /// The producer's time, nanoseconds since the Unix epoch.
    pub ts: Option<u64>,
    /// The time of ingest, nanoseconds since the Unix epoch.
    pub ts_in: Option<u64>,
    /// The key of last-value data.
    pub key: Option<&'a str>,
    /// The command that a reply answers.
    pub method: Option<&'a str>,
    /// Whether it succeeded.
    pub success: Option<bool>,
    /// Why not; the first reason when there are several.
    pub error: Option<ReplyError<'a>>,
    /// What a command came to.
    pub result: Option<Answer<'a>>,
    /// Channels or patterns that lost something, or that the server ended.
    pub channels: Option<Vec<&'a str>>,
    /// The beginning of what a loss receipt covers.
    pub from: Option<u64>,
    /// Events that a loss receipt covers.
    pub missed: Option<u64>,
    /// Why they were lost, or the subscription was ended.
    pub cause: Option<&'a str>,
    /// The tier that the server moved this client to; 0: what was agreed.
    pub interval_ms: Option<u64>,
    /// What `seq` counts in: another one, another count.
    pub epoch: Option<&'a str>,
    /// Milliseconds of quiet after which a heartbeat comes.
    pub heartbeat_ms: Option<u64>,
    /// Milliseconds until the credential ends.
    pub expires_in_ms: Option<u64>,
    /// Milliseconds until this client shall connect anew.
    pub retry_after_ms: Option<u64>,
    /// The server's clock at a reply, nanoseconds since the Unix epoch.
    pub time_out: Option<u64>,
    /// Channels by name, with the ids that binary messages have of them.
    #[serde(borrow)]
    pub ids: Option<FxHashMap<&'a str, u32>>,
    /// The end of what a receipt covers, or where a server that drains sends its clients.
    pub to: Option<To<'a>>,
}

/// What the field `result` holds; that depends on the command.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Answer<'a> {
    /// The outcome for each pattern of a subscribe command.
    #[serde(borrow)]
    Outcomes(Vec<Outcome<'a>>),
    /// That of another command.
    Other(IgnoredAny),
}

/// What the field `to` holds; that depends on the type.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum To<'a> {
    /// The last `seq` of a range.
    Seq(u64),
    /// Addresses.
    #[serde(borrow)]
    Addresses(Vec<&'a str>),
}

/// What became of one pattern.
#[derive(Debug, Deserialize)]
pub struct Outcome<'a> {
    /// The pattern.
    pub channel: Option<&'a str>,
    /// The policy that was agreed.
    pub policy: Option<&'a str>,
    /// Milliseconds of the sampling that was agreed.
    pub interval_ms: Option<u64>,
    /// Parts of the pattern with other terms.
    pub except: Option<Vec<TermsShown<'a>>>,
    /// The subscription holds for every event after it.
    pub seq: Option<u64>,
    /// Whether everything after the place that was asked for comes.
    pub resumed: Option<bool>,
    /// Why it does not.
    pub why: Option<&'a str>,
    /// Channels that exist now and match.
    pub matched: Option<u64>,
    /// Its channels by name, with the ids that binary messages have of them.
    #[serde(borrow)]
    pub ids: Option<FxHashMap<&'a str, u32>>,
    /// Why it was refused.
    pub error: Option<ReplyError<'a>>,
}

/// What was agreed for a part of a pattern.
#[derive(Debug, Deserialize)]
pub struct TermsShown<'a> {
    /// The part.
    pub channel: Option<&'a str>,
    /// The policy.
    pub policy: Option<&'a str>,
    /// Milliseconds of sampling.
    pub interval_ms: Option<u64>,
}

/// Why a command failed.
#[derive(Debug, Deserialize)]
pub struct ReplyError<'a> {
    /// The documented code.
    pub code: Option<&'a str>,
    /// Words for people.
    pub message: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// Reads a frame's envelope; `scratch` is overwritten.
    #[must_use]
    pub fn parse(scratch: &'a mut [u8]) -> Option<Self> {
        simd_json::serde::from_slice(scratch).ok()
    }

    /// The outcome for each pattern of a subscribe command.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome<'a>> {
        match &self.result {
            Some(Answer::Outcomes(outcomes)) => outcomes.iter(),
            _ => [].iter(),
        }
    }

    /// The addresses to connect to instead, of a server that drains.
    pub fn addresses(&self) -> impl Iterator<Item = &'a str> {
        let named = match &self.to {
            Some(To::Addresses(named)) => named.as_slice(),
            _ => &[],
        };
        named.iter().copied()
    }

    /// The last `seq` that a receipt covers.
    #[must_use]
    pub const fn to_seq(&self) -> Option<u64> {
        match &self.to {
            Some(To::Seq(seq)) => Some(*seq),
            _ => None,
        }
    }

    /// True for events.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.seq.is_some() && self.channel.is_some_and(|channel| channel != "control")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::reply::{self, Cause, Gap, Welcome};

    #[test]
    fn replies_and_control_frames_are_told_from_events() {
        let mut scratch = br#"{"channel":"control","type":"heartbeat","seq":9}"#.to_vec();
        assert!(!Frame::parse(&mut scratch).unwrap().is_data());
        let mut scratch =
            br#"{"method":"subscribe","success":false,"error":{"code":"x","message":"y"}}"#
                .to_vec();
        let frame = Frame::parse(&mut scratch).unwrap();
        assert!(!frame.is_data());
        assert_eq!(frame.error.unwrap().code, Some("x"));
    }

    #[test]
    fn every_control_frame_of_the_server_is_understood() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            out
        };
        let receipt =
            Gap { channels: &["trade.*"], from: 7, to: 9, missed: Some(2), cause: Cause::Slow };
        let mut scratch = written(&|out| reply::gap(out, &receipt));
        let gap = Frame::parse(&mut scratch).unwrap();
        assert_eq!((gap.kind, gap.missed, gap.cause), (Some("gap"), Some(2), Some("slow")));
        assert_eq!(gap.addresses().count(), 0);
        let to = ["wss://a".into(), "wss://b".into()];
        let mut scratch = written(&|out| reply::drain(out, 9, 7, &to));
        let drain = Frame::parse(&mut scratch).unwrap();
        assert_eq!((drain.kind, drain.retry_after_ms), (Some("drain"), Some(7)));
        assert_eq!(drain.addresses().collect::<Vec<_>>(), ["wss://a", "wss://b"]);
        let mut scratch = written(&|out| reply::expiring(out, 5));
        assert_eq!(Frame::parse(&mut scratch).unwrap().expires_in_ms, Some(5));
        let greeting = Welcome {
            node: "n",
            epoch: "01J",
            seq: 4,
            heartbeat_ms: 100,
            message_bytes_max: 1,
            subscriptions_max: 1,
            command_rate: 1,
            command_burst: 1,
            ping_ms: 0,
            pong_ms: 1,
            idle_ms: 0,
            auth_ms: None,
            expires_ns: None,
        };
        let mut scratch = written(&|out| reply::welcome(out, &greeting));
        let welcome = Frame::parse(&mut scratch).unwrap();
        assert_eq!((welcome.epoch, welcome.heartbeat_ms), (Some("01J"), Some(100)));
        let mut scratch = written(&|out| reply::authenticated(out, None, Some(1), 2, 3));
        assert_eq!(Frame::parse(&mut scratch).unwrap().method, Some("auth"));
    }
}
