//! TLS of the floor: a session for each subscriber, and the memory that records are sealed into.
//!
//! Not here: sockets' states and the ring. Invariant: a record does not move while it may be in
//! flight, and its memory is never freed.

use std::io::{self, Error, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use fanfare::limits::{TLS_SCRATCH_BYTES, TLS_SEND_BYTES_MAX};
use fanfare::protocol::tls::Session;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What one read of a handshake may bring, bytes.
const READ_BYTES: usize = 16 << 10;

/// What all sessions share.
pub(super) struct Sealer {
    config: Arc<ServerConfig>,
    /// Records of the sends that are on their way, one behind the other.
    records: &'static mut [u8],
    used: usize,
    read: Vec<u8>,
}

/// A subscriber's session, and what of it is on its way.
pub(super) struct Sealed {
    session: Session,
    records: Range<usize>,
    /// Bytes in them.
    plain: usize,
}

impl Sealer {
    /// With a file that has a certificate and its key.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let named = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::InvalidInput, format!("{}: {error}", path.display()))
        };
        let certificate = CertificateDer::from_pem_file(path).map_err(|error| named(&error))?;
        let key = PrivateKeyDer::from_pem_file(path).map_err(|error| named(&error))?;
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(|error| named(&error))?
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .map_err(|error| named(&error))?;
        // Nobody comes back.
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            records: Box::leak(vec![0; TLS_SCRATCH_BYTES].into_boxed_slice()),
            used: 0,
            read: vec![0; READ_BYTES],
        })
    }

    /// A session that waits for its peer's first bytes.
    pub(super) fn session(&self) -> io::Result<Box<Sealed>> {
        let session = Session::new(Arc::clone(&self.config)).map_err(Error::other)?;
        Ok(Box::new(Sealed { session, records: 0..0, plain: 0 }))
    }

    /// Reads and answers what there is; whether the handshake is done.
    pub(super) fn shake_hands(
        &mut self,
        mut stream: &TcpStream,
        sealed: &mut Sealed,
    ) -> io::Result<bool> {
        let count = stream.read(&mut self.read)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let session = &mut sealed.session;
        session.open(&mut self.read[..count], &mut Vec::new()).map_err(Error::other)?;
        // A handshake's answer fits into a socket that is empty.
        stream.write_all(session.rest())?;
        session.handle_sent(session.rest().len());
        Ok(!session.is_handshaking())
    }

    /// Forgets the records of sends that are complete.
    pub(super) const fn begin(&mut self) {
        self.used = 0;
    }

    /// What is to be sent next of `rest`, sealed; nothing where others must be sent before.
    pub(super) fn seal(&mut self, sealed: &mut Sealed, rest: &[u8]) -> io::Result<Option<&[u8]>> {
        let session = &mut sealed.session;
        // What was kept goes alone, so that what is kept stays bounded.
        let room = if session.rest().is_empty() { TLS_SEND_BYTES_MAX } else { 0 };
        let plain = &rest[..rest.len().min(room)];
        let out = &mut self.records[self.used..];
        if session.sealed_bytes_max(plain.len()) > out.len() {
            return Ok(None);
        }
        let length = if plain.is_empty() {
            let kept = session.rest().len();
            out[..kept].copy_from_slice(session.rest());
            session.handle_sent(kept);
            kept
        } else {
            session.seal(plain, out).map_err(Error::other)?
        };
        sealed.records = self.used..self.used + length;
        sealed.plain = plain.len();
        self.used += length;
        Ok(Some(&self.records[sealed.records.clone()]))
    }

    /// The kernel took so many bytes of the records, and the rest is kept: how many bytes were in
    /// them, and whether the socket is full.
    pub(super) fn settle(&self, sealed: &mut Sealed, took: usize) -> (usize, bool) {
        let left = &self.records[sealed.records.clone()][took..];
        sealed.session.keep(left);
        (std::mem::take(&mut sealed.plain), !left.is_empty())
    }
}
