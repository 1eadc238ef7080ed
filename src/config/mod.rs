//! Settings as they are meant: validated values that the rest of the server takes.
//!
//! Not here: how they were typed (`cli`). Invariant: a [`Settings`] that exists is within the
//! bounds of [`crate::limits`].

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub mod changes;
pub mod file;
pub mod keys;
pub mod mapping;
pub mod nats;
pub mod raw;
pub mod resolve;
pub mod rule;
pub mod source_url;
pub mod values;

use mapping::MapRule;
pub use nats::{Forward, NatsBucket, NatsServers, NatsSource};
use rule::ChannelRule;

/// Everything that a server is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The WebSocket address; port 0 picks a port.
    pub listen: SocketAddr,
    /// The admin address, if any.
    pub admin: Option<SocketAddr>,
    /// What is asked of those who come there, and what they may do.
    pub admin_settings: AdminSettings,
    /// One shard on each of these cores.
    pub cores: Vec<usize>,
    /// The core of the ingest thread; may be one of `cores`.
    pub ingest_core: Option<usize>,
    /// Busy-poll the rings instead of parking.
    pub spin: bool,
    /// Where events come from.
    pub sources: Vec<Source>,
    /// Frame log of each shard, bytes.
    pub log_bytes: usize,
    /// Batches that each shard's ring holds; a power of two is not required.
    pub ring_batches: usize,
    /// Open connections of each shard at most.
    pub connections_max: usize,
    /// Channels at most.
    pub channels_max: usize,
    /// Distinct (channel, key) pairs at most.
    pub keys_max: usize,
    /// Bytes of one producer line at most.
    pub line_bytes_max: usize,
    /// Bytes of one message from a client at most.
    pub message_bytes_max: usize,
    /// Patterns in one connection's subscription set at most.
    pub subscriptions_max: usize,
    /// What the operator wants for channels; no pattern twice.
    pub rules: Vec<ChannelRule>,
    /// Bytes of frames that each shard keeps beside its log.
    pub retained_bytes: usize,
    /// What is kept on disk, if anything is.
    pub journal: Option<JournalSettings>,
    /// Messages from one client in a second, once the burst is used up.
    pub command_rate: u32,
    /// Messages from one client at once.
    pub command_burst: u32,
    /// Whether clients that lag are sampled more slowly.
    pub tier_moves: bool,
    /// How messages are compressed for clients that ask for it; none: they are not.
    pub compression: Option<CompressionSettings>,
    /// Forms beside JSON that are there from the start, by their words.
    pub forms: Vec<&'static str>,
    /// The socket of each connection.
    pub sockets: SocketSettings,
    /// From accept to a complete upgrade request.
    pub upgrade_timeout: Duration,
    /// Quiet time after which a client gets a heartbeat.
    pub heartbeat: Duration,
    /// The `wss://` address and its certificates, if any.
    pub tls: Option<TlsSettings>,
    /// The access rules; none: everybody may do everything.
    pub access: Option<AccessSource>,
    /// How long a client may be in without a credential; zero: it must come with the upgrade.
    pub auth_timeout: Duration,
    /// How many may come, and how fast.
    pub admission: AdmissionSettings,
    /// When a client is taken to be gone.
    pub liveness: LivenessSettings,
    /// Time over which the closes of a drain are spread.
    pub drain: Duration,
    /// Where a drained client is told to go.
    pub drain_to: Vec<String>,
    /// Unix socket for `fanfare drain`, `fanfare reload` and a successor, if any.
    pub control: Option<PathBuf>,
    /// The control socket of the process whose listeners this one takes over.
    pub take_over: Option<PathBuf>,
    /// Connections go to the shard of the CPU that the network card gave them to.
    pub steer_by_cpu: bool,
    /// How long an orderly stop may take.
    pub stop_timeout: Duration,
    /// The node's name in `welcome`.
    pub node: String,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Clients get back what they say, instead of the feed; no key sets it.
    #[cfg(feature = "echo")]
    pub echo: bool,
}

/// Where access rules are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessSource {
    /// In a file.
    File(PathBuf),
    /// In a key-value bucket, each entry of which is such a file.
    Bucket(NatsBucket),
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level, or directives of tracing's filter; it was checked.
    pub filter: String,
    /// How lines are written.
    pub format: LogFormat,
    /// Ends of connections that are logged one by one in a second.
    pub ends_per_second: u32,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The admin pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// File of the token that requests must show; none: there is none.
    pub token_file: Option<PathBuf>,
    /// The server is not ready while a source is down.
    pub ready_needs_sources: bool,
    /// Connections may be cut on purpose.
    pub drills: bool,
}

/// The encrypted address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The `wss://` address; port 0 picks a port.
    pub listen: SocketAddr,
    /// Certificates; the first one also serves names that none has.
    pub certificates: Vec<CertificateFiles>,
    /// PEM file of the authorities whose client certificates are taken, if any are.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate.
    pub client_certificate_required: bool,
}

/// One certificate with its chain and its private key, both PEM; they may be in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSettings {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes of segments that are kept.
    pub bytes: u64,
    /// Time between two times that what is written is made durable; zero: never.
    pub sync: Duration,
}

/// How many clients may come, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// Handshakes of each shard that may be under way.
    pub handshakes_max: usize,
    /// Connections that each shard takes on in a second; more wait in the kernel's backlog.
    pub accept_rate: Option<u32>,
    /// Open connections of one address at most, over all shards.
    pub address_connections_max: Option<u32>,
    /// New connections of one address in a minute, over all shards.
    pub address_accept_rate: Option<u32>,
}

/// When a client is taken to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivenessSettings {
    /// Time without a byte from a client after which it is pinged; zero: never.
    pub ping_interval: Duration,
    /// Time that it then has to send something.
    pub pong_timeout: Duration,
    /// Time that it may be without a subscription; zero: for ever.
    pub idle_timeout: Duration,
}

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionSettings {
    /// How hard: 1 is fastest, 9 smallest.
    pub level: u8,
    /// Shorter messages are left as they are, bytes.
    pub message_bytes_min: usize,
}

/// How the kernel treats the connection of a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketSettings {
    /// Its send buffer, bytes (`SO_SNDBUF`).
    pub send_buffer_bytes: usize,
    /// Bytes in it that are not on the wire yet, above which it takes no more
    /// (`TCP_NOTSENT_LOWAT`).
    pub unsent_bytes: usize,
    /// How long the peer may be unreachable, or may stop reading entirely, before its connection
    /// ends (`TCP_USER_TIMEOUT`). Linux counts a full receive window even if probes are answered.
    pub peer_timeout: Duration,
}

/// One source of events with its mapping.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it reads.
    pub address: SourceAddress,
    /// How its JSON becomes events; empty: lines are producer events as in `docs/PROTOCOL.md`.
    pub map: Vec<MapRule>,
}

/// Where a source reads.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceAddress {
    /// `tcp://HOST:PORT`: NDJSON from many producers; port 0 picks a port.
    Tcp(SocketAddr),
    /// `tls://HOST:PORT`: the same with TLS, with the certificates of `tls_listen`.
    Tls(SocketAddr),
    /// `unix://PATH[?mode=660]`: the same over a Unix socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// The file's mode: who may write to it may publish.
        mode: u32,
    },
    /// `stdin://`: NDJSON from standard input.
    Stdin,
    /// `replay:FILE[,FILE…][?speed=max&loop=true&sort=true&time=POINTER]`.
    Replay(Replay),
    /// `nats://HOST[:PORT]/STREAM[?…]`: a JetStream stream, whose numbers are the events' own.
    Nats(NatsSource),
}

/// What to replay and how fast.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Plain or gzip files, NDJSON or `<ns> <raw JSON>`, merged by time.
    pub input: ReplayInput,
    /// Pace.
    pub speed: Speed,
    /// Start again at the end.
    pub looping: bool,
    /// Read everything first and sort by time; for files that are not in order.
    pub sort: bool,
    /// JSON pointer to an NDJSON line's time, integer nanoseconds or RFC 3339; absent: the line's
    /// top-level `ts`. The time before a `<ns> <raw JSON>` line goes first.
    pub time: Option<mapping::Pointer>,
    /// Begin when so many clients have subscribed.
    pub clients_min: u64,
}

impl Replay {
    /// Once, at the recorded pace, from the start of the server, by the lines' own `ts`.
    #[must_use]
    pub const fn new(input: ReplayInput) -> Self {
        Self {
            input,
            speed: Speed::Times(1.0),
            looping: false,
            sort: false,
            time: None,
            clients_min: 0,
        }
    }
}

impl fmt::Display for Replay {
    /// The files; for people, so without the query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.input {
            ReplayInput::Embedded(_) => f.write_str("replay:embedded"),
            ReplayInput::Files(files) => {
                let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                write!(f, "replay:{}", names.join(","))
            }
        }
    }
}

/// The bytes of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayInput {
    /// Files, in the order that breaks ties of time.
    Files(Vec<PathBuf>),
    /// A capture inside the program (the demo's), gzip.
    Embedded(&'static [u8]),
}

/// Pace of a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// This many times the recorded pace.
    Times(f64),
    /// As fast as the rings take it.
    Max,
}
