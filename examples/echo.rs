//! An echo for conformance suites: `FANFARE_LISTEN=127.0.0.1:9011 cargo run --example echo`.
//!
//! It is the server itself, with one difference: each message comes back to its sender, of up to
//! 16 MiB, compressed if that was agreed on, also with context takeover. Settings are the
//! variables of `fanfare serve` that concern connections, such as `FANFARE_TLS_LISTEN` with
//! `FANFARE_TLS_CERTIFICATES`. It ends with SIGINT or SIGTERM.

use std::process::ExitCode;

use fanfare::cli::failure::Failure;
use fanfare::cli::flags::host;
use fanfare::cli::serve::Running;
use fanfare::cli::watch::Display;
use fanfare::config::raw::environment;
use fanfare::server::echo;
use fanfare::shell::signals::Stop;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run() -> Result<(), Failure> {
    let settings = echo::settings(&environment(std::env::vars()), &host())
        .map_err(|problems| Failure::Usage(problems.to_string()))?;
    let running = Running::start(&settings, Stop::install(), None)?;
    running.say_ready()?;
    running.run(Display::Nothing)
}
