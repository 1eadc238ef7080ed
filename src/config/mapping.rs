//! Rules that turn any JSON feed into channels without code, parsed and checked when they are read.
//!
//! Not here: applying a rule to a line ([`crate::sources::mapping`]). Invariant: a [`MapRule`] that
//! exists is complete; the channel it makes is a valid name for any values except in length.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::limits::{CHANNEL_BYTES_MAX, CHANNEL_TOKENS_MAX};

/// A rule that turns one JSON line into an event.
///
/// In TOML:
///
/// ```
/// # use fanfare::config::mapping::MapRule;
/// let rule = MapRule::parse_inline(
///     r#"{ channel = "binance.usdm.{/data/s}.{/data/e}", data = "/data", key = "/data/s",
///          ts = "/data/E", ts_unit = "ms", when = "/data/b" }"#,
/// );
/// # assert!(rule.is_ok(), "{rule:?}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct MapRule {
    /// The rule applies only to lines that hold all of these, beside those of `channel` and `data`.
    pub when: Vec<Pointer>,
    /// Makes the channel's name.
    pub channel: Template,
    /// Where the key is; the event has none when absent.
    pub key: Option<Pointer>,
    /// Where the producer's time is.
    pub ts: Option<Pointer>,
    /// Unit of `ts` where it is a number or a string of digits.
    pub ts_unit: TimeUnit,
    /// Update or snapshot.
    pub kind: KindRule,
    /// The payload; the whole line by default.
    pub data: Pointer,
    /// Replacements of values, each for one pointer that `channel`, `key` or `kind` uses.
    pub lookup: Vec<Lookup>,
}

/// How the kind of an event is found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KindRule {
    /// Every event is an update.
    #[default]
    Update,
    /// Every event is a snapshot.
    Snapshot,
    /// The value there is `update` or `snapshot`, after `lookup`.
    At(Pointer),
}

/// Replacements of the values at one pointer. A value that is not in the table is an error of its
/// line, so that a new symbol is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Whose values are replaced.
    pub pointer: Pointer,
    /// What a value (a string unescaped, a number as written) becomes.
    pub table: BTreeMap<String, String>,
}

impl MapRule {
    /// Takes a rule written as one TOML inline table, as the `--map` flag has it.
    ///
    /// # Errors
    /// Which key is wrong, how, and what is allowed.
    pub fn parse_inline(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Document {
            map: MapRule,
        }
        if !text.trim_start().starts_with('{') {
            return Err("a mapping is an inline table: { channel = \"…\", … }".into());
        }
        toml::from_str::<Document>(&format!("map = {text}"))
            .map(|document| document.map)
            .map_err(|error| error.message().to_owned())
    }

    /// The replacements for values at `pointer`, if it has any.
    #[must_use]
    pub fn lookup(&self, pointer: &Pointer) -> Option<&BTreeMap<String, String>> {
        self.lookup.iter().find(|lookup| lookup.pointer == *pointer).map(|lookup| &lookup.table)
    }

    fn looks_up(&self, pointer: &Pointer) -> bool {
        let in_channel = self.channel.pointers().any(|used| used == pointer);
        in_channel
            || self.key.as_ref() == Some(pointer)
            || matches!(&self.kind, KindRule::At(used) if used == pointer)
    }
}

/// Unit of a numeric time stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeUnit {
    /// Nanoseconds.
    #[default]
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
}

impl TimeUnit {
    /// How many decimal digits of a nanosecond count one unit holds: 9 for seconds.
    #[must_use]
    pub const fn digits(self) -> u32 {
        match self {
            Self::Ns => 0,
            Self::Us => 3,
            Self::Ms => 6,
            Self::S => 9,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "ns" => Ok(Self::Ns),
            "us" => Ok(Self::Us),
            "ms" => Ok(Self::Ms),
            "s" => Ok(Self::S),
            _ => Err(format!("ts_unit: {text:?} is not a unit; allowed: ns, us, ms, s")),
        }
    }
}

/// Why a text is not a JSON pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// Neither empty nor `/…`.
    #[error("a JSON pointer starts with / (\"\" is the whole line)")]
    NoSlash,
    /// `~` before anything but 0 or 1.
    #[error("~ in a JSON pointer is written ~0, and a / inside a name ~1")]
    Tilde,
}

/// A JSON pointer (RFC 6901), parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: Box<str>,
    steps: Box<[Step]>,
}

/// One reference token of a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The member's name, unescaped.
    pub name: Box<str>,
    /// The element's index, where the token can be one.
    pub index: Option<usize>,
}

impl Pointer {
    /// Takes a pointer in its string form (RFC 6901, section 5).
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        let Some(rest) = text.strip_prefix('/') else {
            let whole = Self { text: "".into(), steps: Box::default() };
            return if text.is_empty() { Ok(whole) } else { Err(PointerError::NoSlash) };
        };
        let steps = rest.split('/').map(Step::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.into(), steps })
    }

    /// The pointer as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The way from the whole document to the value; empty: the whole document.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() { "\"\" (the whole line)" } else { &self.text })
    }
}

impl Step {
    fn parse(token: &str) -> Result<Self, PointerError> {
        let escapes_end = token.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        if !escapes_end {
            return Err(PointerError::Tilde);
        }
        let digits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit());
        let canonical = token == "0" || !token.starts_with('0');
        let index = if digits && canonical { token.parse().ok() } else { None };
        Ok(Self { name: token.replace("~1", "/").replace("~0", "~").into(), index })
    }
}

/// Makes channel names: literal text with `{/pointer}`, `{@stem}` and `{@dir}` in it.
///
/// A value's characters outside `a-z A-Z 0-9 _ -` become `_`, dots included, so that a value is
/// always one token or a part of one; an empty value is an error of its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Box<[Piece]>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text of the name itself.
    Literal(Box<str>),
    /// The value there.
    Value(Pointer),
    /// `{@stem}`: the replayed file's name up to its first dot.
    Stem,
    /// `{@dir}`: the name of the folder that the replayed file is in.
    Folder,
}

/// Why a text is not a channel template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{` without `}` or the reverse.
    #[error("a brace without its partner; values are written {{/pointer}}")]
    Brace,
    /// A value that is neither a pointer nor a variable.
    #[error("{{{0}}} is not a value; allowed: {{/json/pointer}}, {{@stem}}, {{@dir}}")]
    Value(String),
    /// A pointer with an error in it.
    #[error("{{{0}}}: {1}")]
    Pointer(String, PointerError),
    /// Text that a channel's name cannot hold.
    #[error(
        "{0:?} is not allowed in a channel name; tokens take a-z A-Z 0-9 _ - and dots part them"
    )]
    Character(char),
    /// Nothing between two dots, at an end, or at all.
    #[error("empty token; a channel name is tokens separated by single dots")]
    EmptyToken,
    /// More tokens or literal bytes than a name may have.
    #[error("more than {CHANNEL_TOKENS_MAX} tokens or {CHANNEL_BYTES_MAX} bytes")]
    TooLong,
}

impl Template {
    /// Takes a template as it was written.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or(TemplateError::Brace)? + open;
            if open > 0 {
                pieces.push(Piece::literal(&rest[..open])?);
            }
            pieces.push(Piece::value(&rest[open + 1..close])?);
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::literal(rest)?);
        }
        let template = Self(pieces.into());
        template.check()?;
        Ok(template)
    }

    /// The parts in their order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The pointers of the template in their order.
    pub fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(pointer) => Some(pointer),
            Piece::Literal(_) | Piece::Stem | Piece::Folder => None,
        })
    }

    /// Checks the shape of every name that it can make: a value counts as one character.
    fn check(&self) -> Result<(), TemplateError> {
        let shape: String = self
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text,
                Piece::Value(_) | Piece::Stem | Piece::Folder => "_",
            })
            .collect();
        if shape.split('.').any(str::is_empty) {
            return Err(TemplateError::EmptyToken);
        }
        if shape.len() > CHANNEL_BYTES_MAX || shape.split('.').count() > CHANNEL_TOKENS_MAX {
            return Err(TemplateError::TooLong);
        }
        Ok(())
    }
}

impl Piece {
    fn literal(text: &str) -> Result<Self, TemplateError> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        match text.chars().find(|&letter| !allowed(letter)) {
            None => Ok(Self::Literal(text.into())),
            Some('}') => Err(TemplateError::Brace),
            Some(letter) => Err(TemplateError::Character(letter)),
        }
    }

    fn value(text: &str) -> Result<Self, TemplateError> {
        match text {
            "@stem" => Ok(Self::Stem),
            "@dir" => Ok(Self::Folder),
            _ if text.starts_with('/') => Pointer::parse(text)
                .map(Self::Value)
                .map_err(|error| TemplateError::Pointer(text.into(), error)),
            _ => Err(TemplateError::Value(text.into())),
        }
    }
}

/// A rule as TOML has it; any value type, so that the error can name the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    when: Option<toml::Value>,
    channel: Option<toml::Value>,
    key: Option<toml::Value>,
    ts: Option<toml::Value>,
    ts_unit: Option<toml::Value>,
    kind: Option<toml::Value>,
    data: Option<toml::Value>,
    lookup: Option<toml::Value>,
}

impl TryFrom<Written> for MapRule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let channel = written.channel.ok_or("channel: missing; it makes the channel's name")?;
        let channel = Template::parse(&text("channel", channel)?)
            .map_err(|error| format!("channel: {error}"))?;
        let ts = pointer("ts", written.ts)?;
        let ts_unit = match written.ts_unit {
            None => TimeUnit::Ns,
            Some(_) if ts.is_none() => {
                return Err("ts_unit: given without ts, the pointer to the time".into());
            }
            Some(unit) => TimeUnit::parse(&text("ts_unit", unit)?)?,
        };
        let whole = Pointer { text: "".into(), steps: Box::default() };
        let mut rule = Self {
            when: pointers("when", written.when)?,
            channel,
            key: pointer("key", written.key)?,
            ts,
            ts_unit,
            kind: kind(written.kind)?,
            data: pointer("data", written.data)?.unwrap_or(whole),
            lookup: Vec::new(),
        };
        let lookup = lookups(written.lookup)?;
        if let Some(unused) = lookup.iter().find(|lookup| !rule.looks_up(&lookup.pointer)) {
            return Err(format!(
                "lookup: {} is not a pointer of this rule's channel, key or kind",
                unused.pointer
            ));
        }
        rule.lookup = lookup;
        Ok(rule)
    }
}

fn text(key: &str, value: toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text),
        other => Err(format!("{key}: must be a string, not {}", other.type_str())),
    }
}

fn pointer(key: &str, value: Option<toml::Value>) -> Result<Option<Pointer>, String> {
    value.map(|value| pointer_of(key, &text(key, value)?)).transpose()
}

fn pointer_of(key: &str, text: &str) -> Result<Pointer, String> {
    Pointer::parse(text).map_err(|error| format!("{key}: {text:?}: {error}"))
}

fn pointers(key: &str, value: Option<toml::Value>) -> Result<Vec<Pointer>, String> {
    match value {
        None => Ok(Vec::new()),
        Some(toml::Value::String(text)) => Ok(vec![pointer_of(key, &text)?]),
        Some(toml::Value::Array(values)) => {
            values.into_iter().map(|value| pointer_of(key, &text(key, value)?)).collect()
        }
        Some(other) => Err(format!(
            "{key}: must be a JSON pointer or an array of them, not {}",
            other.type_str()
        )),
    }
}

fn kind(value: Option<toml::Value>) -> Result<KindRule, String> {
    let Some(value) = value else {
        return Ok(KindRule::Update);
    };
    match text("kind", value)?.as_str() {
        "update" => Ok(KindRule::Update),
        "snapshot" => Ok(KindRule::Snapshot),
        text if text.starts_with('/') => Ok(KindRule::At(pointer_of("kind", text)?)),
        text => {
            Err(format!("kind: {text:?} is not a kind; allowed: update, snapshot, /json/pointer"))
        }
    }
}

fn lookups(value: Option<toml::Value>) -> Result<Vec<Lookup>, String> {
    const SHAPE: &str = "lookup: must be tables of strings: { \"/pointer\" = { \"0\" = \"BTC\" } }";
    let tables = match value {
        None => return Ok(Vec::new()),
        Some(toml::Value::Table(tables)) => tables,
        Some(other) => return Err(format!("{SHAPE}, not {}", other.type_str())),
    };
    let mut lookups = Vec::with_capacity(tables.len());
    for (key, table) in tables {
        let toml::Value::Table(table) = table else {
            return Err(format!("{SHAPE}; {key:?} has {}", table.type_str()));
        };
        let pointer = pointer_of("lookup", &key)?;
        let table = table
            .into_iter()
            .map(|(from, to)| Ok((from, text(&format!("lookup: {key:?}"), to)?)))
            .collect::<Result<_, String>>()?;
        lookups.push(Lookup { pointer, table });
    }
    Ok(lookups)
}

#[cfg(test)]
mod tests;
