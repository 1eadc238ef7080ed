//! What the peers written in Rust share: the feed, and their command line.
//!
//! Not here: anything about WebSocket; that is what they differ in. Invariant: an event is made
//! into a message once, and every subscriber gets a reference to it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::broadcast::Sender;

/// Messages that a subscriber may be behind, so many that nobody falls off in a burst: 16 MiB of
/// 256 bytes, once for all subscribers.
pub const CAPACITY: usize = 65_536;

/// The feed is read into pieces of so many bytes, which events share; a piece with less room than
/// a quarter of it is followed by the next.
const READ_BYTES: usize = 64 << 10;

/// The two ports of the command line; none after `--version`, which is answered here.
#[must_use]
pub fn ports(library: &str) -> Option<(u16, u16)> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == "--version" {
        println!("{library} {}", version(library));
        return None;
    }
    let (port, feed) = (first.parse(), arguments.next().unwrap_or_default().parse());
    match (port, feed) {
        (Ok(port), Ok(feed)) => Some((port, feed)),
        _ => {
            eprintln!("usage: {library} PORT FEED, or {library} --version");
            std::process::exit(2);
        }
    }
}

/// As the lock file has it.
fn version(library: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let entry = lock.split(&format!("name = \"{library}\"\nversion = \"")).nth(1);
    entry.and_then(|rest| rest.split('"').next()).unwrap_or("of unknown version")
}

/// A listener of this host.
///
/// # Errors
/// The port is taken.
pub async fn listener(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// One thread, for everything.
///
/// # Errors
/// The kernel's reason to refuse it.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()
}

/// Every line that comes over a connection to `listener` is sent to `events`, made into a message.
///
/// # Errors
/// The listener fails.
pub async fn feed<Message: Send + 'static>(
    listener: TcpListener,
    events: Sender<Message>,
    message: fn(Bytes) -> Message,
) -> io::Result<()> {
    loop {
        let (mut producer, _) = listener.accept().await?;
        let events = events.clone();
        tokio::spawn(async move {
            let mut bytes = BytesMut::new();
            loop {
                if bytes.capacity() - bytes.len() < READ_BYTES / 4 {
                    bytes.reserve(READ_BYTES);
                }
                if !producer.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                    return;
                }
                while let Some(end) = memchr::memchr(b'\n', &bytes) {
                    let line = bytes.split_to(end).freeze();
                    bytes.advance(1);
                    // Nobody subscribes: nobody misses it.
                    let _ = events.send(message(line));
                }
            }
        });
    }
}
