//! What of the settings may change while the server runs, as all of its threads see it.
//!
//! Replaced whole; read without a lock, each time that it is used. Not here: settings that are
//! looked at once, at the start, and the log's (`cli`). Invariant: what a thread reads at one time
//! belongs together.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use crate::config::{AdmissionSettings, Settings};

/// Settings that may change.
#[derive(Debug)]
pub struct Changeable {
    /// How long a drain takes that names no time; zero: there is none before a stop.
    pub drain: Duration,
    /// Where a drained client is told to go; empty: here again.
    pub drain_to: Arc<[Box<str>]>,
    /// How long an orderly stop may take.
    pub stop_timeout: Duration,
    /// From accept to a complete upgrade request.
    pub upgrade_timeout: Duration,
    /// How many may come, and how fast.
    pub admission: AdmissionSettings,
}

impl From<&Settings> for Changeable {
    fn from(settings: &Settings) -> Self {
        Self {
            drain: settings.drain,
            drain_to: settings.drain_to.iter().map(|to| to.as_str().into()).collect(),
            stop_timeout: settings.stop_timeout,
            upgrade_timeout: settings.upgrade_timeout,
            admission: settings.admission,
        }
    }
}

/// Those in force.
#[derive(Debug)]
pub struct InForce(ArcSwap<Changeable>);

impl InForce {
    /// In force from the start.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self(ArcSwap::from_pointee(settings.into()))
    }

    /// What holds now; not to be kept.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Changeable>> {
        self.0.load()
    }

    /// Puts others in force.
    pub fn replace(&self, settings: &Settings) {
        self.0.store(Arc::new(settings.into()));
    }
}
