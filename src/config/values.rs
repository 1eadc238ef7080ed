//! One setting's text into a value within its range, and back into text.
//!
//! Not here: where the text came from (`raw`) and which setting it is (`resolve`). Invariant: what
//! `show_*` writes, the parser of the same kind reads back as the same value.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Why a text was refused, and what would have been taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong with the text.
    pub what: String,
    /// What is allowed instead.
    pub allowed: String,
}

impl Wrong {
    /// A refusal.
    pub fn new(what: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { what: what.into(), allowed: allowed.into() }
    }
}

const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIME_UNITS: [(&str, u64); 3] = [("ms", 1), ("s", 1_000), ("m", 60_000)];

/// Bytes: a whole number with `B`, `KiB`, `MiB` or `GiB`; without a unit, bytes.
///
/// # Errors
/// Not a size, or outside `range` (bytes).
pub fn size(text: &str, range: RangeInclusive<usize>) -> Result<usize, Wrong> {
    let allowed = format!(
        "{} to {}, in B, KiB, MiB or GiB",
        show_size(*range.start()),
        show_size(*range.end())
    );
    let bytes = with_unit(text, &SIZE_UNITS, 1).and_then(|bytes| usize::try_from(bytes).ok());
    match bytes {
        None => Err(Wrong::new(format!("`{text}` is not a size"), allowed)),
        Some(bytes) if range.contains(&bytes) => Ok(bytes),
        Some(_) => Err(Wrong::new(format!("{text} is out of range"), allowed)),
    }
}

/// A time: a whole number with `ms`, `s` or `m`.
///
/// # Errors
/// Not a time (a bare number has no unit), or outside `range_ms` (milliseconds).
pub fn duration(text: &str, range_ms: RangeInclusive<u64>) -> Result<Duration, Wrong> {
    let show = |ms: u64| show_duration(Duration::from_millis(ms));
    let allowed =
        format!("{} to {}, in ms, s or m", show(*range_ms.start()), show(*range_ms.end()));
    match with_unit(text, &TIME_UNITS, 0) {
        None => Err(Wrong::new(format!("`{text}` is not a time with its unit"), allowed)),
        Some(ms) if range_ms.contains(&ms) => Ok(Duration::from_millis(ms)),
        Some(_) => Err(Wrong::new(format!("{text} is out of range"), allowed)),
    }
}

/// A whole number; `_` may group its digits.
///
/// # Errors
/// Not a number, or outside `range`.
pub fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, Wrong> {
    let allowed = format!("a whole number from {} to {}", range.start(), range.end());
    match whole(text).and_then(|number| usize::try_from(number).ok()) {
        None => Err(Wrong::new(format!("`{text}` is not a number"), allowed)),
        Some(number) if range.contains(&number) => Ok(number),
        Some(_) => Err(Wrong::new(format!("{text} is out of range"), allowed)),
    }
}

/// `true` or `false`.
///
/// # Errors
/// Anything else.
pub fn boolean(text: &str) -> Result<bool, Wrong> {
    text.parse().map_err(|_| Wrong::new(format!("`{text}` is not a yes or no"), "true or false"))
}

/// `IP:PORT`, `[IPv6]:PORT` or `localhost:PORT`.
///
/// # Errors
/// Anything else; names are not looked up, so that a start never waits for a name server.
pub fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    match local {
        Some(port) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => text.parse().map_err(|_| {
            Wrong::new(
                format!("`{text}` is not an address"),
                "IP:PORT such as 0.0.0.0:9001, [::1]:9001 or localhost:9001; port 0 picks a port",
            )
        }),
    }
}

/// Cores such as `0-1,4`, in the order given.
///
/// # Errors
/// Not a list, a core named twice, or one that is not in `allowed`.
pub fn cores(text: &str, allowed: &[usize]) -> Result<Vec<usize>, Wrong> {
    let wrong = |what: String| {
        Wrong::new(what, format!("cores {} of this process, such as 0-1,4", show_cores(allowed)))
    };
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>())
        else {
            return Err(wrong(format!("`{text}` is not a list of cores")));
        };
        if first > last {
            return Err(wrong(format!("the range {part} is backwards")));
        }
        for core in first..=last {
            if !allowed.contains(&core) {
                return Err(wrong(format!("core {core} is not available")));
            }
            if cores.contains(&core) {
                return Err(wrong(format!("core {core} is named twice")));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// A node's name: letters, digits, `.`, `_` and `-`.
///
/// # Errors
/// Empty, longer than `bytes_max`, or other characters.
pub fn node(text: &str, bytes_max: usize) -> Result<String, Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !text.is_empty() && text.len() <= bytes_max && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("`{text}` is not a node name"),
        format!("1 to {bytes_max} of a-z A-Z 0-9 . _ -"),
    ))
}

/// The largest unit that divides the size.
#[must_use]
pub fn show_size(bytes: usize) -> String {
    show_unit(bytes as u64, SIZE_UNITS.iter())
}

/// The largest unit that divides the time; parts of a millisecond are dropped.
#[must_use]
pub fn show_duration(time: Duration) -> String {
    show_unit(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), TIME_UNITS.iter().rev())
}

/// Ranges where cores follow each other: `0-1,4`.
#[must_use]
pub fn show_cores(cores: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => parts.push((core, core)),
        }
    }
    let show = |&(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.iter().map(show).collect::<Vec<_>>().join(",")
}

fn with_unit(text: &str, units: &[(&str, u64)], bare: u64) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let factor = match unit {
        "" if bare != 0 => bare,
        _ => units.iter().find(|(name, _)| *name == unit)?.1,
    };
    whole(digits.trim_end())?.checked_mul(factor)
}

fn whole(text: &str) -> Option<u64> {
    let digits = text.trim().replace('_', "");
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn show_unit<'a>(value: u64, units: impl Iterator<Item = &'a (&'a str, u64)>) -> String {
    let mut smallest = "";
    for (name, factor) in units {
        if value >= *factor && value.is_multiple_of(*factor) {
            return format!("{}{name}", value / factor);
        }
        smallest = name;
    }
    format!("{value}{smallest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_back_what_is_shown() {
        for bytes in [0, 1, 1_000, 1 << 10, 3 << 20, 64 << 20, 16 << 30] {
            assert_eq!(size(&show_size(bytes), 0..=usize::MAX), Ok(bytes));
        }
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 90_000] {
            let time = Duration::from_millis(ms);
            assert_eq!(duration(&show_duration(time), 0..=u64::MAX), Ok(time));
        }
        assert_eq!(show_size(64 << 20), "64MiB");
        assert_eq!(show_duration(Duration::from_millis(90_000)), "90s");
        assert_eq!(size("64 MiB", 0..=usize::MAX), Ok(64 << 20));
        assert_eq!(count("100_000", 0..=usize::MAX), Ok(100_000));
    }

    #[test]
    fn a_refusal_says_what_is_allowed() {
        for text in ["64MB", "MiB", "-1", "1.5MiB", "", "99999999999GiB"] {
            let wrong = size(text, 1024..=1 << 20).unwrap_err();
            assert_eq!(wrong.what, format!("`{text}` is not a size"));
            assert_eq!(wrong.allowed, "1KiB to 1MiB, in B, KiB, MiB or GiB");
        }
        assert_eq!(size("2MiB", 0..=1 << 20).unwrap_err().what, "2MiB is out of range");
        let wrong = duration("5", 100..=60_000).unwrap_err();
        assert_eq!(wrong.what, "`5` is not a time with its unit");
        assert_eq!(wrong.allowed, "100ms to 1m, in ms, s or m");
        assert!(socket_address("9001").is_err());
        assert_eq!(socket_address("localhost:1").unwrap().to_string(), "127.0.0.1:1");
    }

    #[test]
    fn cores_are_ranges_of_what_the_process_may_use() {
        let allowed = [0, 1, 2, 4];
        assert_eq!(cores("0-1, 4", &allowed), Ok(vec![0, 1, 4]));
        assert_eq!(show_cores(&[0, 1, 4]), "0-1,4");
        for (text, what) in [
            ("0-3", "core 3 is not available"),
            ("1,0-1", "core 1 is named twice"),
            ("2-0", "the range 2-0 is backwards"),
            ("all", "`all` is not a list of cores"),
        ] {
            let wrong = cores(text, &allowed).unwrap_err();
            assert_eq!(wrong.what, what);
            assert_eq!(wrong.allowed, "cores 0-2,4 of this process, such as 0-1,4");
        }
    }
}
