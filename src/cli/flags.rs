//! The settings as flags of `serve` and `demo`, made from the table of keys.
//!
//! Not here: what a value means ([`crate::config::resolve`]). Invariant: a flag exists for every
//! row of the table, and its help names its default and its variable.

use std::fs;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::file::file;
use crate::config::keys::{KEYS, Key, default_text};
use crate::config::raw::{Given, Origin, Problem, Raw, RawRule, RawSource, environment};
use crate::config::resolve::Host;

/// The settings that were given as flags.
#[derive(Debug, Clone, Default)]
pub struct SettingFlags {
    /// The layer of flags.
    pub raw: Raw,
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut raw = Raw::default();
        let given = |key: &str, text: &String| Given {
            text: text.trim().to_owned(),
            origin: Origin::Flag(format!("--{}", key.replace('_', "-"))),
        };
        for key in KEYS {
            if let Some(text) = matches.get_one::<String>(key.name) {
                raw.values.insert(key.name, given(key.name, text));
            }
        }
        for url in matches.get_many::<String>("source").into_iter().flatten() {
            raw.sources.push(RawSource { url: given("source", url), map: Vec::new() });
        }
        for rule in matches.get_many::<String>("map").into_iter().flatten() {
            raw.maps.push(given("map", rule));
        }
        for rule in matches.get_many::<String>("rule").into_iter().flatten() {
            raw.rules.push(RawRule::parse(&given("rule", rule)));
        }
        Ok(Self { raw })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let source = Arg::new("source")
            .long("source")
            .value_name("URL")
            .action(ArgAction::Append)
            .help("Where events come from; may be given several times [env: FANFARE_SOURCE]")
            .long_help(
                "Where events come from; may be given several times:\n  \
                tcp://HOST:PORT     NDJSON from many producers; port 0 picks a port\n  \
                tls://HOST:PORT     the same with TLS, with the certificates of tls-listen\n  \
                unix:///PATH[?mode=660]  the same over a Unix socket, for whom its file lets\n  \
                stdin://            NDJSON from standard input\n  \
                nats://HOST[:PORT]/STREAM[?subject=md.{channel}&forward=acked|fast&window=N\n      \
                    &creds=FILE&user=NAME&password_file=FILE&tls=true&ca=FILE]\n      \
                                    a JetStream stream; forward: other sources publish to it\n  \
                replay:FILE[,FILE…][?speed=max|N&loop=true&sort=true&time=/POINTER&clients=N]\n\
                [env: FANFARE_SOURCE, separated by newlines or |]",
            );
        let map = Arg::new("map")
            .long("map")
            .value_name("RULE")
            .action(ArgAction::Append)
            .help("Mapping of the sources given by flag, a TOML inline table [env: FANFARE_MAP]")
            .long_help(
                "How JSON becomes events, for the sources given by flag or variable: a TOML\n\
                inline table; may be given several times, the first rule that fits is taken:\n  \
                --map '{ channel = \"trade.{/data/s}\", ts = \"/data/T\", ts_unit = \"ms\" }'\n\
                [default: lines are producer events] [env: FANFARE_MAP]",
            );
        let rule = Arg::new("rule")
            .long("rule")
            .value_name("RULE")
            .action(ArgAction::Append)
            .help("Terms of channels: PATTERN?policy=close&max_age_ms=500 [env: FANFARE_RULE]")
            .long_help(
                "Terms of the channels of a pattern; may be given several times, of those that\n\
                match a channel the most specific one is taken:\n  \
                --rule 'book.>?policy=close&max_age_ms=500&max_lag_bytes=1MiB'\n  \
                --rule 'quote.*?interval_ms=100'\n\
                policy (auto, all, latest, close, unsubscribe) is for clients that choose\n\
                none; of max_age_ms and max_lag_bytes the narrower holds, the rule's or the\n\
                client's, of interval_ms (10, 100, 1000) the slower. Without terms, the\n\
                channels are left to the clients.\n\
                [default: none] [env: FANFARE_RULE, separated by newlines or |]",
            );
        let lists = command.arg(source).arg(map).arg(rule);
        KEYS.iter().fold(lists, |command, key| command.arg(argument(key)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(key: &'static Key) -> Arg {
    let default = default_text(key.name).unwrap_or_else(|| key.note.to_owned());
    let help = format!("{} [default: {default}] [env: {}]", key.help, key.variable());
    let argument = Arg::new(key.name)
        .long(key.name.replace('_', "-"))
        .value_name(key.value)
        .allow_hyphen_values(true)
        .help(help);
    if key.value == "BOOL" {
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument
    }
}

/// Lays the file, the environment and the flags over each other.
#[must_use]
pub fn layers(config: Option<&str>, flags: Raw) -> Raw {
    let variable = std::env::var("FANFARE_CONFIG").ok();
    let (path, origin) = match (config, &variable) {
        (Some(path), _) => (Some(path), "--config"),
        (None, path) => (path.as_deref(), "FANFARE_CONFIG"),
    };
    let mut raw = match path.map(|path| (path, fs::read_to_string(path))) {
        None => Raw::default(),
        Some((path, Ok(text))) => file(path, &text),
        Some((path, Err(error))) => {
            let problem = Problem {
                origin: Origin::Flag(origin.into()),
                key: "config".into(),
                what: format!("cannot read `{path}`: {error}"),
                allowed: "allowed: a file such as the fanfare.toml of the repository".into(),
            };
            Raw { problems: vec![problem], ..Raw::default() }
        }
    };
    let variables = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    raw.overlay(environment(variables));
    raw.overlay(flags);
    raw
}

/// Looks at the machine.
#[must_use]
pub fn host() -> Host {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if cores.is_empty() {
        cores = (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
    }
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = match name.trim() {
        "" | "(none)" => "fanfare",
        name => name,
    };
    Host { cores, name: name.to_owned() }
}
