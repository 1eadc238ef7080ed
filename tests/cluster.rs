//! Chaos in a cluster: nodes and NATS servers die, are cut off and drain; and every client ends
//! with the capture, nothing lost, nothing twice, the same bytes from every node.
//!
//! Goal: a capture at five times its pace goes through a stream of three replicas to three nodes
//! and on to clients of `fanfare::client`; a third of them have two connections. Meanwhile a node
//! is killed, the leader of the stream is killed, a node's network is cut, and a node is drained.
//! No client may be told of a loss: nothing of this is one.
//!
//! Method: everything runs in network namespaces that belong to this test's own namespaces of
//! processes, network and mounts, so that all of it is gone when the test is, however it ends.
//! The short form takes about a minute with the vendored capture. `CLUSTER=long` plays the recorded
//! day for five minutes to 600 clients.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::network::Network;
use cluster::stage::Stage;
use cluster::witness::{Reader, Truth, Weather};
use day::Day;

#[path = "cluster/mod.rs"]
mod cluster;
#[path = "end_to_end/day.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod day;
#[path = "end_to_end/support.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod support;

/// Set in the namespaces.
const INSIDE: &str = "FANFARE_CLUSTER_INSIDE";

/// From the last event until everybody has everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Times the pace of the capture.
const SPEED: u32 = 5;

#[test]
#[ignore = "a step of its own: scripts/test cluster"]
fn every_client_ends_with_the_capture_whatever_happens_to_nodes_and_servers() {
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    let is_long = std::env::var("CLUSTER").is_ok_and(|form| form == "long");
    let Some(nats) = cluster::nats_server() else { return };
    let (day, clients, span) = if is_long {
        (Day::found(), 600, Duration::from_secs(300))
    } else {
        (Day::vendored(), 90, Duration::from_secs(36))
    };
    let begun = Instant::now();
    let truth = Arc::new(Truth::new(&day, span * SPEED));
    println!("{} events, {clients} clients, {:.1?}", truth.count(), begun.elapsed());
    let network = Network::new();
    let mut stage = Stage::new(&network, &nats);
    println!("three servers and three nodes are ready, {:.1?}", begun.elapsed());

    let weather = Arc::new(Weather::default());
    let readers: Vec<_> = (0..clients)
        .map(|number| Reader::start(number, &stage.nodes(), &truth, &weather))
        .collect();
    weather.wait_until_all_have_subscribed(clients);
    println!("everybody has subscribed, {:.1?}", begun.elapsed());
    let producer = stage.produce(&truth, SPEED);
    let part = span / 10;
    stage.at(part, |stage| stage.kill_node(0));
    stage.at(part * 2, |stage| stage.start_node(0));
    stage.at(part * 3, Stage::kill_leader);
    stage.at(part * 4, Stage::start_server);
    let cut = if is_long { Duration::from_secs(20) } else { part * 2 };
    stage.at(part * 5, |stage| stage.cut(1));
    stage.at(part * 5 + cut, |stage| stage.mend(1));
    stage.at(part * 8, |stage| stage.drain_node(2));
    stage.at(part * 9, |stage| stage.start_node(2));
    producer.join().unwrap();
    println!("all is published, {:.1?}", begun.elapsed());
    weather.calm(PATIENCE);
    let outcomes: Vec<_> = readers.into_iter().map(Reader::end).collect();
    println!("everybody has everything, {:.1?}", begun.elapsed());
    cluster::witness::judge(&outcomes, &truth);
}

/// Runs this test once more, in namespaces of its own.
fn enter() {
    let mut namespaces =
        vec!["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    // SAFETY: the call reads who this process is.
    if unsafe { libc::geteuid() } != 0 {
        namespaces.push("--map-root-user");
    }
    let trial = Command::new("unshare").args(&namespaces).args(["ip", "link"]).output();
    if !trial.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no network namespaces can be made here: {trial:?}");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(&namespaces).arg(std::env::current_exe().unwrap());
    let name = "every_client_ends_with_the_capture_whatever_happens_to_nodes_and_servers";
    let status = command
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "inside of the namespaces: {status}");
}
