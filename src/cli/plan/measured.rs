//! What runs in `results/` have measured of one core.
//!
//! The figures are in `measured.toml`, which the test below holds against the newest runs, and
//! writes with `UPDATE=1`. Invariant: a figure is a range, from the least to the most that was
//! measured, and names its runs.

use serde::Deserialize;

/// From the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Range {
    /// Both ends, through something that rises.
    pub(super) fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self { low: change(self.low), high: change(self.high) }
    }

    /// Both ends, through something that falls.
    pub(super) fn turned(self, change: impl Fn(f64) -> f64) -> Self {
        Self { low: change(self.high), high: change(self.low) }
    }
}

/// The figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measured {
    /// CPU of a send with one event in it, nanoseconds.
    pub(super) send_ns: Range,
    /// CPU of one event more in a send, nanoseconds.
    pub(super) event_ns: Range,
    /// The same over TLS.
    pub(super) tls_event_ns: Range,
    /// Memory of a connection that has nothing to do, bytes.
    pub(super) connection_bytes: Range,
    /// The same over TLS.
    pub(super) tls_connection_bytes: Range,
    /// Clients that a core takes back in a second after all were dropped.
    pub(super) handshakes_per_s: Range,
    /// Events that a node takes in.
    pub(super) ingest_per_s: Range,
    /// The runs.
    runs: Vec<String>,
}

impl Measured {
    /// As recorded.
    pub(super) fn recorded() -> Self {
        toml::from_str(include_str!("measured.toml")).expect("a test reads it")
    }

    /// Folders of the runs.
    pub(super) fn sources(&self) -> Vec<&str> {
        self.runs.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::*;

    /// fanfare's figures of the newest run of a scenario in which rounds count; and its folder.
    fn newest(scenario: &str) -> (String, Value) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let mut folders: Vec<PathBuf> =
            fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        for folder in folders.iter().rev() {
            let Ok(text) = fs::read_to_string(folder.join("summary.json")) else { continue };
            let summary: Value = serde_json::from_str(&text).unwrap();
            if summary["scenario"] != scenario {
                continue;
            }
            let servers = summary["servers"].as_array().unwrap();
            let ours = |server: &&Value| server["server"].as_str().unwrap().starts_with("fanfare");
            let Some(server) = servers.iter().find(ours) else { continue };
            if server["rounds_valid"].as_u64() > Some(0) {
                let name = folder.file_name().unwrap().to_str().unwrap();
                return (format!("results/{name}"), server["figures"].clone());
            }
        }
        panic!("no run of {scenario} counts");
    }

    fn range(figure: &Value) -> Range {
        // Memory is the difference of two looks, which may be within their noise.
        let end = |name: &str| figure[name].as_f64().unwrap().max(0.0);
        Range { low: end("min"), high: end("max") }
    }

    /// What the newest runs say, as it is kept.
    fn of_results() -> String {
        let mut runs = Vec::new();
        let mut of = |scenario: &str, metric: &str| {
            let (run, figures) = newest(scenario);
            if !runs.contains(&run) {
                runs.push(run);
            }
            range(&figures[metric])
        };
        // Where a send has one event, or few more.
        let sends: Vec<_> = ["steady", "scaling-100", "scaling-1000", "scaling-5000"]
            .iter()
            .map(|scenario| of(scenario, "cpu_ns_per_delivery"))
            .collect();
        let send_ns = Range {
            low: sends.iter().map(|range| range.low).fold(f64::MAX, f64::min),
            high: sends.iter().map(|range| range.high).fold(0.0, f64::max),
        };
        // 5,000 of the 5,500 clients of the run come back, some of the time by choice.
        let recovery_s = of("storm", "extra.recovery_s");
        let figures = [
            ("send_ns", send_ns),
            ("event_ns", of("capacity", "cpu_ns_per_delivery")),
            ("tls_event_ns", of("tls-capacity", "cpu_ns_per_delivery")),
            ("connection_bytes", of("idle", "extra.user_bytes_per_client_after_event")),
            ("tls_connection_bytes", of("idle-tls", "extra.user_bytes_per_client_after_event")),
            ("handshakes_per_s", recovery_s.turned(|seconds| 5_000.0 / seconds)),
            ("ingest_per_s", of("ingest", "extra.capacity_events_per_s")),
        ];
        let mut text = "# What `fanfare plan` rests on; written by the test in measured.rs with \
                        UPDATE=1, from the runs named below.\n"
            .to_owned();
        writeln!(text, "runs = {runs:?}").unwrap();
        for (name, Range { low, high }) in figures {
            writeln!(text, "{name} = {{ low = {low:.1}, high = {high:.1} }}").unwrap();
        }
        text
    }

    #[test]
    fn the_figures_are_those_of_the_newest_runs() {
        let text = of_results();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/plan/measured.toml");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let cure = "UPDATE=1 cargo test --profile checked --lib figures_are_those";
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "results/ has newer runs: {cure}");
        let recorded: Measured = toml::from_str(&text).unwrap();
        for run in recorded.sources() {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(run).is_dir(), "{run}");
        }
    }
}
