//! The server, its producer, and what is done to them: a drain, and a kill in the middle of
//! something.
//!
//! Not here: subscribers. Invariant: after each start the producer goes on right behind the last
//! event that the server has kept, so every event has the `seq` that [`super::truth`] says.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::truth::Truth;
use crate::support::{Client, Folder, Server, connect, eventually, fanfare};

/// Seconds of the capture in one second.
const SPEED: u64 = 6;

/// So many events around the one at which the server is killed come without a pause, so that it
/// dies in the middle of something.
const RUSH_EVENTS: u64 = 3_000;

/// Bytes that are written at once, at most.
const BATCH_BYTES: usize = 32 << 10;

/// See the module's head.
pub(crate) struct Stage<'a> {
    truth: &'a Truth,
    flags: String,
    /// Keeps the port from everybody else while no server has it.
    _port: Socket,
    pub(crate) listen: SocketAddr,
    server: Option<Server>,
    epoch: Option<String>,
    /// Events that were written, as far as they were accepted.
    sent: AtomicU64,
    _folder: Folder,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(truth: &'a Truth) -> Self {
        let folder = Folder::new();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let port = Socket::new(Domain::for_address(any), Type::STREAM, None).unwrap();
        port.set_reuse_address(true).unwrap();
        port.set_reuse_port(true).unwrap();
        port.bind(&any.into()).unwrap();
        let listen = port.local_addr().unwrap().as_socket().unwrap();
        let flags = format!(
            "serve --listen {listen} --admin 127.0.0.1:0 --source tcp://127.0.0.1:0 \
             --journal {} --drain 1s --heartbeat 300ms --log-bytes 8MiB \
             --send-buffer-bytes 64KiB --unsent-bytes 16KiB",
            folder.path("journal")
        );
        let (sent, server, epoch) = (AtomicU64::new(0), None, None);
        Self { truth, flags, _port: port, listen, server, epoch, sent, _folder: folder }
    }

    /// Starts the server, and finds out where the producer has to go on.
    pub(crate) fn start(&mut self) {
        let server = Server::launch(fanfare(&self.flags));
        let welcome = welcome(&server);
        let epoch = welcome["epoch"].as_str().unwrap().to_owned();
        assert_eq!(*self.epoch.get_or_insert_with(|| epoch.clone()), epoch);
        let seq = welcome["seq"].as_u64().unwrap();
        let seen = self.truth.seen();
        assert!(seen <= seq, "clients have seen {seen}, which is lost: the journal ends at {seq}");
        self.sent.store(seq, Ordering::Relaxed);
        println!("a server goes on after {seq}");
        self.server = Some(server);
    }

    /// Produces until everything is sent, or until the server is shot by `shot` once the producer
    /// has come to `until`.
    pub(crate) fn play(&mut self, until: u64, shot: Option<Shot>) {
        let mut server = self.server.take().expect("it was started");
        let address = server.sources[0].strip_prefix("tcp://").unwrap().to_owned();
        let this = &*self;
        thread::scope(|scope| {
            let is_killed = shot == Some(Shot::Kill);
            let rush = if is_killed { until - RUSH_EVENTS..until + RUSH_EVENTS } else { 0..0 };
            let producer =
                scope.spawn(move || this.produce(TcpStream::connect(address).unwrap(), &rush));
            if let Some(shot) = shot {
                eventually("it is produced", || this.sent.load(Ordering::Relaxed) >= until);
                server.signal(shot.signal());
                let code = server.end().code();
                assert_eq!(code, shot.code(), "{}", server.log());
            }
            let is_all = producer.join().unwrap();
            assert!(is_all == shot.is_none(), "sent all: {is_all}: {}", server.log());
            println!("{shot:?}: {} events were written", this.sent.load(Ordering::Relaxed));
        });
        if shot.is_none() {
            let end = self.truth.end();
            eventually("all is taken in", || server.stats()["ingest"]["journal_seq"] == end);
            self.server = Some(server);
        }
    }

    /// Writes events at the pace of the capture until all are written, which is true, or nobody
    /// takes them any more.
    fn produce(&self, mut stream: TcpStream, rush: &Range<u64>) -> bool {
        let begun = Instant::now();
        let mut seq = self.sent.load(Ordering::Relaxed) + 1;
        let mut batch = Vec::new();
        let first_ns = self.truth.event(seq).map_or(0, |event| event.at_ns);
        while let Some(event) = self.truth.event(seq) {
            let due = Duration::from_nanos(event.at_ns.saturating_sub(first_ns) / SPEED);
            let early = due.saturating_sub(begun.elapsed());
            let early = if rush.contains(&seq) { Duration::ZERO } else { early };
            if !early.is_zero() || batch.len() > BATCH_BYTES {
                if stream.write_all(&batch).is_err() {
                    return false;
                }
                batch.clear();
                self.sent.store(seq - 1, Ordering::Relaxed);
                // The pace of the producer; nobody waits for it.
                thread::sleep(early);
            }
            batch.extend_from_slice(self.truth.line(event));
            seq += 1;
        }
        let is_written = stream.write_all(&batch).is_ok();
        self.sent.store(seq - 1, Ordering::Relaxed);
        is_written
    }
}

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shot {
    Drain,
    Kill,
}

impl Shot {
    const fn signal(self) -> &'static str {
        match self {
            Self::Drain => "TERM",
            Self::Kill => "KILL",
        }
    }

    const fn code(self) -> Option<i32> {
        match self {
            Self::Drain => Some(0),
            Self::Kill => None,
        }
    }
}

fn welcome(server: &Server) -> Value {
    let welcome = Client::upgrade(connect(server.listen)).json();
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    welcome
}
