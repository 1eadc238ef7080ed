//! One event as a row of aligned columns.
//!
//! Not here: reading the frame (`client`). Invariant: a row is one line that does nothing to a
//! terminal, whatever the event holds; the data is shown digit for digit and cut at the end only.

use std::borrow::Cow;
use std::io::Write;

use jiff::Timestamp;

use crate::client::Event;

/// Characters of data in a row.
const DATA_SHOWN: usize = 100;

/// Appends a row: time (UTC, with the date unless it is that of `now_unix_ns`), channel, type, seq,
/// key, data.
pub fn write_row(out: &mut Vec<u8>, event: &Event<'_>, now_unix_ns: u64) {
    let data = event.data();
    let shown = data.char_indices().nth(DATA_SHOWN).map_or(data.len(), |(at, _)| at);
    let more = if shown < data.len() { "…" } else { "" };
    writeln!(
        out,
        "{}  {:<24} {:<8} {:>10}  {:<12} {}{more}",
        time(event.ts.or(event.ts_in).unwrap_or_default(), now_unix_ns),
        event.channel,
        event.kind.as_str(),
        event.seq,
        harmless(event.key.as_deref().unwrap_or("-")),
        harmless(&data[..shown]),
    )
    .expect("a vector takes every write");
}

/// The text with control characters written out: producers choose it, and terminals obey it.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let shown = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(shown).collect::<String>().into()
}

/// Time of day in UTC with microseconds, and the date where it is another day's than `now`.
fn time(unix_ns: u64, now_unix_ns: u64) -> String {
    let seconds = |unix_ns: u64| unix_ns / 1_000_000_000;
    let day = |unix_ns: u64| seconds(unix_ns) / 86_400;
    let form = if day(unix_ns) == day(now_unix_ns) { "%T.%6f" } else { "%F %T.%6f" };
    // 64 bits of nanoseconds end in the year 2554, and a timestamp in the year 9999.
    let time = Timestamp::from_nanosecond(unix_ns.into()).unwrap_or_default();
    time.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Link;
    use crate::client::frame::Frame;

    fn row(text: &str, now_unix_ns: u64) -> String {
        let mut scratch = text.as_bytes().to_vec();
        let frame = Frame::parse(&mut scratch).unwrap();
        let mut out = Vec::new();
        write_row(&mut out, &Event::of(&frame, text, Link::Follows), now_unix_ns);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_row_shows_the_time_and_the_data_as_it_came() {
        let text = concat!(
            r#"{"channel":"quote.BTCUSDT","type":"update","seq":42,"prev":38,"#,
            r#""ts":1723161256000001000,"ts_in":1723161256000085000,"key":"B\",\"data\":","#,
            r#""data":{"b":60001.10,"data":[1]}}"#
        );
        let row = |now_unix_ns: u64| row(text, now_unix_ns);
        let today = row(1_723_161_300_000_000_000);
        assert_eq!(
            today,
            "23:54:16.000001  quote.BTCUSDT            update           42  B\",\"data\":   \
            {\"b\":60001.10,\"data\":[1]}\n"
        );
        // The day after begins six minutes later.
        assert_eq!(row(1_723_161_600_000_000_000), format!("2024-08-08 {today}"));
    }

    #[test]
    fn nothing_in_an_event_ends_a_row_or_speaks_to_the_terminal() {
        let text = concat!(
            r#"{"channel":"a","type":"update","seq":1,"key":"x\n\u001b]0;y\u0007","#,
            "\"data\":{\"a\":\r1,\"b\":\"\u{9b}2J\"}}"
        );
        let row = row(text, 0);
        let controls: Vec<_> = row.chars().filter(|character| character.is_control()).collect();
        assert_eq!(controls, ['\n'], "{row}");
        assert!(row.contains(r"x\n\u{1b}]0;y\u{7}"), "{row}");
    }

    #[test]
    fn long_data_is_cut_between_characters() {
        let text = format!(r#"{{"channel":"a","seq":1,"data":"{}"}}"#, "é".repeat(200));
        let row = row(&text, 0);
        assert!(row.ends_with("é…\n"));
        assert_eq!(row.matches('é').count(), DATA_SHOWN - 1);
    }
}
