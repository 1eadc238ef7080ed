//! Streams with something in them, or missing from them, that no node may stumble over.
//!
//! What a node that was there makes of it, one that comes later makes of it, too. Without
//! nats-server each of these says SKIPPED.

use crate::nats::{first_there, frames_to, node, subscribe, values, welcome};
use crate::nats_server::NatsServer;

#[test]
fn headers_that_a_publisher_wrote_do_not_pass_for_the_streams_own() {
    let Some(nats) = NatsServer::start() else { return };
    nats.publish("MD", "", "");
    let there = node(&nats, "");
    let mut client = first_there(&there);
    let forged: [&[u8]; 3] =
        [b"Nats-Sequence: 77", b"Nats-Subject: md.other", b"Nats-Time-Stamp: 2001-01-01T00:00:00Z"];
    for n in 1..=4 {
        nats.put_with("md.a", &forged, &n.to_string());
    }
    let live = frames_to(&mut client, 4);
    let late = node(&nats, "?window=1");
    let (mut of_there, _) = subscribe(&there, None);
    let (mut of_late, _) = subscribe(&late, None);
    assert_eq!(values(&mut of_late), values(&mut of_there));
    let epoch = welcome(&there)["epoch"].as_str().unwrap().to_owned();
    let (mut client, reply) = subscribe(&late, Some((&epoch, 0)));
    assert_eq!(reply["result"][0]["resumed"], true, "{reply}");
    assert_eq!(frames_to(&mut client, 4), live);
}
