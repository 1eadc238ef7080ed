//! What an operator sees and chooses: the admin address, cores, busy polling.

use crate::support::{Client, Server, eventually};

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
    serves("--cores 0 --spin", 1);
}

#[test]
fn two_shards_serve_parked_and_spinning() {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        eprintln!("SKIPPED: two shards need two cores, and there is one");
        return;
    }
    serves("--cores 0-1", 2);
    serves("--cores 0-1 --spin --ingest-core 1", 2);
}

#[test]
fn with_steering_a_client_comes_to_the_shard_of_its_cpu() {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        eprintln!("SKIPPED: two shards need two cores, and there is one");
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
