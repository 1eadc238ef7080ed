//! What the table of sockets keeps, finds and lets go.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use super::*;

const fn id(index: u32, generation: u32) -> ConnectionId {
    ConnectionId { index, generation }
}

/// The table with one connection, and its peer.
fn one() -> (Sockets, UnixStream) {
    let mut sockets = Sockets::new(4).unwrap();
    let peer = add(&mut sockets, id(0, 1));
    (sockets, peer)
}

fn add(sockets: &mut Sockets, id: ConnectionId) -> UnixStream {
    let (ours, peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    sockets.insert(id, ours.into(), None, None).unwrap();
    peer
}

fn readable(sockets: &mut Sockets) -> Vec<ConnectionId> {
    sockets.look(|_| ());
    std::iter::from_fn(|| sockets.next_readable().map(|(id, _)| id)).collect()
}

#[test]
fn who_has_something_to_read_has_a_turn_and_only_one() {
    let (mut sockets, mut first) = one();
    let mut second = add(&mut sockets, id(3, 2));
    assert!(readable(&mut sockets).is_empty());
    second.write_all(b"a").unwrap();
    sockets.look(|_| ());
    first.write_all(b"a").unwrap();
    second.write_all(b"a").unwrap();
    assert_eq!(readable(&mut sockets), [id(3, 2), id(0, 1)]);
    assert!(readable(&mut sockets).is_empty(), "nothing has changed since");
    sockets.has_read(id(0, 1));
    assert_eq!(readable(&mut sockets), [id(0, 1)], "it has not read all");
    drop(first);
    assert_eq!(readable(&mut sockets), [id(0, 1)], "the end is something to read");
}

#[test]
fn what_came_for_a_connection_that_is_gone_finds_nobody() {
    let (mut sockets, mut peer) = one();
    peer.write_all(b"a").unwrap();
    sockets.look(|_| ());
    sockets.let_go(id(0, 1), Shutdown::Both, 0);
    let _peer = add(&mut sockets, id(0, 2));
    assert!(readable(&mut sockets).is_empty(), "the next one of its place has nothing");
    assert!(sockets.route(id(0, 1)).is_none() && sockets.route(id(0, 2)).is_some());
    sockets.let_go(id(0, 1), Shutdown::Both, 0);
    assert!(sockets.route(id(0, 2)).is_some(), "and is not let go of in its stead");
}

#[test]
fn a_half_open_socket_is_read_until_its_peer_ends_or_its_time_is_over() {
    let (mut sockets, mut patient) = one();
    let late = add(&mut sockets, id(1, 2));
    sockets.let_go(id(0, 1), Shutdown::Write, 0);
    sockets.let_go(id(1, 2), Shutdown::Write, 1);
    assert_eq!(patient.read(&mut [0]).unwrap(), 0, "it was told");
    patient.write_all(b"a").unwrap();
    assert_eq!(readable(&mut sockets), [id(0, 1)]);
    sockets.has_ended(id(0, 1));
    assert_eq!(patient.write(b"a").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let deadline_ns = 1 + CLOSE_MS * 1_000_000;
    sockets.close_late(deadline_ns - 1);
    (&late).write_all(b"a").unwrap();
    sockets.close_late(deadline_ns);
    assert_eq!((&late).write(b"a").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(sockets.half_open.is_empty() && sockets.deadlines.is_empty());
}

#[test]
fn a_full_socket_is_reported_once_it_has_room() {
    let (mut sockets, mut peer) = one();
    let reports = |sockets: &mut Sockets| {
        let mut found = Vec::new();
        sockets.look(|id| found.push(id));
        found
    };
    assert!(reports(&mut sockets).is_empty(), "nobody waits");
    let mut filled = 0;
    let ours = sockets.open(id(0, 1)).unwrap().descriptor.try_clone().unwrap();
    let mut ours = UnixStream::from(ours);
    while let Ok(count) = ours.write(&[0; 4_096]) {
        filled += count;
    }
    sockets.wait_for_room(id(0, 1));
    assert!(reports(&mut sockets).is_empty(), "it is full");
    peer.read_exact(&mut vec![0; filled]).unwrap();
    assert_eq!(reports(&mut sockets), [id(0, 1)]);
    assert!(reports(&mut sockets).is_empty(), "it was told");
    sockets.wait_for_room(id(0, 1));
    assert_eq!(reports(&mut sockets), [id(0, 1)], "there was room already");
}
