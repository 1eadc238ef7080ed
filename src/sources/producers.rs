//! Producers that connect and send NDJSON, many at once; what TCP and Unix sockets share.
//!
//! Each producer gets a reply for each line that was refused, and none for those that were taken. A
//! producer that does not read its replies loses them, never its events. Not here: addresses
//! (`server`), how many there may be (`places`) and who may publish where ([`super::publisher`]).
//! Invariant: whoever was accepted has a place until it is gone, and no event is taken from a
//! stranger.

use std::cell::RefCell;
use std::io;
use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::access::{Credential, Gate};
use crate::config::mapping::MapRule;
use crate::limits::{
    AUTH_MS, CLOSE_MS, PRODUCER_LOOK_MS, READ_BYTES, REPLY_BYTES, REPLY_MS, RETRY_MS,
};
use crate::shell::certificates::Certificates;
use crate::shell::executor;
use crate::shell::feed::Feed;
use crate::shell::net::{Listener, Stream};
use crate::shell::turns;
use crate::sources::intake::{Intake, Refusal};
use crate::sources::lines::{Line, Lines};
use crate::sources::places::{Place, Places};
use crate::sources::publisher::{Heard, Publisher, auth_expired, auth_required};

/// How a source's input becomes events.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// Which source of the server it is.
    pub number: usize,
    /// Mapping rules; none for producer events.
    pub rules: Vec<MapRule>,
    /// Bytes of a line at most.
    pub line_bytes_max: usize,
    /// Who may publish what; none: whoever can connect, everything.
    pub gate: Option<Arc<Gate>>,
    /// What producers are greeted with who come with TLS; none: they come without.
    pub certificates: Option<Arc<Certificates>>,
    /// How long a producer may take to show a credential; zero: [`AUTH_MS`].
    pub auth_timeout: Duration,
}

impl SourceSettings {
    /// The source's way into `feed`.
    #[must_use]
    pub fn intake(self, feed: &Feed) -> Intake {
        Intake::new(feed.clone(), self.number, self.rules, self.line_bytes_max)
    }
}

/// Accepts producers until the server stops, or a successor has the listener.
pub async fn serve(listener: Listener, feed: Feed, settings: SourceSettings) {
    let places = Places::new(feed.clone(), settings.number);
    let entrance = Rc::new(Entrance {
        line_bytes_max: settings.line_bytes_max,
        gate: settings.gate.clone(),
        certificates: settings.certificates.clone(),
        auth_time: match settings.auth_timeout {
            Duration::ZERO => Duration::from_millis(AUTH_MS),
            time => time,
        },
        intake: RefCell::new(settings.intake(&feed)),
        feed: feed.clone(),
    });
    while !feed.is_stopping() {
        let Some(accepted) = listener.accept().await else { return };
        match accepted {
            Ok(stream) => {
                let publisher = entrance.newcomer();
                match places.take(publisher.is_stranger()) {
                    Ok(place) => {
                        executor::spawn(enter(Rc::clone(&entrance), stream, publisher, place));
                    }
                    Err(refusal) => entrance.refuse(stream, &refusal).await,
                }
                turns::give_way().await;
            }
            Err(error) => {
                tracing::warn!(%error, "a producer could not be accepted; raise `ulimit -n`?");
                executor::sleep(Duration::from_millis(RETRY_MS)).await;
            }
        }
    }
}

const REPLY_TIME: Duration = Duration::from_millis(REPLY_MS);
const LOOK_PERIOD: Duration = Duration::from_millis(PRODUCER_LOOK_MS);

/// What all producers of one source share.
struct Entrance {
    line_bytes_max: usize,
    gate: Option<Arc<Gate>>,
    certificates: Option<Arc<Certificates>>,
    auth_time: Duration,
    intake: RefCell<Intake>,
    feed: Feed,
}

impl Entrance {
    /// Somebody who has just been accepted.
    fn newcomer(&self) -> Publisher {
        let gate = self.gate.clone();
        match self.certificates {
            None => Publisher::new(gate, None, self.feed.now().unix_ns),
            // Its certificate may say who it is.
            Some(_) => Publisher::stranger(gate),
        }
    }

    /// Says why somebody cannot stay; where the stream would have to be TLS first, its end does.
    async fn refuse(&self, mut stream: Stream, refusal: &Refusal) {
        if self.certificates.is_none() {
            say_no(&mut stream, refusal).await;
        }
    }
}

/// Says why somebody cannot stay; who does not listen will see the end of the stream.
async fn say_no(stream: &mut Stream, refusal: &Refusal) {
    let mut reply = Vec::new();
    refusal.write(&mut reply, 0);
    let _ = stream.write_all(&reply, REPLY_TIME).await;
}

/// Serves one producer from its first byte to its last.
async fn enter(entrance: Rc<Entrance>, mut stream: Stream, mut publisher: Publisher, place: Place) {
    let feed = &entrance.feed;
    let start_ns = feed.now().monotonic_ns;
    if let Some(certificates) = &entrance.certificates {
        let secured = executor::within(entrance.auth_time, stream.secure(certificates))
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = secured {
            tracing::debug!(%error, "a producer's handshake failed");
            return;
        }
        let certificate = stream.client_certificate();
        // A session that is resumed was not verified again.
        if certificate.as_ref().is_some_and(|shown| shown.is_expired(feed.now().unix_ns)) {
            say_no(&mut stream, &auth_expired()).await;
            stream.finish(Duration::from_millis(CLOSE_MS)).await;
            return;
        }
        let certificate = certificate.map(Credential::Certificate);
        let gate = entrance.gate.clone();
        publisher = Publisher::new(gate, certificate.as_ref(), feed.now().unix_ns);
    }
    let (entrance, replies) = (&*entrance, Vec::new());
    let producer =
        Producer { stream, entrance, publisher, place, auth_lines: 0, replies, deaf: false };
    producer.serve(start_ns).await;
}

struct Producer<'a> {
    stream: Stream,
    entrance: &'a Entrance,
    publisher: Publisher,
    place: Place,
    /// Lines with a credential, which do not count in the numbers of events.
    auth_lines: u64,
    replies: Vec<u8>,
    /// It does not read its replies, so it gets no more.
    deaf: bool,
}

impl Producer<'_> {
    async fn serve(mut self, start_ns: u64) {
        let ended = self.read(start_ns).await;
        self.entrance.feed.publish().await;
        self.reply().await;
        if ended.is_break() || self.entrance.certificates.is_some() {
            self.stream.finish(Duration::from_millis(CLOSE_MS)).await;
        }
    }

    /// Reads until the end of the stream, or until the producer may not go on.
    async fn read(&mut self, start_ns: u64) -> ControlFlow<()> {
        let feed = &self.entrance.feed;
        let counters = feed.counters();
        let mut lines = Lines::new(self.entrance.line_bytes_max);
        let mut buffer = vec![0; READ_BYTES].into_boxed_slice();
        self.admit()?;
        loop {
            let read = match self.read_some(&mut buffer, start_ns).await {
                Ok(read) => read,
                Err(refusal) => {
                    refusal.write(&mut self.replies, 0);
                    return ControlFlow::Break(());
                }
            };
            let Ok(count) = read else { return ControlFlow::Continue(()) };
            counters.bytes.add(count as u64);
            let ts_in = feed.now().unix_ns;
            let mut chunk = &buffer[..count];
            while let Some(line) = lines.next(&mut chunk) {
                self.take(line, ts_in).await?;
            }
            if count == 0 {
                return match lines.finish() {
                    Some(line) => self.take(line, ts_in).await,
                    None => ControlFlow::Continue(()),
                };
            }
            feed.publish().await;
            self.reply().await;
            turns::give_way().await;
        }
    }

    /// Gives it a place among the producers once it is no stranger; without one it may not go on.
    fn admit(&mut self) -> ControlFlow<()> {
        if !self.publisher.is_stranger()
            && let Err(refusal) = self.place.admit()
        {
            refusal.write(&mut self.replies, 0);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Reads once.
    ///
    /// # Errors
    /// Nothing came while the producer had a right to be here: the credential was not shown in
    /// time, or has ended.
    async fn read_some(
        &mut self,
        buffer: &mut [u8],
        start_ns: u64,
    ) -> Result<io::Result<usize>, Refusal> {
        let Self { stream, entrance, publisher, .. } = self;
        if entrance.gate.is_none() {
            return Ok(stream.read(buffer).await);
        }
        if publisher.is_stranger() {
            let waited = Duration::from_nanos(entrance.feed.now().monotonic_ns - start_ns);
            let time = entrance.auth_time.saturating_sub(waited);
            return executor::within(time, stream.read(buffer)).await.ok_or_else(auth_required);
        }
        // One read from look to look: of one that is begun again, bytes might be lost.
        let mut read = pin!(stream.read(buffer));
        loop {
            if let Some(read) = executor::within(LOOK_PERIOD, read.as_mut()).await {
                return Ok(read);
            }
            if let Some(refusal) = publisher.look(entrance.feed.now().unix_ns) {
                return Err(refusal);
            }
        }
    }

    async fn take(&mut self, line: Line<'_>, ts_in: u64) -> ControlFlow<()> {
        self.entrance.feed.room().await;
        let number = line.number - self.auth_lines;
        // A line that is too long is one of somebody, too.
        let bytes = *line.bytes.as_ref().unwrap_or(&&b""[..]);
        let heard = self.publisher.handle_line(bytes, ts_in);
        let publisher = &mut self.publisher;
        match heard {
            None => {
                let may_publish = |channel: &str| publisher.may_publish(channel);
                let taken =
                    self.entrance.intake.borrow_mut().take(line.bytes, None, ts_in, may_publish);
                if let Err(refusal) = taken {
                    refusal.write(&mut self.replies, number);
                }
            }
            Some(Heard::Authenticated) => {
                self.admit()?;
                self.auth_lines += 1;
                self.replies.extend_from_slice(b"{\"auth\":true}\n");
            }
            Some(Heard::Refused(refusal)) => {
                self.entrance.feed.counters().lines_bad.add(1);
                self.auth_lines += 1;
                refusal.write(&mut self.replies, 0);
            }
            Some(Heard::Ended(refusal)) => {
                self.entrance.feed.counters().lines_bad.add(1);
                refusal.write(&mut self.replies, number);
                return ControlFlow::Break(());
            }
        }
        if self.replies.len() >= REPLY_BYTES {
            self.reply().await;
        }
        ControlFlow::Continue(())
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
