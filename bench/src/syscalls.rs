//! System calls of a server for each delivery, counted by `strace` in a round of its own, because
//! counting slows the server down.
//!
//! Invariant: nothing else of that round is used, and no figure is made of a round that the server
//! broke or in which nothing came. Whatever else a round is invalid for, strace causes.

use std::fs;
use std::process::{Command, Stdio};

use crate::outcome::Outcome;
use crate::rig::{Rig, Setup};
use crate::scenario::{Kind, Scenario};

const SECONDS: f64 = 3.0;

/// Whether they can be counted, to be asked before anything is measured.
///
/// # Errors
/// When there is no strace, or nothing to divide by.
pub fn check(scenario: &Scenario) -> Result<(), String> {
    if scenario.kind == Kind::Idle {
        let name = &scenario.name;
        return Err(format!("--syscalls: {name} has no deliveries; leave one of them out"));
    }
    let mut strace = Command::new("strace");
    let ran = strace.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).status();
    ran.map(|_| ()).map_err(|error| no_strace(&error))
}

fn no_strace(error: &std::io::Error) -> String {
    format!("strace: {error}; install it: apt-get install strace")
}

/// Counts them in a short round.
///
/// # Errors
/// When there is no strace, or the round failed.
pub fn per_delivery(setup: &Setup) -> Result<f64, String> {
    let mut rig = Rig::start(setup)?;
    let pid = rig.running.pid();
    let file = std::env::temp_dir().join(format!("fanfare-bench-strace-{pid}"));
    let pids: Vec<String> = crate::usage::family(&[pid])
        .iter()
        .flat_map(|pid| ["-p".into(), pid.to_string()])
        .collect();
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&file)
        .args(pids)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| no_strace(&error))?;
    let pace = rig.pace(setup.scenario.events_per_s);
    let round = rig.part(pace, 0.0, SECONDS, |_| Ok(()));
    let interrupt = i32::try_from(strace.id()).expect("process numbers fit");
    // SAFETY: it is our child and not reaped yet.
    unsafe { libc::kill(interrupt, libc::SIGINT) };
    strace.wait().map_err(|error| format!("strace: {error}"))?;
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    // It is in the folder for temporary files.
    let _ = fs::remove_file(&file);
    let calls = total(&text).ok_or_else(|| format!("strace printed no total:\n{text}"))?;
    each(calls, &round?.outcome)
}

/// Calls for each delivery, of all that came before strace was stopped.
fn each(calls: f64, outcome: &Outcome) -> Result<f64, String> {
    if let Some(why) = outcome.broken.first() {
        return Err(format!("system calls: {why}"));
    }
    if outcome.deliveries == 0 {
        return Err("system calls: nothing was delivered while they were counted".into());
    }
    Ok(calls / outcome.deliveries as f64)
}

/// The number of calls in the line `100.00 0.012345 7 1234 [errors] total`.
fn total(table: &str) -> Option<f64> {
    let line = table.lines().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_shared_out_only_among_what_came_from_a_server_that_lived() {
        let mut outcome = Outcome { deliveries: 200, ..Outcome::default() };
        assert_eq!(each(50.0, &outcome), Ok(0.25));
        outcome.fail("the server ended".into());
        assert!(each(50.0, &outcome).unwrap_err().contains("ended"));
        assert!(each(50.0, &Outcome::default()).unwrap_err().contains("nothing was delivered"));
    }

    #[test]
    fn an_idle_scenario_has_nothing_to_share_them_out_among() {
        let idle = Scenario::load("idle").unwrap();
        assert!(check(&idle).unwrap_err().contains("idle has no deliveries"));
    }

    #[test]
    fn the_total_is_read_with_and_without_errors() {
        let head = "% time     seconds  usecs/call     calls    errors syscall\n";
        let with = format!("{head}100.00    0.5  6  8071   3 total\n");
        assert_eq!(total(&with), Some(8071.0));
        let without = format!("{head}100.00    0.5  6  8071     total\n");
        assert_eq!(total(&without), Some(8071.0));
        assert_eq!(total(head), None);
    }
}
