//! Reports: what a run's rounds say, as pages, pictures and figures for programs.
//!
//! ```text
//! rounds.json, command.json, *.hgrm ─run─► figures, curves ─► tables, plots ─┬► page
//!                                             └► goals.toml ─► goals ────────┴► index, readme
//! ```
//!
//! Not here: measuring. Invariant: reports can be made again from what a run left, and are the same
//! then.

mod chart;
mod curves;
mod figures;
mod goals;
mod index;
mod page;
mod plots;
mod readme;
mod run;
mod tables;
#[cfg(test)]
mod tests;
mod units;

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use figures::Figures;
pub use figures::{Range, metric};
use run::{Results, Run, invalid, is_run, put};

/// Makes the pages of a run from its `rounds.json`: `README.md`, `summary.json` and pictures.
///
/// # Errors
/// A file that is missing, is not what it should be, or cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    let run = Run::read(folder)?;
    let all = Figures::of(&run);
    let pictures = plots::of(&run, &all);
    for picture in &pictures {
        put(&folder.join(format!("{}.svg", picture.name)), &picture.file())?;
    }
    put(&folder.join("README.md"), &page::of(&run, &all, &pictures))?;
    let summary = Summary {
        question: &run.command.scenario.question,
        scenario: &run.scenario,
        date: &run.date,
        host: &run.host,
        commit: &run.command.commit,
        profile: &run.command.profile,
        cpu: &run.command.cpu,
        kernel: &run.command.kernel,
        servers: &all,
        invalid: tables::invalid_rounds(&run),
    };
    let text = serde_json::to_string_pretty(&summary).map_err(|error| invalid(folder, error))?;
    put(&folder.join("summary.json"), &(text + "\n"))
}

/// Makes the pages of the given runs again, and those over all runs of the folder that they lie in:
/// `index.html`, and the goals in `README.md`. A folder of runs stands for all of them; none at all
/// for `results/` of this checkout.
///
/// # Errors
/// A folder that is no run and holds none, or as for [`write`].
pub fn report(folders: &[PathBuf]) -> io::Result<()> {
    let all = [results_folder()];
    let folders = if folders.is_empty() { &all[..] } else { folders };
    let mut roots: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let root = if is_run(folder) {
            write(folder)?;
            let whole = folder.canonicalize()?;
            whole.parent().ok_or_else(|| invalid(folder, "it lies in no folder"))?.to_owned()
        } else {
            let results = Results::read(folder)?;
            if results.runs.is_empty() && results.pages.is_empty() {
                return Err(invalid(folder, "no run, and holds none: name one of results/"));
            }
            for run in &results.runs {
                write(&run.folder)?;
            }
            folder.canonicalize()?
        };
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots.iter().try_for_each(|root| overview(root))
}

/// Rewrites the performance section of the README of this checkout, or with `check` fails when it
/// is stale.
///
/// # Errors
/// A README without the marks, or a stale one.
pub fn readme(check: bool) -> io::Result<()> {
    let results = results_folder();
    let page = results.with_file_name("README.md");
    readme_at(&page, &results, check)
}

fn readme_at(page: &Path, folder: &Path, check: bool) -> io::Result<()> {
    let results = Results::read(folder)?;
    let verdicts = goals::judge(&goals::known()?, &results);
    let part = readme::performance(&results, &verdicts);
    readme::update(page, readme::PERFORMANCE, &part, check)
}

/// The pages over all runs of a folder.
fn overview(root: &Path) -> io::Result<()> {
    let results = Results::read(root)?;
    let verdicts = goals::judge(&goals::known()?, &results);
    let scaling = index::scaling(&results);
    if let Some(picture) = &scaling {
        put(&root.join("scaling.svg"), &picture.file())?;
    }
    put(&root.join("index.html"), &index::of(&results, &verdicts, scaling.as_ref()))?;
    let page = root.join("README.md");
    if page.is_file() {
        readme::update(&page, readme::GOALS, &readme::goals(&verdicts), false)?;
    }
    Ok(())
}

fn results_folder() -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().unwrap_or(bench).join("results")
}

/// `summary.json`: a run for programs.
#[derive(Serialize)]
struct Summary<'a> {
    question: &'a str,
    scenario: &'a str,
    date: &'a str,
    host: &'a str,
    commit: &'a str,
    profile: &'a str,
    cpu: &'a str,
    kernel: &'a str,
    servers: &'a [Figures],
    invalid: Vec<String>,
}
