//! The opening handshake from outside: what is accepted, and how everything else is refused.

use std::io::Write;
use std::thread;

use fanfare::protocol::ws::frame::{Opcode, write_masked};

use crate::support::{ACCEPT, Client, KEY, Server, connect, read_to_end};

fn request(first: &str, headers: &str) -> String {
    format!(
        "{first}\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

fn answer(server: &Server, request: &str) -> String {
    let mut stream = connect(server.listen);
    stream.write_all(request.as_bytes()).unwrap();
    read_to_end(&mut stream)
}

/// The head of the answer to a request that is accepted.
fn accepted_head(server: &Server, headers: &str) -> String {
    let mut stream = connect(server.listen);
    stream.write_all(request("GET /v1 HTTP/1.1", headers).as_bytes()).unwrap();
    // An empty close ends the conversation, so that the answer can be read to its end.
    let mut close = Vec::new();
    write_masked(&mut close, Opcode::Close, b"", [9; 4]);
    stream.write_all(&close).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_once("\r\n\r\n").expect("a whole head").0.to_owned()
}

#[test]
fn an_upgrade_is_accepted_and_names_the_sub_protocol_only_when_it_was_offered() {
    let server = Server::start("");
    let version = "Sec-WebSocket-Version: 13\r\n";
    let offered = format!("{version}Sec-WebSocket-Protocol: graphql-ws, fanfare.v1.json\r\n");
    let head = accepted_head(&server, &offered);
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains(&format!("Sec-WebSocket-Accept: {ACCEPT}")), "{head}");
    assert!(head.contains("Sec-WebSocket-Protocol: fanfare.v1.json"), "{head}");
    let foreign = format!("{version}Sec-WebSocket-Protocol: graphql-ws\r\n");
    for headers in [version, &foreign] {
        let head = accepted_head(&server, headers);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(!head.contains("Sec-WebSocket-Protocol"), "{head}");
    }
}

#[test]
fn every_refusal_is_a_whole_http_answer_with_the_cure() {
    let server = Server::start("");
    let version = "Sec-WebSocket-Version: 13\r\n";
    let large = format!("{version}Cookie: {}\r\n", "x".repeat(9_000));
    let many = format!("{version}{}", "A: b\r\n".repeat(70));
    for (request, status, header) in [
        (request("GET / HTTP/1.1", version), "404 Not Found", ""),
        (request("POST /v1 HTTP/1.1", version), "405 Method Not Allowed", "Allow: GET"),
        (request("GET /v1 HTTP/1.0", version), "400 Bad Request", ""),
        (request("GET /v1 HTTP/1.1", &format!("{version}Content-Length: 1\r\n")), "400 ", ""),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".into(), "400 Bad Request", ""),
        ("GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n".into(), "426 ", "Upgrade: websocket"),
        (
            request("GET /v1 HTTP/1.1", "Sec-WebSocket-Version: 8\r\n"),
            "426 ",
            "Sec-WebSocket-Version: 13",
        ),
        (request("GET /v1 HTTP/1.1", &large), "431 ", ""),
        (request("GET /v1 HTTP/1.1", &many), "431 ", ""),
    ] {
        let answer = answer(&server, &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(header.is_empty() || answer.contains(&format!("\r\n{header}\r\n")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = format!("Content-Length: {}", body.len());
        assert!(body.ends_with('\n') && head.contains(&length), "{answer}");
    }
    Client::connect(&server);
}

#[test]
fn a_request_that_never_ends_is_answered_408() {
    let server = Server::start("--upgrade-timeout 2s");
    let whole = request("GET /v1 HTTP/1.1", "");
    let answer = answer(&server, whole.trim_end());
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    Client::connect(&server);
}

#[test]
fn one_connection_more_than_there_is_room_for_is_answered_503() {
    let server = Server::start("--cores 0 --connections-max 1");
    let _held = Client::connect(&server);
    let answer = answer(&server, &request("GET /v1 HTTP/1.1", "Sec-WebSocket-Version: 13\r\n"));
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\nRetry-After: "), "{answer}");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Server::start("");
    let mut stream = connect(server.listen);
    stream.set_nodelay(true).unwrap();
    for byte in request("GET /v1 HTTP/1.1", "Sec-WebSocket-Version: 13\r\n").bytes() {
        stream.write_all(&[byte]).unwrap();
        thread::yield_now();
    }
    assert_eq!(Client::accepted(stream).json()["type"], "welcome");
}

#[test]
fn commands_behind_the_request_in_one_segment_are_answered() {
    let server = Server::start("");
    let mut bytes = request("GET /v1 HTTP/1.1", "Sec-WebSocket-Version: 13\r\n").into_bytes();
    for number in 1..=3 {
        let command = format!(r#"{{"method":"ping","req_id":{number}}}"#);
        write_masked(&mut bytes, Opcode::Text, command.as_bytes(), [number; 4]);
    }
    let mut stream = connect(server.listen);
    stream.write_all(&bytes).unwrap();
    let mut client = Client::accepted(stream);
    assert_eq!(client.json()["type"], "welcome");
    for number in 1..=3 {
        assert_eq!(client.json()["req_id"], number);
    }
}
