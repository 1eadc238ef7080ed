//! From a byte stream, split anywhere, to whole WebSocket messages (RFC 6455, sections 5 and 8.1).
//!
//! The caller owns the bytes: a message that lies whole in one frame and one read is handed out
//! from the caller's buffer, unmasked in place. Anything else is collected here, up to
//! `message_bytes_max`, and that memory is freed as soon as the message was handed out. What is
//! compressed (RFC 7692) is inflated when it is complete. Not here: answering pings and closes.
//! Invariant: which messages and which violation come out depends on the bytes only, never on where
//! the stream was split.

use std::ops::Range;

use super::close;
use super::deflate::{InflateError, Inflater};
use super::frame::{
    CONTROL_BYTES_MAX, FIN, HEADER_BYTES_MAX, LENGTH_IN_2, LENGTH_IN_8, MASKED, Opcode, RSV1,
};
use super::mask;

/// Which side of the connection reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes masked frames only.
    Server,
    /// Takes unmasked frames only.
    Client,
}

/// A whole message, or a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Valid UTF-8.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// The answer to a ping, or unasked.
    Pong(&'a [u8]),
    /// The peer closes; whatever follows in the stream is to be ignored.
    Close {
        /// Why, unless the peer gave no code.
        code: Option<u16>,
        /// At most 123 bytes, often empty.
        reason: &'a str,
    },
}

/// What the peer did against RFC 6455; the connection is to be closed with
/// [`Violation::close_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RSV1, RSV2 or RSV3 where no extension defines it (section 5.2; RFC 7692, section 6.1).
    #[error("a reserved bit is set, but no extension was negotiated that defines it here")]
    ReservedBits,
    /// An opcode without a meaning (section 5.2).
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    /// A client must mask (section 5.1).
    #[error("a client's frame must be masked")]
    Unmasked,
    /// A server must not mask (section 5.1).
    #[error("a server's frame must not be masked")]
    Masked,
    /// Section 5.5.
    #[error("a control frame must not be fragmented")]
    ControlFragmented,
    /// Section 5.5.
    #[error("a control frame's payload must not pass 125 bytes")]
    ControlTooLong,
    /// Section 5.4.
    #[error("a continuation frame needs a message to continue")]
    NothingToContinue,
    /// Section 5.4.
    #[error("a new message began before the fragmented one ended")]
    MessageUnfinished,
    /// Section 5.2.
    #[error("a payload length must take the shortest form")]
    LengthNotMinimal,
    /// Section 5.2.
    #[error("a payload length must stay below 2^63")]
    LengthTooLarge,
    /// Section 5.5.1.
    #[error("a close frame's payload must be empty or begin with a two-byte code")]
    ClosePayload,
    /// Section 7.4.
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// Section 8.1.
    #[error("text must be valid UTF-8")]
    NotUtf8,
    /// RFC 7692, section 7.2.2.
    #[error("the message is not what permessage-deflate compresses to")]
    NotDeflate,
    /// The reader's own bound (section 10.4).
    #[error("the message is longer than this side accepts")]
    MessageTooBig,
}

impl Violation {
    /// 1002, 1007 or 1009 (section 7.4.1).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 | Self::NotDeflate => close::INVALID_PAYLOAD,
            Self::MessageTooBig => close::TOO_BIG,
            _ => close::PROTOCOL_ERROR,
        }
    }
}

/// A frame whose header is complete.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Bytes of payload.
    len: usize,
    /// Bytes of payload already collected.
    taken: usize,
    mask: [u8; 4],
    opcode: Opcode,
    fin: bool,
}

/// Where the payload of a complete message or control frame is.
enum Place {
    Input(Range<usize>),
    Collected(Range<usize>),
}

/// Takes a peer's bytes and gives its messages. It owns no heap memory between messages, and need
/// not be kept then.
#[derive(Debug)]
pub struct Reader {
    /// The fragments so far; while a control frame is collected, its bytes stand after them.
    collected: Vec<u8>,
    /// Bytes at the end of `collected` that were handed out by the last call.
    stale: usize,
    /// Bytes of `collected` already known to be valid UTF-8, while a text message is collected.
    utf8: usize,
    message_bytes_max: usize,
    frame: Option<Frame>,
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// Text or binary, from a message's first frame to its last.
    message: Option<Opcode>,
    /// That message is compressed.
    is_deflated: bool,
    role: Role,
}

impl Reader {
    /// A reader at the start of a stream that takes messages of at most `message_bytes_max` bytes.
    #[must_use]
    pub const fn new(role: Role, message_bytes_max: usize) -> Self {
        Self {
            collected: Vec::new(),
            stale: 0,
            utf8: 0,
            message_bytes_max,
            frame: None,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            message: None,
            is_deflated: false,
            role,
        }
    }

    /// Takes bytes from the front of `input`, says in `used` how many, and returns the next
    /// message if one became complete. Call it again with the rest of `input` until it returns
    /// `None`: then all of `input` was taken, and the memory of the last message is free.
    ///
    /// # Errors
    /// The peer's violation; the stream has no meaning after it, so the reader must be dropped.
    pub fn next_message<'a>(
        &'a mut self,
        input: &'a mut [u8],
        used: &mut usize,
    ) -> Result<Option<Message<'a>>, Violation> {
        self.next_message_of(input, used, None)
    }

    /// The same of a peer that has agreed to permessage-deflate, if there is an `inflater`; what it
    /// has inflated is handed out from there. One that keeps no context may be used for several
    /// readers.
    ///
    /// # Errors
    /// As [`Self::next_message`].
    pub fn next_message_of<'a>(
        &'a mut self,
        input: &'a mut [u8],
        used: &mut usize,
        inflater: Option<&'a mut Inflater>,
    ) -> Result<Option<Message<'a>>, Violation> {
        self.release();
        *used = 0;
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.take_header(input, used, inflater.is_some())? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let Some(place) = self.take_payload(frame, input, used)? else { return Ok(None) };
            self.frame = None;
            let kind = match frame.opcode {
                opcode if opcode.is_control() => opcode,
                _ if frame.fin => self.message.take().expect("the header was checked"),
                _ => continue,
            };
            let payload = match place {
                Place::Input(range) => &input[range],
                Place::Collected(range) => {
                    self.stale = range.len();
                    &self.collected[range]
                }
            };
            let payload = match inflater {
                Some(inflater) if self.is_deflated && !kind.is_control() => {
                    inflater.inflate(payload, self.message_bytes_max)?
                }
                _ => payload,
            };
            return message(kind, payload).map(Some);
        }
    }

    /// Whether nothing of a message has come yet: then a new reader does as well as this one.
    #[must_use]
    pub const fn is_between_messages(&self) -> bool {
        self.header_len == 0
            && self.frame.is_none()
            && self.message.is_none()
            && self.collected.is_empty()
    }

    /// Forgets what the last call handed out, and gives the memory back when nothing is left.
    fn release(&mut self) {
        self.collected.truncate(self.collected.len() - self.stale);
        self.stale = 0;
        if self.collected.is_empty() {
            self.collected = Vec::new();
        }
    }

    /// Gathers a frame's header and checks it; `None` when `input` ends before it does.
    fn take_header(
        &mut self,
        input: &[u8],
        used: &mut usize,
        may_deflate: bool,
    ) -> Result<Option<Frame>, Violation> {
        loop {
            let have = usize::from(self.header_len);
            let need = if have < 2 { 2 } else { header_len(self.header[1]) };
            if have >= 2 && have == need {
                break;
            }
            let take = (need - have).min(input.len() - *used);
            if take == 0 {
                return Ok(None);
            }
            self.header[have..have + take].copy_from_slice(&input[*used..*used + take]);
            *used += take;
            self.header_len += u8::try_from(take).expect("a header has at most 14 bytes");
            if have < 2 && have + take == 2 {
                self.check_first_two(may_deflate)?;
            }
        }
        let frame = self.parse_header()?;
        self.header_len = 0;
        self.frame = Some(frame);
        Ok(Some(frame))
    }

    fn check_first_two(&self, may_deflate: bool) -> Result<(), Violation> {
        let [first, second, ..] = self.header;
        let opcode = Opcode::from_bits(first);
        if first & RESERVED != 0 {
            let begins = matches!(opcode, Some(Opcode::Text | Opcode::Binary));
            if first & RESERVED != RSV1 || !may_deflate || !begins {
                return Err(Violation::ReservedBits);
            }
        }
        let opcode = opcode.ok_or(Violation::ReservedOpcode(first & 0x0f))?;
        match (self.role, second & MASKED != 0) {
            (Role::Server, false) => return Err(Violation::Unmasked),
            (Role::Client, true) => return Err(Violation::Masked),
            _ => {}
        }
        match opcode {
            Opcode::Continuation if self.message.is_none() => Err(Violation::NothingToContinue),
            Opcode::Text | Opcode::Binary if self.message.is_some() => {
                Err(Violation::MessageUnfinished)
            }
            _ if !opcode.is_control() => Ok(()),
            _ if first & FIN == 0 => Err(Violation::ControlFragmented),
            _ if usize::from(second & !MASKED) > CONTROL_BYTES_MAX => {
                Err(Violation::ControlTooLong)
            }
            _ => Ok(()),
        }
    }

    /// Reads the complete, half-checked header and begins a message if the frame does.
    fn parse_header(&mut self) -> Result<Frame, Violation> {
        let [first, second, long @ ..] = self.header;
        let (len, mask_at) = match second & !MASKED {
            LENGTH_IN_2 => {
                let len = u64::from(u16::from_be_bytes([long[0], long[1]]));
                if len < u64::from(LENGTH_IN_2) {
                    return Err(Violation::LengthNotMinimal);
                }
                (len, 2)
            }
            LENGTH_IN_8 => {
                let (bytes, _) = long.split_first_chunk().expect("a header has 14 bytes");
                let len = u64::from_be_bytes(*bytes);
                if len >> 63 != 0 {
                    return Err(Violation::LengthTooLarge);
                }
                if len < 0x1_0000 {
                    return Err(Violation::LengthNotMinimal);
                }
                (len, 8)
            }
            short => (u64::from(short), 0),
        };
        let opcode = Opcode::from_bits(first).expect("checked with the first two bytes");
        let mut mask = [0; 4];
        if second & MASKED != 0 {
            mask.copy_from_slice(&long[mask_at..mask_at + 4]);
        }
        let len = usize::try_from(len).map_err(|_| Violation::MessageTooBig)?;
        if !opcode.is_control() {
            if opcode != Opcode::Continuation {
                self.message = Some(opcode);
                self.is_deflated = first & RSV1 != 0;
                self.utf8 = 0;
            }
            if len > self.collected_bytes_max() - self.collected.len() {
                return Err(Violation::MessageTooBig);
            }
        }
        Ok(Frame { len, taken: 0, mask, opcode, fin: first & FIN != 0 })
    }

    /// Bytes of the message in progress that may come. What cannot be compressed gets longer by it:
    /// fast compressors use fixed codes, of up to nine bits for a byte (RFC 1951, section 3.2.6).
    const fn collected_bytes_max(&self) -> usize {
        let longer = if self.is_deflated { self.message_bytes_max / 8 + 64 } else { 0 };
        self.message_bytes_max + longer
    }

    /// Takes what `input` has of the frame's payload; the place of the message, or of the control
    /// frame, once the frame is complete.
    fn take_payload(
        &mut self,
        frame: Frame,
        input: &mut [u8],
        used: &mut usize,
    ) -> Result<Option<Place>, Violation> {
        let left = frame.len - frame.taken;
        let take = left.min(input.len() - *used);
        let range = *used..*used + take;
        *used += take;
        let bytes = &mut input[range.clone()];
        mask::apply(frame.mask, frame.taken, bytes);
        let control = frame.opcode.is_control();
        let alone = control || (frame.fin && frame.opcode != Opcode::Continuation);
        if take == frame.len && alone {
            return Ok(Some(Place::Input(range)));
        }
        self.collected.extend_from_slice(bytes);
        let done = take == left;
        if !control && self.message == Some(Opcode::Text) && !self.is_deflated {
            self.check_utf8(done && frame.fin)?;
        }
        if !done {
            self.frame = Some(Frame { taken: frame.taken + take, ..frame });
            return Ok(None);
        }
        let end = self.collected.len();
        let start = if control { end - frame.len } else { 0 };
        Ok(Some(Place::Collected(start..end)))
    }

    /// Checks the new bytes of a text in progress at once, so that bad text is not collected
    /// further. A character cut by the end of the bytes is bad only when the text ends there.
    fn check_utf8(&mut self, complete: bool) -> Result<(), Violation> {
        match std::str::from_utf8(&self.collected[self.utf8..]) {
            Ok(_) => self.utf8 = self.collected.len(),
            Err(error) if error.error_len().is_some() || complete => {
                return Err(Violation::NotUtf8);
            }
            Err(error) => self.utf8 += error.valid_up_to(),
        }
        Ok(())
    }
}

impl From<InflateError> for Violation {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::Corrupt => Self::NotDeflate,
            InflateError::TooBig => Self::MessageTooBig,
        }
    }
}

/// RSV1, RSV2 and RSV3 of a frame's first byte.
const RESERVED: u8 = 0x70;

/// Bytes of the whole header, from its second byte.
const fn header_len(second: u8) -> usize {
    let length = match second & !MASKED {
        LENGTH_IN_2 => 2,
        LENGTH_IN_8 => 8,
        _ => 0,
    };
    2 + length + if second & MASKED == 0 { 0 } else { 4 }
}

fn message(kind: Opcode, payload: &[u8]) -> Result<Message<'_>, Violation> {
    Ok(match kind {
        Opcode::Text => Message::Text(text(payload)?),
        Opcode::Binary => Message::Binary(payload),
        Opcode::Ping => Message::Ping(payload),
        Opcode::Pong => Message::Pong(payload),
        Opcode::Close => match payload {
            [] => Message::Close { code: None, reason: "" },
            [_] => return Err(Violation::ClosePayload),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !close::may_be_sent(code) {
                    return Err(Violation::CloseCode(code));
                }
                Message::Close { code: Some(code), reason: text(reason)? }
            }
        },
        Opcode::Continuation => unreachable!("a message has the kind of its first frame"),
    })
}

fn text(bytes: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(bytes).map_err(|_| Violation::NotUtf8)
}

#[cfg(test)]
mod tests;
