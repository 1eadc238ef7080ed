//! Start-up and shutdown, in order.
//!
//! Start: check the host, open the journal, bind every address, start the shards, start the ingest
//! thread, wait until the shards have what the journal holds, and until a server before this one
//! makes way. Drain: the shards send their clients away one by one. Stop: tell all threads, let
//! each shard close its connections, join them. Not here: what the threads do. Invariant: when
//! [`Server::start`] returns, clients and producers can connect.

mod admin;
mod drain;
#[cfg(feature = "echo")]
pub mod echo;
mod error;
mod ingest;
mod journal;
mod keeper;
mod listeners;
mod reload;
mod rules;
mod shards;
mod sources;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender as Asker, channel};
use std::time::Duration;

use crate::access::Addresses;
use crate::config::Settings;
use crate::fanout::shard::ShardSettings;
use crate::handoff::batch::Batch;
use crate::handoff::ring::{self, Sender, ring};
use crate::nats::Desk;
use crate::shell::accept::Entrance;
use crate::shell::admin::{About, Admin};
use crate::shell::certificates::Certificates;
use crate::shell::changeable::InForce;
use crate::shell::checks::check_host;
use crate::shell::clock;
use crate::shell::control::ControlListener;
use crate::shell::doorman::Doorman;
use crate::shell::estate::Named;
use crate::shell::executor::{self, Guest, Thread};
use crate::shell::mailbox::Mailbox;
use crate::shell::net::Listener;
use crate::shell::shard_loop::{self, ShardParts};
use crate::shell::ticker::{self, Ticks};
use crate::shell::watchdog;
use crate::telemetry::Telemetry;

use drain::Drain;
pub use error::StartError;
use error::{no_doorman, no_thread};
use ingest::Ingest;
use journal::Beginning;
use keeper::Keeper;
use listeners::Listeners;
use reload::Reloads;
pub use reload::Reread;
pub use rules::check_access;
use sources::Ready;

/// A running server; dropping it stops it without patience.
#[derive(Debug)]
pub struct Server {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where clients connect with TLS, if they can.
    pub tls: Option<SocketAddr>,
    /// The sources' addresses with the ports that were picked, as URLs.
    pub sources: Vec<String>,
    /// The admin address, if any.
    pub admin: Option<SocketAddr>,
    /// The counters.
    pub telemetry: Arc<Telemetry>,
    drain: Drain,
    /// Asks the keeper to reload.
    reload: Asker<()>,
    sources_left: Arc<AtomicUsize>,
    /// Socket files, which outlive their listeners.
    socket_files: Vec<PathBuf>,
    shards: Vec<Thread<usize>>,
    ingest: Option<Thread<()>>,
    admin_pages: Option<Thread<()>>,
}

impl Server {
    /// Checks the host, binds, starts every thread, and returns once clients can connect. With
    /// `reread`, a reload reads the settings again.
    ///
    /// # Errors
    /// The first thing that failed, with the command that cures it.
    pub fn start(settings: &Settings, reread: Option<Reread>) -> Result<Self, StartError> {
        // Each shard its part, so that a full one still has a descriptor to refuse with.
        let connections_allowed = check_host(executors(settings))? / settings.cores.len();
        if connections_allowed < settings.connections_max {
            tracing::info!(
                connections_max = settings.connections_max,
                "file descriptors are enough for {connections_allowed} connections of each shard; \
                `ulimit -n 1048576` before the start allows more"
            );
        }
        // Before anything is taken over: it cannot be shared with the server before.
        let mut beginning = Beginning::open(settings)?;
        let life = Arc::new(beginning.life(settings));
        let doorman = Doorman::start(Arc::clone(&life)).map_err(no_doorman)?;
        let (gate, bucket) = rules::open(settings.access.as_ref())?;
        let gate = Arc::new(gate);
        let certificates = settings.tls.as_ref().map(Certificates::load).transpose()?;
        let token = admin::token(settings)?;
        let mut stream = beginning.stream.take();
        let desks = stream.as_mut().map(|stream| std::mem::take(&mut stream.desks));
        let mut bound = Listeners::bind(settings, &doorman, &gate, certificates.as_ref(), stream)?;

        let telemetry = Arc::new(Telemetry::with_sources(settings.cores.len(), &bound.urls));
        let mailboxes: Vec<_> = settings.cores.iter().map(|_| Arc::<Mailbox>::default()).collect();
        let (reload, asked) = channel();
        let in_force = Arc::new(InForce::new(settings));
        let mut server = Self {
            listen: bound.listen,
            tls: bound.tls,
            sources: bound.urls,
            admin: bound.admin.as_ref().map(|(_, address)| *address),
            telemetry: Arc::clone(&telemetry),
            drain: Drain { life, doorman, telemetry, in_force: Arc::clone(&in_force) },
            reload,
            sources_left: Arc::new(AtomicUsize::new(bound.sources.len())),
            socket_files: sources::socket_files(settings),
            shards: Vec::new(),
            ingest: None,
            admin_pages: None,
        };
        let reloads = Reloads::new(reread, in_force, Arc::clone(&gate), certificates, bucket);
        let shard_settings =
            shards::settings(settings, connections_allowed, gate, beginning.numbers());
        let about = server.about(settings, &beginning.epoch);
        let mut ticks =
            ticker::start(executors(settings)).map_err(|error| no_thread("ticker", &error))?;
        // Shards take theirs first, from the end.
        let shards_begin = ticks.len() - settings.cores.len();
        let pulses = ticks[shards_begin..].iter().map(Ticks::pulse).collect();
        let (rings, receivers) = settings.cores.iter().map(|_| ring(settings.ring_batches)).unzip();
        let (ingest, restored) = server.ingest(beginning, rings, bound.sources, ticks.remove(0));
        let parts = Parts {
            entrances: bound.entrances,
            rings: receivers,
            mailboxes: &mailboxes,
            desks: desks.unwrap_or_default(),
            ingest: Some(ingest),
            descriptors: connections_allowed,
        };
        server.start_shards(settings, &shard_settings, parts, &mut ticks)?;
        let mut next_ticks = || ticks.pop().expect("one for each executor");
        if let Some((listener, _)) = bound.admin {
            // At an address that is taken over, the server before answers as long as it serves.
            let waits = settings.take_over.is_some();
            let (telemetry, life) = (Arc::clone(&server.telemetry), Arc::clone(&server.drain.life));
            let settings = settings.admin_settings.clone();
            let pages = move || Admin::new(settings, about, token, telemetry, life, mailboxes);
            server.start_admin(listener, pages, next_ticks(), waits)?;
        }
        let look = || bound.estate.look();
        journal::wait(&restored, &server.shards, &server.telemetry, look)?;
        // Nobody was let in here yet: either the server before stops to accept, or this one ends.
        bound.estate.settle()?;
        bound.taken.iter().for_each(|taken| taken.open(settings));
        server.drain.life.open();
        server.start_keeper(reloads, asked, bound.control, bound.estate.into_kept())?;
        watchdog::start(pulses).map_err(|error| no_thread("watchdog", &error))?;
        Ok(server)
    }

    fn about(&self, settings: &Settings, epoch: &str) -> About {
        About {
            node: settings.node.clone(),
            epoch: epoch.to_owned(),
            listen: self.listen,
            tls: self.tls,
            ring_batches: settings.ring_batches,
            started_ns: clock::now().monotonic_ns,
        }
    }

    /// Begins to send every client away, over `window` or else the time that the settings say. New
    /// ones are refused from now on.
    pub fn drain(&self, window: Option<Duration>) {
        self.drain.begin(window);
    }

    /// How long a drain takes that names no time; zero: there is none before a stop.
    #[must_use]
    pub fn drain_window(&self) -> Duration {
        self.drain.window()
    }

    /// How long an orderly stop may take.
    #[must_use]
    pub fn stop_timeout(&self) -> Duration {
        self.drain.in_force.load().stop_timeout
    }

    /// Why the server cannot go on, if it cannot.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.drain.life.failure()
    }

    /// True once a drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.left().is_some()
    }

    /// True once a drain has ended: its time is over, or nobody is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drain.has_ended()
    }

    /// Asks to read settings, certificates and access rules again; what comes of it is logged.
    pub fn reload(&self) {
        // The keeper has ended when the server stops.
        let _ = self.reload.send(());
    }

    /// Asks for an orderly stop, waits for it (bounded), and returns how many connections had to be
    /// cut. `cancelled` is polled meanwhile: true ends the wait at once.
    pub fn stop(mut self, cancelled: impl Fn() -> bool) -> usize {
        self.drain.life.stop();
        let is_busy = |server: &Self| {
            server.shards.iter().any(|shard| !shard.is_finished())
                || server.ingest.as_ref().is_some_and(|ingest| !ingest.is_finished())
        };
        while is_busy(&self) && !cancelled() {
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
        if let Some(pages) = self.admin_pages.take()
            && let Err(reason) = pages.join()
        {
            tracing::error!(reason, "the admin thread failed");
        }
        // A successor listens there.
        let files = self.socket_files.iter().filter(|_| !self.drain.life.is_handed_over());
        for file in files {
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

    /// True once every source has ended, and every client was sent everything.
    #[must_use]
    pub fn has_delivered(&self) -> bool {
        let events = self.telemetry.ingest.events.value();
        self.sources_ended()
            && self.telemetry.shards.iter().all(|shard| {
                shard.events.value() == events
                    && shard.settled_seq.value() == shard.head_seq.value()
            })
    }

    /// The work of the ingest, and who is told up to which `seq` the rings have what there was.
    fn ingest(
        &self,
        beginning: Beginning,
        rings: Vec<Sender<Arc<Batch>>>,
        sources: Vec<Ready>,
        ticks: Ticks,
    ) -> (Guest, Receiver<io::Result<u64>>) {
        let (said, restored) = channel();
        let ingest = Ingest {
            beginning,
            rings,
            sources,
            sources_left: Arc::clone(&self.sources_left),
            telemetry: Arc::clone(&self.telemetry),
            life: Arc::clone(&self.drain.life),
            ticks,
            said,
        };
        (ingest.into_work(), restored)
    }

    /// Starts a shard on each core, and a thread for the ingest if none of them has it for a guest.
    fn start_shards(
        &mut self,
        settings: &Settings,
        shard_settings: &ShardSettings,
        Parts { entrances, rings, mailboxes, desks, mut ingest, descriptors }: Parts<'_>,
        ticks: &mut Vec<Ticks>,
    ) -> Result<(), StartError> {
        let addresses = Arc::new(Addresses::default());
        let (host, mut desks) = (ingest::host(settings), desks.into_iter());
        for (number, (entrances, ring)) in entrances.into_iter().zip(rings).enumerate() {
            let parts = ShardParts {
                number,
                settings: shard_settings.clone(),
                entrances,
                ring,
                desk: desks.next(),
                telemetry: Arc::clone(&self.telemetry),
                ticks: ticks.pop().expect("one for each shard"),
                mailbox: Arc::clone(&mailboxes[number]),
                life: Arc::clone(&self.drain.life),
                in_force: Arc::clone(&self.drain.in_force),
                addresses: Arc::clone(&addresses),
                descriptors,
                sockets: settings.sockets,
                spin: settings.spin,
                guest: ingest.take_if(|_| host == Some(number)),
            };
            let core = settings.cores[number];
            let thread = start_thread(&format!("shard-{number}"), Some(core), move || {
                shard_loop::run(parts)
            })?;
            self.shards.push(thread);
        }
        if let Some(work) = ingest {
            self.ingest = Some(start_thread("ingest", settings.ingest_core, work)?);
        }
        Ok(())
    }

    fn start_keeper(
        &self,
        reloads: Reloads,
        asked: Receiver<()>,
        control: Option<ControlListener>,
        listeners: Vec<Named>,
    ) -> Result<(), StartError> {
        let (drain, successor) = (self.drain.clone(), None);
        let keeper = Keeper { drain, reloads, asked, control, listeners, successor };
        let thread = std::thread::Builder::new().name("keeper".into());
        thread.spawn(|| keeper.run()).map(drop).map_err(|error| no_thread("keeper", &error))
    }

    /// Starts the thread of the admin pages, which `waits` until clients are let in or answers at
    /// once.
    fn start_admin(
        &mut self,
        listener: Listener,
        pages: impl FnOnce() -> Admin + Send + 'static,
        mut ticks: Ticks,
        waits: bool,
    ) -> Result<(), StartError> {
        let life = Arc::clone(&self.drain.life);
        let thread = start_thread("admin", None, move || async move {
            while waits && life.is_restoring() && !life.is_stopping() {
                ticks.next().await;
            }
            executor::spawn(pages().serve(listener));
            while !life.is_stopping() {
                ticks.next().await;
            }
        })?;
        self.admin_pages = Some(thread);
        Ok(())
    }
}

/// What shards are started with beside the settings.
struct Parts<'a> {
    /// Where the connections of each come in.
    entrances: Vec<Vec<Entrance>>,
    /// Where the batches of each come from.
    rings: Vec<ring::Receiver<Arc<Batch>>>,
    /// Where each is asked.
    mailboxes: &'a [Arc<Mailbox>],
    /// Where each asks for what its log has not got; none without a stream.
    desks: Vec<Desk>,
    /// For the shard on its core, if there is one.
    ingest: Option<Guest>,
    /// That each may hold for its connections.
    descriptors: usize,
}

/// Executors of a server: one for each shard, one for the sources, one for the admin pages.
fn executors(settings: &Settings) -> usize {
    settings.cores.len() + 1 + usize::from(settings.admin.is_some())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain.life.stop();
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
