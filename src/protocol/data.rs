//! The frame of one event, as every subscriber gets it: the hottest encoder of the product.
//!
//! Called once for each event and core, never for each client. The caller learns the exact length
//! first, makes room in its log, and then has the bytes copied there: nothing is allocated and no
//! byte is escaped here. Not here: the log (`fanout`). Invariant: [`Parts::write`] fills exactly
//! [`Parts::len`] bytes, and `data` is in them byte for byte.

use super::event::Kind;
use super::json::write_string;
use super::ws::frame::{Opcode, header, header_len};

/// The beginning of every frame of one channel, made once for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(Box<[u8]>);

impl Prefix {
    /// `{"channel":"…","type":"` for this channel.
    #[must_use]
    pub fn new(channel: &str) -> Self {
        let mut bytes = br#"{"channel":"#.to_vec();
        write_string(&mut bytes, channel);
        bytes.extend_from_slice(br#","type":""#);
        Self(bytes.into())
    }
}

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
        assert_eq!(out.len(), self.len(), "the caller makes room of exactly len()");
        let mut rest = out;
        let mut put = |bytes: &[u8]| {
            let (front, back) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            front.copy_from_slice(bytes);
            rest = back;
        };
        put(&header(Opcode::Text, self.payload_len)[..header_len(self.payload_len)]);
        put(self.prefix);
        put(self.kind.as_bytes());
        put(b"\"");
        if let Some(key) = self.key_json {
            put(KEY);
            put(key);
        }
        put(&self.fields.bytes[..self.fields.len]);
        put(self.data);
        put(b"}");
        debug_assert!(rest.is_empty());
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
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::super::ws::reader::{Message, Reader, Role};
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

    proptest! {
        #[test]
        fn every_frame_reads_back_with_its_data_byte_for_byte(
            channel in "[a-zA-Z0-9_-]{1,20}(\\.[a-z]{1,9}){0,3}",
            key in prop::option::of("\\PC{0,20}"),
            snapshot: bool,
            (seq, prev, ts, ts_in) in any::<(u64, u64, Option<u64>, u64)>(),
            data in "[0-9]{1,300}|\"[a-z ]{0,70000}\"",
        ) {
            let data = if data.starts_with('"') { data } else { format!("1{data}.500e-1") };
            let key_json = key.as_ref().map(|key| serde_json::to_vec(key).unwrap());
            let kind = if snapshot { Kind::Snapshot } else { Kind::Update };
            let prefix = Prefix::new(&channel);
            let key_json = key_json.as_deref();
            let parts = frame(&prefix, key_json, kind, seq, prev, ts, ts_in, data.as_bytes());
            let mut out = vec![0; parts.len()];
            parts.write(&mut out);
            let mut used = 0;
            let frame_len = out.len();
            let mut reader = Reader::new(Role::Client, 1 << 20);
            let Ok(Some(Message::Text(text))) = reader.next_message(&mut out, &mut used) else {
                panic!("one whole text message");
            };
            let read: Read<'_> = serde_json::from_str(text).unwrap();
            prop_assert_eq!((read.channel, read.r#type), (&*channel, kind.as_str()));
            prop_assert_eq!(read.key, key);
            prop_assert_eq!((read.seq, read.prev, read.ts, read.ts_in), (seq, prev, ts, ts_in));
            prop_assert_eq!(read.data.get(), data);
            prop_assert_eq!(used, frame_len);
        }
    }
}
