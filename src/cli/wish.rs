//! The terms of a subscription as flags.
//!
//! Not here: what terms mean (`protocol::terms`). Invariant: what passes these flags, the protocol
//! accepts.

use super::failure::Failure;
use crate::config::rule::LAG_BYTES_LIMITS;
use crate::config::values;
use crate::limits::{AGE_LIMIT_MS_MAX, AGE_LIMIT_MS_MIN};
use crate::protocol::policy::{Policy, PolicyUnknown};
use crate::protocol::terms::{Interval, Wish};

/// What is asked of the server for all patterns.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct WishFlags {
    /// When this reader falls behind: auto, all, latest, close or unsubscribe [default: auto, or
    /// the server's rule]
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    policy: Option<Policy>,
    /// Milliseconds that an event may wait to be sent before the policy acts [default: none]
    #[arg(long, value_name = "MS", value_parser = age_ms())]
    max_age_ms: Option<u32>,
    /// Bytes that may wait to be sent before the policy acts, in B, KiB, MiB or GiB [default: none]
    #[arg(long, value_name = "SIZE", value_parser = lag_bytes)]
    max_lag_bytes: Option<u64>,
    /// At most one event of each key in 10, 100 or 1000 milliseconds [default: every event]
    #[arg(long, value_name = "MS", value_parser = interval)]
    interval_ms: Option<Interval>,
}

impl WishFlags {
    /// The terms that are asked for.
    ///
    /// # Errors
    /// Sampling with a policy that skips nothing.
    pub fn terms(&self) -> Result<Wish, Failure> {
        if let Some(policy) = self.policy
            && self.interval_ms.is_some()
            && !policy.conflates()
        {
            return Err(Failure::Usage(format!(
                "--interval-ms skips events, which --policy {} does not; use auto or latest, or \
                 leave --interval-ms out",
                policy.as_str()
            )));
        }
        Ok(Wish {
            policy: self.policy,
            max_age_ms: self.max_age_ms,
            max_lag_bytes: self.max_lag_bytes,
            interval: self.interval_ms,
        })
    }
}

fn policy(text: &str) -> Result<Policy, PolicyUnknown> {
    Policy::parse(text)
}

fn age_ms() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(AGE_LIMIT_MS_MIN)..=i64::from(AGE_LIMIT_MS_MAX))
}

fn lag_bytes(text: &str) -> Result<u64, String> {
    values::size(text, LAG_BYTES_LIMITS)
        .map(|bytes| bytes as u64)
        .map_err(|wrong| format!("{}; allowed: {}", wrong.what, wrong.allowed))
}

fn interval(text: &str) -> Result<Interval, String> {
    text.parse().ok().and_then(Interval::from_ms).ok_or_else(|| {
        let [first, second, third] = Interval::ALL.map(Interval::ms);
        format!("the intervals are {first}, {second} and {third} milliseconds")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        wish: WishFlags,
    }

    fn parsed(flags: &str) -> Result<WishFlags, clap::Error> {
        Line::try_parse_from(["x"].into_iter().chain(flags.split_whitespace())).map(|l| l.wish)
    }

    #[test]
    fn what_is_given_is_asked_for_and_the_rest_is_left_to_the_server() {
        for (flags, wish) in [
            ("", Wish::default()),
            (
                "--policy latest --max-age-ms 250 --max-lag-bytes 1MiB --interval-ms 100",
                Wish {
                    policy: Some(Policy::Latest),
                    max_age_ms: Some(250),
                    max_lag_bytes: Some(1 << 20),
                    interval: Some(Interval::Ms100),
                },
            ),
            (
                "--max-age-ms 10 --max-lag-bytes 1024",
                Wish { max_age_ms: Some(10), max_lag_bytes: Some(1_024), ..Wish::default() },
            ),
        ] {
            assert_eq!(parsed(flags).unwrap().terms().unwrap(), wish, "{flags}");
        }
    }

    #[test]
    fn what_the_protocol_refuses_is_refused_with_what_is_allowed() {
        for (flags, named) in [
            ("--policy best", "auto, all, latest, close, unsubscribe"),
            ("--max-age-ms 9", "10..=3600000"),
            ("--max-lag-bytes 1023", "1KiB to 16GiB"),
            ("--interval-ms 50", "10, 100 and 1000"),
        ] {
            let error = parsed(flags).unwrap_err().to_string();
            assert!(error.contains(named), "{flags}: {error}");
        }
        let wish = parsed("--policy all --interval-ms 100").unwrap();
        let failure = wish.terms().unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("leave --interval-ms out"), "{failure}");
    }
}
