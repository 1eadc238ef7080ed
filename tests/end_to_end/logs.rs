//! The log: one line for each end of a connection, in two formats, and no flood.
//!
//! Not here: that no secret is in it (`access`).

use serde_json::Value;

use crate::support::{Client, Server, eventually};

/// The lines of a log in JSON that are about connections that have ended.
fn ends(server: &Server) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    lines.filter(|line| line["message"] == "connection ended").collect()
}

#[test]
fn the_end_of_a_connection_is_one_line_with_its_reason_and_totals() {
    let mut server = Server::start("--log-format json");
    let mut client = Client::subscribed(&server, ">");
    let mut producer = server.producer();
    for number in 0..3 {
        producer.publish("a", &number.to_string());
    }
    for _ in 0..3 {
        client.data();
    }
    drop(client);
    eventually("the end is logged", || !ends(&server).is_empty());
    let [end] = &ends(&server)[..] else { panic!("{}", server.log()) };
    assert_eq!((&end["level"], &end["reason"]), (&"INFO".into(), &"peer_reset".into()));
    assert_eq!((&end["events"], &end["missed"]), (&3.into(), &0.into()));
    assert_eq!((&end["address"], &end["identity"]), (&"127.0.0.1".into(), &"anyone".into()));
    assert_eq!(end["bytes"], server.counter("bytes_sent"));
    assert!(end["seconds"].is_u64() && end["shard"].is_u64(), "{end}");
    assert!(end["timestamp"].is_string() && end["target"] == "fanfare::connections", "{end}");
    server.signal("INT");
    server.end();
    eventually("the last words are there", || server.log().contains("stopping"));
}

#[test]
fn of_a_storm_of_ends_some_are_logged_and_the_others_are_counted() {
    let server = Server::start("--log-ends-per-second 1 --log-format json");
    let clients: Vec<_> = (0..30).map(|_| Client::connect(&server)).collect();
    drop(clients);
    eventually("each one is logged or counted", || {
        let log = server.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let suppressed: u64 = lines.filter_map(|line| line["suppressed"].as_u64()).sum();
        ends(&server).len() as u64 + suppressed == 30 && suppressed > 0
    });
    assert!(server.log().contains("of kind `connection ended`"), "{}", server.log());
}

#[test]
fn ends_can_be_left_out_by_level() {
    let server = Server::start("--log warn");
    drop(Client::connect(&server));
    eventually("it is gone", || server.counter("closed") == 1);
    assert_eq!(server.log(), "");
}
