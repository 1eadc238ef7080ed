//! Client certificates as credentials: required or not, of subscribers and of producers, and their
//! end.
//!
//! Not here: TLS itself ([`crate::tls`]).

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use fanfare::protocol::ws::client;
use rustls::{ClientConfig, HandshakeKind};

use crate::access::now_s;
use crate::support::{Client, Folder, Heard, KEY, Producer, connect, eventually, line};
use crate::tls::{Authority, close, over, serve, serve_with, welcomed};

#[test]
fn a_required_client_certificate_is_required() {
    let (server, authority, _folder) = serve("--tls-client-ca FOLDER/ca.pem");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let own = authority.issue(&["feed-1.example"]);
        let config = Arc::new(authority.client(&[version], Some(&own)));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let client = welcomed(server.tls.unwrap(), &config);
            assert_eq!(client.stream.conn.handshake_kind(), Some(kind));
        }
        let foreign = Authority::new().issue(&["feed-1.example"]);
        for (own, alert) in [(None, "CertificateRequired"), (Some(&*foreign), "UnknownCA")] {
            let config = Arc::new(authority.client(&[version], own));
            let mut stream = over(connect(server.tls.unwrap()), &config, "localhost");
            let error = stream.write_all(b"x").and_then(|()| stream.read(&mut [0]).map(drop));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(alert) || error.contains("HandshakeFailure"), "{error}");
        }
    }
}

#[test]
fn an_optional_client_certificate_is_optional() {
    let (server, authority, _folder) =
        serve("--tls-client-ca FOLDER/ca.pem --tls-client-certificates optional");
    let own = authority.issue(&["feed-1.example"]);
    for own in [None, Some(&*own)] {
        let config = Arc::new(authority.client(rustls::ALL_VERSIONS, own));
        close(welcomed(server.tls.unwrap(), &config));
    }
}

#[test]
fn a_client_certificate_is_a_credential() {
    let folder = Folder::new();
    let rules = "[[certificate]]\nname = \"feed-1.example\"\nsubscribe = [\"a.>\"]\n";
    let access = folder.file("access.toml", rules);
    let (server, authority, _folder) = serve(&format!(
        "--tls-client-ca FOLDER/ca.pem --tls-client-certificates optional --auth-timeout 0ms \
        --access {access}"
    ));
    let own = authority.issue(&["feed-1.example"]);
    let config = Arc::new(authority.client(rustls::ALL_VERSIONS, Some(&own)));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut client = welcomed(server.tls.unwrap(), &config);
        assert_eq!(client.stream.conn.handshake_kind(), Some(kind));
        assert_eq!(client.subscribe(&["a.b"])["success"], true);
        assert_eq!(client.subscribe(&["b.a"])["error"]["code"], "forbidden");
    }
    let unknown = authority.issue(&["feed-2.example"]);
    for own in [None, Some(&*unknown)] {
        let config = Arc::new(authority.client(rustls::ALL_VERSIONS, own));
        let (answer, _) = answer(server.tls.unwrap(), &config, None);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

/// The first bytes that come back for an upgrade request with this credential, if any; how the
/// handshake went.
fn answer(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    token: Option<&str>,
) -> (String, Option<HandshakeKind>) {
    let mut stream = over(connect(address), config, "localhost");
    let mut request = Vec::new();
    client::write_request(&mut request, "localhost", "/v1", KEY, None, token);
    stream.write_all(&request).unwrap();
    let mut answer = [0; 4_096];
    let count = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    (answer, stream.conn.handshake_kind())
}

#[test]
fn a_client_certificate_that_ends_ends_its_connections_and_their_resumption() {
    let rules = "[[certificate]]\nname = \"desk.example\"\nsubscribe = [\"a\"]\n";
    let flags = "--tls-client-ca FOLDER/ca.pem --auth-timeout 0ms --access FOLDER/access.toml";
    let (server, authority, folder) = serve_with(flags, &[("access.toml", rules)]);
    // Long enough for all that has to come before it ends, on a busy machine too.
    let end_s = now_s() + 8;
    let own = authority.issue_until(&["desk.example"], end_s);
    let config = Arc::new(authority.client(rustls::ALL_VERSIONS, Some(&own)));
    let mut client = Client::upgrade(over(connect(server.tls.unwrap()), &config, "localhost"));
    let welcome = client.json();
    assert_eq!(welcome["expires"], end_s * 1_000_000_000, "{welcome}");
    assert_eq!(client.subscribe(&["a"])["success"], true);
    // Rules that change do not make it last.
    folder.file("access.toml", &rules.replace("[\"a\"]", "[\"b\"]"));
    server.signal("HUP");
    let mut said = Vec::new();
    let code = loop {
        match client.hear() {
            Heard::Text(text) => said.push(text),
            Heard::Close(code, _) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, Some(4002), "{said:?}");
    for kind in ["auth_expiring", "unsubscribed"] {
        assert!(said.iter().any(|text| text.contains(kind)), "{kind}: {said:?}");
    }
    let (answer, kind) = answer(server.tls.unwrap(), &config, None);
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("expired"), "{answer}");
    assert_eq!(kind, Some(HandshakeKind::Resumed));
}

#[test]
fn a_client_certificate_that_has_ended_lets_nobody_in_whatever_else_is_shown() {
    let access = "[anonymous]\nsubscribe = [\">\"]\n";
    let flags = "--tls-client-ca FOLDER/ca.pem --source tls://127.0.0.1:0";
    let is_open = serve(flags);
    let flags = format!("{flags} --access FOLDER/access.toml");
    let has_rules = serve_with(&flags, &[("access.toml", access)]);
    for ((server, authority, _folder), token) in [(is_open, Some("a.b")), (has_rules, None)] {
        let own = authority.issue_until(&["any.example"], now_s() + 3);
        let config = Arc::new(authority.client(rustls::ALL_VERSIONS, Some(&own)));
        let mut seen = Vec::new();
        eventually("nobody is let in any more", || {
            let (answer, kind) = answer(server.tls.unwrap(), &config, token);
            seen.push((answer[..12].to_owned(), kind));
            answer.contains("expired")
        });
        assert_eq!(seen.pop(), Some(("HTTP/1.1 401".into(), Some(HandshakeKind::Resumed))));
        assert_eq!(seen[0], ("HTTP/1.1 101".into(), Some(HandshakeKind::Full)));
        let source = server.sources.iter().find_map(|url| url.strip_prefix("tls://")).unwrap();
        let stream = over(connect(source.parse().unwrap()), &config, "localhost");
        let mut producer = Producer::new(stream);
        producer.send(&line("a", "1"));
        assert_eq!(producer.reply()["error"]["code"], "auth_expired");
        assert!(producer.has_ended());
    }
}

#[test]
fn a_client_certificate_is_a_credential_for_subscribers_and_producers() {
    let flags = "--tls-client-ca FOLDER/ca.pem --tls-client-certificates optional \
        --access FOLDER/access.toml --auth-timeout 5s --source tls://127.0.0.1:0";
    let rules = "[[certificate]]\nname = \"desk.example\"\nsubscribe = [\"quote.>\"]\n\
        [[certificate]]\nname = \"feed.example\"\npublish = [\"quote.*\"]\n";
    let (server, authority, _folder) = serve_with(flags, &[("access.toml", rules)]);
    let with = |name: Option<&str>| {
        let own = name.map(|name| authority.issue(&[name]));
        Arc::new(authority.client(rustls::ALL_VERSIONS, own.as_deref()))
    };
    let mut desk = welcomed(server.tls.unwrap(), &with(Some("desk.example")));
    assert_eq!(desk.subscribe(&["quote.a"])["success"], true);
    let reply = desk.subscribe(&["trade.a"]);
    assert_eq!(reply["result"][0]["error"]["code"], "forbidden", "{reply}");
    let mut nobody = welcomed(server.tls.unwrap(), &with(Some("other.example")));
    assert_eq!(nobody.subscribe(&["quote.a"])["error"]["code"], "auth_required");

    let source = server.sources.iter().find_map(|url| url.strip_prefix("tls://")).unwrap();
    let producer = |config: &Arc<ClientConfig>| {
        Producer::new(over(connect(source.parse().unwrap()), config, "localhost"))
    };
    let mut feed = producer(&with(Some("feed.example")));
    feed.send(&(line("quote.a", "1") + &line("trade.a", "2") + &line("quote.a", "3")));
    let reply = feed.reply();
    assert_eq!((&reply["line"], &reply["error"]["code"]), (&2.into(), &"forbidden".into()));
    assert_eq!([desk.data(), desk.data()], ["1", "3"]);
    // Many records, cut anywhere, and replies to read at the end.
    let lines: String = (0..20_000).map(|number| line("quote.a", &number.to_string())).collect();
    feed.send(&lines);
    for number in 0..20_000 {
        assert_eq!(desk.data(), number.to_string());
    }
    feed.send("oops\n");
    assert_eq!(feed.reply()["line"], 20_004);

    for name in [None, Some("other.example")] {
        let mut stranger = producer(&with(name));
        stranger.publish("quote.a", "0");
        assert_eq!(stranger.reply()["error"]["code"], "auth_required");
        assert!(stranger.has_ended(), "with word of TLS, not by a cut");
    }
    // Without TLS, half of it, or too late: nobody is let in and the source goes on.
    let mut plain = connect(source.parse().unwrap());
    plain.write_all(line("quote.a", "0").as_bytes()).unwrap();
    let _refused = plain.read_to_end(&mut Vec::new());
    let mut mute = connect(source.parse().unwrap());
    mute.write_all(&[22, 3, 1]).unwrap();
    assert!(matches!(mute.read(&mut [0; 8]), Ok(0) | Err(_)));
    feed.publish("quote.b", "4");
    feed.publish("quote.a", "5");
    assert_eq!(desk.data(), "5");
}
