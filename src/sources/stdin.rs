//! `stdin://`: NDJSON from standard input.
//!
//! A thread of its own reads, because a pipe may block. Refused lines are logged.

use std::io::{self, Read};

use crate::limits::READ_BYTES;
use crate::shell::feed::Feed;
use crate::shell::worker;
use crate::sources::intake::Intake;
use crate::sources::lines::{Line, Lines};
use crate::sources::producers::SourceSettings;
use crate::sources::report::Report;

/// Reads standard input to its end.
pub async fn run(feed: Feed, settings: SourceSettings) {
    let started = worker::start("stdin", |chunks: &mut worker::Chunks<Vec<u8>>| {
        let mut input = io::stdin().lock();
        loop {
            let mut chunk = vec![0; READ_BYTES];
            match input.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => chunk.truncate(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "standard input cannot be read on");
                    return;
                }
            }
            if !chunks.send(chunk) {
                return;
            }
        }
    });
    let mut chunks = match started {
        Ok(chunks) => chunks,
        Err(error) => return tracing::error!(%error, "no thread for standard input"),
    };
    let mut lines = Lines::new(settings.line_bytes_max);
    let mut intake = settings.intake(&feed);
    let mut report = Report::new("stdin");
    while let Some(chunk) = worker::next(&mut chunks).await {
        feed.counters().bytes.add(chunk.len() as u64);
        let ts_in = feed.now().unix_ns;
        let mut chunk = &chunk[..];
        while let Some(line) = lines.next(&mut chunk) {
            feed.room().await;
            take(&mut intake, line, ts_in, &mut report);
        }
        feed.publish().await;
    }
    if let Some(line) = lines.finish() {
        feed.room().await;
        take(&mut intake, line, feed.now().unix_ns, &mut report);
    }
    feed.publish().await;
    report.end();
}

fn take(intake: &mut Intake, line: Line<'_>, ts_in: u64, report: &mut Report) {
    if let Err(refusal) = intake.take(line.bytes, None, ts_in, |_| true) {
        report.refused(line.number, &refusal);
    }
}
