//! NATS servers that do not let everyone in: TLS with an authority of one's own, users, accounts.
//!
//! Not here: what a stream is read for (`nats`). Invariant: what is let in is refused without the
//! one thing that the test is about.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::nats::{first_there, frames_to, node};
use crate::nats_server::NatsServer;
use crate::support::{Folder, fanfare, line};
use crate::tls::Authority;

/// What the program says at once when it is to serve from this stream and cannot.
fn refusal(url: &str) -> String {
    let mut command = fanfare("serve --listen 127.0.0.1:0 --source");
    let output = command.arg(url).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "it does not start");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("trying again"), "{said}");
    said
}

/// Producers get in, and what they publish comes out at a node's clients.
fn serves(nats: &NatsServer) {
    nats.publish("MD", "", "");
    let node = node(nats, "");
    let mut client = first_there(&node);
    nats.publish("MD", "", &line("trade.A", "1"));
    assert_eq!(frames_to(&mut client, 1).len(), 1);
}

#[test]
fn a_server_with_tls_and_users_is_read_by_who_knows_its_authority_and_a_password() {
    let (ours, authority) = (Folder::new(), Authority::new());
    let ca = ours.file("ca.pem", &authority.certificate());
    let right = ours.file("right", "correct horse\n");
    let wrong = ours.file("wrong", "battery staple\n");
    let started = NatsServer::start_with(
        |folder| {
            let pem = folder.file("server.pem", &authority.issue(&["127.0.0.1"]));
            format!(
                "tls {{ cert_file: '{pem}', key_file: '{pem}' }}\n\
                 authorization {{ user: feed, password: 'correct horse' }}\n"
            )
        },
        format!("tls=true&ca={ca}&user=feed&password_file={right}"),
    );
    let Some(nats) = started else { return };
    serves(&nats);

    let said = refusal(&nats.open("MD", &format!("?ca={ca}&user=feed&password_file={wrong}")));
    assert!(said.contains("user feed") && said.contains(&wrong), "{said}");
    assert!(!said.contains("staple"), "a password is in no log: {said}");
    let said = refusal(&nats.open("MD", &format!("?ca={ca}")));
    assert!(said.contains("add ?user=NAME&password_file=FILE"), "{said}");
    let said = refusal(&nats.open("MD", &format!("?user=feed&password_file={right}")));
    assert!(said.contains("?ca=FILE names the authority"), "{said}");
    let foreign = ours.file("foreign.pem", &Authority::new().certificate());
    let said = refusal(&nats.open("MD", &format!("?ca={foreign}")));
    assert!(said.contains(&format!("the authority in {foreign} has not signed it")), "{said}");
    let torn = "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n";
    let torn = ours.file("torn.pem", torn);
    let said = refusal(&nats.open("MD", &format!("?ca={torn}")));
    assert!(said.contains(&format!("{torn}: ")), "{said}");
}

#[test]
fn a_server_with_accounts_is_read_with_credentials_of_one() {
    let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
    let (account, user, stranger) =
        (KeyPair::new_account(), KeyPair::new_user(), KeyPair::new_user());
    // JetStream is for all accounts but that of the servers themselves.
    let of_account = |storage: i64| {
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1,
            "leaf": -1, "wildcards": true, "streams": -1, "consumer": -1,
            "mem_storage": storage, "disk_storage": storage,
        });
        json!({ "type": "account", "limits": limits })
    };
    let of_user = json!({ "type": "user", "subs": -1, "data": -1, "payload": -1 });
    let ours = Folder::new();
    let known = ours.file("feed.creds", &credentials(&user, &token(&account, &user, &of_user)));
    // Of an account that nobody has heard of.
    let other = token(&KeyPair::new_account(), &stranger, &of_user);
    let unknown = ours.file("stranger.creds", &credentials(&stranger, &other));
    let started = NatsServer::start_with(
        |_| {
            let root = json!({ "type": "operator", "system_account": system.public_key() });
            let root = token(&operator, &operator, &root);
            let accounts = [(&system, 0), (&account, -1)].map(|(account, storage)| {
                let token = token(&operator, account, &of_account(storage));
                format!("{}: {token}", account.public_key())
            });
            format!(
                "operator: {root}\nsystem_account: {}\nresolver: MEMORY\n\
                 resolver_preload: {{\n{}\n}}\n",
                system.public_key(),
                accounts.join("\n")
            )
        },
        format!("creds={known}"),
    );
    let Some(nats) = started else { return };
    serves(&nats);

    let said = refusal(&nats.open("MD", &format!("?creds={unknown}")));
    assert!(said.contains(&format!("refuses the credentials in {unknown}")), "{said}");
}

/// A JWT of NATS: `issuer` vouches for what `claims` say about `subject`.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["version"] = 2.into();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let parts = [
        json!({ "typ": "JWT", "alg": "ed25519-nkey" }),
        json!({
            "jti": subject.public_key(), "iat": now, "iss": issuer.public_key(),
            "sub": subject.public_key(), "name": "test", "nats": claims,
        }),
    ];
    let signed = parts.map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A file as `nsc` writes it.
fn credentials(user: &KeyPair, token: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}
