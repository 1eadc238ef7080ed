//! One record of a journal's file: a batch, or a piece of a checkpoint's tables, as bytes.
//!
//! `{length u32, crc32 u32, body}`, little-endian; the checksum is over the length and the body.
//! The first byte of a body says what it is. Not here: files ([`super::segment`]), and what a
//! record means beside others ([`super::tables`]). Invariant: what decodes encodes to the same
//! bytes.

use std::sync::Arc;

use crate::handoff::batch::{Batch, NewSlot, Sequenced, SlotId};
use crate::limits::JOURNAL_RECORD_BYTES_MAX;
use crate::protocol::event::Kind;

/// Bytes before a body: its length and its checksum.
pub const PREFIX_BYTES: usize = 8;

/// Bytes of an event beside its data.
pub const EVENT_BYTES: usize = 3 * 8 + 8 + 3 * 4 + 1;

const BATCH: u8 = 1;
const ENDS: u8 = 2;
const BROKEN: u8 = 3;
const CLOSING: u8 = 4;

/// A key follows.
const KEYED: u8 = 1;
/// Bits of an event's flags.
const SNAPSHOT: u8 = 1;
/// See [`SNAPSHOT`].
const TIMED: u8 = 2;

/// What a record holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Record {
    /// Events, with the channels and slots that are new in them.
    Batch(Batch),
    /// Of a checkpoint: the newest `seq` of each channel from number `from` on.
    Ends {
        /// The first channel.
        from: u32,
        /// Its newest `seq`, and those of the channels that follow it.
        seqs: Vec<u64>,
    },
    /// Of a checkpoint: books whose beginning is lost.
    Broken(Vec<SlotId>),
    /// Of a checkpoint: its last record, and the newest `seq` of all that it stands for.
    Closing(u64),
}

/// Why no record could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The file ends within the record, as when its writer was killed.
    Torn,
    /// The bytes are not those that were written.
    Damaged,
}

/// Appends a batch as a record. Whether it is sparse is not in it: the file says so.
pub fn write_batch(out: &mut Vec<u8>, batch: &Batch) {
    framed(out, |out| {
        out.push(BATCH);
        put_u32(out, batch.channels.len());
        for name in &batch.channels {
            put_text(out, name);
        }
        put_u32(out, batch.slots.len());
        for slot in &batch.slots {
            out.extend_from_slice(&slot.channel.to_le_bytes());
            out.push(if slot.key.is_some() { KEYED } else { 0 });
            if let Some(key) = &slot.key {
                put_text(out, key);
            }
        }
        put_u32(out, batch.events.len());
        for event in &batch.events {
            let snapshot = if event.kind == Kind::Snapshot { SNAPSHOT } else { 0 };
            out.push(snapshot | if event.ts.is_some() { TIMED } else { 0 });
            for number in [event.seq, event.prev, event.ts.unwrap_or(0), event.ts_in] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            for number in [event.channel, event.slot, event.data.end - event.data.start] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        for event in &batch.events {
            out.extend_from_slice(batch.data(event));
        }
    });
}

/// Appends the newest `seq` of the channels from number `from` on.
pub fn write_ends(out: &mut Vec<u8>, from: u32, seqs: impl ExactSizeIterator<Item = u64>) {
    framed(out, |out| {
        out.push(ENDS);
        out.extend_from_slice(&from.to_le_bytes());
        put_u32(out, seqs.len());
        for seq in seqs {
            out.extend_from_slice(&seq.to_le_bytes());
        }
    });
}

/// Appends the books whose beginning is lost.
pub fn write_broken(out: &mut Vec<u8>, slots: &[SlotId]) {
    framed(out, |out| {
        out.push(BROKEN);
        put_u32(out, slots.len());
        for slot in slots {
            out.extend_from_slice(&slot.to_le_bytes());
        }
    });
}

/// Appends the last record of a checkpoint.
pub fn write_closing(out: &mut Vec<u8>, seq_last: u64) {
    framed(out, |out| {
        out.push(CLOSING);
        out.extend_from_slice(&seq_last.to_le_bytes());
    });
}

/// Appends any record, as it was read.
pub fn write(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Batch(batch) => write_batch(out, batch),
        Record::Ends { from, seqs } => write_ends(out, *from, seqs.iter().copied()),
        Record::Broken(slots) => write_broken(out, slots),
        Record::Closing(seq_last) => write_closing(out, *seq_last),
    }
}

/// Appends bytes as if they were a body, for who looks for those that are none.
pub fn write_body(out: &mut Vec<u8>, body: &[u8]) {
    framed(out, |out| out.extend_from_slice(body));
}

/// Reads the record that `bytes`, the rest of a file, begin with, and how long it is; none at the
/// end.
///
/// # Errors
/// The bytes end within the record, or are not what was written.
pub fn read(bytes: &[u8]) -> Result<Option<(Record, usize)>, Flaw> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let length = body_bytes(bytes)?;
    let body = &bytes[PREFIX_BYTES..];
    if body.len() < length {
        // A wrong length would leave a body that is whole, or is none.
        return Err(match decode(body) {
            Err(Undecoded::Short) => Flaw::Torn,
            _ => Flaw::Damaged,
        });
    }
    let body = &body[..length];
    if bytes[4..PREFIX_BYTES] != checksum(&bytes[..4], body) {
        return Err(Flaw::Damaged);
    }
    let record = decode(body).map_err(|_| Flaw::Damaged)?;
    Ok(Some((record, PREFIX_BYTES + length)))
}

/// Bytes of the body that the prefix at the beginning of `bytes` announces.
///
/// # Errors
/// There is no whole prefix, or no body is that long.
pub fn body_bytes(bytes: &[u8]) -> Result<usize, Flaw> {
    if bytes.len() < PREFIX_BYTES {
        return Err(Flaw::Torn);
    }
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    if length == 0 || length > JOURNAL_RECORD_BYTES_MAX { Err(Flaw::Damaged) } else { Ok(length) }
}

/// Appends the body that `write` makes, with its length and checksum before it.
fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    write(out);
    let length = out.len() - start - PREFIX_BYTES;
    debug_assert!(length <= JOURNAL_RECORD_BYTES_MAX, "a record of {length} bytes");
    let length = u32::try_from(length).expect("a batch is bounded").to_le_bytes();
    let checksum = checksum(&length, &out[start + PREFIX_BYTES..]);
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + PREFIX_BYTES].copy_from_slice(&checksum);
}

fn checksum(length: &[u8], body: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

fn put_u32(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("a batch is bounded");
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("names and keys have 255 bytes at most"));
    out.extend_from_slice(text.as_bytes());
}

/// Why a body is none.
enum Undecoded {
    /// It ends too early.
    Short,
    /// It is not one that is written.
    Wrong,
}

fn decode(body: &[u8]) -> Result<Record, Undecoded> {
    let mut rest = Rest(body);
    let record = match rest.byte()? {
        BATCH => Record::Batch(decode_batch(&mut rest)?),
        ENDS => {
            let from = rest.u32()?;
            let count = rest.count(8)?;
            let seqs = (0..count).map(|_| rest.u64()).collect::<Result<_, _>>()?;
            Record::Ends { from, seqs }
        }
        BROKEN => {
            let count = rest.count(4)?;
            Record::Broken((0..count).map(|_| rest.u32()).collect::<Result<_, _>>()?)
        }
        CLOSING => Record::Closing(rest.u64()?),
        _ => return Err(Undecoded::Wrong),
    };
    if rest.0.is_empty() { Ok(record) } else { Err(Undecoded::Wrong) }
}

fn decode_batch(rest: &mut Rest<'_>) -> Result<Batch, Undecoded> {
    let mut batch = Batch::default();
    for _ in 0..rest.count(1)? {
        batch.channels.push(rest.text()?);
    }
    for _ in 0..rest.count(5)? {
        let channel = rest.u32()?;
        let key = match rest.byte()? {
            0 => None,
            KEYED => Some(rest.text()?),
            _ => return Err(Undecoded::Wrong),
        };
        batch.slots.push(NewSlot { channel, key });
    }
    let mut end = 0_u32;
    for _ in 0..rest.count(EVENT_BYTES)? {
        let flags = rest.byte()?;
        let (seq, prev, ts, ts_in) = (rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?);
        let (channel, slot, length) = (rest.u32()?, rest.u32()?, rest.u32()?);
        let is_timed = flags & TIMED != 0;
        let rises = batch.events.last().is_none_or(|before: &Sequenced| before.seq < seq);
        if flags > SNAPSHOT | TIMED || !rises || prev >= seq || (!is_timed && ts != 0) {
            return Err(Undecoded::Wrong);
        }
        let start = end;
        end = end.checked_add(length).ok_or(Undecoded::Wrong)?;
        batch.events.push(Sequenced {
            seq,
            prev,
            ts: is_timed.then_some(ts),
            ts_in,
            channel,
            slot,
            kind: if flags & SNAPSHOT == 0 { Kind::Update } else { Kind::Snapshot },
            data: start..end,
        });
    }
    batch.bytes = rest.bytes(end as usize)?.to_vec();
    Ok(batch)
}

/// What of a body is not decoded yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Undecoded> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Undecoded::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Undecoded> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Undecoded::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Undecoded> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Undecoded> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Undecoded> {
        self.array().map(u64::from_le_bytes)
    }

    /// How many things of `size_min` bytes at least follow.
    fn count(&mut self, size_min: usize) -> Result<usize, Undecoded> {
        let count = self.u32()? as usize;
        // Checked first, so that a wrong count allocates nothing.
        if count.saturating_mul(size_min) > self.0.len() {
            Err(Undecoded::Short)
        } else {
            Ok(count)
        }
    }

    fn text(&mut self) -> Result<Arc<str>, Undecoded> {
        let length = self.byte()?;
        let text = std::str::from_utf8(self.bytes(usize::from(length))?);
        text.map(Arc::from).map_err(|_| Undecoded::Wrong)
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
