//! The recorded feed of a `capture` scenario: when its events came, and on which channel.
//!
//! Its events' own data is not sent: a payload must say its number and time at a fixed place.
//! Times, bursts and the mixture of channels are those of the capture. Invariant: a channel is an
//! instrument and a kind (trade or quote), numbered by their order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fanfare::config::mapping::Pointer;
use fanfare::config::{Replay, ReplayInput};
use fanfare::sources::capture::Capture;

use crate::scenario::{Kind, Scenario};
use crate::schedule::{Pace, Recorded};
use crate::server;

/// In `$FANFARE_DATA`, and its copy in the repository.
const WHOLE: &str = "binance-spot-20250325/binance_spot_trades_l1_btcusdt_ethusdt_solusdt.json.gz";
const VENDORED: &str = "examples/data/binance-spot-20250325.json.gz";
const TIME: &str = "/Item/time_received";
/// Three instruments with trades and quotes.
const CHANNELS: u64 = 6;

/// How many channels a scenario has.
#[must_use]
pub fn channels(scenario: &Scenario) -> u64 {
    if scenario.kind == Kind::Capture { CHANNELS } else { scenario.channels }
}

/// The feed at the scenario's pace; none for other scenarios.
///
/// # Errors
/// When it cannot be read.
pub fn recorded(scenario: &Scenario) -> Result<Option<Pace>, String> {
    if scenario.kind != Kind::Capture {
        return Ok(None);
    }
    let feed = read(&path(), scenario.pace)?;
    Ok(Some(Pace::Recorded(Arc::new(feed))))
}

fn path() -> PathBuf {
    let whole = std::env::var_os("FANFARE_DATA").map(|folder| PathBuf::from(folder).join(WHOLE));
    whole.filter(|path| path.exists()).unwrap_or_else(|| server::repository().join(VENDORED))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times are positive")]
fn read(path: &Path, pace: f64) -> Result<Recorded, String> {
    let replay = Replay {
        sort: true,
        time: Some(Pointer::parse(TIME).expect("a constant")),
        ..Replay::new(ReplayInput::Files(vec![path.to_owned()]))
    };
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut capture = Capture::open(&replay).map_err(|error| named(&error))?;
    let (mut events, mut first_ns) = (Vec::new(), None);
    while let Some(record) = capture.next_record().map_err(|error| named(&error))? {
        let time_ns = record.time_ns.map_err(|error| named(&error))?;
        let channel = channel(record.line)
            .ok_or_else(|| named(&format!("line {}: no instrument", record.line_number)))?;
        let since_ns = time_ns - *first_ns.get_or_insert(time_ns);
        events.push(((since_ns as f64 / pace) as u64, channel));
    }
    let last_ns = events.last().ok_or_else(|| named(&"no events"))?.0;
    // The mean distance lies between the last event and the first of the next turn.
    let length_ns = last_ns + last_ns / events.len() as u64 + 1;
    Ok(Recorded { events, length_ns })
}

/// `{"Item":{…"instrument":1,"kind":{"Trade":…`.
fn channel(line: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, rest) = text.split_once(r#""instrument":"#)?;
    let instrument = rest.chars().next()?.to_digit(10)?;
    let kind = u32::from(rest.contains(r#""kind":{"Trade""#));
    (instrument < 3).then_some(instrument * 2 + kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendored_capture_has_its_six_channels_in_order_of_time() {
        let feed = read(&server::repository().join(VENDORED), 10.0).unwrap();
        assert_eq!(feed.events.len(), 50_000);
        assert!(feed.events.is_sorted_by_key(|event| event.0));
        let mut counts = [0; 6];
        feed.events.iter().for_each(|event| counts[event.1 as usize] += 1);
        assert_eq!(counts, [17_634, 6_770, 12_033, 1_805, 9_301, 2_457]);
        let seconds = feed.length_ns as f64 / 1e9;
        assert!((18.4..18.5).contains(&seconds), "ten times as fast: {seconds}");
    }
}
