//! `fanfare publish`: a pipe or a file of events into a source or a stream, its refusals onto
//! standard error.
//!
//! Not here: checking the lines of a source; the server does, and its replies name the line; and
//! streams (`stream`). Invariant: the
//! command says success only if every line was written and none was refused in time.

mod stream;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::credentials::TokenFlags;
use super::failure::Failure;
use super::figures::{bytes, grouped};
use super::say::say;
use crate::client::Token;
use crate::limits::{READ_BYTES, REPLIES_MS};
use crate::protocol::json::write_string;
use crate::shell::clock;
use crate::shell::dial::{ClientError, Producer};
use stream::StreamFlags;

/// Sends events, one JSON object a line, to a server's source.
#[derive(Debug, clap::Args)]
pub struct Publish {
    /// Source of the server: tcp://HOST:PORT or unix:///PATH; or a JetStream stream:
    /// nats://HOST:PORT/STREAM, with ?subject=md.{channel}&creds=FILE where needed
    address: String,
    /// File of events, one JSON object a line [default: standard input]
    file: Option<String>,
    #[command(flatten)]
    token: TokenFlags,
    #[command(flatten)]
    stream: StreamFlags,
}

impl Publish {
    /// Sends everything and waits for the last replies.
    ///
    /// # Errors
    /// A wrong address, a broken connection, or lines that were refused.
    pub fn run(&self) -> Result<(), Failure> {
        if let Some(address) = self.address.strip_prefix("nats://") {
            self.token.refuse("streams; name their credentials in the address: ?creds=FILE")?;
            return self.stream.publish(address, self.file.as_deref());
        }
        self.stream.refuse()?;
        let token = self.token.read()?;
        let (address, token) = (&self.address, token.as_ref());
        match self.file.as_deref() {
            None | Some("-") => publish(address, token, io::stdin().lock(), "standard input"),
            Some(path) => {
                let file = File::open(path)
                    .map_err(|error| Failure::Usage(format!("cannot read `{path}`: {error}")))?;
                publish(address, token, file, path)
            }
        }
    }
}

fn publish(
    address: &str,
    token: Option<&Token>,
    mut input: impl Read,
    name: &str,
) -> Result<(), Failure> {
    let start_ns = clock::now().monotonic_ns;
    let mut outlet = Outlet::connect(address, token, |line| say(line))?;
    let mut buffer = vec![0; READ_BYTES];
    let mut last_byte = b'\n';
    let (mut lines, mut sent) = (0, 0);
    let result = loop {
        let taken = match input.read(&mut buffer) {
            Ok(0) if last_byte == b'\n' => break Ok(()),
            Ok(0) => {
                // The last line has no newline; the server waits for one.
                buffer[0] = b'\n';
                1
            }
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Err(Failure::Run(format!("cannot read {name}: {error}"))),
        };
        if let Err(failure) = outlet.write(&buffer[..taken]) {
            break Err(failure);
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..taken]).count() as u64;
        sent += taken as u64;
        last_byte = buffer[taken - 1];
    };
    let refused = outlet.finish();
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let (seconds, size) = ((clock::now().monotonic_ns - start_ns) as f64 / 1e9, bytes(sent as f64));
    let refusals = grouped(refused.as_ref().copied().unwrap_or_default());
    say(format_args!("{} lines ({size}) in {seconds:.1} s, {refusals} refused", grouped(lines)));
    // First what the other end said: it explains a broken connection.
    let refused = refused?;
    result?;
    if refused == 0 { Ok(()) } else { Err(Failure::Said) }
}

/// Why replies did not come to their end.
#[derive(Debug)]
enum NoEnd {
    /// It said what no source would.
    NotASource(String),
    /// The server is gone, and with it perhaps lines that it had not read.
    Broken(io::Error),
}

/// A connection to a source whose refusals are printed as they come.
#[derive(Debug)]
pub struct Outlet {
    address: String,
    producer: Producer,
    /// The count of refusals, once the server has ended its side.
    replies: Receiver<Result<u64, NoEnd>>,
}

impl Outlet {
    /// Connects, shows the token if there is one, and starts to listen for refusals, each of which
    /// `print` gets as a line.
    ///
    /// # Errors
    /// The address, the connection, or a token that is not good.
    pub fn connect(
        address: &str,
        token: Option<&Token>,
        print: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, Failure> {
        let mut producer = Producer::connect(address).map_err(|error| match error {
            ClientError::Address(..) => Failure::Usage(error.to_string()),
            error => Failure::Run(error.to_string()),
        })?;
        let broken = |error: io::Error| Failure::Run(format!("{address}: {error}"));
        if let Some(token) = token {
            let answer = ask(&mut producer, token).map_err(broken)?;
            if !answer.starts_with('{') {
                return Err(not_a_source(address, &answer));
            }
            if answer != "{\"auth\":true}" {
                return Err(Failure::Run(format!("{address} refused the credential: {answer}")));
            }
        }
        let incoming = producer.try_clone().map_err(broken)?;
        let (sender, replies) = channel();
        let listen = move || {
            // The other end is gone only when nobody waits for the count any more.
            let _nobody_waits = sender.send(print_replies(incoming, print));
        };
        std::thread::Builder::new().name("replies".into()).spawn(listen).map_err(broken)?;
        Ok(Self { address: address.to_owned(), producer, replies })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The connection's.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.producer
            .write_all(bytes)
            .map_err(|error| Failure::Run(format!("{}: the server closed: {error}", self.address)))
    }

    /// Says that this was all, waits for the replies (bounded), and returns how many were refusals.
    ///
    /// # Errors
    /// The server did not end its side in time or in order, or is not a source.
    pub fn finish(self) -> Result<u64, Failure> {
        let _server_gone = self.producer.finish();
        match self.replies.recv_timeout(Duration::from_millis(REPLIES_MS)) {
            Ok(Ok(refused)) => Ok(refused),
            Ok(Err(NoEnd::NotASource(answer))) => Err(not_a_source(&self.address, &answer)),
            Ok(Err(NoEnd::Broken(error))) => Err(Failure::Run(format!(
                "{}: the connection broke before the end of the replies: {error}; what was sent \
                 last may not have been read",
                self.address
            ))),
            Err(RecvTimeoutError::Disconnected) => Ok(0),
            Err(RecvTimeoutError::Timeout) => {
                self.producer.abandon();
                let seconds = REPLIES_MS / 1_000;
                let address = &self.address;
                Err(Failure::Run(format!("{address}: no end of replies within {seconds} s")))
            }
        }
    }
}

fn not_a_source(address: &str, answer: &str) -> Failure {
    Failure::Run(format!(
        "{address} is not a source, it answered `{answer}`; use a source= of the server's ready \
        line"
    ))
}

/// Shows a token and waits for the line that answers it (bounded).
fn ask(producer: &mut Producer, token: &Token) -> io::Result<String> {
    let mut line = b"{\"method\":\"auth\",\"params\":{\"token\":".to_vec();
    write_string(&mut line, token.secret());
    line.extend_from_slice(b"}}\n");
    producer.write_all(&line)?;
    producer.set_patience(Some(Duration::from_millis(REPLIES_MS)))?;
    // Byte by byte, because what follows the line is for somebody else.
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while answer.len() < READ_BYTES && producer.read(&mut byte)? == 1 && byte != [b'\n'] {
        answer.push(byte[0]);
    }
    producer.set_patience(None)?;
    Ok(String::from_utf8_lossy(answer.trim_ascii_end()).into_owned())
}

/// Prints replies until the end of the stream and returns how many were refusals; an answer that is
/// no reply of a source, such as that of the WebSocket port, ends it and is the error.
fn print_replies(incoming: Producer, print: impl Fn(&str)) -> Result<u64, NoEnd> {
    let mut refused = 0;
    let mut line = Vec::new();
    let mut incoming = BufReader::new(incoming);
    loop {
        line.clear();
        match incoming.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(refused),
            Ok(_) => {}
            Err(error) => return Err(NoEnd::Broken(error)),
        }
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        if !text.starts_with('{') {
            return Err(NoEnd::NotASource(text.into_owned()));
        }
        refused += u64::from(text.contains("\"error\""));
        print(&text);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::JoinHandle;

    use super::*;
    use crate::shell::fake::{listen, nobody};

    /// A source that takes everything, then refuses each line that is not JSON-like.
    fn source() -> (String, JoinHandle<Vec<u8>>) {
        let (address, source) = listen(|mut stream| {
            let mut taken = Vec::new();
            stream.read_to_end(&mut taken).unwrap();
            for (at, line) in taken.split(|byte| *byte == b'\n').enumerate() {
                if !line.is_empty() && !line.starts_with(b"{") {
                    writeln!(stream, r#"{{"line":{},"error":{{"code":"json"}}}}"#, at + 1).unwrap();
                }
            }
            taken
        });
        (format!("tcp://{address}"), source)
    }

    #[test]
    fn every_line_arrives_and_the_last_one_gets_its_newline() {
        let (address, source) = source();
        publish(&address, None, b"{\"a\":1}\n{\"a\":2}".as_slice(), "input").unwrap();
        assert_eq!(source.join().unwrap(), b"{\"a\":1}\n{\"a\":2}\n");
    }

    #[test]
    fn a_refused_line_fails_the_command() {
        let (address, _source) = source();
        let failure =
            publish(&address, None, b"{\"a\":1}\nnot json\n{}\n".as_slice(), "input").unwrap_err();
        assert_eq!(failure.exit_code(), 1);
    }

    #[test]
    fn a_server_that_is_no_source_fails_the_command_with_its_answer() {
        let (address, _server) = listen(|mut stream| {
            stream.read_to_end(&mut Vec::new()).unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let failure =
            publish(&format!("tcp://{address}"), None, b"{}\n".as_slice(), "input").unwrap_err();
        let answer = "is not a source, it answered `HTTP/1.1 400 Bad Request`";
        assert!(failure.to_string().contains(answer), "{failure}");
        assert_eq!(failure.exit_code(), 1);
    }

    #[test]
    fn a_server_that_goes_with_lines_unread_fails_the_command() {
        // The newline comes with the rest, and stays there.
        let (address, _server) = listen(|mut stream| stream.read_exact(&mut [0; 2]).unwrap());
        let failure =
            publish(&format!("tcp://{address}"), None, b"{}\n".as_slice(), "input").unwrap_err();
        assert!(failure.to_string().contains("broke before the end"), "{failure}");
        assert_eq!(failure.exit_code(), 1);
    }

    #[test]
    fn a_wrong_address_is_a_matter_of_usage_and_an_absent_server_is_not() {
        assert_eq!(publish("9002", None, b"".as_slice(), "input").unwrap_err().exit_code(), 2);
        let failure =
            publish(&format!("tcp://{}", nobody()), None, b"".as_slice(), "input").unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().contains("nothing listens"), "{failure}");
    }
}
