//! What a rule says: how bad, what is there, what should be, and the command that cures it.
//!
//! Invariant: whatever is not in order has a cure, and what is in order has none.

use super::Facts;

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As recommended.
    Ok,
    /// Cannot be read here.
    Unknown,
    /// Works, and would be better otherwise.
    Advice,
    /// A server does not start, refuses clients, or lets some delay others.
    Wrong,
}

impl Verdict {
    /// The word that is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Advice => "advice",
            Self::Wrong => "wrong",
        }
    }
}

/// What a rule says of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// How bad.
    pub verdict: Verdict,
    /// What is there.
    pub found: String,
    /// What is recommended.
    pub wanted: String,
    /// The command that cures it, or where it is said; empty where nothing is to be done.
    pub cure: String,
}

impl Judgement {
    /// In order.
    pub(super) fn ok(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            found: found.into(),
            wanted: wanted.into(),
            cure: String::new(),
        }
    }

    /// Could not be read; `cure` is how to look by hand.
    pub(super) fn unknown(wanted: impl Into<String>, cure: impl Into<String>) -> Self {
        let found = "cannot be read here".into();
        Self { verdict: Verdict::Unknown, found, wanted: wanted.into(), cure: cure.into() }
    }

    /// In order if `good`; if not, as bad as said, and cured by a command.
    pub(super) fn of(
        good: bool,
        otherwise: Verdict,
        found: impl Into<String>,
        wanted: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        if good {
            return Self::ok(found, wanted);
        }
        Self { verdict: otherwise, found: found.into(), wanted: wanted.into(), cure: cure.into() }
    }
}

/// A setting of the kernel that is to be `least` or more; of several numbers, the last one.
pub(super) fn at_least(facts: &Facts, key: &str, least: u64, otherwise: Verdict) -> Judgement {
    let wanted = format!("{least} or more");
    let Some((last, others)) = facts.sysctl(key).and_then(<[u64]>::split_last) else {
        return Judgement::unknown(wanted, format!("sysctl {key}"));
    };
    let value = others.iter().chain([&least]).map(u64::to_string).collect::<Vec<_>>().join(" ");
    let cure = set(key, &value);
    Judgement::of(*last >= least, otherwise, last.to_string(), wanted, cure)
}

/// A setting of the kernel that is to be 0 and may not exist.
pub(super) fn zero(facts: &Facts, key: &str, otherwise: Verdict) -> Judgement {
    match facts.sysctl(key) {
        None => Judgement::ok("not in this kernel", "0"),
        Some(values) => {
            let value = values.first().copied().unwrap_or_default();
            Judgement::of(value == 0, otherwise, value.to_string(), "0", set(key, "0"))
        }
    }
}

/// The command that sets a sysctl.
pub(super) fn set(key: &str, value: &str) -> String {
    if value.contains(' ') {
        format!("sudo sysctl -w {key}=\"{value}\"")
    } else {
        format!("sudo sysctl -w {key}={value}")
    }
}

/// Bytes in MiB, rounded up.
pub(super) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
