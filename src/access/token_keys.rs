//! The keys that tokens are verified with, from PEM files, secrets and JWK sets (RFC 7517).
//!
//! Not here: verifying ([`super::token`]). Invariant: a [`TokenKey`] is of one algorithm, and as
//! long as that asks for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation};
use serde::Deserialize;

use super::Proof;
use super::keys::digest;
use super::token::ALGORITHMS;
use crate::limits::{RSA_BYTES_MIN, TOKEN_SECRET_BYTES_MIN};

const _: () =
    assert!(TOKEN_SECRET_BYTES_MIN == 32 && RSA_BYTES_MIN * 8 == 2048, "KeyError says so");

/// A key of an issuer.
#[derive(Debug)]
pub(super) struct TokenKey {
    /// What a token's `kid` must be; none: any.
    pub(super) id: Option<String>,
    pub(super) decoding: DecodingKey,
    /// The check of a signature of the key's algorithm, and nothing else.
    pub(super) validation: Validation,
    pub(super) proof: Proof,
}

/// Why a file is not the key that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("not a public key of this algorithm")]
    NotPem,
    #[error("a private key, which this server must not have")]
    Private,
    #[error("a key that is too short for this algorithm")]
    Short,
    #[error("not a JWK set")]
    NotJwks,
    #[error("a set with a key that is broken")]
    Jwk,
}

impl KeyError {
    /// What would have been taken.
    pub(super) const fn allowed(self) -> &'static str {
        match self {
            Self::NotPem => "allowed: PEM, which begins with -----BEGIN PUBLIC KEY-----",
            Self::Private => "allowed: the public key, from `openssl pkey -in FILE -pubout`",
            Self::Short => {
                "allowed: 32 bytes or more for HS256 (`openssl rand -hex 32`), 2048 bits or more \
                 for RS256"
            }
            Self::NotJwks => "allowed: {\"keys\":[…]} as in RFC 7517",
            Self::Jwk => "allowed: members in base64url, as in RFC 7518, section 6",
        }
    }
}

impl TokenKey {
    /// The key of a file: PEM, or for HS256 the secret itself up to the newline at its end.
    pub(super) fn from_file(
        id: Option<String>,
        algorithm: Algorithm,
        bytes: &[u8],
    ) -> Result<Self, KeyError> {
        if bytes.windows(12).any(|window| window == b"PRIVATE KEY-") {
            return Err(KeyError::Private);
        }
        let decoding = match algorithm {
            Algorithm::HS256 => Ok(DecodingKey::from_secret(bytes.trim_ascii_end())),
            Algorithm::RS256 => DecodingKey::from_rsa_pem(bytes),
            Algorithm::ES256 => DecodingKey::from_ec_pem(bytes),
            _ => DecodingKey::from_ed_pem(bytes),
        };
        Self::new(id, algorithm, decoding.map_err(|_| KeyError::NotPem)?)
    }

    /// The keys of a JWK set that are for signatures of `algorithms`; others are passed over.
    pub(super) fn from_jwks(
        mut bytes: Vec<u8>,
        algorithms: &[Algorithm],
    ) -> Result<Vec<Self>, KeyError> {
        let set: JwkSet = simd_json::from_slice(&mut bytes).map_err(|_| KeyError::NotJwks)?;
        let fitting = set.keys.into_iter().filter_map(|jwk| {
            let algorithm = jwk.algorithm()?;
            algorithms.contains(&algorithm).then_some((algorithm, jwk))
        });
        fitting.map(|(algorithm, jwk)| jwk.key(algorithm)).collect()
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.validation.algorithms[0]
    }

    fn new(
        id: Option<String>,
        algorithm: Algorithm,
        decoding: DecodingKey,
    ) -> Result<Self, KeyError> {
        let (bytes, exponent) = match decoding.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => (&bytes[..], &[][..]),
            DecodingKeyKind::RsaModulusExponent { n, e } => (&n[..], &e[..]),
        };
        match algorithm {
            Algorithm::HS256 if bytes.len() < TOKEN_SECRET_BYTES_MIN => {
                return Err(KeyError::Short);
            }
            Algorithm::RS256 if bytes.len() < RSA_BYTES_MIN => return Err(KeyError::Short),
            // An uncompressed point of P-256 (SEC 1, section 2.3.3), and one of Ed25519.
            Algorithm::ES256 if bytes.len() != 65 => return Err(KeyError::NotPem),
            Algorithm::EdDSA if bytes.len() != 32 => return Err(KeyError::NotPem),
            _ => {}
        }
        let name = format!("{algorithm:?} ");
        let proof = digest(&[name.as_bytes(), bytes, exponent].concat());
        // Claims are checked by `super::token`, at a time that is given to it.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        Ok(Self { id, decoding, validation, proof })
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// A key as RFC 7517 and RFC 7518 have it; members that do not matter here are not read.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Jwk {
    /// What the key verifies; none: nothing that this server takes.
    fn algorithm(&self) -> Option<Algorithm> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let name = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", None) => "HS256",
            ("RSA", None) => "RS256",
            ("EC", Some("P-256")) => "ES256",
            ("OKP", Some("Ed25519")) => "EdDSA",
            _ => return None,
        };
        // RFC 9864 names the algorithm of Ed25519 after the curve.
        let named = self.alg.as_deref().map(|alg| if alg == "Ed25519" { "EdDSA" } else { alg });
        named.is_none_or(|named| named == name).then(|| algorithm(name)).flatten()
    }

    fn key(self, algorithm: Algorithm) -> Result<TokenKey, KeyError> {
        let member = |member: &Option<String>| member.clone().ok_or(KeyError::Jwk);
        let decoding = match algorithm {
            Algorithm::HS256 => {
                let secret = URL_SAFE_NO_PAD.decode(member(&self.k)?);
                Ok(DecodingKey::from_secret(&secret.map_err(|_| KeyError::Jwk)?))
            }
            Algorithm::RS256 => {
                DecodingKey::from_rsa_components(&member(&self.n)?, &member(&self.e)?)
            }
            Algorithm::ES256 => {
                DecodingKey::from_ec_components(&member(&self.x)?, &member(&self.y)?)
            }
            _ => DecodingKey::from_ed_components(&member(&self.x)?),
        };
        let decoding = decoding.map_err(|_| KeyError::Jwk)?;
        TokenKey::new(self.kid, algorithm, decoding).map_err(|error| match error {
            KeyError::NotPem => KeyError::Jwk,
            error => error,
        })
    }
}

/// The algorithm of this name, if it may be taken.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}
