//! Part 1: text and binary messages of the lengths at which a header changes its form.

use super::{Case, FIN, Heard};

const LENGTHS: [usize; 7] = [0, 125, 126, 127, 128, 65_535, 65_536];

pub(crate) fn cases() -> Vec<Case> {
    let text = |(at, length): (usize, usize)| {
        let payload = vec![b'*'; length];
        Case::new(format!("1.1.{}", at + 1)).text(&payload).hears_text(&payload)
    };
    let binary = |(at, length): (usize, usize)| {
        let payload = vec![0xfe; length];
        let case = Case::new(format!("1.2.{}", at + 1)).frame(FIN | 2, &payload);
        case.hears(Heard::Binary(payload))
    };
    let lengths = LENGTHS.into_iter().enumerate();
    lengths.clone().map(text).chain(lengths.map(binary)).collect()
}
