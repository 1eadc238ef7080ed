//! The operator's rules for channels: a pattern, and the terms that hold for what it matches.
//!
//! Not here: how a rule and a client's wish come together (`protocol::terms`), which takes these
//! values as they are. Invariant: a [`ChannelRule`] that exists is one that the protocol accepts.

use std::fmt;
use std::ops::RangeInclusive;

use super::keys::nearest;
use super::raw::{Given, Origin, RawRule};
use super::values::{self, Wrong};
use crate::limits::{
    AGE_LIMIT_MS_MAX, AGE_LIMIT_MS_MIN, CHANNEL_BYTES_MAX, CHANNEL_TOKENS_MAX, LAG_BYTES_LIMIT_MIN,
    LOG_BYTES_MAX,
};

/// The policies, and whether each lets newer events stand for older ones.
const POLICIES: [(&str, bool); 5] =
    [("auto", true), ("all", false), ("latest", true), ("close", false), ("unsubscribe", false)];

/// The sampling intervals, milliseconds.
const INTERVALS_MS: [u64; 3] = [10, 100, 1_000];

/// What a rule may hold.
const FIELDS: [&str; 5] = ["pattern", "policy", "max_age_ms", "max_lag_bytes", "interval_ms"];

/// What the operator wants for the channels of a pattern; what is absent is left to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRule {
    /// The channels.
    pub pattern: String,
    /// The policy for clients that choose none, by its word on the wire.
    pub policy: Option<&'static str>,
    /// Milliseconds that an event may wait to be sent.
    pub max_age_ms: Option<u32>,
    /// Bytes of one subscription's events that may wait to be sent.
    pub max_lag_bytes: Option<u64>,
    /// Milliseconds in which there is one event of a key at most.
    pub interval_ms: Option<u64>,
}

impl fmt::Display for ChannelRule {
    /// In one text, as the flag has it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |bytes| values::show_size(usize::try_from(bytes).unwrap_or(usize::MAX));
        let terms = [
            ("policy", self.policy.map(str::to_owned)),
            ("max_age_ms", self.max_age_ms.map(|ms| ms.to_string())),
            ("max_lag_bytes", self.max_lag_bytes.map(bytes)),
            ("interval_ms", self.interval_ms.map(|ms| ms.to_string())),
        ];
        out.write_str(&self.pattern)?;
        let given = terms.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (at, (name, value)) in given.enumerate() {
            write!(out, "{}{name}={value}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl ChannelRule {
    /// Checks a rule as it was given.
    ///
    /// # Errors
    /// Everything that is wrong with it: where, which setting, and why.
    pub fn resolve(raw: &RawRule) -> Result<Self, Vec<(Origin, String, Wrong)>> {
        let mut reader = Reader { raw, wrong: Vec::new() };
        reader.names();
        let pattern = reader.take("pattern", pattern);
        if pattern.is_none() && reader.given("pattern").is_none() {
            let wrong = Wrong::new("pattern is missing", "the channels, such as book.> or trade.*");
            reader.wrong.push((raw.origin.clone(), "rule".into(), wrong));
        }
        let policy = reader.take("policy", policy);
        let max_age_ms = reader.take("max_age_ms", age_ms);
        let max_lag_bytes = reader.take("max_lag_bytes", lag_bytes);
        let interval_ms = reader.take("interval_ms", interval_ms);
        if let (Some((word, false)), Some(_)) = (policy, interval_ms) {
            let what = format!("interval_ms skips events, which policy {word} does not");
            let wrong = Wrong::new(what, "with policy auto or latest, or without a policy");
            let origin = reader.given("interval_ms").map_or(&raw.origin, |given| &given.origin);
            reader.wrong.push((origin.clone(), "rule.interval_ms".into(), wrong));
        }
        match pattern {
            Some(pattern) if reader.wrong.is_empty() => Ok(Self {
                pattern,
                policy: policy.map(|(word, _)| word),
                max_age_ms,
                max_lag_bytes,
                interval_ms,
            }),
            _ => Err(reader.wrong),
        }
    }
}

struct Reader<'a> {
    raw: &'a RawRule,
    wrong: Vec<(Origin, String, Wrong)>,
}

impl<'a> Reader<'a> {
    /// Notes names that no rule has, and names that are there twice.
    fn names(&mut self) {
        let fields = &self.raw.fields;
        for (at, (name, given)) in fields.iter().enumerate() {
            let wrong = if !FIELDS.contains(&name.as_str()) {
                let meant = nearest(name, FIELDS.into_iter());
                let allowed = meant
                    .map_or_else(|| FIELDS.join(", "), |meant| format!("{meant}, if it is meant"));
                Wrong::new(format!("`{name}` is no part of a rule"), allowed)
            } else if fields[..at].iter().any(|(other, _)| other == name) {
                Wrong::new(format!("`{name}` is there twice"), "each part of a rule once")
            } else {
                continue;
            };
            self.wrong.push((given.origin.clone(), "rule".into(), wrong));
        }
    }

    fn given(&self, name: &str) -> Option<&'a Given> {
        self.raw.fields.iter().find(|(other, _)| other == name).map(|(_, given)| given)
    }

    fn take<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        let given = self.given(name)?;
        let mut wrong = match parse(&given.text) {
            Ok(value) => return Some(value),
            Err(wrong) => wrong,
        };
        // A flag's name does not say which part of the rule it is.
        if !matches!(given.origin, Origin::File(..)) {
            wrong.what = format!("{name}: {}", wrong.what);
        }
        self.wrong.push((given.origin.clone(), format!("rule.{name}"), wrong));
        None
    }
}

/// A pattern as clients write them: tokens of a name, `*` for one, a final `>` for the rest.
fn pattern(text: &str) -> Result<String, Wrong> {
    let tokens = text.split('.').count();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let valid = |(at, token): (usize, &str)| match token {
        "" => false,
        "*" => true,
        ">" => at + 1 == tokens,
        _ => token.bytes().all(plain),
    };
    if text.len() > CHANNEL_BYTES_MAX || tokens > CHANNEL_TOKENS_MAX {
        let allowed = format!("{CHANNEL_BYTES_MAX} bytes and {CHANNEL_TOKENS_MAX} tokens at most");
        return Err(Wrong::new(format!("`{text}` is too long"), allowed));
    }
    if text.split('.').enumerate().all(valid) {
        return Ok(text.to_owned());
    }
    let allowed = "tokens of a-z A-Z 0-9 _ - separated by dots, * for any one token, > for the \
                   rest at the end, such as book.> or trade.*";
    Err(Wrong::new(format!("`{text}` is not a pattern"), allowed))
}

fn policy(text: &str) -> Result<(&'static str, bool), Wrong> {
    POLICIES.into_iter().find(|(word, _)| *word == text).ok_or_else(|| {
        let words = POLICIES.map(|(word, _)| word).join(", ");
        Wrong::new(format!("`{text}` is not a policy"), words)
    })
}

fn age_ms(text: &str) -> Result<u32, Wrong> {
    let range = AGE_LIMIT_MS_MIN as usize..=AGE_LIMIT_MS_MAX as usize;
    let ms = values::count(text, range).map_err(|wrong| milliseconds(&wrong))?;
    Ok(u32::try_from(ms).expect("within its range"))
}

fn milliseconds(wrong: &Wrong) -> Wrong {
    Wrong::new(wrong.what.as_str(), format!("{} (milliseconds)", wrong.allowed))
}

/// Bytes that `max_lag_bytes` takes; more than the largest log never comes to pass.
#[expect(clippy::cast_possible_truncation, reason = "a kibibyte")]
pub const LAG_BYTES_LIMITS: RangeInclusive<usize> = LAG_BYTES_LIMIT_MIN as usize..=LOG_BYTES_MAX;

fn lag_bytes(text: &str) -> Result<u64, Wrong> {
    values::size(text, LAG_BYTES_LIMITS).map(|bytes| bytes as u64)
}

fn interval_ms(text: &str) -> Result<u64, Wrong> {
    let [first, second, third] = INTERVALS_MS;
    let ms = text.trim().parse().ok().filter(|ms| INTERVALS_MS.contains(ms));
    ms.ok_or_else(|| {
        let allowed = format!("{first}, {second} or {third} (milliseconds)");
        Wrong::new(format!("`{text}` is not a sampling interval"), allowed)
    })
}
