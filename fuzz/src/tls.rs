//! The server's half of TLS, against bytes that are no TLS and against a good client's records.
//!
//! The client is rustls' own. Keys are made anew for each process, so the same input does not give
//! the same bytes, but what must hold does not depend on them. Not here: certificates.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use fanfare::protocol::tls::Session;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

/// Operations of one input: each may cost an encryption.
const OPERATIONS_MAX: usize = 64;

/// Times that a client changes its keys. rustls takes as many without anything said between them; who
/// goes on after that is no good client.
const KEY_UPDATES_MAX: usize = 32;

/// The server, and its clients of version 1.3 and 1.2.
type Parties = (Arc<ServerConfig>, [Arc<ClientConfig>; 2]);

static PARTIES: LazyLock<Parties> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("good names");
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("just made");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("the key is the certificate's");
    server.ticketer = aws_lc_rs::Ticketer::new().expect("random bytes");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let clients = [&TLS13, &TLS12].map(|version| {
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .expect("the provider has them")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Arc::new(client)
    });
    (Arc::new(server), clients)
});

/// Input: whether there is a good client, its version and the length of its pieces; then what the
/// other side does.
pub fn tls_session(data: &[u8]) {
    match data {
        [flags, rest @ ..] if flags & 1 == 1 => Talk::new(flags >> 1).play(rest),
        [_, rest @ ..] => be_hostile(rest),
        [] => {}
    }
}

fn session() -> Session {
    Session::new(Arc::clone(&PARTIES.0)).expect("a good configuration")
}

/// Bytes from nobody knows whom: they say nothing, and it does not matter where they are split.
fn be_hostile(stream: &[u8]) {
    let whole = outcome([stream]);
    assert_eq!(outcome(stream.chunks(1)), whole);
    assert_eq!(outcome(stream.chunks(7)), whole);
}

fn outcome<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), String> {
    let (mut session, mut plain) = (session(), Vec::new());
    let mut outcome = Ok(());
    for piece in pieces {
        match (session.open(&mut piece.to_vec(), &mut plain), &outcome) {
            (Err(error), Ok(())) => outcome = Err(error.to_string()),
            (Ok(()), Err(error)) => panic!("a session went on after: {error}"),
            _ => {}
        }
    }
    assert!(plain.is_empty() && session.is_handshaking(), "nobody knew a key");
    outcome
}

/// A client and a session, with what is on its way between them.
struct Talk {
    session: Session,
    client: ClientConnection,
    /// What the client has said, and what of that has come out.
    said: Vec<u8>,
    opened: Vec<u8>,
    /// What was sealed, and what of that the client has read.
    sealed: Vec<u8>,
    heard: Vec<u8>,
    /// Bytes in a piece of what the client sends.
    piece: usize,
    key_updates: usize,
}

impl Talk {
    fn new(flags: u8) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let config = &PARTIES.1[usize::from(flags & 1)];
        let client = ClientConnection::new(Arc::clone(config), name).expect("a good one");
        let empty = Vec::new;
        let mut talk = Self {
            session: session(),
            client,
            said: empty(),
            opened: empty(),
            sealed: empty(),
            heard: empty(),
            piece: usize::from(flags >> 1) * 3 + 1,
            key_updates: 0,
        };
        while talk.client.is_handshaking() || talk.session.is_handshaking() {
            talk.send(None).expect("a good client");
            talk.deliver(usize::MAX);
        }
        talk
    }

    fn play(mut self, operations: &[u8]) {
        for operation in operations.chunks_exact(2).take(OPERATIONS_MAX) {
            let (operation, count) = (operation[0], usize::from(operation[1]));
            match operation % 8 {
                0 => self.say(count),
                1 => self.seal(count),
                2 => self.seal(count * 300),
                3 => self.deliver(count),
                4 => self.deliver(usize::MAX),
                5 => self.change_keys(),
                6 => self.client.send_close_notify(),
                _ => return self.damage(count),
            }
            let is_closing = self.session.is_peer_closed();
            self.send(None).expect("a good client");
            if is_closing || self.session.is_peer_closed() {
                break;
            }
        }
        self.deliver(usize::MAX);
        let farewell = self.session.farewell();
        self.take(&farewell);
        assert!(self.opened == self.said, "what was said was heard");
        assert!(self.heard == self.sealed, "what was sealed was heard");
        let mut out = vec![0; self.session.sealed_bytes_max(1)];
        assert!(self.session.seal(b"x", &mut out).is_err(), "nothing follows a farewell");
    }

    /// The client says so many bytes.
    fn say(&mut self, count: usize) {
        let bytes = counted(self.said.len(), count);
        self.client.writer().write_all(&bytes).expect("in memory");
        self.said.extend(bytes);
    }

    /// The client changes its keys; version 1.2 has no such thing.
    fn change_keys(&mut self) {
        if self.key_updates < KEY_UPDATES_MAX {
            self.key_updates += 1;
            self.client.refresh_traffic_keys().unwrap_or_default();
        }
    }

    /// Hands over what the client sends, one byte of it changed if there is a `change`.
    fn send(&mut self, change: Option<usize>) -> Result<(), String> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).expect("in memory");
        }
        if let Some(at) = change.filter(|_| !bytes.is_empty()) {
            let at = at % bytes.len();
            bytes[at] ^= 1;
        }
        for piece in bytes.chunks_mut(self.piece) {
            self.session.open(piece, &mut self.opened).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Seals so many bytes, of which the socket takes none yet.
    fn seal(&mut self, count: usize) {
        let bytes = counted(self.sealed.len(), count);
        let mut out = vec![0; self.session.sealed_bytes_max(count)];
        let len = self.session.seal(&bytes, &mut out).expect("the session is open");
        self.session.keep(&out[..len]);
        self.sealed.extend(bytes);
    }

    /// The socket takes so many bytes of the rest.
    fn deliver(&mut self, count: usize) {
        let rest = self.session.rest();
        let records = rest[..count.min(rest.len())].to_vec();
        self.session.handle_sent(records.len());
        self.take(&records);
    }

    fn take(&mut self, mut records: &[u8]) {
        while !records.is_empty() {
            self.client.read_tls(&mut records).expect("in memory");
            let state = self.client.process_new_packets().expect("good records");
            let start = self.heard.len();
            self.heard.resize(start + state.plaintext_bytes_to_read(), 0);
            self.client.reader().read_exact(&mut self.heard[start..]).expect("it is there");
        }
    }

    /// One byte of what the client says is changed on the way: it is not taken for what was said.
    fn damage(mut self, at: usize) {
        self.say(20);
        let sent = self.send(Some(at));
        assert!(self.said.starts_with(&self.opened), "of {sent:?}");
        if sent.is_err() {
            let mut out = vec![0; self.session.sealed_bytes_max(1)];
            assert!(self.session.seal(b"x", &mut out).is_err(), "it is over");
        }
    }
}

/// So many bytes that go on counting.
fn counted(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| at.to_le_bytes()[0]).collect()
}
