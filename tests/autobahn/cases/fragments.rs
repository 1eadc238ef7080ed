//! Part 5: fragments, control frames between them, and what is no fragment of anything.

use super::{Case, FIN};

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;
const CONTINUATION: u8 = 0;

pub(crate) fn cases() -> Vec<Case> {
    let (one, two, three) = (b"fragment1".as_slice(), b"fragment2".as_slice(), b"fragment3");
    let both = b"fragment1fragment2";
    let hello = b"Hello, world!";
    // Cases that differ in their cut only are one here: the driver makes all cuts.
    vec![
        Case::new("5.1").frame(PING, one).frame(FIN | CONTINUATION, two).fails(),
        Case::new("5.2").frame(PONG, one).frame(FIN | CONTINUATION, two).fails(),
        Case::new("5.3").frame(TEXT, one).frame(FIN | CONTINUATION, two).hears_text(both),
        Case::new("5.6")
            .frame(TEXT, one)
            .ping(b"ping payload")
            .frame(FIN | CONTINUATION, two)
            .hears_pong(b"ping payload")
            .hears_text(both),
        Case::new("5.9").frame(FIN | CONTINUATION, b"non-continuation").text(hello).fails(),
        Case::new("5.12").frame(CONTINUATION, b"non-continuation").text(hello).fails(),
        Case::new("5.15")
            .frame(TEXT, one)
            .frame(FIN | CONTINUATION, two)
            .frame(CONTINUATION, three)
            .text(b"fragment4")
            .hears_text(both)
            .fails(),
        Case::new("5.16")
            .frame(CONTINUATION, one)
            .frame(TEXT, two)
            .frame(FIN | CONTINUATION, three)
            .fails(),
        Case::new("5.17")
            .frame(FIN | CONTINUATION, one)
            .frame(TEXT, two)
            .frame(FIN | CONTINUATION, three)
            .fails(),
        Case::new("5.18").frame(TEXT, one).text(two).fails(),
        Case::new("5.19")
            .frame(TEXT, one)
            .frame(CONTINUATION, two)
            .ping(b"pongme 1!")
            .frame(CONTINUATION, three)
            .frame(CONTINUATION, b"fragment4")
            .ping(b"pongme 2!")
            .frame(FIN | CONTINUATION, b"fragment5")
            .hears_pong(b"pongme 1!")
            .hears_pong(b"pongme 2!")
            .hears_text(b"fragment1fragment2fragment3fragment4fragment5"),
    ]
}
