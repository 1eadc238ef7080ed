//! What was agreed for a channel, worked out from what the client asked and the operator's rules.
//!
//! Not here: when it was agreed (the judge). Invariant: nothing of the server's is called.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use super::history::History;

/// The policies by their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Auto,
    All,
    Latest,
    Close,
    Unsubscribe,
}

impl Policy {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("all", Self::All),
        ("latest", Self::Latest),
        ("close", Self::Close),
        ("unsubscribe", Self::Unsubscribe),
    ];

    fn read(word: &str) -> Self {
        let known = Self::ALL.into_iter().find(|(known, _)| *known == word);
        known.unwrap_or_else(|| panic!("no such policy: {word}")).1
    }

    pub(crate) fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, policy)| *policy == self).expect("all are listed").0
    }
}

/// What one side asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) policy: Option<Policy>,
    pub(crate) max_age_ms: Option<u64>,
    pub(crate) max_lag_bytes: Option<u64>,
    pub(crate) interval_ms: Option<u64>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) policy: Policy,
    pub(crate) max_age_ms: Option<u64>,
    pub(crate) max_lag_bytes: Option<u64>,
    pub(crate) interval_ms: Option<u64>,
}

impl Terms {
    /// The client chooses the policy, limits are the narrower, sampling the slower; where the
    /// operator samples, a policy that cannot be sampled is `auto`.
    pub(crate) fn agree(wish: &Wish, rule: Option<&Wish>) -> Self {
        let rule = rule.copied().unwrap_or_default();
        let narrower = |one: Option<u64>, other| one.into_iter().chain(other).min();
        let mut terms = Self {
            policy: wish.policy.or(rule.policy).unwrap_or(Policy::Auto),
            max_age_ms: narrower(wish.max_age_ms, rule.max_age_ms),
            max_lag_bytes: narrower(wish.max_lag_bytes, rule.max_lag_bytes),
            interval_ms: wish.interval_ms.into_iter().chain(rule.interval_ms).max(),
        };
        if terms.interval_ms.is_some() && !terms.conflates() {
            terms.policy = Policy::Auto;
        }
        terms
    }

    /// As a result entry states them.
    fn read(entry: &Value) -> Self {
        let number = |name: &str| {
            let value = &entry[name];
            assert!(value.is_null() || value.is_u64(), "{name} is a number: {entry}");
            value.as_u64()
        };
        Self {
            policy: Policy::read(entry["policy"].as_str().expect("a policy")),
            max_age_ms: number("max_age_ms"),
            max_lag_bytes: number("max_lag_bytes"),
            interval_ms: number("interval_ms"),
        }
    }

    /// With `auto` resolved for events with a key, or for those without.
    pub(crate) fn of_events(mut self, keyed: bool) -> Self {
        if self.policy == Policy::Auto {
            self.policy = if keyed { Policy::Latest } else { Policy::All };
            self.interval_ms = self.interval_ms.filter(|_| keyed);
        }
        self
    }

    /// Whether a newer event may stand for one that has a key, or that has none.
    pub(super) fn conflates_events(self, keyed: bool) -> bool {
        self.of_events(keyed).policy == Policy::Latest
    }

    fn slowed(mut self, tier_ms: u64) -> Self {
        if self.conflates() && tier_ms > 0 {
            self.interval_ms = self.interval_ms.max(Some(tier_ms));
        }
        self
    }

    fn conflates(&self) -> bool {
        matches!(self.policy, Policy::Auto | Policy::Latest)
    }
}

/// Of the patterns that match `channel` the most specific one, with what belongs to it.
fn most_specific<'a, T>(
    patterns: impl Iterator<Item = (&'a str, T)>,
    channel: &str,
) -> Option<(&'a str, T)> {
    patterns
        .filter(|(pattern, _)| matches(pattern, channel))
        .min_by(|(one, _), (other, _)| specificity(one, other))
}

/// The more specific pattern first: a name before `*` before `>`, token by token.
fn specificity(one: &str, other: &str) -> Ordering {
    let ranks = |pattern: &str| -> Vec<_> {
        pattern
            .split('.')
            .map(|token| (token == "*", token == ">"))
            .map(|(star, rest)| u8::from(star) + 2 * u8::from(rest))
            .collect()
    };
    ranks(one).cmp(&ranks(other))
}

pub(crate) fn matches(pattern: &str, channel: &str) -> bool {
    fn tokens(pattern: &[&str], names: &[&str]) -> bool {
        match (pattern, names) {
            ([">"], [_, ..]) | ([], []) => true,
            ([token, pattern @ ..], [name, names @ ..]) => {
                (*token == "*" || token == name) && tokens(pattern, names)
            }
            _ => false,
        }
    }
    !channel.is_empty()
        && tokens(&pattern.split('.').collect::<Vec<_>>(), &channel.split('.').collect::<Vec<_>>())
}

/// A client's set with what holds for each channel under it.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) patterns: BTreeMap<String, Wish>,
    /// The server's tier, 0 for none.
    pub(super) tier_ms: u64,
    /// By channel; what was worked out already.
    known: Vec<Option<Option<Terms>>>,
}

impl Set {
    /// Forgets what was worked out, after a change.
    pub(super) fn changed(&mut self) {
        self.known.clear();
    }

    /// What holds for a channel, if it is wanted; `auto` is not resolved.
    pub(super) fn terms(
        &mut self,
        channel: usize,
        rules: &[(String, Wish)],
        history: &History,
    ) -> Option<Terms> {
        if self.known.len() <= channel {
            self.known.resize(history.channels.len(), None);
        }
        if let Some(known) = self.known[channel] {
            return known;
        }
        let name = &*history.channels[channel].name;
        let held = self.patterns.iter().map(|(pattern, wish)| (&**pattern, wish));
        let terms = most_specific(held, name)
            .map(|(_, wish)| Terms::agree(wish, rule(rules, name)).slowed(self.tier_ms));
        self.known[channel] = Some(terms);
        terms
    }
}

/// The operator's rule for a channel.
pub(super) fn rule<'a>(rules: &'a [(String, Wish)], channel: &str) -> Option<&'a Wish> {
    let rules = rules.iter().map(|(pattern, wish)| (&**pattern, wish));
    most_specific(rules, channel).map(|(_, wish)| wish)
}

/// Checks what a result entry says against what must hold for each channel of its pattern.
pub(super) fn check_entry(entry: &Value, wish: &Wish, rules: &[(String, Wish)], names: &[&str]) {
    let pattern = entry["channel"].as_str().expect("a channel");
    assert!(entry["matched"].is_u64(), "says how many channels match: {entry}");
    let none = Vec::new();
    let except = entry["except"].as_array().unwrap_or(&none);
    for part in except {
        assert!(part["seq"].is_null() && part["matched"].is_null(), "terms alone: {part}");
    }
    for name in names.iter().filter(|name| matches(pattern, name)) {
        let parts = except.iter().map(|part| (part["channel"].as_str().unwrap(), part));
        let said = Terms::read(most_specific(parts, name).map_or(entry, |(_, part)| part));
        let held = Terms::agree(wish, rule(rules, name));
        assert_eq!(said, held, "terms of {name} under {pattern} ({wish:?}): {entry}");
    }
}
