//! What was agreed about a subscription: which events may be skipped without a receipt, and what is
//! sampled.
//!
//! It is learnt from the answer to `subscribe`: of the patterns that match a channel the most
//! specific one's terms hold, and of the operator's exceptions inside it again the most specific.
//! Not here: what follows from it ([`super::progress`]). Invariant: what was not agreed is taken to
//! promise every event.

use super::frame::{Frame, TermsShown};
use crate::protocol::channel::Pattern;
use crate::protocol::policy::Policy;

/// Which events may be skipped without a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skips {
    /// None.
    Nothing,
    /// Those with a key.
    Keyed,
    /// All.
    Anything,
}

impl Skips {
    fn of(policy: Option<&str>) -> Self {
        match policy.and_then(|word| Policy::parse(word).ok()) {
            Some(Policy::Auto) => Self::Keyed,
            Some(Policy::Latest) => Self::Anything,
            _ => Self::Nothing,
        }
    }
}

/// What was agreed, by pattern.
#[derive(Debug, Default)]
pub struct Agreed {
    /// The most specific pattern first.
    held: Vec<Held>,
    is_sampled: bool,
}

#[derive(Debug)]
struct Held {
    pattern: Pattern,
    skips: Skips,
    except: Vec<(Pattern, Skips)>,
}

impl Agreed {
    /// Takes the answer to a subscribe command.
    pub fn handle_reply(&mut self, frame: &Frame<'_>) {
        let outcomes = frame.outcomes().filter(|outcome| outcome.error.is_none());
        for outcome in outcomes {
            let Some(pattern) = parse(outcome.channel) else { continue };
            let parts = || outcome.except.iter().flatten();
            let part = |part: &TermsShown<'_>| Some((parse(part.channel)?, Skips::of(part.policy)));
            let mut except: Vec<_> = parts().filter_map(part).collect();
            except.sort_by(|(one, _), (other, _)| one.specificity(other));
            self.is_sampled |=
                outcome.interval_ms.is_some() || parts().any(|part| part.interval_ms.is_some());
            self.held.retain(|held| held.pattern != pattern);
            self.held.push(Held { pattern, skips: Skips::of(outcome.policy), except });
        }
        self.held.sort_by(|one, other| one.pattern.specificity(&other.pattern));
    }

    /// Whether some events come later than newer ones of other channels.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// What holds for a channel.
    #[must_use]
    pub fn skips(&self, channel: &str) -> Skips {
        let Some(held) = self.held.iter().find(|held| held.pattern.matches(channel)) else {
            return Skips::Nothing;
        };
        let part = held.except.iter().find(|(pattern, _)| pattern.matches(channel));
        part.map_or(held.skips, |(_, skips)| *skips)
    }
}

fn parse(pattern: Option<&str>) -> Option<Pattern> {
    Pattern::parse(pattern?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_pattern_holds_and_inside_it_the_operators_exception() {
        let mut agreed = Agreed::default();
        assert_eq!(agreed.skips("a"), Skips::Nothing, "nothing was agreed");
        assert!(!agreed.is_sampled());
        let mut scratch = br#"{"method":"subscribe","success":false,"result":[
            {"channel":">","policy":"all","seq":1,"matched":9},
            {"channel":"quote.*","policy":"latest","interval_ms":100,"seq":1,"matched":3,"except":[
                {"channel":"*.BTC","policy":"all"},{"channel":"quote.BTC","policy":"close"},
                {"channel":"quote.ETH","policy":"auto"}]},
            {"channel":"quote..","error":{"code":"channel_invalid","message":"x"}}]}"#
            .to_vec();
        agreed.handle_reply(&Frame::parse(&mut scratch).unwrap());
        assert!(agreed.is_sampled());
        for (channel, skips) in [
            ("trade.BTC", Skips::Nothing),
            ("quote.SOL", Skips::Anything),
            ("quote.ETH", Skips::Keyed),
            ("quote.BTC", Skips::Nothing),
        ] {
            assert_eq!(agreed.skips(channel), skips, "{channel}");
        }
        let mut scratch = br#"{"method":"subscribe","success":true,"result":[
            {"channel":">","policy":"auto","seq":5,"matched":9}]}"#
            .to_vec();
        agreed.handle_reply(&Frame::parse(&mut scratch).unwrap());
        assert_eq!(agreed.skips("trade.BTC"), Skips::Keyed, "asked again, agreed anew");
    }
}
