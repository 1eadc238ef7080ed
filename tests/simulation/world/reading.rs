//! What a client reads, in whatever encoding, as frames of JSON: the same for all of them.
//!
//! Not here: what is in the frames ([`crate::model`]). Invariant: nothing is lost or made up; what
//! is no whole message yet waits.

use std::collections::BTreeMap;

use fanfare::protocol::encoding::{Encoding, Form};

use crate::frames;

/// A client's end of an encoding.
pub(super) struct Reading {
    encoding: Encoding,
    /// Bytes that are no whole message yet.
    rest: Vec<u8>,
    /// Messages that were compressed.
    pub(super) compressed: u64,
    /// Channels by the ids that were announced.
    names: BTreeMap<u32, String>,
    /// Messages that were binary.
    pub(super) binary: u64,
    /// Of a stream: the place that its client would go on from.
    place: u64,
    /// Requests that were answered; the URL of a real stream is one.
    replies: u32,
    /// Events of a stream that have said one.
    pub(super) placed: u64,
}

impl Reading {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            rest: Vec::new(),
            compressed: 0,
            names: BTreeMap::new(),
            binary: 0,
            place: 0,
            replies: 0,
            placed: 0,
        }
    }

    /// The frames of JSON that `bytes` complete.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self.encoding {
            Encoding::Json => bytes.to_vec(),
            Encoding::Deflate { window_bits } => self.inflate(bytes, window_bits),
            Encoding::Binary => self.read_binary(bytes),
            Encoding::Sse => self.read_events(bytes),
        }
    }

    /// The form of events that its encoding takes.
    pub(super) const fn form(&self) -> Form {
        self.encoding.form()
    }

    /// Whether it is a stream of Server-Sent Events.
    pub(super) const fn is_stream(&self) -> bool {
        matches!(self.encoding, Encoding::Sse)
    }

    /// Events as the JSON that docs/PROTOCOL.md says they stand for; all else as it is, but for
    /// announcements of ids, which are learnt.
    fn read_binary(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some((opcode, payload, len)) = frames::first(&self.rest[at..]) {
            match opcode {
                2 => {
                    write_frame(&mut out, 1, &json_of(payload, &self.names));
                    self.binary += 1;
                }
                1 if learn(payload, &mut self.names) => {}
                _ => out.extend_from_slice(&self.rest[at..at + len]),
            }
            at += len;
        }
        self.rest.drain(..at);
        out
    }

    /// The frames that a WebSocket would have brought.
    fn read_events(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(len) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.rest.drain(..len + 2).collect();
            self.read_event(std::str::from_utf8(&event).unwrap().trim_end_matches('\n'), &mut out);
        }
        out
    }

    fn read_event(&mut self, event: &str, out: &mut Vec<u8>) {
        let (mut id, mut kind, mut data) = (None, "", None);
        for line in event.split('\n') {
            match line.split_once(": ").unwrap() {
                ("id", value) => id = Some(value),
                ("event", value) => kind = value,
                ("data", value) => assert!(data.replace(value).is_none(), "one line: {event}"),
                _ => panic!("a field that is not known: {event}"),
            }
        }
        let text = data.expect("an event says something");
        let message: serde_json::Value = serde_json::from_str(text).unwrap();
        let is_control = message["channel"] == "control" || message.get("success").is_some();
        assert_eq!(is_control, kind == "control", "{event}");
        self.replies += u32::from(message.get("success").is_some());
        if let Some(id) = id {
            let seq = message["seq"].as_u64().unwrap();
            assert_eq!(id, format!("epoch:{seq}"));
            // What comes after it would be what its client gets after a break. A snapshot that is
            // asked for later begins before it.
            let is_first = self.replies <= 1;
            assert!(!is_first || seq >= self.place, "{event} leads back behind {}", self.place);
            self.place = seq;
            self.placed += u64::from(!is_control);
        }
        if message["type"] == "closed" {
            let code = u16::try_from(message["code"].as_u64().unwrap()).unwrap();
            let reason = message["reason"].as_str().unwrap();
            let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
            return write_frame(out, 8, &payload);
        }
        write_frame(out, 1, text.as_bytes());
    }

    /// Whether nothing was begun that has not ended.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn inflate(&mut self, bytes: &[u8], window_bits: u8) -> Vec<u8> {
        const RSV1: u8 = 0x40;
        self.rest.extend_from_slice(bytes);
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(first) = self.rest.get_mut(at) {
            let is_compressed = *first & RSV1 != 0;
            *first &= !RSV1;
            let Some((opcode, payload, len)) = frames::first(&self.rest[at..]) else {
                self.rest[at] |= if is_compressed { RSV1 } else { 0 };
                break;
            };
            if is_compressed {
                assert_eq!(opcode, 1, "only data is compressed");
                write_frame(&mut out, opcode, &inflated(payload, window_bits));
                self.compressed += 1;
            } else {
                out.extend_from_slice(&self.rest[at..at + len]);
            }
            at += len;
        }
        self.rest.drain(..at);
        out
    }
}

/// Learns the ids that a text announces; true when it does nothing else.
fn learn(text: &[u8], names: &mut BTreeMap<u32, String>) -> bool {
    let message: serde_json::Value = serde_json::from_slice(text).unwrap();
    let is_notice = message["type"] == "channels";
    let results = message["result"].as_array();
    for entry in results.into_iter().flatten().chain(is_notice.then_some(&message)) {
        for (name, id) in entry["ids"].as_object().into_iter().flatten() {
            let id = u32::try_from(id.as_u64().unwrap()).unwrap();
            let known = names.insert(id, name.clone());
            assert!(known.is_none_or(|known| known == *name), "an id has one name");
        }
    }
    is_notice
}

/// The JSON form of a binary event, by its description.
fn json_of(message: &[u8], names: &BTreeMap<u32, String>) -> Vec<u8> {
    let short =
        |at: usize| usize::from(u16::from_le_bytes(message[at..at + 2].try_into().unwrap()));
    let word = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().unwrap());
    assert_eq!([short(0), short(2), short(4), short(6)], [40, 1, 1, 0], "block, template, schema");
    let name = names.get(&word(40)).expect("an id is announced before its first event");
    let kind = ["update", "snapshot"][usize::from(message[44])];
    let key_end = 50 + short(48);
    let data = &message[key_end + 4..];
    assert_eq!(word(key_end) as usize, data.len());
    let key = match &message[50..key_end] {
        [] => String::new(),
        key => format!(",\"key\":{}", std::str::from_utf8(key).unwrap()),
    };
    let ts = if long(24) == u64::MAX { String::new() } else { format!(",\"ts\":{}", long(24)) };
    let head = format!(
        "{{\"channel\":\"{name}\",\"type\":\"{kind}\"{key},\"seq\":{},\"prev\":{}{ts},\
         \"ts_in\":{},\"data\":",
        long(8),
        long(16),
        long(32),
    );
    [head.as_bytes(), data, b"}"].concat()
}

/// Appends a server's frame.
fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    if let Ok(len @ ..126) = u8::try_from(payload.len()) {
        out.push(len);
    } else {
        out.push(126);
        out.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    }
    out.extend_from_slice(payload);
}

/// A message by itself, as someone reads it whose window has no more bits than that.
fn inflated(payload: &[u8], window_bits: u8) -> Vec<u8> {
    let mut engine = flate2::Decompress::new_with_window_bits(false, window_bits);
    let payload = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut message = Vec::with_capacity(1 << 20);
    engine.decompress_vec(&payload, &mut message, flate2::FlushDecompress::Sync).unwrap();
    assert_eq!(engine.total_in(), payload.len() as u64, "all of it is one message");
    message
}
