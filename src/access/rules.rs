//! Which credentials are good, and what each allows.
//!
//! Made whole from the operator's file, and replaced whole when that changes. Not here: reading the
//! file ([`super::file`]), counting connections ([`super::ledger`]). Invariant: without rules
//! everybody may do everything; with any rule only what a rule allows.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keys::StaticKeys;
use super::token::Tokens;
use super::{Credential, Denied, Grant, Identity, file};
use crate::config::raw::Problems;
use crate::limits::{ACCESS_FILE_BYTES_MAX, CREDENTIAL_BYTES_MAX};
use crate::protocol::tls::ClientCertificate;

/// Which credentials are good, and what each allows.
#[derive(Debug, Default)]
pub struct Access {
    /// There are no rules, so that any credential is as good as none.
    is_open: bool,
    /// What those may do who show nothing; none: nothing at all.
    pub(super) anonymous: Option<Arc<Grant>>,
    pub(super) keys: StaticKeys,
    /// By DNS name, in lower case; each certificate of the name says itself when that ends.
    pub(super) certificates: HashMap<Box<str>, Arc<Grant>>,
    pub(super) tokens: Option<Tokens>,
    /// Pages that may connect, in lower case; none: all.
    pub(super) origins: Option<Vec<String>>,
    files: Vec<PathBuf>,
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read.
    #[error("access {path}: {source}; allowed: a file such as examples/access.toml")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The file, or one that it names, says something else than rules.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

impl Access {
    /// No rules: everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        let anonymous = Some(Arc::new(Grant::everything()));
        Self { is_open: true, anonymous, ..Self::default() }
    }

    /// The rules of a file, and of the files that it names; these are beside it when their paths
    /// are relative.
    ///
    /// # Errors
    /// Everything that is wrong, with its line and what is allowed.
    pub fn load(path: &Path) -> Result<Self, AccessError> {
        let unreadable = |source| AccessError::Read { path: path.display().to_string(), source };
        let text = read(path).map_err(unreadable)?;
        let text = String::from_utf8(text)
            .map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let mut files = vec![path.to_owned()];
        let mut read_beside = |name: &str| {
            let beside = path.parent().unwrap_or_else(|| Path::new("")).join(name);
            let bytes = read(&beside);
            files.push(beside);
            bytes
        };
        let name = path.display().to_string();
        let access = file::parse([(&*name, &*text)], &mut read_beside)?;
        Ok(Self { files, ..access })
    }

    /// The rules of a bucket, each entry of which is written like an access file; what they name
    /// must have an absolute path.
    ///
    /// # Errors
    /// Everything that is wrong, with its entry and line and what is allowed.
    pub fn of_entries(
        bucket: &str,
        entries: &BTreeMap<String, String>,
    ) -> Result<Self, AccessError> {
        let parts: Vec<_> =
            entries.iter().map(|(key, text)| (format!("{bucket} {key}"), &**text)).collect();
        let parts = parts.iter().map(|(name, text)| (&**name, *text));
        let mut files = Vec::new();
        let mut read_absolute = |name: &str| {
            let path = Path::new(name);
            if !path.is_absolute() {
                return Err(io::Error::other("it is in a bucket, so the path must be absolute"));
            }
            files.push(path.to_owned());
            read(path)
        };
        let access = file::parse(parts, &mut read_absolute)?;
        Ok(Self { files, ..access })
    }

    /// The files that the rules came from, or that they name: when one changes, they are others.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What `credential` allows at `now_ns`, nanoseconds since the Unix epoch. A certificate that
    /// no rule names proves nothing, and is as good as none.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn authenticate(
        &self,
        credential: Option<&Credential>,
        now_ns: u64,
    ) -> Result<Arc<Grant>, Denied> {
        let anonymous = || self.anonymous.clone().ok_or(Denied::Missing);
        let grant = match credential {
            // TLS would not take it either, but resumes a session that it began with.
            Some(Credential::Certificate(certificate)) if certificate.is_expired(now_ns) => {
                Err(Denied::Expired)
            }
            _ if self.is_open => anonymous(),
            None => anonymous(),
            Some(Credential::Bearer(token)) => self.bearer(token, now_ns),
            Some(Credential::Certificate(ClientCertificate { names, end_ns })) => {
                let found = names.iter().find_map(|name| self.certificate(name, *end_ns));
                found.map_or_else(anonymous, Ok)
            }
        }?;
        if grant.is_expired(now_ns) { Err(Denied::Expired) } else { Ok(grant) }
    }

    /// The same grant under these rules, which may be newer than those that it came from; none if
    /// what proved it counts no longer. What a token says holds as long as its issuer's key, and a
    /// certificate ends when it did.
    #[must_use]
    pub fn current(&self, grant: &Grant) -> Option<Arc<Grant>> {
        match &grant.identity {
            _ if self.is_open => self.anonymous.clone(),
            Identity::Anyone => self.anonymous.clone(),
            Identity::Key(id) => self.keys.current(id, grant.proof),
            Identity::Certificate(name) => self.certificate(name, grant.expires_ns),
            Identity::Subject(_) => {
                let tokens = self.tokens.as_ref()?;
                tokens.has(grant.proof).then(|| Arc::new(grant.clone()))
            }
        }
    }

    /// Whether a page of `origin` may connect; programs that are no browsers send none.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        let (Some(allowed), Some(origin)) = (&self.origins, origin) else { return true };
        allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// Whether there is anybody who may do anything.
    pub(super) fn lets_somebody_in(&self) -> bool {
        let has_keys = !self.keys.is_empty() || !self.certificates.is_empty();
        has_keys || self.anonymous.is_some() || self.tokens.is_some()
    }

    /// A key has one dot, a token two.
    fn bearer(&self, token: &str, now_ns: u64) -> Result<Arc<Grant>, Denied> {
        if token.len() > CREDENTIAL_BYTES_MAX {
            return Err(Denied::Unsuitable("the credential is longer than any that is taken here"));
        }
        match (&self.tokens, token.matches('.').count()) {
            (Some(tokens), 2) => tokens.authenticate(token, now_ns),
            (None, 2) => Err(Denied::Unsuitable("JSON Web Tokens are not taken here, only keys")),
            _ => self.keys.authenticate(token),
        }
    }

    /// What a certificate of this name allows, until it ends.
    fn certificate(&self, name: &str, expires_ns: Option<u64>) -> Option<Arc<Grant>> {
        let grant = self.certificates.get(name.to_ascii_lowercase().as_str())?;
        Some(Arc::new(Grant { expires_ns, ..Grant::clone(grant) }))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(ACCESS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ACCESS_FILE_BYTES_MAX {
        let what = format!("longer than {ACCESS_FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}
