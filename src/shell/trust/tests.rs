//! The client's TLS against rustls as a server, and against what is no TLS.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use super::*;
use crate::protocol::ws::frame::{Opcode, write_frame};
use crate::shell::client::{Client, Dialer, Said, Status};
use crate::shell::fake::{Authority, listen, listen_times, secure, upgrade};

fn dialer(authority: &Authority) -> Dialer {
    Dialer::new(TrustFiles { authorities: Some(authority.file()), certificate: None })
}

/// Reads until the server has sent `count` messages.
fn texts(client: &mut Client, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let status = client.read(Duration::from_secs(5), |said| match said {
            Said::Text(text) => seen.push(text.to_owned()),
            Said::Binary(_) => panic!("nobody asked for it"),
        });
        assert_eq!(status.unwrap(), Status::Open);
    }
    seen
}

/// A server that upgrades `times` clients, sends each a large message in many records, and reads
/// on until the end.
fn server(
    authority: &Authority,
    name: &str,
    version: &'static SupportedProtocolVersion,
    (asks, times): (bool, usize),
) -> (String, std::thread::JoinHandle<Vec<bool>>) {
    let config = authority.server(name, version, asks);
    listen_times(times, move |_, stream| {
        let mut stream = secure(&config, stream);
        if stream.conn.complete_io(&mut stream.sock).is_err() {
            return false;
        }
        upgrade(&mut stream, "welcome");
        let mut frame = Vec::new();
        write_frame(&mut frame, Opcode::Text, &[b'x'; 100_000]);
        // A client that has seen enough may be gone.
        let _gone = stream.write_all(&frame).and_then(|()| stream.flush());
        let _end = stream.read_to_end(&mut Vec::new());
        true
    })
}

#[test]
fn both_versions_of_tls_are_spoken_and_the_second_connection_resumes_the_first() {
    let authority = Authority::new("resumes");
    for (version, name) in [(&TLS13, "TLS 1.3"), (&TLS12, "TLS 1.2")] {
        let (address, played) = server(&authority, "127.0.0.1", version, (false, 2));
        let dialer = dialer(&authority);
        for security in [name.to_owned(), format!("{name}, session resumed")] {
            let mut client = dialer.connect(&format!("wss://{address}/v1"), None).unwrap();
            assert_eq!(client.security(), Some(security));
            let seen = texts(&mut client, 2);
            assert_eq!((seen[0].as_str(), seen[1].len()), ("welcome", 100_000));
            drop(client);
        }
        assert_eq!(played.join().unwrap(), [true, true]);
    }
}

#[test]
fn a_server_that_cannot_prove_its_name_is_refused_and_the_cure_is_said() {
    let (authority, other) = (Authority::new("trusted"), Authority::new("other"));
    let (address, _played) = server(&other, "127.0.0.1", &TLS13, (false, 1));
    let url = format!("wss://{address}");
    let error = dialer(&authority).connect(&url, None).unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer") && error.contains("--ca FILE"), "{error}");
    let (address, _played) = server(&authority, "elsewhere.example", &TLS13, (false, 1));
    let url = format!("wss://{address}");
    let error = dialer(&authority).connect(&url, None).unwrap_err().to_string();
    assert!(error.contains("elsewhere.example"), "{error}");
    assert!(error.ends_with("use a name that its certificate has"), "{error}");
}

#[test]
fn a_certificate_that_signs_itself_is_trusted_where_its_file_is_named() {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let path = std::env::temp_dir().join(format!("fanfare-own-{}.pem", std::process::id()));
    std::fs::write(&path, own.cert.pem() + &own.signing_key.serialize_pem()).unwrap();
    let config = config(vec![own.cert.der().clone()], own.signing_key);
    let (address, _played) = listen(move |stream| {
        upgrade(&mut secure(&config, stream), "welcome");
    });
    let files = TrustFiles { authorities: Some(path.clone()), certificate: None };
    let mut client = Dialer::new(files).connect(&format!("wss://{address}"), None).unwrap();
    assert_eq!(texts(&mut client, 1), ["welcome"]);
    std::fs::remove_file(&path).unwrap();
}

fn config(chain: Vec<CertificateDer<'static>>, key: rcgen::KeyPair) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

#[test]
fn what_is_no_tls_is_said_to_be_none() {
    let authority = Authority::new("plain");
    let (address, _played) = listen(|mut stream| {
        let _hello = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let url = format!("wss://{address}");
    let error = dialer(&authority).connect(&url, None).unwrap_err().to_string();
    assert!(error.ends_with("does it speak TLS there, or is it ws://?"), "{error}");
}

#[test]
fn a_client_certificate_is_shown_where_one_is_wanted() {
    let authority = Authority::new("mutual");
    for version in [&TLS13, &TLS12] {
        let (address, played) = server(&authority, "127.0.0.1", version, (true, 2));
        let url = format!("wss://{address}");
        let error = dialer(&authority).connect(&url, None).unwrap_err().to_string();
        assert!(error.ends_with("--cert FILE --key FILE"), "{error}");
        let certificate = Some(authority.sign("feed-1.example"));
        let files = TrustFiles { authorities: Some(authority.file()), certificate };
        let mut client = Dialer::new(files).connect(&url, None).unwrap();
        assert_eq!(texts(&mut client, 1), ["welcome"]);
        drop(client);
        assert_eq!(played.join().unwrap(), [false, true]);
    }
}

#[test]
fn files_that_do_not_serve_are_named_with_what_is_wrong_and_nothing_of_a_key_is_shown() {
    let authority = Authority::new("files");
    let (certificate, key) = authority.sign("a.example");
    let (_, other) = authority.sign("b.example");
    let load = |authorities: Option<&Path>, pair: Option<(&Path, &Path)>| {
        let certificate = pair.map(|(one, other)| (one.to_owned(), other.to_owned()));
        let files = TrustFiles { authorities: authorities.map(Path::to_owned), certificate };
        Trust::load(&files).unwrap_err().to_string()
    };
    let root = authority.file();
    let error = load(Some(Path::new("/absent.pem")), None);
    assert!(error.starts_with("`/absent.pem`: cannot be read: No such file"), "{error}");
    let error = load(Some(&key), None);
    assert!(error.ends_with("holds no certificate in PEM form (-----BEGIN …-----)"), "{error}");
    let error = load(Some(&root), Some((&certificate, &root)));
    assert!(error.contains("holds no private key"), "{error}");
    let error = load(Some(&root), Some((&certificate, &other)));
    assert!(error.contains("it must be the key of"), "{error}");
}

#[test]
fn the_name_in_an_address_is_found_with_and_without_a_port() {
    for (host, name) in [
        ("a.example:9443", "a.example"),
        ("a.example", "a.example"),
        ("[::1]:9443", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1:1", "127.0.0.1"),
    ] {
        assert_eq!(name_of(host), name);
    }
}

#[test]
fn a_certificate_of_an_authority_is_refused_with_what_to_make_instead() {
    let reason = OtherError(Arc::new(webpki::Error::CaUsedAsEndEntity));
    let error = rustls::Error::InvalidCertificate(CertificateError::Other(reason));
    assert!(cure(&error).contains("basicConstraints=critical,CA:FALSE"));
}
