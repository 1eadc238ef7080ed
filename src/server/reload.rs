//! What is read again while the server runs: access rules and certificates.
//!
//! Each part is replaced whole or not at all; nobody who is in is dropped for it, unless the new
//! rules say so. Not here: when ([`super::keeper`]). Invariant: what cannot be used changes
//! nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::access::Gate;
use crate::shell::certificates::Certificates;

/// What is read again.
#[derive(Debug)]
pub(super) struct Reloads {
    gate: Arc<Gate>,
    certificates: Option<Arc<Certificates>>,
    /// What the files of the access rules were like when they were last read.
    rules: Vec<Stamp>,
}

/// A file, when it was last changed, and its length; none if it cannot be looked at.
type Stamp = (PathBuf, Option<(SystemTime, u64)>);

impl Reloads {
    pub(super) fn new(gate: Arc<Gate>, certificates: Option<Arc<Certificates>>) -> Self {
        let rules = stamps(&gate);
        Self { gate, certificates, rules }
    }

    /// Reads everything again; what was read, and what is wrong with the rest.
    pub(super) fn reload(&mut self) -> (Vec<&'static str>, Vec<String>) {
        let (mut done, mut wrong) = (Vec::new(), Vec::new());
        let mut note = |what, result: Result<(), String>| match result {
            Ok(()) => done.push(what),
            Err(error) => wrong.push(error),
        };
        if !self.rules.is_empty() {
            note(RULES, self.reload_rules());
        }
        if let Some(certificates) = &self.certificates {
            note(CERTIFICATES, certificates.reload().map_err(|error| error.to_string()));
        }
        (done, wrong)
    }

    /// Reads again what has changed since it was last read or tried to be.
    pub(super) fn reload_changed(&mut self) {
        if stamps(&self.gate) != self.rules {
            log(RULES, self.reload_rules());
        }
        if let Some(certificates) = self.certificates.as_ref().filter(|files| files.changed()) {
            log(CERTIFICATES, certificates.reload().map_err(|error| error.to_string()));
        }
    }

    fn reload_rules(&mut self) -> Result<(), String> {
        // Before they are read: a change in between is then seen at the next look.
        self.rules = stamps(&self.gate);
        let result = self.gate.reload().map_err(|error| error.to_string());
        if result.is_ok() {
            // They may name other files now; those that were there before keep their stamps.
            let before = std::mem::replace(&mut self.rules, stamps(&self.gate));
            for stamp in &mut self.rules {
                if let Some(known) = before.iter().find(|known| known.0 == stamp.0) {
                    stamp.clone_from(known);
                }
            }
        }
        result
    }
}

const RULES: &str = "access rules";
const CERTIFICATES: &str = "certificates";

fn stamps(gate: &Gate) -> Vec<Stamp> {
    let stamp = |path: PathBuf| {
        let file = fs::metadata(&path).ok();
        let stamp = file.and_then(|file| Some((file.modified().ok()?, file.len())));
        (path, stamp)
    };
    gate.files().into_iter().map(stamp).collect()
}

fn log(what: &str, result: Result<(), String>) {
    match result {
        Ok(()) => tracing::info!("{what} have changed and are in force"),
        Err(error) => tracing::error!("{what} have changed, and those before stay: {error}"),
    }
}
