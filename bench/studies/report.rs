//! What every measurement needs beside its figures: a folder of results, and where it was taken.
//!
//! Not here: what is measured. Invariant: a folder is named `<date>-<host>-<scenario>`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// Makes the folder of a run of today.
pub(crate) fn folder(scenario: &str) -> PathBuf {
    let host = read("/proc/sys/kernel/hostname");
    let name = format!("{}-{}-{scenario}", said_by("date", &["+%F"]), host.trim());
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

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a program prints.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| said_by("git", arguments);
    let changed = if git(&["status", "--porcelain", "src", "Cargo.lock"]).is_empty() {
        ""
    } else {
        " with changes in src"
    };
    format!("{}{changed}", git(&["rev-parse", "--short=12", "HEAD"]))
}

pub(crate) fn cpu() -> String {
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{} ({cores} CPUs)", model.trim_start_matches(['\t', ' ', ':']))
}
