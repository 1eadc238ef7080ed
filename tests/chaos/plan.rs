//! What a client wants and how it behaves, thrown with a seeded dice.
//!
//! Not here: what comes of it. Invariant: equal seeds give equal plans, whatever else happens.

use std::time::Duration;

use fanfare::protocol::channel::Pattern;
use serde_json::{Value, json};

use super::account::{Class, Wants};
use super::truth::Truth;
use crate::day::Day;
use crate::random;

const POLICIES: [&str; 5] = ["auto", "all", "latest", "close", "unsubscribe"];

/// Random numbers from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of one of several who share a seed.
    pub(crate) fn new(seed: u64, number: usize) -> Self {
        let mut dice = Self(seed ^ (number as u64).wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        random::next(&mut self.0)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Any of them.
    pub(crate) fn of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[usize::try_from(self.below(things.len() as u64)).expect("64 bits")]
    }

    /// A number of 1 to 2^`bits`; each length of it is as likely.
    pub(crate) fn scale(&mut self, bits: u64) -> u64 {
        let bits = self.below(bits) + 1;
        1 + self.below(1 << bits)
    }

    pub(crate) fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// See the module's head.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    patterns: Vec<Pattern>,
    pub(crate) policy: &'static str,
    max_age_ms: Option<u64>,
    max_lag_bytes: Option<u64>,
    pub(crate) interval_ms: Option<u64>,
    pub(crate) snapshot: bool,
    /// It claims what a replay has brought before the replay has ended.
    pub(crate) is_eager: bool,
    /// It subscribes again when a receipt says that this helps.
    pub(crate) heals: bool,
    /// Bytes that it reads at a time, now and then; none: everything at once.
    pub(crate) slow_bytes: Option<usize>,
    /// Its connections are reset; its socket has a small buffer.
    pub(crate) is_cut: bool,
}

impl Plan {
    /// The plan of client `number`.
    pub(crate) fn new(number: usize, day: &Day, truth: &Truth, dice: &mut Dice) -> Self {
        let policy = POLICIES[number % POLICIES.len()];
        let conflates = ["auto", "latest"].contains(&policy);
        let limited = dice.below(3);
        Self {
            patterns: patterns(day, truth, dice),
            policy,
            max_age_ms: (limited == 0).then(|| 20 + dice.below(1_500)),
            max_lag_bytes: (limited <= 1).then(|| 1_024 + dice.scale(20)),
            interval_ms: (conflates && dice.one_in(3)).then(|| *dice.of(&[10, 100, 1_000])),
            snapshot: !dice.one_in(6),
            is_eager: dice.one_in(2),
            heals: dice.one_in(2),
            slow_bytes: dice.one_in(4).then(|| usize::try_from(dice.scale(15)).unwrap() + 256),
            is_cut: !dice.one_in(8),
        }
    }

    /// Of a client of the library, which leaves patterns that were taken from it alone.
    pub(crate) fn of_library(number: usize, day: &Day, truth: &Truth, dice: &mut Dice) -> Self {
        let plan = Self::new(number, day, truth, dice);
        let policy = POLICIES[number % 4];
        let interval_ms = plan.interval_ms.filter(|_| ["auto", "latest"].contains(&policy));
        Self { policy, interval_ms, snapshot: true, ..plan }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.patterns.iter().map(Pattern::as_str).collect()
    }

    /// The parameters of `subscribe`.
    pub(crate) fn params(&self) -> Value {
        let mut params = json!({ "channels": self.names(), "policy": self.policy });
        for (name, value) in [
            ("max_age_ms", self.max_age_ms),
            ("max_lag_bytes", self.max_lag_bytes),
            ("interval_ms", self.interval_ms),
        ] {
            if let Some(value) = value {
                params[name] = value.into();
            }
        }
        if !self.snapshot {
            params["snapshot"] = false.into();
        }
        params
    }

    pub(crate) fn limits(&self) -> (Option<u64>, Option<u64>) {
        (self.max_age_ms, self.max_lag_bytes)
    }

    pub(crate) fn wants(&self, truth: &Truth) -> Wants {
        let class = |is_keyed| match self.policy {
            "latest" => Class::Newest,
            "auto" if is_keyed => Class::Newest,
            _ => Class::Each,
        };
        let is_wanted = |name: &str| self.patterns.iter().any(|pattern| pattern.matches(name));
        let channels = truth.channels.iter();
        channels.map(|channel| is_wanted(&channel.name).then(|| class(channel.is_keyed))).collect()
    }

    /// Which channels a receipt names: names, or patterns of this plan.
    pub(crate) fn named(&self, names: &[String], truth: &Truth) -> Result<Vec<bool>, String> {
        let mut named = vec![false; truth.channels.len()];
        for name in names {
            let pattern = Pattern::parse(name).map_err(|error| error.to_string())?;
            let is_ours = match truth.channel_named(name) {
                Some(_) => self.patterns.iter().any(|own| own.matches(name)),
                None => self.patterns.contains(&pattern),
            };
            if !is_ours {
                return Err(format!("a receipt for {name}"));
            }
            for (channel, named) in truth.channels.iter().zip(&mut named) {
                *named |= pattern.matches(&channel.name);
            }
        }
        Ok(named)
    }
}

fn patterns(day: &Day, truth: &Truth, dice: &mut Dice) -> Vec<Pattern> {
    let books: Vec<_> = (truth.slots.iter())
        .filter(|slot| slot.book.is_some())
        .map(|slot| truth.channels[slot.channel].name.as_str())
        .collect();
    let any = |dice: &mut Dice| {
        truth.channels[usize::try_from(dice.below(truth.channels.len() as u64)).unwrap()]
            .name
            .as_str()
    };
    let group = *dice.of(&day.groups);
    let mut names = match dice.below(10) {
        0 => vec![">"],
        1 | 2 => vec![group],
        3 => vec![group, any(dice)],
        4 | 5 => vec![*dice.of(&books)],
        6 => vec![*dice.of(&books), any(dice)],
        7 => vec![any(dice), any(dice), any(dice)],
        _ => vec![any(dice)],
    };
    names.sort_unstable();
    names.dedup();
    names.iter().map(|name| Pattern::parse(name).unwrap()).collect()
}
