//! The page of one run, in Markdown.
//!
//! Not here: its figures (`tables`) and pictures (`plots`). Invariant: everything that comes from
//! outside is inside a code span, or has nothing left that Markdown would read.

use std::fmt::Write;

use serde_json::Value;

use super::chart::Picture;
use super::figures::Figures;
use super::run::Run;
use super::tables::{self, NOT_SHOWN, Table};
use crate::scenario::Readers;

/// `README.md` of a run.
pub fn of(run: &Run, all: &[Figures], pictures: &[Picture]) -> String {
    let mut page = format!("# {}, {}\n\n", plain(&run.scenario), plain(&run.date));
    let _ = write!(page, "**Question**: {}\n\n", plain(&run.command.scenario.question));
    let _ = writeln!(page, "**In short**: {}", plain(&tables::in_short(run, all)));
    for table in tables::of(run, all) {
        let _ = write!(page, "\n## {}\n\n{}", table.title, markdown(&table));
    }
    page += "\nMedians of the rounds that count, with the least and the most. Rounds of all \
             servers take turns; *× floor* and *× fanfare* are taken within each round. Latency is \
             from the intended time of an event to its last byte at a client.\n";
    for picture in pictures {
        let _ = write!(page, "\n![{}]({}.svg)\n", plain(&picture.alt), picture.name);
    }
    page += "\n## Rounds that do not count\n\n";
    let invalid = tables::invalid_rounds(run);
    if invalid.is_empty() {
        let _ = writeln!(page, "None: all {} count.", run.outcomes.len());
    }
    for round in invalid {
        let _ = writeln!(page, "- {}", plain(&round));
    }
    let tls = if run.command.scenario.tls { "" } else { " TLS." };
    let _ = write!(page, "\n## What it does not show\n\n{NOT_SHOWN}{tls}\n");
    let _ = write!(page, "\n## How it was taken\n\n{}", taken(run));
    page += "\n### Servers\n\n";
    for figures in all {
        let _ = writeln!(page, "{}", server(run, figures));
    }
    page
}

/// A table in Markdown.
pub fn markdown(table: &Table) -> String {
    let line = |cells: &mut dyn Iterator<Item = String>| {
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(&mut table.head.iter().map(|cell| plain(cell)));
    let rule = |at: usize| String::from(if at == 0 { "---" } else { "---:" });
    text += &line(&mut (0..table.head.len()).map(rule));
    for row in &table.rows {
        text += &line(&mut row.iter().map(|cell| plain(cell)));
    }
    text
}

/// A text that Markdown leaves as it is.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => plain.push(' '),
            '|' | '\\' | '[' | ']' | '<' | '>' => plain.extend(['\\', character]),
            _ => plain.push(character),
        }
    }
    plain
}

fn taken(run: &Run) -> String {
    let command = &run.command;
    let memory = match &command.memory {
        Value::Null => "not said".into(),
        Value::Number(size) => size.as_f64().map_or_else(String::new, super::units::bytes),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut tuning = Vec::new();
    for (name, value) in &command.tuning {
        match value {
            Value::String(text) => tuning.push(code(&format!("{name} = {text}"))),
            Value::Object(inner) => tuning.extend(inner.iter().map(|(key, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), String::from);
                code(&format!("{name}.{key} = {text}"))
            })),
            other => tuning.push(code(&format!("{name} = {other}"))),
        }
    }
    let list = |cpus: &[Value]| cpus.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    let cpus = match (list(&command.server_cpus), list(&command.load_cpus)) {
        (server, load) if server.is_empty() || load.is_empty() => String::new(),
        (server, load) => format!("; the server on {server}, the load generator on {load}"),
    };
    let readers = match command.scenario.readers {
        Readers::Spin => "ask without a pause, so that no send wakes a thread",
        Readers::Sleep => "sleep until something comes, and each send to a sleeping one wakes it",
    };
    let tuning = if tuning.is_empty() { "not said".into() } else { tuning.join(", ") };
    format!(
        "- Command: {}\n- Commit: {} ({})\n- CPU: {}{cpus}\n- Subscribers: {readers}\n\
         - Memory: {}\n- Kernel: {}\n\
         - Tuning: {tuning}\n\
         - Figures: [summary.json](summary.json), each round: [rounds.json](rounds.json)\n",
        code(&command.argv.join(" ")),
        plain(&command.commit),
        plain(&command.profile),
        plain(&command.cpu),
        plain(&memory),
        plain(&command.kernel),
    )
}

fn server(run: &Run, figures: &Figures) -> String {
    let version = plain(&figures.version);
    let mut text =
        format!("- **{}** ({version}): {}", plain(&figures.title), code(&figures.command));
    let notes = run.command.server_notes.get(&figures.server).and_then(Value::as_str);
    if let Some(notes) = notes.filter(|notes| !notes.trim().is_empty()) {
        let _ = write!(text, ". {}", plain(notes.trim()));
    }
    text
}

/// A code span, around whatever backticks there are.
fn code(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    if longest > 0 { format!("{fence} {text} {fence}") } else { format!("{fence}{text}{fence}") }
}
