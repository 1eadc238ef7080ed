//! What a client must have got, judged from the bytes it received and the list of events.
//!
//! Shares no code with the server: frames are taken apart here, texts are read with serde_json and
//! patterns are matched by a recursive matcher of its own. Invariant: `position` is the last `seq`
//! up to which everything is accounted for.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// An event as the producer gave it, with the link that it must have.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) channel: String,
    pub(crate) key: Option<String>,
    pub(crate) ts: Option<u64>,
    pub(crate) data: String,
    pub(crate) prev: u64,
}

#[derive(Deserialize)]
struct Data<'a> {
    channel: &'a str,
    r#type: &'a str,
    key: Option<String>,
    seq: u64,
    prev: u64,
    ts: Option<u64>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// One client's side of the story.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    unparsed: Vec<u8>,
    patterns: BTreeSet<String>,
    position: u64,
    welcomed: bool,
    pub(crate) delivered: u64,
    pub(crate) missed: u64,
    pub(crate) receipts: u64,
    pub(crate) pongs: u64,
    pub(crate) answers: u64,
    /// Code of the server's close frame.
    pub(crate) closed: Option<u16>,
}

impl Judge {
    /// Takes bytes from the server; panics at the first thing that is wrong.
    pub(crate) fn receive(&mut self, bytes: &[u8], events: &[Expected]) {
        self.unparsed.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((opcode, payload, len)) = frame(&self.unparsed[at..]) {
            let payload = payload.to_vec();
            at += len;
            assert_eq!(self.closed, None, "nothing follows a close frame");
            match opcode {
                1 => self.text(std::str::from_utf8(&payload).expect("text is UTF-8"), events),
                8 => {
                    let code = payload.get(..2).map_or(1005, |c| u16::from_be_bytes([c[0], c[1]]));
                    self.closed = Some(code);
                }
                10 => self.pongs += 1,
                other => panic!("unexpected opcode {other}"),
            }
        }
        self.unparsed.drain(..at);
    }

    /// Everything up to `head` must be accounted for.
    pub(crate) fn finish(&mut self, head: u64, events: &[Expected]) {
        assert!(self.unparsed.is_empty(), "a frame was begun and not finished");
        self.pass(head, events);
    }

    fn text(&mut self, text: &str, events: &[Expected]) {
        let value: Value = serde_json::from_str(text).expect("every text is JSON");
        let first = !std::mem::replace(&mut self.welcomed, true);
        assert_eq!(first, value["type"] == "welcome", "a welcome comes first, and once: {text}");
        if value["channel"] == "control" {
            self.control(&value, events);
        } else if value["method"].is_string() || value["success"] == false {
            self.answer(&value, events);
        } else {
            self.data(serde_json::from_str(text).expect("a data message"), events);
        }
    }

    fn control(&mut self, value: &Value, events: &[Expected]) {
        let seq = value["seq"].as_u64();
        match value["type"].as_str() {
            Some("welcome") => self.position = seq.expect("a seq"),
            Some("heartbeat") => self.pass(seq.expect("a seq"), events),
            Some("gap") => self.gap(value, events),
            other => panic!("unknown control message {other:?}"),
        }
    }

    fn gap(&mut self, value: &Value, events: &[Expected]) {
        let (from, to) = (value["from"].as_u64().unwrap(), value["to"].as_u64().unwrap());
        self.pass(from - 1, events);
        let lost: Vec<_> =
            (from..=to).filter(|&seq| self.wants(&events[at(seq)].channel)).collect();
        assert_eq!(value["missed"], lost.len(), "a receipt is exact: {value}");
        assert!(!lost.is_empty(), "a receipt is for something");
        let named = value["channels"].as_array().unwrap();
        let names: BTreeSet<_> = lost.iter().map(|&seq| &events[at(seq)].channel).collect();
        assert_eq!(
            named.iter().map(|name| name.as_str().unwrap()).collect::<Vec<_>>(),
            names.into_iter().collect::<Vec<_>>(),
            "a receipt names the channels that lost something"
        );
        self.receipts += 1;
        self.missed += lost.len() as u64;
        self.position = to;
    }

    fn answer(&mut self, value: &Value, events: &[Expected]) {
        self.answers += 1;
        let subscribes = value["method"] == "subscribe";
        if !subscribes && value["method"] != "unsubscribe" {
            return;
        }
        for result in value["result"].as_array().into_iter().flatten() {
            let channel = result["channel"].as_str().unwrap();
            if let Some(seq) = result["seq"].as_u64() {
                self.pass(seq, events);
                if subscribes {
                    self.patterns.insert(channel.to_owned());
                } else {
                    assert!(self.patterns.remove(channel), "{channel} was not subscribed");
                }
            }
        }
    }

    fn data(&mut self, data: Data<'_>, events: &[Expected]) {
        self.pass(data.seq - 1, events);
        let expected = &events[at(data.seq)];
        assert!(self.wants(data.channel), "{} is not subscribed", data.channel);
        assert_eq!(data.channel, expected.channel);
        assert_eq!((data.key, data.ts), (expected.key.clone(), expected.ts));
        assert_eq!(data.data.get(), expected.data, "data passes byte for byte");
        assert_eq!((data.r#type, data.prev), ("update", expected.prev));
        self.position = data.seq;
        self.delivered += 1;
    }

    /// Moves on to `seq`; nothing that is wanted may lie between.
    fn pass(&mut self, seq: u64, events: &[Expected]) {
        assert!(seq >= self.position, "seq {seq} after {}: order and no repeats", self.position);
        for lost in self.position + 1..=seq {
            let channel = &events[at(lost)].channel;
            assert!(!self.wants(channel), "event {lost} of {channel} was never sent");
        }
        self.position = seq;
    }

    fn wants(&self, channel: &str) -> bool {
        let names: Vec<_> = channel.split('.').collect();
        self.patterns.iter().any(|p| matches(&p.split('.').collect::<Vec<_>>(), &names))
    }
}

fn at(seq: u64) -> usize {
    usize::try_from(seq - 1).expect("few events")
}

fn matches(pattern: &[&str], names: &[&str]) -> bool {
    match (pattern, names) {
        ([">"], [_, ..]) | ([], []) => true,
        ([token, pattern @ ..], [name, names @ ..]) => {
            (*token == "*" || token == name) && matches(pattern, names)
        }
        _ => false,
    }
}

/// The first frame of `bytes`, if it is whole: opcode, payload, length.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "one final frame a message, no reserved bits");
    let (header, len) = match second {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            (10, usize::try_from(len).unwrap())
        }
        len => (2, usize::from(len)),
    };
    assert!(second < 128, "a server does not mask");
    Some((first & 15, bytes.get(header..header + len)?, header + len))
}
