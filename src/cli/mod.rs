//! What was typed, and what a person sees.
//!
//! Each command is one file; `main` calls [`run`]. Not here: what the settings mean (`config`).
//! Invariant: an error is printed once, on standard error, and its kind decides the exit code: 2
//! for wrong settings or usage, 1 for a failure at run time.

#![deny(clippy::print_stderr)] // `say` does, which fails for nobody.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod buckets;
pub mod control;
pub mod credentials;
pub mod demo;
pub mod doctor;
pub mod drill;
pub mod ends;
pub mod failure;
pub mod figures;
pub mod flags;
pub mod key;
pub mod logging;
pub mod manual;
pub mod operator;
pub mod plan;
pub mod progress;
pub mod publish;
pub mod record;
pub mod replay;
pub mod say;
pub mod serve;
pub mod subscribe;
pub mod table;
pub mod tally;
pub mod top;
pub mod verify;
pub mod view;
pub mod watch;
pub mod wish;

use failure::Failure;
use say::say;

const FIRST_STEPS: &str = "\
First steps:
  fanfare demo                                             a real market feed, live
  fanfare subscribe ws://127.0.0.1:9001/v1 '>' --table     read it, in another terminal
  fanfare serve --source tcp://127.0.0.1:9002              serve your own feed";

/// Broadcasts market data to WebSocket subscribers: io_uring, one thread per core.
#[derive(Debug, Parser)]
#[command(version, after_help = FIRST_STEPS, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the product: a real Binance capture, served and looping
    Demo(demo::Demo),
    /// Serve events from sources to WebSocket subscribers
    Serve(Box<serve::Serve>),
    /// Subscribe to channels and print what arrives
    Subscribe(subscribe::Subscribe),
    /// Send events from a pipe or a file to a server
    Publish(publish::Publish),
    /// Record a live feed into a file
    Record(record::Record),
    /// Play a capture: to a server, or to subscribers
    Replay(replay::Replay),
    /// Compare what a client has with what the server has
    Verify(verify::Verify),
    /// Look at this host: what keeps a server from starting, what makes it slow
    Doctor(doctor::Doctor),
    /// Show what a running server does: cores, channels, slowest clients
    Top(top::Top),
    /// Work out how many nodes a number of clients takes
    Plan(plan::Plan),
    /// Make a key for the access file
    Key(key::Key),
    /// Send the clients of a running server away, one by one, and end it
    Drain(control::Drain),
    /// Make a running server read its settings, certificates and access rules again
    Reload(control::Reload),
    /// Say how a running server is
    Status(control::Status),
    /// Write the manual page
    Man(manual::Man),
    /// Write completions for a shell
    Completions(manual::Completions),
    /// Close one connection of a running server
    Kick(operator::Kick),
    /// Rehearse a failure on a running server
    Drill(drill::Drill),
}

/// Runs the program; the arguments are those of the process.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Arguments::parse().command {
        None => return help(),
        Some(Command::Demo(demo)) => demo.run(),
        Some(Command::Serve(serve)) => serve.run(),
        Some(Command::Subscribe(subscribe)) => subscribe.run(),
        Some(Command::Publish(publish)) => publish.run(),
        Some(Command::Record(record)) => record.run(),
        Some(Command::Replay(replay)) => replay.run(),
        Some(Command::Verify(verify)) => verify.run(),
        Some(Command::Doctor(doctor)) => doctor.run(),
        Some(Command::Top(top)) => top.run(),
        Some(Command::Plan(plan)) => plan.run(),
        Some(Command::Key(key)) => key.run(),
        Some(Command::Drain(drain)) => drain.run(),
        Some(Command::Reload(reload)) => reload.run(),
        Some(Command::Status(status)) => status.run(),
        Some(Command::Man(man)) => man.run(Arguments::command()),
        Some(Command::Completions(completions)) => completions.run(Arguments::command()),
        Some(Command::Kick(kick)) => kick.run(),
        Some(Command::Drill(drill)) => drill.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Said) {
                say(&failure);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn help() -> ExitCode {
    match Arguments::command().print_help() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_begins_with_three_commands_to_try_and_names_each_settings_variable() {
        let mut command = Arguments::command();
        let help = command.render_help().to_string();
        assert!(help.ends_with(&format!("{FIRST_STEPS}\n")), "{help}");
        let serve = command.find_subcommand_mut("serve").unwrap().render_help().to_string();
        let words = serve.split_whitespace().collect::<Vec<_>>().join(" ");
        for key in crate::config::keys::KEYS {
            assert!(words.contains(&key.flag()), "{} in {words}", key.flag());
            assert!(words.contains(&format!("[env: {}]", key.variable())), "{}", key.name);
        }
        assert!(words.contains("[default: 64MiB] [env: FANFARE_LOG_BYTES]"), "{words}");
    }
}
