//! The terms of a subscription as flags, and as the parameters of a subscribe command.
//!
//! Not here: what terms mean (`protocol::terms`). Invariant: what passes these flags, the protocol
//! accepts.

use std::io::Write;

use super::failure::Failure;
use crate::config::rule::LAG_BYTES_LIMITS;
use crate::config::values;
use crate::limits::{AGE_LIMIT_MS_MAX, AGE_LIMIT_MS_MIN};
use crate::protocol::policy::{Policy, PolicyUnknown};
use crate::protocol::terms::Interval;

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
    /// Appends what was given as members of a JSON object, each with its comma before it.
    ///
    /// # Errors
    /// Sampling with a policy that skips nothing.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        if let Some(policy) = self.policy {
            if self.interval_ms.is_some() && !policy.conflates() {
                return Err(Failure::Usage(format!(
                    "--interval-ms skips events, which --policy {} does not; use auto or latest, \
                     or leave --interval-ms out",
                    policy.as_str()
                )));
            }
            write(out, format_args!(r#","policy":"{}""#, policy.as_str()));
        }
        if let Some(ms) = self.max_age_ms {
            write(out, format_args!(r#","max_age_ms":{ms}"#));
        }
        if let Some(bytes) = self.max_lag_bytes {
            write(out, format_args!(r#","max_lag_bytes":{bytes}"#));
        }
        if let Some(interval) = self.interval_ms {
            write(out, format_args!(r#","interval_ms":{}"#, interval.ms()));
        }
        Ok(())
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
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
    use crate::protocol::command::{self, Command};
    use crate::protocol::terms::Wish;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        wish: WishFlags,
    }

    fn parsed(flags: &str) -> Result<WishFlags, clap::Error> {
        Line::try_parse_from(["x"].into_iter().chain(flags.split_whitespace())).map(|l| l.wish)
    }

    #[test]
    fn what_passes_the_flags_is_what_the_protocol_reads() {
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
            let mut text = br#"{"method":"subscribe","params":{"channels":"a""#.to_vec();
            parsed(flags).unwrap().write(&mut text).unwrap();
            text.extend_from_slice(b"}}");
            let text = String::from_utf8(text).unwrap();
            let request = command::parse(&text, &mut Vec::new()).unwrap();
            let expected = Command::Subscribe { channels: vec!["a".into()], wish };
            assert_eq!(request.command, expected, "{text}");
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
        let failure = wish.write(&mut Vec::new()).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("leave --interval-ms out"), "{failure}");
    }
}
