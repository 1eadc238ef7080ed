//! How commands end when nobody reads what they say, or nobody takes what they send.
//!
//! Not here: what they do otherwise (`recovery_clients`, `recording`, `sources`).

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::{Folder, Server, Started, eventually, fanfare, signal};

/// A pipe whose reader has gone.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn started(command: &mut Command) -> Started {
    Started(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
}

#[test]
fn a_command_goes_on_when_nobody_reads_its_standard_error() {
    let server = Server::start("");
    let line = format!("subscribe ws://{} a --table --count 1", server.listen);
    let mut subscriber = started(fanfare(&line).stderr(unread()));
    eventually("it has subscribed", || server.counter("subscribed") == 1);
    server.producer().publish("a", "1");
    assert_eq!(subscriber.end().code(), Some(0));

    let folder = Folder::new();
    let file = folder.file("events", "no event\n{\"channel\":\"a\",\"data\":3}\n");
    let mut publisher =
        started(fanfare(&format!("publish {} {file}", server.sources[0])).stderr(unread()));
    assert_eq!(publisher.end().code(), Some(1), "one line was refused");
}

#[test]
fn what_a_closed_pipe_did_not_take_is_not_said_to_be_there() {
    let server = Server::start("");
    let mut command = fanfare(&format!("subscribe ws://{} a --table", server.listen));
    command.stdin(Stdio::null()).stdout(unread()).stderr(Stdio::piped());
    let subscriber = command.spawn().unwrap();
    eventually("it has subscribed", || server.counter("subscribed") == 1);
    server.producer().publish("a", "1");
    let output = subscriber.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("all up to here"), "{said}");
}

#[test]
fn a_second_signal_ends_a_command_that_waits_in_a_write() {
    let folder = Folder::new();
    let event = format!("{{\"channel\":\"a\",\"ts\":1,\"data\":\"{}\"}}\n", "x".repeat(64 << 10));
    let file = folder.file("events.ndjson", &event.repeat(512));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let line = format!("replay {file} --to tcp://{address} --speed max");
    let mut replay = started(fanfare(&line).stderr(Stdio::null()));
    let (stream, _) = listener.accept().unwrap();
    let mut unread = vec![0; 32 << 20];
    let (mut taken, mut looks) = (0, 0);
    eventually("nothing more fits", || {
        let now = stream.peek(&mut unread).unwrap();
        looks = if now == taken { looks + 1 } else { 0 };
        taken = now;
        looks == 100
    });
    let mut status = None;
    eventually("it ends", || {
        signal(replay.0.id(), "INT");
        status = replay.0.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(130));
}
