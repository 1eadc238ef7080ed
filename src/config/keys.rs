//! The table of settings: one row is a key of `fanfare.toml`, a flag and an environment variable.
//!
//! Not here: what a value means (`resolve`). Invariant: the default in a row is what `resolve`
//! takes when nothing is given, so `--help` cannot lie.

use std::time::Duration;

use super::values::{show_duration, show_size};
use crate::limits;

/// One setting of one value.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The key in the file; `--log-bytes` and `FANFARE_LOG_BYTES` follow from it.
    pub name: &'static str,
    /// What stands for the value in help.
    pub value: &'static str,
    /// Meaning and unit.
    pub help: &'static str,
    /// The default in words where it depends on the host, or nothing.
    pub note: &'static str,
}

impl Key {
    /// The flag: `--log-bytes`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// The environment variable: `FANFARE_LOG_BYTES`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("FANFARE_{}", self.name.to_ascii_uppercase())
    }
}

const fn key(
    name: &'static str,
    value: &'static str,
    help: &'static str,
    note: &'static str,
) -> Key {
    Key { name, value, help, note }
}

/// All settings of one value, in the order of `--help`, `--check` and the example file.
pub const KEYS: &[Key] = &[
    key("listen", "ADDRESS", "WebSocket address, IP:PORT; port 0 picks a port", ""),
    key("tls_listen", "ADDRESS", "The same with TLS (wss://); needs tls_certificates", "none"),
    key(
        "tls_certificates",
        "FILES",
        "PEM files with a certificate and its chain each, joined by commas; the client's server \
        name chooses, and the first one serves all other names",
        "none",
    ),
    key(
        "tls_keys",
        "FILES",
        "PEM files with their private keys, in the same order",
        "in the certificates' files",
    ),
    key(
        "tls_client_ca",
        "FILE",
        "PEM file of the authorities that sign client certificates",
        "no client certificates",
    ),
    key(
        "tls_client_certificates",
        "WHEN",
        "With tls_client_ca: required, or optional beside other credentials",
        "",
    ),
    key(
        "access",
        "FILE",
        "Access rules: keys, tokens, origins; or nats-kv://HOST/BUCKET",
        "everybody may do everything",
    ),
    key(
        "auth_timeout",
        "TIME",
        "How long a client may take to send auth; 0ms: a credential must come with the upgrade",
        "",
    ),
    key("handshakes_max", "COUNT", "Unfinished handshakes of each shard at most", ""),
    key(
        "accept_rate",
        "COUNT",
        "New connections that each shard takes on in a second; the others wait",
        "no limit",
    ),
    key(
        "address_connections_max",
        "COUNT",
        "Open connections of one address at most (of one /64 with IPv6)",
        "no limit",
    ),
    key("address_accept_rate", "COUNT", "New connections of one address in a minute", "no limit"),
    key(
        "steer_by_cpu",
        "BOOL",
        "A connection goes to the shard of the CPU that received it \
        (SO_ATTACH_REUSEPORT_CBPF), for cards with a queue for each core",
        "",
    ),
    key("admin", "ADDRESS", "Address of health, metrics and the admin API, IP:PORT", "none"),
    key(
        "admin_token_file",
        "FILE",
        "File with the token that admin requests must show; needed where the address is no \
        loopback",
        "no token",
    ),
    key(
        "ready_needs_sources",
        "BOOL",
        "/readyz also wants every source up: a producer connected, a replay not ended",
        "",
    ),
    key("drills", "BOOL", "Allow `fanfare drill`, which cuts connections on purpose", ""),
    key("cores", "LIST", "One shard on each of these cores, such as 0-1,4", "all available"),
    key(
        "ingest_core",
        "CORE",
        "Core of the sources; may be one of the shards', whose thread they then share",
        "not pinned",
    ),
    key("spin", "BOOL", "Busy-poll the rings instead of parking: lower latency, full cores", ""),
    key("log_bytes", "SIZE", "Frame log of each shard, in B, KiB, MiB or GiB", ""),
    key("ring_batches", "COUNT", "Batches that wait in each shard's ring", ""),
    key("connections_max", "COUNT", "Open connections of each shard at most", ""),
    key("channels_max", "COUNT", "Channels at most", ""),
    key("keys_max", "COUNT", "Distinct (channel, key) pairs at most", ""),
    key("line_bytes_max", "SIZE", "One producer line at most", ""),
    key("message_bytes_max", "SIZE", "One message from a client at most", ""),
    key("subscriptions_max", "COUNT", "Patterns that one connection subscribes to at most", ""),
    key("retained_bytes", "SIZE", "Newest values and books kept beside each shard's log", ""),
    key("journal", "DIR", "Folder that a restart goes on from; made if its parent exists", "none"),
    key("journal_bytes", "SIZE", "Journal of newest events; older ones are merged", ""),
    key(
        "journal_sync",
        "TIME",
        "Time between two writes of the journal to the disk itself, which is what a power loss \
        costs; 0s: never. A crash costs nothing",
        "",
    ),
    key(
        "command_rate",
        "COUNT",
        "Messages from one client in a second, once its burst is used",
        "",
    ),
    key("command_burst", "COUNT", "Messages from one client at once", ""),
    key("tier_moves", "BOOL", "Sample conflating subscriptions of slow clients more slowly", ""),
    key(
        "compression",
        "BOOL",
        "Compress messages for clients that ask for it (permessage-deflate), once for all of them",
        "",
    ),
    key("compression_level", "COUNT", "How hard: 1 is fastest, 9 smallest", ""),
    key("compression_message_bytes_min", "SIZE", "Shorter messages are left as they are", ""),
    key(
        "forms",
        "FORMS",
        "Forms beside JSON that are there from the start, joined by commas: binary, sse",
        "each with its first client",
    ),
    key("send_buffer_bytes", "SIZE", "Kernel send buffer of each connection", ""),
    key(
        "unsent_bytes",
        "SIZE",
        "Bytes in it that are not on the wire yet, above which it takes no more \
        (TCP_NOTSENT_LOWAT): small, so that what a slow client is to skip is not in it already",
        "",
    ),
    key(
        "peer_timeout",
        "TIME",
        "How long a client may be unreachable, or may stop reading entirely, before its connection \
        ends (TCP_USER_TIMEOUT; a full receive window counts even if probes are answered)",
        "",
    ),
    key("upgrade_timeout", "TIME", "From accept to a complete upgrade request, in ms, s or m", ""),
    key("heartbeat", "TIME", "Quiet time after which a client gets a heartbeat", ""),
    key("ping_interval", "TIME", "Time without a byte from a client before a ping; 0ms: never", ""),
    key("pong_timeout", "TIME", "Time that a client then has to send something", ""),
    key("idle_timeout", "TIME", "Time a client may be without a subscription; 0ms: for ever", ""),
    key("drain", "TIME", "Time over which SIGTERM closes the connections; 0ms: at once", ""),
    key("drain_to", "URLS", "Where drained clients are told to go, joined by commas", "here again"),
    key(
        "control",
        "PATH",
        "Unix socket for `fanfare drain`, `fanfare reload` and take_over",
        "none",
    ),
    key(
        "take_over",
        "PATH",
        "Control socket of a running server whose addresses this one takes over; that one drains",
        "none",
    ),
    key("stop_timeout", "TIME", "How long an orderly stop may take", ""),
    key("node", "NAME", "The node's name in `welcome`", "the host name"),
    key("log", "LEVEL", "What to log: off, error, warn, info, debug, trace or target=level", ""),
    key("log_format", "FORMAT", "Log lines for people or for programs: text or json", ""),
    key(
        "log_ends_per_second",
        "COUNT",
        "Connections whose end is logged in a second; of the others, how many; 0: none",
        "",
    ),
];

/// The default of a setting as text; none where the host decides or nothing is the default.
#[must_use]
pub fn default_text(name: &str) -> Option<String> {
    let time = |ms| show_duration(Duration::from_millis(ms));
    Some(match name {
        "listen" => "127.0.0.1:9001".into(),
        "spin" | "ready_needs_sources" | "drills" => "false".into(),
        "log_bytes" => show_size(limits::LOG_BYTES),
        "ring_batches" => limits::RING_BATCHES.to_string(),
        "connections_max" => limits::CONNECTIONS_MAX.to_string(),
        "channels_max" => limits::CHANNELS_MAX.to_string(),
        "keys_max" => limits::KEYS_MAX.to_string(),
        "line_bytes_max" => show_size(limits::LINE_BYTES_MAX),
        "message_bytes_max" => show_size(limits::MESSAGE_BYTES_MAX),
        "subscriptions_max" => limits::SUBSCRIPTIONS_MAX.to_string(),
        "retained_bytes" => show_size(limits::RETAINED_BYTES),
        "journal_bytes" => show_size(limits::JOURNAL_BYTES),
        "journal_sync" => time(limits::JOURNAL_SYNC_MS),
        "command_rate" => limits::COMMAND_RATE.to_string(),
        "command_burst" => limits::COMMAND_BURST.to_string(),
        "tier_moves" => "false".into(),
        "compression" => "false".into(),
        "compression_level" => limits::COMPRESSION_LEVEL.to_string(),
        "compression_message_bytes_min" => show_size(limits::COMPRESSION_MESSAGE_BYTES_MIN),
        "send_buffer_bytes" => show_size(limits::SEND_BUFFER_BYTES),
        "unsent_bytes" => show_size(limits::UNSENT_BYTES),
        "peer_timeout" => time(limits::PEER_TIMEOUT_MS),
        "upgrade_timeout" => time(limits::UPGRADE_MS),
        "heartbeat" => time(limits::HEARTBEAT_MS),
        "tls_client_certificates" => "required".into(),
        "auth_timeout" => time(limits::AUTH_MS),
        "handshakes_max" => limits::HANDSHAKES_MAX.to_string(),
        "steer_by_cpu" => "false".into(),
        "ping_interval" => time(limits::PING_MS),
        "pong_timeout" => time(limits::PONG_MS),
        "idle_timeout" => time(limits::IDLE_MS),
        "drain" => time(limits::DRAIN_MS),
        "stop_timeout" => time(limits::STOP_MS),
        "log" => "info".into(),
        "log_format" => "text".into(),
        "log_ends_per_second" => limits::LOG_ENDS_PER_SECOND.to_string(),
        _ => return None,
    })
}

/// The setting, or one of `others`, that `name` is most likely a slip for.
#[must_use]
pub fn did_you_mean(name: &str, others: &[&'static str]) -> Option<&'static str> {
    nearest(name, KEYS.iter().map(|key| key.name).chain(others.iter().copied()))
}

/// The one of `names` that `name` is most likely a slip for.
pub(super) fn nearest(
    name: &str,
    names: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let spelled = name.to_ascii_lowercase().replace('-', "_");
    names
        .map(|known| (edits(&spelled, known), known))
        .filter(|(edits, known)| *edits * 3 <= known.len())
        .min()
        .map(|(_, known)| known)
}

/// Letters to insert, delete or replace to make one word of the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_setting_and_other_words_do_not() {
        assert_eq!(did_you_mean("listn", &[]), Some("listen"));
        assert_eq!(did_you_mean("log-bytes", &[]), Some("log_bytes"));
        assert_eq!(did_you_mean("conections_max", &[]), Some("connections_max"));
        assert_eq!(did_you_mean("sources", &["source"]), Some("source"));
        for other in ["port", "service_host", "port_9001_tcp", "x"] {
            assert_eq!(did_you_mean(other, &["source", "map"]), None, "{other}");
        }
    }
}
