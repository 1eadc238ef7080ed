//! The echo endpoint in this process, and connections to it.
//!
//! Not here: what is said over them. Invariant: no port is fixed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare::cli::flags::host;
use fanfare::config::raw::{Given, Origin, Raw};
use fanfare::protocol::ws::client::{Request, parse_answer};
use fanfare::protocol::ws::deflate::Agreed;
use fanfare::server::Server;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The key of every upgrade request.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A connection, encrypted or not.
pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A running endpoint with a plain and an encrypted address.
pub(crate) struct Echo {
    server: Server,
    tls: Arc<ClientConfig>,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanfare-echo-{}-{number}.pem", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, certificate.pem() + &key.serialize_pem()).unwrap();
        let mut raw = Raw::default();
        for (name, text) in [
            ("listen", "127.0.0.1:0"),
            ("tls_listen", "127.0.0.1:0"),
            ("tls_certificates", file.to_str().unwrap()),
            ("log_bytes", "16MiB"),
        ] {
            let given = Given { text: text.into(), origin: Origin::Flag(name.into()) };
            raw.values.insert(name, given);
        }
        let settings = fanfare::server::echo::settings(&raw, &host());
        let settings = settings.unwrap_or_else(|problems| panic!("{problems}"));
        let server = Server::start(&settings, None).unwrap();
        std::fs::remove_file(file).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server, tls: Arc::new(config) }
    }

    /// A plain connection, not upgraded yet.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.server.listen)
    }

    /// An encrypted one.
    pub(crate) fn connect_tls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
        StreamOwned::new(session, connect(self.server.tls.unwrap()))
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads once; the server in this process interrupts other threads' calls now and then.
pub(crate) fn read(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Upgrades a connection with `offer` as its extensions; what was agreed on, and what came behind
/// the answer.
pub(crate) fn upgrade(stream: &mut impl Stream, offer: Option<&str>) -> (Option<Agreed>, Vec<u8>) {
    let (host, path, key) = ("localhost", "/v1", KEY);
    let (subprotocol, token, deflate) = (None, None, false);
    let mut request = Vec::new();
    Request { host, path, key, subprotocol, token, deflate }.write(&mut request);
    if let Some(offer) = offer {
        request.truncate(request.len() - 2);
        write!(request, "Sec-WebSocket-Extensions: {offer}\r\n\r\n").unwrap();
    }
    stream.write_all(&request).unwrap();
    stream.flush().unwrap();
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let count = read(stream, &mut buffer).unwrap();
        assert!(count > 0, "the server hung up: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..count]);
        if let Some(parsed) = parse_answer(&answer, KEY, offer.is_some()).unwrap() {
            return (parsed.deflate, answer.split_off(parsed.head_len));
        }
    }
}
