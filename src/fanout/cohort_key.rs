//! What makes two connections members of one cohort: their sets, tiers and encodings.
//!
//! Not here: the cohorts ([`super::cohorts`]). Invariant: equal keys want the same events on the
//! same terms, in the same bytes.

use std::rc::Rc;

use crate::protocol::channel::Pattern;
use crate::protocol::encoding::Encoding;
use crate::protocol::terms::{Interval, Rules, Terms, Wish};

/// One pattern with what was asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// The channels.
    pub pattern: Pattern,
    /// What the client asked for.
    pub wish: Wish,
}

/// The subscription whose terms hold for a channel: of those that match, the most specific one.
#[must_use]
pub fn most_specific<'a>(set: &'a [Subscription], channel: &str) -> Option<&'a Subscription> {
    let matching = set.iter().filter(|held| held.pattern.matches(channel));
    matching.min_by(|one, other| one.pattern.specificity(&other.pattern))
}

/// What makes two connections members of one cohort.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CohortKey {
    /// The set, sorted by pattern, each pattern once.
    pub set: Rc<[Subscription]>,
    /// The tier that the server moved the client to.
    pub tier: Option<Interval>,
    /// What the client reads.
    pub encoding: Encoding,
}

impl CohortKey {
    /// Whether its members are told ids of channels that appear.
    pub(super) fn reads_ids(&self) -> bool {
        self.encoding == Encoding::Binary && !self.set.is_empty()
    }

    /// Whether some of its channels may be sampled, those to come included.
    pub(super) fn may_sample(&self, rules: &Rules) -> bool {
        self.tier.is_some()
            || self.set.iter().any(|held| {
                let (whole, mut parts) = rules.of_pattern(&held.pattern);
                let is_sampled = |wish: &Wish| wish.interval.is_some();
                is_sampled(&held.wish)
                    || whole.is_some_and(is_sampled)
                    || parts.any(|rule| is_sampled(&rule.wish))
            })
    }

    /// The terms of a channel of which the most specific pattern is at `place` of the set.
    pub(super) fn terms(&self, place: usize, channel: &str, rules: &Rules) -> Terms {
        Terms::agree(&self.set[place].wish, rules.of_channel(channel)).slowed(self.tier)
    }
}
