//! Settings as they were given: text with its origin, in layers.
//!
//! The file, the environment and the command line each become one [`Raw`]; laying one over another
//! decides precedence. Not here: what a text means (`values`, `resolve`). Invariant: a key appears
//! in [`Raw::values`] only if it is in [`KEYS`].

use std::collections::BTreeMap;
use std::fmt;

use super::keys::{KEYS, did_you_mean};
use super::mapping::MapRule;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere; the program's own.
    Default,
    /// A file and the line in it, from 1.
    File(String, usize),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File(file, line) => write!(out, "{file}:{line}"),
            Self::Variable(name) | Self::Flag(name) => out.write_str(name),
        }
    }
}

/// A text and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The setting as text, whatever notation it came in.
    pub text: String,
    /// Where it was given.
    pub origin: Origin,
}

/// A source as it was given, with its own mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSource {
    /// The address, as a URL.
    pub url: Given,
    /// Its rules.
    pub map: Vec<MapRule>,
}

/// A rule for channels as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRule {
    /// Where it begins.
    pub origin: Origin,
    /// Its pattern and terms by name, in their order.
    pub fields: Vec<(String, Given)>,
}

impl RawRule {
    /// A rule in one text: `PATTERN?name=value&name=value`.
    #[must_use]
    pub fn parse(given: &Given) -> Self {
        let field = |name: &str, text: &str| {
            let given = Given { text: text.trim().to_owned(), origin: given.origin.clone() };
            (name.trim().to_owned(), given)
        };
        let (pattern, terms) = given.text.split_once('?').unwrap_or((&given.text, ""));
        let mut fields = vec![field("pattern", pattern)];
        for term in terms.split('&').filter(|term| !term.trim().is_empty()) {
            let (name, value) = term.split_once('=').unwrap_or((term, ""));
            fields.push(field(name, value));
        }
        Self { origin: given.origin.clone(), fields }
    }
}

/// One layer of settings, or several laid over each other.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    /// Settings of one value, by key.
    pub values: BTreeMap<&'static str, Given>,
    /// Sources; a layer that has any replaces those below it.
    pub sources: Vec<RawSource>,
    /// Mapping rules given outside a source.
    pub maps: Vec<Given>,
    /// Rules for channels; a layer that has any replaces those below it.
    pub rules: Vec<RawRule>,
    /// What was wrong already.
    pub problems: Vec<Problem>,
}

impl Raw {
    /// Lays `upper` over this layer: what it has wins.
    pub fn overlay(&mut self, upper: Self) {
        self.values.extend(upper.values);
        if !upper.sources.is_empty() {
            self.sources = upper.sources;
        }
        if !upper.maps.is_empty() {
            self.maps = upper.maps;
        }
        if !upper.rules.is_empty() {
            self.rules = upper.rules;
        }
        self.problems.extend(upper.problems);
    }
}

/// The layer of environment variables: `FANFARE_LOG_BYTES` and so on; `FANFARE_SOURCE`,
/// `FANFARE_MAP` and `FANFARE_RULE` are lists, separated by newlines or `|`.
///
/// Other variables that begin with `FANFARE_` are refused only when they are a slip of the pen away
/// from a setting: container platforms make variables of their own from a service's name.
#[must_use]
pub fn environment(variables: impl Iterator<Item = (String, String)>) -> Raw {
    let mut raw = Raw::default();
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix("FANFARE_") else { continue };
        let name = name.to_ascii_lowercase();
        let given = |text: &str| Given {
            text: text.trim().to_owned(),
            origin: Origin::Variable(variable.clone()),
        };
        let list = || text.split(['\n', '|']).filter(|part| !part.trim().is_empty()).map(given);
        match name.as_str() {
            "source" => raw.sources.extend(list().map(|url| RawSource { url, map: Vec::new() })),
            "map" => raw.maps.extend(list()),
            "rule" => raw.rules.extend(list().map(|rule| RawRule::parse(&rule))),
            "config" => {}
            _ => match KEYS.iter().find(|key| key.name == name) {
                Some(key) => drop(raw.values.insert(key.name, given(&text))),
                None => {
                    let lists = ["source", "map", "rule"];
                    let Some(meant) = did_you_mean(&name, &lists) else { continue };
                    raw.problems.push(Problem {
                        origin: Origin::Variable(variable),
                        key: name,
                        what: "no such setting".into(),
                        allowed: format!("did you mean FANFARE_{}?", meant.to_ascii_uppercase()),
                    });
                }
            },
        }
    }
    raw
}

/// One wrong setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was given.
    pub origin: Origin,
    /// The setting.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// What would have been taken.
    pub allowed: String,
}

impl fmt::Display for Problem {
    /// Flags and variables are named like the setting; only a place in a file needs its name.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, key, what, allowed } = self;
        match origin {
            Origin::Variable(_) | Origin::Flag(_) => write!(out, "{origin}: {what}; {allowed}"),
            Origin::Default | Origin::File(..) => write!(out, "{origin}: {key}: {what}; {allowed}"),
        }
    }
}

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            write!(out, "{}{problem}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
