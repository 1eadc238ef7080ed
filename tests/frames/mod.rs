//! Takes a server's stream apart into frames, by RFC 6455 and nothing of the server's.

/// The first frame of `bytes`, if it is whole: opcode, payload, length.
pub(crate) fn first(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "one final frame a message, no reserved bits");
    let (header, len) = match second {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            (10, usize::try_from(len).unwrap())
        }
        len => (2, usize::from(len)),
    };
    assert!(second < 128, "a server does not mask");
    Some((first & 15, bytes.get(header..header + len)?, header + len))
}
