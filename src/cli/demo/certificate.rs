//! The certificate of the demo's encrypted address: made at the first run, and kept.
//!
//! An authority signs it and is then forgotten, so that whoever trusts the authority trusts nothing
//! else. Not here: certificates of a real server. Invariant: only this user can read the key.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::cli::failure::Failure;

/// What the certificate is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    /// The authority, for clients to trust.
    pub(super) authority: PathBuf,
    /// The certificate and its key.
    pub(super) served: PathBuf,
}

impl Files {
    /// Those in the user's folder for data, made if they are not there.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn find() -> Result<Self, Failure> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let data = variable("XDG_DATA_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/share")));
        if let Some(data) = data
            && let Ok(files) = Self::in_folder(&data.join("fanfare"))
        {
            return Ok(files);
        }
        let folder = std::env::temp_dir().join(format!("fanfare-{}", std::process::id()));
        Self::in_folder(&folder).map_err(|error| {
            let folder = folder.display();
            Failure::Run(format!("{folder}: {error}; run without it: --tls-listen none"))
        })
    }

    /// Those in `folder`, made if they are not there.
    fn in_folder(folder: &Path) -> io::Result<Self> {
        let kept = folder.join("demo-tls");
        let files = |folder: &Path| Self {
            authority: folder.join("authority.pem"),
            served: folder.join("served.pem"),
        };
        let found = files(&kept);
        if found.authority.is_file() && found.served.is_file() {
            return Ok(found);
        }
        // Both files appear at once, so that they belong together whoever else makes them now.
        let new = folder.join(format!("demo-tls-{}", std::process::id()));
        DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
        let made = files(&new);
        make(&made)?;
        if let Err(error) = fs::rename(&new, &kept) {
            fs::remove_dir_all(&new)?;
            if !(found.authority.is_file() && found.served.is_file()) {
                return Err(error);
            }
        }
        Ok(found)
    }
}

/// Makes an authority and a certificate, and writes both, with the certificate's key.
fn make(files: &Files) -> io::Result<()> {
    let (authority, served) = issue().map_err(io::Error::other)?;
    fs::write(&files.authority, authority)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&files.served)?;
    file.write_all(served.as_bytes())
}

/// The PEM of an authority, and that of a certificate with its key.
fn issue() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "fanfare demo authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name.push(DnType::CommonName, "fanfare demo");
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    Ok((authority.pem(), certificate.pem() + &key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{CertificateFiles, TlsSettings};
    use crate::shell::certificates::Certificates;

    #[test]
    fn what_is_made_is_kept_can_be_served_and_is_secret() {
        let folder = std::env::temp_dir().join(format!("fanfare-demo-{}", std::process::id()));
        let files = Files::in_folder(&folder).unwrap();
        let (authority, served) =
            (fs::read(&files.authority).unwrap(), fs::read(&files.served).unwrap());
        assert_eq!(Files::in_folder(&folder).unwrap(), files);
        assert_eq!(fs::read(&files.authority).unwrap(), authority);
        assert_eq!(fs::read(&files.served).unwrap(), served);
        let mode = fs::metadata(&files.served).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let settings = TlsSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificates: vec![CertificateFiles { chain: files.served.clone(), key: files.served }],
            client_ca: None,
            client_certificate_required: false,
        };
        Certificates::load(&settings).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
