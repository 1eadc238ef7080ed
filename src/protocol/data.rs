//! The frame of one event, as every subscriber gets it: the hottest encoder of the product.
//!
//! Called once for each event and core, never for each client. The caller learns the exact length
//! first, makes room in its log, and then has the bytes copied there: nothing is allocated and no
//! byte is escaped here. Not here: the log (`fanout`). Invariant: [`Parts::write`] fills exactly
//! [`Parts::len`] bytes, and `data` is in them byte for byte.

pub mod envelope;

use super::event::Kind;
use super::exact::Room;
use super::json::write_string;
use super::ws::frame::{Opcode, header, header_len};

/// The beginning of every frame of one channel, made once for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(Box<[u8]>);

impl Prefix {
    /// `{"channel":"…","type":"` for this channel.
    #[must_use]
    pub fn new(channel: &str) -> Self {
        let mut bytes = CHANNEL.to_vec();
        write_string(&mut bytes, channel);
        bytes.extend_from_slice(TYPE);
        Self(bytes.into())
    }
}

const CHANNEL: &[u8] = br#"{"channel":"#;
const TYPE: &[u8] = br#","type":""#;
const KEY: &[u8] = br#","key":"#;
const SEQ: &[u8] = br#","seq":"#;
const PREV: &[u8] = br#","prev":"#;
const TS: &[u8] = br#","ts":"#;
const TS_IN: &[u8] = br#","ts_in":"#;
const DATA: &[u8] = br#","data":"#;

/// Decimal digits of the largest `u64`.
const DIGITS_MAX: usize = 20;

/// The fields between `type` (or `key`) and the data, at their longest.
const FIELDS_BYTES_MAX: usize =
    SEQ.len() + PREV.len() + TS.len() + TS_IN.len() + DATA.len() + 4 * DIGITS_MAX;

/// A frame that is laid out and not yet copied.
#[derive(Debug)]
pub struct Parts<'a> {
    prefix: &'a [u8],
    kind: &'static str,
    key_json: Option<&'a [u8]>,
    fields: Fields,
    data: &'a [u8],
    payload_len: usize,
}

/// Lays out a text frame, unmasked and final, with one event. `key_json` is the key as a JSON
/// string with its quotes; times are nanoseconds since the Unix epoch.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "one for each field of the frame")]
pub fn frame<'a>(
    prefix: &'a Prefix,
    key_json: Option<&'a [u8]>,
    kind: Kind,
    seq: u64,
    prev: u64,
    ts: Option<u64>,
    ts_in: u64,
    data: &'a [u8],
) -> Parts<'a> {
    let mut fields = Fields { bytes: [0; FIELDS_BYTES_MAX], len: 0 };
    fields.number(SEQ, seq);
    fields.number(PREV, prev);
    if let Some(ts) = ts {
        fields.number(TS, ts);
    }
    fields.number(TS_IN, ts_in);
    fields.append(DATA);
    let kind = kind.as_str();
    let key_len = key_json.map_or(0, |key| KEY.len() + key.len());
    let payload_len = prefix.0.len() + kind.len() + 1 + key_len + fields.len + data.len() + 1;
    Parts { prefix: &prefix.0, kind, key_json, fields, data, payload_len }
}

impl Parts<'_> {
    /// Bytes of the whole frame, WebSocket header included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub const fn len(&self) -> usize {
        header_len(self.payload_len) + self.payload_len
    }

    /// Copies the frame into `out`.
    ///
    /// # Panics
    /// When `out` is not [`Self::len`] bytes long.
    pub fn write(&self, out: &mut [u8]) {
        let mut room = Room::of(out, self.len());
        room.put(&header(Opcode::Text, self.payload_len)[..header_len(self.payload_len)]);
        room.put(self.prefix);
        room.put(self.kind.as_bytes());
        room.put(b"\"");
        if let Some(key) = self.key_json {
            room.put(KEY);
            room.put(key);
        }
        room.put(&self.fields.bytes[..self.fields.len]);
        room.put(self.data);
        room.put(b"}");
        room.end();
    }
}

/// The numbers of a frame, written on the stack.
#[derive(Debug)]
struct Fields {
    bytes: [u8; FIELDS_BYTES_MAX],
    len: usize,
}

impl Fields {
    fn number(&mut self, name: &[u8], value: u64) {
        self.append(name);
        self.append(itoa::Buffer::new().format(value).as_bytes());
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::super::ws::frame::payload;
    use super::super::ws::reader::{Message, Reader, Role};
    use super::envelope::Envelope;
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Read<'a> {
        channel: &'a str,
        r#type: &'a str,
        key: Option<String>,
        seq: u64,
        prev: u64,
        ts: Option<u64>,
        ts_in: u64,
        #[serde(borrow)]
        data: &'a RawValue,
    }

    #[test]
    fn a_frame_has_its_fields_in_the_order_of_the_protocol() {
        let prefix = Prefix::new("quote.BTCUSDT");
        let (key, data) = (br#""BTC\"USDT""#, br#"{"b":60001.10}"#);
        let parts = frame(&prefix, Some(key), Kind::Snapshot, 1042, 1038, Some(7), 8, data);
        let mut out = vec![0; parts.len()];
        parts.write(&mut out);
        let expected = concat!(
            r#"{"channel":"quote.BTCUSDT","type":"snapshot","key":"BTC\"USDT","seq":1042,"#,
            r#""prev":1038,"ts":7,"ts_in":8,"data":{"b":60001.10}}"#
        );
        assert_eq!(out, [b"\x81\x7d", expected.as_bytes()].concat());
    }

    /// An event as it is written into a frame.
    #[derive(Debug, Clone)]
    pub(in crate::protocol) struct Sample {
        channel: String,
        key_json: Option<Vec<u8>>,
        kind: Kind,
        numbers: (u64, u64, Option<u64>, u64),
        data: String,
    }

    impl Sample {
        /// All that a producer can bring about.
        pub(in crate::protocol) fn any() -> impl Strategy<Value = Self> {
            let key = "\\PC{1,20}|[\\x00-\\x7f]{1,20}|\\PC{0,5}[\"\\\\]{1,3}";
            (
                "[a-zA-Z0-9_-]{1,20}(\\.[a-z]{1,9}){0,3}",
                prop::option::of(key),
                any::<bool>(),
                any::<(u64, u64, Option<u64>, u64)>(),
                concat!(
                    "[1-9][0-9]{0,299}\\.500e-1|\"[a-z ]{0,70000}\"|",
                    "\\{\"data\":\\[\r? 1\\.50,\"},\"\r?\\]\\}",
                ),
            )
                .prop_map(|(channel, key, is_snapshot, numbers, data)| Self {
                    channel,
                    key_json: key.map(|key| {
                        let mut json = Vec::new();
                        write_string(&mut json, &key);
                        json
                    }),
                    kind: if is_snapshot { Kind::Snapshot } else { Kind::Update },
                    numbers,
                    data,
                })
        }

        pub(in crate::protocol) fn envelope(&self) -> Envelope<'_> {
            let (seq, prev, ts, ts_in) = self.numbers;
            Envelope {
                channel: &self.channel,
                kind: self.kind,
                key_json: self.key_json.as_deref(),
                seq,
                prev,
                ts,
                ts_in,
                data: self.data.as_bytes(),
            }
        }

        /// The whole frame.
        pub(in crate::protocol) fn frame(&self) -> Vec<u8> {
            let (prefix, of) = (Prefix::new(&self.channel), self.envelope());
            let parts =
                frame(&prefix, of.key_json, of.kind, of.seq, of.prev, of.ts, of.ts_in, of.data);
            let mut out = vec![0; parts.len()];
            parts.write(&mut out);
            out
        }

        /// The frame's payload.
        pub(in crate::protocol) fn text(&self) -> Vec<u8> {
            payload(&self.frame()).to_vec()
        }
    }

    proptest! {
        #[test]
        fn every_frame_reads_back_with_its_data_byte_for_byte(sample in Sample::any()) {
            let mut out = sample.frame();
            let (mut used, frame_len) = (0, out.len());
            let mut reader = Reader::new(Role::Client, 1 << 20);
            let Ok(Some(Message::Text(text))) = reader.next_message(&mut out, &mut used) else {
                panic!("one whole text message");
            };
            let read: Read<'_> = serde_json::from_str(text).unwrap();
            let wrote = sample.envelope();
            prop_assert_eq!((read.channel, read.r#type), (wrote.channel, wrote.kind.as_str()));
            let key = wrote.key_json.map(|key| serde_json::from_slice::<String>(key).unwrap());
            prop_assert_eq!(read.key, key);
            prop_assert_eq!((read.seq, read.prev, read.ts, read.ts_in), sample.numbers);
            prop_assert_eq!(read.data.get().as_bytes(), wrote.data);
            prop_assert_eq!(used, frame_len);
        }
    }
}
