//! The terms of a subscription: policy, limits and sampling, asked for, ruled and agreed.
//!
//! A client states a [`Wish`], the operator's [`Rules`] state wishes of their own for channels by
//! pattern, and [`Terms`] is what comes of both: the client chooses the policy, limits are the
//! narrower of the two, sampling the slower. Not here: how terms are carried out (`fanout`).
//! Invariant: sampled terms have the policy `auto` or `latest`.

use crate::limits::{LAG_BYTES_LIMIT_MIN, RULES_MAX};

use super::channel::Pattern;
use super::policy::Policy;

/// How often a sampled subscription gets the newest value of each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interval {
    /// Every 10 ms.
    Ms10,
    /// Every 100 ms.
    Ms100,
    /// Every second.
    Ms1000,
}

impl Interval {
    /// All of them, the fastest first.
    pub const ALL: [Self; 3] = [Self::Ms10, Self::Ms100, Self::Ms1000];

    /// Milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        match self {
            Self::Ms10 => 10,
            Self::Ms100 => 100,
            Self::Ms1000 => 1_000,
        }
    }

    /// The interval of that many milliseconds, if it is one of the three.
    #[must_use]
    pub fn from_ms(ms: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|interval| interval.ms() == ms)
    }
}

/// What one side asks for; what it leaves out, it leaves to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Wish {
    /// What happens when a limit is passed.
    pub policy: Option<Policy>,
    /// Milliseconds that an event may wait to be sent.
    pub max_age_ms: Option<u32>,
    /// Bytes of the subscription's events that may wait to be sent.
    pub max_lag_bytes: Option<u64>,
    /// At most one event of a key in this time.
    pub interval: Option<Interval>,
}

/// What was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Terms {
    /// What happens when a limit is passed, or when the log has overwritten what was to be sent.
    pub policy: Policy,
    /// Milliseconds that an event may wait to be sent.
    pub max_age_ms: Option<u32>,
    /// Bytes of the subscription's events that may wait to be sent.
    pub max_lag_bytes: Option<u64>,
    /// At most one event of a key in this time.
    pub interval: Option<Interval>,
}

impl Terms {
    /// What comes of a client's wish where the operator has `rule`. Sampling conflates, so a policy
    /// that does not gives way to `auto` where the operator samples.
    #[must_use]
    pub fn agree(wish: &Wish, rule: Option<&Wish>) -> Self {
        let rule = rule.copied().unwrap_or_default();
        let interval = wish.interval.max(rule.interval);
        let policy = match wish.policy.or(rule.policy).unwrap_or_default() {
            policy if interval.is_none() || policy.conflates() => policy,
            _ => Policy::Auto,
        };
        Self {
            policy,
            max_age_ms: narrower(wish.max_age_ms, rule.max_age_ms),
            max_lag_bytes: narrower(wish.max_lag_bytes, rule.max_lag_bytes),
            interval,
        }
    }

    /// The same, sampled at `interval` at least, where the policy conflates.
    #[must_use]
    pub fn slowed(self, interval: Option<Interval>) -> Self {
        if !self.policy.conflates() {
            return self;
        }
        Self { interval: self.interval.max(interval), ..self }
    }

    /// What holds for the events with a key or for those without one, with `auto` resolved: keyed
    /// events as `latest`, the others as `all` and not sampled.
    #[must_use]
    pub fn of_events(self, keyed: bool) -> Self {
        match self.policy {
            Policy::Auto if keyed => Self { policy: Policy::Latest, ..self },
            Policy::Auto => Self { policy: Policy::All, interval: None, ..self },
            _ => self,
        }
    }
}

fn narrower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The operator's wish for the channels of one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The channels.
    pub pattern: Pattern,
    /// What the operator wants for them.
    pub wish: Wish,
}

/// The operator's rules; of those that match a channel the most specific one holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Takes rules in any order, [`RULES_MAX`] at most and no pattern twice.
    #[must_use]
    pub fn new(mut rules: Vec<Rule>) -> Self {
        debug_assert!(rules.len() <= RULES_MAX, "the configuration sees to it");
        rules.sort_by(|one, other| one.pattern.specificity(&other.pattern));
        Self(rules)
    }

    /// The rule of a channel.
    #[must_use]
    pub fn of_channel(&self, channel: &str) -> Option<&Wish> {
        self.0.iter().find(|rule| rule.pattern.matches(channel)).map(|rule| &rule.wish)
    }

    /// The rule that holds for a pattern as a whole, and those that hold for a part of it.
    pub fn of_pattern(&self, pattern: &Pattern) -> (Option<&Wish>, impl Iterator<Item = &Rule>) {
        let whole = self.0.iter().position(|rule| rule.pattern.covers(pattern));
        let inside = self.0[..whole.unwrap_or(self.0.len())].iter();
        let parts = inside.filter(move |rule| rule.pattern.overlaps(pattern));
        (whole.map(|at| &self.0[at].wish), parts)
    }
}

const _: () = assert!(LAG_BYTES_LIMIT_MIN > 0, "a limit of nothing would never be kept");
