//! What has changed between two times that the settings were read.
//!
//! Not here: reading them (`cli`), and putting them in force (`server`). Invariant: every setting
//! that has changed is either one that may change while a server runs, or named as one that needs a
//! restart.

use super::resolve::Values;

/// Settings that a running server takes on; all others are looked at once, at the start.
pub const CHANGEABLE: [&str; 10] = [
    "accept_rate",
    "address_accept_rate",
    "address_connections_max",
    "drain",
    "drain_to",
    "handshakes_max",
    "log",
    "log_ends_per_second",
    "stop_timeout",
    "upgrade_timeout",
];

/// What has changed, by key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What a running server takes on.
    pub in_force: Vec<&'static str>,
    /// What it needs a restart for.
    pub after_restart: Vec<&'static str>,
}

/// Compares what is in force with what was read.
#[must_use]
pub fn changes(in_force: &Values, read: &Values) -> Changes {
    let mut keys: Vec<_> = in_force.keys().chain(read.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let changed = keys.into_iter().filter(|key| in_force.get(key) != read.get(key));
    let (in_force, after_restart) = changed.partition(|key| CHANGEABLE.contains(key));
    Changes { in_force, after_restart }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::file;
    use crate::config::keys::KEYS;
    use crate::config::resolve::{Host, resolve};

    fn values(text: &str) -> Values {
        let host = Host { cores: vec![0], name: "a".into() };
        let text = format!("source = [{{ url = \"stdin://\" }}]\n{text}");
        resolve(&file("f.toml", &text), &host, None).unwrap().values
    }

    #[test]
    fn a_change_is_in_force_at_once_or_named_as_one_that_needs_a_restart() {
        let before = values("drain = \"60s\"\nnode = \"a\"");
        assert_eq!(changes(&before, &values("drain = \"1m\"")), Changes::default());
        let after = values("drain = \"5s\"\nnode = \"b\"\nadmin = \"[::1]:9\"\naccept_rate = 7");
        let changes = changes(&before, &after);
        assert_eq!(changes.in_force, ["accept_rate", "drain"]);
        assert_eq!(changes.after_restart, ["admin", "node"]);
    }

    #[test]
    fn sources_and_rules_are_compared_as_a_whole() {
        let rule = |pattern| values(&format!("[[rule]]\npattern = \"{pattern}\""));
        let changes = changes(&rule("a"), &rule("b"));
        assert_eq!(changes.after_restart, ["rule"]);
    }

    #[test]
    fn what_may_change_is_a_setting() {
        for key in CHANGEABLE {
            assert!(KEYS.iter().any(|row| row.name == key), "{key}");
        }
    }
}
