//! Part 7: the closing handshake, its codes and reasons, and what follows it.

use super::{Case, End, FIN};

const TEXT: u8 = FIN | 1;
const CLOSE: u8 = FIN | 8;
const NORMAL: &[u8] = &1000_u16.to_be_bytes();

/// Codes that may be sent.
const GOOD: [u16; 16] = [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
];

/// Codes that must not.
const BAD: [u16; 12] = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];

pub(crate) fn cases() -> Vec<Case> {
    let hello = b"Hello World!";
    let long = vec![b'B'; 256 << 10];
    let reason = |length: usize| [NORMAL, &vec![b'*'; length]].concat();
    let mut cases = vec![
        Case::new("7.1.1").text(hello).hears_text(hello),
        Case::new("7.1.2").frame(CLOSE, NORMAL).frame(CLOSE, NORMAL).closes(),
        Case::new("7.1.3").frame(CLOSE, NORMAL).ping(b"").closes(),
        Case::new("7.1.4").frame(CLOSE, NORMAL).frame(TEXT, hello).closes(),
        Case::new("7.1.5").frame(1, b"fragment1").frame(CLOSE, NORMAL).frame(FIN, b"2").closes(),
        Case::new("7.1.6").text(&long).frame(CLOSE, NORMAL).ping(b"").hears_text(&long).closes(),
        Case::new("7.3.1").frame(CLOSE, b"").ends(End::Closed(None)),
        Case::new("7.3.2").frame(CLOSE, b"a").fails(),
        Case::new("7.3.3").frame(CLOSE, NORMAL).closes(),
        Case::new("7.3.4").frame(CLOSE, &[NORMAL, hello].concat()).closes(),
        Case::new("7.3.5").frame(CLOSE, &reason(123)).closes(),
        Case::new("7.3.6").frame(CLOSE, &reason(124)).fails(),
        Case::new("7.5.1")
            .frame(CLOSE, &[NORMAL, b"\xce\xba\xed\xa0\x80"].concat())
            .fails_as_text(),
    ];
    for code in GOOD {
        let case = Case::new(format!("7.7, {code}")).frame(CLOSE, &code.to_be_bytes());
        cases.push(case.ends(End::Closed(Some(code))));
    }
    for code in BAD {
        cases.push(Case::new(format!("7.9, {code}")).frame(CLOSE, &code.to_be_bytes()).fails());
    }
    cases
}
