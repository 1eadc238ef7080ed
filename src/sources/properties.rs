//! What holds for any bytes that a producer or a capture may send: the bodies of the fuzz targets.
//!
//! Not here: the fuzzer (`fuzz/`). Invariant: each function returns, or panics because a promise is
//! broken.

use std::cell::RefCell;

use crate::config::mapping::MapRule;
use crate::limits::KEY_BYTES_MAX;
use crate::protocol::channel::check_name;
use crate::sources::capture::Capture;
use crate::sources::error::LineError;
use crate::sources::lines::Lines;
use crate::sources::mapping::FileNames;
use crate::sources::parser::Parser;
use crate::sources::span::Scanner;

/// Bytes of a line here: small, so that a fuzzer reaches the limit.
const LINE_BYTES: usize = 256;

/// Bytes of an error's text at most.
const ERROR_BYTES_MAX: usize = 512;

thread_local! {
    /// A native parser, one with rules, and a judge; kept, so that leftovers of a line would show.
    static PARSERS: RefCell<(Parser, Parser, Scanner)> = RefCell::new((
        Parser::new(Vec::new(), LINE_BYTES),
        Parser::new(rules(), LINE_BYTES),
        Scanner::default(),
    ));
}

fn rules() -> Vec<MapRule> {
    const RULES: [&str; 3] = [
        r#"{ channel = "a.{/d/s}.{/d/e}", data = "/d", key = "/d/s", ts = "/d/E", ts_unit = "s" }"#,
        r#"{ channel = "{@stem}.{/0}", data = "/1/0" }"#,
        r#"{ channel = "all" }"#,
    ];
    RULES.into_iter().filter_map(|rule| MapRule::parse_inline(rule).ok()).collect()
}

/// A line is an event with a valid channel and key whose data is one JSON value inside the line, or
/// is refused with a short text; with a mapping and without.
pub fn producer_line(line: &[u8]) {
    let file = FileNames::embedded();
    PARSERS.with_borrow_mut(|(native, mapped, scanner)| {
        for parser in [native, mapped] {
            match parser.parse(line, Some(&file)) {
                Err(error) => check_error(&error),
                Ok(event) => {
                    assert_eq!(check_name(event.channel), Ok(()));
                    assert!(event.key.is_none_or(|key| (1..=KEY_BYTES_MAX).contains(&key.len())));
                    let around = line.as_ptr_range();
                    let inside = event.data.as_ptr_range();
                    assert!(around.start <= inside.start && inside.end <= around.end);
                    assert_eq!(event.data.trim_ascii(), event.data);
                    assert!(scanner.scan(event.data).is_ok(), "a value is a document");
                }
            }
        }
    });
}

/// A stream gives the same lines however it is cut; the first byte says how.
pub fn stream(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else {
        return;
    };
    let split = |chunk_bytes: usize| {
        let mut lines = Lines::new(LINE_BYTES);
        let mut found = Vec::new();
        for mut input in bytes.chunks(chunk_bytes) {
            while let Some(line) = lines.next(&mut input) {
                found.push((line.number, line.bytes.map(<[u8]>::to_vec)));
            }
        }
        if let Some(line) = lines.finish() {
            found.push((line.number, line.bytes.map(<[u8]>::to_vec)));
        }
        found
    };
    let whole = split(bytes.len().max(1));
    assert_eq!(split(usize::from(cut) + 1), whole);
    let longest = whole.iter().filter_map(|(_, line)| line.as_ref().ok()).map(Vec::len).max();
    assert!(longest.is_none_or(|length| length < LINE_BYTES));
}

/// A capture gives records in the order of time and ends, sorted or not, packed or not.
pub fn capture(bytes: &[u8]) {
    for sort in [false, true] {
        let Ok(mut capture) = Capture::of_bytes(bytes.to_vec(), sort) else {
            continue;
        };
        let mut last_ns = 0;
        while let Ok(Some(record)) = capture.next_record() {
            match record.time_ns {
                Err(error) => check_error(&error),
                Ok(time_ns) => {
                    assert!(time_ns >= last_ns);
                    last_ns = time_ns;
                }
            }
        }
        assert!(matches!(capture.next_record(), Ok(None)));
    }
}

fn check_error(error: &LineError) {
    let text = error.to_string();
    assert!(text.len() <= ERROR_BYTES_MAX && !text.contains('\n'), "{text}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn near_json() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => proptest::sample::select(vec![
                "{", "}", "[", "]", ":", ",", "\"", "\\", " ", "\r", "\n", "\"channel\":\"a.b\"",
                "\"key\":",
                "\"data\":", "\"ts\":", "{\"d\":{\"s\":\"x\",\"e\":1,\"E\":5", "1", "-0.5e3",
                "1e999", "null",
                "\"\\ud83d\\ude00\"", "7 {", "\u{feff}",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..40),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_event_or_an_error(bytes in near_json()) {
            super::producer_line(&bytes);
            super::stream(&bytes);
            super::capture(&bytes);
        }
    }
}
