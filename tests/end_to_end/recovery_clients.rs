//! Our own client against a real server: lost connections, snapshots, places and hashes.
//!
//! Method: a relay between both, which a test cuts. Not here: scripted streams (unit tests).

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};

use fanfare::client::{Item, Subscription};
use serde_json::Value;

use crate::recording::recorded;
use crate::support::{Folder, Server, eventually, fanfare};

/// Passes bytes on to a server until it is cut.
struct Relay {
    listen: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = listener.local_addr().unwrap();
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let open = Arc::clone(&streams);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(server).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let mut bytes = [0; 16 << 10];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            if to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        let _gone = to.shutdown(Shutdown::Both);
                    });
                }
                open.lock().unwrap().extend([client, server]);
            }
        });
        Self { listen, streams }
    }

    fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A running `fanfare subscribe`.
struct Subscriber {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    fn start(arguments: &str) -> Self {
        let mut command = fanfare(&format!("subscribe {arguments}"));
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next frame that `wanted` says yes to.
    fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.next().expect("it still runs").unwrap();
            let frame: Value = serde_json::from_str(&line).unwrap();
            if wanted(&frame) {
                return frame;
            }
        }
    }

    fn data(&mut self) -> Value {
        self.find(|frame| frame.get("data").is_some())["data"].clone()
    }

    fn is_whole(&mut self) {
        self.find(|frame| frame["type"] == "snapshot_end");
    }

    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

#[test]
fn a_subscriber_whose_connection_is_cut_gets_each_event_once_and_says_that_nothing_was_missed() {
    let server = Server::start("");
    let relay = Relay::to(server.listen);
    let mut subscriber = Subscriber::start(&format!("ws://{} > --count 300", relay.listen));
    subscriber.is_whole();
    let mut producer = server.producer();
    for round in 0..3 {
        for n in 0..50 {
            producer.publish("t", &(round * 100 + n).to_string());
        }
        for n in 0..50 {
            assert_eq!(subscriber.data(), round * 100 + n);
        }
        relay.cut();
        for n in 50..100 {
            producer.publish("t", &(round * 100 + n).to_string());
        }
        for n in 50..100 {
            assert_eq!(subscriber.data(), round * 100 + n);
        }
    }
    let (code, said) = subscriber.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("nothing missed").count(), 3, "{said}");
    assert!(!said.contains("gap:"), "{said}");
}

#[test]
fn a_place_that_was_kept_brings_what_came_since_and_a_wrong_one_says_why_not() {
    let server = Server::start("");
    let mut producer = server.producer();
    let url = format!("ws://{}", server.listen);
    let mut subscriber = Subscription::new(&url, ["t"]).start().unwrap();
    let next = |subscriber: &mut fanfare::client::Subscriber| loop {
        if let Item::Event(event) = subscriber.next().unwrap().unwrap() {
            return event.data().to_owned();
        }
    };
    let whole = subscriber
        .find(|item| matches!(item, Ok(Item::Notice(fanfare::client::Notice::Whole { .. }))));
    assert!(whole.is_some());
    producer.publish("t", "1");
    assert_eq!(next(&mut subscriber), "1");
    let place = subscriber.place().unwrap().clone();
    subscriber.close();
    producer.publish("t", "2");
    producer.publish("t", "3");
    let mut again = Subscription::new(&url, ["t"]).resume(place.clone()).start().unwrap();
    assert_eq!([next(&mut again), next(&mut again)], ["2", "3"]);

    let mut command = fanfare(&format!("subscribe {url} t --count 2 --resume {place}"));
    let output = command.output().unwrap();
    let (out, said) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    assert_eq!(out.unwrap().matches(r#""data""#).count(), 2);
    assert!(said.unwrap().contains("nothing missed"));
    let wrong = format!("{}:{}", "01ARZ3NDEKTSV4RRFFQ69G5FAV", place.seq);
    let mut subscriber = Subscriber::start(&format!("{url} t --count 1 --resume {wrong}"));
    subscriber.find(|frame| frame["type"] == "gap");
    producer.publish("t", "4");
    let (code, said) = subscriber.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("cannot resume there (epoch"), "{said}");
    assert!(said.contains("gap: ") && said.contains("cause epoch"), "{said}");
}

#[test]
fn a_recording_whose_connection_is_cut_has_every_event_once_and_in_the_order_of_time() {
    const EVENTS: usize = 400;
    let (server, folder) = (Server::start(""), Folder::new());
    let relay = Relay::to(server.listen);
    let mut producer = server.producer();
    producer.send("{\"channel\":\"q\",\"key\":\"k\",\"data\":\"old\"}\n");
    eventually("it is there", || server.counter("events") > 0);
    let path = folder.path("feed.gz");
    let count = EVENTS + 1;
    let flags = format!("record ws://{} > --out {path} --count {count}", relay.listen);
    let recorder = fanfare(&flags).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it has subscribed", || server.counter("subscribed") == 1);
    for n in 0..EVENTS {
        producer.publish("t", &n.to_string());
        if n % 100 == 50 {
            relay.cut();
        }
    }
    let output = recorder.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("gaps 0 (missed 0)") && said.contains("nothing missed"), "{said}");
    // Reading it ends in order, so no line is older than the one before it.
    let (events, in_order) = recorded(&path);
    let data: Vec<_> = events.iter().map(|event| event.data.clone()).collect();
    let expected: Vec<_> =
        std::iter::once("\"old\"".to_owned()).chain((0..EVENTS).map(|n| n.to_string())).collect();
    assert!(in_order && data == expected, "{data:?}");
}

#[test]
fn without_a_snapshot_a_subscriber_begins_with_the_next_event() {
    let server = Server::start("");
    let mut producer = server.producer();
    let line = |n| format!("{{\"channel\":\"q\",\"key\":\"k\",\"data\":{n}}}\n");
    producer.send(&line(1));
    eventually("it is there", || server.counter("events") > 0);
    let url = format!("ws://{}", server.listen);
    let mut with = Subscriber::start(&format!("{url} > --count 2"));
    assert_eq!(with.data(), 1);
    let mut without = Subscriber::start(&format!("{url} > --count 1 --no-snapshot"));
    without.find(|frame| frame["success"] == true);
    producer.send(&line(2));
    assert_eq!((with.data(), without.data()), (2.into(), 2.into()));
    assert_eq!((with.end().0, without.end().0), (Some(0), Some(0)));
}

#[test]
fn verify_finds_both_sides_equal_and_names_what_it_cannot_compare() {
    let server = Server::start("");
    let mut producer = server.producer();
    producer.send(concat!(
        "{\"channel\":\"book.B\",\"kind\":\"snapshot\",\"data\":[1]}\n",
        "{\"channel\":\"q.B\",\"key\":\"b\\\"\\u0001\",\"data\":1}\n",
        "{\"channel\":\"book.B\",\"data\":[2]}\n",
        "{\"channel\":\"q.B\",\"key\":\"a\",\"data\":2}\n",
        "{\"channel\":\"t.B\",\"data\":3}\n",
    ));
    eventually("they are there", || server.counter("events") >= 5);
    let url = format!("ws://{}", server.listen);
    let output = fanfare(&format!("verify {url} book.B q.B")).output().unwrap();
    let (out, said) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}{said}");
    assert!(out.contains("equal    book.B  seq 3  values 1  hash "), "{out}");
    assert!(out.contains("equal    q.B  seq 4  values 2  hash "), "{out}");
    let output = fanfare(&format!("verify {url} absent")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("channel_unknown"));
    assert_eq!(fanfare(&format!("verify {url} q.*")).output().unwrap().status.code(), Some(2));
}

#[test]
fn verify_asks_for_many_channels_no_faster_than_the_server_allows() {
    let server = Server::start("--command-burst 12 --command-rate 100");
    let mut producer = server.producer();
    let channels: Vec<_> = (0..40).map(|number| format!("q.{number}")).collect();
    for channel in &channels {
        producer.send(&format!("{{\"channel\":\"{channel}\",\"key\":\"k\",\"data\":1}}\n"));
    }
    eventually("they are there", || server.counter("events") >= 40);
    let url = format!("ws://{}", server.listen);
    let output = fanfare(&format!("verify {url} {}", channels.join(" "))).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert_eq!(out.matches("equal    q.").count(), 40, "{out}");
}
