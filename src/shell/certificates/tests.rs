//! Files as operators have them, good and bad.
//!
//! Not here: handshakes (`tests/end_to_end`). Invariant: each test has a folder of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;

/// A folder that is gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanfare-certificates-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Settings with one certificate.
    fn settings(&self, chain: &str, key: &str) -> TlsSettings {
        TlsSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificates: vec![CertificateFiles {
                chain: self.0.join(chain),
                key: self.0.join(key),
            }],
            client_ca: None,
            client_certificate_required: true,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The PEM of a certificate for `name`, and that of its key.
fn made(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn authority() -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

#[test]
fn every_refusal_names_the_file_and_the_cure() {
    let folder = Folder::new();
    let (chain, key) = made("a.example");
    folder.write("chain.pem", &chain);
    folder.write("key.pem", &key);
    folder.write("other.pem", &made("a.example").1);
    folder.write("both.pem", &(chain + &key));
    folder.write("empty.pem", "");
    folder.write("torn.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    let forged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    folder.write("forged.pem", forged);
    for (chain, key, named, cure) in [
        ("gone.pem", "key.pem", "gone.pem", "ls -l"),
        ("chain.pem", "gone.pem", "gone.pem", "ls -l"),
        ("empty.pem", "key.pem", "empty.pem", "BEGIN CERTIFICATE"),
        ("key.pem", "key.pem", "key.pem", "BEGIN CERTIFICATE"),
        ("chain.pem", "chain.pem", "chain.pem", "tls_keys"),
        ("torn.pem", "key.pem", "torn.pem", "head "),
        ("forged.pem", "key.pem", "forged.pem", "openssl x509"),
        ("chain.pem", "other.pem", "other.pem", "same order"),
    ] {
        let text = Certificates::load(&folder.settings(chain, key)).unwrap_err().to_string();
        assert!(text.contains(named) && text.contains(cure), "{chain}, {key}: {text}");
        assert!(!text.contains("BEGIN PRIVATE KEY-----\n"), "{text}");
    }
    Certificates::load(&folder.settings("chain.pem", "key.pem")).unwrap();
    Certificates::load(&folder.settings("both.pem", "both.pem")).unwrap();
    let mut settings = folder.settings("both.pem", "both.pem");
    settings.client_ca = Some(folder.0.join("forged.pem"));
    let text = Certificates::load(&settings).unwrap_err().to_string();
    assert!(text.contains("forged.pem"), "{text}");
}

#[test]
fn a_name_has_its_own_certificate_or_that_of_a_pattern_or_the_first() {
    let provider = aws_lc_rs::default_provider();
    let folder = Folder::new();
    let files: Vec<_> = ["a.example", "*.b.example", "x.b.example"]
        .map(|name| {
            let (chain, key) = made(name);
            let path = folder.write(&name.replace('*', "any"), &(chain + &key));
            CertificateFiles { chain: path.clone(), key: path }
        })
        .into();
    let served = Served::load(&files, &provider).unwrap();
    let place = |name| {
        let found = served.of_name(name).unwrap();
        served.certificates.iter().position(|certified| Arc::ptr_eq(certified, &found)).unwrap()
    };
    assert_eq!(place(Some("a.example")), 0);
    assert_eq!(place(Some("y.B.example")), 1);
    assert_eq!(place(Some("X.b.example")), 2);
    assert_eq!(place(Some("y.x.b.example")), 0, "a star stands for one label");
    assert_eq!((place(Some("c.example")), place(None)), (0, 0));
}

#[test]
fn tickets_outlive_a_reload_unless_other_authorities_vouch_for_clients() {
    let folder = Folder::new();
    let (chain, key) = made("a.example");
    folder.write("both.pem", &(chain + &key));
    let mut settings = folder.settings("both.pem", "both.pem");
    let ca = authority();
    settings.client_ca = Some(folder.write("ca.pem", &ca));
    let certificates = Certificates::load(&settings).unwrap();
    let ticketer = || Arc::clone(&certificates.config().ticketer);
    let ticket = ticketer().encrypt(b"session").unwrap();

    let (chain, key) = made("b.example");
    folder.write("both.pem", &(chain + &key));
    certificates.reload().unwrap();
    assert_eq!(ticketer().decrypt(&ticket).as_deref(), Some(&b"session"[..]));

    folder.write("ca.pem", "nothing");
    certificates.reload().unwrap_err();
    assert!(ticketer().decrypt(&ticket).is_some(), "a reload that fails changes nothing");

    folder.write("ca.pem", &authority());
    assert!(certificates.changed());
    certificates.reload().unwrap();
    assert!(!certificates.changed());
    assert_eq!(ticketer().decrypt(&ticket), None);
}

#[test]
fn a_change_of_the_mode_alone_is_noticed_and_one_whose_time_was_set_back() {
    let folder = Folder::new();
    let (chain, key) = made("a.example");
    let path = folder.write("both.pem", &(chain + &key));
    let certificates = Certificates::load(&folder.settings("both.pem", "both.pem")).unwrap();
    assert!(!certificates.changed());
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let length = fs::read(&path).unwrap().len();
    until_noticed(&certificates, |is_odd| {
        let mode = if is_odd { 0o600 } else { 0o640 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    });
    certificates.reload().unwrap();
    until_noticed(&certificates, |is_odd| {
        fs::write(&path, if is_odd { "a" } else { "b" }.repeat(length)).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    });
}

/// Changes a file until that is noticed: the kernel's clock for files moves in steps.
fn until_noticed(certificates: &Certificates, change: impl Fn(bool)) {
    let begun = Instant::now();
    let mut is_odd = false;
    while !certificates.changed() {
        assert!(begun.elapsed() < Duration::from_secs(10), "not noticed");
        is_odd = !is_odd;
        change(is_odd);
    }
}
