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
    /// As they were told last, whether or not they are in force: files that they name may change.
    entries: Entries,
    changes: Receiver<Entries>,
}

impl Bucket {
    /// Takes the newest entries; whether there are any that were not taken before.
    pub(super) fn take(&mut self) -> bool {
        let newest = self.changes.try_iter().last();
        newest.map(|entries| self.entries = entries).is_some()
    }

    /// The rules of its entries, with the files that they name as these are now.
    pub(super) fn read(&self) -> Result<Access, AccessError> {
        Access::of_entries(&self.address.to_string(), &self.entries)
    }
}

/// The gate with its rules, and the bucket that they come from.
pub(super) fn open(source: Option<&AccessSource>) -> Result<(Gate, Option<Bucket>), StartError> {
    match source {
        None => Ok((Gate::load(None)?, None)),
        Some(AccessSource::File(path)) => Ok((Gate::load(Some(path))?, None)),
        Some(AccessSource::Bucket(address)) => {
            let (entries, changes) = bucket::watch(address)?;
            let bucket = Bucket { address: address.clone(), entries, changes };
            Ok((Gate::new(bucket.read()?), Some(bucket)))
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
