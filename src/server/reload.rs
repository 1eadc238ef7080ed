//! What is read again while the server runs: settings, access rules and certificates.
//!
//! Each part is replaced whole or not at all; nobody who is in is dropped for it, unless the new
//! rules say so. Not here: when ([`super::keeper`]). Invariant: what cannot be used changes
//! nothing, and settings that are wrong change nothing at all.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::rules::Bucket;
use crate::access::Gate;
use crate::config::Settings;
use crate::config::changes::{Changes, changes};
use crate::config::resolve::{Resolved, Values};
use crate::shell::certificates::Certificates;
use crate::shell::changeable::InForce;
use crate::shell::stamp::{Stamp, stamp};

/// How the settings of a server are read again.
pub struct Reread {
    /// What is in force.
    pub in_force: Values,
    /// Reads them; or everything that is wrong with them.
    pub read: Box<dyn Fn() -> Result<Resolved, String> + Send>,
    /// Puts those in force that are not the server's own.
    pub apply: Box<dyn Fn(&Settings) + Send>,
}

impl fmt::Debug for Reread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reread").field("in_force", &self.in_force).finish_non_exhaustive()
    }
}

/// What came of a reload.
#[derive(Debug, Default)]
pub(super) struct Reloaded {
    /// What was read and is in force.
    pub(super) done: Vec<String>,
    /// Settings that need a restart.
    pub(super) after_restart: Vec<&'static str>,
    /// What is wrong with the rest.
    pub(super) wrong: Vec<String>,
}

/// What is read again.
#[derive(Debug)]
pub(super) struct Reloads {
    settings: Option<Reread>,
    in_force: Arc<InForce>,
    gate: Arc<Gate>,
    certificates: Option<Arc<Certificates>>,
    /// Where the rules come from, if not from files.
    bucket: Option<Bucket>,
    /// What the files of the access rules were like when they were last read.
    rules: Vec<(PathBuf, Stamp)>,
    /// What was wrong with the rules when they were last read.
    wrong_rules: Option<String>,
    /// The same of the certificates.
    wrong_certificates: Option<String>,
}

impl Reloads {
    pub(super) fn new(
        settings: Option<Reread>,
        in_force: Arc<InForce>,
        gate: Arc<Gate>,
        certificates: Option<Arc<Certificates>>,
        bucket: Option<Bucket>,
    ) -> Self {
        let rules = stamps(&gate);
        Self {
            settings,
            in_force,
            gate,
            certificates,
            bucket,
            rules,
            wrong_rules: None,
            wrong_certificates: None,
        }
    }

    /// Reads everything again.
    pub(super) fn reload(&mut self) -> Reloaded {
        let mut reloaded = Reloaded::default();
        match self.reload_settings() {
            Err(error) => return Reloaded { wrong: vec![error], ..reloaded },
            Ok(Changes { in_force, after_restart }) => {
                if !in_force.is_empty() {
                    reloaded.done.push(format!("settings ({})", in_force.join(", ")));
                }
                reloaded.after_restart = after_restart;
            }
        }
        let mut note = |what: &str, result: Result<(), String>| {
            match &result {
                Ok(()) => reloaded.done.push(what.to_owned()),
                Err(error) => reloaded.wrong.push(error.clone()),
            }
            result.err()
        };
        if self.bucket.is_some() || !self.rules.is_empty() {
            self.wrong_rules = note(RULES, self.reload_rules());
        }
        if let Some(certificates) = &self.certificates {
            let result = certificates.reload().map_err(|error| error.to_string());
            self.wrong_certificates = note(CERTIFICATES, result);
        }
        reloaded
    }

    /// Reads the settings again, and puts in force what may change.
    fn reload_settings(&mut self) -> Result<Changes, String> {
        let Some(reread) = &mut self.settings else { return Ok(Changes::default()) };
        let Resolved { settings, values, .. } = (reread.read)()?;
        let changes = changes(&reread.in_force, &values);
        if !changes.in_force.is_empty() {
            self.in_force.replace(&settings);
            (reread.apply)(&settings);
        }
        for &key in &changes.in_force {
            match values.get(key) {
                Some(value) => reread.in_force.insert(key, value.clone()),
                None => reread.in_force.remove(key),
            };
        }
        Ok(changes)
    }

    /// Puts rules in force that have come from a bucket.
    pub(super) fn take_rules(&mut self) {
        if self.bucket.as_mut().is_some_and(Bucket::take) {
            let result = self.reload_rules();
            log(RULES, result, &mut self.wrong_rules);
        }
    }

    /// Reads again what has changed since it was last read, and what was wrong then: the cause may
    /// be mended without a change of a file that is watched.
    pub(super) fn reload_changed(&mut self) {
        if self.wrong_rules.is_some() || stamps(&self.gate) != self.rules {
            let result = self.reload_rules();
            log(RULES, result, &mut self.wrong_rules);
        }
        let is_wrong = self.wrong_certificates.is_some();
        if let Some(certificates) = self.certificates.as_ref()
            && (is_wrong || certificates.changed())
        {
            let result = certificates.reload().map_err(|error| error.to_string());
            log(CERTIFICATES, result, &mut self.wrong_certificates);
        }
    }

    fn reload_rules(&mut self) -> Result<(), String> {
        // Before they are read: a change in between is then seen at the next look.
        self.rules = stamps(&self.gate);
        let result = match &self.bucket {
            Some(bucket) => bucket.read().map(|access| self.gate.replace(access)),
            None => self.gate.reload(),
        };
        let result = result.map_err(|error| error.to_string());
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

fn stamps(gate: &Gate) -> Vec<(PathBuf, Stamp)> {
    let stamp = |path: PathBuf| {
        let stamp = stamp(&path);
        (path, stamp)
    };
    gate.files().into_iter().map(stamp).collect()
}

/// Logs what came of a change, and notes what is wrong; what was wrong in the same way before was
/// logged then.
fn log(what: &str, result: Result<(), String>, wrong: &mut Option<String>) {
    match &result {
        Ok(()) => tracing::info!("{what} have changed and are in force"),
        Err(error) if wrong.as_ref() == Some(error) => {}
        Err(error) => tracing::error!("{what} have changed, and those before stay: {error}"),
    }
    *wrong = result.err();
}
