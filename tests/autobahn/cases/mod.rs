//! What a case is.
//!
//! Invariant: a case says everything that must come back, in its order.

pub(crate) mod closing;
pub(crate) mod compression;
pub(crate) mod fragments;
pub(crate) mod framing;
pub(crate) mod limits;
pub(crate) mod pings;
pub(crate) mod reserved;
pub(crate) mod utf8;

use std::fmt;

/// Sets FIN.
pub(crate) const FIN: u8 = 0x80;

/// A frame to send, masked.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// FIN, reserved bits and opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// What comes back.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// How the connection ends, after what was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The driver closes normally, behind the frames of the case.
    Ours,
    /// A close frame of the case is answered with its code.
    Closed(Option<u16>),
    /// The server fails the connection.
    Failed(Option<u16>),
}

/// One case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// The suite's number.
    pub(crate) name: String,
    pub(crate) frames: Vec<Frame>,
    pub(crate) heard: Vec<Heard>,
    pub(crate) end: End,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), frames: Vec::new(), heard: Vec::new(), end: End::Ours }
    }

    pub(crate) fn frame(mut self, first: u8, payload: &[u8]) -> Self {
        self.frames.push(Frame { first, payload: payload.into() });
        self
    }

    pub(crate) fn text(self, payload: &[u8]) -> Self {
        self.frame(FIN | 1, payload)
    }

    pub(crate) fn ping(self, payload: &[u8]) -> Self {
        self.frame(FIN | 9, payload)
    }

    /// A message in frames of at most this many bytes.
    pub(crate) fn in_frames(mut self, opcode: u8, payload: &[u8], length: usize) -> Self {
        let (mut rest, mut first) = (payload, opcode);
        loop {
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            let fin = if behind.is_empty() { FIN } else { 0 };
            self = self.frame(first | fin, piece);
            if behind.is_empty() {
                return self;
            }
            (rest, first) = (behind, 0);
        }
    }

    pub(crate) fn hears(mut self, heard: Heard) -> Self {
        self.heard.push(heard);
        self
    }

    pub(crate) fn hears_text(self, text: &[u8]) -> Self {
        self.hears(Heard::Text(String::from_utf8(text.into()).unwrap()))
    }

    pub(crate) fn hears_pong(self, payload: &[u8]) -> Self {
        self.hears(Heard::Pong(payload.into()))
    }

    /// The server fails the connection for a protocol error.
    pub(crate) const fn fails(self) -> Self {
        self.ends(End::Failed(Some(1002)))
    }

    /// The server fails the connection for text that is none.
    pub(crate) const fn fails_as_text(self) -> Self {
        self.ends(End::Failed(Some(1007)))
    }

    pub(crate) const fn closes(self) -> Self {
        self.ends(End::Closed(Some(1000)))
    }

    pub(crate) const fn ends(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

impl fmt::Debug for Heard {
    /// With no more than the beginning of a payload.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bytes) = match self {
            Self::Text(text) => ("text", text.as_bytes()),
            Self::Binary(bytes) => ("binary", bytes.as_slice()),
            Self::Pong(bytes) => ("pong", bytes.as_slice()),
            Self::Close(code) => return write!(out, "close {code:?}"),
        };
        let shown = &bytes[..bytes.len().min(40)];
        write!(out, "{kind} of {} bytes '{}'", bytes.len(), shown.escape_ascii())
    }
}
