//! Three NATS servers, three nodes and a producer, and what is done to them.
//!
//! Not here: the namespaces ([`super::network`]) and the clients. Invariant: whatever is killed is
//! started again with what it had on disk, as a service manager would.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::network::{Network, Place};
use super::witness::Truth;
use crate::support::{Folder, Server, connect, eventually, fanfare, read_to_end};

/// Bytes that the producer writes at once, at most.
const BATCH_BYTES: usize = 32 << 10;

/// See the module's head.
pub(crate) struct Stage<'a> {
    network: &'a Network,
    nats: PathBuf,
    servers: [Option<Child>; 3],
    nodes: [Option<Server>; 3],
    /// Takes the producer's events and puts them into the stream.
    gateway: Server,
    begun: Option<Instant>,
    folder: Folder,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(network: &'a Network, nats: &Path) -> Self {
        let folder = Folder::new();
        let mut servers = [None, None, None];
        for (number, server) in servers.iter_mut().enumerate() {
            *server = Some(start_server(nats, &folder, number));
        }
        for number in 0..3 {
            eventually("a server is well", || monitor(number, "/healthz").is_some());
        }
        eventually("the stream is made", || {
            let mut create = fanfare("publish --create --replicas 3");
            create.args([&stream(""), "/dev/null"]).output().unwrap().status.success()
        });
        let mut command = fanfare("serve --listen 127.0.0.1:0 --admin 127.0.0.1:0");
        command.args(["--source", "tcp://127.0.0.1:0", "--source", &stream("?forward=acked")]);
        let gateway = Server::launch(command);
        let (nats, nodes) = (nats.to_owned(), [const { None }; 3]);
        let mut stage = Self { network, nats, servers, nodes, gateway, begun: None, folder };
        for number in 0..3 {
            stage.start_node(number);
        }
        stage
    }

    /// The addresses of all nodes, as a client takes them.
    pub(crate) fn nodes(&self) -> String {
        let address = |number| format!("ws://{}:9001/v1", Place::Node(number).address());
        [0, 1, 2].map(address).join(",")
    }

    /// Publishes everything at a multiple of the capture's pace.
    pub(crate) fn produce(&mut self, truth: &Arc<Truth>, speed: u32) -> JoinHandle<()> {
        self.begun = Some(Instant::now());
        let truth = Arc::clone(truth);
        let address = self.gateway.sources[0].strip_prefix("tcp://").unwrap().to_owned();
        thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let begun = Instant::now();
            let mut batch = Vec::new();
            for line in &truth.lines {
                let early = (line.at / speed).saturating_sub(begun.elapsed());
                if !early.is_zero() || batch.len() > BATCH_BYTES {
                    stream.write_all(&batch).unwrap();
                    batch.clear();
                    // The pace of the producer; nobody waits for it.
                    thread::sleep(early);
                }
                batch.extend_from_slice(&line.text);
            }
            stream.write_all(&batch).unwrap();
        })
    }

    /// Does something once so much time has passed since the first event.
    pub(crate) fn at(&mut self, due: Duration, act: impl FnOnce(&mut Self)) {
        let elapsed = self.begun.expect("it is produced").elapsed();
        // What happens is fixed by the clock, as the capture is.
        thread::sleep(due.saturating_sub(elapsed));
        act(self);
    }

    pub(crate) fn start_node(&mut self, number: usize) {
        let place = Place::Node(number);
        let address = place.address();
        let mut command = place.command(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["serve", "--node", &format!("node{number}"), "--cores", "0"]);
        command.args(["--listen", &format!("{address}:9001")]);
        command.args(["--admin", "127.0.0.1:9090"]);
        command.args(["--source", &stream(""), "--heartbeat", "500ms", "--drain", "2s"]);
        self.nodes[number] = Some(Server::launch(command));
        println!("node {number} is started");
    }

    pub(crate) fn kill_node(&mut self, number: usize) {
        let mut node = self.nodes[number].take().expect("it runs");
        node.signal("KILL");
        node.end();
        println!("node {number} was killed");
    }

    pub(crate) fn drain_node(&mut self, number: usize) {
        let mut node = self.nodes[number].take().expect("it runs");
        node.signal("TERM");
        let status = node.end();
        assert!(status.success(), "{status}: {}", node.log());
        println!("node {number} has drained");
    }

    pub(crate) fn cut(&mut self, number: usize) {
        self.network.cut(Place::Node(number));
        println!("node {number} is cut off");
    }

    pub(crate) fn mend(&mut self, number: usize) {
        self.network.mend(Place::Node(number));
        println!("node {number} is back");
    }

    /// Kills the server that leads the stream.
    pub(crate) fn kill_leader(&mut self) {
        let mut found = None;
        eventually("the stream has a leader", || {
            found = leader();
            found.is_some()
        });
        let leader = found.expect("it was found");
        let mut server = self.servers[leader].take().expect("it runs");
        server.kill().unwrap();
        server.wait().unwrap();
        println!("server {leader} was killed, which led the stream");
    }

    /// Starts the server that was killed.
    pub(crate) fn start_server(&mut self) {
        for (number, server) in self.servers.iter_mut().enumerate() {
            if server.is_none() {
                *server = Some(start_server(&self.nats, &self.folder, number));
                println!("server {number} is started");
            }
        }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        for server in self.servers.iter_mut().flatten() {
            let _gone = server.kill();
            let _gone = server.wait();
        }
        if thread::panicking() {
            eprintln!("--- the gateway's log\n{}---", self.gateway.log());
            for node in self.nodes.iter().flatten() {
                eprintln!("--- a node's log\n{}---", node.log());
            }
        }
    }
}

/// The URL of the stream, with these options.
fn stream(options: &str) -> String {
    let address = |number| format!("{}:4222", Place::Server(number).address());
    format!("nats://{}/MD{options}", [0, 1, 2].map(address).join(","))
}

fn start_server(nats: &Path, folder: &Folder, number: usize) -> Child {
    let address = Place::Server(number).address();
    let route = |number| format!("nats://{}:6222", Place::Server(number).address());
    let mut command = Place::Server(number).command(nats);
    command.args(["--name", &format!("nats{number}"), "--addr", &address, "--port", "4222"]);
    command.args(["--http_port", "8222", "--jetstream"]);
    command.args(["--store_dir", &folder.path(&format!("nats{number}"))]);
    command.args(["--cluster_name", "test", "--cluster", &route(number)]);
    command.args(["--routes", &[0, 1, 2].map(route).join(",")]);
    let log = std::fs::File::create(folder.path(&format!("nats{number}.log"))).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// What a server's monitor answers, if it is well.
fn monitor(number: usize, path: &str) -> Option<String> {
    let address = format!("{}:8222", Place::Server(number).address()).parse().unwrap();
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
    let mut stream = connect(address);
    // An answer in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let answer = read_to_end(&mut stream);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.0 200").then(|| body.to_owned())
}

/// Which server leads the stream.
fn leader() -> Option<usize> {
    for number in 0..3 {
        let Some(body) = monitor(number, "/jsz?accounts=1&streams=1") else { continue };
        let state: Value = serde_json::from_str(&body).unwrap();
        let streams = state["account_details"][0]["stream_detail"].as_array()?.clone();
        let leader = streams[0]["cluster"]["leader"].as_str()?.to_owned();
        return leader.strip_prefix("nats")?.parse().ok();
    }
    None
}
