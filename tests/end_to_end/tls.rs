//! `wss://` as clients see it: versions, resumption, certificates, hostile bytes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare::protocol::ws::frame::Opcode;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use crate::slow::falls_off_the_log;
use crate::support::{
    Client, Folder, Heard, Server, connect, connect_narrow, eventually, line, read_to_end,
};

pub(crate) type Tls<S = TcpStream> = StreamOwned<ClientConnection, S>;

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// What a client trusts it by, as PEM.
    pub(crate) fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names and its key, in one PEM.
    pub(crate) fn issue(&self, names: &[&str]) -> String {
        self.signed(params(names))
    }

    /// The same, good until so many seconds after the Unix epoch.
    pub(crate) fn issue_until(&self, names: &[&str], end_s: u64) -> String {
        let mut params = params(names);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end_s);
        self.signed(params)
    }

    fn signed(&self, mut params: CertificateParams) -> String {
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        certificate.pem() + &key.serialize_pem()
    }

    /// What a client is configured with that trusts it, with a certificate of its own if any.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&str>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let chain = CertificateDer::pem_slice_iter(pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        }
    }

    /// The same in any version, without a certificate.
    pub(crate) fn any_client(&self) -> Arc<ClientConfig> {
        Arc::new(self.client(rustls::ALL_VERSIONS, None))
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

/// A server for `localhost`, and whom to trust; its files are `own.pem` and `ca.pem`.
pub(crate) fn serve(flags: &str) -> (Server, Authority, Folder) {
    serve_with(flags, &[])
}

/// The same, with these files beside them.
pub(crate) fn serve_with(flags: &str, files: &[(&str, &str)]) -> (Server, Authority, Folder) {
    let (folder, authority) = (Folder::new(), Authority::new());
    for (name, text) in files {
        folder.file(name, text);
    }
    let own = folder.file("own.pem", &authority.issue(&["localhost"]));
    folder.file("ca.pem", &authority.certificate());
    let flags = flags.replace("FOLDER", folder.0.to_str().unwrap());
    let flags = format!("--tls-listen 127.0.0.1:0 --tls-certificates {own} {flags}");
    (Server::start(&flags), authority, folder)
}

/// TLS on `stream`, the handshake not begun.
pub(crate) fn over<S: Read + Write>(
    stream: S,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> Tls<S> {
    let name = ServerName::try_from(name).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

/// A subscriber that was welcomed.
pub(crate) fn welcomed(address: SocketAddr, config: &Arc<ClientConfig>) -> Client<Tls> {
    let mut client = Client::upgrade(over(connect(address), config, "localhost"));
    assert_eq!(client.json()["type"], "welcome");
    client
}

/// Its end, which it hears of by a close frame and then by TLS.
pub(crate) fn close(mut client: Client<Tls>) {
    client.send(Opcode::Close, &1000_u16.to_be_bytes());
    assert_eq!(client.hear(), Heard::Close(Some(1000), String::new()));
    assert_eq!(client.hear(), Heard::End, "without close_notify this is an error");
}

#[test]
fn both_versions_serve_and_resume() {
    let (server, authority, _folder) = serve("");
    let mut producer = server.producer();
    for (at, version) in [&rustls::version::TLS12, &rustls::version::TLS13].into_iter().enumerate()
    {
        let config = Arc::new(authority.client(&[version], None));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = welcomed(server.tls.unwrap(), &config);
            let tls = &client.stream.conn;
            assert_eq!(tls.handshake_kind(), Some(kind), "{version:?}");
            let expected = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3][at];
            assert_eq!(tls.protocol_version(), Some(expected));
            assert_eq!(client.subscribe(&["a.b"])["success"], true);
            producer.publish("a.b", r#""x""#);
            assert_eq!(client.data(), r#""x""#);
            close(client);
        }
    }
    assert_eq!((server.counter("tls_handshakes"), server.counter("tls_resumed")), (4, 2));
    assert_eq!(server.counter("tls_failed"), 0);
}

#[test]
fn plain_and_encrypted_subscribers_of_one_channel_get_the_same() {
    let (server, authority, _folder) = serve("");
    let config = authority.any_client();
    let mut sealed: Vec<_> = (0..20).map(|_| welcomed(server.tls.unwrap(), &config)).collect();
    for client in &mut sealed {
        assert_eq!(client.subscribe(&["a.*"])["success"], true);
    }
    let mut plain = Client::subscribed(&server, "a.*");
    let mut producer = server.producer();
    for number in 0..200 {
        producer.publish("a.b", &format!("{{\"n\":{number}}}"));
    }
    for number in 0..200 {
        let data = plain.data();
        assert_eq!(data, format!("{{\"n\":{number}}}"));
        assert!(sealed.iter_mut().all(|client| client.data() == data));
    }
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let mut files = Vec::new();
    for names in [&["one.example", "also.example"][..], &["*.two.example"], &["three.example"]] {
        files.push(folder.file(names[0].trim_matches('*'), &authority.issue(names)));
    }
    let flags = format!("--tls-listen 127.0.0.1:0 --tls-certificates {}", files.join(","));
    let server = Server::start(&flags);
    let config = authority.any_client();
    for name in ["one.example", "also.example", "x.two.example", "three.example"] {
        let stream = over(connect(server.tls.unwrap()), &config, name);
        assert_eq!(Client::upgrade(stream).json()["type"], "welcome", "{name}");
    }
    // Others see the first one.
    let mut stream = over(connect(server.tls.unwrap()), &config, "four.example");
    let error = stream.write_all(b"x").unwrap_err().to_string();
    assert!(error.contains("one.example"), "{error}");
}

#[test]
fn a_client_that_cannot_speak_http_1_is_told_so_in_the_handshake() {
    let (server, authority, _folder) = serve("");
    let mut config = authority.client(rustls::ALL_VERSIONS, None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut stream = over(connect(server.tls.unwrap()), &Arc::new(config.clone()), "localhost");
    let error = stream.write_all(b"x").unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    config.alpn_protocols.push(b"http/1.1".to_vec());
    let client = welcomed(server.tls.unwrap(), &Arc::new(config));
    assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// A connection that remembers what it read.
struct Recorded(TcpStream, Arc<Mutex<Vec<u8>>>);

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.lock().unwrap().extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn events_that_leave_together_share_records() {
    let (server, authority, _folder) = serve("--cores 0");
    let read = Arc::new(Mutex::new(Vec::new()));
    let stream = Recorded(connect(server.tls.unwrap()), Arc::clone(&read));
    let mut client = Client::upgrade(over(stream, &authority.any_client(), "localhost"));
    assert_eq!(client.json()["type"], "welcome");
    let command =
        r#"{"method":"subscribe","params":{"channels":["even"],"policy":"all","snapshot":false}}"#;
    assert_eq!(client.ask(command)["success"], true);
    client.hears_nothing_more();
    read.lock().unwrap().clear();
    // Every other event, so that no two of them lie side by side in the log.
    let pair = line("even", "1") + &line("odd", "2");
    server.producer().send(&pair.repeat(300));
    for _ in 0..300 {
        assert_eq!(client.data(), "1");
    }
    let read = read.lock().unwrap();
    let (mut records, mut at) = (0, 0);
    while at < read.len() {
        at += 5 + usize::from(u16::from_be_bytes([read[at + 3], read[at + 4]]));
        records += 1;
    }
    assert!(records <= 60, "300 events in {records} records");
}

/// A connection that gives little at a time.
struct Narrow(TcpStream);

impl Read for Narrow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(700);
        self.0.read(&mut buffer[..room])
    }
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn a_burst_of_mebibytes_reaches_a_client_that_reads_in_small_steps_whole() {
    let (server, authority, _folder) = serve("--send-buffer-bytes 32KiB --cores 0");
    let stream = Narrow(connect_narrow(server.tls.unwrap()));
    let mut client = Client::upgrade(over(stream, &authority.any_client(), "localhost"));
    assert_eq!(client.json()["type"], "welcome");
    let command =
        r#"{"method":"subscribe","params":{"channels":["a.b"],"policy":"all","snapshot":false}}"#;
    assert_eq!(client.ask(command)["success"], true);
    let mut producer = server.producer();
    let text = "x".repeat(40_000);
    for number in 0..400 {
        producer.publish("a.b", &format!("\"{number}{text}\""));
    }
    eventually("it is held up", || server.counter("blocked") == 1);
    for number in 0..400 {
        let event = client.event();
        assert_eq!(event.seq, number + 1);
        assert_eq!(event.data(), format!("\"{number}{text}\""));
    }
    client.hears_nothing_more();
}

#[test]
fn a_client_that_falls_off_the_log_is_told_what_it_missed_over_tls_too() {
    let (server, authority, _folder) =
        serve("--log-bytes 8MiB --send-buffer-bytes 16KiB --heartbeat 5m");
    let stream = connect_narrow(server.tls.unwrap());
    let mut client = Client::upgrade(over(stream, &authority.any_client(), "localhost"));
    assert_eq!(client.json()["type"], "welcome");
    assert_eq!(client.subscribe(&["odd"])["success"], true);
    falls_off_the_log(&server, client);
}

#[test]
fn a_refusal_is_sealed_and_ends_in_order() {
    let (server, authority, _folder) = serve("");
    let mut stream = over(connect(server.tls.unwrap()), &authority.any_client(), "localhost");
    stream.write_all(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = read_to_end(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
}

#[test]
fn a_request_without_tls_is_told_what_the_address_speaks() {
    let (server, _authority, _folder) = serve("");
    let mut stream = connect(server.tls.unwrap());
    stream.write_all(b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = read_to_end(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.ends_with("connect with wss://\n"), "{answer}");
}

#[test]
fn what_is_no_tls_ends_its_own_connection_only() {
    let (server, authority, _folder) = serve("--upgrade-timeout 3s");
    let address = server.tls.unwrap();
    let config = authority.any_client();
    let mut healthy = welcomed(address, &config);
    assert_eq!(healthy.subscribe(&["a.b"])["success"], true);

    let hello = {
        let name = ServerName::try_from("localhost").unwrap();
        let mut hello = Vec::new();
        let mut connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
        connection.write_tls(&mut hello).unwrap();
        hello
    };
    // Garbage; half a hello and silence; a hello and an end; a hello and garbage.
    let half = &hello[..hello.len() / 2];
    let garbage = [&hello[..], &[23, 3, 3, 0, 4, 1, 2, 3, 4][..]].concat();
    for bytes in [&[0x16, 3, 1, 0, 4, 1, 0, 0, 0][..], &[0xff; 4_000], half, &garbage] {
        let mut stream = connect(address);
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
    }
    for end in 0..hello.len() {
        if end % 50 == 0 {
            let mut stream = connect(address);
            stream.write_all(&hello[..end]).unwrap();
            stream.shutdown(Shutdown::Both).unwrap();
        }
    }
    // Garbage behind the upgrade.
    for bytes in [&[23, 3, 3, 0, 4, 1, 2, 3, 4][..], &[0x80; 9], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = welcomed(address, &config).stream;
        stream.sock.write_all(bytes).unwrap();
        let error = stream.read(&mut [0; 100]).unwrap_err().to_string();
        assert!(error.contains("received fatal alert"), "{error}");
    }
    // Half a record behind the upgrade, and the end.
    let stream = welcomed(address, &config).stream;
    (&stream.sock).write_all(&[23, 3, 3, 0x10, 0, 1, 2, 3]).unwrap();
    drop(stream);

    eventually("only one is left", || server.counter("connections") == 1);
    server.producer().publish("a.b", "7");
    assert_eq!(healthy.data(), "7");
    assert!(server.counter("tls_failed") >= 3, "{}", server.stats());
}

#[test]
fn a_changed_certificate_is_served_to_those_who_come_then() {
    let (folder, authority, other) = (Folder::new(), Authority::new(), Authority::new());
    let own = folder.file("own.pem", &authority.issue(&["localhost"]));
    let flags =
        format!("--cores 0 --heartbeat 1m --tls-listen 127.0.0.1:0 --tls-certificates {own}");
    let server = Server::start(&flags);
    let address = server.tls.unwrap();

    let (before, after) = (authority.any_client(), other.any_client());
    let mut open = welcomed(address, &before);
    folder.file("own.pem", "not a certificate");
    eventually("it says what is wrong", || {
        let log = server.log();
        log.contains("those before stay") && log.contains("own.pem")
    });
    let resumed = welcomed(address, &before);
    assert_eq!(resumed.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));

    folder.file("own.pem", &other.issue(&["localhost"]));
    eventually("the other one is in force", || {
        server.log().contains("certificates have changed and are in force")
    });
    welcomed(address, &after);
    let fresh = authority.any_client();
    let mut stream = over(connect(address), &fresh, "localhost");
    let error = stream.write_all(b"x").unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let resumed = welcomed(address, &before);
    assert_eq!(resumed.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    open.hears_nothing_more();
    assert_eq!(server.log().matches("those before stay").count(), 1, "tried once for each change");

    server.signal("HUP");
    eventually("SIGHUP reads it again", || server.log().contains("certificates were read again"));
}
