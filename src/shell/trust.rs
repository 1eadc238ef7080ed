//! TLS as our own client speaks it: whom it trusts, who it says it is, and the handshake.
//!
//! The certificate of a server is always checked, its chain and its name; there is no way around
//! that. Not here: WebSockets ([`super::client`]), and the server's side. Invariant: one [`Trust`]
//! serves all connections of a command, so that a second one resumes the session of the first.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, HandshakeKind, OtherError,
    RootCertStore, StreamOwned,
};

use super::dial::ClientError;
use crate::limits::CLIENT_CONNECT_MS;
use crate::shell::clock;

/// PEM files that are used instead of what this host has.
#[derive(Debug, Clone, Default)]
pub struct TrustFiles {
    /// Certificates of the authorities that are trusted, instead of those of this host.
    pub authorities: Option<PathBuf>,
    /// The client's certificate chain, and its private key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Why TLS cannot be spoken, or was not.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file of the operator's.
    #[error("`{}`: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, and the cure.
        what: String,
    },
    /// Nothing to check a server's certificate with.
    #[error(
        "this host has no certificates of authorities{0}; install them (the package is often \
         called ca-certificates), or name those to trust with --ca FILE"
    )]
    NoAuthorities(String),
    /// The handshake, or what came after it.
    #[error("no TLS with {host}: {error}{}", cure(error))]
    Tls {
        /// The server, as it was typed.
        host: String,
        /// What went wrong.
        error: rustls::Error,
    },
}

/// Whom a client trusts, and the sessions that it may resume.
#[derive(Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Loads `files`, and for what they leave open what this host trusts.
    ///
    /// # Errors
    /// A file that cannot be used, or no authorities at all.
    pub fn load(files: &TrustFiles) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .with_root_certificates(authorities(files.authorities.as_deref())?);
        let mut config = match &files.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let loaded = (certificates(chain)?, private_key(key)?);
                builder.with_client_auth_cert(loaded.0, loaded.1).map_err(|error| {
                    let what = format!("{error}; it must be the key of `{}`", chain.display());
                    TrustError::File { path: key.clone(), what }
                })?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// Does the handshake with the server `host` (with its port) at the other end of `socket`.
    ///
    /// # Errors
    /// The server's name or certificate, its alert, the connection, or the time.
    pub(super) fn secure(&self, host: &str, mut socket: TcpStream) -> Result<Secured, ClientError> {
        let ended = |error| ClientError::UpgradeEnded(host.to_owned(), error);
        let failed = |error| TrustError::Tls { host: host.to_owned(), error };
        let name = ServerName::try_from(name_of(host).to_owned())
            .map_err(|_| ClientError::Address(host.to_owned(), "a name that a certificate has"))?;
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(failed)?;
        let end_ns = clock::now().monotonic_ns + CLIENT_CONNECT_MS * 1_000_000;
        loop {
            while connection.wants_write() {
                connection.write_tls(&mut socket).map_err(ended)?;
            }
            if !connection.is_handshaking() {
                return Ok(StreamOwned::new(connection, socket));
            }
            wait_until(&socket, end_ns).map_err(ended)?;
            if connection.read_tls(&mut socket).map_err(|error| ended(in_words(error)))? == 0 {
                return Err(ended(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Err(error) = connection.process_new_packets() {
                // The server is told why; it may be gone.
                let _gone = connection.write_tls(&mut socket);
                return Err(failed(error).into());
            }
        }
    }
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// A connection's bytes, in the clear or not.
#[derive(Debug)]
pub(super) enum Link {
    /// `ws://`.
    Plain(TcpStream),
    /// `wss://`.
    Secure(Box<Secured>),
}

impl Link {
    /// The socket below.
    pub(super) const fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(secured) => &secured.sock,
        }
    }

    /// How it is secured, for people; none: not at all.
    pub(super) fn security(&self) -> Option<String> {
        let Self::Secure(secured) = self else { return None };
        let version = match secured.conn.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
            _ => "TLS 1.3",
        };
        let resumed = secured.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        Some(format!("{version}{}", if resumed { ", session resumed" } else { "" }))
    }

    /// Says that nothing more will be sent; the peer may be gone already.
    pub(super) fn finish(&mut self) {
        if let Self::Secure(secured) = self {
            secured.conn.send_close_notify();
            let _gone = secured.flush();
        }
    }
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(bytes),
            Self::Secure(secured) => secured.read(bytes),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Secure(secured) => secured.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Secure(secured) => secured.flush(),
        }
    }
}

/// Lets the next read of `socket` take no longer than until `end_ns`.
pub(super) fn wait_until(socket: &TcpStream, end_ns: u64) -> io::Result<()> {
    match end_ns.saturating_sub(clock::now().monotonic_ns) {
        0 => Err(in_words(io::ErrorKind::TimedOut.into())),
        left_ns => socket.set_read_timeout(Some(Duration::from_nanos(left_ns))),
    }
}

/// A timeout as such; the kernel calls it "temporarily unavailable".
pub(super) fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let seconds = CLIENT_CONNECT_MS / 1_000;
            io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {seconds} s"))
        }
        _ => error,
    }
}

/// What TLS had against a read or a write, if it was TLS.
pub(super) fn tls_error(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

/// The name or address in `HOST[:PORT]`, without brackets.
pub(super) fn name_of(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut store = RootCertStore::empty();
    let Some(path) = file else {
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return if store.is_empty() { Err(TrustError::NoAuthorities(why)) } else { Ok(store) };
    };
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| TrustError::File {
            path: path.to_owned(),
            what: format!("a certificate in it cannot be used: {error}"),
        })?;
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(found) if found.is_empty() => {
            Err(unusable(path, "certificate", &pem::Error::NoItemsFound))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, "certificate", &error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TrustError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, "private key", &error))
}

/// The parser's own words may repeat a line of the file, which is a secret in a file of keys.
fn unusable(path: &Path, wanted: &str, error: &pem::Error) -> TrustError {
    let what = match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        _ => format!("holds no {wanted} in PEM form (-----BEGIN …-----)"),
    };
    TrustError::File { path: path.to_owned(), what }
}

/// What may help, for the mistakes that are made.
fn cure(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidMessage(_) => "; does it speak TLS there, or is it ws://?",
        // A signature is wrong where an authority of the same name was made anew.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "; if it is yours, name the authority that signed it with --ca FILE",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "; use a name that its certificate has",
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(reason)))
            if reason.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) =>
        {
            "; it serves the certificate of an authority, as `openssl req -x509` makes them: sign \
             one with it, or make it with -addext basicConstraints=critical,CA:FALSE"
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => "; it may want a client certificate: --cert FILE --key FILE",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
