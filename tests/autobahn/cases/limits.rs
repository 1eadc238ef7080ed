//! Parts 9 and 10: messages of up to 16 MiB, whole and in fragments, and many small ones.

use super::{Case, FIN, Heard};

const MIB: usize = 1 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (part, opcode) in [(1, 1), (2, 2)] {
        for (at, length) in
            [64 << 10, 256 << 10, MIB, 4 * MIB, 8 * MIB, 16 * MIB].into_iter().enumerate()
        {
            cases.push(echoed(format!("9.{part}.{}", at + 1), opcode, length, length));
        }
    }
    // Fragments of 64 bytes and more, of a message that is larger than every buffer.
    for (part, opcode) in [(3, 1), (4, 2)] {
        for (at, length) in [64, 1 << 10, 64 << 10, MIB].into_iter().enumerate() {
            cases.push(echoed(format!("9.{part}.{}", at + 1), opcode, MIB, length));
        }
    }
    for (part, opcode) in [(7, 1), (8, 2)] {
        for (at, length) in [0, 16, 64, 256, 1_024, 4_096].into_iter().enumerate() {
            let mut case = Case::new(format!("9.{part}.{}", at + 1));
            for _ in 0..100 {
                let one = echoed(String::new(), opcode, length, length);
                case.frames.extend(one.frames);
                case.heard.extend(one.heard);
            }
            cases.push(case);
        }
    }
    // One byte more than the endpoint takes: refused at its header.
    let case = Case::new("9, too big").frame(FIN | 2, &vec![0; 16 * MIB + 1]);
    cases.push(case.ends(super::End::Failed(Some(1009))));
    cases
}

pub(crate) fn automatic() -> Vec<Case> {
    vec![echoed("10.1.1".into(), 1, 64 << 10, 1_300)]
}

/// A message of this length in frames of `frame_len`, and its echo.
fn echoed(name: String, opcode: u8, length: usize, frame_len: usize) -> Case {
    let payload: Vec<u8> = (b' '..b'~').cycle().take(length).collect();
    let case = Case::new(name).in_frames(opcode, &payload, frame_len);
    match opcode {
        1 => case.hears_text(&payload),
        _ => case.hears(Heard::Binary(payload)),
    }
}
