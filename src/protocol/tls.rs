//! The server's half of TLS 1.3 and 1.2 (RFC 8446, RFC 5246) on one connection, without I/O.
//!
//! What was read goes into [`Session::open`] and comes out as plaintext; what is to be sent goes
//! into [`Session::seal`] and comes out as records. Not here: certificates, and when anything is
//! read or sent. Invariant: an idle session holds no buffer; the beginning of a record that is not
//! complete and records that were not sent yet are freed as soon as they are done with.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};
use rustls::{HandshakeKind, ServerConfig};

use crate::limits::{TLS_PARTIAL_BYTES_MAX, TLS_RECORD_BYTES_MAX, TLS_RECORD_OVERHEAD_BYTES};

/// Records beside the data: alerts and key updates, a few at a time.
const CONTROL_BYTES_MAX: usize = 512;

/// Why a session cannot go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// The first bytes are an HTTP request.
    #[error("this address speaks TLS; connect with wss://")]
    PlainHttp,
    /// The peer broke the protocol, or has nothing in common with this server.
    #[error("TLS: {0}")]
    Peer(#[from] rustls::Error),
    /// A handshake message is too long.
    #[error("TLS: a handshake message is longer than {TLS_PARTIAL_BYTES_MAX} bytes")]
    TooLong,
    /// The session has not begun, or is over.
    #[error("TLS: the session is not open")]
    NotOpen,
}

/// What counts of a client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its DNS names.
    pub names: Box<[Box<str>]>,
    /// When it ends, nanoseconds since the Unix epoch; none if it does not within centuries.
    pub end_ns: Option<u64>,
}

impl ClientCertificate {
    /// Whether it has ended at `now_ns`, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn is_expired(&self, now_ns: u64) -> bool {
        self.end_ns.is_some_and(|end_ns| end_ns <= now_ns)
    }
}

/// What is to be sealed.
#[derive(Clone, Copy)]
enum Content<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

/// One connection's TLS.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// The beginning of a record or of a handshake message.
    incoming: Vec<u8>,
    /// Records that were not sent yet, from `rest_at` on.
    rest: Vec<u8>,
    rest_at: usize,
    has_begun: bool,
    /// Nothing is sealed any more.
    is_over: bool,
    peer_closed: bool,
}

impl fmt::Debug for Session {
    /// Without keys.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (out.debug_struct("Session"))
            .field("is_handshaking", &self.is_handshaking())
            .field("rest", &self.rest().len())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that waits for its peer's first bytes.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            incoming: Vec::new(),
            rest: Vec::new(),
            rest_at: 0,
            has_begun: false,
            is_over: false,
            peer_closed: false,
        })
    }

    /// Takes what was read, which is overwritten, and appends what the peer said to `plain`. What
    /// is to be answered is in [`Self::rest`] then, also after an error: an alert.
    ///
    /// # Errors
    /// The session is over.
    pub fn open(&mut self, read: &mut [u8], plain: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.is_over {
            return Err(TlsError::NotOpen);
        }
        if !mem::replace(&mut self.has_begun, true)
            && read.first().is_some_and(u8::is_ascii_uppercase)
        {
            self.is_over = true;
            return Err(TlsError::PlainHttp);
        }
        let mut incoming = mem::take(&mut self.incoming);
        let opened = if incoming.is_empty() {
            let (used, opened) = self.process(read, plain);
            incoming.extend_from_slice(&read[used..]);
            opened
        } else {
            incoming.extend_from_slice(read);
            let (used, opened) = self.process(&mut incoming, plain);
            discard(&mut incoming, used);
            opened
        };
        if opened.is_err() || self.peer_closed {
            self.is_over |= opened.is_err();
            return opened;
        }
        if incoming.len() > TLS_PARTIAL_BYTES_MAX {
            self.is_over = true;
            return Err(TlsError::TooLong);
        }
        self.incoming = incoming;
        Ok(())
    }

    /// Seals `plain` into as few records as possible, behind what [`Self::rest`] holds, and returns
    /// their length in `out`, which has room for [`Self::sealed_bytes_max`].
    ///
    /// # Errors
    /// The session is over, or has not begun.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        self.write(Content::Data(plain), out)
    }

    /// Bytes of records that sealing `plain_bytes` bytes gives at most.
    #[must_use]
    pub fn sealed_bytes_max(&self, plain_bytes: usize) -> usize {
        let records = plain_bytes.div_ceil(TLS_RECORD_BYTES_MAX);
        self.rest().len() + plain_bytes + records * TLS_RECORD_OVERHEAD_BYTES + CONTROL_BYTES_MAX
    }

    /// Records that are to be sent before anything else.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.rest[self.rest_at..]
    }

    /// Takes `count` bytes off the front of the rest, because they were sent.
    pub fn handle_sent(&mut self, count: usize) {
        self.rest_at += count;
        if self.rest_at >= self.rest.len() {
            (self.rest, self.rest_at) = (Vec::new(), 0);
        }
    }

    /// Takes back the end of what was sealed, because it was not sent.
    pub fn keep(&mut self, records: &[u8]) {
        self.rest.extend_from_slice(records);
    }

    /// The last bytes: what is left, and word that nothing follows (RFC 8446, section 6.1).
    pub fn farewell(&mut self) -> Vec<u8> {
        if self.is_over || self.is_handshaking() {
            self.rest_at = 0;
            return mem::take(&mut self.rest);
        }
        let mut out = vec![0; self.sealed_bytes_max(0)];
        let len = self.write(Content::CloseNotify, &mut out).unwrap_or(0);
        self.is_over = true;
        out.truncate(len);
        out
    }

    /// Whether the handshake is not done yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the peer has said that nothing follows.
    #[must_use]
    pub const fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether a ticket of an earlier session spared most of the handshake.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The name of the cipher suite, as the standard has it; none before the handshake is done.
    #[must_use]
    pub fn cipher(&self) -> Option<String> {
        let suite = self.connection.negotiated_cipher_suite()?.suite();
        // The library writes TLS13_ where RFC 8446 has TLS_.
        suite.as_str().map(|name| name.replacen("TLS13_", "TLS_", 1))
    }

    /// The client's certificate, which was verified when the first of its sessions began; none
    /// without one.
    #[must_use]
    pub fn client_certificate(&self) -> Option<ClientCertificate> {
        let certificate = self.connection.peer_certificates()?.first()?;
        Some(ClientCertificate { names: dns_names(certificate)?, end_ns: end_ns(certificate) })
    }

    /// Processes records; returns how many bytes are done with.
    fn process(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> (usize, Result<(), TlsError>) {
        let mut at = 0;
        loop {
            let status = self.connection.process_tls_records(&mut bytes[at..]);
            let UnbufferedStatus { mut discard, state } = status;
            let ended = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.rest);
                    None
                }
                // Sent it is not, but it is in the rest, so that it goes before anything else.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_closed = true;
                    None
                }
                Ok(_) => Some(Ok(())),
                Err(error) => Some(Err(TlsError::Peer(error))),
            };
            at += discard;
            if let Some(ended) = ended {
                self.encode_alert(&mut bytes[at..]);
                return (at, ended);
            }
        }
    }

    /// Adds the alert about an error to the rest, if there is one. The library must not look at the
    /// peer's bytes again.
    fn encode_alert(&mut self, bytes: &mut [u8]) {
        while self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(data)) =
                self.connection.process_tls_records(bytes).state
        {
            encode(data, &mut self.rest);
        }
    }

    fn write(&mut self, content: Content<'_>, out: &mut [u8]) -> Result<usize, TlsError> {
        let mut at = self.rest().len();
        out[..at].copy_from_slice(self.rest());
        self.handle_sent(at);
        if self.is_over || self.is_handshaking() {
            return Err(TlsError::NotOpen);
        }
        loop {
            // The beginning of a handshake message is looked for where it was.
            let status = self.connection.process_tls_records(&mut self.incoming);
            let UnbufferedStatus { discard: count, state } = status;
            let written = match state? {
                ConnectionState::WriteTraffic(mut traffic) => Some(match content {
                    Content::Data(plain) => traffic.encrypt(plain, &mut out[at..]),
                    Content::CloseNotify => traffic.queue_close_notify(&mut out[at..]),
                }),
                ConnectionState::EncodeTlsData(mut data) => {
                    let encoded = data.encode(&mut out[at..]);
                    at += encoded.map_err(|_| TlsError::NotOpen)?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                _ => return Err(TlsError::NotOpen),
            };
            discard(&mut self.incoming, count);
            if let Some(written) = written {
                let len = written.map_err(|_: EncryptError| TlsError::NotOpen)?;
                return Ok(at + len);
            }
        }
    }
}

/// Appends a record that the library made.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let start = out.len();
    if let Err(EncodeError::InsufficientSize(room)) = data.encode(&mut []) {
        out.resize(start + room.required_size, 0);
        let len = data.encode(&mut out[start..]).unwrap_or(0);
        out.truncate(start + len);
    }
}

/// The DNS names of a certificate in DER; none if it is not one.
#[must_use]
pub fn dns_names(certificate: &CertificateDer<'_>) -> Option<Box<[Box<str>]>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(certificate.valid_dns_names().map(Box::from).collect())
}

/// When a certificate in DER ends (`notAfter`, RFC 5280, section 4.1.2.5), nanoseconds since the
/// Unix epoch. The library says so only to whoever comes too late, and looks at nothing before it.
fn end_ns(certificate: &CertificateDer<'_>) -> Option<u64> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let at_the_end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let usage = webpki::KeyUsage::client_auth();
    let verified =
        certificate.verify_for_usage(&[], &[], &[], at_the_end_of_time, usage, None, None);
    match verified {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            not_after.as_secs().checked_mul(1_000_000_000)
        }
        // It was verified with the same library, so there is no other answer; without one it is no
        // certificate that lasts.
        _ => Some(0),
    }
}

/// Removes `count` bytes from the front, and the memory when nothing is left.
fn discard(bytes: &mut Vec<u8>, count: usize) {
    bytes.drain(..count);
    if bytes.is_empty() {
        *bytes = Vec::new();
    }
}

#[cfg(test)]
mod tests;
