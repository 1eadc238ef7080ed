//! The floor over real sockets.
//!
//! Not here: how quick it is. Invariant: what the producer sent is what every subscriber gets.

use std::io::{Read, Write as _};

use fanfare::protocol::ws::frame::{Opcode, write_frame};
use rustls::StreamOwned;

use super::*;

const LINE: &[u8] = br#"{"n":"000000000017","x":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;

#[test]
fn every_subscriber_gets_the_same_frames() {
    let (listen, mut producer) = start(RING_BYTES);
    let mut clients: Vec<_> = (0..3).map(|_| subscribed(listen, &mut producer)).collect();
    let (mut lines, mut expected) = (Vec::new(), Vec::new());
    for number in 0..1_000 {
        let payload = vec![b'a' + u8::try_from(number % 26).unwrap(); 1 + number % 300];
        lines.extend_from_slice(&payload);
        lines.push(b'\n');
        expected.extend_from_slice(&frame(&payload));
    }
    // A line may come in pieces.
    for piece in lines.chunks(1_001) {
        producer.write_all(piece).unwrap();
    }
    for client in &mut clients {
        assert!(read(client, expected.len()) == expected);
    }
}

#[test]
fn over_tls_every_subscriber_gets_the_same_frames() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.pem");
    let pem = made.cert.pem();
    std::fs::write(&file, format!("{pem}{}", made.signing_key.serialize_pem())).unwrap();
    let (listen, mut producer) = start_with(RING_BYTES, Some(Sealer::new(&file).unwrap()));
    let config = crate::subscribers::tls(&pem).unwrap();
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let stream = TcpStream::connect(listen).unwrap();
            let mut client = StreamOwned::new(crate::subscribers::session(&config), stream);
            client.conn.complete_io(&mut client.sock).unwrap();
            client
        })
        .collect();
    // Whoever has finished its handshake gets what comes from then on, at the latest this.
    for client in &mut clients {
        client.sock.set_nonblocking(true).unwrap();
        while client.sock.peek(&mut [0]).is_err() {
            producer.write_all(b"\n").unwrap();
            std::thread::yield_now();
        }
        client.sock.set_nonblocking(false).unwrap();
    }
    // Longer than a record, and than what is sealed at once.
    let payloads = [b"a".repeat(100), b"b".repeat(200_000), b"c".repeat(100)];
    let expected: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
    producer.write_all(&[payloads.join(&b"\n"[..]), b"\n".to_vec()].concat()).unwrap();
    for client in &mut clients {
        assert!(read(client, expected.len()) == expected);
    }
}

#[test]
fn a_new_producer_takes_over_when_one_leaves() {
    let (listen, mut producer) = start(RING_BYTES);
    let mut client = subscribed(listen, &mut producer);
    let feed = producer.peer_addr().unwrap();
    producer.write_all(b"half a line").unwrap();
    drop(producer);
    TcpStream::connect(feed).unwrap().write_all(&[LINE, b"\n"].concat()).unwrap();
    assert_eq!(read(&mut client, LINE.len() + 2), frame(LINE));
}

#[test]
fn who_is_overtaken_is_closed_and_the_others_miss_nothing() {
    let (listen, mut producer) = start(4 * READ_BYTES);
    let mut healthy = subscribed(listen, &mut producer);
    let mut stalled = subscribed(listen, &mut producer);
    let count = READ_BYTES / (LINE.len() + 1);
    let (piece, frames) = ([LINE, b"\n"].concat().repeat(count), frame(LINE).repeat(count));
    // More than the ring and what the kernel keeps for a socket (net.ipv4.tcp_rmem).
    let pieces = 64;
    for _ in 0..pieces {
        producer.write_all(&piece).unwrap();
        assert!(read(&mut healthy, frames.len()) == frames);
    }
    let mut got = Vec::new();
    let _ = stalled.read_to_end(&mut got);
    assert!(got.len() < pieces * frames.len(), "all {} bytes came", got.len());
    let mut late = subscribed(listen, &mut producer);
    producer.write_all(&piece).unwrap();
    assert!(read(&mut late, frames.len()) == frames, "the place of who was closed is free");
}

/// A floor that runs: where its subscribers connect, and its producer.
fn start(ring_bytes: usize) -> (SocketAddr, TcpStream) {
    start_with(ring_bytes, None)
}

fn start_with(ring_bytes: usize, sealer: Option<Sealer>) -> (SocketAddr, TcpStream) {
    let any = || bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (subscribers, feed) = (any(), any());
    let listen = subscribers.local_addr().unwrap();
    let producer = TcpStream::connect(feed.local_addr().unwrap()).unwrap();
    // The ring belongs to the thread that makes it.
    std::thread::spawn(move || Floor::new(subscribers, feed, ring_bytes, sealer).unwrap().run());
    (listen, producer)
}

/// A subscriber that was accepted: it has got an empty frame, as all before it have.
fn subscribed(listen: SocketAddr, producer: &mut TcpStream) -> TcpStream {
    let client = TcpStream::connect(listen).unwrap();
    client.set_nonblocking(true).unwrap();
    while client.peek(&mut [0]).is_err() {
        producer.write_all(b"\n").unwrap();
        std::thread::yield_now();
    }
    client.set_nonblocking(false).unwrap();
    client
}

/// The next `length` bytes behind empty frames.
fn read(client: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = frame(b"");
    while bytes == frame(b"") {
        client.read_exact(&mut bytes).unwrap();
    }
    bytes.resize(length, 0);
    client.read_exact(&mut bytes[2..]).unwrap();
    bytes
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, Opcode::Text, payload);
    bytes
}
