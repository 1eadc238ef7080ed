//! The journal: what a crash, an orderly stop, and a disk that takes no more mean for clients.

use std::process::Command;

use serde_json::Value;

use crate::support::{Client, Folder, Server, connect, eventually, fanfare, line};

/// A client and its welcome.
fn welcomed(server: &Server) -> (Client, Value) {
    let mut client = Client::upgrade(connect(server.listen));
    let welcome = client.json();
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    (client, welcome)
}

fn epoch(server: &Server) -> String {
    welcomed(server).1["epoch"].as_str().unwrap().to_owned()
}

fn kill(mut server: Server) {
    server.signal("KILL");
    server.end();
}

/// Publishes events that a client has seen: a 1, b 2, a 3, and a book c 4, 5.
fn seen(server: &Server) {
    let mut client = Client::subscribed(server, ">");
    let mut producer = server.producer();
    producer.publish("a", "1");
    producer.send("{\"channel\":\"b\",\"key\":\"k\",\"data\":2}\n");
    producer.publish("a", "3");
    producer.send("{\"channel\":\"c\",\"kind\":\"snapshot\",\"data\":4}\n");
    producer.publish("c", "5");
    for seq in 1..=5 {
        assert_eq!(client.event().seq, seq);
    }
}

/// Asserts that numbers and links go on after [`seen`].
fn goes_on(server: &Server) {
    let (mut client, welcome) = welcomed(server);
    assert_eq!(welcome["seq"], 5, "{welcome}");
    assert_eq!(server.counter("events"), 5 * server.shards() as u64, "every log is filled");
    assert_eq!(client.subscribe(&[">"])["success"], true);
    let mut producer = server.producer();
    for (channel, seq, prev) in [("c", 6, 5), ("a", 7, 3), ("d", 8, 0)] {
        producer.publish(channel, "0");
        let event = client.event();
        assert_eq!((event.channel.as_str(), event.seq, event.prev), (channel, seq, prev));
    }
    producer.send("{\"channel\":\"b\",\"key\":\"k\",\"data\":9}\n");
    assert_eq!((client.event().prev, server.stats()["ingest"]["channels"].as_u64()), (2, Some(4)));
}

#[test]
fn after_a_crash_numbers_and_links_go_on_under_the_same_epoch() {
    let folder = Folder::new();
    let flags = format!("--journal {}", folder.path("journal"));
    let server = Server::start(&flags);
    let before = epoch(&server);
    seen(&server);
    assert_eq!(server.stats()["ingest"]["journal_seq"], 5);
    assert!(server.stats()["ingest"]["journal_bytes"].as_u64().unwrap() > 200);
    kill(server);
    let server = Server::start(&flags);
    assert_eq!(epoch(&server), before);
    goes_on(&server);
    kill(server);
    // What the second process wrote is behind what the first one did.
    let server = Server::start(&flags);
    let (_, welcome) = welcomed(&server);
    assert_eq!((welcome["epoch"].as_str(), welcome["seq"].as_u64()), (Some(&*before), Some(9)));
    let ingest = &server.stats()["ingest"];
    assert_eq!((&ingest["journal_seq"], &ingest["head_seq"]), (&9.into(), &9.into()), "{ingest}");
}

#[test]
fn after_an_orderly_stop_as_well() {
    let folder = Folder::new();
    let path = folder.path("journal");
    let flags = format!("--journal {path} --journal-sync 0s --drain 0ms");
    let mut server = Server::start(&flags);
    let before = epoch(&server);
    seen(&server);
    server.signal("TERM");
    assert_eq!(server.end().code(), Some(0), "{}", server.log());
    let noted = std::fs::read_to_string(format!("{path}/epoch")).unwrap();
    assert!(noted.contains(&before) && noted.ends_with("closed\n"), "{noted}");
    let server = Server::start(&flags);
    assert_eq!(epoch(&server), before);
    goes_on(&server);
}

/// Segments that are gone have left the newest of each key, every name, and the links.
#[test]
fn old_segments_are_merged_while_the_server_runs_and_a_restart_has_what_counts() {
    let folder = Folder::new();
    let path = folder.path("journal");
    let flags = format!("--journal {path} --journal-bytes 1MiB --journal-sync 100ms");
    let server = Server::start(&flags);
    let before = epoch(&server);
    let mut producer = server.producer();
    producer.send("{\"channel\":\"b\",\"key\":\"k\",\"data\":1}\n");
    let data = format!("\"{}\"", "x".repeat(1_000));
    let lines = line("a", &data).repeat(2_000);
    producer.send(&lines);
    let bytes = || -> u64 {
        let files = std::fs::read_dir(&path).unwrap().filter_map(|file| file.ok()?.metadata().ok());
        files.map(|file| file.len()).sum()
    };
    eventually("all is written", || server.stats()["ingest"]["journal_seq"] == 2_001);
    eventually("old segments are merged", || bytes() < 5 << 18);
    assert!(server.stats()["ingest"]["journal_bytes"].as_u64().unwrap() > 2_000_000);
    kill(server);
    let server = Server::start(&flags);
    let (mut client, welcome) = welcomed(&server);
    assert_eq!((welcome["epoch"].as_str(), welcome["seq"].as_u64()), (Some(&*before), Some(2_001)));
    assert!(server.counter("events") < 1_500 * server.shards() as u64, "{}", server.stats());
    client.subscribe(&[">"]);
    server.producer().send("{\"channel\":\"b\",\"key\":\"k\",\"data\":2}\n");
    let event = client.event();
    assert_eq!((event.seq, event.prev, event.data()), (2_002, 1, "2"));
}

#[test]
fn without_a_journal_a_restart_begins_anew() {
    let server = Server::start("");
    let before = epoch(&server);
    seen(&server);
    kill(server);
    let (_, welcome) = welcomed(&Server::start(""));
    assert_eq!(welcome["seq"], 0, "{welcome}");
    assert_ne!(welcome["epoch"], before.as_str());
}

/// The limit of file sizes stands for the full disk: the kernel refuses the write itself.
#[test]
fn a_journal_that_cannot_be_written_costs_the_feed_nothing_and_the_restart_its_epoch() {
    let folder = Folder::new();
    let flags = format!("--journal {}", folder.path("journal"));
    let program = env!("CARGO_BIN_EXE_fanfare");
    let script = format!(
        "trap '' XFSZ; ulimit -f 32; exec {program} serve --listen 127.0.0.1:0 \
         --admin 127.0.0.1:0 --source tcp://127.0.0.1:0 {flags}"
    );
    let mut limited = Command::new("sh");
    limited.args(["-c", &script]);
    let server = Server::launch(limited);
    let before = epoch(&server);
    let mut client = Client::subscribed_to_all(&server, ">");
    let mut producer = server.producer();
    let data = format!("\"{}\"", "x".repeat(1_000));
    for seq in 1..=100 {
        producer.publish("a", &data);
        let event = client.event();
        assert_eq!((event.seq, event.prev), (seq, seq - 1));
    }
    let degraded = || server.stats()["ingest"]["journal_is_degraded"] == 1;
    eventually("the journal is degraded", degraded);
    assert!(server.stats()["ingest"]["journal_seq"].as_u64().unwrap() < 100);
    assert!(server.log().contains("goes on without a journal"), "{}", server.log());
    assert!(server.log().contains("ulimit -f"), "{}", server.log());
    kill(server);
    let server = Server::start(&flags);
    assert_ne!(epoch(&server), before, "its numbers have been seen with other events");
    assert_eq!(server.stats()["ingest"]["journal_is_degraded"], 0);
}

#[test]
fn a_journal_belongs_to_one_process_also_when_it_takes_over() {
    let folder = Folder::new();
    let (journal, control) = (folder.path("journal"), folder.path("control.sock"));
    let flags = format!("--journal {journal} --control {control}");
    let server = Server::start(&flags);
    let own = "serve --listen 127.0.0.1:0 --source stdin://";
    for more in [String::new(), format!("--take-over {control}")] {
        let output = fanfare(&format!("{own} --journal {journal} {more}")).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let who = format!("journal {journal}: process {} writes to it", server.child.id());
        assert!(text.contains(&who), "{text}");
    }
    seen(&server);
}

#[test]
fn a_journal_that_cannot_be_opened_is_said_at_the_start_with_the_cure() {
    let folder = Folder::new();
    let file = folder.file("file", "");
    let own = "serve --listen 127.0.0.1:0 --source stdin://";
    for (path, cure) in [
        (folder.path("absent/journal"), "; create its folder with: mkdir -p "),
        (file, ": it is no folder; "),
    ] {
        let output = fanfare(&format!("{own} --journal {path}")).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&path) && text.contains(cure), "{text}");
    }
}
