//! The URL of a NATS stream or bucket, taken apart.
//!
//! Not here: connecting ([`crate::nats`]). Invariant: a URL holds no secret, because it is logged;
//! secrets are in files that it names.

use std::fmt;
use std::path::PathBuf;

use super::values::Wrong;
use crate::limits::{STREAM_SERVERS_MAX, STREAM_WINDOW_MAX};

/// Servers of one NATS system, and as whom they are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsServers {
    /// `host:port` of each, in the order that they are tried in.
    pub addresses: Vec<String>,
    /// A credentials file (a JWT and its seed), as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// A user, whose password is the first line of the file.
    pub user: Option<(String, PathBuf)>,
    /// Whether the connection must be encrypted.
    pub tls: bool,
    /// PEM file of the authorities that the servers' certificates are of; else the host's.
    pub authority: Option<PathBuf>,
}

/// A stream as a source of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsSource {
    /// Where it is.
    pub servers: NatsServers,
    /// Its name.
    pub stream: String,
    /// What each subject begins with, before the channel; empty, or ends with a dot.
    pub prefix: String,
    /// Messages that are read whole at the start; none: as many as a frame log holds.
    pub window: Option<u64>,
    /// Whether the other sources' events go to the stream, and how.
    pub forward: Option<Forward>,
}

/// How events go to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Each waits for the stream's acknowledgement, and is sent again until there is one.
    Acknowledged,
    /// Without acknowledgements: what a lost connection swallows is lost.
    Fast,
}

/// A key-value bucket of access rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsBucket {
    /// Where it is.
    pub servers: NatsServers,
    /// Its name.
    pub bucket: String,
}

const SOURCE_ALLOWED: &str = "nats://HOST[:PORT][,HOST…]/STREAM[?subject=PREFIX.{channel}\
    &window=N&forward=acked|fast&creds=FILE&user=NAME&password_file=FILE&tls=true&ca=FILE]";
const BUCKET_ALLOWED: &str = "nats-kv://HOST[:PORT][,HOST…]/BUCKET[?creds=FILE&user=NAME\
    &password_file=FILE&tls=true&ca=FILE]";

/// The port of NATS servers.
const PORT: u16 = 4222;

/// Where the channel is in a subject.
const CHANNEL: &str = "{channel}";

impl NatsSource {
    /// Takes what follows `nats://`.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed there.
    pub fn parse(rest: &str) -> Result<Self, Wrong> {
        let (servers, stream, options) = split(rest, "stream", SOURCE_ALLOWED)?;
        let prefix = format!("{}.", stream.to_ascii_lowercase());
        let mut source = Self { servers, stream, prefix, window: None, forward: None };
        for (name, value) in options {
            match name {
                "subject" => source.prefix = prefix_of(value)?,
                "window" => source.window = Some(window(value)?),
                "forward" => source.forward = Some(forward(value)?),
                _ => source.servers.option(name, value, SOURCE_ALLOWED)?,
            }
        }
        source.servers.check()?;
        Ok(source)
    }

    /// The subjects of its channels, as a NATS pattern.
    #[must_use]
    pub fn subjects(&self) -> String {
        format!("{}>", self.prefix)
    }
}

impl fmt::Display for NatsSource {
    /// For people and metrics: without the options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nats://{}/{}", self.servers.addresses.join(","), self.stream)
    }
}

impl NatsBucket {
    /// Takes what follows `nats-kv://`.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed there.
    pub fn parse(rest: &str) -> Result<Self, Wrong> {
        let (mut servers, bucket, options) = split(rest, "bucket", BUCKET_ALLOWED)?;
        for (name, value) in options {
            servers.option(name, value, BUCKET_ALLOWED)?;
        }
        servers.check()?;
        Ok(Self { servers, bucket })
    }
}

impl fmt::Display for NatsBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nats-kv://{}/{}", self.servers.addresses.join(","), self.bucket)
    }
}

impl NatsServers {
    fn option(&mut self, name: &str, value: &str, allowed: &str) -> Result<(), Wrong> {
        match name {
            "creds" => self.credentials = Some(file(name, value)?),
            "ca" => self.authority = Some(file(name, value)?),
            "user" => self.user.get_or_insert_default().0 = value.to_owned(),
            "password_file" => self.user.get_or_insert_default().1 = file(name, value)?,
            "tls" => {
                let wrong = |_| Wrong::new(format!("tls=`{value}`"), "true or false");
                self.tls = value.parse().map_err(wrong)?;
            }
            _ => return Err(Wrong::new(format!("`{name}` is not an option here"), allowed)),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Wrong> {
        match &self.user {
            Some((user, password)) if user.is_empty() || password.as_os_str().is_empty() => {
                let what = "a user without a password_file, or a password_file without a user";
                Err(Wrong::new(what, "user=NAME&password_file=FILE"))
            }
            Some(_) if self.credentials.is_some() => {
                Err(Wrong::new("both a user and credentials", "user= or creds="))
            }
            _ => Ok(()),
        }
    }
}

/// Servers, a name, and the options.
type Parts<'a> = (NatsServers, String, Vec<(&'a str, &'a str)>);

fn split<'a>(rest: &'a str, what: &str, allowed: &str) -> Result<Parts<'a>, Wrong> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, name) = place.split_once('/').unwrap_or((place, ""));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Wrong::new(format!("`{name}` is not the name of a {what}"), allowed));
    }
    let addresses =
        hosts.split(',').map(|host| address(host, allowed)).collect::<Result<_, _>>()?;
    let servers = NatsServers { addresses, ..NatsServers::default() };
    if servers.addresses.len() > STREAM_SERVERS_MAX {
        let allowed = format!("at most {STREAM_SERVERS_MAX}; they name the others themselves");
        return Err(Wrong::new(format!("{} servers", servers.addresses.len()), allowed));
    }
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let options = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    Ok((servers, name.to_owned(), options))
}

fn address(text: &str, allowed: &str) -> Result<String, Wrong> {
    if text.contains('@') {
        let allowed = "user=NAME&password_file=FILE or creds=FILE behind the name, because this \
                       URL is logged";
        return Err(Wrong::new("a user or a token before the host", allowed));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (host, port.parse()),
        _ => (text, Ok(PORT)),
    };
    match port {
        Ok(port) if port > 0 && is_host(host) => Ok(format!("{host}:{port}")),
        _ => Err(Wrong::new(format!("`{text}` is not a server"), allowed)),
    }
}

fn is_host(text: &str) -> bool {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.bytes().all(name),
    }
}

fn prefix_of(template: &str) -> Result<String, Wrong> {
    let allowed = "tokens of a-z A-Z 0-9 _ - with dots between, and {channel} at the end, such as \
                   md.{channel}";
    let wrong = || Wrong::new(format!("subject=`{template}`"), allowed);
    let prefix = template.strip_suffix(CHANNEL).ok_or_else(wrong)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let is_token = |token: &str| !token.is_empty() && token.bytes().all(plain);
    let is_good = prefix.is_empty()
        || prefix.strip_suffix('.').is_some_and(|tokens| tokens.split('.').all(is_token));
    if is_good { Ok(prefix.to_owned()) } else { Err(wrong()) }
}

fn window(text: &str) -> Result<u64, Wrong> {
    let count = text.parse().ok().filter(|count| (1..=STREAM_WINDOW_MAX).contains(count));
    count.ok_or_else(|| {
        Wrong::new(format!("window=`{text}`"), format!("messages, 1 to {STREAM_WINDOW_MAX}"))
    })
}

fn forward(text: &str) -> Result<Forward, Wrong> {
    match text {
        "acked" | "" => Ok(Forward::Acknowledged),
        "fast" => Ok(Forward::Fast),
        _ => Err(Wrong::new(
            format!("forward=`{text}`"),
            "acked (each event waits for the stream's acknowledgement), or fast (none does)",
        )),
    }
}

fn file(name: &str, path: &str) -> Result<PathBuf, Wrong> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(path.into()),
        Ok(_) => Err(Wrong::new(format!("{name}=`{path}` is no file"), "a file")),
        Err(error) => {
            Err(Wrong::new(format!("{name}=`{path}`: {error}"), "a file that can be read"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_servers_a_name_and_options() {
        let source = NatsSource::parse("a.example,[::1]:4333/MD?forward=fast&window=9").unwrap();
        assert_eq!(source.servers.addresses, ["a.example:4222", "[::1]:4333"]);
        assert_eq!((&*source.stream, &*source.prefix), ("MD", "md."));
        assert_eq!((source.window, source.forward), (Some(9), Some(Forward::Fast)));
        assert_eq!(source.subjects(), "md.>");
        assert_eq!(source.to_string(), "nats://a.example:4222,[::1]:4333/MD");
        let source = NatsSource::parse("[::1]/MD?subject=eu.md.{channel}&forward").unwrap();
        assert_eq!((&*source.servers.addresses[0], &*source.prefix), ("[::1]:4222", "eu.md."));
        assert_eq!(source.forward, Some(Forward::Acknowledged));
        assert_eq!(NatsSource::parse("a/MD?subject={channel}").unwrap().subjects(), ">");
        let bucket = NatsBucket::parse("a:1/rules?tls=true&ca=Cargo.toml").unwrap();
        assert!(bucket.servers.tls && bucket.servers.authority.is_some());
        assert_eq!(bucket.to_string(), "nats-kv://a:1/rules");
    }

    #[test]
    fn a_wrong_url_says_which_part_is_wrong() {
        for (rest, what) in [
            ("a", "`` is not the name of a stream"),
            ("a/M.D", "`M.D` is not the name of a stream"),
            ("a:x/MD", "`a:x` is not a server"),
            ("/MD", "`` is not a server"),
            ("u:p@a/MD", "a user or a token before the host"),
            ("a/MD?subject=md.>", "subject=`md.>`"),
            ("a/MD?subject=md{channel}", "subject=`md{channel}`"),
            ("a/MD?window=0", "window=`0`"),
            ("a/MD?forward=soon", "forward=`soon`"),
            ("a/MD?wndow=1", "`wndow` is not an option here"),
            ("a/MD?creds=absent", "creds=`absent`: No such file or directory (os error 2)"),
            ("a/MD?user=x", "a user without a password_file, or a password_file without a user"),
        ] {
            assert_eq!(NatsSource::parse(rest).unwrap_err().what, what, "{rest}");
        }
    }
}
