//! Both halves of TLS in memory: the session, and rustls' own client.
//!
//! Not here: sockets. Invariant: what one side says is what the other side hears.

use std::io::{Read, Write};
use std::sync::LazyLock;

use proptest::prelude::*;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::limits::TLS_SEND_BYTES_MAX;

/// A server's configuration, and one of a client that trusts it.
struct Pair {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server: Arc::new(server), client: Arc::new(client) }
    }

    fn session(&self) -> Session {
        Session::new(Arc::clone(&self.server)).unwrap()
    }

    fn client(&self) -> ClientConnection {
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::clone(&self.client), name).unwrap()
    }

    /// Both ends of a connection whose handshake is done.
    fn connected(&self) -> (Session, ClientConnection) {
        let (mut session, mut client) = (self.session(), self.client());
        shake_hands(&mut session, &mut client, usize::MAX);
        (session, client)
    }
}

/// Hands over what the client has to say, in pieces, and what the session answers.
fn shake_hands(session: &mut Session, client: &mut ClientConnection, piece: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    while client.wants_write() || session.is_handshaking() {
        let mut said = Vec::new();
        client.write_tls(&mut said).unwrap();
        for part in said.chunks_mut(piece) {
            session.open(part, &mut plain).unwrap();
        }
        let rest = session.rest().to_vec();
        session.handle_sent(rest.len());
        take(client, &rest);
    }
    plain
}

/// Gives records to the client, and returns what it reads in them.
fn take(client: &mut ClientConnection, mut records: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    while !records.is_empty() {
        client.read_tls(&mut records).unwrap();
        let state = client.process_new_packets().unwrap();
        let start = heard.len();
        heard.resize(start + state.plaintext_bytes_to_read(), 0);
        client.reader().read_exact(&mut heard[start..]).unwrap();
    }
    heard
}

fn versions() -> [&'static SupportedProtocolVersion; 2] {
    [&rustls::version::TLS12, &rustls::version::TLS13]
}

/// The lengths of the records in `bytes`, headers included.
fn records(mut bytes: &[u8]) -> Vec<usize> {
    let mut lens = Vec::new();
    while let [_, _, _, high, low, ..] = bytes {
        let len = 5 + usize::from(u16::from_be_bytes([*high, *low]));
        lens.push(len);
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty(), "only whole records are sealed");
    lens
}

#[test]
fn it_does_not_matter_where_the_stream_is_split() {
    for version in versions() {
        let pair = Pair::new(version);
        for piece in 1..=40 {
            let (mut session, mut client) = (pair.session(), pair.client());
            client.writer().write_all(b"first").unwrap();
            let mut plain = shake_hands(&mut session, &mut client, piece);
            client.writer().write_all(b", second").unwrap();
            client.send_close_notify();
            let mut said = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut said).unwrap();
            }
            for part in said.chunks_mut(piece) {
                session.open(part, &mut plain).unwrap();
            }
            assert_eq!(plain, b"first, second", "{version:?} in pieces of {piece}");
            assert!(session.is_peer_closed());
            assert_eq!(session.incoming.capacity() + session.rest.capacity(), 0);
        }
    }
}

#[test]
fn a_message_of_a_mebibyte_arrives_whole_and_fills_records() {
    for version in versions() {
        let (mut session, mut client) = Pair::new(version).connected();
        client.set_buffer_limit(None);
        let message: Vec<u8> =
            (0..1 << 20).map(|at: u32| at.to_le_bytes()[at as usize % 3]).collect();
        for part in message.chunks(TLS_SEND_BYTES_MAX) {
            let mut out = vec![0; session.sealed_bytes_max(part.len())];
            let len = session.seal(part, &mut out).unwrap();
            assert_eq!(records(&out[..len]).len(), 4, "full records");
            assert!(take(&mut client, &out[..len]) == part);
        }
        // The same the other way round, in pieces of what a core reads at once.
        let mut plain = Vec::new();
        for part in message.chunks(50_000) {
            client.writer().write_all(part).unwrap();
            let mut said = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut said).unwrap();
            }
            said.chunks_mut(7_000).for_each(|part| session.open(part, &mut plain).unwrap());
        }
        assert!(plain == message);
    }
}

#[test]
fn what_a_full_socket_did_not_take_goes_before_what_is_sealed_next() {
    let (mut session, mut client) = Pair::new(&rustls::version::TLS13).connected();
    let mut out = vec![0; 4_096];
    let len = session.seal(b"one", &mut out).unwrap();
    assert_eq!(take(&mut client, &out[..7]), b"");
    session.keep(&out[7..len]);
    session.handle_sent(2);
    assert_eq!(take(&mut client, &out[7..9]), b"");
    let len = session.seal(b"two", &mut out).unwrap();
    assert!(session.rest().is_empty());
    assert_eq!(take(&mut client, &out[..len]), b"onetwo");
    let farewell = session.farewell();
    let mut farewell = &farewell[..];
    client.read_tls(&mut farewell).unwrap();
    assert!(client.process_new_packets().unwrap().peer_has_closed());
    assert_eq!(session.seal(b"three", &mut out), Err(TlsError::NotOpen));
}

#[test]
fn keys_change_at_the_clients_wish() {
    let (mut session, mut client) = Pair::new(&rustls::version::TLS13).connected();
    let mut out = vec![0; 4_096];
    for round in 0..20 {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(&[round]).unwrap();
        let (mut said, mut plain) = (Vec::new(), Vec::new());
        client.write_tls(&mut said).unwrap();
        // Half of it first, and an answer in between.
        let (first, second) = said.split_at_mut(9);
        session.open(first, &mut plain).unwrap();
        let len = session.seal(b"meanwhile", &mut out).unwrap();
        assert_eq!(take(&mut client, &out[..len]), b"meanwhile");
        session.open(second, &mut plain).unwrap();
        let len = session.seal(&plain, &mut out).unwrap();
        assert_eq!(take(&mut client, &out[..len]), [round]);
    }
}

#[test]
fn garbage_is_answered_with_an_alert_and_nothing_more() {
    let pair = Pair::new(&rustls::version::TLS13);
    let mut plain = Vec::new();
    let mut session = pair.session();
    // A client hello without anything in it.
    let error = session.open(&mut [0x16, 3, 1, 0, 4, 1, 0, 0, 0], &mut plain).unwrap_err();
    assert!(matches!(error, TlsError::Peer(_)), "{error}");
    assert_eq!(session.rest()[0], 21, "an alert (RFC 8446, section 5.1)");
    assert_eq!(session.seal(b"x", &mut [0; 4_096]), Err(TlsError::NotOpen));

    let (mut session, mut client) = pair.connected();
    client.writer().write_all(b"x").unwrap();
    let mut said = Vec::new();
    client.write_tls(&mut said).unwrap();
    *said.last_mut().unwrap() ^= 1;
    assert!(session.open(&mut said, &mut plain).is_err());
    let mut alert = &session.farewell()[..];
    client.read_tls(&mut alert).unwrap();
    let error = client.process_new_packets().unwrap_err();
    assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error}");
    assert!(plain.is_empty());
}

#[test]
fn a_request_without_tls_is_known_by_its_first_byte() {
    let mut session = Pair::new(&rustls::version::TLS13).session();
    let opened = session.open(&mut b"GET /v1 HTTP/1.1\r\n".to_vec(), &mut Vec::new());
    assert_eq!(opened, Err(TlsError::PlainHttp));
}

#[test]
fn a_handshake_message_that_never_ends_is_not_kept() {
    let mut session = Pair::new(&rustls::version::TLS13).session();
    // A client hello of 65,535 bytes, in records of one byte each.
    let mut hello = vec![0x01, 0, 0xff, 0xff];
    hello.resize(0x1_0000, 0);
    let ended = hello.iter().position(|&byte| {
        let mut record = [0x16, 3, 1, 0, 1, byte];
        session.open(&mut record, &mut Vec::new()).is_err()
    });
    let kept = 6 * ended.expect("it is not taken for ever");
    assert!(kept <= TLS_PARTIAL_BYTES_MAX + 6, "{kept} bytes were kept");
}

#[test]
fn a_ticket_spares_the_next_handshake() {
    for version in versions() {
        let pair = Pair::new(version);
        assert!(!pair.connected().0.is_resumed());
        assert!(pair.connected().0.is_resumed(), "{version:?}");
    }
}

/// Lets a client shake hands and say `said`, with one byte of all that it sends replaced; returns
/// what the session takes it to have said.
fn heard_with_one_byte_wrong(pair: &Pair, said: &[u8], place: usize, flip: u8) -> Vec<u8> {
    let (mut session, mut client) = (pair.session(), pair.client());
    let (mut plain, mut sent) = (Vec::new(), 0);
    client.writer().write_all(said).unwrap();
    loop {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        if let Some(byte) = place.checked_sub(sent).and_then(|at| bytes.get_mut(at)) {
            *byte ^= flip;
        }
        sent += bytes.len();
        let opened = session.open(&mut bytes, &mut plain);
        let rest = session.rest().to_vec();
        session.handle_sent(rest.len());
        let mut rest = &rest[..];
        let taken = client.read_tls(&mut rest).is_ok() && client.process_new_packets().is_ok();
        if opened.is_err() || !taken || bytes.is_empty() {
            assert!(session.incoming.len() <= TLS_PARTIAL_BYTES_MAX);
            return plain;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_byte_that_was_changed_on_the_way_is_never_taken_for_what_was_said(
        place in 0_usize..1_500,
        flip in 1_u8..,
        is_old: bool,
    ) {
        static PAIRS: LazyLock<[Pair; 2]> = LazyLock::new(|| versions().map(Pair::new));
        let said = [7; 500];
        let heard = heard_with_one_byte_wrong(&PAIRS[usize::from(!is_old)], &said, place, flip);
        prop_assert!(said.starts_with(&heard), "{heard:?}");
    }

    #[test]
    fn whatever_bytes_come_first_the_session_ends_or_waits(mut bytes: Vec<u8>, is_record: bool) {
        if is_record {
            let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            bytes.splice(0..0, [0x16, 3, 1, len[0], len[1]]);
        }
        let mut session = Pair::new(&rustls::version::TLS13).session();
        let mut plain = Vec::new();
        let opened = session.open(&mut bytes, &mut plain);
        prop_assert!(plain.is_empty() && session.is_handshaking());
        prop_assert!(opened.is_err() || session.incoming.len() <= bytes.len());
    }
}
