//! Tokens of every algorithm, made by another implementation, good and bad in each way.

use std::io;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use super::*;
use crate::access::{Access, Credential, file};

const NOW_S: u64 = 1_800_000_000;
const NOW_NS: u64 = NOW_S * 1_000_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

static RSA: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap());
static EC: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().unwrap());
static ED: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_ED25519).unwrap());

fn encoding(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::HS256 => EncodingKey::from_secret(SECRET.as_bytes()),
        Algorithm::RS256 => EncodingKey::from_rsa_pem(RSA.serialize_pem().as_bytes()).unwrap(),
        Algorithm::ES256 => EncodingKey::from_ec_der(EC.serialized_der()),
        _ => EncodingKey::from_ed_der(ED.serialized_der()),
    }
}

/// The files beside the access file; `more` is the set in `jwks.json`.
fn read(name: &str, jwks: &Value) -> io::Result<Vec<u8>> {
    Ok(match name {
        "secret" => format!("{SECRET}\n").into_bytes(),
        "rs.pem" => RSA.public_key_pem().into_bytes(),
        "es.pem" => EC.public_key_pem().into_bytes(),
        "ed.pem" => ED.public_key_pem().into_bytes(),
        "jwks.json" => jwks.to_string().into_bytes(),
        _ => return Err(io::ErrorKind::NotFound.into()),
    })
}

fn access_with(text: &str, jwks: &Value) -> Access {
    file::parse([("access.toml", text)], &mut |name| read(name, jwks)).unwrap()
}

/// All four algorithms, from files.
fn access(more: &str) -> Access {
    let text = format!(
        r#"
        [token]
        algorithms = ["HS256", "RS256", "ES256", "EdDSA"]
        keys = [
            {{ algorithm = "HS256", file = "secret" }},
            {{ algorithm = "RS256", file = "rs.pem" }},
            {{ algorithm = "ES256", file = "es.pem" }},
            {{ algorithm = "EdDSA", file = "ed.pem" }},
        ]
        subscribe = ["quote.>"]
        {more}"#
    );
    access_with(&text, &json!(null))
}

fn claims() -> Value {
    json!({"sub": "alice", "exp": NOW_S + 60})
}

fn token(algorithm: Algorithm, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &encoding(algorithm)).unwrap()
}

fn token_of(kid: &str, algorithm: Algorithm) -> String {
    let header = Header { kid: Some(kid.into()), ..Header::new(algorithm) };
    encode(&header, &claims(), &encoding(algorithm)).unwrap()
}

fn shown(access: &Access, token: &str) -> Result<Arc<Grant>, Denied> {
    access.authenticate(Some(&Credential::Bearer(token.into())), NOW_NS)
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
fn a_token_of_each_algorithm_is_good_and_with_one_changed_byte_it_is_not() {
    let access = access("");
    for (_, algorithm) in ALGORITHMS {
        let good = token(algorithm, &claims());
        let grant = shown(&access, &good).unwrap();
        assert_eq!(grant.identity, Identity::Subject("alice".into()));
        assert_eq!(grant.expires_ns, Some(NOW_NS + 90_000_000_000), "30 s of leeway are added");
        assert!(grant.may_subscribe(&Pattern::parse("quote.a").unwrap()));
        assert!(!grant.may_subscribe(&Pattern::parse("trade.a").unwrap()));
        assert!(!grant.may_publish("quote.a"));

        let parts: Vec<_> = good.split('.').collect();
        let other = base64url(json!({"sub": "mallory", "exp": NOW_S + 60}).to_string());
        let mut signature = parts[2].to_owned();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        signature.replace_range(..1, first);
        for bad in [
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{}.{}.{signature}", parts[0], parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
        ] {
            assert_eq!(shown(&access, &bad), Err(Denied::Invalid), "{algorithm:?}");
        }
    }
}

#[test]
fn the_algorithm_is_never_the_tokens_choice() {
    let access = access("");
    let body = base64url(claims().to_string());
    let none = base64url(r#"{"alg":"none","typ":"JWT"}"#);
    for bad in [format!("{none}.{body}."), format!("{none}.{body}.AAAA"), "a.b.c".into()] {
        assert_eq!(shown(&access, &bad), Err(FORM), "{bad}");
    }
    // A public key is known to all; as an HMAC secret it must prove nothing.
    for public in [RSA.public_key_pem(), EC.public_key_pem()] {
        let confused = EncodingKey::from_secret(public.as_bytes());
        let forged = encode(&Header::new(Algorithm::HS256), &claims(), &confused).unwrap();
        assert_eq!(shown(&access, &forged), Err(Denied::Invalid));
        let text = r#"
            [token]
            algorithms = ["RS256", "ES256"]
            keys = [
                { algorithm = "RS256", file = "rs.pem" },
                { algorithm = "ES256", file = "es.pem" },
            ]"#;
        let denied = shown(&access_with(text, &json!(null)), &forged).unwrap_err();
        assert!(denied.text().contains("algorithm"), "{denied}");
    }
    let wrong = EncodingKey::from_secret(b"another secret of thirty-two bytes");
    let header = Header::new(Algorithm::HS256);
    let wrong = encode(&header, &claims(), &wrong).unwrap();
    assert_eq!(shown(&access, &wrong), Err(Denied::Invalid));
    let critical = Header { crit: Some(vec!["b64".into()]), ..header };
    let critical = encode(&critical, &claims(), &encoding(Algorithm::HS256)).unwrap();
    assert!(matches!(shown(&access, &critical), Err(Denied::Unsuitable(_))));
}

#[test]
fn a_token_counts_from_its_beginning_to_its_end() {
    let (strict, lax) = (access("leeway = \"0ms\""), access("require_expiry = false"));
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        token(Algorithm::EdDSA, &claims)
    };
    for (name, value, strictly, laxly) in [
        ("exp", json!(NOW_S), Some(Denied::Expired), None),
        ("exp", json!(NOW_S - 30), Some(Denied::Expired), Some(Denied::Expired)),
        ("exp", json!(NOW_S as f64 + 0.5), None, None),
        ("exp", json!(-1), Some(Denied::Expired), Some(Denied::Expired)),
        ("exp", json!(1e300), None, None),
        ("exp", json!("tomorrow"), Some(CLAIMS), Some(CLAIMS)),
        ("nbf", json!(NOW_S), None, None),
        ("nbf", json!(NOW_S + 30), Some(Denied::NotYet), None),
        ("nbf", json!(NOW_S + 31), Some(Denied::NotYet), Some(Denied::NotYet)),
        ("iat", json!(NOW_S + 31), Some(Denied::NotYet), Some(Denied::NotYet)),
    ] {
        let token = with(name, value.clone());
        assert_eq!(shown(&strict, &token).err(), strictly, "{name} {value}");
        assert_eq!(shown(&lax, &token).err(), laxly, "{name} {value}");
    }
    let endless = token(Algorithm::EdDSA, &json!({"sub": "alice"}));
    assert!(
        matches!(shown(&strict, &endless), Err(Denied::Unsuitable(what)) if what.contains("exp"))
    );
    assert_eq!(shown(&lax, &endless).unwrap().expires_ns, None);
}

#[test]
fn a_token_of_somebody_else_or_for_somebody_else_is_not_taken() {
    let access = access("issuer = \"https://idp.example\"\naudience = [\"fanfare\", \"feeds\"]");
    for (issuer, audience, named) in [
        (json!("https://idp.example"), json!("fanfare"), None),
        (json!("https://idp.example"), json!(["other", "feeds"]), None),
        (json!("https://idp.example/"), json!("fanfare"), Some("(iss)")),
        (json!(null), json!("fanfare"), Some("(iss)")),
        (json!("https://idp.example"), json!("other"), Some("(aud)")),
        (json!("https://idp.example"), json!([]), Some("(aud)")),
    ] {
        let claims = json!({"sub": "a", "exp": NOW_S + 1, "iss": issuer, "aud": audience});
        let denied = shown(&access, &token(Algorithm::ES256, &claims)).err();
        let found = denied.map(Denied::text);
        assert_eq!(found.is_some(), named.is_some(), "{claims}: {found:?}");
        assert!(found.unwrap_or_default().contains(named.unwrap_or_default()), "{found:?}");
    }
    let claims = json!({"sub": "a", "exp": NOW_S + 1, "aud": "somebody"});
    let open = self::access("");
    let denied = shown(&open, &token(Algorithm::ES256, &claims)).unwrap_err();
    assert!(denied.text().contains("(aud)"), "it is for somebody (RFC 7519, section 4.1.3)");
    for subject in [json!(null), json!(""), json!("x".repeat(256))] {
        let claims = json!({"sub": subject, "exp": NOW_S + 1});
        let denied = shown(&open, &token(Algorithm::ES256, &claims)).unwrap_err();
        assert!(denied.text().contains("(sub)"), "{denied}");
    }
}

#[test]
fn the_claim_says_what_is_allowed_within_the_limits_of_the_file() {
    let access = access("publish = [\">\"]\npolicies = [\"auto\"]\nconnections_max = 2");
    let with = |rights: Value| {
        let claims = json!({"sub": "a", "exp": NOW_S + 1, "fanfare": rights});
        shown(&access, &token(Algorithm::HS256, &claims))
    };
    let grant = with(json!({"subscribe": ["trade.*"], "subscriptions_max": 3})).unwrap();
    assert!(grant.may_subscribe(&Pattern::parse("trade.a").unwrap()));
    assert!(!grant.may_subscribe(&Pattern::parse("quote.a").unwrap()), "the claim has it not");
    assert!(!grant.may_publish("trade.a"), "nor this");
    assert!(grant.may_use(Policy::Auto) && !grant.may_use(Policy::All));
    assert_eq!((grant.connections_max, grant.subscriptions_max), (Some(2), Some(3)));
    let grant = with(json!({"policies": ["all"], "connections_max": 1})).unwrap();
    assert!(grant.may_use(Policy::All) && !grant.may_use(Policy::Auto));
    assert_eq!(grant.connections_max, Some(1));
    for wrong in [
        json!({"subscribe": ["trade..a"]}),
        json!({"subscribe": ">"}),
        json!({"policies": ["newest"]}),
        json!({"read": [">"]}),
        json!("admin"),
    ] {
        assert_eq!(with(wrong.clone()), Err(CLAIMS), "{wrong}");
    }
}

#[test]
fn keys_of_a_set_are_chosen_by_id_and_end_with_it() {
    let jwk = |algorithm, kid: &str| {
        let jwk = Jwk::from_encoding_key(&encoding(algorithm), algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = kid.into();
        jwk
    };
    let x = base64url(ED.public_key_raw());
    let ed = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "ed", "x": x});
    let text = r#"
        [token]
        algorithms = ["HS256", "RS256", "ES256", "EdDSA"]
        jwks = "jwks.json""#;
    let mut elsewhere = jwk(Algorithm::ES256, "for encryption");
    elsewhere["use"] = "enc".into();
    let unknown = json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "q", "pub": "AAAA"});
    let (rs, es) = (jwk(Algorithm::RS256, "rs"), jwk(Algorithm::ES256, "es"));
    let hs = jwk(Algorithm::HS256, "hs");
    let set = json!({"keys": [rs, es, ed, hs, elsewhere, unknown]});
    let access = access_with(text, &set);
    for (kid, algorithm) in [
        ("rs", Algorithm::RS256),
        ("es", Algorithm::ES256),
        ("ed", Algorithm::EdDSA),
        ("hs", Algorithm::HS256),
    ] {
        let grant = shown(&access, &token_of(kid, algorithm)).unwrap();
        assert_eq!(access.current(&grant).as_deref(), Some(&*grant));
        assert!(shown(&access, &token(algorithm, &claims())).is_ok(), "there is one of its kind");
        assert_eq!(shown(&access, &token_of("other", algorithm)), Err(Denied::Invalid));
    }
    let grant = shown(&access, &token_of("es", Algorithm::ES256)).unwrap();
    let other = KeyPair::generate().unwrap();
    let other = EncodingKey::from_ec_der(other.serialized_der());
    let other = serde_json::to_value(Jwk::from_encoding_key(&other, Algorithm::ES256).unwrap());
    let mut newer = other.unwrap();
    newer["kid"] = "newer".into();
    // The issuer adds a key: both are good, and a token must say which it is of.
    let both = access_with(text, &json!({"keys": [set["keys"][1], newer]}));
    assert!(both.current(&grant).is_some());
    assert!(shown(&both, &token_of("es", Algorithm::ES256)).is_ok());
    let denied = shown(&both, &token(Algorithm::ES256, &claims())).unwrap_err();
    assert!(denied.text().contains("kid"), "{denied}");
    // It takes the old one away: what was proven with it ends, also under the same id.
    assert!(access_with(text, &json!({"keys": [newer]})).current(&grant).is_none());
    newer["kid"] = "es".into();
    assert!(access_with(text, &json!({"keys": [newer]})).current(&grant).is_none());
}

proptest! {
    #[test]
    fn nothing_that_is_not_signed_is_let_in(
        text in "\\PC*|[A-Za-z0-9_-]{0,80}(\\.[A-Za-z0-9_-]{0,80}){0,4}",
        at in any::<prop::sample::Index>(),
        byte in "[A-Za-z0-9_.-]",
    ) {
        let access = access("");
        prop_assert!(shown(&access, &text).is_err());
        // One byte of a good one replaced; the last of a signature has bits that do not count.
        let mut forged = token(Algorithm::HS256, &claims());
        let at = at.index(forged.len() - 1);
        if forged[at..=at] != byte {
            forged.replace_range(at..=at, &byte);
            prop_assert!(shown(&access, &forged).is_err(), "{forged}");
        }
    }
}
