//! A real NATS server in a child process, with a store of its own.
//!
//! Not here: expectations. Invariant: no port is fixed, and a server is gone when its
//! [`NatsServer`] is dropped. Where the program is not installed, a test says SKIPPED.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{Folder, eventually, fanfare};

/// Its configuration, in its folder.
const CONFIGURATION: &str = "nats.conf";

/// A running `nats-server` with JetStream.
pub(crate) struct NatsServer {
    child: Child,
    folder: Folder,
    port: u16,
    /// What every URL of it needs, as `name=value&…`.
    access: String,
}

/// Where `scripts/nats-server` has put it, or what `FANFARE_NATS_SERVER` names, or the PATH.
fn program() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("FANFARE_NATS_SERVER").map(PathBuf::from);
    let own = root.join(".tools/nats/bin/nats-server");
    let all = named.into_iter().chain([own, "nats-server".into()]);
    all.into_iter().find(|path| Command::new(path).arg("--version").output().is_ok())
}

impl NatsServer {
    /// Starts one, if it is installed.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(|_| String::new(), String::new())
    }

    /// Starts one with this configuration, whose files are in its folder, if it is installed;
    /// `access` is what every URL of it needs.
    pub(crate) fn start_with(
        configuration: impl FnOnce(&Folder) -> String,
        access: String,
    ) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("SKIPPED: nats-server is not installed; scripts/nats-server does it");
            return None;
        };
        let folder = Folder::new();
        folder.file(CONFIGURATION, &configuration(&folder));
        // The port must be the same after a restart, so it is picked here; taken again, it is
        // picked again.
        loop {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(child) = launch(&program, &folder, port) {
                return Some(Self { child, folder, port, access });
            }
        }
    }

    /// The URL of a stream there, with these options.
    pub(crate) fn stream(&self, name: &str, options: &str) -> String {
        let url = self.open(name, options);
        match (self.access.as_str(), options) {
            ("", _) => url,
            (access, "") => format!("{url}?{access}"),
            (access, _) => format!("{url}&{access}"),
        }
    }

    /// The same without what it needs.
    pub(crate) fn open(&self, name: &str, options: &str) -> String {
        format!("nats://127.0.0.1:{}/{name}{options}", self.port)
    }

    /// The URL of a stream of it as seen from afar: what is said takes so long each way.
    pub(crate) fn afar(&self, name: &str, way: Duration) -> String {
        let (listener, port) = (TcpListener::bind("127.0.0.1:0").unwrap(), self.port);
        let far = listener.local_addr().unwrap();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // It may be gone.
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
                let (to, from) = (server.try_clone().unwrap(), near.try_clone().unwrap());
                thread::spawn(move || carry(near, to, way));
                thread::spawn(move || carry(server, from, way));
            }
        });
        format!("nats://{far}/{name}")
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with the store that it had.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let program = program().unwrap();
        eventually("the NATS server has its port again", || {
            match launch(&program, &self.folder, self.port) {
                Some(child) => {
                    self.child = child;
                    true
                }
                None => false,
            }
        });
    }

    /// Makes a stream, if there is none, and publishes these lines to it with `fanfare publish`.
    pub(crate) fn publish(&self, name: &str, flags: &str, lines: &str) -> String {
        let mut command = fanfare("publish --create");
        command.args(flags.split_whitespace()).arg(self.stream(name, ""));
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Asks JetStream's API: `STREAM.PURGE.MD` and the like.
    pub(crate) fn ask(&self, what: &str, body: &str) -> String {
        self.request(&format!("$JS.API.{what}"), body)
    }

    /// Takes a message out of the stream MD.
    pub(crate) fn delete(&self, seq: u64) {
        let deleted = self.ask("STREAM.MSG.DELETE.MD", &format!("{{\"seq\":{seq}}}"));
        assert!(deleted.contains("\"success\":true"), "{deleted}");
    }

    /// Publishes a message as any client of NATS may, and waits until a stream has it.
    pub(crate) fn put(&self, subject: &str, body: &str) {
        stored(&self.request(subject, body));
    }

    /// The same with lines of a header, which the server does not look at.
    pub(crate) fn put_with(&self, subject: &str, lines: &[&[u8]], body: &str) {
        let mut message = b"NATS/1.0\r\n".to_vec();
        lines.iter().for_each(|line| message.extend([line, &b"\r\n"[..]].concat()));
        message.extend(b"\r\n");
        let head = message.len();
        message.extend(body.as_bytes());
        let command = format!("HPUB {subject} answer {head} {}", message.len());
        stored(&self.say(&command, &message));
    }

    fn request(&self, subject: &str, body: &str) -> String {
        self.say(&format!("PUB {subject} answer {}", body.len()), body.as_bytes())
    }

    /// Sends a command with its message, and gives what is answered to the subject `answer`.
    fn say(&self, command: &str, message: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let before = "CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB answer 1\r\n";
        let request = [before.as_bytes(), command.as_bytes(), b"\r\n", message, b"\r\n"].concat();
        stream.write_all(&request).unwrap();
        let mut line = String::new();
        while !line.starts_with("MSG answer") {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        line.clear();
        lines.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// That an answer is a stream's word for having a message.
fn stored(answer: &str) {
    assert!(answer.contains("\"seq\""), "{answer}");
}

/// Carries bytes from one socket to another, each so long.
fn carry(mut from: TcpStream, mut to: TcpStream, way: Duration) {
    let mut buffer = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        thread::sleep(way);
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Starts the program and waits until it serves; none when the port was taken.
fn launch(program: &PathBuf, folder: &Folder, port: u16) -> Option<Child> {
    let mut command = Command::new(program);
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd", &folder.path("nats")]);
    command.args(["-c", &folder.path(CONFIGURATION)]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        said = said + &line + "\n";
        if line.contains("Server is ready") {
            // Nobody reads on, and the server must not wait for that.
            thread::spawn(move || lines.for_each(drop));
            return Some(child);
        }
    }
    let _ = child.wait();
    assert!(said.contains("address already in use"), "nats-server does not start: {said}");
    None
}
