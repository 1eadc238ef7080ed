//! A relay to the server that resets some of its connections, for clients whose sockets are theirs.
//!
//! Not here: clients. Invariant: once it is calm nothing is reset, and who connects while there is
//! no server waits for it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::Weather;
use super::plan::Dice;
use crate::support::PATIENCE;

/// Of the bytes after which a connection is reset, at most: 2^24. At least [`FUSE_BYTES_MIN`],
/// because a first connection that cannot be made is the end for a client of the library.
const FUSE_BITS: u64 = 24;
const FUSE_BYTES_MIN: u64 = 1_024;

/// Between two attempts to reach the server.
const RETRY: Duration = Duration::from_millis(20);

/// Begins to relay; its address. It goes on for as long as the process lives.
pub(crate) fn to(server: SocketAddr, weather: &Arc<Weather>, mut dice: Dice) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = listener.local_addr().unwrap();
    let weather = Arc::clone(weather);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let fuse_bytes =
                if dice.one_in(2) { FUSE_BYTES_MIN + dice.scale(FUSE_BITS) } else { u64::MAX };
            let weather = Arc::clone(&weather);
            thread::spawn(move || relay(&client, server, fuse_bytes, &weather));
        }
    });
    listen
}

fn relay(client: &TcpStream, server: SocketAddr, fuse_bytes: u64, weather: &Weather) {
    let begun = Instant::now();
    let server = loop {
        match TcpStream::connect(server) {
            Ok(server) => break server,
            Err(_) if begun.elapsed() < PATIENCE => thread::sleep(RETRY),
            Err(_) => return,
        }
    };
    let (mut up_from, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ended = std::io::copy(&mut up_from, &mut up_to);
        let _gone = up_to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to, mut total) = (&server, client, 0);
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        total += count as u64;
        if total >= fuse_bytes && !weather.is_calm() {
            for stream in [client, &server] {
                SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            break;
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _gone = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}
