//! What is answered at which path.
//!
//! Not here: rows of lists (`listings`), and what a shard does (`super::super::clerk`). Invariant:
//! a parameter that means nothing is refused by name.

use std::borrow::Cow;
use std::time::Duration;

use crate::config::values;
use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::inspect::Sort;
use crate::limits::{DRAIN_MS_MAX, ROWS, ROWS_MAX};
use crate::shell::mailbox::{Answer, Drill, Question};
use crate::telemetry::metrics::CONTENT_TYPE;

use super::Admin;
use super::listings::{self, Order};
use super::request::Request;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    status: u16,
    kind: &'static str,
    body: Cow<'static, str>,
}

/// What a browser may do with what is here: our own files, our own requests, and WebSockets to
/// where clients connect. Nothing of another host, and nothing written into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

impl Page {
    pub(super) fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: body.into() }
    }

    pub(super) fn json(status: u16, body: String) -> Self {
        Self { status, kind: "application/json", body: body.into() }
    }

    /// A file that is part of the program.
    pub(super) const fn file(kind: &'static str, body: &'static str) -> Self {
        Self { status: 200, kind, body: Cow::Borrowed(body) }
    }

    /// The whole response.
    pub(super) fn response(&self) -> Vec<u8> {
        let Self { status, kind, body } = self;
        let phrase = match status {
            200 => "OK",
            202 => "Accepted",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            _ => "Service Unavailable",
        };
        let more = match status {
            401 => "WWW-Authenticate: Bearer\r\n",
            405 => "Allow: GET, POST\r\n",
            _ => "",
        };
        let len = body.len();
        let response = format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n{more}\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Security-Policy: {POLICY}\r\nReferrer-Policy: no-referrer\r\n\
             Connection: close\r\n\r\n{body}"
        );
        response.into_bytes()
    }
}

/// Every path, for who asks for another one.
const PATHS: &str = "GET /, /healthz, /readyz, /metrics, /stats, /connections, /channels; \
    POST /connections/ID/kick, /drill/drop\n";

impl Admin {
    pub(super) async fn page(&self, request: &Request) -> Page {
        let path: Vec<_> = request.path.split('/').skip(1).collect();
        let answered = match (&*request.method, &path[..]) {
            ("GET", ["healthz"]) => request.parameters([]).map(|[]| Page::text(200, "ok\n")),
            ("GET", ["readyz"]) => request.parameters([]).map(|[]| self.ready()),
            ("GET", ["stats"]) => request
                .parameters([])
                .map(|[]| Page::json(200, self.telemetry.to_json(&self.about.shown(&self.life)))),
            ("GET", ["metrics"]) => request.parameters([]).map(|[]| Page {
                status: 200,
                kind: CONTENT_TYPE,
                body: self.exporter.text().into(),
            }),
            ("GET", ["connections"]) => self.connections(request).await,
            ("GET", ["channels"]) => self.channels(request).await,
            ("POST", ["connections", id, "kick"]) => self.kick(request, id).await,
            ("POST", ["drill", "drop"]) => self.drill(request).await,
            ("GET" | "POST", _) => Ok(Page::text(404, format!("there are here: {PATHS}"))),
            _ => Ok(Page::text(405, "only GET and POST are answered\n")),
        };
        answered.unwrap_or_else(|message| Page::text(400, message))
    }

    /// Whether newcomers are welcome, and if not, why.
    fn ready(&self) -> Page {
        let mut reasons = Vec::new();
        if let Some(stage) = self.life.unready() {
            reasons.push(stage.to_owned());
        }
        if self.settings.ready_needs_sources {
            let down = self.telemetry.sources.iter().filter(|source| source.is_up.value() == 0);
            reasons.extend(down.map(|source| format!("source {} is down", source.url)));
        }
        match reasons.is_empty() {
            true => Page::text(200, "ready\n"),
            false => Page::text(503, format!("{}\n", reasons.join("\n"))),
        }
    }

    async fn connections(&self, request: &Request) -> Result<Page, String> {
        let [sort, limit] = request.parameters(["sort", "limit"])?;
        let order = match sort.unwrap_or("lag") {
            "lag" => Order::Lag,
            "drops" => Order::Drops,
            "rtt" => Order::Rtt,
            other => return Err(format!("sort is lag, drops or rtt, not `{other}`\n")),
        };
        let limit = rows(limit)?;
        let sort = match order {
            Order::Lag => Some(Sort::Lag),
            Order::Drops => Some(Sort::Drops),
            Order::Rtt => None,
        };
        let question = Question::Connections { sort, limit };
        let asked = self.mailboxes.iter().map(|mailbox| mailbox.ask(question.clone()));
        // All are asked before the first is waited for.
        let asked: Vec<_> = asked.collect();
        let (mut rows, mut silent) = (Vec::new(), Vec::new());
        for (shard, answer) in asked.into_iter().enumerate() {
            match answer.await {
                Some(Answer::Connections(listed)) => {
                    rows.extend(listed.into_iter().map(|one| (shard, one)));
                }
                _ => silent.push(shard),
            }
        }
        let total = self.telemetry.shards.iter().map(|shard| shard.connections.value()).sum();
        Ok(Page::json(200, listings::connections(rows, order, limit, total, &silent)))
    }

    async fn channels(&self, request: &Request) -> Result<Page, String> {
        let [limit] = request.parameters(["limit"])?;
        let limit = rows(limit)?;
        // Every shard has every event, so one of them is enough for what is busy.
        let Some(first) = self.mailboxes.first() else { return Ok(unanswered()) };
        let Some(Answer::Channels(reports)) = first.ask(Question::Channels { limit }).await else {
            return Ok(unanswered());
        };
        let question = Question::Subscribers(reports.iter().map(|report| report.id).collect());
        let asked = self.mailboxes.iter().map(|mailbox| mailbox.ask(question.clone()));
        let asked: Vec<_> = asked.collect();
        let mut subscribers = vec![0; reports.len()];
        for answer in asked {
            let Some(Answer::Subscribers(counts)) = answer.await else { return Ok(unanswered()) };
            subscribers.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let total = self.telemetry.ingest.channels.value();
        Ok(Page::json(200, listings::channels(&reports, &subscribers, total)))
    }

    async fn kick(&self, request: &Request, id: &str) -> Result<Page, String> {
        let [] = request.parameters([])?;
        let Some((shard, connection)) = parse_id(id) else {
            return Err(format!("`{id}` is no id of a connection; /connections has them\n"));
        };
        let gone = || Page::text(404, format!("connection {id} is gone\n"));
        let Some(mailbox) = self.mailboxes.get(shard) else { return Ok(gone()) };
        Ok(match mailbox.ask(Question::Kick(connection)).await {
            Some(Answer::Kicked(true)) => {
                tracing::info!("connection {id} was closed by the operator");
                Page::json(200, format!("{{\"kicked\":\"{id}\"}}\n"))
            }
            Some(_) => gone(),
            None => unanswered(),
        })
    }

    async fn drill(&self, request: &Request) -> Result<Page, String> {
        if !self.settings.drills {
            let cure = "this server takes no drills; start it with --drills\n";
            return Ok(Page::text(403, cure));
        }
        let [fraction, over] = request.parameters(["fraction", "over"])?;
        let parts = fraction.and_then(|text| text.parse::<f64>().ok());
        let Some(fraction) = parts.filter(|part| (0.0..=1.0).contains(part)) else {
            return Err("fraction is from 0 to 1, such as 0.3\n".into());
        };
        let window = values::duration(over.unwrap_or("0s"), 0..=DRAIN_MS_MAX)
            .map_err(|wrong| format!("over: {}; allowed: {}\n", wrong.what, wrong.allowed))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..=1")]
        let drill = Drill { parts: (fraction * 1e6).round() as u32, window };
        let asked = self.mailboxes.iter().map(|mailbox| mailbox.ask(Question::Drill(drill)));
        let asked: Vec<_> = asked.collect();
        for answer in asked {
            match answer.await {
                Some(Answer::Drilling(true)) => {}
                Some(_) => return Ok(Page::text(409, "another drill is under way\n")),
                None => return Ok(unanswered()),
            }
        }
        let connections: u64 =
            self.telemetry.shards.iter().map(|shard| shard.connections.value()).sum();
        tracing::warn!("a drill cuts {fraction} of {connections} connections");
        let over_ms = Duration::as_millis(&window);
        Ok(Page::json(
            202,
            format!(
                "{{\"connections\":{connections},\"fraction\":{fraction},\"over_ms\":{over_ms}}}\n"
            ),
        ))
    }
}

fn unanswered() -> Page {
    Page::text(503, "a shard does not answer; it is overloaded, or the server stops\n")
}

/// How many rows a list may have.
fn rows(limit: Option<&str>) -> Result<usize, String> {
    let Some(text) = limit else { return Ok(ROWS) };
    let count = text.parse().ok().filter(|count| (1..=ROWS_MAX).contains(count));
    count.ok_or_else(|| format!("limit is from 1 to {ROWS_MAX}, not `{text}`\n"))
}

/// `SHARD-PLACE-GENERATION`.
fn parse_id(text: &str) -> Option<(usize, ConnectionId)> {
    let mut numbers = text.split('-').map(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    let (shard, index, generation) = (next()?, next()?, next()?);
    numbers.next().is_none().then_some((shard as usize, ConnectionId { index, generation }))
}

/// The text of an id.
pub(super) fn show_id(shard: usize, id: ConnectionId) -> String {
    format!("{shard}-{}-{}", id.index, id.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_other_texts_are_none() {
        let id = ConnectionId { index: 7, generation: 90 };
        assert_eq!(parse_id(&show_id(3, id)), Some((3, id)));
        for other in ["", "1-2", "1-2-3-4", "1-2-x", "-1-2-3", "1-2-99999999999"] {
            assert_eq!(parse_id(other), None, "{other}");
        }
    }
}
