//! What an operator says to a running server: drain, reload, and the hand-over to the next one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fanfare::shell::control::{ControlListener, ControlStream};
use serde_json::Value;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::drain::notice;
use crate::support::{
    Client, Folder, PATIENCE, Server, Started, connect, eventually, fanfare, has_two_cores,
};

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Runs a command to its end; its exit code and what it said.
fn run(arguments: &str) -> (Option<i32>, String) {
    said(&fanfare(arguments).output().unwrap())
}

/// One end of a conversation at a control socket.
struct Line(BufReader<UnixStream>);

impl Line {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn ask(&mut self, line: &str) -> Value {
        self.say(line);
        self.hear()
    }

    /// A successor that has the listeners of the server at `path`, and closes them.
    fn successor(path: &str) -> Self {
        let mut successor = Self::new(UnixStream::connect(path).unwrap());
        let reply = successor.ask(r#"{"method":"take_over"}"#);
        assert_eq!(reply["success"], true, "{reply}");
        // They come with the end of a line.
        assert_eq!(successor.0.read_line(&mut String::new()).unwrap(), 1);
        successor
    }
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
    let mut line = Line::new(UnixStream::connect(&control).unwrap());
    let status = line.ask(r#"{"method":"status"}"#);
    assert_eq!(status, serde_json::json!({"success":true,"stage":"serving","clients":1}));
    for (request, code) in [
        ("drain", "request_bad"),
        (r#"{"method":"stop"}"#, "method_unknown"),
        (r#"{"method":"taken_over"}"#, "not_taken_over"),
        (r#"{"method":"drain","params":{"window_ms":99999999999}}"#, "request_bad"),
    ] {
        let reply = line.ask(request);
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
    eventually("each of its shards gets some", || {
        let stats = new.stats();
        let shards = stats["shards"].as_array().unwrap();
        shards.iter().all(|shard| shard["opened"].as_u64().unwrap() > 0)
    });
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
    if !has_two_cores() {
        return;
    }
    gives_way("--cores 0", "--cores 0-1");
}

#[test]
fn a_server_with_fewer_shards_takes_over() {
    if !has_two_cores() {
        return;
    }
    gives_way("--cores 0-1", "--cores 1");
}

/// A socket at `path` at which whoever connects waits until it is dropped.
fn crowded(path: &str) -> [Socket; 2] {
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let first = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    first.connect(&SockAddr::unix(path).unwrap()).unwrap();
    [listener, first]
}

#[test]
fn a_successor_that_does_not_come_to_life_changes_nothing() {
    if !has_two_cores() {
        return;
    }
    let folder = Folder::new();
    let (control, source) = (folder.path("control.sock"), folder.path("source.sock"));
    let server = Server::start(&format!("--cores 0 --control {control}"));
    let taken = server.sources[0].strip_prefix("tcp://").unwrap();
    let mut client = Client::subscribed(&server, ">");
    let storm = Storm::begin(&server);
    storm.goes_on();
    // It has more shards, is held up at its source, and then its admin address is taken: by the
    // source that it does not ask for.
    let crowd = crowded(&source);
    let flags = format!(
        "serve --listen {} --cores 0-1 --take-over {control} --source unix://{source} \
        --admin {taken}",
        server.listen
    );
    let successor = thread::spawn(move || run(&flags));
    eventually("it has the listeners", || server.log().contains("has the listeners"));
    storm.goes_on();
    storm.goes_on();
    drop(crowd);
    let (code, text) = successor.join().unwrap();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("admin") && text.contains("in use"), "{text}");
    eventually("it goes on", || server.log().contains("did not come to life"));
    storm.goes_on();
    storm.end();
    server.producer().publish("a", "1");
    assert_eq!(client.data(), "1");
    assert!(server.admin("/readyz").starts_with("HTTP/1.1 200 OK"));

    let nobody = folder.path("nobody.sock");
    let flags = format!("serve --source tcp://127.0.0.1:0 --take-over {nobody}");
    let (code, text) = run(&flags);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&nobody) && text.contains("running server"), "{text}");
}

#[test]
fn a_server_waits_for_its_successor_as_long_as_that_lives_and_does_its_work_meanwhile() {
    let folder = Folder::new();
    let control = folder.path("control.sock");
    let access = folder.file("access.toml", "[anonymous]\nsubscribe = [\"a.>\"]\n");
    let flags = format!("--control {control} --access {access} --drain 3s");
    let mut server = Server::start(&flags);
    let successor = Line::successor(&control);
    for _ in 0..3 {
        assert_eq!(run(&format!("status {control}")), (Some(0), "serving, 0 clients\n".into()));
    }
    assert_eq!(run(&format!("reload {control}")), (Some(0), "reloaded: access rules\n".into()));
    let second = format!("serve --source tcp://127.0.0.1:0 --take-over {control}");
    let (code, text) = run(&second);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("another successor"), "{text}");
    assert!(!server.log().contains("did not come to life"), "it lives");

    drop(successor);
    eventually("its end is noticed", || server.log().contains("did not come to life"));
    let client = Client::connect(&server);
    let mut successor = Line::successor(&control);
    assert_eq!(run(&format!("status {control}")), (Some(0), "serving, 1 clients\n".into()));
    assert_eq!(successor.ask(r#"{"method":"taken_over"}"#)["success"], true);
    eventually("it drains", || server.log().contains("draining 1 clients"));
    drop(client);
    assert_eq!(server.end().code(), Some(0), "{}", server.log());
}

#[test]
fn a_successor_takes_nobody_before_the_server_before_makes_way() {
    let folder = Folder::new();
    let path = folder.path("control.sock");
    let control = ControlListener::new(UnixListener::bind(&path).unwrap().into()).unwrap();
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [listen, source, admin] = listeners.each_ref().map(|one| one.local_addr().unwrap());
    // Stands in for the server before.
    let before = thread::spawn(move || {
        let mut peer = control.accept(PATIENCE).unwrap().unwrap();
        let hear = |peer: &mut ControlStream| {
            String::from_utf8(peer.read_line(PATIENCE).unwrap().unwrap()).unwrap()
        };
        assert!(hear(&mut peer).contains("take_over"));
        let names = r#"["listen","source tcp","admin"]"#;
        peer.write(&format!("{{\"success\":true,\"listeners\":{names}}}\n")).unwrap();
        peer.send_descriptors(&listeners).unwrap();
        assert!(hear(&mut peer).contains("taken_over"));
        for (listener, address) in listeners.iter().zip([listen, source, admin]) {
            let clients: Vec<_> = (0..100).map(|_| connect(address)).collect();
            for _ in clients {
                eventually("nobody else takes it", || listener.accept().is_ok());
            }
        }
        peer.write("{\"success\":true}\n").unwrap();
    });
    let server = Server::launch(fanfare(&format!(
        "serve --cores 0 --listen {listen} --source tcp://{source} --admin {admin} \
        --take-over {path} --heartbeat 1m"
    )));
    before.join().unwrap();
    let mut client = Client::subscribed(&server, ">");
    server.producer().publish("a", "1");
    assert_eq!(client.data(), "1");
    assert!(server.admin("/readyz").starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn a_successor_that_the_server_before_does_not_make_way_for_ends_itself() {
    let folder = Folder::new();
    let control = folder.path("control.sock");
    let refusal = r#"{"success":false,"error":{"code":"request_bad","message":"not now"}}"#;
    let listener = UnixListener::bind(&control).unwrap();
    for (answer, why) in [(Some(refusal), "not now"), (None, "has ended")] {
        let flags =
            format!("serve --listen 127.0.0.1:0 --source tcp://127.0.0.1:0 --take-over {control}");
        let mut command = fanfare(&flags);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut successor = Started(command.spawn().unwrap());
        let mut line = Line::new(listener.accept().unwrap().0);
        assert_eq!(line.hear()["method"], "take_over");
        line.say(r#"{"success":true,"listeners":[]}"#);
        if let Some(refusal) = answer {
            assert_eq!(line.hear()["method"], "taken_over");
            line.say(refusal);
        }
        drop(line);
        let code = successor.end().code();
        let mut text = String::new();
        successor.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("take_over") && text.contains(why), "{text}");
        let mut ready = String::new();
        successor.0.stdout.take().unwrap().read_to_string(&mut ready).unwrap();
        assert_eq!(ready, "");
    }
}

#[test]
fn a_server_that_has_handed_over_still_takes_changes_of_rules() {
    let folder = Folder::new();
    let control = folder.path("control.sock");
    let access = folder.file("access.toml", "[anonymous]\nsubscribe = [\">\"]\n");
    let flags = format!("--control {control} --drain 60m --access {access}");
    let old = Server::start(&flags);
    let mut clients: Vec<_> = (0..8).map(|_| Client::subscribed(&old, "a")).collect();
    let new = Server::start(&format!("{flags} --take-over {control}"));
    // Those whose turn to go is not before all this is over.
    clients.retain_mut(|client| notice(client)["retry_after_ms"].as_u64().unwrap() > 120_000);
    assert!(!clients.is_empty());
    // Once by itself, and once because it is asked to.
    folder.file("access.toml", "[anonymous]\nsubscribe = [\"b\"]\n");
    for client in &mut clients {
        let gone = client.json();
        assert_eq!((&gone["type"], &gone["cause"]), (&"unsubscribed".into(), &"forbidden".into()));
    }
    folder.file("access.toml", "[[certificate]]\nname = \"nobody.example\"\n");
    old.signal("HUP");
    assert!(clients.iter_mut().all(|client| client.closed() == 4003));
    // Its control socket is the successor's.
    assert_eq!(run(&format!("status {control}")).1, "serving, 0 clients\n");
    drop(new);
}
