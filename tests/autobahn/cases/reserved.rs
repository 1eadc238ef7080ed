//! Parts 3 and 4: reserved bits and opcodes fail the connection, and nothing behind them counts.

use super::{Case, FIN};

const HELLO: &[u8] = b"Hello, world!";

pub(crate) fn bits() -> Vec<Case> {
    let behind = |name: &str, bits: u8| {
        let case = Case::new(name).text(HELLO).frame(FIN | bits << 4 | 1, HELLO).ping(b"");
        case.hears_text(HELLO).fails()
    };
    vec![
        Case::new("3.1").frame(FIN | 1 << 4 | 1, HELLO).fails(),
        // Each of them also frame by frame and byte by byte, which are 3.3 and others.
        behind("3.2", 2),
        behind("3.4", 3),
        Case::new("3.5").frame(FIN | 4 << 4 | 2, &[0xff; 8]).fails(),
        Case::new("3.6").frame(FIN | 5 << 4 | 9, HELLO).fails(),
        Case::new("3.7").frame(FIN | 6 << 4 | 8, b"").fails(),
    ]
}

pub(crate) fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (part, first) in [(1, 3), (2, 11)] {
        for number in 0..5 {
            let name = format!("4.{part}.{}", number + 1);
            let payload = if number % 2 == 0 { b"" } else { HELLO };
            let frame = FIN | (first + number);
            cases.push(match number {
                0 | 1 => Case::new(name).frame(frame, payload).fails(),
                _ => {
                    let case = Case::new(name).text(HELLO).frame(frame, payload).ping(b"");
                    case.hears_text(HELLO).fails()
                }
            });
        }
    }
    cases
}
