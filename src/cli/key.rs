//! `fanfare key`: a new key, its rule for the access file and its credential for whoever gets it.
//!
//! The rule goes to standard output, so that it can be appended to the file; the credential goes to
//! standard error or into a file of its own. Invariant: the credential is shown or written once,
//! and kept nowhere.

use std::fs::OpenOptions;
use std::io::{Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::failure::{Failure, written};
use super::say::say;
use crate::access::keys::{ID_ALLOWED, NewKey};
use crate::protocol::channel::Pattern;

/// Makes a key: `fanfare key --id desk-7 --subscribe 'quote.>' >> access.toml`.
#[derive(Debug, clap::Args)]
pub struct Key {
    /// Name of the key, which logs may show
    #[arg(long)]
    id: String,
    /// Channels that its holder may subscribe to, repeatable [default: none]
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// Channels that its holder may publish to, repeatable [default: none]
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// New file for the credential, for --token-file [default: standard error]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Key {
    /// Makes the key and hands out both of its parts.
    ///
    /// # Errors
    /// What is no id or pattern, and a file that cannot be made.
    pub fn run(&self) -> Result<(), Failure> {
        let subscribe = list("--subscribe", &self.subscribe)?;
        let publish = list("--publish", &self.publish)?;
        let key = NewKey::generate(&self.id).ok_or_else(|| {
            Failure::Usage(format!("--id: `{}` is not an id; allowed: {ID_ALLOWED}", self.id))
        })?;
        match &self.to {
            Some(path) => keep(path, &key.credential)?,
            None => say(format_args!(
                "The credential, for its holder; it is shown this once and stored nowhere:\n{}\n\
                The rule for the access file:",
                key.credential
            )),
        }
        let rule = format!(
            "\n[[key]]\nid = \"{}\"\nsha256 = \"{}\"\nsubscribe = {subscribe}\npublish = {publish}",
            self.id, key.sha256
        );
        written(writeln!(stdout(), "{rule}")).map(drop)
    }
}

/// The patterns as a list in TOML: none of them has a character that would be escaped.
fn list(flag: &str, patterns: &[String]) -> Result<String, Failure> {
    for pattern in patterns {
        Pattern::parse(pattern)
            .map_err(|error| Failure::Usage(format!("{flag}: `{pattern}`: {error}")))?;
    }
    let quoted: Vec<_> = patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect();
    Ok(format!("[{}]", quoted.join(", ")))
}

/// Writes a new file that only its owner reads.
fn keep(path: &Path, credential: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let kept = file.and_then(|mut file| writeln!(file, "{credential}"));
    kept.map_err(|error| Failure::Run(format!("--to: cannot make `{}`: {error}", path.display())))
}
