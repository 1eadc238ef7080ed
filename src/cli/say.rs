//! Words for people, on standard error.
//!
//! Not here: the log of a server (`logging`), and what was asked for, which goes to standard output
//! (`failure::written`). Invariant: that nobody reads them any more ends no command.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line, if standard error can be written to.
pub fn say(line: impl Display) {
    // In one piece, so that lines of several threads do not mix.
    let line = format!("{line}\n");
    let _nobody_reads = io::stderr().write_all(line.as_bytes());
}
