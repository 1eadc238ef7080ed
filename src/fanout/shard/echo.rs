//! A shard that says back to each client what it hears, for conformance suites; compiled only with
//! the feature `echo`.
//!
//! Everything else is as it is for subscribers: handshake, reader, answers to pings and closes,
//! sends. Not here: who sets it ([`super::ShardSettings::echo`]), and any bound on what a client
//! is owed, because what it sends is what it gets. Invariant: each message is answered by one of
//! the same kind and content.

use crate::protocol::ws::deflate::{Agreed, Deflater, Inflater};
use crate::protocol::ws::frame::{self, Opcode, RSV1};
use crate::protocol::ws::reader::Message;

use super::super::connection::ConnectionId;
use super::Shard;

/// What one client has agreed on.
#[derive(Debug)]
pub(super) struct Codec {
    deflater: Deflater,
    /// Away while the client's bytes are read.
    pub(super) inflater: Option<Box<Inflater>>,
}

impl Shard {
    /// Whether clients get back what they say, instead of the feed.
    pub(super) const fn is_echo(&self) -> bool {
        self.settings.echo
    }

    /// Keeps what inflates and deflates the messages of a client.
    pub(super) fn keep_codec(&mut self, id: ConnectionId, agreed: Agreed) {
        if self.is_echo() {
            const LEVEL: u32 = 1;
            let bits = agreed.server_window_bits();
            let deflater = Deflater::new(LEVEL, bits, agreed.server_context);
            let inflater = Some(Box::new(Inflater::new(agreed.client_context)));
            self.codecs.insert(id, Codec { deflater, inflater });
        }
    }

    /// Says back what a client has said.
    pub(super) fn echo(&mut self, id: ConnectionId, message: &Message<'_>) {
        let (opcode, payload) = match message {
            Message::Text(text) => (Opcode::Text, text.as_bytes()),
            Message::Binary(bytes) => (Opcode::Binary, *bytes),
            Message::Ping(bytes) => (Opcode::Pong, *bytes),
            Message::Pong(_) | Message::Close { .. } => return,
        };
        let mut deflated = Vec::new();
        let codec = self.codecs.get_mut(&id).filter(|_| !opcode.is_control());
        let (payload, bits) = match codec {
            None => (payload, 0),
            Some(codec) => {
                codec.deflater.deflate(payload, &mut deflated);
                (&deflated[..], RSV1)
            }
        };
        self.owe(id, |out| {
            let start = out.len();
            frame::write_frame(out, opcode, payload);
            out[start] |= bits;
        });
    }
}
