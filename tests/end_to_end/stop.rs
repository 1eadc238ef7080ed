//! The orderly stop: what clients see, how long it may take, and the exit code.

use std::io::Write;
use std::net::TcpListener;

use fanfare::protocol::ws::frame::Opcode;

use crate::support::{
    Client, Heard, KEY, Server, connect, eventually, fanfare, read_to_end, signal as send_signal,
};

#[test]
fn a_signal_closes_every_client_after_its_last_event_and_the_program_ends_with_0() {
    for signal in ["INT", "TERM"] {
        let mut server = Server::start("--drain 0ms");
        let mut witness = Client::subscribed(&server, ">");
        let mut client = Client::subscribed(&server, ">");
        let mut producer = server.producer();
        for number in 1..=100 {
            producer.publish("a", &number.to_string());
        }
        eventually("both were sent everything", || server.counter("deliveries") == 200);
        server.signal(signal);
        for client in [&mut witness, &mut client] {
            for seq in 1..=100 {
                assert_eq!(client.event().seq, seq);
            }
            assert_eq!(client.closed(), 1001);
        }
        assert_eq!(server.end().code(), Some(0), "{}", server.log());
    }
}

#[test]
fn a_client_that_never_answers_the_close_is_cut_in_time() {
    let mut server = Server::start("--stop-timeout 300ms");
    let mut mute = Client::subscribed(&server, ">");
    let _half_open = connect(server.listen);
    server.signal("INT");
    assert!(matches!(mute.hear(), Heard::Close(Some(1001), _)));
    assert_eq!(server.end().code(), Some(0));
    assert!(server.log().contains("1 connections did not close in time"), "{}", server.log());
}

#[test]
fn a_second_signal_ends_the_wait_at_once() {
    let mut server = Server::start("--stop-timeout 5m");
    let mut mute = Client::subscribed(&server, ">");
    server.signal("INT");
    assert!(matches!(mute.hear(), Heard::Close(Some(1001), _)));
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_signal_before_it_serves_ends_the_program_at_once() {
    for signal in ["INT", "TERM"] {
        // A server of streams that takes the connection and says nothing.
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = mute.local_addr().unwrap();
        let source = format!("nats://{address}/MD");
        let program = fanfare(&format!("serve --listen 127.0.0.1:0 --source {source}")).spawn();
        let mut program = program.unwrap();
        let _waits = mute.accept().unwrap();
        send_signal(program.id(), signal);
        assert_eq!(program.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_client_that_closes_first_is_not_waited_for() {
    let mut server = Server::start("--stop-timeout 1m");
    let mut client = Client::subscribed(&server, ">");
    client.send(Opcode::Close, b"\x03\xe8");
    assert!(matches!(client.hear(), Heard::Close(Some(1000), _)));
    assert_eq!(client.hear(), Heard::End);
    server.signal("TERM");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn an_upgrade_that_completes_during_the_stop_is_refused_and_not_waited_for() {
    let mut server = Server::start("--cores 0 --stop-timeout 1m");
    let mut late = connect(server.listen);
    late.write_all(b"GET /v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n").unwrap();
    // Accepted after the one above, so that one is in its upgrade; it holds the stop open.
    let mut witness = Client::subscribed(&server, ">");
    server.signal("INT");
    assert!(matches!(witness.hear(), Heard::Close(Some(1001), _)));
    let rest = format!(
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    late.write_all(rest.as_bytes()).unwrap();
    assert!(read_to_end(&mut late).starts_with("HTTP/1.1 503 "));
    witness.send(Opcode::Close, b"\x03\xe9");
    assert_eq!(server.end().code(), Some(0));
}
