//! A client's end of a connection: writes frames as a case wants them, and reads what comes.
//!
//! Not here: what should come. Invariant: what was agreed on for compression is kept to.

use fanfare::protocol::ws::deflate::{Agreed, Deflater, Inflater};
use fanfare::protocol::ws::frame::{Opcode, RSV1, write_masked};
use fanfare::protocol::ws::reader::{Message, Reader, Role};

use crate::cases::{FIN, Heard};
use crate::echo::{Stream, read, upgrade};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The largest message of the suite.
const BYTES_MAX: usize = 16 << 20;

pub(crate) struct Talk<S> {
    pub(crate) stream: S,
    pub(crate) agreed: Option<Agreed>,
    deflater: Option<Deflater>,
    inflater: Option<Inflater>,
    reader: Reader,
    buffer: Vec<u8>,
    /// What of the buffer is still to be read.
    at: usize,
    filled: usize,
}

impl<S: Stream> Talk<S> {
    /// Upgrades a connection, with this offer of compression.
    pub(crate) fn open(mut stream: S, offer: Option<&str>) -> Self {
        let (agreed, early) = upgrade(&mut stream, offer);
        assert!(early.is_empty(), "an echo speaks when it is spoken to");
        Self {
            stream,
            agreed,
            deflater: agreed.map(|agreed| Deflater::new(1, 15, agreed.client_context)),
            inflater: agreed.map(|agreed| Inflater::new(agreed.server_context)),
            reader: Reader::new(Role::Client, BYTES_MAX),
            buffer: vec![0; 64 << 10],
            at: 0,
            filled: 0,
        }
    }

    /// From now on it reads at most this many bytes at a time. Everything was read before.
    pub(crate) fn takes_at_most(&mut self, bytes: usize) {
        assert_eq!(self.at, self.filled, "the buffer holds nothing");
        self.buffer.resize(bytes, 0);
        (self.at, self.filled) = (0, 0);
    }

    /// A message in frames of at most `length` bytes, compressed if that was agreed on.
    pub(crate) fn message(&mut self, opcode: u8, message: &[u8], length: usize) -> Vec<u8> {
        let Some(deflater) = &mut self.deflater else { return frames(opcode, message, length) };
        let mut payload = Vec::new();
        deflater.deflate(message, &mut payload);
        frames(RSV1 | opcode, &payload, length)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// The next message; none at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<Heard> {
        loop {
            let rest = &mut self.buffer[self.at..self.filled];
            let mut used = 0;
            let message = self.reader.next_message_of(rest, &mut used, self.inflater.as_mut());
            let message = message.expect("the server keeps to the RFCs").map(Heard::from);
            self.at += used;
            if message.is_some() {
                return message;
            }
            let filled = read(&mut self.stream, &mut self.buffer);
            self.filled = filled.expect("the stream ends in order");
            self.at = 0;
            if self.filled == 0 {
                return None;
            }
        }
    }
}

/// A message as masked frames of at most `length` bytes; `first` is the opcode, and RSV1.
fn frames(first: u8, payload: &[u8], length: usize) -> Vec<u8> {
    let (mut bytes, mut first, mut rest) = (Vec::new(), first, payload);
    loop {
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        let fin = if behind.is_empty() { FIN } else { 0 };
        bytes.extend(masked(fin | first, piece));
        if behind.is_empty() {
            return bytes;
        }
        (first, rest) = (0, behind);
    }
}

/// A masked frame with this first byte.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Continuation, payload, MASK);
    frame[0] = first;
    frame
}

impl From<Message<'_>> for Heard {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes.into()),
            Message::Pong(bytes) => Self::Pong(bytes.into()),
            Message::Ping(bytes) => panic!("an echo does not ping: {bytes:?}"),
            Message::Close { code, .. } => Self::Close(code),
        }
    }
}
