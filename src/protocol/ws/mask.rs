//! Masking of client frames (RFC 6455, section 5.3). Masking twice is doing nothing.

/// Masks or unmasks `bytes` in place; the first byte is number `offset` of the frame's payload.
pub fn apply(mask: [u8; 4], offset: usize, bytes: &mut [u8]) {
    let mut mask = mask;
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask_byte) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask_byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn eight_at_a_time_equals_one_at_a_time(
            mask: [u8; 4],
            offset in 0usize..1_000,
            bytes: Vec<u8>,
        ) {
            let naive: Vec<u8> =
                bytes.iter().enumerate().map(|(at, b)| b ^ mask[(offset + at) % 4]).collect();
            let mut fast = bytes.clone();
            apply(mask, offset, &mut fast);
            prop_assert_eq!(&fast, &naive);
            apply(mask, offset, &mut fast);
            prop_assert_eq!(fast, bytes);
        }
    }
}
