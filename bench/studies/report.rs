//! What every measurement needs beside its figures: a folder of results, and how it was taken.
//!
//! Not here: what is measured. Invariant: a folder is named `<date>-<host>-<scenario>`.

use std::fs;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

#[path = "../src/machine.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is the harness', which says more")]
mod machine;

#[allow(unused_imports, reason = "not every study uses all of them")]
pub(crate) use machine::{commit, cpu, kernel};

/// Makes the folder of a run of today.
pub(crate) fn folder(scenario: &str) -> PathBuf {
    let name = format!("{}-{}-{scenario}", machine::today(), machine::host());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Writes the figures for programs.
pub(crate) fn write_summary(folder: &Path, summary: &Value) {
    let text = serde_json::to_string_pretty(summary).unwrap();
    fs::write(folder.join("summary.json"), text + "\n").unwrap();
}

/// How and where a run was taken, for its page.
pub(crate) fn taken(summary: &Value) -> String {
    let field = |name: &str| summary[name].as_str().unwrap();
    let said = |name: &str| summary[name].as_str();
    let server = said("server_command").map(|server| format!(" (server: `{server}`)"));
    let file_system = said("file_system").map(|name| format!("- File system: {name}\n"));
    format!(
        "- Command: `{}`{}\n- Commit: {} ({})\n{}- Kernel: {}\n- CPU: {}\n",
        field("command"),
        server.unwrap_or_default(),
        field("commit"),
        field("profile"),
        file_system.unwrap_or_default(),
        field("kernel"),
        field("cpu"),
    )
}

pub(crate) fn progress(what: &str, count: usize) -> ProgressBar {
    let template = "{msg:>10} {bar:40} {human_pos}/{human_len} {per_sec} {eta}";
    let style = ProgressStyle::with_template(template).expect("a constant");
    ProgressBar::new(count as u64).with_style(style).with_message(what.to_owned())
}

#[allow(dead_code, reason = "not every study reads files")]
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
