//! Static keys: `ID.SECRET`, of which the server knows the id and a digest of the secret.
//!
//! A secret is 32 random bytes, so that its digest needs no salt and no slow hash: nobody can try
//! them all. Not here: the file that they are in (`file`). Invariant: an id that does not
//! exist costs the same work as a wrong secret, and digests are compared in constant time.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Denied, Grant, Proof};
use crate::limits::ACCESS_NAME_BYTES_MAX;

/// What an id may be, for errors.
pub const ID_ALLOWED: &str = "1 to 255 of a-z A-Z 0-9 _ -";

const _: () = assert!(ACCESS_NAME_BYTES_MAX == 255, "ID_ALLOWED says so");

/// The keys by id. Each has its proof, which is the digest of its secret.
#[derive(Debug, Default)]
pub(super) struct StaticKeys(HashMap<Box<str>, Arc<Grant>>);

impl StaticKeys {
    /// Adds the key `id`; false when there is one already.
    pub(super) fn insert(&mut self, id: Box<str>, grant: Grant) -> bool {
        debug_assert!(grant.proof.is_some(), "a key without a digest would take any secret");
        let is_new = !self.0.contains_key(&id);
        self.0.entry(id).or_insert_with(|| Arc::new(grant));
        is_new
    }

    /// What the credential `ID.SECRET` allows.
    pub(super) fn authenticate(&self, credential: &str) -> Result<Arc<Grant>, Denied> {
        let (id, secret) = credential.split_once('.').unwrap_or((credential, ""));
        let key = self.0.get(id);
        let Proof(known) = key.and_then(|key| key.proof).unwrap_or(Proof([0; 32]));
        let Proof(shown) = digest(secret.as_bytes());
        let is_same = constant_time::verify_slices_are_equal(&known, &shown).is_ok();
        key.filter(|_| is_same).cloned().ok_or(Denied::Invalid)
    }

    /// The key `id`, if its secret is still the one that was proven.
    pub(super) fn current(&self, id: &str, proof: Option<Proof>) -> Option<Arc<Grant>> {
        self.0.get(id).filter(|key| key.proof == proof).cloned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A key that was just made: the only place where its secret is known.
#[expect(missing_debug_implementations, reason = "its secret is shown once, on purpose")]
pub struct NewKey {
    /// `ID.SECRET`, for its holder.
    pub credential: String,
    /// The SHA-256 of the secret in hexadecimal, for the access file.
    pub sha256: String,
}

impl NewKey {
    /// Makes a key; none when `id` is not one ([`ID_ALLOWED`]).
    ///
    /// # Panics
    /// When the operating system has no random numbers.
    #[must_use]
    pub fn generate(id: &str) -> Option<Self> {
        if !is_id(id) {
            return None;
        }
        let mut secret = [0; 32];
        rand::fill(&mut secret).expect("the operating system has random numbers");
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let Proof(digest) = digest(secret.as_bytes());
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { credential: format!("{id}.{secret}"), sha256 })
    }
}

/// Whether a key may have this id: it must not hold the dot that ends it.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=ACCESS_NAME_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain)
}

/// The SHA-256 digest of `bytes`.
pub(super) fn digest(bytes: &[u8]) -> Proof {
    let digest = digest::digest(&digest::SHA256, bytes);
    Proof(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Identity;

    #[test]
    fn a_new_key_is_good_and_neither_another_secret_nor_another_id_is() {
        let new = NewKey::generate("desk-7").unwrap();
        let (id, secret) = new.credential.split_once('.').unwrap();
        assert_eq!((id, secret.len(), new.sha256.len()), ("desk-7", 43, 64));
        assert!(NewKey::generate("desk.7").is_none() && NewKey::generate("").is_none());

        let identity = Identity::Key(id.into());
        let proof = Some(digest(secret.as_bytes()));
        let grant = Grant { identity, proof, ..Grant::everything() };
        let mut keys = StaticKeys::default();
        assert!(keys.insert(id.into(), grant.clone()) && !keys.insert(id.into(), grant));
        assert!(keys.authenticate(&new.credential).is_ok());
        let other = NewKey::generate("desk-7").unwrap().credential;
        for wrong in [&other, "desk-7", "desk-7.", "desk-8.", &format!("desk-8.{secret}"), ""] {
            assert_eq!(keys.authenticate(wrong), Err(Denied::Invalid), "{wrong}");
        }
        assert!(keys.current(id, proof).is_some());
        assert!(keys.current(id, Some(digest(b"rotated"))).is_none(), "it ended with its secret");
        assert!(!format!("{keys:?}").contains(secret));
    }
}
