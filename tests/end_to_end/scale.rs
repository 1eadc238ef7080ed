//! Many connections at once; `bench/idle.rs` does the same with 15,000 and measures.

use crate::support::{Client, Server};

#[test]
fn two_thousand_idle_connections_each_receive_what_is_published() {
    let server = Server::start("");
    let mut clients: Vec<_> =
        (0..2_000).map(|_| Client::subscribed(&server, "quote.BTC")).collect();
    assert_eq!(server.counter("connections"), 2_000);
    let mut producer = server.producer();
    for round in 1..=3 {
        producer.publish("other", "0");
        producer.publish("quote.BTC", &round.to_string());
        for client in &mut clients {
            let event = client.event();
            assert_eq!((event.seq, event.data()), (2 * round, round.to_string().as_str()));
        }
    }
    let last = clients.pop().unwrap();
    drop(clients);
    crate::support::eventually("the others are gone", || server.counter("connections") == 1);
    drop(last);
}
