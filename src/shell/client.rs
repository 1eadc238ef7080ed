//! A blocking WebSocket client for the tools.
//!
//! Not here: what is said over it, and the codec ([`crate::protocol::ws`]). Invariant: a read ends
//! after its timeout at the latest, so that a caller sees a signal.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use crate::limits::{
    CLIENT_CONNECT_MS, CLIENT_MESSAGE_BYTES_MAX, CLOSE_MS, READ_BYTES, UPGRADE_BYTES_MAX,
};
use crate::protocol::ws::client::{key, parse_response, write_request};
use crate::protocol::ws::close;
use crate::protocol::ws::frame::{Opcode, write_masked};
use crate::protocol::ws::handshake::SUBPROTOCOL;
use crate::protocol::ws::reader::{Message, Reader, Role};
use crate::shell::clock;
use crate::shell::dial::{ClientError, connect_tcp, has_port};
use crate::shell::random;
use crate::shell::trust::{
    Link, Trust, TrustError, TrustFiles, in_words, name_of, tls_error, wait_until,
};

/// Whether there is more to come after a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// There is.
    Open,
    /// The timeout passed, and nothing came.
    Quiet,
    /// The server closed, with this code and reason.
    Closed(Option<u16>, String),
    /// The stream ended without a close frame.
    Ended,
}

/// Connects, as often as is asked for.
#[derive(Debug, Default)]
pub struct Dialer {
    files: TrustFiles,
    /// Loaded when it is first needed, and kept: with it come the sessions to resume.
    trust: OnceLock<Trust>,
}

impl Dialer {
    /// One that uses `files` for `wss://`.
    #[must_use]
    pub const fn new(files: TrustFiles) -> Self {
        Self { files, trust: OnceLock::new() }
    }

    /// Connects to `ws://HOST[:PORT][/PATH]` or `wss://…` and upgrades, with `token` as a bearer
    /// credential.
    ///
    /// # Errors
    /// The URL, the files for TLS, the connection or the server's refusal.
    pub fn connect(&self, url: &str, token: Option<&str>) -> Result<Client, ClientError> {
        let Url { secure, host, path } = split_url(url)?;
        let port = if secure { 443 } else { 80 };
        let address = if has_port(host) { host.to_owned() } else { format!("{host}:{port}") };
        // The files are looked at first: what is wrong with them is no matter of the server.
        let trust = if secure { Some(self.trust()?) } else { None };
        let socket = connect_tcp(&address)?;
        // A peer that takes nothing any more shall not hold the command.
        socket.set_write_timeout(Some(Duration::from_millis(CLIENT_CONNECT_MS)))?;
        let link = match trust {
            None => Link::Plain(socket),
            Some(trust) => Link::Secure(Box::new(trust.secure(host, socket)?)),
        };
        let mut client = Client {
            link,
            reader: Reader::new(Role::Client, CLIENT_MESSAGE_BYTES_MAX),
            input: vec![0; READ_BYTES],
            early: 0,
            output: Vec::new(),
        };
        client.upgrade(host, path, token).map_err(|error| named(host, error))?;
        Ok(client)
    }

    fn trust(&self) -> Result<&Trust, ClientError> {
        if self.trust.get().is_none() {
            let loaded = Trust::load(&self.files)?;
            return Ok(self.trust.get_or_init(|| loaded));
        }
        Ok(self.trust.get().expect("it was just looked at"))
    }
}

/// A WebSocket to a server, after the upgrade.
#[derive(Debug)]
pub struct Client {
    link: Link,
    reader: Reader,
    input: Vec<u8>,
    /// Bytes at the front of `input` that came with the upgrade's answer.
    early: usize,
    output: Vec<u8>,
}

impl Client {
    fn upgrade(&mut self, host: &str, path: &str, token: Option<&str>) -> Result<(), ClientError> {
        let ended = |error| ClientError::UpgradeEnded(host.to_owned(), error);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random::number().to_ne_bytes());
        nonce[8..].copy_from_slice(&random::number().to_ne_bytes());
        let key = key(nonce);
        write_request(&mut self.output, host, path, &key, Some(SUBPROTOCOL), token);
        self.flush().map_err(ended)?;
        let end_ns = clock::now().monotonic_ns + CLIENT_CONNECT_MS * 1_000_000;
        let mut filled = 0;
        const { assert!(READ_BYTES > UPGRADE_BYTES_MAX) };
        loop {
            wait_until(self.link.socket(), end_ns).map_err(ended)?;
            match self.link.read(&mut self.input[filled..]) {
                Ok(0) => return Err(ended(ErrorKind::UnexpectedEof.into())),
                Ok(taken) => filled += taken,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(ended(in_words(error))),
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

    /// How the connection is secured, such as `TLS 1.3`; none: not at all.
    #[must_use]
    pub fn security(&self) -> Option<String> {
        self.link.security()
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
                None => return Ok(Status::Quiet),
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
                    self.link.finish();
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
                Ok(Status::Open | Status::Quiet) => tries -= 1,
                _ => break,
            }
        }
        self.link.finish();
    }

    fn fill(&mut self, timeout: Duration) -> Result<Option<usize>, ClientError> {
        self.link.socket().set_read_timeout(Some(timeout))?;
        match self.link.read(&mut self.input) {
            Ok(filled) => Ok(Some(filled)),
            Err(error) if quiet(&error) => Ok(None),
            // An end of TLS without its own farewell: the close frame is what counts here.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Some(0)),
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
            self.link.write_all(&self.output)?;
            self.link.flush()?;
            self.output.clear();
        }
        Ok(())
    }
}

const SERVER_ADDRESS: &str = "an address of a server: ws://HOST:PORT/v1 or wss://HOST:PORT/v1";

/// A server's address, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    secure: bool,
    /// With its port, if it has one.
    host: &'a str,
    path: &'a str,
}

fn split_url(url: &str) -> Result<Url<'_>, ClientError> {
    let wrong = || ClientError::Address(without_query(url).into(), SERVER_ADDRESS);
    let (secure, rest) = match (url.strip_prefix("wss://"), url.strip_prefix("ws://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(wrong()),
    };
    let slash = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(slash);
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || host.contains('@') || !plain(rest) {
        return Err(wrong());
    }
    // The path has a default so that `ws://127.0.0.1:9001` is enough to type.
    Ok(Url { secure, host, path: if path.len() > 1 { path } else { "/v1" } })
}

/// A URL that may be shown: its query may hold a credential.
#[must_use]
pub fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// Whether whoever is on the way to this URL can read what is sent: not over TLS, and not within
/// this host.
#[must_use]
pub fn is_exposed(url: &str) -> bool {
    let is_here = |name: &str| {
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    split_url(url).is_ok_and(|url| !url.secure && !is_here(name_of(url.host)))
}

/// An error of TLS as such, with the name of the server.
fn named(host: &str, error: ClientError) -> ClientError {
    let tls = match &error {
        ClientError::Io(error) | ClientError::UpgradeEnded(_, error) => tls_error(error),
        _ => None,
    };
    tls.map_or(error, |error| TrustError::Tls { host: host.to_owned(), error }.into())
}

fn quiet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// A fresh mask; unpredictable enough for its purpose, which is to keep proxies from being fooled.
fn mask() -> [u8; 4] {
    let [first, second, third, fourth, ..] = random::number().to_ne_bytes();
    [first, second, third, fourth]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_and_wrong_ones_say_what_is_right() {
        let url = |secure, host, path| Url { secure, host, path };
        for (text, parts) in [
            ("ws://localhost:9001", url(false, "localhost:9001", "/v1")),
            ("wss://[::1]:9443/v1?x=1", url(true, "[::1]:9443", "/v1?x=1")),
        ] {
            assert_eq!(split_url(text).unwrap(), parts);
        }
        for (url, part) in [
            ("http://a:1", "ws://HOST:PORT/v1"),
            ("ws://", "ws://HOST:PORT/v1"),
            ("ws://a b/", "ws://HOST:PORT/v1"),
        ] {
            let error = split_url(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn what_is_sent_in_the_clear_is_exposed_unless_it_stays_on_this_host() {
        for url in ["ws://a.example/v1", "ws://10.0.0.1:9001", "ws://localhost.example"] {
            assert!(is_exposed(url), "{url}");
        }
        for url in ["wss://a.example", "ws://localhost:9001/v1", "ws://127.0.0.2", "ws://[::1]:1"] {
            assert!(!is_exposed(url), "{url}");
        }
    }

    #[test]
    fn where_nobody_listens_the_error_says_what_to_start() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("ws://{free}/v1");
        let error = Dialer::default().connect(&url, None).unwrap_err();
        assert!(matches!(error, ClientError::Refused(_)), "{error}");
        assert!(error.to_string().contains("fanfare demo"));
    }
}
