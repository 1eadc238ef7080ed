//! Part 6: text is valid UTF-8, and what is not fails the connection as soon as that is certain.
//!
//! The sequences are those that the suite takes from Markus Kuhn's stress test.

use super::{Case, FIN};

const TEXT: u8 = 1;
const CONTINUATION: u8 = 0;
const MIXED: &str = "Hello-µ@ßöäüàá-UTF-8!!";
const WORD: &[u8] = "κόσμε".as_bytes();

/// What is valid.
const VALID: [&[&[u8]]; 9] = [
    &[
        b"hello$world",
        "hello¢world".as_bytes(),
        "hello€world".as_bytes(),
        "hello𤭢world".as_bytes(),
    ],
    &[b"\0", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    &[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    &[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd"],
    &[b"\xef\xbf\xbe", b"\xef\xbf\xbf", b"\xf0\x9f\xbf\xbe", b"\xf0\x9f\xbf\xbf"],
    &[b"\xf0\xaf\xbf\xbe", b"\xf0\xbf\xbf\xbf", b"\xf1\x8f\xbf\xbe", b"\xf1\xbf\xbf\xbf"],
    &[b"\xf2\x8f\xbf\xbe", b"\xf2\xbf\xbf\xbf", b"\xf3\x8f\xbf\xbe", b"\xf3\xbf\xbf\xbf"],
    &[b"\xf4\x8f\xbf\xbe"],
    &[b"\xef\xb7\x90", b"\xef\xb7\xaf"],
];

/// What is not, by its fault.
const INVALID: [&[&[u8]]; 9] = [
    // Five and six bytes, and beyond U+10FFFF.
    &[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xf7\xbf\xbf\xbf"],
    &[b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf", b"\xf4\x90\x80\x80"],
    // Continuations of nothing.
    &[b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf\x80", b"\x80\xbf\x80\xbf\x80\xbf"],
    // Beginnings of nothing.
    &[b"\xc2 \xc3 ", b"\xe0 \xef ", b"\xf0 \xf4 ", b"\xf8 \xfb ", b"\xfc \xfd "],
    // The last byte is missing.
    &[b"\xc3", b"\xe0\xa0", b"\xf0\x90\x80", b"\xdf", b"\xef\xbf", b"\xf4\x8f\xbf", b"\xed\x80"],
    // Bytes that never occur.
    &[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff", b"\xc0", b"\xc1", b"\xf5"],
    // Overlong, among them the largest.
    &[b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xc0\x80"],
    &[b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    // Halves of surrogate pairs, and whole ones.
    &[
        b"\xed\xa0\x80",
        b"\xed\xaf\xbf",
        b"\xed\xb0\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
    ],
];

pub(crate) fn cases() -> Vec<Case> {
    let mixed = MIXED.as_bytes();
    let bad = [WORD, b"\xed\xa0\x80", b"edited"].concat();
    let mut cases = vec![
        Case::new("6.1.1").text(b"").hears_text(b""),
        Case::new("6.1.2")
            .frame(TEXT, b"")
            .frame(CONTINUATION, b"")
            .frame(FIN | CONTINUATION, b"")
            .hears_text(b""),
        Case::new("6.1.3")
            .frame(TEXT, b"")
            .frame(CONTINUATION, b"middle")
            .frame(FIN | CONTINUATION, b"")
            .hears_text(b"middle"),
        Case::new("6.2.1").text(mixed).hears_text(mixed),
        // Cut within a character, and after each byte.
        Case::new("6.2.2").in_frames(TEXT, mixed, 7).hears_text(mixed),
        Case::new("6.2.3").in_frames(TEXT, mixed, 1).hears_text(mixed),
        Case::new("6.2.4").in_frames(TEXT, WORD, 1).hears_text(WORD),
        Case::new("6.3.1").text(&bad).fails_as_text(),
        Case::new("6.3.2").in_frames(TEXT, &bad, 1).fails_as_text(),
        // Nothing more is sent, so the server has to find it when it comes.
        Case::new("6.4.1")
            .frame(TEXT, WORD)
            .frame(CONTINUATION, b"\xf4\x90\x80\x80")
            .fails_as_text(),
        Case::new("6.4.2").frame(TEXT, WORD).frame(CONTINUATION, b"\xf4\x90").fails_as_text(),
    ];
    for length in 1..=WORD.len() {
        let case = Case::new(format!("6.6.{length}")).text(&WORD[..length]);
        cases.push(match std::str::from_utf8(&WORD[..length]) {
            Ok(_) => case.hears_text(&WORD[..length]),
            Err(_) => case.fails_as_text(),
        });
    }
    for (sequences, valid) in [(VALID, true), (INVALID, false)] {
        for (at, &sequence) in sequences.iter().copied().flatten().enumerate() {
            let case = Case::new(format!("6.5-23, {valid} {at}")).text(sequence);
            cases.push(if valid { case.hears_text(sequence) } else { case.fails_as_text() });
        }
    }
    cases
}
