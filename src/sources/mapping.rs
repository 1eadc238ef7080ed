//! Applies a mapping rule to one line.
//!
//! Not here: what a rule may be ([`crate::config::mapping`]), and which rule is tried first
//! ([`crate::sources::parser`]). Invariant: a channel's value characters are token characters, so
//! no value can add a token to a name.

use std::path::Path;

use crate::config::mapping::{KindRule, MapRule, Piece, Pointer, TimeUnit};
use crate::protocol::channel::is_token_byte;
use crate::protocol::event::Kind;
use crate::sources::error::{LineError, bounded};
use crate::sources::span::{Document, Type, Value, unescape};

/// The forms of a producer event's `ts`, for messages.
pub const TIME_FORMS_NATIVE: &str = "an integer, nanoseconds since 1970";

/// The forms of a mapped time, for messages.
const TIME_FORMS: &str = "a number or digits in ts_unit (from 1970 to 2554), or RFC 3339";

/// What a template may say about the file that a line comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNames {
    /// The path as it was given, for messages.
    pub path: String,
    /// The file's name up to its first dot; `embedded` for a capture inside the program.
    pub stem: String,
    /// The name of the folder that the file is in; empty for a file at the root.
    pub folder: String,
}

impl FileNames {
    /// The names of the file at `path`, which may be relative to the current folder.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let text = |name: Option<&std::ffi::OsStr>| {
            name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let name = text(path.file_name());
        Self {
            path: path.display().to_string(),
            stem: name.split('.').next().unwrap_or_default().to_owned(),
            folder: text(absolute.parent().and_then(Path::file_name)),
        }
    }

    /// The names of the capture inside the program.
    #[must_use]
    pub fn embedded() -> Self {
        Self { path: "embedded".into(), stem: "embedded".into(), folder: "embedded".into() }
    }
}

/// What a rule says about a line, beside the names that it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// Whether the event has a key.
    pub keyed: bool,
    /// Update or snapshot.
    pub kind: Kind,
    /// The producer's time, ns since the Unix epoch.
    pub ts: Option<u64>,
    /// The payload.
    pub data: Value,
}

/// The first pointer of the rule's `when`, `channel` and `data` that the line does not have, if
/// any: the rule then does not apply.
#[must_use]
pub fn lacking<'r>(rule: &'r MapRule, document: &Document<'_>) -> Option<&'r Pointer> {
    rule.when
        .iter()
        .chain(rule.channel.pointers())
        .chain([&rule.data])
        .find(|pointer| document.find(pointer).is_none())
}

/// The texts that a rule makes, kept from one line to the next.
#[derive(Debug, Default)]
pub struct Texts {
    /// The channel's name.
    pub channel: String,
    /// The key.
    pub key: String,
    /// The values of the channel's pointers in their order.
    values: Vec<Value>,
}

/// Applies a rule: replaces `texts`, returns the rest, or `None` when it does not apply.
///
/// # Errors
/// The rule applies, but a value that it uses is missing, of the wrong type, empty or unknown.
pub fn apply(
    rule: &MapRule,
    document: &Document<'_>,
    file: Option<&FileNames>,
    texts: &mut Texts,
) -> Result<Option<Mapped>, LineError> {
    let Texts { channel, key, values } = texts;
    if rule.when.iter().any(|pointer| document.find(pointer).is_none()) {
        return Ok(None);
    }
    values.clear();
    for pointer in rule.channel.pointers() {
        let Some(value) = document.find(pointer) else {
            return Ok(None);
        };
        values.push(value);
    }
    let Some(data) = document.find(&rule.data) else {
        return Ok(None);
    };
    channel.clear();
    let mut values = values.iter();
    for piece in rule.channel.pieces() {
        write_piece(rule, piece, &mut values, document, file, channel)?;
    }
    key.clear();
    if let Some(pointer) = &rule.key {
        value_text(rule, pointer, document, required(document, pointer)?, key)?;
    }
    let kind = match &rule.kind {
        KindRule::Update => Kind::Update,
        KindRule::Snapshot => Kind::Snapshot,
        KindRule::At(pointer) => kind_at(rule, pointer, document)?,
    };
    let ts =
        rule.ts.as_ref().map(|pointer| time_at(document, pointer, rule.ts_unit)).transpose()?;
    Ok(Some(Mapped { keyed: rule.key.is_some(), kind, ts, data }))
}

fn write_piece(
    rule: &MapRule,
    piece: &Piece,
    values: &mut std::slice::Iter<'_, Value>,
    document: &Document<'_>,
    file: Option<&FileNames>,
    channel: &mut String,
) -> Result<(), LineError> {
    let names = |variable| file.ok_or(LineError::FileVariable { variable });
    let start = channel.len();
    let what = match piece {
        Piece::Literal(text) => {
            channel.push_str(text);
            return Ok(());
        }
        Piece::Value(pointer) => {
            let value = *values.next().expect("one value was found for each pointer");
            value_text(rule, pointer, document, value, channel)?;
            pointer.as_str()
        }
        Piece::Stem => {
            channel.push_str(&names("{@stem}")?.stem);
            "{@stem}"
        }
        Piece::Folder => {
            channel.push_str(&names("{@dir}")?.folder);
            "{@dir}"
        }
    };
    if channel.len() == start {
        return Err(LineError::ValueEmpty { at: what.into() });
    }
    if !channel.as_bytes()[start..].iter().all(|&byte| is_token_byte(byte)) {
        let value = channel.split_off(start);
        let token = |letter: char| letter.is_ascii() && is_token_byte(letter as u8);
        channel.extend(value.chars().map(|letter| if token(letter) { letter } else { '_' }));
    }
    Ok(())
}

/// Appends a scalar's text: a string unescaped, a number or boolean as written, after `lookup`.
fn value_text(
    rule: &MapRule,
    pointer: &Pointer,
    document: &Document<'_>,
    value: Value,
    out: &mut String,
) -> Result<(), LineError> {
    let start = out.len();
    let raw = document.raw(value);
    match document.type_of(value) {
        Type::String => unescape(raw, out),
        Type::Number | Type::Boolean => out.push_str(&String::from_utf8_lossy(raw)),
        found @ (Type::Object | Type::Array | Type::Null) => {
            return Err(LineError::ValueType {
                at: pointer.to_string(),
                expected: "a string, a number or a boolean",
                found: found.as_str(),
            });
        }
    }
    if let Some(table) = rule.lookup(pointer) {
        let value = out.split_off(start);
        let replacement = table.get(&value).ok_or_else(|| LineError::ValueUnknown {
            at: pointer.to_string(),
            value: bounded(&value),
        })?;
        out.push_str(replacement);
    }
    Ok(())
}

fn required(document: &Document<'_>, pointer: &Pointer) -> Result<Value, LineError> {
    document.find(pointer).ok_or_else(|| LineError::ValueMissing { at: pointer.to_string() })
}

fn kind_at(rule: &MapRule, pointer: &Pointer, document: &Document<'_>) -> Result<Kind, LineError> {
    let mut text = String::new();
    value_text(rule, pointer, document, required(document, pointer)?, &mut text)?;
    match text.as_str() {
        "update" => Ok(Kind::Update),
        "snapshot" => Ok(Kind::Snapshot),
        _ => Err(LineError::Kind { at: pointer.to_string(), found: bounded(&text) }),
    }
}

/// The time at `pointer`, ns since the Unix epoch: a number, or a string of digits, in `unit`, with
/// a decimal fraction or without; or an RFC 3339 string.
///
/// # Errors
/// No value there, or it is not such a time, or it is outside 1970 to 2554.
pub fn time_at(
    document: &Document<'_>,
    pointer: &Pointer,
    unit: TimeUnit,
) -> Result<u64, LineError> {
    let value = required(document, pointer)?;
    let raw = document.raw(value);
    let time = match document.type_of(value) {
        Type::Number => decimal_time(raw, unit),
        Type::String => {
            let inside = &raw[1..raw.len() - 1];
            decimal_time(inside, unit).or_else(|| rfc_3339_time(inside))
        }
        Type::Object | Type::Array | Type::Boolean | Type::Null => None,
    };
    time.ok_or_else(|| LineError::Time {
        at: pointer.to_string(),
        found: bounded(&String::from_utf8_lossy(raw)),
        allowed: TIME_FORMS,
    })
}

/// `1723161256.3130` in seconds is 1,723,161,256,313,000,000 ns: exact, unlike a float. What is
/// finer than a nanosecond is cut off.
fn decimal_time(text: &[u8], unit: TimeUnit) -> Option<u64> {
    let (whole, fraction) = match memchr::memchr(b'.', text) {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b"0"[..]),
    };
    if whole.is_empty() || fraction.is_empty() {
        return None;
    }
    let mut time = 0_u64;
    for &byte in whole {
        time = push_digit(time, byte)?;
    }
    let mut fraction = fraction.iter();
    for _ in 0..unit.digits() {
        time = push_digit(time, fraction.next().copied().unwrap_or(b'0'))?;
    }
    fraction.all(u8::is_ascii_digit).then_some(time)
}

fn push_digit(number: u64, byte: u8) -> Option<u64> {
    let digit = char::from(byte).to_digit(10)?;
    number.checked_mul(10)?.checked_add(u64::from(digit))
}

fn rfc_3339_time(text: &[u8]) -> Option<u64> {
    let time: jiff::Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_in_every_unit_and_as_rfc_3339() {
        for (text, unit, expected) in [
            ("1723161256313000000", TimeUnit::Ns, Some(1_723_161_256_313_000_000)),
            ("1723161256313", TimeUnit::Ms, Some(1_723_161_256_313_000_000)),
            ("1723161256313001", TimeUnit::Us, Some(1_723_161_256_313_001_000)),
            ("1723161256.313", TimeUnit::S, Some(1_723_161_256_313_000_000)),
            ("1723161256.3130000019", TimeUnit::S, Some(1_723_161_256_313_000_001)),
            ("5.9", TimeUnit::Ns, Some(5)),
            ("18446744073709551615", TimeUnit::Ns, Some(u64::MAX)),
            ("18446744073709551616", TimeUnit::Ns, None),
            ("18446744073709551", TimeUnit::Ms, None),
            ("-1", TimeUnit::Ns, None),
            ("1e3", TimeUnit::Ns, None),
            ("1.", TimeUnit::Ns, None),
            ("1.5x", TimeUnit::Ns, None),
            ("", TimeUnit::Ns, None),
        ] {
            assert_eq!(decimal_time(text.as_bytes(), unit), expected, "{text} {unit:?}");
        }
        let time = |text: &str| rfc_3339_time(text.as_bytes());
        assert_eq!(time("1970-01-01T00:00:01.000000002Z"), Some(1_000_000_002));
        assert_eq!(time("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(time("1969-12-31T23:59:59Z"), None);
        assert_eq!(time("2024-08-08"), None);
    }

    #[test]
    fn file_names_end_at_the_first_dot() {
        let names = FileNames::of(Path::new("/data/usdm/btcusdt_20240808.json.gz"));
        assert_eq!((names.stem.as_str(), names.folder.as_str()), ("btcusdt_20240808", "usdm"));
        let here = std::env::current_dir().unwrap();
        let folder = here.file_name().unwrap().to_str().unwrap();
        assert_eq!(FileNames::of(Path::new("x.gz")).folder, folder);
    }
}
