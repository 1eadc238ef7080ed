//! What a subscriber may conclude: which skipped `prev` is a loss, what a new connection missed.
//!
//! Which channels promise every event is learnt from the answer to `subscribe`: of the patterns
//! that match a channel the most specific one's terms hold, and of the operator's exceptions inside
//! it again the most specific. Not here: the counting (`tally`). Invariant: what was not agreed is
//! taken to promise every event.

use std::fmt;

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
    fn of(terms: &TermsShown<'_>) -> Self {
        match terms.policy.and_then(|word| Policy::parse(word).ok()) {
            Some(Policy::Auto) => Self::Keyed,
            Some(Policy::Latest) => Self::Anything,
            _ => Self::Nothing,
        }
    }
}

/// How far a subscription has got, over all its connections.
#[derive(Debug, Default)]
pub struct Progress {
    /// Of the last welcome; none: there has been none.
    epoch: Option<String>,
    /// The highest `seq` that was seen since, or the last one before a new connection.
    seq_last: u64,
    /// A connection before this one has got to `seq_last`.
    is_again: bool,
}

/// What a new connection means for the events between it and the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// No newer event has come in between.
    Nothing {
        /// Where both meet.
        seq: u64,
    },
    /// Those after `from` up to `to`, as far as they were of the subscribed channels.
    Between {
        /// The last `seq` of the connection before.
        from: u64,
        /// The boundary of the new subscription: everything after it will come.
        to: u64,
    },
}

impl Progress {
    /// True before the first welcome.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.epoch.is_none()
    }

    /// A connection greets; true if its `seq` have nothing to do with those before.
    pub fn handle_welcome(&mut self, epoch: &str) -> bool {
        let before = self.epoch.replace(epoch.to_owned());
        self.is_again = before.as_deref() == Some(epoch);
        if !self.is_again {
            self.seq_last = 0;
        }
        before.is_some() && !self.is_again
    }

    /// An event or a heartbeat.
    pub const fn handle_seq(&mut self, seq: u64) {
        if seq > self.seq_last {
            self.seq_last = seq;
        }
    }

    /// The subscription holds for everything after `seq`; what a connection before this one has
    /// missed, if there was one.
    pub const fn handle_subscribed(&mut self, seq: u64) -> Option<Missed> {
        let from = self.seq_last;
        self.handle_seq(seq);
        match (self.is_again, from < seq) {
            (false, _) => None,
            (true, false) => Some(Missed::Nothing { seq: from }),
            (true, true) => Some(Missed::Between { from, to: seq }),
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { seq } => {
                write!(out, "connected again at seq {seq}; no newer event has come in between")
            }
            Self::Between { from, to } => write!(
                out,
                "connected again; events after seq {from} up to seq {to} may have been missed"
            ),
        }
    }
}

/// What was agreed, by pattern.
#[derive(Debug, Default)]
pub struct Agreed(Vec<Held>);

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
            let part = |part: &TermsShown<'_>| Some((parse(part.channel)?, Skips::of(part)));
            let mut except: Vec<_> = outcome.except.iter().flatten().filter_map(part).collect();
            except.sort_by(|(one, _), (other, _)| one.specificity(other));
            let skips = Skips::of(&TermsShown { channel: None, policy: outcome.policy });
            self.0.retain(|held| held.pattern != pattern);
            self.0.push(Held { pattern, skips, except });
        }
        self.0.sort_by(|one, other| one.pattern.specificity(&other.pattern));
    }

    /// What holds for a channel.
    #[must_use]
    pub fn skips(&self, channel: &str) -> Skips {
        let Some(held) = self.0.iter().find(|held| held.pattern.matches(channel)) else {
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
        let mut scratch = br#"{"method":"subscribe","success":false,"result":[
            {"channel":">","policy":"all","seq":1,"matched":9},
            {"channel":"quote.*","policy":"latest","interval_ms":100,"seq":1,"matched":3,"except":[
                {"channel":"*.BTC","policy":"all"},{"channel":"quote.BTC","policy":"close"},
                {"channel":"quote.ETH","policy":"auto"}]},
            {"channel":"quote..","error":{"code":"channel_invalid","message":"x"}}]}"#
            .to_vec();
        agreed.handle_reply(&Frame::parse(&mut scratch).unwrap());
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
    #[test]
    fn a_new_connection_says_what_may_be_missing_between_it_and_the_last_one() {
        let mut progress = Progress::default();
        assert!(!progress.handle_welcome("01A"));
        assert_eq!(progress.handle_subscribed(100), None, "nothing came before the first");
        progress.handle_seq(120);
        progress.handle_seq(110); // A slow client may get an older one later.
        assert!(!progress.handle_welcome("01A"));
        let missed = progress.handle_subscribed(155).unwrap();
        assert_eq!(missed, Missed::Between { from: 120, to: 155 });
        assert_eq!(
            missed.to_string(),
            "connected again; events after seq 120 up to seq 155 may have been missed"
        );
        assert!(!progress.handle_welcome("01A"));
        assert_eq!(progress.handle_subscribed(155), Some(Missed::Nothing { seq: 155 }));
        assert!(progress.handle_welcome("01B"), "another epoch");
        assert_eq!(progress.handle_subscribed(3), None, "its seq are others");
    }
}
