//! What an operator says to a running server: drain, reload, and the hand-over to the next one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use crate::drain::notice;
use crate::support::{Client, Folder, Server, connect, eventually, fanfare};

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Runs a command to its end; its exit code and what it said.
fn run(arguments: &str) -> (Option<i32>, String) {
    said(&fanfare(arguments).output().unwrap())
}

#[test]
fn the_command_drains_and_the_server_ends_with_0() {
    let folder = Folder::new();
    let control = folder.path("control.sock");
    let mut server = Server::start(&format!("--control {control} --drain 60m"));
    let mut client = Client::subscribed(&server, ">");
    assert_eq!(
        run(&format!("drain {control} --window 50s")),
        (Some(0), "draining 1 clients over 50s\n".into())
    );
    assert!(notice(&mut client)["deadline_ms"].as_u64().unwrap() <= 50_000);
    drop(client);
    assert_eq!(server.end().code(), Some(0), "{}", server.log());
    let (code, text) = run(&format!("drain {control}"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&control) && text.contains("running server"), "{text}");
    assert_eq!(run(&format!("drain {control} --window soon")).0, Some(2));
}

#[test]
fn the_status_is_success_while_newcomers_are_served() {
    let folder = Folder::new();
    let control = folder.path("control.sock");
    let mut server = Server::start(&format!("--control {control} --drain 60m"));
    let client = Client::connect(&server);
    assert_eq!(run(&format!("status {control}")), (Some(0), "serving, 1 clients\n".into()));
    server.signal("TERM");
    eventually("it drains", || run(&format!("status {control}")).0 == Some(1));
    assert_eq!(run(&format!("status {control}")), (Some(1), "draining, 1 clients\n".into()));
    drop(client);
    assert_eq!(server.end().code(), Some(0));
    assert_eq!(run(&format!("status {control}")).0, Some(1), "nobody is there");
}

#[test]
fn the_command_reloads_or_says_what_is_wrong() {
    let folder = Folder::new();
    let control = folder.path("control.sock");
    let rules = "[anonymous]\nsubscribe = [\"a.>\"]\n";
    let access = folder.file("access.toml", rules);
    let server = Server::start(&format!("--control {control} --access {access}"));
    let mut client = Client::subscribed(&server, "a.>");
    assert_eq!(run(&format!("reload {control}")), (Some(0), "reloaded: access rules\n".into()));

    folder.file("access.toml", "[anonymous]\nsubscribe = 5\n");
    let (code, text) = run(&format!("reload {control}"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("access.toml") && text.contains("subscribe"), "{text}");
    client.subscribe(&["a.b"]);

    folder.file("access.toml", "[anonymous]\nsubscribe = [\"b.>\"]\n");
    eventually("the change is noticed", || {
        server.log().contains("access rules have changed and are in force")
    });
    let gone = client.json();
    assert_eq!((&gone["type"], &gone["cause"]), (&"unsubscribed".into(), &"forbidden".into()));
}

#[test]
fn the_socket_answers_one_line_for_each_and_refuses_what_means_nothing() {
    let folder = Folder::new();
    let control = folder.path("control.sock");
    let server = Server::start(&format!("--control {control}"));
    let _client = Client::connect(&server);
    let mut stream = UnixStream::connect(&control).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |line: &str| {
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        replies.read_line(&mut reply).unwrap();
        serde_json::from_str::<Value>(&reply).unwrap()
    };
    let status = ask(r#"{"method":"status"}"#);
    assert_eq!(status, serde_json::json!({"success":true,"stage":"serving","clients":1}));
    for (line, code) in [
        ("drain", "request_bad"),
        (r#"{"method":"stop"}"#, "method_unknown"),
        (r#"{"method":"taken_over"}"#, "not_taken_over"),
        (r#"{"method":"drain","params":{"window_ms":99999999999}}"#, "request_bad"),
    ] {
        let reply = ask(line);
        assert_eq!((&reply["success"], &reply["error"]["code"]), (&false.into(), &code.into()));
    }
    assert!(server.admin("/readyz").starts_with("HTTP/1.1 200 OK"), "nothing has come of it");
}

/// Connects again and again until told to end; every attempt must be welcomed. How many were.
struct Storm {
    stop: Arc<AtomicBool>,
    welcomed: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Storm {
    fn begin(server: &Server) -> Self {
        let (stop, welcomed) = (Arc::default(), Arc::default());
        let listen = server.listen;
        let threads = (0..4).map(|_| {
            let (stop, welcomed) = (Arc::clone(&stop), Arc::clone(&welcomed));
            thread::spawn(move || {
                while !AtomicBool::load(&stop, Ordering::Relaxed) {
                    let mut client = Client::upgrade(connect(listen));
                    // Ends with a reset, which leaves no port in use.
                    SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
                    assert_eq!(client.json()["type"], "welcome");
                    AtomicUsize::fetch_add(&welcomed, 1, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Self { stop, welcomed, threads }
    }

    /// Waits until as many more were welcomed.
    fn goes_on(&self) {
        let before = self.welcomed.load(Ordering::Relaxed);
        eventually("the storm goes on", || self.welcomed.load(Ordering::Relaxed) > before + 200);
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// The server `old` gives way to one that is started with `flags`, and nobody is refused.
fn gives_way(old_flags: &str, flags: &str) {
    let folder = Folder::new();
    let control = folder.path("control.sock");
    let source = format!("unix://{}", folder.path("source.sock"));
    let sources = ["tcp://127.0.0.1:0", &source];
    let own = format!("--control {control} --drain 3s");
    let mut old = Server::with_sources(&sources, &format!("{own} {old_flags}"));
    let mut established: Vec<_> = (0..10).map(|_| Client::subscribed(&old, ">")).collect();
    let storm = Storm::begin(&old);
    storm.goes_on();

    let mut new = Server::with_sources(&sources, &format!("{own} --take-over {control} {flags}"));
    assert_eq!((new.listen, &new.sources), (old.listen, &old.sources));
    storm.goes_on();
    for client in &mut established {
        assert!(notice(client)["retry_after_ms"].is_number());
    }
    assert_eq!(old.end().code(), Some(0), "{}", old.log());
    assert_eq!(new.counter("refused_capacity"), 0);
    storm.goes_on();
    storm.end();

    let mut client = Client::subscribed(&new, ">");
    new.producer().publish("a", "1");
    assert_eq!(client.data(), "1");
    drop(client);
    assert_eq!(run(&format!("drain {control} --window 0ms")).0, Some(0), "its control socket");
    assert_eq!(new.end().code(), Some(0), "{}", new.log());
}

#[test]
fn a_server_takes_over_while_clients_connect_and_none_is_refused() {
    gives_way("", "");
}

#[test]
fn a_server_with_more_shards_takes_over() {
    gives_way("--cores 0", "--cores 0-1");
}

#[test]
fn a_server_with_fewer_shards_takes_over() {
    gives_way("--cores 0-1", "--cores 1");
}

#[test]
fn a_successor_that_does_not_come_to_life_changes_nothing() {
    let folder = Folder::new();
    let control = folder.path("control.sock");
    let server = Server::start(&format!("--control {control}"));
    let taken = server.sources[0].strip_prefix("tcp://").unwrap();
    let mut client = Client::subscribed(&server, ">");
    // Its own admin address is one that is taken, by the source that it does not ask for.
    let (code, text) = run(&format!(
        "serve --listen {} --take-over {control} --source tcp://127.0.0.1:0 --admin {taken}",
        server.listen
    ));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("admin") && text.contains("in use"), "{text}");
    eventually("it goes on", || server.log().contains("did not come to life"));
    server.producer().publish("a", "1");
    assert_eq!(client.data(), "1");
    Client::connect(&server);
    assert!(server.admin("/readyz").starts_with("HTTP/1.1 200 OK"));

    let nobody = folder.path("nobody.sock");
    let flags = format!("serve --source tcp://127.0.0.1:0 --take-over {nobody}");
    let (code, text) = run(&flags);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&nobody) && text.contains("running server"), "{text}");
}
