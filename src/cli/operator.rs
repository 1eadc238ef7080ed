//! `fanfare kick`, and what all commands share that ask a server's admin address.
//!
//! Not here: what the server does. Invariant: success means that the server has said so.

use std::io::{Write, stdout};
use std::path::PathBuf;

use super::credentials::wrong_token;
use super::failure::{Failure, written};
use crate::client::credential::{Credential, Token};
use crate::shell::inquiry::{Inquiry, InquiryError};

/// Closes one connection of a running server; its client may come back
#[derive(Debug, clap::Args)]
pub struct Kick {
    /// The server's admin address, its setting `admin`
    #[arg(value_name = "ADMIN")]
    admin: String,
    /// The connection's id, as /connections and whoami have it
    id: String,
    /// File with the admin token, if the server wants one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Kick {
    /// Asks, and says what was answered.
    ///
    /// # Errors
    /// A server that cannot be reached or refuses.
    pub fn run(&self) -> Result<(), Failure> {
        let admin = admin(&self.admin, self.token_file.as_ref())?;
        let is_id = |byte: u8| byte.is_ascii_digit() || byte == b'-';
        if !self.id.bytes().all(is_id) {
            let what = format!("ID: `{}` is no id of a connection, such as 0-12-7", self.id);
            return Err(Failure::Usage(what));
        }
        admin.ask("POST", &format!("/connections/{}/kick", self.id)).map_err(failed)?;
        written(writeln!(stdout(), "closed connection {}", self.id)).map(drop)
    }
}

/// The admin address of a server, with the token of a file.
pub(super) fn admin(address: &str, token_file: Option<&PathBuf>) -> Result<Inquiry, Failure> {
    let credential = token_file.cloned().map_or(Credential::None, Credential::File);
    let token = credential.read().map_err(|error| wrong_token(&error))?;
    Inquiry::new(address, token.as_ref().map(Token::secret)).map_err(failed)
}

/// Why a server was asked in vain.
pub(super) fn failed(error: InquiryError) -> Failure {
    match error {
        InquiryError::Address(_) => Failure::Usage(error.to_string()),
        InquiryError::Refused { status: 401, .. } => {
            Failure::Run("the admin address wants a token; show it with --token-file FILE".into())
        }
        _ => Failure::Run(error.to_string()),
    }
}
