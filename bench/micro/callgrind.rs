//! Runs one case of this program under callgrind.
//!
//! Counts must not depend on the host. Valgrind shows every program the same processor, and the C
//! library is told to use its plain routines for memory. Not here: what is done with the counts.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::case::Case;

/// Instructions for one unit of `case`.
pub fn count(case: &Case) -> f64 {
    let (units, out) = run(case);
    let text = std::fs::read_to_string(out).unwrap();
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: f64 = totals.expect("callgrind sums up").trim().parse().unwrap();
    total / units
}

/// Prints which functions the instructions of `case` are in.
pub fn profile(case: &Case) {
    let (units, out) = run(case);
    println!("divide by {units} for one of: {}", case.unit);
    let annotate = Command::new("callgrind_annotate").args(["--auto=no"]).arg(out).status();
    assert!(annotate.unwrap().success(), "callgrind_annotate comes with valgrind");
}

/// Runs `case`; returns its units, and the file with the counts.
fn run(case: &Case) -> (f64, PathBuf) {
    let program = std::env::current_exe().unwrap();
    let out = program.with_file_name(format!("micro.{}.callgrind", case.name));
    let output = Command::new("valgrind")
        .args(["-q", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--run", case.name])
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2_Usable,-AVX2,-AVX512F,-ERMS,-FSRM")
        .stderr(Stdio::inherit())
        .output()
        .expect("valgrind can be started; scripts/micro installs it");
    assert!(output.status.success(), "{}: {}", case.name, output.status);
    (String::from_utf8(output.stdout).unwrap().trim().parse().unwrap(), out)
}
