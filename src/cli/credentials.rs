//! Who a tool says it is, and whom it trusts, as flags.
//!
//! Not here: reading a token (`client::credential`), and TLS (`shell::trust`). Invariant: a token
//! is never typed, because what stands on a command line, every user of the host can read.

use std::path::PathBuf;

use super::failure::Failure;
use crate::client::credential::{Credential, Token, TokenError};
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

impl TokenFlags {
    /// Where to read the token.
    #[must_use]
    pub fn credential(&self) -> Credential {
        self.token_file.clone().map_or(Credential::Variable(VARIABLE), Credential::File)
    }

    /// Says so when a flag is given and there is nobody to show a token to, because of `why`.
    ///
    /// # Errors
    /// It is.
    pub fn refuse(&self, why: &str) -> Result<(), Failure> {
        match self.token_file {
            None => Ok(()),
            Some(_) => Err(Failure::Usage(format!("--token-file is not for {why}"))),
        }
    }

    /// The token as it is now, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or what no token can be.
    pub fn read(&self) -> Result<Option<Token>, Failure> {
        self.credential().read().map_err(|error| wrong_token(&error))
    }
}

/// What is wrong with a token, and where it was given.
#[must_use]
pub fn wrong_token(error: &TokenError) -> Failure {
    Failure::Usage(match error {
        TokenError::Unreadable { .. } => format!("--token-file: {error}"),
        TokenError::Wrong { .. } => error.to_string(),
    })
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
    fn a_token_that_cannot_be_read_names_the_flag() {
        let flags = TokenFlags { token_file: Some("/absent/token".into()) };
        let failure = flags.read().unwrap_err();
        assert!(failure.to_string().starts_with("--token-file: cannot read `/absent/token`"));
        assert_eq!(failure.exit_code(), 2);
    }
}
