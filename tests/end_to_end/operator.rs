//! What an operator sees and chooses: the admin address, cores, busy polling.

use fanfare::limits::LOOKS_PER_TURN;
use fanfare::protocol::ws::frame::Opcode;
use serde_json::Value;

use crate::support::{Client, Folder, Heard, Server, eventually, fanfare, has_two_cores};

#[test]
fn the_admin_address_answers_health_and_counters_and_nothing_else() {
    let server = Server::start("");
    assert!(server.admin("/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(server.admin("/healthz").ends_with("\r\n\r\nok\n"));
    let answer = server.admin("/metric");
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.contains("/stats"));

    let mut client = Client::subscribed(&server, ">");
    let mut producer = server.producer();
    producer.publish("a", "1");
    producer.send("nonsense\n");
    producer.reply();
    assert_eq!(client.data(), "1");
    eventually("the counters say so", || server.counter("deliveries") == 1);
    assert_eq!((server.counter("connections"), server.counter("commands")), (1, 1));
    let stats = server.stats();
    assert_eq!((&stats["ingest"]["events"], &stats["ingest"]["lines_bad"]), (&1.into(), &1.into()));
    drop(client);
    eventually("the connection is gone", || server.counter("connections") == 0);
}

/// Clients on every shard get the same events in the same order.
fn serves(flags: &str, shards: usize) {
    let server = Server::start(flags);
    assert_eq!(server.shards(), shards);
    let mut clients: Vec<_> = (0..16).map(|_| Client::subscribed(&server, "a.*")).collect();
    let mut producer = server.producer();
    for seq in 1..=200 {
        producer.publish("a.b", &format!("{{\"n\":{seq}}}"));
    }
    for client in &mut clients {
        for seq in 1..=200 {
            let event = client.event();
            assert_eq!((event.seq, event.prev), (seq, seq - 1));
        }
        client.hears_nothing_more();
    }
}

#[test]
fn one_shard_serves_parked_and_spinning() {
    serves("--cores 0", 1);
    serves("--cores 0 --ingest-core 0", 1);
    serves("--cores 0 --spin", 1);
}

#[test]
fn sources_are_guests_of_a_shard_on_their_core_where_that_holds_up_nobody() {
    let has_ingest = |flags: &str| {
        let server = Server::start(flags);
        server.threads().iter().any(|name| name.starts_with("ingest"))
    };
    let journal = Folder::new();
    let journal = format!("--cores 0 --ingest-core 0 --journal {}", journal.path("journal"));
    assert!(!has_ingest("--cores 0 --ingest-core 0"));
    assert!(has_ingest("--cores 0 --ingest-core 0 --spin"), "it would not look up from its ring");
    assert!(has_ingest(&journal), "a disk that stands still would stop its clients");
}

#[test]
fn a_shard_serves_beside_more_producers_than_have_turns_and_stops_in_order() {
    let mut server = Server::start("--cores 0 --ingest-core 0 --drain 0ms");
    let mut clients: Vec<_> = (0..300).map(|_| Client::subscribed(&server, ">")).collect();
    let mut producers: Vec<_> = (0..2 * LOOKS_PER_TURN).map(|_| server.producer()).collect();
    let events = 20 * producers.len() as u64;
    for number in 0..20 {
        producers.iter_mut().for_each(|producer| producer.publish("a", &number.to_string()));
    }
    eventually("all were sent everything", || server.counter("deliveries") == 300 * events);
    server.signal("TERM");
    for client in &mut clients {
        let seqs: Vec<_> = (0..events).map(|_| client.event().seq).collect();
        assert_eq!(seqs, Vec::from_iter(1..=events));
        assert_eq!(client.closed(), 1001);
    }
    assert_eq!(server.end().code(), Some(0), "{}", server.log());
}

#[test]
fn two_shards_serve_parked_and_spinning() {
    if !has_two_cores() {
        return;
    }
    serves("--cores 0-1", 2);
    serves("--cores 0-1 --spin --ingest-core 1", 2);
}

#[test]
fn with_steering_a_client_comes_to_the_shard_of_its_cpu() {
    if !has_two_cores() {
        return;
    }
    // Over loopback, the CPU that receives a connection is the one that its client runs on.
    let server = Server::start("--cores 0-1 --steer-by-cpu");
    for core in [1, 0, 1] {
        let before = opened(&server);
        let clients = std::thread::scope(|scope| {
            let connect = || {
                assert!(core_affinity::set_for_current(core_affinity::CoreId { id: core }));
                (0..20).map(|_| Client::connect(&server)).collect::<Vec<_>>()
            };
            scope.spawn(connect).join().unwrap()
        });
        let after = opened(&server);
        let gained: Vec<_> =
            after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let expected = if core == 0 { [20, 0] } else { [0, 20] };
        assert_eq!(gained, expected, "from CPU {core}");
        drop(clients);
    }
}

/// Connections that each shard has opened.
fn opened(server: &Server) -> Vec<u64> {
    let stats = server.stats();
    let shards = stats["shards"].as_array().unwrap();
    shards.iter().map(|shard| shard["opened"].as_u64().unwrap()).collect()
}

/// The body of an answer, which must be JSON.
fn body(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {head}\n{body}"))
}

#[test]
fn lists_say_who_is_there_and_what_is_busy_and_one_client_can_be_sent_away() {
    let server = Server::start("--cores 0");
    let (mut stays, mut goes) = (Client::subscribed(&server, "a.*"), Client::connect(&server));
    let address = goes.stream.local_addr().unwrap().to_string();
    let mut producer = server.producer();
    (0..3).for_each(|_| producer.publish("a.b", "1"));
    producer.publish("c", "2");
    (0..3).for_each(|_| assert_eq!(stays.data(), "1"));

    let listed = body(&server.admin("/connections?sort=drops&limit=10"));
    assert_eq!((&listed["total"], &listed["shards_silent"]), (&2.into(), &serde_json::json!([])));
    let rows = listed["connections"].as_array().unwrap();
    let row = rows.iter().find(|row| row["address"] == address.as_str()).unwrap();
    assert_eq!((&row["identity"], &row["patterns"]), (&"anyone".into(), &0.into()), "{row}");
    assert!(row["tcp"]["sent_bytes"].as_u64().unwrap() > 100, "{row}");
    let one = body(&server.admin("/connections?sort=rtt&limit=1"));
    assert_eq!(one["connections"].as_array().unwrap().len(), 1);

    let channels = body(&server.admin("/channels"));
    assert_eq!(channels["total"], 2);
    let rows = channels["channels"].as_array().unwrap();
    let subscribers =
        |name: &str| &rows.iter().find(|row| row["channel"] == name).unwrap()["subscribers"];
    assert_eq!((subscribers("a.b"), subscribers("c")), (&1.into(), &0.into()));

    let id = row["id"].as_str().unwrap();
    let kick = format!("/connections/{id}/kick");
    assert!(server.ask("GET", &kick, "").starts_with("HTTP/1.1 404 "), "it is no GET");
    let foreign = server.ask("POST", &kick, "Origin: https://elsewhere.example\r\n");
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    assert!(server.ask("POST", &kick, "").starts_with("HTTP/1.1 200 "));
    let reason = "closed by the operator; connect again after a while";
    assert_eq!(goes.hear(), Heard::Close(Some(4103), reason.into()));
    assert!(server.ask("POST", &kick, "").starts_with("HTTP/1.1 404 "), "it is gone");
    producer.publish("a.b", "3");
    assert_eq!(stays.data(), "3", "the other one has noticed nothing");
    goes.send(Opcode::Close, &4103_u16.to_be_bytes());
    eventually("it is counted", || server.stats()["shards"][0]["closes"]["kicked"] == 1);
}

#[test]
fn an_admin_address_with_a_token_answers_nobody_else() {
    let (folder, token) = (Folder::new(), "0123456789abcdef0123456789abcdef");
    let file = folder.file("token", &format!("{token}\n"));
    let server = Server::start(&format!("--admin-token-file {file}"));
    for path in ["/healthz", "/metrics", "/stats", "/nowhere"] {
        let refused = server.admin(path);
        assert!(
            refused.starts_with("HTTP/1.1 401 ") && refused.contains("WWW-Authenticate: Bearer")
        );
        let wrong = server.ask("GET", path, "Authorization: Bearer 0123\r\n");
        assert!(wrong.starts_with("HTTP/1.1 401 "), "{wrong}");
    }
    let shown = server.ask("GET", "/healthz", &format!("Authorization: Bearer {token}\r\n"));
    assert!(shown.ends_with("\r\n\r\nok\n"), "{shown}");
    for (address, cure) in [("0.0.0.0:0", "admin_token_file"), ("[::]:0", "admin_token_file")] {
        let mut command = fanfare("serve --listen 127.0.0.1:0 --source tcp://127.0.0.1:0 --admin");
        let output = command.arg(address).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(cure), "{said}");
    }
}

#[test]
fn readiness_can_want_every_source_and_names_those_that_are_down() {
    let server = Server::start("--ready-needs-sources");
    let down = server.admin("/readyz");
    assert!(down.starts_with("HTTP/1.1 503 "), "{down}");
    assert!(down.contains(&format!("source {} is down", server.sources[0])), "{down}");
    let producer = server.producer();
    eventually("it is ready", || server.admin("/readyz").starts_with("HTTP/1.1 200 "));
    drop(producer);
    eventually("it is not", || server.admin("/readyz").starts_with("HTTP/1.1 503 "));
}
