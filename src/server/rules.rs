//! Where the access rules come from: a file, a bucket, or nowhere.
//!
//! Not here: what they say ([`crate::access`]). Invariant: rules that cannot be used change
//! nothing.

use std::sync::mpsc::Receiver;

use super::error::StartError;
use crate::access::{Access, AccessError, Gate};
use crate::config::{AccessSource, NatsBucket};
use crate::nats::bucket::{self, Entries};

/// A bucket that is watched.
#[derive(Debug)]
pub(super) struct Bucket {
    address: NatsBucket,
    changes: Receiver<Entries>,
}

impl Bucket {
    /// Puts the newest entries in force, if there are any that were not; what came of it.
    pub(super) fn take(&self, gate: &Gate) -> Option<Result<(), AccessError>> {
        let entries = self.changes.try_iter().last()?;
        let access = Access::of_entries(&self.address.to_string(), &entries);
        Some(access.map(|access| gate.replace(access)))
    }
}

/// The gate with its rules, and the bucket that they come from.
pub(super) fn open(source: Option<&AccessSource>) -> Result<(Gate, Option<Bucket>), StartError> {
    match source {
        None => Ok((Gate::load(None)?, None)),
        Some(AccessSource::File(path)) => Ok((Gate::load(Some(path))?, None)),
        Some(AccessSource::Bucket(address)) => {
            let (entries, changes) = bucket::watch(address)?;
            let access = Access::of_entries(&address.to_string(), &entries)?;
            Ok((Gate::new(access), Some(Bucket { address: address.clone(), changes })))
        }
    }
}

/// Reads the rules once.
///
/// # Errors
/// Why they cannot be in force.
pub fn check_access(source: &AccessSource) -> Result<(), StartError> {
    open(Some(source)).map(drop)
}
