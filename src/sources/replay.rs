//! `replay:FILE…`: a recorded feed at its recorded pace, a multiple of it, or as fast as it goes.
//!
//! A thread of its own reads, unpacks and merges the files; here the records wait for their time.
//! Not here: the files' formats ([`super::capture`]). Invariant: records are offered in the order
//! of their times, and none before its time.

use std::time::Duration;

use crate::config::{Replay, Speed};
use crate::limits::READ_BYTES;
use crate::shell::executor;
use crate::shell::feed::Feed;
use crate::shell::turns;
use crate::shell::worker::{self, Chunks};
use crate::sources::capture::{Capture, CaptureError, Record};
use crate::sources::error::LineError;
use crate::sources::mapping::FileNames;
use crate::sources::producers::SourceSettings;
use crate::sources::report::Report;

/// Between two looks whether enough clients have come.
const CLIENTS_PERIOD: Duration = Duration::from_millis(10);

/// Some records on their way from the reading thread.
#[derive(Debug, Default)]
struct Chunk {
    text: Vec<u8>,
    records: Vec<Held>,
    /// The files, as the records number them; repeated in each chunk, which is cheap.
    files: Vec<FileNames>,
    /// The last record of a round: the next one starts the clock again.
    round_ended: bool,
    /// It could not be read on.
    is_broken: bool,
}

/// A record whose line is in its chunk.
#[derive(Debug)]
struct Held {
    time_ns: Result<u64, LineError>,
    line: std::ops::Range<usize>,
    file: usize,
    line_number: u64,
}

/// Replays until the end, or without end when it loops.
pub async fn run(replay: Replay, feed: Feed, settings: SourceSettings) {
    let (speed, clients_min) = (replay.speed, replay.clients_min);
    let mut chunks = match worker::start("replay", move |chunks| read(&replay, chunks)) {
        Ok(chunks) => chunks,
        Err(error) => return tracing::error!(%error, "no thread for the replay"),
    };
    let mut intake = settings.intake(&feed);
    let mut report = Report::new("replay");
    let mut pace = Pace { speed, start: None };
    while feed.subscribed() < clients_min && !feed.is_stopping() {
        executor::sleep(CLIENTS_PERIOD).await;
    }
    while let Some(chunk) = worker::next(&mut chunks).await {
        feed.counters().bytes.add(chunk.text.len() as u64);
        let mut ts_in = feed.now().unix_ns;
        for record in &chunk.records {
            if feed.is_stopping() {
                return;
            }
            if let Ok(time_ns) = record.time_ns
                && let Some(wait) = pace.wait(time_ns, &feed)
            {
                feed.publish().await;
                executor::sleep(wait).await;
                ts_in = feed.now().unix_ns;
            }
            if feed.is_full() {
                turns::give_way().await;
                feed.room().await;
                ts_in = feed.now().unix_ns;
            }
            let line = match &record.time_ns {
                Ok(_) => Ok(&chunk.text[record.line.clone()]),
                Err(error) => Err(error.clone()),
            };
            if let Err(refusal) =
                intake.take(line, Some(&chunk.files[record.file]), ts_in, |_| true)
            {
                report.refused(record.line_number, &refusal);
            }
        }
        feed.publish().await;
        feed.counters().replays_broken.add(u64::from(chunk.is_broken));
        if chunk.round_ended {
            pace.start = None;
        }
        turns::give_way().await;
    }
    report.end();
}

/// When records are due.
struct Pace {
    speed: Speed,
    /// Monotonic time and record time of the round's first record, nanoseconds.
    start: Option<(u64, u64)>,
}

impl Pace {
    /// How long a record of `time_ns` must wait, if at all.
    fn wait(&mut self, time_ns: u64, feed: &Feed) -> Option<Duration> {
        let Speed::Times(times) = self.speed else { return None };
        let now = feed.now().monotonic_ns;
        let (start, first) = *self.start.get_or_insert((now, time_ns));
        due_ns(start, time_ns.saturating_sub(first), times)
            .checked_sub(now)
            .filter(|&wait| wait > 0)
            .map(Duration::from_nanos)
    }
}

/// `elapsed` of recorded time after `start`, at a multiple of the recorded pace.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a replay of a month is 2^51 ns, exact in a float"
)]
fn due_ns(start: u64, elapsed: u64, times: f64) -> u64 {
    start.saturating_add((elapsed as f64 / times) as u64)
}

/// The reading thread.
fn read(replay: &Replay, chunks: &mut Chunks<Chunk>) {
    loop {
        match read_round(replay, chunks) {
            Ok(Round::Read) if replay.looping => {}
            Ok(Round::Empty) if replay.looping => {
                return tracing::error!("the replay has no lines, so it ends instead of looping");
            }
            Ok(_) => return,
            Err(error) => {
                chunks.send(Chunk { is_broken: true, ..Chunk::default() });
                return tracing::error!(%error, "the replay ends early");
            }
        }
    }
}

/// How one reading of a capture ended.
enum Round {
    /// To its end.
    Read,
    /// To its end, and there was nothing.
    Empty,
    /// Nobody wants more.
    Unwanted,
}

/// Reads the capture once.
fn read_round(replay: &Replay, chunks: &mut Chunks<Chunk>) -> Result<Round, CaptureError> {
    let mut round = Round::Empty;
    let mut capture = Capture::open(replay)?;
    let mut chunk = Chunk::default();
    loop {
        let record = match capture.next_record() {
            Ok(Some(record)) => record,
            end => {
                chunk.round_ended = true;
                let wanted = chunks.send(chunk);
                return end.map(|_| if wanted { round } else { Round::Unwanted });
            }
        };
        round = Round::Read;
        hold(&mut chunk, &record);
        if chunk.text.len() >= READ_BYTES && !chunks.send(std::mem::take(&mut chunk)) {
            return Ok(Round::Unwanted);
        }
    }
}

fn hold(chunk: &mut Chunk, record: &Record<'_>) {
    let file = chunk.files.iter().position(|file| file == record.file).unwrap_or_else(|| {
        chunk.files.push(record.file.clone());
        chunk.files.len() - 1
    });
    let start = chunk.text.len();
    chunk.text.extend_from_slice(record.line);
    chunk.records.push(Held {
        time_ns: record.time_ns.clone(),
        line: start..chunk.text.len(),
        file,
        line_number: record.line_number,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_due_at_its_recorded_distance_divided_by_the_speed() {
        assert_eq!(due_ns(100, 1_000, 1.0), 1_100);
        assert_eq!(due_ns(100, 1_000, 10.0), 200);
        assert_eq!(due_ns(100, 1_000, 0.5), 2_100);
    }
}
