//! What every source does with a line: parse, offer, count, and say what was wrong.
//!
//! Not here: where lines come from. Invariant: a bad line costs its own refusal and nothing else.

use crate::config::mapping::MapRule;
use crate::protocol::json;
use crate::shell::feed::Feed;
use crate::sources::error::{LineError, bounded};
use crate::sources::mapping::FileNames;
use crate::sources::parser::Parser;

/// Why a line was refused, as its producer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl From<LineError> for Refusal {
    fn from(error: LineError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

impl Refusal {
    /// Appends the reply to the producer, one line:
    /// `{"line":7,"error":{"code":"…","message":"…"}}`.
    pub fn write(&self, out: &mut Vec<u8>, line_number: u64) {
        out.extend_from_slice(b"{\"line\":");
        json::write_u64(out, line_number);
        out.extend_from_slice(b",\"error\":{\"code\":\"");
        out.extend_from_slice(self.code.as_bytes());
        out.extend_from_slice(b"\",\"message\":");
        json::write_string(out, &self.message);
        out.extend_from_slice(b"}}\n");
    }
}

/// One source's way into the feed; its producers share it, because a parser's buffers grow with the
/// longest line.
#[derive(Debug)]
pub struct Intake {
    feed: Feed,
    /// Which source of the server it is.
    number: usize,
    parser: Parser,
}

impl Intake {
    /// The intake of source `number` of the server, for producer events, or for what `rules` map
    /// when there are any.
    #[must_use]
    pub fn new(feed: Feed, number: usize, rules: Vec<MapRule>, line_bytes_max: usize) -> Self {
        Self { feed, number, parser: Parser::new(rules, line_bytes_max) }
    }

    /// Takes one line; `ts_in` is when it was read, nanoseconds since the Unix epoch. Whoever sent
    /// it `may_publish` on some channels.
    ///
    /// # Errors
    /// Why it was refused; it has been counted.
    pub fn take(
        &mut self,
        line: Result<&[u8], LineError>,
        file: Option<&FileNames>,
        ts_in: u64,
        may_publish: impl FnOnce(&str) -> bool,
    ) -> Result<(), Refusal> {
        let taken = match line {
            Err(error) => Err(error.into()),
            Ok(line) => match self.parser.parse(line, file) {
                Err(error) => Err(error.into()),
                Ok(event) if !may_publish(event.channel) => Err(Refusal {
                    code: "forbidden",
                    message: format!(
                        "your credential does not allow to publish there: {}",
                        bounded(event.channel)
                    ),
                }),
                Ok(event) => self.feed.offer(&event, ts_in).map_err(|refused| Refusal {
                    code: refused.code(),
                    message: format!("{refused}: {}", bounded(event.channel)),
                }),
            },
        };
        let source = self.feed.source(self.number);
        match (&taken, source) {
            (Ok(()), Some(source)) => {
                source.events.add(1);
                source.event_ns.set(ts_in);
            }
            (Ok(()), None) => {}
            (Err(_), source) => {
                self.feed.counters().lines_bad.add(1);
                if let Some(source) = source {
                    source.lines_bad.add(1);
                }
            }
        }
        taken
    }
}
