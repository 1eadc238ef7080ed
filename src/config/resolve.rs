//! Layers of text into [`Settings`], or everything that is wrong with them.
//!
//! Not here: reading the layers. Invariant: a [`Settings`] that leaves here is within
//! [`crate::limits`], and its addresses do not collide.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::keys::{KEYS, default_text};
use super::mapping::MapRule;
use super::raw::{Given, Origin, Problem, Problems, Raw};
use super::rule::ChannelRule;
use super::values::{self, Wrong};
use super::{Settings, SocketSettings, Source, SourceAddress, source_url};
use crate::limits;

/// What the settings take from the machine.
#[derive(Debug, Clone)]
pub struct Host {
    /// Cores that this process may run on.
    pub cores: Vec<usize>,
    /// The host's name.
    pub name: String,
}

/// Valid settings and how they came about.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Each setting in the notation of `fanfare.toml`, with its origin as a comment.
    pub lines: Vec<String>,
    /// What each setting comes to, to compare with another time that they are read.
    pub values: Values,
}

/// What each setting comes to, whatever notation it was given in; those that are not set are left
/// out.
pub type Values = BTreeMap<&'static str, String>;

/// Makes settings of all layers; `own` is the source of a server that brings its own.
///
/// # Errors
/// Every wrong setting, not only the first.
pub fn resolve(raw: &Raw, host: &Host, own: Option<Source>) -> Result<Resolved, Problems> {
    let problems = raw.problems.clone();
    let mut resolver = Resolver { raw, problems, lines: Vec::new(), values: Values::new() };
    let settings = resolver.settings(host, own);
    let Resolver { mut problems, lines, values, .. } = resolver;
    match settings {
        Some(settings) if problems.is_empty() => Ok(Resolved { settings, lines, values }),
        _ => {
            problems.sort_by_key(|problem| match &problem.origin {
                Origin::File(_, line) => (0, *line),
                Origin::Variable(_) => (1, 0),
                Origin::Flag(_) => (2, 0),
                Origin::Default => (3, 0),
            });
            Err(Problems(problems))
        }
    }
}

struct Resolver<'a> {
    raw: &'a Raw,
    problems: Vec<Problem>,
    lines: Vec<String>,
    values: Values,
}

impl Resolver<'_> {
    fn settings(&mut self, host: &Host, own: Option<Source>) -> Option<Settings> {
        let all_cores = values::show_cores(&host.cores);
        let listen = self.address("listen");
        let (admin, admin_settings) = self.admin();
        let cores =
            self.take("cores", Some(all_cores), true, |text| values::cores(text, &host.cores));
        let ingest_core = self.take("ingest_core", None, false, |text| one_core(text, &host.cores));
        let log_bytes = self.size("log_bytes", limits::LOG_BYTES_MIN..=limits::LOG_BYTES_MAX);
        let ring_batches =
            self.count("ring_batches", limits::RING_BATCHES_MIN..=limits::RING_BATCHES_MAX);
        let connections_max = self.count("connections_max", 1..=limits::CONNECTIONS_SETTING_MAX);
        let channels_max = self.count("channels_max", 1..=limits::CHANNELS_SETTING_MAX);
        let keys_max = self.count("keys_max", 1..=limits::KEYS_SETTING_MAX);
        let (line_bytes_max, message_bytes_max) = self.messages();
        let subscriptions_max =
            self.count("subscriptions_max", 1..=limits::SUBSCRIPTIONS_SETTING_MAX);
        let retained_bytes =
            self.size("retained_bytes", limits::RETAINED_BYTES_MIN..=limits::LOG_BYTES_MAX);
        let (journal, command_rate) = (self.journal(), self.rate("command_rate", 1));
        let command_burst = self.rate("command_burst", limits::COMMAND_BURST_MIN);
        let mut boolean = |key| self.take(key, None, false, values::boolean);
        let (spin, tier_moves, steer_by_cpu) =
            (boolean("spin"), boolean("tier_moves"), boolean("steer_by_cpu"));
        let (compression, forms, sockets) = (self.compression(), self.forms(), self.sockets());
        let upgrade_timeout = self.duration("upgrade_timeout", limits::TIMEOUT_MS_MIN);
        let heartbeat = self.duration("heartbeat", limits::TIMEOUT_MS_MIN);
        let (stop_timeout, tls) = (self.duration("stop_timeout", 0), self.tls());
        let (access, auth_timeout) = (self.access(), self.duration("auth_timeout", 0));
        let (admission, liveness) = (self.admission(), self.liveness());
        let (drain, drain_to) = self.drain();
        let (control, take_over) = (self.path("control"), self.path("take_over"));
        let (node, log, rules) = (self.node(host), self.log(), self.rules());
        let sources = self.sources(own);
        let tls_listen = tls.as_ref().map(|tls| tls.listen);
        let own = [("listen", listen), ("tls_listen", tls_listen), ("admin", admin)];
        self.collisions(own, control.as_deref(), &sources);
        Some(Settings {
            listen: listen?,
            admin,
            admin_settings: admin_settings?,
            cores: cores?,
            ingest_core,
            spin: spin?,
            sources,
            log_bytes: log_bytes?,
            ring_batches: ring_batches?,
            connections_max: connections_max?,
            channels_max: channels_max?,
            keys_max: keys_max?,
            line_bytes_max: line_bytes_max?,
            message_bytes_max: message_bytes_max?,
            subscriptions_max: subscriptions_max?,
            rules,
            retained_bytes: retained_bytes?,
            journal,
            command_rate: command_rate?,
            command_burst: command_burst?,
            tier_moves: tier_moves?,
            compression: compression?,
            forms,
            sockets: sockets?,
            upgrade_timeout: upgrade_timeout?,
            heartbeat: heartbeat?,
            tls,
            access,
            auth_timeout: auth_timeout?,
            admission: admission?,
            liveness: liveness?,
            drain: drain?,
            drain_to,
            control,
            take_over,
            steer_by_cpu: steer_by_cpu?,
            stop_timeout: stop_timeout?,
            node: node?,
            log: log?,
            #[cfg(feature = "echo")]
            echo: false,
        })
    }

    fn node(&mut self, host: &Host) -> Option<String> {
        self.take("node", Some(host.name.clone()), true, |text| {
            values::node(text, limits::NODE_BYTES_MAX)
        })
    }

    /// Bytes of a producer's line and of a client's message at most.
    fn messages(&mut self) -> (Option<usize>, Option<usize>) {
        let line = limits::LINE_BYTES_MIN..=limits::LINE_BYTES_MAX;
        let message = limits::MESSAGE_BYTES_MIN..=limits::MESSAGE_BYTES_SETTING_MAX;
        (self.size("line_bytes_max", line), self.size("message_bytes_max", message))
    }

    fn sockets(&mut self) -> Option<SocketSettings> {
        let send_buffer = limits::SEND_BUFFER_BYTES_MIN..=limits::SEND_BUFFER_BYTES_MAX;
        let send_buffer_bytes = self.size("send_buffer_bytes", send_buffer);
        let unsent = limits::UNSENT_BYTES_MIN..=limits::SEND_BUFFER_BYTES_MAX;
        let unsent_bytes = self.size("unsent_bytes", unsent);
        let peer_timeout = self.duration("peer_timeout", limits::PEER_TIMEOUT_MS_MIN);
        Some(SocketSettings {
            send_buffer_bytes: send_buffer_bytes?,
            unsent_bytes: unsent_bytes?,
            peer_timeout: peer_timeout?,
        })
    }

    /// The value of a key: given, or `host`'s, or the table's default; none if that is the default
    /// or if it was wrong, which is then among the problems.
    fn take<T: fmt::Debug>(
        &mut self,
        key: &'static str,
        host: Option<String>,
        quoted: bool,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        debug_assert!(KEYS.iter().any(|row| row.name == key), "{key} has a row in the table");
        let default =
            || Some(Given { text: host.or_else(|| default_text(key))?, origin: Origin::Default });
        let Some(given) = self.raw.values.get(key).cloned().or_else(default) else {
            self.lines.push(format!("# {key} is not set"));
            return None;
        };
        match parse(&given.text) {
            Ok(value) => {
                self.values.insert(key, format!("{value:?}"));
                let quote = if quoted { "\"" } else { "" };
                self.lines
                    .push(format!("{key} = {quote}{}{quote}  # {}", given.text, given.origin));
                Some(value)
            }
            Err(wrong) => {
                self.problem(given.origin, key, wrong);
                None
            }
        }
    }

    fn address(&mut self, key: &'static str) -> Option<SocketAddr> {
        self.take(key, None, true, values::socket_address)
    }

    fn size(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        self.take(key, None, true, |text| values::size(text, range.clone()))
    }

    fn count(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        self.take(key, None, false, |text| values::count(text, range.clone()))
    }

    fn rate(&mut self, key: &'static str, min: u32) -> Option<u32> {
        let rate = self.count(key, min as usize..=limits::COMMAND_RATE_MAX as usize)?;
        Some(u32::try_from(rate).expect("within its range"))
    }

    fn duration(&mut self, key: &'static str, ms_min: u64) -> Option<Duration> {
        self.take(key, None, true, |text| values::duration(text, ms_min..=limits::TIMEOUT_MS_MAX))
    }

    fn rules(&mut self) -> Vec<ChannelRule> {
        let mut rules: Vec<ChannelRule> = Vec::new();
        if self.raw.rules.is_empty() {
            self.lines.push("# rule is not set".into());
        }
        for raw in &self.raw.rules {
            match ChannelRule::resolve(raw) {
                Ok(rule) if rules.iter().any(|other| other.pattern == rule.pattern) => {
                    let what = format!("`{}` has a rule already", rule.pattern);
                    let wrong = Wrong::new(what, "one rule for each pattern");
                    self.problem(raw.origin.clone(), "rule", wrong);
                }
                Ok(rule) => {
                    let shown = rule.to_string();
                    self.lines.push(format!("rule = {shown:?}  # {}", raw.origin));
                    rules.push(rule);
                }
                Err(wrong) => {
                    for (origin, key, wrong) in wrong {
                        self.problem(origin, &key, wrong);
                    }
                }
            }
        }
        if self.raw.rules.len() > limits::RULES_MAX {
            let what = format!("{} rules", self.raw.rules.len());
            let allowed =
                format!("at most {}; one pattern covers many channels", limits::RULES_MAX);
            let origin = self.raw.rules[limits::RULES_MAX].origin.clone();
            self.problem(origin, "rule", Wrong::new(what, allowed));
        }
        self.values.insert("rule", format!("{rules:?}"));
        rules
    }

    fn sources(&mut self, own: Option<Source>) -> Vec<Source> {
        if let Some(own) = own {
            return vec![own];
        }
        let in_file = |given: &Given| matches!(given.origin, Origin::File(..));
        let shared = self.shared_rules();
        let apply = self.raw.sources.iter().any(|source| !in_file(&source.url));
        if let (false, Some(given), false) =
            (apply, self.raw.maps.first(), self.raw.sources.is_empty())
        {
            let what = "rules for sources of the command line, but there are none";
            let allowed = "--source beside it, or [[source.map]] in the file";
            self.problem(given.origin.clone(), "map", Wrong::new(what, allowed));
        }
        let mut sources = Vec::new();
        for source in &self.raw.sources {
            let map = if in_file(&source.url) { source.map.clone() } else { shared.clone() };
            match source_url::parse(&source.url.text) {
                Ok(address) => {
                    self.duplicate(&sources, &address, &source.url);
                    if matches!(address, SourceAddress::Tls(_)) {
                        self.needs_tls(&source.url);
                    }
                    let rules = match map.len() {
                        0 => String::new(),
                        rules => format!(", {rules} mapping rules"),
                    };
                    let (url, origin) = (&source.url.text, &source.url.origin);
                    self.lines.push(format!("source = {url:?}  # {origin}{rules}"));
                    sources.push(Source { address, map });
                }
                Err(wrong) => self.problem(source.url.origin.clone(), "source", wrong),
            }
        }
        // Where sources or the whole file could not be read, they are not absent.
        let unread = |key: &str| key.starts_with("source") || ["config", "syntax"].contains(&key);
        let absent = self.raw.sources.is_empty()
            && !self.problems.iter().any(|problem| unread(&problem.key));
        if absent {
            let allowed = "one or more, such as --source tcp://127.0.0.1:9002";
            let wrong = Wrong::new("no source of events", allowed);
            self.problem(Origin::Flag("--source".into()), "source", wrong);
        }
        if sources.len() > limits::SOURCES_MAX {
            let what = format!("{} sources", sources.len());
            let allowed = format!("at most {}", limits::SOURCES_MAX);
            self.problem(Origin::Default, "source", Wrong::new(what, allowed));
        }
        self.beside_stream(&sources);
        self.values.insert("source", format!("{sources:?}"));
        sources
    }

    fn shared_rules(&mut self) -> Vec<MapRule> {
        let mut rules = Vec::new();
        for given in &self.raw.maps {
            match MapRule::parse_inline(&given.text) {
                Ok(rule) => rules.push(rule),
                Err(what) => {
                    let what = what.replace('\n', ", ");
                    let allowed = "a TOML inline table, such as { channel = \"trade.{/s}\" }";
                    self.problem(given.origin.clone(), "map", Wrong::new(what, allowed));
                }
            }
        }
        rules
    }

    fn duplicate(&mut self, sources: &[Source], address: &SourceAddress, given: &Given) {
        if sources.iter().any(|source| is_same(&source.address, address)) {
            let wrong = Wrong::new(format!("`{}` is there twice", given.text), "each source once");
            self.problem(given.origin.clone(), "source", wrong);
        }
    }

    /// Addresses of this server of which only one can be had.
    fn collisions(
        &mut self,
        own: [(&'static str, Option<SocketAddr>); 3],
        control: Option<&Path>,
        sources: &[Source],
    ) {
        self.control_collision(control, sources);
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        let tcp = sources.iter().filter_map(|source| match source.address {
            SourceAddress::Tcp(address) | SourceAddress::Tls(address) => Some(("source", address)),
            _ => None,
        });
        let own = own.into_iter().filter_map(|(key, address)| Some((key, address?)));
        for (key, address) in own.chain(tcp) {
            if let Some((other, taken)) = taken.iter().find(|(_, other)| collide(*other, address)) {
                let origin = match self.raw.values.get(key) {
                    Some(given) => given.origin.clone(),
                    None => {
                        let kinds = [SourceAddress::Tcp, SourceAddress::Tls];
                        let same = kinds.map(|kind| Ok(kind(address)));
                        (self.raw.sources.iter().rev())
                            .find(|source| same.contains(&source_url::parse(&source.url.text)))
                            .map_or(Origin::Default, |source| source.url.origin.clone())
                    }
                };
                let what = match *taken == address {
                    true => format!("{address} is the address of {other} already"),
                    false => format!("{address} overlaps with {taken}, the address of {other}"),
                };
                self.problem(origin, key, Wrong::new(what, "another port, or port 0"));
            } else {
                taken.push((key, address));
            }
        }
    }

    /// The control socket is a file of its own.
    fn control_collision(&mut self, control: Option<&Path>, sources: &[Source]) {
        let is_taken = |source: &Source| match &source.address {
            SourceAddress::Unix { path, .. } => Some(path.as_path()) == control,
            _ => false,
        };
        if sources.iter().any(is_taken) {
            self.wrong("control", Wrong::new("it is the path of a source already", "another path"));
        }
    }

    fn problem(&mut self, origin: Origin, key: &str, wrong: Wrong) {
        let allowed = format!("allowed: {}", wrong.allowed);
        self.problems.push(Problem { origin, key: key.to_owned(), what: wrong.what, allowed });
    }
}

/// Whether two sources are the same: there is one listener at an address, and what is counted of a
/// source has its name, without its options. Addresses of TCP are looked at with all others.
fn is_same(one: &SourceAddress, other: &SourceAddress) -> bool {
    use SourceAddress::{Replay, Tcp, Tls, Unix};
    match (one, other) {
        (Tcp(_) | Tls(_), _) => false,
        (Unix { path, .. }, Unix { path: other, .. }) => path == other,
        (Replay(replay), Replay(other)) => replay.to_string() == other.to_string(),
        _ => one == other,
    }
}

/// Whether one of two listeners takes the connections of the other, or keeps it from starting.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| match (wide.ip(), narrow.ip()) {
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
        // `[::]` takes IPv4 as well.
        (wide, _) => wide.is_unspecified(),
    };
    one.port() == other.port()
        && one.port() != 0
        && (one == other || covers(one, other) || covers(other, one))
}

fn one_core(text: &str, cores: &[usize]) -> Result<usize, Wrong> {
    match values::cores(text, cores)?.as_slice() {
        [core] => Ok(*core),
        _ => Err(Wrong::new("more than one core", "one core, such as 0")),
    }
}

mod admin;
mod connections;
mod journal;
mod log;
mod stream;
#[cfg(test)]
mod tests;
