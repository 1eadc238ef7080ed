//! Producers that connect and send NDJSON, many at once; what TCP and Unix sockets share.
//!
//! Each producer gets a reply for each line that was refused, and none for those that were taken. A
//! producer that does not read its replies loses them, never its events. Not here: addresses
//! ([`super::tcp`], [`super::unix`]).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::config::mapping::MapRule;
use crate::limits::{PRODUCERS_MAX, READ_BYTES, REPLY_BYTES, REPLY_MS, RETRY_MS};
use crate::shell::executor;
use crate::shell::feed::Feed;
use crate::shell::net::{Listener, Stream};
use crate::sources::intake::{Intake, Refusal};
use crate::sources::lines::{Line, Lines};

/// How a source's input becomes events.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// Mapping rules; none for producer events.
    pub rules: Vec<MapRule>,
    /// Bytes of a line at most.
    pub line_bytes_max: usize,
}

impl SourceSettings {
    /// The source's way into `feed`.
    #[must_use]
    pub fn intake(self, feed: &Feed) -> Intake {
        Intake::new(feed.clone(), self.rules, self.line_bytes_max)
    }
}

/// Accepts producers until the server stops.
pub async fn serve(listener: Listener, feed: Feed, settings: SourceSettings) {
    let line_bytes_max = settings.line_bytes_max;
    let intake = Rc::new(RefCell::new(settings.intake(&feed)));
    while !feed.is_stopping() {
        match listener.accept().await {
            Ok(stream) if feed.counters().producers.value() < PRODUCERS_MAX => {
                let producer = Producer {
                    stream,
                    intake: Rc::clone(&intake),
                    feed: feed.clone(),
                    replies: Vec::new(),
                    deaf: false,
                };
                executor::spawn(producer.read(line_bytes_max));
            }
            Ok(mut stream) => {
                let refusal = Refusal {
                    code: "too_many_producers",
                    message: format!("{PRODUCERS_MAX} producers are connected already"),
                };
                let mut reply = Vec::new();
                refusal.write(&mut reply, 0);
                // A producer that does not listen will see the end of the stream.
                let _ = stream.write_all(&reply, REPLY_TIME).await;
            }
            Err(error) => {
                tracing::warn!(%error, "a producer could not be accepted; raise `ulimit -n`?");
                executor::sleep(Duration::from_millis(RETRY_MS)).await;
            }
        }
    }
}

const REPLY_TIME: Duration = Duration::from_millis(REPLY_MS);

struct Producer {
    stream: Stream,
    intake: Rc<RefCell<Intake>>,
    feed: Feed,
    replies: Vec<u8>,
    /// It does not read its replies, so it gets no more.
    deaf: bool,
}

impl Producer {
    async fn read(mut self, line_bytes_max: usize) {
        let feed = self.feed.clone();
        let counters = feed.counters();
        counters.producers.add(1);
        let mut lines = Lines::new(line_bytes_max);
        let mut buffer = vec![0; READ_BYTES].into_boxed_slice();
        while let Ok(count) = self.stream.read(&mut buffer).await {
            counters.bytes.add(count as u64);
            let ts_in = feed.now().unix_ns;
            let mut chunk = &buffer[..count];
            while let Some(line) = lines.next(&mut chunk) {
                self.take(line, ts_in).await;
            }
            if count == 0 {
                if let Some(line) = lines.finish() {
                    self.take(line, ts_in).await;
                }
                break;
            }
            feed.publish().await;
            self.reply().await;
            executor::yield_if_needed().await;
        }
        feed.publish().await;
        self.reply().await;
        counters.producers.sub(1);
    }

    async fn take(&mut self, line: Line<'_>, ts_in: u64) {
        self.feed.room().await;
        let taken = self.intake.borrow_mut().take(line.bytes, None, ts_in);
        if let Err(refusal) = taken {
            refusal.write(&mut self.replies, line.number);
            if self.replies.len() >= REPLY_BYTES {
                self.reply().await;
            }
        }
    }

    async fn reply(&mut self) {
        if !self.replies.is_empty() && !self.deaf {
            let written = self.stream.write_all(&self.replies, REPLY_TIME).await;
            if let Err(error) = written {
                self.deaf = true;
                tracing::warn!(%error, "a producer does not read its replies; it gets no more");
            }
        }
        self.replies.clear();
    }
}
