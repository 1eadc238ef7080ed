//! Who a client says it is: a token, and where it comes from.
//!
//! Not here: TLS and certificates (`shell::trust`), and what a server makes of a token. Invariant:
//! a token is never part of an error or of a `Debug` text.

use std::fmt;
use std::path::PathBuf;

use crate::limits::CREDENTIAL_BYTES_MAX;

/// What is shown to a server: printable ASCII, without spaces.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

/// Where the token is, if the server wants one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credential {
    /// None is shown.
    #[default]
    None,
    /// Always this one.
    Token(Token),
    /// In a file that is read anew for each connection, and when the token is about to expire.
    File(PathBuf),
    /// In an environment variable, unless it is empty or not set.
    Variable(&'static str),
}

/// There is no token where one should be.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// What is there is none.
    #[error("`{place}` {what}")]
    Wrong {
        /// The file or variable.
        place: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Credential {
    /// The token as it is now, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or what no token can be.
    pub fn read(&self) -> Result<Option<Token>, TokenError> {
        let (text, place) = match self {
            Self::None => return Ok(None),
            Self::Token(token) => return Ok(Some(token.clone())),
            Self::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => (text, path.display().to_string()),
                Err(error) => return Err(TokenError::Unreadable { path: path.clone(), error }),
            },
            Self::Variable(name) => match std::env::var(name) {
                Ok(text) if !text.trim_ascii().is_empty() => (text, (*name).to_owned()),
                _ => return Ok(None),
            },
        };
        Token::parse(&text).map(Some).map_err(|what| TokenError::Wrong { place, what })
    }
}

impl Token {
    /// Takes a token, with or without space around it.
    ///
    /// # Errors
    /// Why it is none, without repeating it.
    pub fn parse(text: &str) -> Result<Self, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_its_file_and_shown_nowhere_else() {
        let path = std::env::temp_dir().join(format!("fanfare-token-{}", std::process::id()));
        let file = Credential::File(path.clone());
        let long = "x".repeat(CREDENTIAL_BYTES_MAX + 1);
        for (text, wrong) in [
            ("desk-7.s3cret\n", None),
            ("", Some("does not hold one token")),
            ("s3cret\r\nX-Header: s3cret", Some("does not hold one token")),
            (&long, Some("holds more than the 6144 bytes")),
        ] {
            std::fs::write(&path, text).unwrap();
            match (file.read(), wrong) {
                (Ok(token), None) => {
                    let token = token.unwrap();
                    assert_eq!(token.secret(), "desk-7.s3cret");
                    assert_eq!(format!("{token:?}"), "Token(…)");
                }
                (Err(error), Some(wrong)) => {
                    let text = error.to_string();
                    assert!(text.contains(wrong) && !text.contains("s3cret"), "{text}");
                }
                (read, _) => panic!("{read:?}"),
            }
        }
        std::fs::remove_file(&path).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.starts_with("cannot read `"), "{error}");
    }
}
