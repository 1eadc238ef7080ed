//! The instructions that each case needed when they were last accepted, and how many more may be.
//!
//! Not here: the counting. Invariant: counts are compared with a baseline of the same compiler, or
//! the difference is told and judged by nobody.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

/// Percent that a count may be above its baseline: what moves when code elsewhere changes.
pub const CHANGE_PERCENT_MAX: f64 = 2.0;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/micro/baseline.toml");

const HEAD: &str = "\
# User-mode instructions for one unit of each case (scripts/micro says which unit), counted by
# callgrind. Written by `scripts/micro --accept`; the commit that does so says why.

";

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The compiler of the counted programs.
    rustc: String,
    /// Instructions by name of the case.
    pub cases: BTreeMap<String, f64>,
}

impl Baseline {
    /// Reads the file; nothing when there is none yet.
    pub fn read() -> Self {
        let Ok(text) = fs::read_to_string(PATH) else { return Self::default() };
        toml::from_str(&text).unwrap_or_else(|error| panic!("{PATH}: {error}"))
    }

    /// Writes the file, rounded to tenths.
    pub fn write(&self) {
        let round = |(name, count): (&String, &f64)| (name.clone(), (count * 10.0).round() / 10.0);
        let cases = self.cases.iter().map(round).collect();
        let rounded = Self { rustc: rustc(), cases };
        fs::write(PATH, HEAD.to_owned() + &toml::to_string(&rounded).unwrap()).unwrap();
        println!("written: {PATH}");
    }
}

/// The exit code when there is nothing to judge by.
const NOT_JUDGED: u8 = 3;

/// The verdict, where the cases `more` are above their baseline or have none.
pub fn judge(baseline: &Baseline, more: &[&str]) -> ExitCode {
    let here = rustc();
    if baseline.rustc != here {
        println!(
            "NOT JUDGED: the baseline is of '{}', this is '{here}'. Cure: `scripts/micro --accept` \
             on a commit that is known to be good",
            baseline.rustc
        );
        return ExitCode::from(NOT_JUDGED);
    }
    if more.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!(
        "FAILED: {} needs more than {CHANGE_PERCENT_MAX} % above the baseline. Cure: make it \
         cheaper (`scripts/micro --profile {}` says where it goes), or `scripts/micro --accept` \
         and say why in the commit",
        more.join(", "),
        more[0]
    );
    ExitCode::FAILURE
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
