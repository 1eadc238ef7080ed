//! Part 2: each ping is answered by a pong of the same payload; pongs are not answered.

use super::{Case, FIN};

const PONG: u8 = FIN | 10;

pub(crate) fn cases() -> Vec<Case> {
    let long = [0xfe; 125];
    let some = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    let ten = |name: &str| {
        (0..10).fold(Case::new(name), |case, number| {
            let payload = format!("payload-{number}");
            case.ping(payload.as_bytes()).hears_pong(payload.as_bytes())
        })
    };
    let pinged = |name: &str, payload: &[u8]| Case::new(name).ping(payload).hears_pong(payload);
    vec![
        pinged("2.1", b""),
        pinged("2.2", b"Hello, world!"),
        pinged("2.3", some),
        // Also in single bytes, which is 2.6.
        pinged("2.4", &long),
        Case::new("2.5").ping(&[0xfe; 126]).fails(),
        Case::new("2.7").frame(PONG, b""),
        Case::new("2.8").frame(PONG, b"unsolicited pong payload"),
        Case::new("2.9").frame(PONG, b"unsolicited").ping(b"ping").hears_pong(b"ping"),
        // Also in single bytes, which is 2.11.
        ten("2.10"),
    ]
}
