//! The other side of a connection, for tests of the tools. Only built for tests.
//!
//! Invariant: ports are the kernel's choice, so tests can run beside each other.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};

use super::dial::Producer;
use crate::protocol::ws::deflate::{Agreed, Terms};
use crate::protocol::ws::frame::{Opcode, write_frame};
use crate::protocol::ws::handshake::{Parsed, parse, write_accept};

/// Listens at the `HOST:PORT` that is returned and plays `scene` with the one peer that connects.
pub(crate) fn listen<T: Send + 'static>(
    scene: impl FnOnce(Producer) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let mut scene = Some(scene);
    let (address, played) =
        listen_times(1, move |_, stream| scene.take().map(|scene| scene(stream)));
    let first = move || played.join().unwrap().pop().flatten().expect("one peer connected");
    (address, std::thread::spawn(first))
}

/// The same with as many peers, one after the other; `scene` also gets the number of each, from 0.
pub(crate) fn listen_times<T: Send + 'static>(
    times: usize,
    mut scene: impl FnMut(usize, Producer) -> T + Send + 'static,
) -> (String, JoinHandle<Vec<T>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let play = move || {
        let mut accept = |time| scene(time, Producer::Tcp(listener.accept().unwrap().0));
        (0..times).map(&mut accept).collect()
    };
    (address, std::thread::spawn(play))
}

/// A `HOST:PORT` where nobody listens.
pub(crate) fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Upgrades a client and sends `welcome` with the answer; the head of its request.
pub(crate) fn upgrade(stream: &mut (impl Read + Write), welcome: &str) -> String {
    upgrade_on(None, stream, welcome).0
}

/// The same with compression on these terms, if there are any; also what was agreed on.
pub(crate) fn upgrade_on(
    terms: Option<Terms>,
    stream: &mut (impl Read + Write),
    welcome: &str,
) -> (String, Option<Agreed>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    loop {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
        if let Ok(Parsed::Request { mut upgrade, .. }) = parse(&head) {
            upgrade.deflate = terms.and_then(|terms| terms.agree(&upgrade.offers));
            let mut answer = Vec::new();
            write_accept(&mut answer, &upgrade);
            // The welcome rides on the answer, as it may on a real server.
            write_frame(&mut answer, Opcode::Text, welcome.as_bytes());
            stream.write_all(&answer).unwrap();
            return (String::from_utf8(head).unwrap(), upgrade.deflate);
        }
    }
}

/// An authority of a test's own, and a folder with what it signed.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    /// One whose files are in a folder called after `test`.
    pub(crate) fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("fanfare-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::default();
        // Its own name, because a certificate's issuer is looked up by it.
        params.distinguished_name.push(DnType::CommonName, test);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// The file of its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Files of a certificate for `name`, and of its key.
    pub(crate) fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, KeyPair> = &self.issuer;
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        let at = |kind: &str| self.folder.join(format!("{name}.{kind}.pem"));
        std::fs::write(at("cert"), certificate.pem()).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        (at("cert"), at("key"))
    }

    /// What a server for `name` needs; `asks`: it wants a client certificate of this authority.
    pub(crate) fn server(
        &self,
        name: &str,
        version: &'static SupportedProtocolVersion,
        asks: bool,
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let (certificate, key) = self.sign(name);
        let builder = if asks {
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        Arc::new(builder.with_single_cert(vec![der(&certificate)], key_of(&key)).unwrap())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _kept = std::fs::remove_dir_all(&self.folder);
    }
}

/// A server's side of TLS over `stream`.
pub(crate) fn secure(
    config: &Arc<ServerConfig>,
    stream: Producer,
) -> StreamOwned<ServerConnection, Producer> {
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream)
}

fn der(path: &Path) -> CertificateDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_file(path).unwrap()
}

fn key_of(path: &Path) -> PrivateKeyDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_file(path).unwrap()
}
