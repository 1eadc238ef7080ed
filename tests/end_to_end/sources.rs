//! Where events come from: producers on TCP and Unix sockets, standard input, replays, mappings.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;

use serde_json::json;

use crate::support::{Client, Folder, Producer, Server, fanfare, line};

#[test]
fn many_producers_at_once_keep_their_own_order_in_one_total_order() {
    const PRODUCERS: usize = 8;
    const EVENTS: usize = 1_000;
    let server = Server::start("");
    let mut client = Client::subscribed(&server, ">");
    let producers: Vec<_> = (0..PRODUCERS).map(|_| server.producer()).collect();
    thread::scope(|scope| {
        for (number, mut producer) in producers.into_iter().enumerate() {
            scope.spawn(move || {
                for event in 0..EVENTS {
                    producer.publish(&format!("c.{number}"), &event.to_string());
                }
            });
        }
        let (mut counts, mut last) = ([0; PRODUCERS], [0; PRODUCERS]);
        for seq in 1..=(PRODUCERS * EVENTS) as u64 {
            let event = client.event();
            let number: usize = event.channel[2..].parse().unwrap();
            assert_eq!((event.seq, event.prev), (seq, last[number]));
            assert_eq!(event.data(), counts[number].to_string());
            counts[number] += 1;
            last[number] = seq;
        }
        assert_eq!(counts, [EVENTS; PRODUCERS]);
    });
    client.hears_nothing_more();
}

#[test]
fn a_bad_line_is_answered_with_its_number_and_costs_nothing_else() {
    let server = Server::start("--line-bytes-max 1KiB");
    let mut client = Client::subscribed(&server, ">");
    let mut producer = server.producer();
    let long = line("a", &format!("\"{}\"", "x".repeat(5_000)));
    let lines = [
        line("a", "1"),
        "{\"channel\":\"a\"\n".into(),
        line("a", "2"),
        "\n".into(),
        long,
        "{\"channel\":\"a\",\"data\":3,\"extra\":4}\r\n".into(),
        line("no channel", "5"),
        line("a", "6"),
        "{\"channel\":\"a\",\"data\":7,\"ts\":-1}\n".into(),
        line("a", "8"),
    ];
    producer.send(&lines.concat());
    for (number, code, named) in [
        (2, "json", "JSON"),
        (5, "too_long", "1024 bytes"),
        (6, "field_unknown", "extra"),
        (7, "channel", "no channel"),
        (9, "time", "-1"),
    ] {
        let reply = producer.reply();
        assert_eq!(reply["line"], number, "{reply}");
        let (found, message) = (&reply["error"]["code"], reply["error"]["message"].as_str());
        assert!(message.unwrap().contains(named), "{reply}");
        assert!(found.as_str().unwrap().contains(code), "{code}: {reply}");
    }
    assert_eq!([(); 4].map(|()| client.data()), ["1", "2", "6", "8"]);
    client.hears_nothing_more();
}

#[test]
fn a_unix_socket_replaces_a_stale_file_and_is_not_taken_from_a_living_server() {
    let folder = Folder::new();
    let path = folder.path("f.sock");
    drop(UnixListener::bind(&path).unwrap());
    let url = format!("unix://{path}");
    let mut server = Server::with_sources(&[&url], "");
    assert_eq!(server.sources, [url.as_str()]);
    let mut client = Client::subscribed(&server, ">");
    let mut producer = Producer::new(UnixStream::connect(&path).unwrap());
    producer.publish("a", "1");
    assert_eq!(client.data(), "1");
    producer.send("oops\n");
    assert_eq!(producer.reply()["line"], 1 + 1);

    let second = fanfare("serve --listen 127.0.0.1:0 --source").arg(&url).output().unwrap();
    let errors = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{errors}");
    assert!(errors.contains(&path) && errors.contains("in use"), "{errors}");
    producer.publish("a", "2");
    assert_eq!(client.data(), "2");

    drop(client);
    server.signal("TERM");
    assert!(server.end().success());
    assert!(!Path::new(&path).exists(), "the socket file goes with the server");
}

#[test]
fn standard_input_is_a_source_and_its_end_is_not_the_servers() {
    let mut server = Server::with_sources(&["stdin://"], "");
    let mut client = Client::subscribed(&server, ">");
    let mut input = server.child.stdin.take().unwrap();
    input.write_all(format!("{}no json\n{}", line("a", "1"), line("a", "2")).as_bytes()).unwrap();
    assert_eq!([client.data(), client.data()], ["1", "2"]);
    drop(input);
    Client::connect(&server);
    client.hears_nothing_more();
}

/// Two captures of `<ns> <raw JSON>` lines that interleave in time.
fn captures(folder: &Folder) -> [String; 2] {
    let lines = |numbers: [u64; 3]| -> String {
        numbers.map(|n| format!("{n}000000000 {{\"s\":\"BTC\",\"p\":{n}.50}}\n")).concat()
    };
    [folder.file("one", &lines([1, 4, 5])), folder.file("two", &lines([2, 3, 6]))]
}

const RULE: &str = r#"{ channel = "{@stem}.{/s}", data = "/p" }"#;

#[test]
fn fanfare_replay_sends_captures_merged_by_time_and_mapped() {
    let folder = Folder::new();
    let files = captures(&folder);
    let server = Server::start("");
    let mut client = Client::subscribed(&server, "*.BTC");
    let output = fanfare("replay --speed max --to")
        .arg(&server.sources[0])
        .args(["--map", RULE])
        .args(&files)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("6 lines sent, 0 skipped, 0 refused"),
        "{said}"
    );
    for (number, file) in (1..=6).zip(["one", "two", "two", "one", "one", "two"]) {
        let event = client.event();
        assert_eq!((event.seq, event.data()), (number, format!("{number}.50").as_str()));
        assert_eq!(event.channel, format!("{file}.BTC"));
    }
    client.hears_nothing_more();
}

#[test]
fn a_replay_source_loops_with_seq_going_on() {
    let folder = Folder::new();
    let [one, two] = captures(&folder);
    let url = format!("replay:{one},{two}?speed=100&loop=true");
    let mut command = fanfare("serve --listen 127.0.0.1:0 --admin 127.0.0.1:0");
    command.args(["--source", &url, "--map", RULE]);
    let server = Server::launch(command);
    let mut client = Client::subscribed(&server, "two.*");
    let mut last = client.event();
    let mut rounds = 0;
    while rounds < 3 {
        let event = client.event();
        assert_eq!(event.prev, last.seq);
        rounds += usize::from(event.data() == "2.50");
        let follows = [("2.50", "3.50"), ("3.50", "6.50"), ("6.50", "2.50")];
        assert!(follows.contains(&(last.data(), event.data())), "{last:?} {event:?}");
        last = event;
    }
}

#[test]
fn a_mapping_makes_channels_of_any_json_and_names_the_rule_that_a_line_lacks() {
    let mut command = fanfare("serve --listen 127.0.0.1:0 --admin 127.0.0.1:0");
    command.args(["--source", "tcp://127.0.0.1:0", "--map"]);
    command
        .arg(r#"{ channel = "trade.{/s}", key = "/s", ts = "/T", ts_unit = "ms", data = "/d" }"#);
    let server = Server::launch(command);
    let mut client = Client::subscribed(&server, "trade.>");
    let mut producer = server.producer();
    producer.send("{\"s\":\"BTC\",\"T\":1723161256000,\"d\":{ \"p\":1.0 }}\n{\"T\":1}\n");
    let event = client.event();
    assert_eq!((event.channel.as_str(), event.key.as_deref()), ("trade.BTC", Some("BTC")));
    assert_eq!((event.ts, event.data()), (Some(1_723_161_256_000_000_000), "{ \"p\":1.0 }"));
    let reply = producer.reply();
    assert_eq!(reply["line"], json!(2));
    assert!(reply["error"]["message"].as_str().unwrap().contains("/s"), "{reply}");
}

#[test]
fn fanfare_publish_takes_a_pipe_and_shows_what_was_refused() {
    let server = Server::start("");
    let mut client = Client::subscribed(&server, ">");
    let mut publish = fanfare("publish")
        .arg(&server.sources[0])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = publish.stdin.take().unwrap();
    input.write_all(format!("{}nonsense\n{}", line("a", "1"), line("a", "2")).as_bytes()).unwrap();
    drop(input);
    let output = publish.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains('2'), "{said}");
    assert_eq!([client.data(), client.data()], ["1", "2"]);
}
