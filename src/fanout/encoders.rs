//! From a frame of JSON to the other forms of its event, once for a core.
//!
//! A frame of JSON is the server's own, so nothing here can fail. Not here: where the frames are
//! kept ([`super::log`], [`super::retained`]). Invariant: nothing is allocated once the scratch
//! buffer is as long as the longest frame.

use std::sync::Arc;

use crate::handoff::batch::ChannelId;
use crate::limits;
use crate::protocol::binary;
use crate::protocol::encoding::Form;
use crate::protocol::sse;
use crate::protocol::ws::deflate::{Deflater, WINDOW_BITS_MAX};
use crate::protocol::ws::frame::{self, Opcode, RSV1};

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// How hard: 1 is fastest, 9 smallest.
    pub level: u8,
    /// Shorter messages are left as they are, bytes.
    pub message_bytes_min: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            level: limits::COMPRESSION_LEVEL,
            message_bytes_min: limits::COMPRESSION_MESSAGE_BYTES_MIN,
        }
    }
}

/// What compression came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compressed {
    /// Messages that became smaller.
    pub messages: u64,
    /// Messages that did not, or were too short to be tried.
    pub raw: u64,
    /// Bytes of all of them before.
    pub bytes_before: u64,
    /// Bytes of them after.
    pub bytes_after: u64,
}

/// Writes events in other forms than JSON.
#[derive(Debug)]
pub struct Encoders {
    epoch: Arc<str>,
    compression: Compression,
    deflater: Option<Deflater>,
    compressed: Compressed,
    /// The frame being written.
    scratch: Vec<u8>,
}

impl Encoders {
    /// Encoders of events of this epoch that compress like this.
    #[must_use]
    pub fn new(epoch: Arc<str>, compression: Compression) -> Self {
        let compressed = Compressed::default();
        Self { epoch, compression, deflater: None, compressed, scratch: Vec::new() }
    }

    /// The frame of an event of `channel` in another form, of which `json` is the frame of JSON.
    pub fn encode(&mut self, form: Form, channel: ChannelId, json: &[u8]) -> &[u8] {
        self.scratch.clear();
        match form {
            Form::Json => self.scratch.extend_from_slice(json),
            Form::Deflate => self.deflate(json),
            Form::Binary => {
                if let Some(event) = binary::from_json_frame(channel, json) {
                    self.scratch.resize(event.len(), 0);
                    event.write(&mut self.scratch);
                }
            }
            Form::Sse => {
                if let Some(event) = sse::from_json_frame(&self.epoch, json) {
                    self.scratch.resize(event.len(), 0);
                    event.write(&mut self.scratch);
                }
            }
        }
        &self.scratch
    }

    /// Bytes of an event in [`Form::Sse`] that say where its client goes on from.
    #[must_use]
    pub fn place_len(&self, seq: u64) -> u32 {
        u32::try_from(sse::id_len(&self.epoch, seq)).expect("a line")
    }

    /// Compresses a message, or leaves it as it is where that is not shorter.
    fn deflate(&mut self, json: &[u8]) {
        let text = frame::payload(json);
        let compression = self.compression;
        let is_tried = text.len() >= compression.message_bytes_min;
        let is_smaller = is_tried && {
            self.write_compressed(text);
            self.scratch.len() < json.len()
        };
        if !is_smaller {
            self.scratch.clear();
            self.scratch.extend_from_slice(json);
        }
        let compressed = &mut self.compressed;
        compressed.messages += u64::from(is_smaller);
        compressed.raw += u64::from(!is_smaller);
        compressed.bytes_before += json.len() as u64;
        compressed.bytes_after += self.scratch.len() as u64;
    }

    fn write_compressed(&mut self, text: &[u8]) {
        let level = self.compression.level.into();
        let new = || Deflater::new(level, WINDOW_BITS_MAX, false);
        let deflater = self.deflater.get_or_insert_with(new);
        // The header's length is that of the longest payload worth having, to begin with.
        let room = frame::header_len(text.len());
        self.scratch.resize(room, 0);
        deflater.deflate(text, &mut self.scratch);
        let payload_len = self.scratch.len() - room;
        let header_len = frame::header_len(payload_len);
        if header_len <= room {
            let mut header = frame::header(Opcode::Text, payload_len);
            header[0] |= RSV1;
            self.scratch[room - header_len..room].copy_from_slice(&header[..header_len]);
            self.scratch.drain(..room - header_len);
        }
    }

    /// What compression came to since the last call.
    pub fn take_compressed(&mut self) -> Compressed {
        std::mem::take(&mut self.compressed)
    }
}
