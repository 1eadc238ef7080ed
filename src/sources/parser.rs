//! Turns one line into one event: a producer event as in `docs/PROTOCOL.md` or, with mapping
//! rules, any JSON.
//!
//! Not here: where lines come from, and `seq`. Invariant: an event that is returned has a valid
//! channel, a key within its bound, and as `data` a part of the line itself.

use crate::config::mapping::MapRule;
use crate::limits::KEY_BYTES_MAX;
use crate::protocol::channel::check_name;
use crate::protocol::event::{Event, Kind};
use crate::sources::error::{LineError, bounded};
use crate::sources::mapping::{self, FileNames, TIME_FORMS_NATIVE, Texts};
use crate::sources::span::{Document, Scanner, Type, Value, plain, string_is, unescape};

/// Rules whose lacking pointer a [`LineError::NoRule`] names; the others are counted.
const RULES_NAMED_MAX: usize = 4;

/// Parses lines; keeps its buffers from one line to the next, so that the steady state does not
/// allocate.
#[derive(Debug)]
pub struct Parser {
    rules: Vec<MapRule>,
    line_bytes_max: usize,
    scanner: Scanner,
    texts: Texts,
}

impl Parser {
    /// A parser of producer events, or of what `rules` map when there are any; the first rule that
    /// applies wins. Lines longer than `line_bytes_max`, newline included, are refused.
    #[must_use]
    pub fn new(rules: Vec<MapRule>, line_bytes_max: usize) -> Self {
        let scanner = Scanner::default();
        Self { rules, line_bytes_max, scanner, texts: Texts::default() }
    }

    /// Parses one line without its newline; space around it (a `\r`, too) is allowed. `file` is
    /// what `{@stem}` and `{@dir}` stand for.
    ///
    /// # Errors
    /// What is wrong with the line, as the reply to its producer says it.
    pub fn parse<'a>(
        &'a mut self,
        line: &'a [u8],
        file: Option<&FileNames>,
    ) -> Result<Event<'a>, LineError> {
        if line.len() >= self.line_bytes_max {
            return Err(LineError::TooLong { limit: self.line_bytes_max });
        }
        let document = self.scanner.scan(line)?;
        let event = if self.rules.is_empty() {
            native(document, &mut self.texts)?
        } else {
            mapped(&self.rules, document, file, &mut self.texts)?
        };
        if let Err(why) = check_name(event.channel) {
            return Err(LineError::Channel { name: bounded(event.channel), why });
        }
        match event.key.map(str::len) {
            Some(bytes) if bytes == 0 || bytes > KEY_BYTES_MAX => Err(LineError::Key { bytes }),
            _ => Ok(event),
        }
    }
}

/// The fields of a producer event as they were found.
#[derive(Default)]
struct Fields {
    channel: Option<Value>,
    key: Option<Value>,
    ts: Option<Value>,
    kind: Option<Value>,
    data: Option<Value>,
}

impl Fields {
    fn of(document: Document<'_>) -> Result<Self, LineError> {
        let root = document.root();
        let found = document.type_of(root);
        if found != Type::Object {
            return Err(LineError::NotAnObject { found: found.as_str() });
        }
        let mut fields = Self::default();
        for (name, value) in document.members(root) {
            let (field, slot) = fields.slot(name).ok_or_else(|| LineError::FieldUnknown {
                field: bounded(&String::from_utf8_lossy(&name[1..name.len() - 1])),
            })?;
            if slot.replace(value).is_some() {
                return Err(LineError::FieldTwice { field });
            }
        }
        Ok(fields)
    }

    fn slot(&mut self, name: &[u8]) -> Option<(&'static str, &mut Option<Value>)> {
        let slots = [
            ("channel", &mut self.channel),
            ("key", &mut self.key),
            ("ts", &mut self.ts),
            ("kind", &mut self.kind),
            ("data", &mut self.data),
        ];
        slots.into_iter().find(|(field, _)| string_is(name, field.as_bytes()))
    }
}

fn native<'a>(document: Document<'a>, texts: &'a mut Texts) -> Result<Event<'a>, LineError> {
    let fields = Fields::of(document)?;
    let missing = |field| LineError::FieldMissing { field };
    let channel_value = fields.channel.ok_or_else(|| missing("channel"))?;
    let data = fields.data.ok_or_else(|| missing("data"))?;
    let key = match fields.key {
        Some(value) => Some(string(document, "key", value, &mut texts.key)?),
        None => None,
    };
    Ok(Event {
        channel: string(document, "channel", channel_value, &mut texts.channel)?,
        key,
        kind: fields.kind.map_or(Ok(Kind::Update), |value| kind(document, value))?,
        ts: fields.ts.map(|value| native_time(document, value)).transpose()?,
        data: document.raw(data),
    })
}

/// A field's string: borrowed from the line where it has no escapes.
fn string<'a>(
    document: Document<'a>,
    field: &'static str,
    value: Value,
    unescaped: &'a mut String,
) -> Result<&'a str, LineError> {
    let found = document.type_of(value);
    if found != Type::String {
        return Err(LineError::FieldType { field, expected: "a string", found: found.as_str() });
    }
    let raw = document.raw(value);
    if let Some(text) = plain(raw) {
        return Ok(text);
    }
    unescaped.clear();
    unescape(raw, unescaped);
    Ok(unescaped)
}

fn kind(document: Document<'_>, value: Value) -> Result<Kind, LineError> {
    let mut unescaped = String::new();
    match string(document, "kind", value, &mut unescaped)? {
        "update" => Ok(Kind::Update),
        "snapshot" => Ok(Kind::Snapshot),
        other => Err(LineError::Kind { at: "kind".into(), found: bounded(other) }),
    }
}

/// The time of a producer event: an integer, nanoseconds since the Unix epoch.
///
/// # Errors
/// It is of another type, or not such an integer.
pub fn native_time(document: Document<'_>, value: Value) -> Result<u64, LineError> {
    const EXPECTED: &str = "an integer (nanoseconds since 1970)";
    let found = document.type_of(value);
    if found != Type::Number {
        let found = found.as_str();
        return Err(LineError::FieldType { field: "ts", expected: EXPECTED, found });
    }
    let text = String::from_utf8_lossy(document.raw(value));
    text.parse().map_err(|_| LineError::Time {
        at: "ts".into(),
        found: bounded(&text),
        allowed: TIME_FORMS_NATIVE,
    })
}

fn mapped<'a>(
    rules: &[MapRule],
    document: Document<'a>,
    file: Option<&FileNames>,
    texts: &'a mut Texts,
) -> Result<Event<'a>, LineError> {
    for rule in rules {
        if let Some(found) = mapping::apply(rule, &document, file, texts)? {
            return Ok(Event {
                channel: &texts.channel,
                key: found.keyed.then_some(&texts.key),
                kind: found.kind,
                ts: found.ts,
                data: document.raw(found.data),
            });
        }
    }
    Err(no_rule(rules, document))
}

#[cold]
fn no_rule(rules: &[MapRule], document: Document<'_>) -> LineError {
    let mut lacks = String::new();
    for (at, rule) in rules.iter().take(RULES_NAMED_MAX).enumerate() {
        let lacking = mapping::lacking(rule, &document);
        let pointer = lacking.map(|pointer| bounded(&pointer.to_string())).unwrap_or_default();
        let comma = if at == 0 { "" } else { ", " };
        lacks.push_str(&format!("{comma}rule {} needs {pointer}", at + 1));
    }
    if rules.len() > RULES_NAMED_MAX {
        lacks.push_str(&format!(", and {} more", rules.len() - RULES_NAMED_MAX));
    }
    LineError::NoRule { lacks }
}

#[cfg(test)]
mod tests;
