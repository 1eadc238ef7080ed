//! What was compressed once for all clients is inflated once for all clients.
//!
//! A load generator has no time to inflate every delivery. It need not: from a server that keeps no
//! context the same message comes to everybody as the same bytes. Invariant: what is given back is
//! what those bytes inflate to.

use fanfare::protocol::ws::deflate::Inflater;

/// More messages than are on their way at once; each has a place by its checksum.
const PLACES: usize = 4_096;

/// Longer messages are none of ours: a payload has at most 64 KiB.
const MESSAGE_BYTES_MAX: usize = 1 << 17;

#[derive(Debug)]
pub(super) struct Unpacked {
    inflater: Inflater,
    /// Compressed, and inflated.
    places: Box<[(Vec<u8>, Vec<u8>)]>,
}

impl Unpacked {
    pub(super) fn new() -> Self {
        let places = std::iter::repeat_with(Default::default).take(PLACES).collect();
        Self { inflater: Inflater::new(false), places }
    }

    /// The text of a compressed message; none: it is not one.
    pub(super) fn text(&mut self, packed: &[u8]) -> Option<&[u8]> {
        let place = &mut self.places[crc32fast::hash(packed) as usize % PLACES];
        if place.0 != packed {
            let text = self.inflater.inflate(packed, MESSAGE_BYTES_MAX).ok()?;
            place.0.clear();
            place.0.extend_from_slice(packed);
            place.1.clear();
            place.1.extend_from_slice(text);
        }
        Some(&place.1)
    }
}

#[cfg(test)]
mod tests {
    use fanfare::protocol::ws::deflate::Deflater;

    use super::*;

    #[test]
    fn messages_are_what_they_inflate_to_also_where_they_share_a_place() {
        let (mut deflater, mut unpacked) = (Deflater::new(1, 15, false), Unpacked::new());
        let texts: Vec<_> = (0..3 * PLACES).map(|number| format!("{number}").repeat(20)).collect();
        let packed: Vec<_> = (texts.iter())
            .map(|text| {
                let mut out = Vec::new();
                deflater.deflate(text.as_bytes(), &mut out);
                out
            })
            .collect();
        for _ in 0..2 {
            for (text, packed) in texts.iter().zip(&packed) {
                assert_eq!(unpacked.text(packed), Some(text.as_bytes()));
            }
        }
        assert_eq!(unpacked.text(b"no block of any kind"), None);
        assert_eq!(unpacked.text(&packed[0]), Some(texts[0].as_bytes()));
    }
}
