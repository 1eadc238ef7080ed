//! Where a run was taken: hardware, kernel, tuning, and the program.
//!
//! The studies have it as well. Not here: what it used. Invariant: what cannot be read is said to
//! be unknown, and never guessed.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Everything that a figure may depend on.
#[must_use]
pub fn describe() -> Value {
    let memory = field("/proc/meminfo", "MemTotal");
    json!({
        "host": host(),
        "cpu": cpu(),
        "kernel": kernel(),
        "memory": memory,
        "tuning": {
            "somaxconn": read("/proc/sys/net/core/somaxconn"),
            "tcp_max_syn_backlog": read("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
            "tcp_wmem": read("/proc/sys/net/ipv4/tcp_wmem"),
            "tcp_rmem": read("/proc/sys/net/ipv4/tcp_rmem"),
            "tcp_mem": read("/proc/sys/net/ipv4/tcp_mem"),
            "port_range": read("/proc/sys/net/ipv4/ip_local_port_range"),
            "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "turbo_off": read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
            "huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled"),
            "mitigations": mitigations(),
        },
    })
}

/// The host's name.
#[must_use]
pub fn host() -> String {
    read("/proc/sys/kernel/hostname")
}

/// The kernel's version.
#[must_use]
pub fn kernel() -> String {
    read("/proc/sys/kernel/osrelease")
}

/// Today (UTC), as folders are named.
#[must_use]
pub fn today() -> String {
    let now = jiff::Timestamp::now().to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

/// What this program was built as: the folder that cargo puts a profile's programs into.
#[must_use]
pub fn profile() -> String {
    let this = std::env::current_exe().unwrap_or_default();
    let folder = this.parent().and_then(Path::file_name).unwrap_or_default();
    folder.to_string_lossy().into_owned()
}

/// The commit that this program's checkout is at.
#[must_use]
pub fn commit() -> String {
    // Of the harness or of the whole; the paths below are the repository's.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|text| !text.is_empty());
    let changed = git(&["status", "--porcelain", ":/src", ":/bench", ":/Cargo.lock"]);
    let changed = changed.is_some_and(|text| !text.is_empty());
    commit.unwrap_or_else(|| "unknown".into()) + if changed { " with changes" } else { "" }
}

fn read(path: &str) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Err(_) => "unknown".into(),
    }
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned())
}

/// The processor, and how many CPUs it has here.
#[must_use]
pub fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    format!("{} ({count} CPUs)", field("/proc/cpuinfo", "model name"))
}

fn mitigations() -> Value {
    let folder = "/sys/devices/system/cpu/vulnerabilities";
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<(String, String)> = entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let state = read(&entry.path().to_string_lossy());
            (name, state)
        })
        .filter(|(_, state)| state != "Not affected")
        .collect();
    all.sort_unstable();
    all.into_iter()
        .map(|(name, state)| (name, Value::from(state)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
