//! `fanfare-bench`: open-loop load for fan-out servers.
//!
//! Not here: the measurements; each has its file. Invariant: a figure leaves this program only in
//! an [`outcome::Outcome`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod clock;
pub mod compare;
pub mod continuity;
pub mod cpus;
pub mod crew;
pub mod feed;
pub mod floor;
pub mod frames;
pub mod histogram;
pub mod kinds;
pub mod launch;
pub mod left;
pub mod machine;
pub mod merged;
pub mod nats;
pub mod orders;
pub mod outcome;
pub mod payload;
pub mod producer;
pub mod publisher;
pub mod report;
pub mod results;
pub mod rig;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod server;
pub mod subscribers;
pub mod syscalls;
pub mod usage;
pub mod verdict;
pub mod watch;

/// Open-loop load for WebSocket fan-out
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Compare(compare::Compare),
    /// Sends the same bytes to the same number of sockets, without a protocol
    Floor {
        /// Where subscribers connect
        #[arg(long)]
        listen: SocketAddr,
        /// Where the producer connects
        #[arg(long)]
        feed: SocketAddr,
        /// A certificate and its key: subscribers connect with TLS
        #[arg(long, value_name = "PEM")]
        tls: Option<PathBuf>,
    },
    /// Makes the pages of runs again, and those over all runs
    Report {
        /// A run, or a folder of runs [default: results/ of this checkout]
        folders: Vec<PathBuf>,
    },
    /// Writes the newest figures into the README
    Readme {
        /// Changes nothing, and fails where the README is stale
        #[arg(long)]
        check: bool,
    },
    /// Prints the scenarios and the servers
    List,
    /// A process of clients, told what to do by lines on standard input
    #[command(hide = true)]
    Subscribers,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(run) => left::end_on_signals().and_then(|()| run.run()),
        Command::Compare(compare) => left::end_on_signals().and_then(|()| compare.run()),
        Command::Floor { listen, feed, tls } => {
            floor::run(listen, feed, tls.as_deref()).map_err(|error| format!("floor: {error}"))
        }
        Command::Report { folders } => report::report(&folders).map_err(|error| error.to_string()),
        Command::Readme { check } => report::readme(check).map_err(|error| error.to_string()),
        Command::List => list(),
        Command::Subscribers => subscribers::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("fanfare-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), String> {
    println!("scenarios:");
    for name in scenario::names() {
        let scenario = scenario::Scenario::load(&name)?;
        println!("  {name:<16} {}", scenario.question);
    }
    println!("servers:");
    for name in server::names() {
        let server = server::Server::load(&name)?;
        let state = if server.is_installed() { "" } else { " (not installed)" };
        println!("  {name:<16} {}{state}", server.title);
    }
    Ok(())
}
