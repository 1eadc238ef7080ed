//! JSON Web Tokens (RFC 7519): who issued one, and what it allows.
//!
//! The algorithms are the operator's choice, never the token's, and each key has one of them, so
//! that a public key can never be taken for a secret. Not here: reading keys
//! ([`super::token_keys`]). Invariant: nothing of a token counts before its signature is verified;
//! of its header, only which key to verify it with.

use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, decode, decode_header};
use serde::Deserialize;

use super::token_keys::TokenKey;
use super::{Denied, Grant, Identity, Proof};
use crate::limits::SUBJECT_BYTES_MAX;
use crate::protocol::channel::Pattern;
use crate::protocol::policy::Policy;

/// The algorithms that may be taken, by their names in RFC 7518 and RFC 8037.
pub(super) const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

/// Whose tokens are good, and what they allow.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Of one algorithm either one key without an id, or any number with different ids.
    pub(super) keys: Vec<TokenKey>,
    /// What `iss` must be, if anything.
    pub(super) issuer: Option<String>,
    /// One of these must be in `aud`; none: there must be no `aud`.
    pub(super) audience: Texts,
    /// By how much clocks may differ, nanoseconds.
    pub(super) leeway_ns: u64,
    /// Whether a token must say when it ends.
    pub(super) needs_expiry: bool,
    /// What a token allows that does not say it, for nobody in particular.
    pub(super) grant: Grant,
}

/// One text, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Default for Texts {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Texts {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts,
        }
    }
}

/// The claims that count here; times are seconds since the Unix epoch.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    iss: Option<String>,
    #[serde(default)]
    aud: Texts,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    fanfare: Option<Rights>,
}

/// The claim `fanfare`: exactly what its holder may do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rights {
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
    policies: Option<Vec<String>>,
    connections_max: Option<u32>,
    subscriptions_max: Option<usize>,
}

const FORM: Denied = Denied::Unsuitable("the token is not a signed JSON Web Token");
const CLAIMS: Denied =
    Denied::Unsuitable("a claim of the token has a form that is not taken here, or a field is new");

const _: () = assert!(SUBJECT_BYTES_MAX == 255, "the text about subjects says so");

impl Tokens {
    /// What `token` allows at `now_ns`, nanoseconds since the Unix epoch.
    pub(super) fn authenticate(&self, token: &str, now_ns: u64) -> Result<Arc<Grant>, Denied> {
        let header = decode_header(token).map_err(|_| FORM)?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: what is critical and not known makes a token invalid.
            return Err(Denied::Unsuitable("the token needs extensions that are not known here"));
        }
        let key = self.key(header.alg, header.kid.as_deref())?;
        let claims = decode::<Claims>(token, &key.decoding, &key.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::Json(_) | ErrorKind::Utf8(_) => CLAIMS,
                _ => Denied::Invalid,
            })?
            .claims;
        self.check_parties(&claims)?;
        let expires_ns = self.check_times(&claims, now_ns)?;
        let subject = (claims.sub)
            .filter(|subject| (1..=SUBJECT_BYTES_MAX).contains(&subject.len()))
            .ok_or(Denied::Unsuitable("the token has no subject (sub) of 1 to 255 bytes"))?;
        let rights = match claims.fanfare {
            None => self.grant.clone(),
            Some(rights) => rights.grant(&self.grant).ok_or(CLAIMS)?,
        };
        let identity = Identity::Subject(subject.into());
        Ok(Arc::new(Grant { identity, expires_ns, proof: Some(key.proof), ..rights }))
    }

    /// Whether the key that proved a token is still there.
    pub(super) fn has(&self, proof: Option<Proof>) -> bool {
        self.keys.iter().any(|key| Some(key.proof) == proof)
    }

    /// The key of the algorithm and id that a token names. A key without an id is the only one of
    /// its algorithm, and fits any; a token without an id fits if there is no choice.
    fn key(&self, algorithm: Algorithm, id: Option<&str>) -> Result<&TokenKey, Denied> {
        let of_algorithm = || self.keys.iter().filter(|key| key.algorithm() == algorithm);
        if of_algorithm().next().is_none() {
            return Err(Denied::Unsuitable("the token's algorithm is not taken here"));
        }
        let mut fitting = of_algorithm()
            .filter(|key| id.is_none() || key.id.is_none() || key.id.as_deref() == id);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => {
                Err(Denied::Unsuitable("the token does not say which key signed it (kid)"))
            }
            (None, _) => Err(Denied::Invalid),
        }
    }

    /// Checks who issued a token, and for whom (RFC 7519, sections 4.1.1 and 4.1.3).
    fn check_parties(&self, claims: &Claims) -> Result<(), Denied> {
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(Denied::Unsuitable("the token is of another issuer (iss)"));
        }
        let (ours, theirs) = (self.audience.as_slice(), claims.aud.as_slice());
        let is_for_us = theirs.iter().any(|audience| ours.contains(audience));
        if is_for_us || ours.is_empty() && theirs.is_empty() {
            Ok(())
        } else {
            Err(Denied::Unsuitable("the token is for another audience (aud)"))
        }
    }

    /// When a token ends, if it has begun and not ended yet.
    fn check_times(&self, claims: &Claims, now_ns: u64) -> Result<Option<u64>, Denied> {
        let begins_ns = claims.nbf.into_iter().chain(claims.iat).map(nanoseconds).max();
        if begins_ns.is_some_and(|begins_ns| begins_ns > now_ns.saturating_add(self.leeway_ns)) {
            return Err(Denied::NotYet);
        }
        let expires_ns = claims.exp.map(|exp| nanoseconds(exp).saturating_add(self.leeway_ns));
        match expires_ns {
            None if self.needs_expiry => {
                Err(Denied::Unsuitable("the token does not say when it ends (exp)"))
            }
            Some(expires_ns) if expires_ns <= now_ns => Err(Denied::Expired),
            expires_ns => Ok(expires_ns),
        }
    }
}

/// Nanoseconds since the Unix epoch; a time before it is the epoch, one after 2554 the last.
#[expect(clippy::cast_possible_truncation, reason = "a cast from a float saturates")]
#[expect(clippy::cast_sign_loss, reason = "the same")]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

impl Rights {
    /// What the claim allows, within the limits of `default` where it has none of its own.
    fn grant(&self, default: &Grant) -> Option<Grant> {
        let patterns = |texts: &[String]| -> Option<Arc<[Pattern]>> {
            texts.iter().map(|text| Pattern::parse(text).ok()).collect()
        };
        let policies = |words: &Vec<String>| -> Option<Arc<[Policy]>> {
            words.iter().map(|word| Policy::parse(word).ok()).collect()
        };
        Some(Grant {
            subscribe: patterns(&self.subscribe)?,
            publish: patterns(&self.publish)?,
            policies: match &self.policies {
                Some(words) => Some(policies(words)?),
                None => default.policies.clone(),
            },
            connections_max: self.connections_max.or(default.connections_max),
            subscriptions_max: self.subscriptions_max.or(default.subscriptions_max),
            ..default.clone()
        })
    }
}

#[cfg(test)]
mod tests;
