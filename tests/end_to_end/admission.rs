//! Who may come in, how many and how fast; and that those who never finish or vanish leave nothing.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fanfare::protocol::ws::client;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::SockRef;

use crate::support::{
    Client, Folder, KEY, Server, asks, connect, eventually, fanfare, read_to_end, refusal,
};
use crate::tls;

/// Asks to come in, and is refused; its seconds to wait.
fn refused(server: &Server, status: &str) -> u32 {
    let answer = refusal(server);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
    let wait = answer.split("Retry-After: ").nth(1).expect("a time to wait");
    wait.split("\r\n").next().unwrap().parse().unwrap()
}

/// Ends a connection with a reset, as a client that has crashed.
fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The first message of a client of TLS.
fn hello() -> Vec<u8> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
    let config = Arc::new(config.with_no_client_auth());
    let mut session = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn one_handshake_more_than_may_be_under_way_is_answered_503() {
    let server = Server::start("--cores 0 --handshakes-max 2");
    let half_open: Vec<_> = (0..2).map(|_| connect(server.listen)).collect();
    eventually("both are under way", || server.counter("handshakes") == 2);
    let waits: Vec<_> = (0..20).map(|_| refused(&server, "503 Service Unavailable")).collect();
    assert!(waits.iter().any(|wait| *wait != waits[0]), "not all come back at once: {waits:?}");
    assert_eq!(server.counter("refused_capacity"), 20);
    drop(half_open);
    eventually("both are gone", || server.counter("handshakes") == 0);
    Client::connect(&server);
}

#[test]
fn one_connection_more_than_an_address_may_have_is_answered_429() {
    let server = Server::start("--address-connections-max 2");
    let first = Client::connect(&server);
    let _second = Client::connect(&server);
    refused(&server, "429 Too Many Requests");
    assert_eq!(server.counter("refused_limit"), 1);
    drop(first);
    eventually("it is gone", || server.counter("connections") == 1);
    Client::connect(&server);
}

#[test]
fn an_address_that_comes_too_often_is_answered_429() {
    let server = Server::start("--address-accept-rate 3");
    // The first three in one go, then three a second: who does not stop is refused.
    (0..3).for_each(|_| drop(Client::connect(&server)));
    eventually("one is refused", || {
        let mut status = [0; 12];
        asks(&server).read_exact(&mut status).unwrap();
        status == *b"HTTP/1.1 429"
    });
}

#[test]
fn an_address_over_its_limit_is_told_so_over_tls_some_times_a_minute_and_then_cut() {
    let flags = "--cores 0 --address-connections-max 1";
    let (server, authority, _folder) = tls::serve(flags);
    let config = authority.any_client();
    let open = || tls::over(connect(server.tls.unwrap()), &config, "localhost");
    let _first = Client::upgrade(open());
    let told = (0..60).filter(|_| {
        let mut request = Vec::new();
        client::write_request(&mut request, "localhost", "/v1", KEY, None, None);
        let (mut stream, mut status) = (open(), [0; 12]);
        // Or it is cut, before anything was worked out for it.
        let told = stream.write_all(&request).and_then(|()| stream.read_exact(&mut status));
        told.is_ok() && status == *b"HTTP/1.1 429"
    });
    let told = told.count() as u64;
    assert!((1..=20).contains(&told), "{told} of 60");
    assert_eq!(server.counter("refused_limit"), 60);
    assert_eq!(server.counter("tls_handshakes"), 1 + told);
}

#[test]
fn refusals_leave_descriptors_for_what_else_the_server_does() {
    let folder = Folder::new();
    let (control, journal) = (folder.path("control.sock"), folder.path("journal"));
    let access = "[anonymous]\nsubscribe = [\">\"]\npublish = [\">\"]\n";
    let access = folder.file("access.toml", access);
    let program = env!("CARGO_BIN_EXE_fanfare");
    let script = format!(
        "ulimit -n 400; exec {program} serve --listen 127.0.0.1:0 --admin 127.0.0.1:0 --cores 0 \
         --source tcp://127.0.0.1:0 --heartbeat 1m --ping-interval 0ms --idle-timeout 0ms \
         --control {control} --access {access} --journal {journal} --journal-bytes 1MiB"
    );
    let mut limited = Command::new("sh");
    limited.args(["-c", &script]);
    let server = Server::launch(limited);
    let mut producer = server.producer();
    let mut full = Vec::new();
    eventually("it is full", || {
        let mut stream = asks(&server);
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        full.push(stream);
        status == *b"HTTP/1.1 503"
    });
    assert!(full.len() > 200, "{} clients are in", full.len());

    // Others come and say nothing, more than the server may keep.
    let is_over = AtomicBool::new(false);
    let listen = server.listen;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut silent = VecDeque::new();
            while !is_over.load(Ordering::Relaxed) {
                silent.push_back(connect(listen));
                if silent.len() > 300 {
                    silent.pop_front();
                }
            }
        });
        let refused = server.counter("refused");
        eventually("many are refused", || server.counter("refused") > refused + 1_000);
        for _ in 0..3 {
            let output = fanfare(&format!("reload {control}")).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "reloaded: access rules\n");
            // Some segments of the journal.
            producer.publish("a", &format!("\"{}\"", "x".repeat(500_000)));
        }
        eventually("all is written", || server.stats()["ingest"]["journal_seq"] == 3);
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.stats()["ingest"]["journal_is_degraded"], 0);
    assert!(!server.log().contains("Too many open files"), "{}", server.log());
}

#[test]
fn connections_over_the_rate_of_a_shard_wait_and_are_not_refused() {
    let server = Server::start("--cores 0 --accept-rate 20");
    let begun = Instant::now();
    let clients: Vec<_> = (0..10).map(|_| Client::connect(&server)).collect();
    assert!(begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!((clients.len(), server.counter("refused")), (10, 0));
}

#[test]
fn two_thousand_half_open_handshakes_leave_a_healthy_client_alone_and_nothing_behind() {
    let (server, _authority, _folder) = tls::serve("--cores 0 --upgrade-timeout 8s --heartbeat 1m");
    let mut healthy = Client::subscribed(&server, ">");
    let mut producer = server.producer();
    producer.publish("a", "1");
    assert_eq!(healthy.event().seq, 1, "all is open");
    let descriptors = server.descriptors();
    let mut half_open: Vec<_> = (0..1_000)
        .map(|number| {
            let mut stream = connect(server.listen);
            let part = &b"GET /v1 HTTP/1.1\r\nHost: x\r\nX-Slow: ";
            stream.write_all(&part[..1 + number % (part.len() - 1)]).unwrap();
            stream
        })
        .collect();
    let hello = hello();
    let half_secure: Vec<_> = (0..1_000)
        .map(|number| {
            let mut stream = connect(server.tls.unwrap());
            stream.write_all(&hello[..1 + number % (hello.len() - 1)]).unwrap();
            stream
        })
        .collect();
    eventually("all are under way", || server.counter("handshakes") == 2_000);
    for seq in 2..=200 {
        producer.publish("a", &seq.to_string());
        assert_eq!(healthy.event().seq, seq);
        // One more byte of each, which is as far as they ever come.
        let stream = &mut half_open[usize::try_from(seq).unwrap()];
        stream.write_all(b"x").unwrap();
    }
    assert!(read_to_end(&mut half_open[500]).starts_with("HTTP/1.1 408 "));
    drop((half_open, half_secure));
    eventually("all are gone", || server.counter("handshakes") == 0);
    eventually("with their descriptors", || server.descriptors() <= descriptors);
    producer.publish("a", "201");
    assert_eq!(healthy.event().seq, 201);
}

#[test]
fn a_hundred_thousand_connections_that_vanish_leave_nothing_behind() {
    const ROUNDS: usize = 500;
    const TOGETHER: usize = 200;
    let flags = "--cores 0 --address-connections-max 250 --heartbeat 1m --ping-interval 0ms";
    let server = Server::start(flags);
    let mut healthy = Client::subscribed(&server, ">");
    assert_eq!(server.counter("connections"), 1, "all threads have begun");
    let descriptors = server.descriptors();
    for round in 0..ROUNDS {
        // Some right after they were taken, some within their request, some behind it, some open.
        let streams: Vec<_> = (0..TOGETHER).map(|_| connect(server.listen)).collect();
        for (number, mut stream) in streams.into_iter().enumerate() {
            let request = "GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\
                           \r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                           dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            let len = (number * 7 + round) % (request.len() + 30);
            stream.write_all(&request.as_bytes()[..len.min(request.len())]).unwrap();
            reset(&stream);
        }
        eventually("the round is over", || {
            server.counter("connections") == 1 && server.counter("handshakes") == 0
        });
    }
    eventually("no descriptor is left", || server.descriptors() <= descriptors);
    let others: Vec<_> = (0..249).map(|_| Client::connect(&server)).collect();
    refused(&server, "429 Too Many Requests");
    assert_eq!(others.len(), 249, "the address has all of its connections again");
    healthy.hears_nothing_more();
}
