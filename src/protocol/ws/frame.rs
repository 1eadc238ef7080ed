//! Writing WebSocket frames (RFC 6455, section 5.2): one frame a message, FIN always set.
//!
//! A server's frames are unmasked, a client's masked. Not here: reading ([`super::reader`]).

use super::mask;

/// What a frame carries (RFC 6455, section 11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message in progress.
    Continuation = 0,
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The close handshake.
    Close = 8,
    /// Asks for a pong with the same payload.
    Ping = 9,
    /// Answers a ping, or is sent unasked.
    Pong = 10,
}

impl Opcode {
    /// The opcode of a frame's first byte; `None` for the reserved ones.
    #[must_use]
    pub const fn from_bits(first_byte: u8) -> Option<Self> {
        match first_byte & 0x0f {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    /// True for close, ping and pong.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Bytes of payload that a control frame may have (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Set in the first byte of a message's last frame.
pub(super) const FIN: u8 = 0x80;
/// Set in the first byte of a compressed message's first frame (RFC 7692, section 6).
pub const RSV1: u8 = 0x40;
/// Set in the second byte of a masked frame.
pub(super) const MASKED: u8 = 0x80;
/// Says in the second byte that two bytes of length follow.
pub(super) const LENGTH_IN_2: u8 = 126;
/// Says in the second byte that eight bytes of length follow.
pub(super) const LENGTH_IN_8: u8 = 127;
/// The longest header: 2 bytes, 8 of length, 4 of mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// Bytes of an unmasked frame's header for a payload of this length.
#[must_use]
pub const fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..126 => 2,
        126..0x1_0000 => 4,
        _ => 10,
    }
}

/// The payload of a whole unmasked frame; nothing of what is no frame.
#[must_use]
pub fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1).map(|byte| byte & !MASKED) {
        Some(LENGTH_IN_2) => 4,
        Some(LENGTH_IN_8) => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// An unmasked frame's header on the stack; the first [`header_len`] bytes count.
#[must_use]
pub fn header(opcode: Opcode, payload_len: usize) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[0] = FIN | opcode as u8;
    match u8::try_from(payload_len) {
        Ok(short) if short < LENGTH_IN_2 => bytes[1] = short,
        _ => match u16::try_from(payload_len) {
            Ok(medium) => {
                bytes[1] = LENGTH_IN_2;
                bytes[2..4].copy_from_slice(&medium.to_be_bytes());
            }
            Err(_) => {
                bytes[1] = LENGTH_IN_8;
                bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            }
        },
    }
    bytes
}

/// Appends the header of a server's frame.
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    debug_assert!(!opcode.is_control() || payload_len <= CONTROL_BYTES_MAX);
    out.extend_from_slice(&header(opcode, payload_len)[..header_len(payload_len)]);
}

/// Appends a server's frame.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    write_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a client's frame; `mask` is fresh randomness for each frame (RFC 6455, section 5.3).
pub fn write_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    let start = out.len();
    write_header(out, opcode, payload.len());
    out[start + 1] |= MASKED;
    out.extend_from_slice(&mask);
    let payload_start = out.len();
    out.extend_from_slice(payload);
    mask::apply(mask, 0, &mut out[payload_start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_section_5_7_are_written_as_the_rfc_shows() {
        let mut out = Vec::new();
        write_frame(&mut out, Opcode::Text, b"Hello");
        assert_eq!(out, b"\x81\x05Hello");
        out.clear();
        write_masked(&mut out, Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        out.clear();
        write_header(&mut out, Opcode::Binary, 256);
        assert_eq!(out, b"\x82\x7e\x01\x00");
        out.clear();
        write_header(&mut out, Opcode::Binary, 65_536);
        assert_eq!(out, b"\x82\x7f\0\0\0\0\0\x01\0\0");
    }

    #[test]
    fn lengths_take_the_shortest_form_on_both_sides_of_each_boundary() {
        for (payload_len, expected) in
            [(0, 2), (125, 2), (126, 4), (255, 4), (256, 4), (65_535, 4), (65_536, 10)]
        {
            let mut out = Vec::new();
            write_header(&mut out, Opcode::Text, payload_len);
            assert_eq!((header_len(payload_len), out.len()), (expected, expected), "{payload_len}");
        }
    }
}
