//! `fanfare man` and `fanfare completions`: what a package installs beside the program.
//!
//! Not here: the commands and their help, from which both are made. Invariant: what is written is
//! what this very program takes.

use std::io::{Write, stdout};

use clap::Command;
use clap_complete::Shell;

use super::failure::{Failure, written};

/// Writes the manual page of fanfare, or of one of its commands.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// The command, such as serve [default: fanfare as a whole]
    command: Option<String>,
}

/// Writes what completes commands and flags in a shell.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Man {
    /// Writes the page of `program`, or of a command of it, to standard output.
    ///
    /// # Errors
    /// There is no such command; standard output cannot be written to.
    pub fn run(&self, mut program: Command) -> Result<(), Failure> {
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => {
                let command = program.find_subcommand(name).cloned();
                let command = command.ok_or_else(|| {
                    Failure::Usage(format!("man: there is no command `{name}`; see fanfare --help"))
                })?;
                command.display_name(format!("fanfare-{name}"))
            }
        };
        let mut text = Vec::new();
        let made = clap_mangen::Man::new(page).render(&mut text);
        written(made.and_then(|()| stdout().write_all(&text))).map(drop)
    }
}

impl Completions {
    /// Writes the completions of `program` to standard output.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn run(&self, mut program: Command) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut program, "fanfare", &mut text);
        written(stdout().write_all(&text)).map(drop)
    }
}
