//! The layer of `fanfare.toml`: keys and values with their lines.
//!
//! Values become text here, so that a size may be written `"64MiB"` or `67108864` and every layer
//! is checked by the same code. Not here: reading the file. Invariant: every problem names its
//! line.

use std::ops::Range;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::keys::{KEYS, did_you_mean};
use super::mapping::MapRule;
use super::raw::{Given, Origin, Problem, Raw, RawRule, RawSource};

/// Reads the text of the file called `file`.
#[must_use]
pub fn file(file: &str, text: &str) -> Raw {
    let mut reader = Reader { file, text, raw: Raw::default() };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let wrong = error.message().replace('\n', ", ");
        reader.problem(error.span(), "syntax", wrong, "allowed: TOML, see https://toml.io");
    }
    if errors.is_empty() {
        reader.document(document.into_inner());
    }
    reader.raw
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    raw: Raw,
}

impl Reader<'_> {
    fn document(&mut self, document: DeTable<'_>) {
        for (key, value) in document {
            let span = key.span();
            let name = key.into_inner();
            match name.as_ref() {
                "source" => {
                    self.tables(
                        "source",
                        "allowed: [[source]] tables with url",
                        value,
                        Self::source,
                    );
                    continue;
                }
                "rule" => {
                    self.tables("rule", RULE_ALLOWED, value, Self::rule);
                    continue;
                }
                _ => {}
            }
            match KEYS.iter().find(|key| key.name == name) {
                Some(key) => match scalar(value.get_ref()) {
                    Some(text) => {
                        let origin = self.origin(Some(value.span()));
                        drop(self.raw.values.insert(key.name, Given { text, origin }));
                    }
                    None => {
                        let what = format!("a {} is not one value", value.get_ref().type_str());
                        self.problem(
                            Some(value.span()),
                            &name,
                            what,
                            "allowed: a string, number or true",
                        );
                    }
                },
                None => self.unknown(span, &name),
            }
        }
    }

    fn unknown(&mut self, span: Range<usize>, name: &str) {
        let allowed = match did_you_mean(name, &["source", "rule"]) {
            Some(meant) => format!("did you mean {meant}?"),
            None => {
                let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
                format!("allowed: {}, source, rule", names.join(", "))
            }
        };
        self.problem(Some(span), name, "no such setting".into(), &allowed);
    }

    /// Takes each of the tables of `[[key]]`.
    fn tables<'a>(
        &mut self,
        key: &str,
        allowed: &str,
        value: Spanned<DeValue<'a>>,
        take: impl Fn(&mut Self, Range<usize>, DeTable<'a>),
    ) {
        let span = value.span();
        let DeValue::Array(tables) = value.into_inner() else {
            let what = "one table or value instead of a list".into();
            return self.problem(Some(span), key, what, allowed);
        };
        for table in tables {
            let span = table.span();
            match table.into_inner() {
                DeValue::Table(table) => take(self, span, table),
                _ => self.problem(Some(span), key, "not a table".into(), allowed),
            }
        }
    }

    fn rule(&mut self, span: Range<usize>, table: DeTable<'_>) {
        let mut fields = Vec::new();
        for (name, value) in table {
            let origin = self.origin(Some(value.span()));
            let name = name.into_inner().into_owned();
            match scalar(value.get_ref()) {
                Some(text) => fields.push((name, Given { text, origin })),
                None => {
                    let what = format!("a {} is not one value", value.get_ref().type_str());
                    let key = format!("rule.{name}");
                    return self.problem(Some(value.span()), &key, what, RULE_ALLOWED);
                }
            }
        }
        self.raw.rules.push(RawRule { origin: self.origin(Some(span)), fields });
    }

    fn source(&mut self, span: Range<usize>, table: DeTable<'_>) {
        let mut url = None;
        let mut map = Vec::new();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "url" => match value.get_ref().as_str() {
                    Some(text) => {
                        let origin = self.origin(Some(value.span()));
                        url = Some(Given { text: text.to_owned(), origin });
                    }
                    None => {
                        let what = "not a string".into();
                        self.problem(Some(value.span()), "source.url", what, URL_ALLOWED);
                        return;
                    }
                },
                "map" => map = self.maps(value),
                other => {
                    let what = "no such setting".into();
                    let key_name = format!("source.{other}");
                    self.problem(Some(key.span()), &key_name, what, "allowed: url, map");
                }
            }
        }
        match url {
            Some(url) => self.raw.sources.push(RawSource { url, map }),
            None => self.problem(Some(span), "source.url", "missing".into(), URL_ALLOWED),
        }
    }

    fn maps(&mut self, value: Spanned<DeValue<'_>>) -> Vec<MapRule> {
        let span = value.span();
        let DeValue::Array(rules) = value.into_inner() else {
            let what = "one table or value instead of a list".into();
            self.problem(Some(span), "source.map", what, "allowed: [[source.map]] tables");
            return Vec::new();
        };
        let mut map = Vec::new();
        for rule in rules {
            let span = rule.span();
            match MapRule::deserialize(into_deserializer(rule)) {
                Ok(rule) => map.push(rule),
                Err(error) => {
                    let at = error.span().unwrap_or(span);
                    let what = error.message().replace('\n', ", ");
                    self.problem(Some(at), "source.map", what, MAP_ALLOWED);
                }
            }
        }
        map
    }

    fn origin(&self, span: Option<Range<usize>>) -> Origin {
        let start = span.map_or(0, |span| span.start).min(self.text.len());
        let line = 1 + self.text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        Origin::File(self.file.to_owned(), line)
    }

    fn problem(&mut self, span: Option<Range<usize>>, key: &str, what: String, allowed: &str) {
        let origin = self.origin(span);
        let (key, allowed) = (key.to_owned(), allowed.to_owned());
        self.raw.problems.push(Problem { origin, key, what, allowed });
    }
}

const URL_ALLOWED: &str =
    "allowed: url = \"tcp://127.0.0.1:9002\", unix:///PATH, stdin://, nats://… or replay:FILE";
const RULE_ALLOWED: &str =
    "allowed: [[rule]] tables such as pattern = \"book.>\", policy = \"close\", max_age_ms = 500";
const MAP_ALLOWED: &str = "allowed: a rule such as { channel = \"trade.{/s}\", ts = \"/T\" }";

fn into_deserializer(value: Spanned<DeValue<'_>>) -> impl serde::Deserializer<'_, Error = Error> {
    value.into_deserializer()
}

/// The text of a value that is not a list or a table; a list of numbers is joined by commas.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        DeValue::Datetime(_) | DeValue::Table(_) => None,
        DeValue::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| scalar(item.get_ref())).collect();
            Some(items?.join(","))
        }
    }
}
