//! The server's certificates and what it asks of clients', read from PEM files.
//!
//! A handshake takes the configuration that is in force when it begins; a reload replaces it whole,
//! or not at all. Not here: handshakes ([`crate::protocol::tls`]) and when to reload. Invariant: a
//! configuration in force has a key for each of its certificates.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};

use crate::config::{CertificateFiles, TlsSettings};
use crate::protocol::tls::dns_names;

use super::stamp::{Stamp, stamp};

/// Why certificates cannot be used: which file, and the cure.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{}: {source}; can this user read it? see: ls -l {}", .path.display(), .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{}: not PEM: {reason}; look at it with: head {}", .path.display(), .path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{}: no certificate in it; it must hold '-----BEGIN CERTIFICATE-----'", .0.display())]
    NoCertificate(PathBuf),
    /// A file holds no private key.
    #[error(
        "{}: no private key in it; name the file of '-----BEGIN PRIVATE KEY-----' in tls_keys",
        .0.display()
    )]
    NoKey(PathBuf),
    /// A certificate and a key that do not belong together.
    #[error(
        "{}: the key in {} is that of another certificate; are both lists in the same order?",
        .chain.display(), .key.display()
    )]
    Mismatch {
        /// The certificate's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate or key that cannot be used.
    #[error(
        "{}: {reason}; look at it with: openssl x509 -text -noout -in {}",
        .path.display(), .path.display()
    )]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The library of the ciphers cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Library(rustls::Error),
}

/// The certificates in force.
#[derive(Debug)]
pub struct Certificates {
    settings: TlsSettings,
    in_force: ArcSwap<InForce>,
    /// What the files were like when they were last looked at.
    stamps: ArcSwap<Vec<Stamp>>,
}

#[derive(Debug)]
struct InForce {
    config: Arc<ServerConfig>,
    /// Makes tickets with keys that all cores share and that change by themselves.
    tickets: Arc<dyn ProducesTickets>,
    /// The authorities whose client certificates are taken.
    client_ca: Vec<CertificateDer<'static>>,
}

impl Certificates {
    /// Reads everything that `settings` name.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(settings: &TlsSettings) -> Result<Arc<Self>, CertificateError> {
        let stamps = stamps(settings);
        let in_force = InForce::load(settings, None)?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            in_force: ArcSwap::from_pointee(in_force),
            stamps: ArcSwap::from_pointee(stamps),
        }))
    }

    /// Reads everything again, for handshakes from now on; sessions can still be resumed, unless
    /// other authorities vouch for clients now.
    ///
    /// # Errors
    /// The first thing that is wrong; what was in force stays so.
    pub fn reload(&self) -> Result<(), CertificateError> {
        self.stamps.store(Arc::new(stamps(&self.settings)));
        let in_force = InForce::load(&self.settings, Some(&self.in_force.load()))?;
        self.in_force.store(Arc::new(in_force));
        Ok(())
    }

    /// Whether a file has changed since everything was read, or tried to be.
    #[must_use]
    pub fn changed(&self) -> bool {
        **self.stamps.load() != stamps(&self.settings)
    }

    /// What a handshake that begins now is held with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.in_force.load().config)
    }
}

impl InForce {
    fn load(settings: &TlsSettings, before: Option<&Self>) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let served = Served::load(&settings.certificates, &provider)?;
        let client_ca = match &settings.client_ca {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        let tickets = match before {
            // A ticket vouches for the client's certificate, too, which is not looked at again.
            Some(before) if before.client_ca == client_ca => Arc::clone(&before.tickets),
            _ => aws_lc_rs::Ticketer::new().map_err(CertificateError::Library)?,
        };
        let verifier = verifier(settings, &client_ca, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Library)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(served));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = Arc::clone(&tickets);
        // Tickets are enough; a store would be memory that all cores share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), tickets, client_ca })
    }
}

/// Chooses a certificate by the name that a client asks for.
#[derive(Debug)]
struct Served {
    certificates: Vec<Arc<CertifiedKey>>,
    /// Which one has a name; `*.` stands for one label.
    by_name: HashMap<Box<str>, usize>,
}

impl Served {
    fn load(
        files: &[CertificateFiles],
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let mut served = Self { certificates: Vec::new(), by_name: HashMap::new() };
        for files in files {
            let certified = certified(files, provider)?;
            let names = certified.cert.first().and_then(dns_names).unwrap_or_default();
            for name in names {
                let name = name.to_ascii_lowercase().into();
                served.by_name.entry(name).or_insert(served.certificates.len());
            }
            served.certificates.push(Arc::new(certified));
        }
        Ok(served)
    }

    /// The certificate for `name`, or else the first.
    fn of_name(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let place = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let exact = self.by_name.get(name.as_str());
            exact.or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.by_name.get(format!("*.{parent}").as_str())
            })
        });
        self.certificates.get(place.copied().unwrap_or(0)).map(Arc::clone)
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.of_name(hello.server_name())
    }
}

fn verifier(
    settings: &TlsSettings,
    authorities: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let Some(path) = &settings.client_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let unusable = |reason: String| CertificateError::Unusable { path: path.clone(), reason };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| unusable(error.to_string()))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match settings.client_certificate_required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| unusable(error.to_string()))
}

/// A chain with its key, which are checked to belong together.
fn certified(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let CertificateFiles { chain, key } = files;
    let certificates = certificates(chain)?;
    let private = match PrivateKeyDer::from_pem_slice(&read(key)?) {
        Ok(private) => private,
        Err(pem::Error::NoItemsFound) => return Err(CertificateError::NoKey(key.clone())),
        Err(reason) => return Err(CertificateError::NotPem { path: key.clone(), reason }),
    };
    let private = provider.key_provider.load_private_key(private);
    let private = private.map_err(|error| CertificateError::Unusable {
        path: key.clone(),
        reason: error.to_string(),
    })?;
    let certified = CertifiedKey::new(certificates, private);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(CertificateError::Mismatch { chain: chain.clone(), key: key.clone() })
        }
        Err(error) => {
            let path = chain.clone();
            Err(CertificateError::Unusable { path, reason: error.to_string() })
        }
    }
}

/// All certificates of a file, of which there is one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates
        .map_err(|reason| CertificateError::NotPem { path: path.to_owned(), reason })?;
    if certificates.is_empty() {
        return Err(CertificateError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

/// Every file that `settings` name, as it is now.
fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let certificates = settings.certificates.iter().flat_map(|files| [&files.chain, &files.key]);
    certificates.chain(&settings.client_ca).map(|path| stamp(path)).collect()
}

#[cfg(test)]
mod tests;
