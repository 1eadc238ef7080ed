//! A server, its subscribers and its producer, ready to be measured part by part.
//!
//! Not here: which parts (`kinds`). Invariant: a part's outcome is of events that were meant to be
//! sent in its measured time, and of what processes used in that time.

use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde_json::json;

use crate::clock::{SECOND_NS, now_ns, ns, sleep_until};
use crate::cpus;
use crate::crew::Crew;
use crate::feed;
use crate::histogram;
use crate::launch::Running;
use crate::merged::Merged;
use crate::orders::{Plan, Window, channels_of, is_stalled};
use crate::outcome::{Memory, Outcome, Use};
use crate::payload::Template;
use crate::producer::{Part, Producer, Sent};
use crate::publisher::Publisher;
use crate::scenario::{Kind, Scenario};
use crate::schedule::Pace;
use crate::server::Server;
use crate::usage;
use crate::verdict::{self, Facts};
use crate::watch::{Watch, Watched};

/// Before the first event of a part, for orders to arrive.
const HEAD_START_NS: u64 = SECOND_NS / 5;
/// What is followed from the first to the last client.
const SAMPLED_EVENTS: f64 = 20_000.0;
/// How long nothing may come before what is missing counts as lost; and how long that can take.
const QUIET_NS: u64 = 2 * SECOND_NS;
const DRAIN_NS: u64 = 30 * SECOND_NS;

/// Who is measured with what, on which CPUs.
#[derive(Debug, Clone)]
pub struct Setup {
    pub scenario: Scenario,
    pub server: Server,
    pub server_cpus: Vec<usize>,
    pub load_cpus: Vec<usize>,
    pub processes: u64,
    /// Instead of the fanfare that is found.
    pub program: Option<PathBuf>,
}

/// An outcome, and all latencies that it is the summary of.
#[derive(Debug)]
pub struct Round {
    pub outcome: Outcome,
    pub latency: Histogram<u64>,
    /// The longest time for which the server took no events.
    pub blocked_max_ns: u64,
}

#[derive(Debug)]
pub struct Rig {
    pub setup: Setup,
    // Dropped first: clients that outlive their server complain.
    pub crew: Crew,
    producer: Producer,
    pub running: Running,
    pub memory_before: u64,
    pace: Option<Pace>,
    /// How many measured clients each channel has.
    audience: Vec<u64>,
}

impl Rig {
    /// Starts everything, up to subscribed clients (or, for `Idle`, connected ones).
    ///
    /// # Errors
    /// What failed, and the cure.
    pub fn start(setup: &Setup) -> Result<Self, String> {
        let scenario = &setup.scenario;
        let pace = feed::recorded(scenario)?;
        let channels = feed::channels(scenario);
        // This thread and the processes that it starts; the server chooses for itself.
        cpus::pin(&setup.load_cpus);
        cpus::open_files(scenario.clients + 4096).map_err(|error| error.to_string())?;
        let running = Running::start(&setup.server, &setup.server_cpus, setup.program.as_deref())?;
        let bytes = usize::try_from(scenario.payload_bytes).expect("it was checked");
        let (kind, target) = (setup.server.publish, &setup.server.target);
        let publisher = Publisher::connect(running.feed, kind, target, Template::new(bytes)?);
        let publisher = publisher.map_err(|error| {
            format!("{}: the producer at {}: {error}", setup.server.name, running.feed)
        })?;
        let producer = Producer::start(publisher, channels, setup.load_cpus.clone());
        let memory_before = usage::anonymous_bytes(&[running.pid()]);
        let crew = Crew::connect(plans(setup, &running, channels));
        let crew = crew.map_err(|why| {
            format!("{}: {why}\nthe server said:\n{}", setup.server.name, running.said())
        })?;
        let audience = audience(scenario, channels);
        let setup = setup.clone();
        Ok(Self { setup, running, crew, memory_before, producer, pace, audience })
    }

    /// How events follow each other: as recorded, or so many a second.
    #[must_use]
    pub fn pace(&self, events_per_s: f64) -> Pace {
        self.pace.clone().unwrap_or(Pace::Constant { events_per_s })
    }

    /// Runs a part; `begun` is called when its measured time begins.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn part(
        &mut self,
        pace: Pace,
        warm_up_s: f64,
        seconds: f64,
        mut begun: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<Round, String> {
        let events_per_s = match &pace {
            Pace::Constant { events_per_s } => *events_per_s,
            Pace::Recorded(feed) => feed.events_per_s(),
        };
        let begin_ns = now_ns() + HEAD_START_NS;
        let measure_ns = begin_ns + ns(warm_up_s);
        let end_ns = measure_ns + ns(seconds);
        let every = (events_per_s * seconds / SAMPLED_EVENTS).ceil().max(1.0);
        let sample_every = if every < 1e9 { every as u64 } else { 1 };
        self.crew.window(Window { from_ns: measure_ns, to_ns: end_ns, sample_every })?;
        self.producer.begin(Part { pace, begin_ns, measure_ns, end_ns });
        // The first look at everybody takes a moment.
        sleep_until(measure_ns - HEAD_START_NS / 2);
        let watch = Watch::new(self.running.pid(), self.crew.pids());
        sleep_until(measure_ns);
        let watching = watch.begin();
        let began = jiff::Timestamp::now().to_string();
        begun(self)?;
        let mut watched = watching.until(&self.setup, measure_ns, end_ns);
        let sent = self.producer.end();
        self.drain(&sent)?;
        let merged = Merged::of(&self.crew.report(&sent.newest)?)?;
        let mut outcome = self.outcome(began, seconds, events_per_s);
        self.fill(&mut outcome, &mut watched, &sent, &merged);
        Ok(Round { outcome, latency: merged.latency, blocked_max_ns: sent.blocked_max_ns })
    }

    /// Waits until everything has come, or nothing comes any more.
    fn drain(&mut self, sent: &Sent) -> Result<(), String> {
        let expected = (!self.setup.scenario.moves()).then(|| self.expected(sent));
        let (begun, mut changed, mut before) = (now_ns(), now_ns(), None);
        loop {
            let count = self.crew.count()?;
            if expected.is_some_and(|expected| count.deliveries >= expected) {
                return Ok(());
            }
            let now = now_ns();
            if before != Some(count.deliveries) {
                (before, changed) = (Some(count.deliveries), now);
            }
            if now - changed > QUIET_NS || now - begun > DRAIN_NS {
                return Ok(());
            }
            sleep_until(now + SECOND_NS / 50);
        }
    }

    fn expected(&self, sent: &Sent) -> u64 {
        sent.by_channel.iter().zip(&self.audience).map(|(events, clients)| events * clients).sum()
    }

    /// What is known before anything was measured.
    #[must_use]
    pub fn outcome(&self, began: String, seconds: f64, intended_events_per_s: f64) -> Outcome {
        let (setup, running) = (&self.setup, &self.running);
        Outcome {
            scenario: setup.scenario.name.clone(),
            server: setup.server.name.clone(),
            server_version: running.version.clone(),
            server_command: running.command.clone(),
            round: 0,
            began,
            seconds,
            clients: setup.scenario.clients,
            payload_bytes: setup.scenario.payload_bytes,
            intended_events_per_s,
            events: 0,
            deliveries: 0,
            expected: 0,
            duplicates: 0,
            lost: 0,
            told_missing: 0,
            disconnected: 0,
            latency_us: crate::outcome::Quantiles::default(),
            spread_us: None,
            fairness: None,
            server_use: Use::default(),
            load_use: Use::default(),
            memory: self.memory(),
            series: Vec::new(),
            extra: serde_json::Map::new(),
            invalid: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// What the server and its sockets hold now.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            user_bytes_before: self.memory_before,
            user_bytes: usage::anonymous_bytes(&[self.running.pid()]),
            socket_bytes: usage::socket_bytes(),
        }
    }

    fn fill(&mut self, outcome: &mut Outcome, watched: &mut Watched, sent: &Sent, merged: &Merged) {
        outcome.events = sent.events();
        outcome.deliveries = merged.deliveries;
        outcome.duplicates = merged.duplicates;
        outcome.told_missing = merged.told;
        outcome.disconnected = merged.disconnected;
        // Each client's receipts are held against what it missed since the last part.
        outcome.lost = merged.lost;
        outcome.expected = if self.setup.scenario.moves() {
            merged.deliveries + merged.missing
        } else {
            self.expected(sent)
        };
        // A break of a recorded feed's channel counts as one, but how much there was is known. Who
        // was cut off was told so.
        if !self.setup.scenario.moves() && merged.disconnected == 0 {
            let missing = outcome.expected.saturating_sub(merged.deliveries);
            outcome.lost = outcome.lost.max(missing.saturating_sub(merged.told));
        }
        outcome.latency_us = histogram::quantiles(&merged.latency);
        outcome.spread_us = merged.spread;
        outcome.fairness = merged.fairness;
        let seconds = outcome.seconds;
        outcome.server_use = watched.server_use(&self.setup, seconds);
        outcome.load_use = watched.load_use(&self.setup, seconds, merged);
        outcome.series = watched.series(sent, merged);
        let extra = &mut outcome.extra;
        extra.insert("producer_late_max_us".into(), json!(sent.late_max_ns / 1000));
        extra.insert("producer_blocked_max_us".into(), json!(sent.blocked_max_ns / 1000));
        extra.insert("soft_interrupts_s".into(), json!(watched.soft_interrupts_s));
        if merged.refused > 0 {
            extra.insert("refused".into(), json!(merged.refused));
        }
        if let Some(slope) = watched.leak_bytes_per_s() {
            extra.insert("leak_bytes_per_min".into(), json!(slope * 60.0));
        }
        outcome.broken = sent.broken.iter().cloned().chain(self.running.ended()).collect();
        outcome.invalid = verdict::reasons(&Facts {
            server_busy: outcome.server_use.busy,
            load_busy: outcome.load_use.busy,
            late_max_ns: sent.late_max_ns,
            others: std::mem::take(&mut watched.others),
            clock_step_ns: watched.clock_step_ns,
            broken: outcome.broken.clone(),
        });
    }
}

fn plans(setup: &Setup, running: &Running, channels: u64) -> Vec<Plan> {
    let scenario = &setup.scenario;
    let processes = setup.processes.clamp(1, scenario.clients.max(1));
    let part = |place: u64| {
        let first = scenario.clients * place / processes;
        let count = scenario.clients * (place + 1) / processes - first;
        let share = count as f64 / scenario.clients.max(1) as f64;
        Plan {
            server: running.subscribers,
            kind: setup.server.subscribe,
            path: setup.server.path.clone(),
            subject: setup.server.target.clone(),
            deflate: setup.server.deflate,
            certificate: running.certificate.clone(),
            payload_bytes: usize::try_from(scenario.payload_bytes).expect("it was checked"),
            cpus: setup.load_cpus.clone(),
            first,
            count,
            channels,
            channels_per_client: scenario.channels_per_client,
            mixed: scenario.kind == Kind::Capture,
            stalled: scenario.stalled,
            stay: (scenario.kind == Kind::Storm).then_some(scenario.stay),
            churn_per_s: scenario.churn_per_s * count as f64,
            changes_per_s: scenario.changes_per_s * share,
            readers: scenario.readers,
            stride: if scenario.kind == Kind::Capture { 0 } else { channels },
            subscribe: scenario.kind != Kind::Idle,
        }
    };
    (0..processes).map(part).collect()
}

fn audience(scenario: &Scenario, channels: u64) -> Vec<u64> {
    let mut audience = vec![0; usize::try_from(channels).expect("channels are few")];
    let (per_client, mixed) = (scenario.channels_per_client, scenario.kind == Kind::Capture);
    let stays = |client: u64| scenario.kind != Kind::Storm || client < scenario.stay;
    let clients = (0..scenario.clients).filter(|&client| !is_stalled(client, scenario.stalled));
    for client in clients.filter(|&client| stays(client)) {
        for channel in channels_of(client, channels, per_client, mixed) {
            audience[channel as usize] += 1;
        }
    }
    audience
}
