//! Start-up and shutdown, in order.
//!
//! Start: check the host, bind every address, start the shards, start the ingest thread. Stop: tell
//! all threads, let each shard close its connections, join them. Not here: what the threads do.
//! Invariant: when [`Server::start`] returns, clients and producers can connect.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::rule::ChannelRule;
use crate::config::{Settings, Source, SourceAddress};
use crate::fanout::sequencer::Sequencer;
use crate::fanout::shard::ShardSettings;
use crate::handoff::batch::Batch;
use crate::handoff::ring::{Sender, ring};
use crate::protocol::channel::Pattern;
use crate::protocol::policy::Policy;
use crate::protocol::terms::{Interval, Rule, Rules, Wish};
use crate::shell::admin;
use crate::shell::checks::{HostError, check_host};
use crate::shell::clock;
use crate::shell::executor::{self, Thread};
use crate::shell::feed::Feed;
use crate::shell::listener;
use crate::shell::net::Bound;
use crate::shell::shard_loop::{self, ShardParts};
use crate::shell::ticker::{self, Ticks};
use crate::sources::producers::{self, SourceSettings};
use crate::sources::{replay, stdin, tcp, unix};
use crate::telemetry::Telemetry;

/// Why a server could not start: cause and cure.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host does not allow it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An address cannot be bound.
    #[error("{what} {address}: {source}{}", cure(.what, .address, .source))]
    Bind {
        /// Which setting.
        what: &'static str,
        /// The address.
        address: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A thread could not be started or pinned.
    #[error("thread {name} on core {core}: {reason}; is the core in `taskset -p $$`?")]
    Thread {
        /// The thread.
        name: String,
        /// Its core.
        core: String,
        /// The executor's words.
        reason: String,
    },
}

fn cure(what: &str, address: &str, error: &io::Error) -> String {
    let unix = what == SOURCE_UNIX;
    let port = address.rsplit(':').next().unwrap_or_default();
    match error.kind() {
        io::ErrorKind::AddrInUse if unix => {
            format!("; somebody listens there (ss -lxp 'src = {address}'), or it is no socket")
        }
        io::ErrorKind::AddrInUse => {
            format!("; find who listens there with: ss -lptn 'sport = :{port}'")
        }
        io::ErrorKind::PermissionDenied if unix => {
            "; use a folder that this user may write to".into()
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need: sudo setcap cap_net_bind_service+ep fanfare".into()
        }
        io::ErrorKind::AddrNotAvailable => "; list this host's addresses with: ip addr".into(),
        io::ErrorKind::NotFound => "; create its folder with: mkdir -p".into(),
        _ => String::new(),
    }
}

/// What a path is called in an error.
const SOURCE_UNIX: &str = "source unix";

/// A running server; dropping it stops it without patience.
#[derive(Debug)]
pub struct Server {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The sources' addresses with the ports that were picked, as URLs.
    pub sources: Vec<String>,
    /// The admin address, if any.
    pub admin: Option<SocketAddr>,
    /// The counters.
    pub telemetry: Arc<Telemetry>,
    stop: Arc<AtomicBool>,
    sources_left: Arc<AtomicUsize>,
    /// Socket files of Unix sources, which outlive their listeners.
    socket_files: Vec<PathBuf>,
    shards: Vec<Thread<usize>>,
    ingest: Option<Thread<()>>,
}

/// A source that is ready to run, on the ingest thread.
enum Ready {
    Producers(Bound, SourceSettings),
    Stdin(SourceSettings),
    Replay(crate::config::Replay, SourceSettings),
}

impl Server {
    /// Checks the host, binds, starts every thread, and returns once clients can connect.
    ///
    /// # Errors
    /// The first thing that failed, with the command that cures it.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        // Each shard its part, so that a full one still has a descriptor to refuse with.
        let connections_allowed = check_host(settings.cores.len() + 1)? / settings.cores.len();
        if connections_allowed < settings.connections_max {
            tracing::info!(
                connections_max = settings.connections_max,
                "file descriptors are enough for {connections_allowed} connections of each shard; \
                `ulimit -n 1048576` before the start allows more"
            );
        }
        let listeners = listener::shared(settings.listen, settings.cores.len())
            .map_err(|source| bind_error("listen", settings.listen, source))?;
        let listen = (listeners[0].local_addr())
            .map_err(|source| bind_error("listen", settings.listen, source))?;
        let (sources, ready) = bind_sources(settings)?;
        let admin = settings.admin.map(bind_admin).transpose()?;

        let telemetry = Arc::new(Telemetry::new(settings.cores.len()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = Self {
            listen,
            sources,
            admin: admin.as_ref().map(|(_, address)| *address),
            telemetry: Arc::clone(&telemetry),
            stop: Arc::clone(&stop),
            sources_left: Arc::new(AtomicUsize::new(ready.len())),
            socket_files: socket_files(settings),
            shards: Vec::new(),
            ingest: None,
        };
        let shard_settings = ShardSettings {
            node: settings.node.as_str().into(),
            epoch: ulid::Ulid::generate().to_string().into(),
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
        };
        let mut ticks =
            ticker::start(settings.cores.len() + 1).map_err(|error| StartError::Thread {
                name: "ticker".into(),
                core: "any".into(),
                reason: error.to_string(),
            })?;
        let mut rings = Vec::new();
        for (number, listener) in listeners.into_iter().enumerate() {
            let (sender, receiver) = ring(settings.ring_batches);
            rings.push(sender);
            let parts = ShardParts {
                number,
                settings: shard_settings.clone(),
                listener,
                ring: receiver,
                telemetry: Arc::clone(&telemetry),
                ticks: ticks.pop().expect("one for each executor"),
                stop: Arc::clone(&stop),
                stop_timeout: settings.stop_timeout,
                upgrade_timeout: settings.upgrade_timeout,
                sockets: settings.sockets,
                spin: settings.spin,
            };
            let core = settings.cores[number];
            let thread = start_thread(&format!("shard-{number}"), Some(core), move || {
                shard_loop::run(parts)
            })?;
            server.shards.push(thread);
        }
        let ticks = ticks.pop().expect("one for each executor");
        server.start_ingest(settings, rings, ready, admin.map(|(bound, _)| bound), ticks)?;
        Ok(server)
    }

    /// Asks for an orderly stop, waits for it (bounded), and returns how many connections had to be
    /// cut. `cancelled` is polled meanwhile: true ends the wait at once.
    pub fn stop(mut self, cancelled: impl Fn() -> bool) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while self.shards.iter().any(|shard| !shard.is_finished()) && !cancelled() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if cancelled() {
            return 0;
        }
        if let Some(ingest) = self.ingest.take()
            && let Err(reason) = ingest.join()
        {
            tracing::error!(reason, "the ingest thread failed");
        }
        for file in &self.socket_files {
            // Gone already, or the next start replaces it.
            let _ = std::fs::remove_file(file);
        }
        let mut cut = 0;
        for shard in self.shards.drain(..) {
            match shard.join() {
                Ok(count) => cut += count,
                Err(reason) => tracing::error!(reason, "a shard failed"),
            }
        }
        cut
    }

    /// True once every source has ended (a replay without loop, standard input); the server goes on
    /// serving.
    #[must_use]
    pub fn sources_ended(&self) -> bool {
        self.sources_left.load(Ordering::Relaxed) == 0
    }

    fn start_ingest(
        &mut self,
        settings: &Settings,
        rings: Vec<Sender<Arc<Batch>>>,
        ready: Vec<Ready>,
        admin: Option<Bound>,
        mut ticks: Ticks,
    ) -> Result<(), StartError> {
        let sequencer = Sequencer::new(settings.channels_max, settings.keys_max);
        let (telemetry, stop) = (Arc::clone(&self.telemetry), Arc::clone(&self.stop));
        let sources_left = Arc::clone(&self.sources_left);
        let cores_all = std::thread::available_parallelism().map_or(1, usize::from);
        if settings.ingest_core.is_some_and(|core| settings.cores.contains(&core))
            || settings.ingest_core.is_none() && settings.cores.len() >= cores_all
        {
            tracing::info!(
                "the ingest thread shares a core with a shard; see --cores and --ingest-core"
            );
        }
        let thread = start_thread("ingest", settings.ingest_core, move || async move {
            let feed = Feed::new(sequencer, rings, Arc::clone(&telemetry), Arc::clone(&stop));
            for source in ready {
                let (feed, sources_left) = (feed.clone(), Arc::clone(&sources_left));
                executor::spawn(async move {
                    run_source(source, feed).await;
                    sources_left.fetch_sub(1, Ordering::Relaxed);
                });
            }
            if let Some(bound) = admin {
                executor::spawn(admin::serve(bound.listen(), telemetry));
            }
            while !feed.is_stopping() {
                ticks.next().await;
            }
        })?;
        self.ingest = Some(thread);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
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

async fn run_source(source: Ready, feed: Feed) {
    match source {
        Ready::Producers(bound, settings) => {
            producers::serve(bound.listen(), feed, settings).await;
        }
        Ready::Stdin(settings) => stdin::run(feed, settings).await,
        Ready::Replay(replay, settings) => replay::run(replay, feed, settings).await,
    }
}

fn start_thread<F, T>(
    name: &str,
    core: Option<usize>,
    main: impl FnOnce() -> F + Send + 'static,
) -> Result<Thread<T>, StartError>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    executor::start(name, core, main).map_err(|reason| StartError::Thread {
        name: name.to_owned(),
        core: core.map_or_else(|| "any".into(), |core| core.to_string()),
        reason,
    })
}

fn bind_error(what: &'static str, address: impl ToString, source: io::Error) -> StartError {
    StartError::Bind { what, address: address.to_string(), source }
}

fn socket_files(settings: &Settings) -> Vec<PathBuf> {
    (settings.sources.iter())
        .filter_map(|source| match &source.address {
            SourceAddress::Unix(path) => Some(path.clone()),
            _ => None,
        })
        .collect()
}

fn bind_admin(address: SocketAddr) -> Result<(Bound, SocketAddr), StartError> {
    tcp::bind(address).map_err(|source| bind_error("admin", address, source))
}

/// Binds what must be bound, and says under which URLs.
fn bind_sources(settings: &Settings) -> Result<(Vec<String>, Vec<Ready>), StartError> {
    let mut urls = Vec::new();
    let mut ready = Vec::new();
    for Source { address, map } in &settings.sources {
        let producer =
            SourceSettings { rules: map.clone(), line_bytes_max: settings.line_bytes_max };
        let (url, source) = match address {
            SourceAddress::Tcp(address) => {
                let (bound, address) = tcp::bind(*address)
                    .map_err(|source| bind_error("source tcp", address, source))?;
                (format!("tcp://{address}"), Ready::Producers(bound, producer))
            }
            SourceAddress::Unix(path) => {
                let bound = unix::bind(path)
                    .map_err(|source| bind_error(SOURCE_UNIX, path.display(), source))?;
                (format!("unix://{}", path.display()), Ready::Producers(bound, producer))
            }
            SourceAddress::Stdin => ("stdin://".to_owned(), Ready::Stdin(producer)),
            SourceAddress::Replay(replay) => {
                (replay.to_string(), Ready::Replay(replay.clone(), producer))
            }
        };
        urls.push(url);
        ready.push(source);
    }
    Ok((urls, ready))
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
