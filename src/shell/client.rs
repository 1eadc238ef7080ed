//! A blocking WebSocket client for the tools.
//!
//! Not here: what is said over it, and the codec ([`crate::protocol::ws`]). Invariant: a read ends
//! after its timeout at the latest, so that a caller sees a signal.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::limits::{
    CLIENT_CONNECT_MS, CLIENT_MESSAGE_BYTES_MAX, CLOSE_MS, READ_BYTES, UPGRADE_BYTES_MAX,
};
use crate::protocol::ws::client::{key, parse_response, write_request};
use crate::protocol::ws::close;
use crate::protocol::ws::frame::{Opcode, write_masked};
use crate::protocol::ws::handshake::SUBPROTOCOL;
use crate::protocol::ws::reader::{Message, Reader, Role};
use crate::shell::dial::{ClientError, connect_tcp, has_port};

/// Whether there is more to come after a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// There is, or the timeout passed.
    Open,
    /// The server closed, with this code and reason.
    Closed(Option<u16>, String),
    /// The stream ended without a close frame.
    Ended,
}

/// A WebSocket to a server, after the upgrade.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    reader: Reader,
    input: Vec<u8>,
    /// Bytes at the front of `input` that came with the upgrade's answer.
    early: usize,
    output: Vec<u8>,
}

impl Client {
    /// Connects to `ws://HOST[:PORT][/PATH]` and upgrades.
    ///
    /// # Errors
    /// The URL, the connection or the server's refusal.
    pub fn connect(url: &str) -> Result<Self, ClientError> {
        let (host, path) = split_url(url)?;
        let address = if has_port(host) { host.to_owned() } else { format!("{host}:80") };
        let stream = connect_tcp(&address)?;
        let mut client = Self {
            stream,
            reader: Reader::new(Role::Client, CLIENT_MESSAGE_BYTES_MAX),
            input: vec![0; READ_BYTES],
            early: 0,
            output: Vec::new(),
        };
        client.upgrade(host, path)?;
        Ok(client)
    }

    fn upgrade(&mut self, host: &str, path: &str) -> Result<(), ClientError> {
        let ended = |error| ClientError::UpgradeEnded(host.to_owned(), error);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random().to_ne_bytes());
        nonce[8..].copy_from_slice(&random().to_ne_bytes());
        let key = key(nonce);
        write_request(&mut self.output, host, path, &key, Some(SUBPROTOCOL));
        self.flush().map_err(ended)?;
        self.stream.set_read_timeout(Some(Duration::from_millis(CLIENT_CONNECT_MS)))?;
        let mut filled = 0;
        const { assert!(READ_BYTES > UPGRADE_BYTES_MAX) };
        loop {
            match self.stream.read(&mut self.input[filled..]) {
                Ok(0) => return Err(ended(ErrorKind::UnexpectedEof.into())),
                Ok(taken) => filled += taken,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(ended(error)),
            }
            let head = parse_response(&self.input[..filled], &key)
                .map_err(|error| ClientError::Upgrade(host.to_owned(), error))?;
            if let Some(head) = head {
                self.input.copy_within(head..filled, 0);
                self.early = filled - head;
                return Ok(());
            }
        }
    }

    /// Sends one text message.
    ///
    /// # Errors
    /// The connection's.
    pub fn send_text(&mut self, text: &str) -> Result<(), ClientError> {
        write_masked(&mut self.output, Opcode::Text, text.as_bytes(), mask());
        Ok(self.flush()?)
    }

    /// Reads once and gives every text message in it to `take`; answers pings and the close.
    ///
    /// # Errors
    /// The connection's, or the server's violation, which is answered by its close code.
    pub fn read(
        &mut self,
        timeout: Duration,
        mut take: impl FnMut(&str),
    ) -> Result<Status, ClientError> {
        let filled = match std::mem::take(&mut self.early) {
            0 => match self.fill(timeout)? {
                None => return Ok(Status::Open),
                Some(0) => return Ok(Status::Ended),
                Some(filled) => filled,
            },
            early => early,
        };
        let mut at = 0;
        loop {
            let mut used = 0;
            let message = self.reader.next_message(&mut self.input[at..filled], &mut used);
            at += used;
            match message {
                Ok(None) => break,
                Ok(Some(Message::Text(text))) => take(text),
                Ok(Some(Message::Ping(payload))) => {
                    write_masked(&mut self.output, Opcode::Pong, payload, mask());
                }
                Ok(Some(Message::Pong(_) | Message::Binary(_))) => {}
                Ok(Some(Message::Close { code, reason })) => {
                    let status = Status::Closed(code, reason.to_owned());
                    self.send_close(code.unwrap_or(close::NORMAL));
                    return Ok(status);
                }
                Err(violation) => {
                    self.send_close(violation.close_code());
                    return Err(violation.into());
                }
            }
        }
        self.flush()?;
        Ok(Status::Open)
    }

    /// Sends a normal close and waits, bounded, for the server's.
    pub fn close(mut self) {
        self.send_close(close::NORMAL);
        let mut tries = CLOSE_MS / 100;
        while tries > 0 {
            match self.read(Duration::from_millis(100), |_| {}) {
                Ok(Status::Open) => tries -= 1,
                _ => return,
            }
        }
    }

    fn fill(&mut self, timeout: Duration) -> Result<Option<usize>, ClientError> {
        self.stream.set_read_timeout(Some(timeout))?;
        match self.stream.read(&mut self.input) {
            Ok(filled) => Ok(Some(filled)),
            Err(error) if quiet(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The peer may be gone already, which is no failure of a close.
    fn send_close(&mut self, code: u16) {
        write_masked(&mut self.output, Opcode::Close, &code.to_be_bytes(), mask());
        let _gone = self.flush();
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output)?;
            self.output.clear();
        }
        Ok(())
    }
}

const SERVER_ADDRESS: &str = "an address of a server: ws://HOST:PORT/v1";
const NOT_YET: &str = "possible yet: wss:// is not supported, use ws://HOST:PORT/v1";

fn split_url(url: &str) -> Result<(&str, &str), ClientError> {
    if url.starts_with("wss://") {
        return Err(ClientError::Address(url.into(), NOT_YET));
    }
    let rest = url.strip_prefix("ws://");
    let rest = rest.ok_or_else(|| ClientError::Address(url.into(), SERVER_ADDRESS))?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(slash);
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || host.contains('@') || !plain(rest) {
        return Err(ClientError::Address(url.into(), SERVER_ADDRESS));
    }
    // The path has a default so that `ws://127.0.0.1:9001` is enough to type.
    Ok((host, if path.len() > 1 { path } else { "/v1" }))
}

fn quiet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// A fresh mask; unpredictable enough for its purpose, which is to keep proxies from being fooled.
fn mask() -> [u8; 4] {
    let [first, second, third, fourth, ..] = random().to_ne_bytes();
    [first, second, third, fourth]
}

/// The standard library's own source of random keys, without a dependency.
fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_and_wrong_ones_say_what_is_right() {
        assert_eq!(split_url("ws://localhost:9001").unwrap(), ("localhost:9001", "/v1"));
        assert_eq!(split_url("ws://[::1]:9001/v1?x=1").unwrap(), ("[::1]:9001", "/v1?x=1"));
        for (url, part) in [
            ("wss://a:1/v1", "wss:// is not supported"),
            ("http://a:1", "ws://HOST:PORT/v1"),
            ("ws://", "ws://HOST:PORT/v1"),
            ("ws://a b/", "ws://HOST:PORT/v1"),
        ] {
            let error = split_url(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn where_nobody_listens_the_error_says_what_to_start() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::connect(&format!("ws://{free}/v1")).unwrap_err();
        assert!(matches!(error, ClientError::Refused(_)), "{error}");
        assert!(error.to_string().contains("fanfare demo"));
    }
}
