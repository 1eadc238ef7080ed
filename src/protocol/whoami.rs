//! The answer to `whoami`: who a client is here, how it is doing, and whether a delay is its own.
//!
//! Not here: how the verdict is reached (`fanout`). Invariant: the text is one JSON object, and a
//! credential is named by its id, never by its secret.

use super::command::ReqId;
use super::json::{write_string, write_u64};
use super::reply::{Cause, head, literal, number, separated, times};

/// What is known of the socket of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Socket {
    /// What the kernel knows of its TCP connection, if it knows.
    pub tcp: Option<Tcp>,
    /// The cipher suite of its TLS, if it has any.
    pub cipher: Option<String>,
}

/// What the kernel knows of a TCP connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Round-trip time, microseconds.
    pub rtt_us: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Bytes in the socket that were not sent yet.
    pub unsent_bytes: u64,
    /// Time in which there was something to send, milliseconds.
    pub busy_ms: u64,
    /// The part of it in which the client's receive window was full.
    pub window_limited_ms: u64,
}

/// Whose a delay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The client's: it reads too slowly, or its network is too slow.
    You,
    /// The feed's: nothing comes in.
    Feed,
    /// Nobody's: the client has everything that came.
    Ok,
}

impl Verdict {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::You => "you",
            Self::Feed => "feed",
            Self::Ok => "ok",
        }
    }
}

/// A receipt that a client was sent.
#[derive(Debug, Clone, Copy)]
pub struct Lost<'a> {
    /// The first of its channels or patterns.
    pub channels: &'a [Box<str>],
    /// How many it names beside them.
    pub more: usize,
    /// First and last `seq` of what was skipped.
    pub range: (u64, u64),
    /// Events that will never come; none: nobody knows.
    pub missed: Option<u64>,
    /// Why.
    pub cause: Cause,
}

/// All that is said.
#[derive(Debug)]
pub struct Whoami<'a> {
    /// Whose a delay is, and a sentence about it.
    pub verdict: (Verdict, &'a str),
    /// The connection's id, as operators know it.
    pub id: &'a str,
    /// What credential it has, without the secret.
    pub identity: &'a str,
    /// The core that serves it.
    pub core: usize,
    /// Patterns of its set, and channels that match them.
    pub set: (usize, usize),
    /// The interval that the server has moved it to, milliseconds.
    pub tier_ms: Option<u64>,
    /// Events and bytes that are still to be sent, and the age of the oldest, milliseconds.
    pub lag: (u64, u64, u64),
    /// Whether its socket is full.
    pub is_blocked: bool,
    /// Receipts that it was sent, and events that they covered.
    pub lost: (u64, u64),
    /// The last of them, oldest first.
    pub last: &'a [Lost<'a>],
    /// Time since the newest event on its channels, milliseconds; none: there is none to be seen.
    pub event_ms: Option<u64>,
    /// Patterns in its set at most.
    pub subscriptions_max: usize,
    /// Messages from it in a second, and at once.
    pub commands: (u32, u32),
    /// What is known of its socket.
    pub socket: &'a Socket,
}

/// Appends the answer.
pub fn write(
    out: &mut Vec<u8>,
    req_id: Option<&ReqId>,
    whoami: &Whoami<'_>,
    time_in: u64,
    time_out: u64,
) {
    head(out, Some("whoami"), true, req_id);
    literal(out, r#","result":{"verdict":"#);
    write_string(out, whoami.verdict.0.as_str());
    text(out, r#","reason":"#, whoami.verdict.1);
    text(out, r#","id":"#, whoami.id);
    text(out, r#","identity":"#, whoami.identity);
    number(out, r#","core":"#, whoami.core as u64);
    number(out, r#","patterns":"#, whoami.set.0 as u64);
    number(out, r#","channels":"#, whoami.set.1 as u64);
    optional(out, r#","tier_ms":"#, whoami.tier_ms);
    number(out, r#","lag":{"events":"#, whoami.lag.0);
    number(out, r#","bytes":"#, whoami.lag.1);
    number(out, r#","ms":"#, whoami.lag.2);
    literal(out, if whoami.is_blocked { r#"},"blocked":true"# } else { r#"},"blocked":false"# });
    number(out, r#","receipts":"#, whoami.lost.0);
    number(out, r#","missed":"#, whoami.lost.1);
    literal(out, r#","last_receipts":["#);
    separated(out, whoami.last, lost);
    optional(out, r#"],"last_event_ms":"#, whoami.event_ms);
    socket(out, whoami.socket);
    number(out, r#","limits":{"subscriptions_max":"#, whoami.subscriptions_max as u64);
    number(out, r#","command_rate":"#, whoami.commands.0.into());
    number(out, r#","command_burst":"#, whoami.commands.1.into());
    literal(out, "}}");
    times(out, time_in, time_out);
}

fn lost(out: &mut Vec<u8>, lost: &Lost<'_>) {
    literal(out, r#"{"channels":["#);
    separated(out, lost.channels, |out, channel| write_string(out, channel));
    number(out, r#"],"more":"#, lost.more as u64);
    number(out, r#","from":"#, lost.range.0);
    number(out, r#","to":"#, lost.range.1);
    optional(out, r#","missed":"#, lost.missed);
    text(out, r#","cause":"#, lost.cause.as_str());
    literal(out, "}");
}

fn socket(out: &mut Vec<u8>, socket: &Socket) {
    match &socket.cipher {
        Some(cipher) => text(out, r#","cipher":"#, cipher),
        None => literal(out, r#","cipher":null"#),
    }
    let Some(tcp) = &socket.tcp else { return literal(out, r#","tcp":null"#) };
    number(out, r#","tcp":{"rtt_us":"#, tcp.rtt_us);
    number(out, r#","retransmits":"#, tcp.retransmits);
    number(out, r#","unsent_bytes":"#, tcp.unsent_bytes);
    number(out, r#","busy_ms":"#, tcp.busy_ms);
    number(out, r#","window_limited_ms":"#, tcp.window_limited_ms);
    literal(out, "}");
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    literal(out, name);
    write_string(out, value);
}

fn optional(out: &mut Vec<u8>, name: &str, value: Option<u64>) {
    literal(out, name);
    match value {
        Some(value) => write_u64(out, value),
        None => literal(out, "null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_json_whatever_is_in_it() {
        let channels = ["a.\"b".into()];
        let last = [Lost {
            channels: &channels,
            more: 3,
            range: (5, 9),
            missed: None,
            cause: Cause::Slow,
        }];
        let tcp = Tcp { rtt_us: 210, window_limited_ms: 7, ..Tcp::default() };
        let mut whoami = Whoami {
            verdict: (Verdict::You, "your \"socket\" is full"),
            id: "0-1-2",
            identity: "key a",
            core: 1,
            set: (2, 3),
            tier_ms: Some(100),
            lag: (4, 5, 6),
            is_blocked: true,
            lost: (1, 0),
            last: &last,
            event_ms: None,
            subscriptions_max: 9,
            commands: (20, 100),
            socket: &Socket { tcp: Some(tcp), cipher: Some("TLS_AES".into()) },
        };
        let parse = |whoami: &Whoami<'_>| -> serde_json::Value {
            let mut out = Vec::new();
            write(&mut out, Some(&ReqId::Number(7)), whoami, 1, 2);
            serde_json::from_slice(&out).unwrap()
        };
        let said = parse(&whoami);
        assert_eq!((&said["req_id"], &said["result"]["verdict"]), (&7.into(), &"you".into()));
        assert_eq!(said["result"]["last_receipts"][0]["channels"][0], "a.\"b");
        assert_eq!(said["result"]["tcp"]["rtt_us"], 210);
        whoami.socket = &Socket { tcp: None, cipher: None };
        (whoami.last, whoami.tier_ms) = (&[], None);
        let said = parse(&whoami);
        assert!(said["result"]["tcp"].is_null() && said["result"]["cipher"].is_null());
    }
}
