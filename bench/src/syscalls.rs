//! System calls of a server for each delivery, counted by `strace` in a round of its own, because
//! counting slows the server down.
//!
//! Invariant: nothing else of that round is used.

use std::fs;
use std::process::{Command, Stdio};

use crate::rig::{Rig, Setup};

const SECONDS: f64 = 3.0;

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
        .map_err(|error| format!("strace: {error}; install it: apt-get install strace"))?;
    let pace = rig.pace(setup.scenario.events_per_s);
    let round = rig.part(pace, 0.0, SECONDS, |_| Ok(()));
    let interrupt = i32::try_from(strace.id()).expect("process numbers fit");
    // SAFETY: it is our child and not reaped yet.
    unsafe { libc::kill(interrupt, libc::SIGINT) };
    strace.wait().map_err(|error| format!("strace: {error}"))?;
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    // It is in the folder for temporary files.
    let _ = fs::remove_file(&file);
    let deliveries = round?.outcome.deliveries.max(1) as f64;
    let calls = total(&text).ok_or_else(|| format!("strace printed no total:\n{text}"))?;
    Ok(calls / deliveries)
}

/// The number of calls in the line `100.00 0.012345 7 1234 [errors] total`.
fn total(table: &str) -> Option<f64> {
    let line = table.lines().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_total_is_read_with_and_without_errors() {
        let head = "% time     seconds  usecs/call     calls    errors syscall\n";
        let with = format!("{head}100.00    0.5  6  8071   3 total\n");
        assert_eq!(super::total(&with), Some(8071.0));
        let without = format!("{head}100.00    0.5  6  8071     total\n");
        assert_eq!(super::total(&without), Some(8071.0));
        assert_eq!(super::total(head), None);
    }
}
