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
use crate::protocol::ws::client::{Request, key, parse_answer};
use crate::protocol::ws::close;
use crate::protocol::ws::deflate::{Agreed, Inflater};
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

/// A message of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// JSON.
    Text(&'a str),
    /// An event of the binary form.
    Binary(&'a [u8]),
}

/// The sub-protocols that are offered where the binary one is wanted.
const BINARY_OR_JSON: &str = "fanfare.v1.bin, fanfare.v1.json";

/// Connects, as often as is asked for.
#[derive(Debug, Default)]
pub struct Dialer {
    files: TrustFiles,
    /// Compressed messages are asked for.
    compress: bool,
    /// Binary messages are asked for.
    binary: bool,
    /// Loaded when it is first needed, and kept: with it come the sessions to resume.
    trust: OnceLock<Trust>,
}

impl Dialer {
    /// One that uses `files` for `wss://`.
    #[must_use]
    pub const fn new(files: TrustFiles) -> Self {
        Self { files, compress: false, binary: false, trust: OnceLock::new() }
    }

    /// One that asks servers to compress their messages, too; they need not.
    #[must_use]
    pub fn compressing(self, compress: bool) -> Self {
        Self { compress, ..self }
    }

    /// One that asks servers for events as binary messages, too; they need not.
    #[must_use]
    pub fn binary(self, binary: bool) -> Self {
        Self { binary, ..self }
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
            agreed: None,
            inflater: None,
            input: vec![0; READ_BYTES],
            early: 0,
            output: Vec::new(),
        };
        let key = key(random::nonce());
        let request = Request {
            host,
            path,
            key: &key,
            subprotocol: Some(if self.binary { BINARY_OR_JSON } else { SUBPROTOCOL }),
            token,
            deflate: self.compress,
        };
        client.upgrade(&request).map_err(|error| named(host, error))?;
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
    /// What holds for compression.
    agreed: Option<Agreed>,
    inflater: Option<Box<Inflater>>,
    input: Vec<u8>,
    /// Bytes at the front of `input` that came with the upgrade's answer.
    early: usize,
    output: Vec<u8>,
}

impl Client {
    fn upgrade(&mut self, request: &Request<'_>) -> Result<(), ClientError> {
        let host = request.host;
        let ended = |error| ClientError::UpgradeEnded(host.to_owned(), error);
        request.write(&mut self.output);
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
            let answer = parse_answer(&self.input[..filled], request.key, request.deflate)
                .map_err(|error| ClientError::Upgrade(host.to_owned(), error))?;
            if let Some(answer) = answer {
                self.input.copy_within(answer.head_len..filled, 0);
                self.early = filled - answer.head_len;
                self.agreed = answer.deflate;
                let inflater = |agreed: Agreed| Box::new(Inflater::new(agreed.server_context));
                self.inflater = answer.deflate.map(inflater);
                return Ok(());
            }
        }
    }

    /// How the connection is secured, such as `TLS 1.3`; none: not at all.
    #[must_use]
    pub fn security(&self) -> Option<String> {
        self.link.security()
    }

    /// What holds for compression; none: nothing is compressed.
    #[must_use]
    pub const fn compression(&self) -> Option<Agreed> {
        self.agreed
    }

    /// Sends one text message.
    ///
    /// # Errors
    /// The connection's.
    pub fn send_text(&mut self, text: &str) -> Result<(), ClientError> {
        write_masked(&mut self.output, Opcode::Text, text.as_bytes(), random::mask());
        Ok(self.flush()?)
    }

    /// Reads once and gives every message in it to `take`; answers pings and the close.
    ///
    /// # Errors
    /// The connection's, or the server's violation, which is answered by its close code.
    pub fn read(
        &mut self,
        timeout: Duration,
        mut take: impl FnMut(Said<'_>),
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
            let (rest, inflater) = (&mut self.input[at..filled], self.inflater.as_deref_mut());
            let message = self.reader.next_message_of(rest, &mut used, inflater);
            at += used;
            match message {
                Ok(None) => break,
                Ok(Some(Message::Text(text))) => take(Said::Text(text)),
                Ok(Some(Message::Binary(message))) => take(Said::Binary(message)),
                Ok(Some(Message::Ping(payload))) => {
                    write_masked(&mut self.output, Opcode::Pong, payload, random::mask());
                }
                Ok(Some(Message::Pong(_))) => {}
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
        write_masked(&mut self.output, Opcode::Close, &code.to_be_bytes(), random::mask());
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

#[cfg(test)]
mod tests;
