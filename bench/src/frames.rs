//! Where the WebSocket frames of a server begin and end (RFC 6455, section 5.2).
//!
//! `fanfare`'s reader puts messages together and judges text; a load generator has no time for
//! either, so this only reads lengths. Invariant: nothing is copied, and a frame that is not whole
//! is left for later.

/// A whole frame at the front of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The first byte without its flags.
    pub opcode: u8,
    /// Its message is compressed (RFC 7692, section 6).
    pub is_packed: bool,
    /// Where its payload begins.
    pub start: usize,
    /// Where it ends, and the next one begins.
    pub end: usize,
}

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CONTINUATION: u8 = 0;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

/// Flag of the first byte.
const PACKED: u8 = 0x40;

/// The first frame; none while it is not whole.
#[must_use]
#[inline]
pub fn first(bytes: &[u8]) -> Option<Frame> {
    let (opcode, start, length) = header(bytes)?;
    let end = start.saturating_add(length);
    let is_packed = bytes[0] & PACKED != 0;
    (end <= bytes.len()).then_some(Frame { opcode, is_packed, start, end })
}

/// Opcode, length of the header and of the payload, whether or not that is there; none while the
/// header is not whole.
#[must_use]
#[inline]
pub fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let &[first, second, ..] = bytes else { return None };
    let opcode = first & 0x0f;
    match second & 0x7f {
        126 => {
            let length = bytes.get(2..4)?.try_into().expect("two bytes");
            Some((opcode, 4, usize::from(u16::from_be_bytes(length))))
        }
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().expect("eight bytes"));
            Some((opcode, 10, usize::try_from(length).unwrap_or(usize::MAX)))
        }
        short => Some((opcode, 2, usize::from(short))),
    }
}

#[cfg(test)]
mod tests {
    use fanfare::protocol::ws::frame::{Opcode, write_frame};

    use super::*;

    #[test]
    fn frames_of_all_lengths_are_found_at_every_split_point() {
        let payloads = [0, 1, 125, 126, 300, 0xffff, 0x1_0000].map(|length| vec![b'a'; length]);
        let mut stream = Vec::new();
        for payload in &payloads {
            write_frame(&mut stream, Opcode::Binary, payload);
        }
        let mut ends = Vec::new();
        let mut at = 0;
        while let Some(frame) = first(&stream[at..]) {
            assert_eq!(frame.opcode, BINARY);
            assert_eq!(&stream[at + frame.start..at + frame.end], payloads[ends.len()]);
            at += frame.end;
            ends.push(at);
        }
        assert_eq!((ends.len(), at), (payloads.len(), stream.len()));
        let mut begin = 0;
        for end in ends {
            for cut in begin..end {
                assert_eq!(first(&stream[begin..cut]), None, "a part of a frame is none");
            }
            begin = end;
        }
    }
}
