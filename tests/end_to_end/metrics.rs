//! What clients have seen is what `/metrics` and `/stats` say, and a client can ask whose a delay
//! is.
//!
//! Slow clients, losses and a small storm; every figure is counted outside, too.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use fanfare::protocol::ws::frame::Opcode;
use serde_json::{Value, json};

use crate::support::{
    Client, Heard, Server, connect, connect_narrow, eventually, fanfare, line, read_to_end,
};

/// Samples of `/metrics` by name, summed over the shards; with labels other than the shard as they
/// are written there.
struct Metrics(HashMap<String, f64>);

impl Metrics {
    fn of(server: &Server) -> Self {
        let answer = server.admin("/metrics");
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/openmetrics-text"), "{head}");
        assert!(text.ends_with("# EOF\n"));
        let mut sums: HashMap<String, f64> = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split(',');
            let labels: Vec<_> = labels.filter(|label| !label.starts_with("shard=")).collect();
            let key = format!("{name}{{{}}}", labels.join(","));
            *sums.entry(key).or_default() += value.parse::<f64>().unwrap();
        }
        Self(sums)
    }

    fn value(&self, name: &str, labels: &str) -> u64 {
        let key = format!("{name}{{{labels}}}");
        let value = self.0.get(&key).unwrap_or_else(|| panic!("there is no {key}"));
        assert_eq!(value.fract(), 0.0, "{key}");
        format!("{value}").parse().unwrap()
    }

    /// The sum over all labels.
    fn sum(&self, name: &str) -> u64 {
        let prefix = format!("{name}{{");
        let values = self.0.iter().filter(|(key, _)| key.starts_with(&prefix));
        format!("{}", values.map(|(_, value)| value).sum::<f64>()).parse().unwrap()
    }
}

/// What one client counted.
#[derive(Default)]
struct Account {
    events: u64,
    receipts: u64,
    missed: u64,
}

impl Account {
    /// Counts what `client` hears until so many events are accounted for.
    fn take(&mut self, client: &mut Client, events: u64) {
        while self.events + self.missed < events {
            let Heard::Text(text) = client.hear() else { panic!("text was due") };
            let message: Value = serde_json::from_str(&text).unwrap();
            match message["type"].as_str() {
                Some("gap") => {
                    self.receipts += 1;
                    self.missed += message["missed"].as_u64().unwrap();
                }
                Some("update") => self.events += 1,
                _ => {}
            }
        }
    }
}

const SMALL: &str = "--log-bytes 8MiB --send-buffer-bytes 16KiB --heartbeat 5m";

/// A client that asks for every event and holds little in its socket.
fn slow(server: &Server) -> Client {
    let mut client = Client::upgrade(connect_narrow(server.listen));
    assert_eq!(client.json()["type"], "welcome");
    let params = json!({"channels": ">", "policy": "all", "max_lag_bytes": 65_536});
    let request = json!({"method": "subscribe", "params": params});
    assert_eq!(client.ask(&request.to_string())["success"], true);
    client
}

/// 12 clients that go in order, 9 that a network cuts, 4 that are refused, and 2 that go before
/// they have asked.
fn storm(server: &Server) {
    for _ in 0..12 {
        let mut client = Client::connect(server);
        client.send(Opcode::Close, &1000_u16.to_be_bytes());
        assert!(matches!(client.hear(), Heard::Close(Some(1000), _)));
    }
    for _ in 0..9 {
        let client = Client::connect(server);
        socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    for _ in 0..4 {
        let mut stream = connect(server.listen);
        stream.write_all(b"GET /elsewhere HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert!(read_to_end(&mut stream).starts_with("HTTP/1.1 404 "));
    }
    for _ in 0..2 {
        connect(server.listen).write_all(b"GET / HTT").unwrap();
    }
}

/// Holds the sums of `/stats` against `/metrics`, and gives them.
fn agree<'a>(metrics: &Metrics, stats: &'a Value) -> impl Fn(&str) -> u64 + use<'a> {
    let sum = move |name: &str| {
        let shards = stats["shards"].as_array().unwrap();
        shards.iter().map(|shard| shard[name].as_u64().unwrap()).sum::<u64>()
    };
    for (name, metric) in [
        ("deliveries", "fanfare_deliveries_total"),
        ("opened", "fanfare_upgrades_total"),
        ("bytes_sent", "fanfare_sent_bytes_total"),
        ("sends", "fanfare_sends_total"),
        ("flush_calls", "fanfare_flush_calls_total"),
        ("commands", "fanfare_commands_total"),
    ] {
        assert_eq!(sum(name), metrics.value(metric, ""), "{name}");
    }
    sum
}

#[test]
fn what_clients_counted_is_what_the_metrics_say() {
    let server = Server::start(SMALL);
    let mut fast: Vec<_> = (0..4).map(|_| Client::subscribed_to_all(&server, ">")).collect();
    let mut slow: Vec<_> = (0..3).map(|_| slow(&server)).collect();
    storm(&server);
    let data = format!("\"{}\"", "x".repeat(1 << 10));
    let in_sync =
        || Metrics::of(&server).value("fanfare_connections_by_state", "state=\"in_sync\"") == 4 + 3;
    let mut producer = server.producer();
    let mut accounts: Vec<Account> = Vec::new();
    const EVENTS: u64 = 2_000;
    for _ in 0..EVENTS {
        producer.send(&line("a", &data));
    }
    // The slow ones begin to read when the others have everything.
    for (place, client) in fast.iter_mut().chain(&mut slow).enumerate() {
        let mut account = Account::default();
        account.take(client, EVENTS);
        assert_eq!(account.events + account.missed, EVENTS, "nothing is counted twice");
        assert!(place < 4 || account.missed > 0, "client {place} was too slow");
        accounts.push(account);
    }
    eventually("all are in sync", in_sync);
    producer.publish("a", "1");
    let all = fast.iter_mut().chain(&mut slow).zip(&mut accounts);
    all.for_each(|(client, account)| account.take(client, EVENTS + 1));
    let counted = |part: fn(&Account) -> u64| accounts.iter().map(part).sum::<u64>();
    eventually("all that went are gone", || server.counter("closed") == 21);
    eventually("all refusals are counted", || server.counter("refused") == 4 + 2);

    let (metrics, stats) = (Metrics::of(&server), server.stats());
    let events = counted(|account| account.events);
    assert_eq!(metrics.value("fanfare_deliveries_total", ""), events);
    assert_eq!(metrics.sum("fanfare_missed_events_total"), counted(|account| account.missed));
    assert_eq!(metrics.sum("fanfare_receipts_total"), counted(|account| account.receipts));
    let of_bytes =
        metrics.value("fanfare_missed_events_total", "cause=\"max_lag_bytes\",policy=\"all\"");
    let of_log = metrics.value("fanfare_missed_events_total", "cause=\"slow\",policy=\"all\"");
    assert_eq!(
        of_bytes + of_log,
        counted(|account| account.missed),
        "no other cause, no other policy"
    );
    assert_eq!(metrics.value("fanfare_upgrades_total", ""), 4 + 3 + 12 + 9);
    assert_eq!(metrics.value("fanfare_closes_total", "reason=\"peer_closed\""), 12);
    assert_eq!(metrics.value("fanfare_closes_total", "reason=\"peer_reset\""), 9);
    assert_eq!(metrics.sum("fanfare_closes_total"), 21);
    assert_eq!(metrics.value("fanfare_upgrades_refused_total", "reason=\"request\""), 4);
    assert_eq!(metrics.value("fanfare_upgrades_refused_total", "reason=\"gone\""), 2);
    assert_eq!(metrics.value("fanfare_connections", ""), 4 + 3);
    assert_eq!(metrics.value("fanfare_ingest_events_total", ""), EVENTS + 1);
    assert_eq!(metrics.sum("fanfare_source_events_total"), EVENTS + 1);
    assert_eq!(
        metrics.value("fanfare_wire_bytes_total", ""),
        metrics.value("fanfare_sent_bytes_total", "")
    );

    let sum = agree(&metrics, &stats);
    assert_eq!((sum("gaps"), sum("missed")), (counted(|a| a.receipts), counted(|a| a.missed)));
    let samples = |name: &str| metrics.value(&format!("fanfare_{name}_seconds_count"), "");
    assert!(samples("last_send") >= samples("first_send"), "one for each send, one for each pass");
    assert!(samples("first_send") > 0, "the last event was a pass to clients in sync");
}

#[test]
fn a_client_learns_whether_a_delay_is_its_own_or_the_feeds() {
    let server = Server::start(SMALL);
    let ask = |client: &mut Client| {
        let reply = client.ask(r#"{"method":"whoami","req_id":"w"}"#);
        assert_eq!((&reply["method"], &reply["req_id"]), (&json!("whoami"), &json!("w")));
        reply["result"].clone()
    };
    let mut client = Client::subscribed(&server, "a.*");
    let quiet = ask(&mut client);
    assert_eq!((&quiet["verdict"], &quiet["last_event_ms"]), (&json!("feed"), &Value::Null));
    let mut producer = server.producer();
    producer.publish("a.b", "1");
    assert_eq!(client.data(), "1");
    let well = ask(&mut client);
    assert_eq!(
        (&well["verdict"], &well["patterns"], &well["channels"]),
        (&json!("ok"), &json!(1), &json!(1))
    );
    assert_eq!(well["identity"], "anyone");
    assert!(well["tcp"]["rtt_us"].as_u64().unwrap() > 0 && well["cipher"].is_null(), "{well}");
    // Operators know it by the same id.
    let listed = server.admin("/connections");
    assert!(listed.contains(&format!("\"id\":{}", well["id"])), "{listed}");

    let mut slow = slow(&server);
    let data = format!("\"{}\"", "x".repeat(4 << 10));
    // Until it is asked, the kernel may take what fills the socket; it is filled once more then.
    let told = (0..20).find_map(|_| {
        for _ in 0..1_000 {
            producer.send(&line("c", &data));
        }
        eventually("its socket is full", || server.counter("blocked") == 1);
        let before = server.counter("commands");
        slow.send(Opcode::Text, br#"{"method":"whoami"}"#);
        eventually("it was heard", || server.counter("commands") > before);
        let told = loop {
            let message = slow.json();
            if message["method"] == "whoami" {
                break message["result"].clone();
            }
        };
        (told["blocked"] == true).then_some(told)
    });
    let told = told.expect("a client that does not read stays blocked");
    assert_eq!((&told["verdict"], &told["blocked"]), (&json!("you"), &json!(true)), "{told}");
    assert!(told["reason"].as_str().unwrap().starts_with("your socket is full"), "{told}");
    let wrong = client.ask(r#"{"method":"whoami","params":{"a":1}}"#);
    assert_eq!(wrong["error"]["code"], "param_unknown");
}

#[test]
fn a_drill_cuts_a_share_of_the_clients_and_only_where_it_is_allowed() {
    let cautious = Server::start("");
    let admin = cautious.admin.to_string();
    let command = format!("drill drop --fraction 0.5 --admin {admin}");
    let refused = fanfare(&command).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && said.contains("--drills"), "{said}");

    let server = Server::start("--drills");
    let admin = server.admin.to_string();
    // Our own client comes back by itself.
    let mut readers: Vec<_> = (0..6)
        .map(|_| {
            let mut command = fanfare("subscribe");
            command.arg(format!("ws://{}/v1", server.listen)).arg(">");
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    eventually("they have subscribed", || server.counter("subscribed") == 6);
    let command = format!("drill drop --fraction 1 --over 200ms --admin {admin} --json");
    let done = fanfare(&command).output().unwrap();
    for reader in &mut readers {
        let _ = reader.kill();
        let _ = reader.wait();
    }
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["connections"], &report["cut"]), (&json!(6), &json!(6)), "{report}");
    assert_eq!(report["subscribed"], json!([6, 6]), "{report}");
    assert!(report["handshakes_per_second"].as_f64().unwrap() > 0.0, "{report}");
    let stats = server.stats();
    let shards = stats["shards"].as_array().unwrap();
    let drilled = shards.iter().map(|shard| shard["closes"]["drill"].as_u64().unwrap());
    assert_eq!(drilled.sum::<u64>(), 6);
}
