//! The drain: clients are told, go one by one, and the program ends with 0 when all have gone.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Client, Heard, Server, eventually, refusal};

/// The next notice of a drain, whatever comes before it.
pub(crate) fn notice(client: &mut Client) -> Value {
    loop {
        let message = client.json();
        if message["type"] == "drain" {
            return message;
        }
    }
}

/// Reads on until the close, and answers it; its code.
fn left(client: &mut Client) -> u16 {
    loop {
        match client.hear() {
            Heard::Text(_) => {}
            Heard::Close(Some(code), _) => {
                client.send(fanfare::protocol::ws::frame::Opcode::Close, &code.to_be_bytes());
                return code;
            }
            other => panic!("a close was due, not {other:?}"),
        }
    }
}

#[test]
fn sigterm_sends_the_clients_away_one_by_one_and_ends_with_0() {
    let mut server = Server::start("--drain 5s --drain-to wss://b.example/v1");
    let mut clients: Vec<_> = (0..24).map(|_| Client::subscribed(&server, ">")).collect();
    assert!(server.admin("/readyz").starts_with("HTTP/1.1 200 OK"));
    let begun = Instant::now();
    server.signal("TERM");
    eventually("it is not ready any more", || server.admin("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(server.admin("/healthz").starts_with("HTTP/1.1 200 OK"), "it is alive all the same");
    let answer = refusal(&server);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");

    let mut waits_ms: Vec<_> = (clients.iter_mut())
        .map(|client| {
            let notice = notice(client);
            assert_eq!(notice["to"], serde_json::json!(["wss://b.example/v1"]), "{notice}");
            let deadline_ms = notice["deadline_ms"].as_u64().unwrap();
            let wait_ms = notice["retry_after_ms"].as_u64().unwrap();
            assert!(wait_ms <= deadline_ms && deadline_ms <= 5_000, "{notice}");
            wait_ms
        })
        .collect();
    // The feed goes on for those who are still here.
    server.producer().publish("a", "1");
    for (client, wait_ms) in clients.iter_mut().zip(&waits_ms) {
        assert_eq!(left(client), 1012);
        let stayed = begun.elapsed();
        assert!(stayed >= Duration::from_millis(*wait_ms), "{stayed:?} of {wait_ms} ms");
    }
    waits_ms.sort_unstable();
    assert!(waits_ms[0] + 1_000 < waits_ms[23], "told to go at different times: {waits_ms:?}");
    assert_eq!(server.end().code(), Some(0), "{}", server.log());
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let mut server = Server::start("--drain 60m");
    let mut client = Client::subscribed(&server, ">");
    server.signal("TERM");
    notice(&mut client);
    server.signal("TERM");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_drain_does_not_wait_once_nobody_is_left() {
    let mut server = Server::start("--drain 60m");
    let client = Client::subscribed(&server, ">");
    drop(client);
    server.signal("TERM");
    assert_eq!(server.end().code(), Some(0));
}
