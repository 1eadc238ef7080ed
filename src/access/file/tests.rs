//! What the file says and what it must not say.

use proptest::prelude::*;

use super::*;
use crate::access::{Credential, Denied};
use crate::protocol::tls::ClientCertificate;

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn parsed(text: &str) -> Result<Access, Problems> {
    parse([("access.toml", text)], &mut |name| match name {
        "short" => Ok(b"short\n".to_vec()),
        "private.pem" => Ok(b"-----BEGIN PRIVATE KEY-----\n".to_vec()),
        "text" => Ok(b"no key at all, but with many bytes".to_vec()),
        "set" => Ok(br#"{"keys":[{"kty":"EC","crv":"P-256","x":"!","y":"AA"}]}"#.to_vec()),
        "empty" => Ok(br#"{"keys":[]}"#.to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    })
}

fn certificate(names: &[&str], end_ns: Option<u64>) -> Credential {
    let names = names.iter().map(|&name| name.into()).collect();
    Credential::Certificate(ClientCertificate { names, end_ns })
}

#[test]
fn every_kind_of_holder_has_its_rights() {
    let access = parsed(&format!(
        r#"
        origins = ["https://app.example", "null"]
        [anonymous]
        subscribe = ["status.>"]
        [[key]]
        id = "desk-7"
        sha256 = "{DIGEST}"  # of "test"
        subscribe = ["quote.>"]
        publish = ["quote.a"]
        policies = ["latest"]
        connections_max = 2
        subscriptions_max = 3
        expires = 2027-01-01T01:00:00+01:00
        [[certificate]]
        name = "Feed-1.example"
        publish = [">"]"#
    ))
    .unwrap();
    let shown = |credential: Option<Credential>| access.authenticate(credential.as_ref(), 0);
    let key = shown(Some(Credential::Bearer("desk-7.test".into()))).unwrap();
    assert_eq!(key.identity, Identity::Key("desk-7".into()));
    assert!(key.may_publish("quote.a") && !key.may_publish("quote.b"));
    assert!(key.may_use(Policy::Latest) && !key.may_use(Policy::Auto));
    assert_eq!((key.connections_max, key.subscriptions_max), (Some(2), Some(3)));
    let expires_ns = key.expires_ns.unwrap();
    assert_eq!(expires_ns, 1_798_761_600_000_000_000, "2027-01-01T00:00:00Z");
    let credential = Credential::Bearer("desk-7.test".into());
    let later = access.authenticate(Some(&credential), expires_ns);
    assert_eq!(later, Err(Denied::Expired));

    let status = Pattern::parse("status.a").unwrap();
    let nobody = shown(None).unwrap();
    assert!(nobody.may_subscribe(&status) && !nobody.may_publish("status.a"));
    let holder = |name: &str| shown(Some(certificate(&["other.example", name], None))).unwrap();
    assert!(holder("feed-1.EXAMPLE").may_publish("any"));
    assert_eq!(holder("feed-2.example").identity, Identity::Anyone, "it proves nothing");
    let wrong = shown(Some(Credential::Bearer("desk-7.wrong".into())));
    assert_eq!(wrong, Err(Denied::Invalid), "a wrong key is not the same as none");

    for (origin, allowed) in [
        (None, true),
        (Some("https://app.example"), true),
        (Some("HTTPS://APP.example"), true),
        (Some("null"), true),
        (Some("https://app.example.evil"), false),
        (Some("http://app.example"), false),
        (Some(""), false),
    ] {
        assert_eq!(access.allows_origin(origin), allowed, "{origin:?}");
    }
}

#[test]
fn rules_that_change_leave_to_each_what_they_still_allow() {
    let text = |rights: &str| {
        format!(
            "[[key]]\nid = \"a\"\nsha256 = \"{DIGEST}\"\n{rights}\n[[certificate]]\nname = \"c\""
        )
    };
    let access = parsed(&text("")).unwrap();
    let key = access.authenticate(Some(&Credential::Bearer("a.test".into())), 0).unwrap();
    let shown = certificate(&["c"], Some(7));
    let certificate = access.authenticate(Some(&shown), 6).unwrap();
    assert_eq!(certificate.expires_ns, Some(7));
    for rules in [&access, &Access::open()] {
        assert_eq!(rules.authenticate(Some(&shown), 7), Err(Denied::Expired));
    }
    assert!(!key.may_publish("x"));
    let newer = parsed(&text("publish = [\"x\"]")).unwrap();
    assert!(newer.current(&key).unwrap().may_publish("x"));
    let current = newer.current(&certificate).unwrap();
    assert_eq!(current.expires_ns, Some(7), "newer rules do not make it last");
    let rotated = parsed(&text("").replace(DIGEST, &DIGEST.replace('9', "8"))).unwrap();
    assert_eq!(rotated.current(&key), None, "its secret is another one now");
    let closed = parsed("[anonymous]\nsubscribe = [\">\"]").unwrap();
    assert_eq!((closed.current(&key), closed.current(&certificate)), (None, None));
    let nobody = closed.authenticate(None, 0).unwrap();
    assert!(closed.current(&nobody).is_some() && newer.current(&nobody).is_none());
    assert!(Access::open().current(&key).unwrap().may_publish("x"), "without rules all is allowed");
}

#[test]
fn whatever_is_wrong_is_named_with_its_line() {
    let key = |more: &str| format!("[[key]]\nid = \"a\"\nsha256 = \"{DIGEST}\"\n{more}");
    let token = |more: &str| format!("[token]\nalgorithms = [\"ES256\", \"HS256\"]\n{more}");
    for (text, named) in [
        ("", vec![":1: access: nobody may do anything; allowed: at least one of"]),
        ("[anonymus]", vec![":1: anonymus: no such field; allowed: origins, [anonymous]"]),
        ("key = 1", vec![":1: key: a integer instead of a list of tables"]),
        ("[anonymous]\nsubscribe = [\n\"a.b*\"]", vec![":3: anonymous.subscribe: `a.b*`: a wild"]),
        ("[anonymous]\nread = [\">\"]", vec![":2: anonymous: unknown field `read`", "subscribe"]),
        ("[[key]]\nid = \"a\"", vec![":1: key: missing field `sha256`", "fanfare key"]),
        (
            "[[key]]\nid = \"a.b\"\nsha256 = \"00\"",
            vec![":2: key.id: `a.b`", ":3: key.sha256: not"],
        ),
        (&key("expires = 2027-01-01"), vec![":4: key.expires: `2027-01-01` is no point in time"]),
        (&key("policies = [\"newest\"]"), vec![":4: key.policies: `newest`", "latest, close"]),
        (&key("connections_max = 0"), vec![":4: key: invalid value: integer `0`"]),
        (&key("secret = \"x\""), vec![":4: key: unknown field `secret`"]),
        (&(key("") + &key("")), vec![":5: key.id: `a` is there twice"]),
        ("[[certificate]]\nname = \"a b\"", vec![":2: certificate.name: `a b` is not a DNS name"]),
        ("origins = [\"app.example\", \"https://a/\"]", vec!["`app.example`", "`https://a/`"]),
        ("origins = \"*\"", vec![":1: origins: invalid type: string", "https://app.example"]),
        ("[token]\nalgorithms = [\"none\"]", vec![":2: token.algorithms: `none`", "no keys"]),
        ("[token]\njwks = \"set\"", vec![":1: token: missing field `algorithms`"]),
        (&token("jwks = \"absent\""), vec![":3: token.jwks: cannot read `absent`", "beside"]),
        (&token("jwks = \"text\""), vec![":3: token.jwks: `text` is not a JWK set", "RFC 7517"]),
        (
            &token("jwks = \"set\""),
            vec![":3: token.jwks: `set` is a set with a key that is broken"],
        ),
        (&token("jwks = \"empty\""), vec![":3: token.jwks: `empty` has no key of these"]),
        (&token("jwks = \"absent\"\nleeway = \"1h\""), vec![":4: token.leeway: `1h`"]),
        (&token(&issuer("ES256", "text")), vec![":3: token.keys.file: `text` is not a public key"]),
        (&token(&issuer("ES256", "private.pem")), vec!["`private.pem` is a private key", "pubout"]),
        (&token(&issuer("HS256", "short")), vec!["`short` is a key that is too short", "32 bytes"]),
        (&token(&issuer("EdDSA", "text")), vec!["EdDSA is not in algorithms"]),
        (
            &token(
                "keys = [{ algorithm = \"HS256\", file = \"text\" }, \
                { algorithm = \"HS256\", id = \"b\", file = \"text\" }]",
            ),
            vec![":1: token: several keys of HS256, one with id (none)"],
        ),
        ("[anonymous\n", vec![":1: syntax: ", "toml.io"]),
    ] {
        let problems = parsed(text).unwrap_err().to_string();
        for named in named {
            assert!(problems.contains(named), "{text}\n{problems}\n{named}");
        }
        assert!(problems.lines().all(|line| line.starts_with("access.toml:")), "{problems}");
    }
}

fn issuer(algorithm: &str, file: &str) -> String {
    format!("keys = [{{ algorithm = \"{algorithm}\", file = \"{file}\" }}]")
}

proptest! {
    #[test]
    fn any_text_is_rules_or_problems_with_lines(
        head in "(\\[|\\[\\[)?(anonymous|key|certificate|token|origins|x)(\\]|\\]\\]|=)?\n?",
        text in "\\PC*|([a-z0-9_]{1,12} *= *[\\[\"{]?[a-z0-9.>*: -]{0,20}[\\]\"}]?\n){0,4}",
    ) {
        if let Err(problems) = parsed(&(head + &text)) {
            let problems = problems.to_string();
            prop_assert!(problems.starts_with("access.toml:"), "{problems}");
        }
    }
}

#[test]
fn the_entries_of_a_bucket_are_one_set_of_rules() {
    let digest = "0".repeat(64);
    let key =
        |id: &str| format!("[[key]]\nid = \"{id}\"\nsha256 = \"{digest}\"\nsubscribe = [\">\"]\n");
    let entries = |parts: &[(&str, &str)]| {
        let parts = parts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Access::of_entries("nats-kv://a:1/rules", &parts.collect())
    };
    let both = entries(&[("desk", &key("desk")), ("feed", &key("feed"))]).unwrap();
    assert!(both.keys.current("desk", Some(Proof([0; 32]))).is_some());
    assert!(both.keys.current("feed", Some(Proof([0; 32]))).is_some());
    let anonymous = "[anonymous]\nsubscribe = [\">\"]\n";
    let said = entries(&[("a", anonymous), ("b", anonymous)]).unwrap_err().to_string();
    assert!(said.contains("nats-kv://a:1/rules b") && said.contains("there twice"), "{said}");
    assert!(entries(&[]).unwrap_err().to_string().contains("nobody may do anything"));
}
