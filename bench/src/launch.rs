//! Starting a server, waiting until it serves, and ending it.
//!
//! Not here: what its file says (`server`), and what a signal does (`left`). Invariant: whatever
//! becomes of the round, no process of the server is left, and no file.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpus;
use crate::left::{Group, Scratch};
use crate::server::Server;

/// How long a server may take until it accepts.
const START: Duration = Duration::from_secs(20);
/// Below the ports that Linux gives to connections, which are many here.
const PORTS: std::ops::Range<u16> = 18_000..30_000;

/// A server that serves.
#[derive(Debug)]
pub struct Running {
    // Dropped first: it writes into the folder.
    group: Group,
    scratch: Scratch,
    pub subscribers: SocketAddr,
    pub feed: SocketAddr,
    /// As it names itself.
    pub version: String,
    /// As it was started.
    pub command: String,
    /// With TLS: what to trust.
    pub certificate: Option<String>,
}

/// The values of a file's placeholders.
#[derive(Debug)]
struct Values(Vec<(&'static str, String)>);

impl Values {
    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

impl Running {
    /// Starts it on these CPUs.
    ///
    /// # Errors
    /// What is missing or failed, and the cure.
    pub fn start(server: &Server, cpus: &[usize], program: Option<&Path>) -> Result<Self, String> {
        let (port, feed) = (free_port(None)?, free_port(None)?);
        let feed_port = if port == feed { free_port(Some(port))? } else { feed };
        let scratch = Scratch::new()?;
        let folder = scratch.path();
        let values = values(server, cpus, program, folder, [port, feed_port])?;
        let certificate = if server.tls { Some(write_certificate(folder)?) } else { None };
        for (path, text) in &server.files {
            let path = folder.join(values.fill(path));
            write(&path, &values.fill(text))?;
        }
        let words: Vec<String> = server.command.iter().map(|word| values.fill(word)).collect();
        if let Some(missing) = server.missing(&words) {
            return Err(missing);
        }
        let version = version(server, &values)?;
        let group = spawn(server, &words, cpus, folder)?;
        let of = |text: &str| {
            let files = server.files.iter().map(|(_, file)| file);
            files.chain(&server.command).any(|word| word.contains(text))
        };
        // A server that has one port for both says so by naming one.
        let feed_port = if of("{feed}") { feed_port } else { port };
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut running = Self {
            group,
            scratch,
            subscribers: address(port),
            feed: address(feed_port),
            version,
            command: words.join(" "),
            certificate,
        };
        running.wait(server)?;
        Ok(running)
    }

    fn wait(&mut self, server: &Server) -> Result<(), String> {
        let begun = Instant::now();
        for address in [self.subscribers, self.feed] {
            while TcpStream::connect(address).is_err() {
                let ended = self.group.0.try_wait().map_err(|error| error.to_string())?;
                let late = begun.elapsed() > START;
                if ended.is_some() || late {
                    let what = ended.map_or_else(
                        || format!("does not accept on {address} after {START:?}"),
                        |status| format!("ended at once ({status})"),
                    );
                    let (name, said) = (&server.name, self.said());
                    return Err(format!("{name}: {} {what}; it said:\n{said}", self.command));
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// The end of what it printed.
    #[must_use]
    pub fn said(&self) -> String {
        const BYTES: usize = 2000;
        let text = fs::read(self.scratch.path().join("output")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(BYTES)..]).into_owned()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.group.0.id()
    }

    /// Why it is not running any more; none while it is.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.group.0.try_wait().ok().flatten()?;
        Some(format!("the server ended ({status}); it said:\n{}", self.said()))
    }
}

fn spawn(
    server: &Server,
    words: &[String],
    cpus: &[usize],
    scratch: &Path,
) -> Result<Group, String> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| format!("{}: 'command' is empty; name the program", server.name))?;
    let output = scratch.join("output");
    let file = File::create(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    let errors = file.try_clone().map_err(|error| format!("{}: {error}", output.display()))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(scratch).stdin(Stdio::null()).stdout(file).stderr(errors);
    let cpus = cpus.to_vec();
    // SAFETY: between fork and exec only system calls are made; the list was allocated before.
    unsafe {
        command.pre_exec(move || {
            cpus::pin(&cpus);
            Ok(())
        });
    }
    Group::spawn(&mut command).map_err(|error| not_started(server, program, &error))
}

fn values(
    server: &Server,
    cpus: &[usize],
    program: Option<&Path>,
    scratch: &Path,
    [port, feed]: [u16; 2],
) -> Result<Values, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let bench = crate::server::folder();
    let list: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    let mut values = vec![
        ("{port}", port.to_string()),
        ("{feed}", feed.to_string()),
        ("{tools}", crate::server::tools().display().to_string()),
        ("{bench}", bench.display().to_string()),
        ("{scratch}", scratch.display().to_string()),
        ("{self}", this.display().to_string()),
        ("{cpus}", cpus.len().to_string()),
        ("{cpu_list}", list.join(",")),
    ];
    if server.names("{fanfare}") {
        values.push(("{fanfare}", crate::server::fanfare(program)?.display().to_string()));
    }
    Ok(Values(values))
}

/// The first line that it prints about itself.
fn version(server: &Server, values: &Values) -> Result<String, String> {
    let words: Vec<String> = server.version.iter().map(|word| values.fill(word)).collect();
    let Some((program, arguments)) = words.split_first() else { return Ok(String::new()) };
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| not_started(server, program, &error))?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn not_started(server: &Server, program: &str, error: &std::io::Error) -> String {
    let name = &server.name;
    format!("{name}: {program}: {error}; for a peer, run bench/peers/install {name}")
}

fn free_port(other_than: Option<u16>) -> Result<u16, String> {
    let count = u64::from(PORTS.end - PORTS.start);
    for _ in 0..1000 {
        let place = u16::try_from(fanfare::shell::random::number() % count).expect("below count");
        let port = PORTS.start + place;
        if Some(port) != other_than && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(format!("no port of {PORTS:?} is free"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A certificate for localhost, signed by itself, and its key in `{scratch}/certificate.pem`.
fn write_certificate(scratch: &Path) -> Result<String, String> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let made = made.map_err(|error| format!("making a certificate: {error}"))?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    write(&scratch.join("certificate.pem"), &format!("{certificate}{key}"))?;
    Ok(certificate)
}
