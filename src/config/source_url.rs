//! A source's URL into its address.
//!
//! Not here: opening it. Invariant: a replay's files existed when its URL was taken.

use std::path::PathBuf;

use super::mapping::Pointer;
use super::values::{Wrong, socket_address};
use super::{NatsSource, Replay, ReplayInput, SourceAddress, Speed};

const ALLOWED: &str = "tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH[?mode=660], stdin://, \
    nats://HOST[:PORT]/STREAM[?subject=PREFIX.{channel}&forward=acked|fast&…] or \
    replay:FILE[,FILE…][?speed=max|N&loop=true&sort=true&time=/POINTER&clients=N]";

/// Only the server's own user may publish.
const UNIX_MODE: u32 = 0o600;

/// Takes a URL such as `tcp://127.0.0.1:9002` or `replay:a.gz,b.gz?speed=max`.
///
/// # Errors
/// What is wrong with it, and what is allowed there.
pub fn parse(url: &str) -> Result<SourceAddress, Wrong> {
    if let Some(address) = url.strip_prefix("tcp://") {
        return socket_address(address.trim_end_matches('/')).map(SourceAddress::Tcp);
    }
    if let Some(address) = url.strip_prefix("tls://") {
        return socket_address(address.trim_end_matches('/')).map(SourceAddress::Tls);
    }
    if let Some(rest) = url.strip_prefix("unix://") {
        return unix(url, rest);
    }
    if let Some(rest) = url.strip_prefix("nats://") {
        return NatsSource::parse(rest).map(SourceAddress::Nats);
    }
    if url == "stdin://" || url == "stdin:" {
        return Ok(SourceAddress::Stdin);
    }
    match url.strip_prefix("replay:") {
        Some(rest) => replay(rest).map(SourceAddress::Replay),
        None => Err(Wrong::new(format!("`{url}` is not a source"), ALLOWED)),
    }
}

/// A pace: `max`, or a factor of the recorded pace such as `1`, `0.5` or `10x`.
///
/// # Errors
/// Neither.
pub fn speed(text: &str) -> Result<Speed, Wrong> {
    match text.strip_suffix('x').unwrap_or(text).parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err(Wrong::new(
            format!("`{text}` is not a speed"),
            "max, or a number above 0: 1 is the recorded pace, 10 or 10x is ten times that",
        )),
    }
}

fn unix(url: &str, rest: &str) -> Result<SourceAddress, Wrong> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.len() < 2 || !path.starts_with('/') {
        let what = format!("`{url}` has no absolute path");
        let allowed = "unix:// and an absolute path, such as unix:///run/fanfare.sock";
        return Err(Wrong::new(what, allowed));
    }
    let mode = match query.split_once('=') {
        None if query.is_empty() => Some(UNIX_MODE),
        Some(("mode", digits)) => {
            u32::from_str_radix(digits, 8).ok().filter(|mode| (1..=0o777).contains(mode))
        }
        _ => None,
    };
    match mode {
        Some(mode) => Ok(SourceAddress::Unix { path: path.into(), mode }),
        None => Err(Wrong::new(
            format!("`{query}` is not a mode"),
            "mode=600 (the default), mode=660 or another file mode; write permission lets publish",
        )),
    }
}

fn replay(rest: &str) -> Result<Replay, Wrong> {
    let (files, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut replay = Replay::new(ReplayInput::Files(self::files(files.split(','))?));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        match name {
            "speed" => replay.speed = speed(value)?,
            "loop" => replay.looping = flag(name, value)?,
            "sort" => replay.sort = flag(name, value)?,
            "time" => {
                let pointer = Pointer::parse(value);
                replay.time = Some(pointer.map_err(|what| {
                    Wrong::new(format!("time=`{value}`: {what}"), "a JSON pointer, such as /data/E")
                })?);
            }
            "clients" => {
                let wrong =
                    |_| Wrong::new(format!("clients=`{value}` is not a number"), "0 or more");
                replay.clients_min = value.parse().map_err(wrong)?;
            }
            _ => {
                let what = format!("`{name}` is not an option of a replay");
                return Err(Wrong::new(what, "speed, loop, sort, time and clients"));
            }
        }
    }
    Ok(replay)
}

/// Checks that every name is a file.
///
/// # Errors
/// The first one that is not.
pub fn files<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<PathBuf>, Wrong> {
    let file = |name: &str| {
        let path = PathBuf::from(name);
        match path.metadata() {
            Ok(found) if found.is_dir() => {
                Err(Wrong::new(format!("`{name}` is a directory"), "files, separated by commas"))
            }
            Ok(_) => Ok(path),
            Err(error) => Err(Wrong::new(
                format!("cannot read `{name}`: {error}"),
                "files that exist, separated by commas",
            )),
        }
    };
    names.map(file).collect()
}

fn flag(name: &str, value: &str) -> Result<bool, Wrong> {
    value
        .parse()
        .map_err(|_| Wrong::new(format!("{name}=`{value}` is not a yes or no"), "true or false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_source_is_taken() {
        assert_eq!(
            parse("tcp://localhost:9002"),
            Ok(SourceAddress::Tcp("127.0.0.1:9002".parse().unwrap()))
        );
        let tls = SourceAddress::Tls("[::1]:9".parse().unwrap());
        assert_eq!(parse("tls://[::1]:9"), Ok(tls));
        let unix = |mode| SourceAddress::Unix { path: "/run/f.sock".into(), mode };
        assert_eq!(parse("unix:///run/f.sock"), Ok(unix(0o600)));
        assert_eq!(parse("unix:///run/f.sock?mode=0660"), Ok(unix(0o660)));
        assert_eq!(parse("stdin://"), Ok(SourceAddress::Stdin));
        let expected = Replay {
            input: ReplayInput::Files(vec!["Cargo.toml".into(), "Cargo.lock".into()]),
            speed: Speed::Times(2.5),
            looping: true,
            sort: true,
            time: Some(Pointer::parse("/data/E").unwrap()),
            clients_min: 2,
        };
        let url = "replay:Cargo.toml,Cargo.lock?speed=2.5x&loop=true&sort&time=/data/E&clients=2";
        assert_eq!(parse(url), Ok(SourceAddress::Replay(expected)));
    }

    #[test]
    fn a_stream_is_a_source() {
        assert!(matches!(parse("nats://a:1/MD"), Ok(SourceAddress::Nats(_))));
    }

    #[test]
    fn a_wrong_source_says_which_part_is_wrong() {
        for (url, what) in [
            ("http://x", "`http://x` is not a source"),
            ("tcp://9002", "`9002` is not an address"),
            ("unix://run/x", "`unix://run/x` has no absolute path"),
            ("unix:///run/x?mode=888", "`mode=888` is not a mode"),
            ("unix:///run/x?mod=600", "`mod=600` is not a mode"),
            ("replay:src", "`src` is a directory"),
            ("replay:", "cannot read ``: No such file or directory (os error 2)"),
            ("replay:absent.gz", "cannot read `absent.gz`: No such file or directory (os error 2)"),
            ("replay:Cargo.toml?speed=0", "`0` is not a speed"),
            ("replay:Cargo.toml?speed=x", "`x` is not a speed"),
            ("replay:Cargo.toml?clients=some", "clients=`some` is not a number"),
            ("replay:Cargo.toml?sped=1", "`sped` is not an option of a replay"),
            ("replay:Cargo.toml?loop=maybe", "loop=`maybe` is not a yes or no"),
        ] {
            assert_eq!(parse(url).unwrap_err().what, what, "{url}");
        }
    }
}
