//! Who a tool says it is, and whom it trusts, as flags.
//!
//! A token is never typed: what stands on a command line, every user of the host can read. Not
//! here: TLS (`shell::trust`), and what a server makes of a token. Invariant: a token is never part
//! of an error or of a `Debug` text.

use std::fmt;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::limits::CREDENTIAL_BYTES_MAX;
use crate::shell::trust::TrustFiles;

const VARIABLE: &str = "FANFARE_TOKEN";

/// Where the token is that a server wants.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TokenFlags {
    /// File with the key or token to show to the server, read anew for each connection [default:
    /// the token in the variable FANFARE_TOKEN, or none]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// What is shown to a server: printable ASCII, without spaces.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl TokenFlags {
    /// The token as it is now, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or what no token can be.
    pub fn read(&self) -> Result<Option<Token>, Failure> {
        let (text, name) = match &self.token_file {
            Some(path) => (read(path)?, path.display().to_string()),
            None => match std::env::var(VARIABLE) {
                Ok(text) if !text.trim_ascii().is_empty() => (text, VARIABLE.to_owned()),
                _ => return Ok(None),
            },
        };
        match Token::parse(&text) {
            Ok(token) => Ok(Some(token)),
            Err(what) => Err(Failure::Usage(format!("`{name}` {what}"))),
        }
    }
}

impl Token {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_ascii();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("does not hold one token: printable ASCII without spaces".into());
        }
        if text.len() > CREDENTIAL_BYTES_MAX {
            return Err(format!("holds more than the {CREDENTIAL_BYTES_MAX} bytes of a token"));
        }
        Ok(Self(text.into()))
    }

    /// The token itself, for the wire only.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(…)")
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable =
        |error| Failure::Usage(format!("--token-file: cannot read `{}`: {error}", path.display()));
    std::fs::read_to_string(path).map_err(unreadable)
}

/// Certificates for `wss://`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TrustFlags {
    /// PEM file of the authorities to trust, or of a certificate that signs itself [default: those
    /// that this host trusts]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file of the certificate chain to show to the server [default: none]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl TrustFlags {
    /// Those of a command that was given `--ca`.
    #[cfg(test)]
    pub(crate) fn of(authorities: PathBuf) -> Self {
        Self { ca: Some(authorities), ..Self::default() }
    }

    /// The files as the client takes them.
    #[must_use]
    pub fn files(&self) -> TrustFiles {
        let certificate = self.cert.clone().zip(self.key.clone());
        TrustFiles { authorities: self.ca.clone(), certificate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_its_file_and_shown_nowhere_else() {
        let path = std::env::temp_dir().join(format!("fanfare-token-{}", std::process::id()));
        let flags = TokenFlags { token_file: Some(path.clone()) };
        let long = "x".repeat(CREDENTIAL_BYTES_MAX + 1);
        for (text, wrong) in [
            ("desk-7.s3cret\n", None),
            ("", Some("does not hold one token")),
            ("s3cret\r\nX-Header: s3cret", Some("does not hold one token")),
            (&long, Some("holds more than the 6144 bytes")),
        ] {
            std::fs::write(&path, text).unwrap();
            match (flags.read(), wrong) {
                (Ok(token), None) => {
                    let token = token.unwrap();
                    assert_eq!(token.secret(), "desk-7.s3cret");
                    assert_eq!(format!("{token:?}"), "Token(…)");
                }
                (Err(failure), Some(wrong)) => {
                    let text = failure.to_string();
                    assert!(text.contains(wrong) && !text.contains("s3cret"), "{text}");
                    assert_eq!(failure.exit_code(), 2);
                }
                (read, _) => panic!("{read:?}"),
            }
        }
        std::fs::remove_file(&path).unwrap();
        let failure = flags.read().unwrap_err().to_string();
        assert!(failure.starts_with("--token-file: cannot read `"), "{failure}");
    }
}
