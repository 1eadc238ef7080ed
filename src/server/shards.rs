//! The settings as a shard takes them.
//!
//! Not here: what a shard does with them. Invariant: every rule that the configuration takes is one
//! of the protocol.

use std::sync::Arc;

use crate::access::Gate;
use crate::config::rule::ChannelRule;
use crate::config::{CompressionSettings, Settings};
use crate::fanout::encoders::Compression;
use crate::fanout::shard::ShardSettings;
use crate::protocol::channel::Pattern;
use crate::protocol::encoding::Form;
use crate::protocol::policy::Policy;
use crate::protocol::terms::{Interval, Rule, Rules, Wish};
use crate::protocol::ws::deflate::{Terms, WINDOW_BITS_MAX};
use crate::shell::clock;

/// The settings of each shard; descriptors are enough for `connections_allowed` of its connections.
pub(super) fn settings(
    settings: &Settings,
    connections_allowed: usize,
    gate: Arc<Gate>,
    (epoch, is_shared): (&str, bool),
) -> ShardSettings {
    let compression = settings.compression.map(|settings| {
        let CompressionSettings { level, message_bytes_min } = settings;
        Compression { level, message_bytes_min }
    });
    ShardSettings {
        node: settings.node.as_str().into(),
        epoch: epoch.into(),
        is_shared,
        reads_back: is_shared,
        log_bytes: settings.log_bytes,
        connections_max: settings.connections_max.min(connections_allowed),
        subscriptions_max: settings.subscriptions_max,
        message_bytes_max: settings.message_bytes_max,
        heartbeat_ns: clock::nanoseconds(settings.heartbeat),
        retained_bytes: settings.retained_bytes,
        rules: Arc::new(rules(&settings.rules)),
        command_rate: settings.command_rate,
        command_burst: settings.command_burst,
        tier_moves: settings.tier_moves,
        gate,
        auth_ns: clock::nanoseconds(settings.auth_timeout),
        ping_ns: clock::nanoseconds(settings.liveness.ping_interval),
        pong_ns: clock::nanoseconds(settings.liveness.pong_timeout),
        idle_ns: clock::nanoseconds(settings.liveness.idle_timeout),
        compression: compression.unwrap_or_default(),
        deflate: terms(settings),
        forms: (settings.forms.iter())
            .map(|word| Form::parse(word).expect("the configuration has the same words"))
            .collect(),
        #[cfg(feature = "echo")]
        echo: settings.echo,
        ..ShardSettings::default()
    }
}

/// On which terms messages may be compressed; none: they may not.
fn terms(settings: &Settings) -> Option<Terms> {
    #[cfg(feature = "echo")]
    if settings.echo {
        return Some(Terms::own());
    }
    settings.compression.map(|_| Terms::shared(WINDOW_BITS_MAX))
}

/// The operator's rules as the protocol has them.
fn rules(rules: &[ChannelRule]) -> Rules {
    let rule = |rule: &ChannelRule| Rule {
        pattern: Pattern::parse(&rule.pattern).expect("the configuration checked it"),
        wish: Wish {
            policy: rule
                .policy
                .map(|word| Policy::parse(word).expect("the configuration has the same words")),
            max_age_ms: rule.max_age_ms,
            max_lag_bytes: rule.max_lag_bytes,
            interval: rule
                .interval_ms
                .map(|ms| Interval::from_ms(ms).expect("the configuration has the same three")),
        },
    };
    Rules::new(rules.iter().map(rule).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::{Given, Origin, RawRule};

    #[test]
    fn every_rule_that_the_configuration_takes_is_one_of_the_protocol() {
        let taken = |text: String| {
            let given = Given { text, origin: Origin::Flag("--rule".into()) };
            let rule = ChannelRule::resolve(&RawRule::parse(&given)).unwrap();
            rules(&[rule]).of_channel("a.b").copied()
        };
        for policy in Policy::ALL {
            let wish = Wish { policy: Some(policy), ..Wish::default() };
            assert_eq!(taken(format!("a.>?policy={}", policy.as_str())), Some(wish));
        }
        for interval in Interval::ALL {
            let wish = Wish { interval: Some(interval), ..Wish::default() };
            assert_eq!(taken(format!("*.b?interval_ms={}", interval.ms())), Some(wish));
        }
        for pattern in [">", "*.*", "a.b", "a.*", "*.>"] {
            assert_eq!(taken(pattern.into()), Some(Wish::default()), "{pattern}");
        }
        assert_eq!(
            taken("a.b?max_age_ms=500&max_lag_bytes=1KiB".into()),
            Some(Wish { max_age_ms: Some(500), max_lag_bytes: Some(1_024), ..Wish::default() })
        );
    }
}
