//! Connecting as a tool does, and the byte stream to a source.
//!
//! Not here: what is written to it, and WebSockets ([`super::client`]). Invariant: an error names
//! the address, what happened there, and the cure where there is one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::limits::CLIENT_CONNECT_MS;
use crate::protocol::ws::client::ClientHandshakeError;
use crate::protocol::ws::reader::Violation;
use crate::shell::trust::TrustError;

/// Why a connection could not be made or went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What was typed is not an address of the kind that is needed.
    #[error("`{0}` is not {1}")]
    Address(String, &'static str),
    /// Nobody listens there.
    #[error("nothing listens at {0}; start a server with `fanfare demo` or `fanfare serve`")]
    Refused(String),
    /// No server has this source.
    #[error("nothing listens at {0}; start a server with `fanfare serve --source {0}`")]
    NoSource(String),
    /// The connection could not be made for another reason.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// The server refused the upgrade.
    #[error("{0} did not become a WebSocket: {1}")]
    Upgrade(String, ClientHandshakeError),
    /// The server went silent, or away, in the middle of the handshake of TLS or the upgrade.
    #[error("{0} did not finish the handshake: {1}")]
    UpgradeEnded(String, io::Error),
    /// TLS, or a file for it.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The server broke RFC 6455.
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// A stream of bytes to a source's address.
#[derive(Debug)]
pub enum Producer {
    /// `tcp://HOST:PORT`.
    Tcp(TcpStream),
    /// `unix:///PATH`.
    Unix(UnixStream),
}

impl Producer {
    /// Connects to `tcp://HOST:PORT` or `unix:///PATH`.
    ///
    /// # Errors
    /// The address or the connection.
    pub fn connect(url: &str) -> Result<Self, ClientError> {
        let connected = match (url.strip_prefix("tcp://"), url.strip_prefix("unix://")) {
            (Some(address), _) if has_port(address) => connect_tcp(address).map(Self::Tcp),
            (_, Some(path)) => {
                UnixStream::connect(path).map(Self::Unix).map_err(|error| connect_error(url, error))
            }
            _ => Err(ClientError::Address(url.into(), PRODUCER_ADDRESS)),
        };
        connected.map_err(|error| match error {
            ClientError::Refused(_) => ClientError::NoSource(url.into()),
            error => error,
        })
    }

    /// A second handle of the same stream, for reading replies in another thread.
    ///
    /// # Errors
    /// The operating system's.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    /// How long a read may wait; none: for ever.
    ///
    /// # Errors
    /// The operating system's.
    pub fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(patience),
            Self::Unix(stream) => stream.set_read_timeout(patience),
        }
    }

    /// Says that nothing more will be written; replies can still be read.
    ///
    /// # Errors
    /// The operating system's; the peer may be gone.
    pub fn finish(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Ends both directions: a read in another thread returns.
    pub fn abandon(&self) {
        let _gone = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

const PRODUCER_ADDRESS: &str =
    "a source's address: tcp://HOST:PORT or unix:///PATH, as `serve` prints in its ready line";

impl Read for Producer {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }
}

impl Write for Producer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether `HOST:PORT` has its port.
pub(super) fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(name, port)| {
        port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']'))
    })
}

/// Connects to the first address of `HOST:PORT` that answers.
pub(super) fn connect_tcp(address: &str) -> Result<TcpStream, ClientError> {
    let wrong = |error| connect_error(address, error);
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for resolved in address.to_socket_addrs().map_err(wrong)? {
        match TcpStream::connect_timeout(&resolved, Duration::from_millis(CLIENT_CONNECT_MS)) {
            // Every write is a whole message or a batch of lines: nothing gains from waiting.
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(connect_error(address, last))
}

fn connect_error(address: &str, error: io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => ClientError::Refused(address.into()),
        _ => ClientError::Connect(address.into(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_absent_or_wrong_is_named() {
        assert!(has_port("[::1]:80") && has_port("a:80"));
        assert!(!has_port("::1") && !has_port("a") && !has_port("a:"));
        let error = Producer::connect("unix:///absent/fanfare.sock").unwrap_err();
        let cure = "start a server with `fanfare serve --source unix:///absent/fanfare.sock`";
        assert!(error.to_string().ends_with(cure), "{error}");
        assert!(matches!(Producer::connect("9002"), Err(ClientError::Address(..))));
    }
}
