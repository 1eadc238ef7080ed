//! What all cores share of access control: the rules in force, and who is in.
//!
//! Read when a connection begins, asks for more or ends; replaced whole, without a lock, when the
//! operator changes the rules. Not here: the rules. Invariant: every [`Member`] was let in by rules
//! that were in force, and is counted until it is dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;

use super::{Access, AccessError, Credential, Denied, Grant, Identity, Ledger, Network, Permit};

/// The rules in force, and who is in.
#[derive(Debug)]
pub struct Gate {
    access: ArcSwap<Access>,
    /// Where the rules come from; none: there are none.
    path: Option<PathBuf>,
    /// Counts changes of the rules.
    generation: AtomicU32,
    ledger: Arc<Ledger<Identity>>,
    nothing: Arc<Grant>,
}

/// Somebody who was let in.
#[derive(Debug)]
pub struct Member {
    grant: Arc<Grant>,
    generation: u32,
    /// Count it where only so many connections are allowed.
    permits: Option<Box<Permits>>,
}

/// What counts one connection.
#[derive(Debug, Default)]
struct Permits {
    identity: Option<Permit<Identity>>,
    address: Option<Permit<Network>>,
}

impl Member {
    /// Somebody of a server that restricts nothing.
    #[must_use]
    pub fn anyone() -> Self {
        Self { grant: Arc::new(Grant::everything()), generation: 0, permits: None }
    }

    /// Counts it as a connection of its address from now on.
    pub fn count_address(&mut self, permit: Permit<Network>) {
        self.permits.get_or_insert_default().address = Some(permit);
    }

    /// What it may do.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(Access::open())
    }
}

impl Gate {
    /// A gate with these rules.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self {
            access: ArcSwap::from_pointee(access),
            path: None,
            generation: AtomicU32::new(0),
            ledger: Arc::default(),
            nothing: Arc::new(Grant::nothing()),
        }
    }

    /// A gate with the rules of a file; without one everybody may do everything.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn load(path: Option<&Path>) -> Result<Self, AccessError> {
        let access = path.map_or_else(|| Ok(Access::open()), Access::load)?;
        Ok(Self { path: path.map(Path::to_owned), ..Self::new(access) })
    }

    /// Reads the rules again and puts them in force.
    ///
    /// # Errors
    /// Everything that is wrong with them; the rules before stay in force.
    pub fn reload(&self) -> Result<(), AccessError> {
        if let Some(path) = &self.path {
            self.replace(Access::load(path)?);
        }
        Ok(())
    }

    /// The files that the rules in force came from.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.access.load().files().to_vec()
    }

    /// Puts other rules in force; members are to be looked at again, see [`Self::recheck`].
    pub fn replace(&self, access: Access) {
        self.access.store(Arc::new(access));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Whether a page of `origin` may connect.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        self.access.load().allows_origin(origin)
    }

    /// Lets somebody in. `now_ns` is in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, credential: Option<&Credential>, now_ns: u64) -> Result<Member, Denied> {
        let generation = self.generation.load(Ordering::Acquire);
        let grant = self.access.load().authenticate(credential, now_ns)?;
        let permit = self.count(&grant)?;
        let permits = permit.map(|identity| Permits { identity: Some(identity), address: None });
        Ok(Member { grant, generation, permits: permits.map(Box::new) })
    }

    /// Somebody who may do nothing yet, because a credential is still to come.
    #[must_use]
    pub fn stranger(&self) -> Member {
        let generation = self.generation.load(Ordering::Acquire);
        Member { grant: Arc::clone(&self.nothing), generation, permits: None }
    }

    /// Whether `member` has yet to show a credential.
    #[must_use]
    pub fn is_stranger(&self, member: &Member) -> bool {
        Arc::ptr_eq(&member.grant, &self.nothing)
    }

    /// Gives `member` what `credential` allows, in place of what it had.
    ///
    /// # Errors
    /// Why not; the member keeps what it had.
    pub fn renew(
        &self,
        member: &mut Member,
        credential: &Credential,
        now_ns: u64,
    ) -> Result<(), Denied> {
        let generation = self.generation.load(Ordering::Acquire);
        let grant = self.access.load().authenticate(Some(credential), now_ns)?;
        let is_counted = member.permits.as_ref().is_some_and(|permits| permits.identity.is_some());
        if !is_counted || grant.identity != member.grant.identity {
            let permit = self.count(&grant)?;
            if is_counted || permit.is_some() {
                member.permits.get_or_insert_default().identity = permit;
            }
        }
        (member.grant, member.generation) = (grant, generation);
        Ok(())
    }

    /// Brings `member` up to rules that have changed since it was let in. None when they have not;
    /// else whether it may stay.
    pub fn recheck(&self, member: &mut Member) -> Option<bool> {
        let generation = self.generation.load(Ordering::Acquire);
        if member.generation == generation || self.is_stranger(member) {
            return None;
        }
        let current = self.access.load().current(&member.grant);
        member.generation = generation;
        let may_stay = current.is_some();
        member.grant = current.unwrap_or_else(|| Arc::clone(&self.nothing));
        Some(may_stay)
    }

    fn count(&self, grant: &Grant) -> Result<Option<Permit<Identity>>, Denied> {
        let Some(max) = grant.connections_max else { return Ok(None) };
        let permit = self.ledger.admit(grant.identity.clone(), max);
        permit.map(Some).ok_or(Denied::TooManyConnections)
    }
}
