//! Why a command ended, and with which exit code.
//!
//! Invariant: the text names what was wrong and how to cure it; it is printed once, by `cli::run`.

use std::io;

use super::credentials::wrong_token;
use crate::client;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was typed is wrong; exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something failed at run time; exit code 1.
    #[error("{0}")]
    Run(String),
    /// Exit code 1, and everything was said already.
    #[error("")]
    Said,
}

impl Failure {
    /// 2 for wrong settings or usage, 1 for anything else.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Run(_) | Self::Said => 1,
        }
    }
}

/// Why a subscriber has ended, with the flag that may cure it.
#[must_use]
pub fn failure(error: client::Error) -> Failure {
    let text = error.to_string();
    match error {
        client::Error::Token(error) => wrong_token(&error),
        error if error.is_usage() => Failure::Usage(text),
        client::Error::Refused { wants_credential: true, .. } => {
            Failure::Run(format!("{text}; show a key or token with --token-file FILE"))
        }
        error if error.wants_credential() => {
            Failure::Run(format!("{text}; show a good key or token with --token-file FILE"))
        }
        _ => Failure::Run(text),
    }
}

/// Why a command cannot be told to stop.
#[must_use]
pub fn no_signals(error: io::Error) -> Failure {
    Failure::Run(format!("signals: {error}"))
}

/// Turns a failed write to standard output into a result: a reader that left (`| head`) is no
/// failure.
///
/// # Errors
/// Any other error.
pub fn written(result: io::Result<()>) -> Result<Flow, Failure> {
    match result {
        Ok(()) => Ok(Flow::Continue),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Flow::Stop),
        Err(error) => Err(Failure::Run(format!("cannot write to standard output: {error}"))),
    }
}

/// Whether somebody still reads what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Yes.
    Continue,
    /// No; end quietly.
    Stop,
}
