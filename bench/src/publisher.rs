//! How an event is written for each kind of server, and what the server says to its producer.
//!
//! Not here: when (`producer`). Invariant: what the server says never holds up an event.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fanfare::protocol::ws::client::{key, parse_response, write_request};
use fanfare::protocol::ws::frame::{Opcode, write_masked};

use crate::frames;
use crate::payload::{Said, Template};
use crate::server::Publish;

/// How long the server may take to greet its producer.
const GREETING: Duration = Duration::from_secs(5);
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The producer's connection.
#[derive(Debug)]
pub struct Publisher {
    pub stream: TcpStream,
    kind: Publish,
    target: String,
    template: Template,
    payload: Vec<u8>,
    /// What the server said and is not understood yet.
    heard: Vec<u8>,
    /// Answers to the server, to be sent before the next event.
    replies: Vec<u8>,
}

impl Publisher {
    /// Connects, and says what has to be said first.
    ///
    /// # Errors
    /// When the server is not there, or does not speak what its file says.
    pub fn connect(
        feed: SocketAddr,
        kind: Publish,
        target: &str,
        template: Template,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(feed)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GREETING))?;
        let (payload, heard, replies) = (Vec::new(), Vec::new(), Vec::new());
        let target = target.to_owned();
        let mut publisher = Self { stream, kind, target, template, payload, heard, replies };
        match kind {
            Publish::Websocket => publisher.upgrade(feed)?,
            Publish::Nats => publisher.greet_nats()?,
            Publish::Ndjson | Publish::Lines | Publish::Http => {}
        }
        publisher.stream.set_nonblocking(true)?;
        Ok(publisher)
    }

    fn upgrade(&mut self, feed: SocketAddr) -> io::Result<()> {
        let key = key([7; 16]);
        let mut request = Vec::new();
        write_request(&mut request, &feed.to_string(), &self.target, &key, None, None);
        self.stream.write_all(&request)?;
        loop {
            self.read_some()?;
            if let Some(used) = parse_response(&self.heard, &key).map_err(io::Error::other)? {
                self.heard.drain(..used);
                return Ok(());
            }
        }
    }

    fn greet_nats(&mut self) -> io::Result<()> {
        self.stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")?;
        while !self.heard.windows(6).any(|words| words == b"PONG\r\n") {
            self.read_some()?;
        }
        self.heard.clear();
        Ok(())
    }

    fn read_some(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            count => {
                self.heard.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Appends an event as it goes onto the wire.
    pub fn write(&mut self, out: &mut Vec<u8>, said: Said) {
        if !self.replies.is_empty() {
            out.append(&mut self.replies);
        }
        let bytes = self.template.bytes();
        match self.kind {
            Publish::Ndjson => {
                out.extend_from_slice(br#"{"channel":"bench."#);
                write!(out, "{}", said.channel).expect("memory takes everything");
                out.extend_from_slice(br#"","data":"#);
                self.template.write(out, said);
                out.extend_from_slice(b"}\n");
            }
            Publish::Lines => {
                self.template.write(out, said);
                out.push(b'\n');
            }
            Publish::Websocket => {
                self.payload.clear();
                self.template.write(&mut self.payload, said);
                write_masked(out, Opcode::Text, &self.payload, MASK);
            }
            Publish::Nats => {
                write!(out, "PUB {} {bytes}\r\n", self.target).expect("memory takes everything");
                self.template.write(out, said);
                out.extend_from_slice(b"\r\n");
            }
            Publish::Http => {
                let target = &self.target;
                write!(
                    out,
                    "POST {target} HTTP/1.1\r\nHost: bench\r\nContent-Length: {bytes}\r\n\r\n"
                )
                .expect("memory takes everything");
                self.template.write(out, said);
            }
        }
    }

    /// Reads what the server said, and prepares an answer where it wants one.
    ///
    /// # Errors
    /// When the connection is over.
    pub fn listen(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    let why = "the server closed the producer's connection";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, why));
                }
                Ok(count) => self.understand(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn understand(&mut self, bytes: &[u8]) {
        match self.kind {
            // A server that refuses an event shows in what is lost.
            Publish::Ndjson | Publish::Lines | Publish::Http => {}
            Publish::Nats => {
                self.heard.extend_from_slice(bytes);
                let pings = self.heard.windows(6).filter(|words| words == b"PING\r\n").count();
                self.replies.extend(b"PONG\r\n".repeat(pings));
                let used =
                    self.heard.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                self.heard.drain(..used);
            }
            Publish::Websocket => {
                self.heard.extend_from_slice(bytes);
                let mut used = 0;
                while let Some(frame) = frames::first(&self.heard[used..]) {
                    if frame.opcode == frames::PING {
                        let payload = &self.heard[used + frame.start..used + frame.end];
                        write_masked(&mut self.replies, Opcode::Pong, payload, MASK);
                    }
                    used += frame.end;
                }
                self.heard.drain(..used);
            }
        }
    }
}
