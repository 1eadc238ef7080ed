//! A real server in a child process, and small blocking peers for it.
//!
//! Everything waits for something that can be seen, with a deadline, and panics with the server's
//! own log when it does not come. Not here: expectations. Invariant: no port is fixed, and a server
//! is gone when its [`Server`] is dropped.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fanfare::protocol::ws::client;
use fanfare::protocol::ws::frame::{Opcode, write_masked};
use fanfare::protocol::ws::handshake::SUBPROTOCOL;
use fanfare::protocol::ws::reader::{Message, Reader, Role};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use socket2::{Domain, Socket, Type};

/// How long anything may take: a client that was told to come back in 10 s does so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The key of every upgrade request, and what RFC 6455 says must come back for it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Polls until `done`, and says what it waited for if that never comes.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Whether there are cores for two shards; if not, `scripts/test` says what is left out.
pub(crate) fn has_two_cores() -> bool {
    thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2)
}

/// The built program with these arguments, split at spaces.
pub(crate) fn fanfare(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments.split_whitespace());
    command
}

/// Sends a process a signal such as `TERM`.
pub(crate) fn signal(process: u32, name: &str) {
    let process = process.to_string();
    assert!(Command::new("kill").args(["-s", name, &process]).status().unwrap().success());
}

/// Waits for the end of a process.
fn end(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the process ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// A program that is ended with the test.
pub(crate) struct Started(pub(crate) Child);

impl Started {
    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        end(&mut self.0)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of its own, gone when it is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanfare-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `fanfare serve`.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) listen: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) tls: Option<SocketAddr>,
    /// URLs as in the ready line.
    pub(crate) sources: Vec<String>,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// A server with one TCP source and these flags, split at spaces.
    pub(crate) fn start(flags: &str) -> Self {
        Self::with_sources(&["tcp://127.0.0.1:0"], flags)
    }

    /// A server with these sources. No heartbeat comes between what a test waits for, however long
    /// that takes, unless the flags ask for some.
    pub(crate) fn with_sources(sources: &[&str], flags: &str) -> Self {
        let mut command = fanfare("serve --listen 127.0.0.1:0 --admin 127.0.0.1:0");
        command.args(flags.split_whitespace());
        if !flags.contains("--heartbeat") && !flags.contains("--config") {
            command.args(["--heartbeat", "1m"]);
        }
        for source in sources {
            command.args(["--source", source]);
        }
        Self::launch(command)
    }

    /// A server from a whole command, whose admin address must be given.
    pub(crate) fn launch(mut command: Command) -> Self {
        if command.get_args().all(|argument| argument != "stdin://") {
            command.stdin(Stdio::null());
        } else {
            command.stdin(Stdio::piped());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, copy) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = copy.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let listen = "0.0.0.0:0".parse().unwrap();
        let mut server = Self { child, listen, tls: None, sources: Vec::new(), admin: listen, log };
        if !ready.starts_with("ready ") {
            let _ = server.child.wait();
            panic!("no ready line but {ready:?}: {}", server.log());
        }
        for word in ready.split_whitespace() {
            match word.split_once('=') {
                Some(("listen", address)) => server.listen = address.parse().unwrap(),
                Some(("tls", address)) => server.tls = address.parse().ok(),
                Some(("admin", address)) => server.admin = address.parse().unwrap(),
                Some(("source", url)) => server.sources.push(url.to_owned()),
                _ => {}
            }
        }
        server
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A producer at its first source.
    pub(crate) fn producer(&self) -> Producer {
        let address = self.sources[0].strip_prefix("tcp://").expect("a TCP source");
        Producer::new(TcpStream::connect(address).unwrap())
    }

    /// The answer to `GET path` at the admin address.
    pub(crate) fn admin(&self, path: &str) -> String {
        self.ask("GET", path, "")
    }

    /// The answer to any request at the admin address, with these header lines.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let mut stream = connect(self.admin);
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        read_to_end(&mut stream)
    }

    /// All counters.
    pub(crate) fn stats(&self) -> Value {
        let answer = self.admin("/stats");
        let body = answer.split_once("\r\n\r\n").expect("a head and a body").1;
        serde_json::from_str(body).unwrap()
    }

    /// How many shards it has.
    pub(crate) fn shards(&self) -> usize {
        self.stats()["shards"].as_array().unwrap().len()
    }

    /// A counter, summed over the shards.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let stats = self.stats();
        let shards = stats["shards"].as_array().unwrap();
        shards.iter().map(|shard| shard[name].as_u64().expect(name)).sum()
    }

    /// Open descriptors of its process.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Names of the program's threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One that ends meanwhile has no name any more.
        tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
            .collect()
    }

    /// Sends a signal such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        end(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the server's log\n{}---", self.log());
        }
    }
}

/// A plain connection on which nothing waits for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same with a socket that holds little, so that the kernel does not do the reading for it.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything until the peer closes.
pub(crate) fn read_to_end(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// The answer to an upgrade request that is refused.
pub(crate) fn refusal(server: &Server) -> String {
    read_to_end(&mut asks(server))
}

/// A connection that has asked to be upgraded.
pub(crate) fn asks(server: &Server) -> TcpStream {
    let mut stream = connect(server.listen);
    let mut request = Vec::new();
    client::write_request(&mut request, "localhost", "/v1", KEY, Some(SUBPROTOCOL), None);
    stream.write_all(&request).unwrap();
    stream
}

/// An event as a producer writes it, newline included.
pub(crate) fn line(channel: &str, data: &str) -> String {
    format!("{{\"channel\":\"{channel}\",\"data\":{data}}}\n")
}

/// A producer's connection.
pub(crate) struct Producer<S = TcpStream>(BufReader<S>);

impl<S: Read + Write> Producer<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, lines: &str) {
        self.0.get_mut().write_all(lines.as_bytes()).unwrap();
    }

    /// Publishes one event.
    pub(crate) fn publish(&mut self, channel: &str, data: &str) {
        self.send(&line(channel, data));
    }

    /// Whether the server has ended the connection; waits for it.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.read_line(&mut String::new()).unwrap() == 0
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// What a subscriber hears.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(String),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The end of the stream.
    End,
}

/// One event as it arrives; `data` as its bytes are.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) channel: String,
    #[serde(default)]
    pub(crate) key: Option<String>,
    pub(crate) seq: u64,
    pub(crate) prev: u64,
    #[serde(default)]
    pub(crate) ts: Option<u64>,
    /// `update` or `snapshot`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    data: Box<RawValue>,
}

impl Event {
    pub(crate) fn data(&self) -> &str {
        self.data.get()
    }
}

/// A subscriber, over TCP or something on it.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    reader: Reader,
    input: Vec<u8>,
    at: usize,
    /// Notices that came where an answer was due.
    put_aside: VecDeque<Value>,
}

impl Client {
    /// Connects and takes the welcome.
    pub(crate) fn connect(server: &Server) -> Self {
        let mut client = Self::upgrade(connect(server.listen));
        let welcome = client.json();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        client
    }

    /// Connects and subscribes to one pattern.
    pub(crate) fn subscribed(server: &Server, pattern: &str) -> Self {
        let mut client = Self::connect(server);
        let reply = client.subscribe(&[pattern]);
        assert_eq!(reply["success"], true, "{reply}");
        client
    }

    /// Connects and subscribes to every event of one pattern.
    pub(crate) fn subscribed_to_all(server: &Server, pattern: &str) -> Self {
        let mut client = Self::connect(server);
        let params = serde_json::json!({ "channels": pattern, "policy": "all", "snapshot": false });
        let request = serde_json::json!({ "method": "subscribe", "params": params });
        let reply = client.ask(&request.to_string());
        assert_eq!(reply["success"], true, "{reply}");
        client
    }
}

impl<S: Read + Write> Client<S> {
    /// Goes on with a connection that was upgraded, and read up to the end of a frame.
    pub(crate) const fn taken_over(stream: S) -> Self {
        let reader = Reader::new(Role::Client, 16 << 20);
        Self { stream, reader, input: Vec::new(), at: 0, put_aside: VecDeque::new() }
    }

    /// Upgrades a connection.
    pub(crate) fn upgrade(mut stream: S) -> Self {
        let mut request = Vec::new();
        client::write_request(&mut request, "localhost", "/v1", KEY, Some(SUBPROTOCOL), None);
        stream.write_all(&request).unwrap();
        Self::accepted(stream)
    }

    /// Takes the answer to an upgrade request.
    pub(crate) fn accepted(mut stream: S) -> Self {
        let mut input = Vec::new();
        loop {
            let mut buffer = [0; 4_096];
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the server hung up: {}", String::from_utf8_lossy(&input));
            input.extend_from_slice(&buffer[..count]);
            if let Some(at) = client::parse_response(&input, KEY).unwrap() {
                return Self { input, at, ..Self::taken_over(stream) };
            }
        }
    }

    /// Sends one frame.
    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        write_masked(&mut frame, opcode, payload, [1, 2, 3, 4]);
        self.write(&frame);
    }

    /// Sends these bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next message, control frame, or the end.
    pub(crate) fn hear(&mut self) -> Heard {
        let mut buffer = [0; 16 << 10];
        loop {
            let mut used = 0;
            let message = self.reader.next_message(&mut self.input[self.at..], &mut used);
            let mut ping = None;
            let heard = match message.expect("the server keeps to RFC 6455") {
                None => None,
                Some(Message::Text(text)) => Some(Heard::Text(text.to_owned())),
                Some(Message::Pong(payload)) => Some(Heard::Pong(payload.to_vec())),
                Some(Message::Close { code, reason }) => {
                    Some(Heard::Close(code, reason.to_owned()))
                }
                Some(Message::Ping(payload)) => {
                    ping = Some(payload.to_vec());
                    None
                }
                Some(Message::Binary(_)) => panic!("the server never sends binary messages"),
            };
            self.at += used;
            if let Some(heard) = heard {
                return heard;
            }
            if let Some(payload) = ping {
                self.send(Opcode::Pong, &payload);
                continue;
            }
            self.input.clear();
            self.at = 0;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Heard::End,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// The next text message as JSON.
    pub(crate) fn json(&mut self) -> Value {
        if let Some(notice) = self.put_aside.pop_front() {
            return notice;
        }
        self.heard_json()
    }

    fn heard_json(&mut self) -> Value {
        match self.hear() {
            Heard::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("a text message was due, not {other:?}"),
        }
    }

    /// Sends a command and takes the next message, which must be its answer. The one notice that
    /// may come at any moment, that the credential is to expire, is put aside for
    /// [`json`](Self::json).
    pub(crate) fn ask(&mut self, command: &str) -> Value {
        self.send(Opcode::Text, command.as_bytes());
        loop {
            let reply = self.heard_json();
            if reply["type"] == "auth_expiring" {
                self.put_aside.push_back(reply);
                continue;
            }
            assert!(reply["success"].is_boolean(), "{reply}");
            return reply;
        }
    }

    /// Subscribes to what comes next and returns the answer.
    pub(crate) fn subscribe(&mut self, channels: &[&str]) -> Value {
        let params = serde_json::json!({ "channels": channels, "snapshot": false });
        self.ask(&serde_json::json!({ "method": "subscribe", "params": params }).to_string())
    }

    /// The next event; heartbeats are passed over.
    pub(crate) fn event(&mut self) -> Event {
        loop {
            match self.hear() {
                Heard::Text(text) if text.contains(r#""type":"heartbeat""#) => {}
                Heard::Text(text) => {
                    return serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
                }
                other => panic!("an event was due, not {other:?}"),
            }
        }
    }

    /// The data of the next event.
    pub(crate) fn data(&mut self) -> String {
        self.event().data().to_owned()
    }

    /// Asserts that nothing but the answer to a ping comes: everything sent before has been heard.
    pub(crate) fn hears_nothing_more(&mut self) {
        self.send(Opcode::Ping, b"?");
        assert_eq!(self.hear(), Heard::Pong(b"?".to_vec()));
    }

    /// Takes the server's close, answers it and takes the end; its code.
    pub(crate) fn closed(&mut self) -> u16 {
        let Heard::Close(Some(code), _) = self.hear() else { panic!("a close was due") };
        self.send(Opcode::Close, &code.to_be_bytes());
        assert_eq!(self.hear(), Heard::End);
        code
    }
}
