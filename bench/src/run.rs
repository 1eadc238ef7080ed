//! `fanfare-bench run`: scenarios, each with rounds of all servers that take turns.
//!
//! Not here: a round (`kinds`). Invariant: servers take turns (A B C A B C), so that a change of
//! the machine meets all of them.

use std::path::PathBuf;

use crate::cpus;
use crate::kinds::round;
use crate::outcome::Outcome;
use crate::report;
use crate::results::Folder;
use crate::rig::Setup;
use crate::scenario::{Readers, Scenario};
use crate::server::{self, Server};
use crate::syscalls;

/// Measures scenarios and writes a folder of results for each
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Scenarios, by name; see `fanfare-bench list`
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// Servers, joined by commas [default: all that can do it and are installed]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    servers: Vec<String>,
    /// Where the folders go [default: results/ of the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Count system calls in a short round of its own for each server (needs strace)
    #[arg(long)]
    syscalls: bool,
    #[command(flatten)]
    load: Load,
}

/// What both commands can change of a scenario.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Rounds of each server [default: the scenario's]
    #[arg(long, value_name = "N")]
    pub rounds: Option<u32>,
    /// The measured part [default: the scenario's]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Subscribers [default: the scenario's]
    #[arg(long, value_name = "N")]
    clients: Option<u64>,
    /// What subscribers do when there is nothing to read [default: the scenario's]
    #[arg(long)]
    readers: Option<Readers>,
    /// CPUs of the server, joined by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0")]
    server_cpus: Vec<usize>,
    /// CPUs of producer and subscribers
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1")]
    load_cpus: Vec<usize>,
    /// Processes of subscribers, each with a thread on every load CPU
    #[arg(long, value_name = "N", default_value_t = 1)]
    processes: u64,
}

impl Load {
    /// The scenario as it was asked for.
    ///
    /// # Errors
    /// What is wrong with a file or a flag.
    pub fn scenario(&self, name: &str) -> Result<Scenario, String> {
        let mut scenario = Scenario::load(name)?;
        scenario.rounds = self.rounds.unwrap_or(scenario.rounds).max(1);
        scenario.seconds = self.seconds.unwrap_or(scenario.seconds);
        scenario.readers = self.readers.unwrap_or(scenario.readers);
        if let Some(clients) = self.clients {
            // In a storm, as many stay as before, of the whole.
            scenario.stay = scenario.stay * clients / scenario.clients.max(1);
            scenario.clients = clients;
        }
        scenario.check()?;
        Ok(scenario)
    }

    /// One server with one scenario.
    ///
    /// # Errors
    /// CPUs that are not there, or a scenario that the server cannot do.
    pub fn setup(&self, scenario: &Scenario, server: Server) -> Result<Setup, String> {
        let available = cpus::available();
        let all = self.server_cpus.iter().chain(&self.load_cpus);
        if let Some(cpu) = all.clone().find(|cpu| !available.contains(cpu)) {
            return Err(format!(
                "CPU {cpu} is not among those that this process may use ({available:?}); choose \
                 with --server-cpus and --load-cpus"
            ));
        }
        let mut scenario = scenario.clone();
        if let Some(shared) = self.server_cpus.iter().find(|cpu| self.load_cpus.contains(cpu)) {
            eprintln!(
                "CPU {shared} is both the server's and the load's: latencies are of both, and \
                 readers sleep"
            );
            scenario.readers = Readers::Sleep;
        }
        if self.processes > 1 {
            // Their threads share CPUs.
            scenario.readers = Readers::Sleep;
        }
        if scenario.tls != server.tls {
            let (scenario, tls) = (&scenario.name, if scenario.tls { "needs" } else { "has no" });
            return Err(format!("{scenario} {tls} TLS; {} is another server", server.name));
        }
        if !scenario.is_for(&server) {
            return Err(format!(
                "{} is only for fanfare, which {} is not; where a server can do it, say 'peers = \
                 true' in the scenario's file, or name it in its 'servers'",
                scenario.name, server.name
            ));
        }
        Ok(Setup {
            scenario,
            server,
            server_cpus: self.server_cpus.clone(),
            load_cpus: self.load_cpus.clone(),
            processes: self.processes,
            program: None,
        })
    }
}

impl Run {
    /// Runs everything.
    ///
    /// # Errors
    /// What is wrong, where, and the cure.
    pub fn run(&self) -> Result<(), String> {
        let scenarios: Vec<Scenario> =
            self.scenarios.iter().map(|name| self.load.scenario(name)).collect::<Result<_, _>>()?;
        if self.syscalls {
            scenarios.iter().try_for_each(syscalls::check)?;
        }
        let all: Vec<Vec<Setup>> = scenarios
            .iter()
            .map(|scenario| {
                let servers = self.servers_of(scenario)?;
                let setups = servers.into_iter().map(|server| self.load.setup(scenario, server));
                setups.collect()
            })
            .collect::<Result<_, String>>()?;
        let mut broken = Vec::new();
        for setups in all {
            let name = &setups[0].scenario.name;
            broken.extend(
                self.scenario(&setups).unwrap_or_else(|why| vec![format!("{name}: {why}")]),
            );
        }
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    }

    /// Runs one, without the servers that fail on the way; returns which these were, and why. What
    /// the others did is not lost by it.
    ///
    /// # Errors
    /// What was measured cannot be kept.
    fn scenario(&self, setups: &[Setup]) -> Result<Vec<String>, String> {
        let out = self.out.clone().unwrap_or_else(|| server::repository().join("results"));
        let mut folder = Folder::create(&out, setups)?;
        let mut broken = Vec::new();
        let rounds = setups[0].scenario.rounds;
        let mut setups: Vec<_> = setups.iter().collect();
        for number in 1..=rounds {
            let mut left = Vec::new();
            for setup in setups {
                let mut round = match round(setup) {
                    Ok(round) => round,
                    Err(error) => {
                        let (server, scenario) = (&setup.server.name, &setup.scenario.name);
                        eprintln!("{scenario} goes on without {server}");
                        broken.push(format!("{scenario} with {server}: {error}"));
                        continue;
                    }
                };
                round.outcome.round = number;
                println!("{}", line(&round.outcome));
                folder.add(round)?;
                left.push(setup);
            }
            setups = left;
        }
        if folder.rounds().is_empty() {
            return Ok(broken);
        }
        if self.syscalls {
            for setup in &setups {
                let (server, scenario) = (&setup.server.name, &setup.scenario.name);
                match syscalls::per_delivery(setup) {
                    Ok(per_delivery) => {
                        println!("{server:>24} {per_delivery:.3} system calls a delivery");
                        folder.note_syscalls(server, per_delivery)?;
                    }
                    Err(error) => broken.push(format!("{scenario} with {server}: {error}")),
                }
            }
        }
        let path = folder.path();
        report::write(path).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", path.canonicalize().unwrap_or_else(|_| path.to_owned()).display());
        Ok(broken)
    }

    fn servers_of(&self, scenario: &Scenario) -> Result<Vec<Server>, String> {
        if !self.servers.is_empty() {
            return self.servers.iter().map(|name| Server::load(name)).collect();
        }
        let is_named = !scenario.servers.is_empty();
        let names = if is_named { scenario.servers.clone() } else { server::names() };
        let mut chosen = Vec::new();
        for name in names {
            let server = Server::load(&name)?;
            let is_meant = !server.by_name && server.tls == scenario.tls;
            if !(is_named || is_meant && scenario.is_for(&server)) {
                continue;
            }
            if server.is_installed() {
                chosen.push(server);
            } else {
                let peer = server.peer();
                eprintln!("{name} is left out; to measure it, run bench/peers/install {peer}");
            }
        }
        if chosen.is_empty() {
            return Err(format!("no server in bench/servers can do {}", scenario.name));
        }
        Ok(chosen)
    }
}

/// A round for people.
#[must_use]
pub fn line(outcome: &Outcome) -> String {
    let figure = |name| report::metric(outcome, name);
    let per_s = figure("deliveries_per_s").unwrap_or(0.0);
    let cpu = figure("cpu_ns_per_delivery");
    let cpu = cpu.map_or_else(String::new, |cpu| format!("{:.2} µs", cpu / 1000.0));
    let mut text = format!(
        "{:>24} {}: {per_s:.0} deliveries/s, p50 {:.2} ms, p99 {:.2} ms, {cpu} CPU each, server \
         {:.0} %, load {:.0} %",
        outcome.server,
        outcome.round,
        outcome.latency_us.p50 / 1000.0,
        outcome.latency_us.p99 / 1000.0,
        outcome.server_use.busy * 100.0,
        outcome.load_use.busy * 100.0,
    );
    let late = outcome.deliveries.saturating_sub(outcome.arrived());
    if late * 100 > outcome.deliveries {
        let share = late as f64 / outcome.deliveries as f64 * 100.0;
        text += &format!(", {share:.0} % came after the end");
    }
    for (count, what) in [
        (outcome.lost, "lost"),
        (outcome.told_missing, "told missing"),
        (outcome.duplicates, "twice"),
        (outcome.disconnected, "cut off"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    for reason in &outcome.invalid {
        text += &format!("\n{:>24} does not count: {reason}", "");
    }
    text
}
