//! Access rules from outside: who gets in, what it may do then, and when that ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare::access::keys::NewKey;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::{
    Client, Folder, Heard, KEY, Producer, Server, connect, eventually, fanfare, line, read_to_end,
};
use crate::tls::Authority;

const SECRET: &str = "a secret of more than thirty-two bytes";

/// An access file with one key, and the key's credential.
fn rules(folder: &Folder, rights: &str, more: &str) -> (String, String) {
    let NewKey { credential, sha256 } = NewKey::generate("desk-7").unwrap();
    let text = format!("{more}\n[[key]]\nid = \"desk-7\"\nsha256 = \"{sha256}\"\n{rights}\n");
    (folder.file("access.toml", &text), credential)
}

/// An access file for tokens that are signed with [`SECRET`].
pub(crate) fn token_rules(folder: &Folder, more: &str) -> String {
    folder.file("secret", SECRET);
    let keys = "keys = [{ algorithm = \"HS256\", file = \"secret\" }]";
    folder.file("access.toml", &format!("[token]\nalgorithms = [\"HS256\"]\n{keys}\n{more}\n"))
}

pub(crate) fn token(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn ask_to_upgrade(address: std::net::SocketAddr, query: &str, headers: &str) -> TcpStream {
    let mut stream = connect(address);
    let request = format!(
        "GET /v1{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Protocol: fanfare.v1.json\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn refused(server: &Server, query: &str, headers: &str) -> String {
    read_to_end(&mut ask_to_upgrade(server.listen, query, headers))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A client that was let in, with its welcome.
fn welcomed(server: &Server, query: &str, headers: &str) -> (Client, Value) {
    let mut client = Client::accepted(ask_to_upgrade(server.listen, query, headers));
    let welcome = client.json();
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    (client, welcome)
}

fn auth(token: &str) -> String {
    json!({"method": "auth", "params": {"token": token}, "req_id": 1}).to_string()
}

#[test]
fn a_credential_is_checked_before_the_channel_opens_and_never_told_on() {
    let folder = Folder::new();
    let (access, credential) = rules(&folder, "subscribe = [\"quote.>\"]", "");
    let flags = format!("--access {access} --auth-timeout 0ms --log trace");
    let mut server = Server::start(&flags);
    let wrong = format!("{}x", &credential[..credential.len() - 1]);
    for (query, headers) in [
        (String::new(), String::new()),
        (String::new(), bearer(&wrong)),
        (format!("?token={wrong}"), String::new()),
        (String::new(), bearer("desk-8.secret")),
        (String::new(), bearer("a.b.c")),
        (String::new(), bearer(&"x".repeat(6_145))),
        // The header is the credential, even if the query has a better one.
        (format!("?token={credential}"), bearer(&wrong)),
    ] {
        let answer = refused(&server, &query, &headers);
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{query} {headers} {answer}");
        assert!(answer.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{answer}");
        assert!(!answer.contains(&credential) && !answer.contains(&wrong), "{answer}");
    }
    let escaped = credential.replace('.', "%2E");
    for (query, headers) in [
        (String::new(), bearer(&credential)),
        (format!("?token={credential}"), String::new()),
        (format!("?x=1&token={escaped}"), String::new()),
    ] {
        let (mut client, welcome) = welcomed(&server, &query, &headers);
        assert_eq!(welcome.get("auth_ms"), None, "{welcome}");
        assert_eq!(client.subscribe(&["quote.a"])["success"], true);
    }
    let secret = credential.split_once('.').unwrap().1;
    assert!(!server.admin("/stats").contains(secret));
    server.signal("INT");
    server.end();
    eventually("the log says whose the connections were", || {
        server.log().matches("identity=key:desk-7").count() == 3
    });
    let log = server.log();
    assert!(!log.contains(&secret[..20]), "{log}");
}

#[test]
fn pages_of_other_origins_may_not_connect_and_programs_are_not_asked() {
    let folder = Folder::new();
    let more = "origins = [\"https://app.example\"]\n[anonymous]\nsubscribe = [\">\"]";
    let (access, _) = rules(&folder, "", more);
    let server = Server::start(&format!("--access {access}"));
    for origin in ["https://evil.example", "http://app.example", "null"] {
        let answer = refused(&server, "", &format!("Origin: {origin}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{origin}: {answer}");
    }
    welcomed(&server, "", "Origin: https://app.example\r\n");
    welcomed(&server, "", "");
}

#[test]
fn a_key_has_so_many_connections_over_all_shards_and_no_more() {
    let folder = Folder::new();
    let (access, credential) = rules(&folder, "connections_max = 2\nsubscribe = [\">\"]", "");
    let server = Server::start(&format!("--access {access}"));
    let open = || welcomed(&server, "", &bearer(&credential)).0;
    let (mut first, _second) = (open(), open());
    let answer = refused(&server, "", &bearer(&credential));
    assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    // Whoever comes without a credential is told the same by command, and may try again.
    let (mut stranger, _) = welcomed(&server, "", "");
    let reply = stranger.ask(&auth(&credential));
    assert_eq!(reply["error"]["code"], "auth_failed", "{reply}");
    first.send(fanfare::protocol::ws::frame::Opcode::Close, b"");
    while first.hear() != Heard::End {}
    eventually("the place is free again", || stranger.ask(&auth(&credential))["success"] == true);
}

#[test]
fn the_auth_command_opens_what_the_credential_allows() {
    let folder = Folder::new();
    let (access, credential) = rules(
        &folder,
        "subscribe = [\"quote.>\", \"trade.a\"]\npolicies = [\"auto\", \"latest\"]\n\
        subscriptions_max = 2",
        "",
    );
    let server = Server::start(&format!("--access {access}"));
    let (mut client, welcome) = welcomed(&server, "", "");
    assert_eq!(welcome["auth_ms"], 5_000, "{welcome}");
    let reply = client.subscribe(&["quote.a"]);
    assert_eq!(reply["error"]["code"], "auth_required", "{reply}");
    assert_eq!(client.ask(r#"{"method":"ping"}"#)["success"], true);
    let reply = client.ask(&auth(&credential));
    assert_eq!((&reply["success"], &reply["req_id"]), (&json!(true), &json!(1)), "{reply}");

    let reply = client.subscribe(&["quote.>", "trade.*", ">"]);
    let codes: Vec<_> = (reply["result"].as_array().unwrap().iter())
        .map(|result| result["error"]["code"].as_str())
        .collect();
    assert_eq!(codes, [None, Some("forbidden"), Some("forbidden")], "{reply}");
    let message = reply["result"][1]["error"]["message"].as_str().unwrap();
    assert!(message.contains("quote.>, trade.a"), "{message}");
    let params = json!({"channels": "trade.a", "policy": "all", "snapshot": false});
    let reply = client.ask(&json!({"method": "subscribe", "params": params}).to_string());
    assert_eq!(reply["result"][0]["error"]["code"], "forbidden", "{reply}");
    let reply = client.subscribe(&["trade.a", "quote.b"]);
    assert_eq!(reply["result"][1]["error"]["code"], "too_many_subscriptions", "{reply}");

    // A credential that is not good leaves to a member what it had, and ends a stranger.
    let reply = client.ask(&auth("desk-7.wrong"));
    assert_eq!(reply["error"]["code"], "auth_failed", "{reply}");
    assert_eq!(client.ask(r#"{"method":"list"}"#)["result"].as_array().unwrap().len(), 2);
    let (mut stranger, _) = welcomed(&server, "", "");
    let reply = stranger.ask(&auth("desk-7.wrong"));
    assert_eq!(reply["error"]["code"], "auth_failed", "{reply}");
    assert_eq!(stranger.closed(), 4000);
    assert!(server.counter("auth_failures") >= 2);
}

#[test]
fn a_stranger_has_its_time_and_no_more() {
    let folder = Folder::new();
    let (access, _) = rules(&folder, "subscribe = [\">\"]", "");
    let server = Server::start(&format!("--access {access} --auth-timeout 100ms"));
    let (mut client, _) = welcomed(&server, "", "");
    assert_eq!(client.closed(), 4001);
    let mut producer = server.producer();
    assert_eq!(producer.reply()["error"]["code"], "auth_required");
    assert!(producer.has_ended());
}

#[test]
fn a_token_ends_unless_a_newer_one_comes_in_its_place() {
    let folder = Folder::new();
    let access = token_rules(&folder, "leeway = \"0ms\"");
    let server = Server::start(&format!("--access {access}"));
    let claims = |exp: u64, channel: &str| {
        let rights = json!({ "subscribe": [channel] });
        json!({ "sub": "alice", "exp": exp, "fanfare": rights })
    };
    // Long enough for all that has to come before it ends, on a busy machine too.
    let soon = token(&claims(now_s() + 8, "a.*"));
    let open = || {
        let (mut client, welcome) = welcomed(&server, "", &bearer(&soon));
        assert!(welcome["expires"].is_u64(), "{welcome}");
        assert_eq!(client.subscribe(&["a.*"])["success"], true);
        let warning = client.json();
        assert_eq!(warning["type"], "auth_expiring", "{warning}");
        assert!(warning["expires_in_ms"].as_u64().unwrap() <= 8_000, "{warning}");
        client
    };
    let (mut renews, mut narrows, mut ends) = (open(), open(), open());
    let reply = renews.ask(&auth(&token(&claims(now_s() + 3_600, "a.*"))));
    assert_eq!(reply["success"], true, "{reply}");
    // What the newer token does not allow any more is taken away, and said.
    narrows.send(
        fanfare::protocol::ws::frame::Opcode::Text,
        auth(&token(&claims(now_s() + 3_600, "b.*"))).as_bytes(),
    );
    let said = [narrows.json(), narrows.json()];
    assert_eq!(said[0]["success"], true, "{said:?}");
    assert_eq!(
        (&said[1]["type"], &said[1]["cause"]),
        (&json!("unsubscribed"), &json!("forbidden"))
    );
    assert_eq!(said[1]["channels"], json!(["a.*"]));
    assert_eq!(ends.closed(), 4002);
    assert_eq!(renews.ask(r#"{"method":"list"}"#)["result"].as_array().unwrap().len(), 1);
    let answer = refused(&server, "", &bearer(&soon));
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("expired"), "{answer}");
}

#[test]
fn rules_that_change_take_from_those_who_are_in_what_they_lost() {
    let folder = Folder::new();
    let rights = "subscribe = [\"a\", \"b\"]\npublish = [\">\"]";
    let (access, credential) = rules(&folder, rights, "");
    let server = Server::start(&format!("--access {access}"));
    let (mut client, _) = welcomed(&server, "", &bearer(&credential));
    assert_eq!(client.subscribe(&["a", "b"])["success"], true);
    let mut producer = server.producer();
    producer.send(&format!("{}\n", auth(&credential)));
    assert_eq!(producer.reply(), json!({"auth": true}));
    let change = |text: &str| {
        std::fs::write(&access, text).unwrap();
        server.signal("HUP");
    };
    let before = std::fs::read_to_string(&access).unwrap();
    change(&before.replace("[\"a\", \"b\"]", "[\"b\"]"));
    let notice = client.json();
    assert_eq!((&notice["channels"], &notice["cause"]), (&json!(["a"]), &json!("forbidden")));
    // Rules that cannot be used change nothing, and the log says why.
    change("nonsense");
    eventually("the mistake is named", || server.log().contains("access.toml:1: "));
    producer.publish("b", "1");
    assert_eq!(client.data(), "1");
    welcomed(&server, "", &bearer(&credential));
    // The key is gone.
    change("[anonymous]\nsubscribe = [\">\"]");
    assert_eq!(client.closed(), 4003);
    // Also that of a producer that sends nothing.
    assert_eq!(producer.reply()["error"]["code"], "auth_revoked");
    assert!(producer.has_ended());
    let answer = refused(&server, "", &bearer(&credential));
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn a_producer_shows_its_credential_first_and_publishes_where_it_may() {
    let folder = Folder::new();
    let more = "[anonymous]\nsubscribe = [\">\"]";
    let (access, credential) = rules(&folder, "publish = [\"quote.*\"]", more);
    let path = folder.path("f.sock");
    let sources = ["tcp://127.0.0.1:0", &format!("unix://{path}?mode=620")];
    let server = Server::with_sources(&sources, &format!("--access {access}"));
    assert_eq!(server.sources[1], format!("unix://{path}"));
    let mut client = Client::subscribed_to_all(&server, ">");

    let mut hasty = server.producer();
    hasty.publish("quote.a", "0");
    let reply = hasty.reply();
    assert_eq!(reply["error"]["code"], "auth_required", "{reply}");
    assert!(hasty.has_ended());
    let mut wrong = server.producer();
    wrong.send(&format!("{}\n{}", auth("desk-7.wrong"), line("quote.a", "0")));
    assert_eq!(wrong.reply()["error"]["code"], "auth_failed");
    assert!(wrong.has_ended());

    let mut producer = server.producer();
    let lines = [line("quote.a", "1"), line("trade.a", "2"), "{}\n".into(), line("quote.b", "3")];
    producer.send(&format!("{}\n{}", auth(&credential), lines.concat()));
    assert_eq!(producer.reply(), json!({"auth": true}));
    let reply = producer.reply();
    assert_eq!((&reply["line"], &reply["error"]["code"]), (&json!(2), &json!("forbidden")));
    assert_eq!(producer.reply()["line"], 3, "the line with the credential does not count");
    // Whoever can open the socket's file may publish.
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o620);
    Producer::new(UnixStream::connect(&path).unwrap()).publish("trade.a", "4");
    assert_eq!([(); 3].map(|()| client.data()), ["1", "3", "4"]);
    client.hears_nothing_more();
}

#[test]
fn strangers_at_a_source_take_no_place_of_those_who_may_publish() {
    const EACH: usize = 600;
    let folder = Folder::new();
    let more = "[anonymous]\nsubscribe = [\">\"]";
    let (access, credential) = rules(&folder, "publish = [\">\"]", more);
    let own = folder.file("own.pem", &Authority::new().issue(&["localhost"]));
    let path = folder.path("f.sock");
    let sources = ["tcp://127.0.0.1:0", "tls://127.0.0.1:0", &format!("unix://{path}")];
    let tls = format!("--tls-listen 127.0.0.1:0 --tls-certificates {own}");
    let flags = format!("--access {access} --auth-timeout 6s {tls}");
    let server = Server::with_sources(&sources, &flags);
    let mut client = Client::subscribed_to_all(&server, ">");

    // Together more than there may be producers.
    let [mut plain, mut sealed] = [0, 1].map(|source: usize| {
        let address = server.sources[source][6..].parse().unwrap();
        (0..EACH).map(|_| connect(address)).collect::<Vec<_>>()
    });
    let mut last = Producer::new(plain.pop().unwrap());
    let reply = last.reply();
    assert_eq!(reply["error"]["code"], "too_many_producers", "{reply}");
    assert!(last.has_ended());
    assert!(matches!(sealed.pop().unwrap().read(&mut [0; 8]), Ok(0) | Err(_)));
    Producer::new(UnixStream::connect(&path).unwrap()).publish("a", "1");
    assert_eq!(client.data(), "1");

    let is_let_in = || {
        let mut producer = connect(plain[0].peer_addr().unwrap());
        let mut reply = String::new();
        // One that is refused may be cut before it has read why.
        let _ = producer.write_all(format!("{}\n", auth(&credential)).as_bytes());
        let heard = BufReader::new(producer).read_line(&mut reply);
        heard.is_ok() && reply == "{\"auth\":true}\n"
    };
    eventually("the strangers' time is over", is_let_in);
    let reply = Producer::new(plain.swap_remove(0)).reply();
    assert_eq!(reply["error"]["code"], "auth_required", "{reply}");
}

#[test]
fn fanfare_publish_shows_a_token_from_a_file_or_the_environment() {
    let folder = Folder::new();
    let more = "[anonymous]\nsubscribe = [\">\"]";
    let (access, credential) = rules(&folder, "publish = [\">\"]", more);
    let server = Server::start(&format!("--access {access}"));
    let mut client = Client::subscribed(&server, ">");
    let events = folder.file("events", &line("a", "1"));
    let publish = |flag: &[&str], variable: Option<&str>| -> Output {
        let mut command = fanfare("publish");
        command.arg(&server.sources[0]).arg(&events).args(flag);
        command.env_remove("FANFARE_TOKEN").envs(variable.map(|token| ("FANFARE_TOKEN", token)));
        command.output().unwrap()
    };
    let file = folder.file("token", &format!("{credential}\n"));
    for output in [publish(&["--token-file", &file], None), publish(&[], Some(&credential))] {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.contains("1 lines"), "{said}");
        assert_eq!(client.data(), "1");
    }
    let output = publish(&[], Some("desk-7.wrong"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("refused the credential") && said.contains("auth_failed"), "{said}");
    assert!(!said.contains("wrong"), "{said}");
    assert_eq!(publish(&[], None).status.code(), Some(1));
    client.hears_nothing_more();
}
