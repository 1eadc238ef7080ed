//! The messages of the sub-protocol `fanfare.v1.bin`: an event as a binary message of fixed
//! little-endian fields, its key and its data (docs/PROTOCOL.md, and docs/schema/ as SBE XML).
//!
//! It says the same as the JSON form, which can be had from it by putting texts together, and it
//! is as cheap to write: nothing is allocated, and no byte is looked at. Control messages stay
//! text. Not here: which channel has which id, and who is told of it (`fanout`). Invariant:
//! [`Parts::write`] fills exactly [`Parts::len`] bytes, and key and data are in them byte for byte.

use super::data::envelope::Envelope;
use super::data::{self, Prefix};
use super::event::Kind;
use super::exact::Room;
use super::ws::frame::{Opcode, header, header_len, payload};
use crate::limits::{KEY_BYTES_MAX, LINE_BYTES_MAX};

/// The name of the sub-protocol.
pub const SUBPROTOCOL: &str = "fanfare.v1.bin";

/// Identifies the schema in every message.
pub const SCHEMA_ID: u16 = 1;

/// Of the schema; a later one may have more fields at the end of the block.
pub const SCHEMA_VERSION: u16 = 0;

/// The only message: an event.
pub const TEMPLATE_EVENT: u16 = 1;

/// Stands in `ts` for none.
pub const TS_NONE: u64 = u64::MAX;

/// Bytes in front of the block: its length, template, schema and version.
pub const HEADER_BYTES: usize = 8;

/// Bytes of the block of fixed fields, as this version writes it.
pub const BLOCK_BYTES: usize = 40;

/// The same, as it is written.
const BLOCK_LENGTH: u16 = 40;

const _: () = assert!(BLOCK_LENGTH as usize == BLOCK_BYTES);

/// Where the fixed fields are, from the start of the message.
pub mod offset {
    /// `u16`: bytes of the block.
    pub const BLOCK_LENGTH: usize = 0;
    /// `u16`: [`super::TEMPLATE_EVENT`].
    pub const TEMPLATE_ID: usize = 2;
    /// `u16`: [`super::SCHEMA_ID`].
    pub const SCHEMA_ID: usize = 4;
    /// `u16`: [`super::SCHEMA_VERSION`].
    pub const VERSION: usize = 6;
    /// `u64`: the place in the total order.
    pub const SEQ: usize = 8;
    /// `u64`: the place of the event before it on its channel, or 0.
    pub const PREV: usize = 16;
    /// `u64`: the producer's time, or [`super::TS_NONE`].
    pub const TS: usize = 24;
    /// `u64`: the time of ingest.
    pub const TS_IN: usize = 32;
    /// `u32`: the id of the channel.
    pub const CHANNEL: usize = 40;
    /// `u8`: 0 for an update, 1 for a snapshot.
    pub const KIND: usize = 44;
    /// Three bytes, 0, so that the block is a multiple of eight.
    pub const RESERVED: usize = 45;
    /// What follows the block of this version: `u16` and the key, `u32` and the data.
    pub const KEY_LENGTH: usize = 48;
}

const FIXED_BYTES: usize = HEADER_BYTES + BLOCK_BYTES;
const KEY_LENGTH_BYTES: usize = size_of::<u16>();
const DATA_LENGTH_BYTES: usize = size_of::<u32>();

const _: () = assert!(offset::KEY_LENGTH == FIXED_BYTES);
const _: () = assert!(6 * KEY_BYTES_MAX + 2 <= u16::MAX as usize, "a key's length fits, escaped");
const _: () = assert!(LINE_BYTES_MAX <= u32::MAX as usize, "the length of any data fits");

/// A frame that is laid out and not yet copied.
#[derive(Debug)]
pub struct Parts<'a> {
    fixed: [u8; FIXED_BYTES],
    key_json: &'a [u8],
    data: &'a [u8],
}

/// Lays out a binary frame, unmasked and final, with one event; `channel` is the channel's id.
///
/// # Panics
/// When the key or the data are longer than their lengths can say, which the bounds rule out.
#[must_use]
pub fn frame<'a>(channel: u32, event: &Envelope<'a>) -> Parts<'a> {
    let mut fixed = [0; FIXED_BYTES];
    let mut put = |at: usize, bytes: &[u8]| fixed[at..at + bytes.len()].copy_from_slice(bytes);
    put(offset::BLOCK_LENGTH, &BLOCK_LENGTH.to_le_bytes());
    put(offset::TEMPLATE_ID, &TEMPLATE_EVENT.to_le_bytes());
    put(offset::SCHEMA_ID, &SCHEMA_ID.to_le_bytes());
    put(offset::VERSION, &SCHEMA_VERSION.to_le_bytes());
    put(offset::SEQ, &event.seq.to_le_bytes());
    put(offset::PREV, &event.prev.to_le_bytes());
    put(offset::TS, &event.ts.unwrap_or(TS_NONE).to_le_bytes());
    put(offset::TS_IN, &event.ts_in.to_le_bytes());
    put(offset::CHANNEL, &channel.to_le_bytes());
    put(
        offset::KIND,
        &[match event.kind {
            Kind::Update => 0,
            Kind::Snapshot => 1,
        }],
    );
    Parts { fixed, key_json: event.key_json.unwrap_or_default(), data: event.data }
}

/// The same from a finished frame of the JSON form; none of what is not the frame of an event.
#[must_use]
pub fn from_json_frame(channel: u32, json_frame: &[u8]) -> Option<Parts<'_>> {
    Envelope::find(payload(json_frame)).map(|event| frame(channel, &event))
}

impl Parts<'_> {
    /// Bytes of the whole frame, WebSocket header included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub const fn len(&self) -> usize {
        header_len(self.payload_len()) + self.payload_len()
    }

    const fn payload_len(&self) -> usize {
        FIXED_BYTES + KEY_LENGTH_BYTES + self.key_json.len() + DATA_LENGTH_BYTES + self.data.len()
    }

    /// Copies the frame into `out`.
    ///
    /// # Panics
    /// When `out` is not [`Self::len`] bytes long.
    pub fn write(&self, out: &mut [u8]) {
        let mut room = Room::of(out, self.len());
        let key_len = u16::try_from(self.key_json.len()).expect("keys are bounded");
        let data_len = u32::try_from(self.data.len()).expect("lines are bounded");
        let payload_len = self.payload_len();
        room.put(&header(Opcode::Binary, payload_len)[..header_len(payload_len)]);
        room.put(&self.fixed);
        room.put(&key_len.to_le_bytes());
        room.put(self.key_json);
        room.put(&data_len.to_le_bytes());
        room.put(self.data);
        room.end();
    }
}

/// Why a binary message is none of this schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It ends inside of its header, its block, its key or its data.
    #[error("a binary message ends before its parts do")]
    Cut,
    /// Another schema than [`SCHEMA_ID`].
    #[error("a binary message has schema {0}; this client knows schema {SCHEMA_ID}")]
    Schema(u16),
    /// A block that is shorter than that of the first version.
    #[error("a binary message has a block of {0} bytes; there are {BLOCK_BYTES} at least")]
    Block(u16),
    /// A key or data that are not UTF-8.
    #[error("a binary message has a text that is not UTF-8")]
    NotUtf8,
    /// A kind that does not exist.
    #[error("a binary message has the kind {0}; there are 0 and 1")]
    Kind(u8),
}

/// Reads a binary message; none of a template that this version does not have, which is to be
/// ignored.
///
/// # Errors
/// What is wrong with it.
pub fn read(message: &[u8]) -> Result<Option<Envelope<'_, u32>>, Unreadable> {
    let number = |at| take::<2>(message, at).map(u16::from_le_bytes);
    let long = |at| take::<8>(message, at).map(u64::from_le_bytes);
    let block_len = number(offset::BLOCK_LENGTH)?;
    let template = number(offset::TEMPLATE_ID)?;
    match number(offset::SCHEMA_ID)? {
        SCHEMA_ID if template != TEMPLATE_EVENT => return Ok(None),
        SCHEMA_ID if usize::from(block_len) < BLOCK_BYTES => {
            return Err(Unreadable::Block(block_len));
        }
        SCHEMA_ID => {}
        other => return Err(Unreadable::Schema(other)),
    }
    let kind = match take::<1>(message, offset::KIND)? {
        [0] => Kind::Update,
        [1] => Kind::Snapshot,
        [other] => return Err(Unreadable::Kind(other)),
    };
    let key_at = HEADER_BYTES + usize::from(block_len) + KEY_LENGTH_BYTES;
    let key_len = usize::from(number(key_at - KEY_LENGTH_BYTES)?);
    let data_at = key_at + key_len + DATA_LENGTH_BYTES;
    let data_len = take::<4>(message, data_at - DATA_LENGTH_BYTES).map(u32::from_le_bytes)?;
    let key_json = &message[key_at..key_at + key_len];
    let data = message[data_at..].get(..data_len as usize).ok_or(Unreadable::Cut)?;
    Ok(Some(Envelope {
        channel: take::<4>(message, offset::CHANNEL).map(u32::from_le_bytes)?,
        kind,
        key_json: (!key_json.is_empty()).then_some(key_json),
        seq: long(offset::SEQ)?,
        prev: long(offset::PREV)?,
        ts: Some(long(offset::TS)?).filter(|&ts| ts != TS_NONE),
        ts_in: long(offset::TS_IN)?,
        data,
    }))
}

fn take<const BYTES: usize>(message: &[u8], at: usize) -> Result<[u8; BYTES], Unreadable> {
    message.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Unreadable::Cut)
}

impl Envelope<'_, u32> {
    /// The text of the same event's message in the JSON form, put together in `out`; `channel` is
    /// its channel's name.
    #[must_use]
    pub fn json_text<'a>(&self, channel: &str, out: &'a mut Vec<u8>) -> &'a [u8] {
        let Self { key_json, kind, seq, prev, ts, ts_in, data, .. } = *self;
        let prefix = Prefix::new(channel);
        let parts = data::frame(&prefix, key_json, kind, seq, prev, ts, ts_in, data);
        out.clear();
        out.resize(parts.len(), 0);
        parts.write(out);
        payload(out)
    }
}

#[cfg(test)]
mod tests;
