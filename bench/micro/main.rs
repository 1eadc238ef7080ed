//! Instructions of the hot path and of what may stall a core, counted under callgrind.
//!
//! `scripts/micro` builds and runs it. It runs itself under callgrind once for each case, prints a
//! table, and fails when a case needs more than the baseline allows; names of cases choose some.
//! `--accept` makes the counts the baseline; `--profile NAME` says which functions a case's
//! instructions are in. Instructions of this program are counted, never those of the kernel.
//! Not here: times, which only `results/` has. Invariant: only what a case hands to
//! [`case::counted`] is counted, so set-up and warm-up are free.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed measurement")]

mod baseline;
mod callgrind;
mod case;
mod data;
mod shard;

use std::process::ExitCode;

use baseline::Baseline;
use case::Case;

/// As in the program, so that allocations cost the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let cases = [data::CASES, shard::CASES].concat();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--run", name] => {
            println!("{}", (find(&cases, name).run)());
            ExitCode::SUCCESS
        }
        ["--profile", name] => {
            callgrind::profile(find(&cases, name));
            ExitCode::SUCCESS
        }
        ["--accept", ref chosen @ ..] => compare(&cases, chosen, true),
        ref chosen => compare(&cases, chosen, false),
    }
}

fn find<'a>(cases: &'a [Case], name: &str) -> &'a Case {
    cases.iter().find(|case| case.name == name).unwrap_or_else(|| {
        let names: Vec<_> = cases.iter().map(|case| case.name).collect();
        panic!("no case '{name}'; cases: {}", names.join(" "))
    })
}

/// Counts all cases, or those chosen, beside the baseline.
fn compare(cases: &[Case], chosen: &[&str], accept: bool) -> ExitCode {
    let mut chosen: Vec<_> = chosen.iter().map(|name| find(cases, name)).collect();
    if chosen.is_empty() {
        chosen.extend(cases);
    }
    let mut baseline = Baseline::read();
    let mut more = Vec::new();
    println!("{:<12} {:>14} {:>14} {:>8}  for each", "case", "instructions", "baseline", "change");
    for case in chosen {
        let count = callgrind::count(case);
        let before = baseline.cases.insert(case.name.to_owned(), count);
        let change = before.map(|before| (count / before - 1.0) * 100.0);
        let (old, percent) = match (before, change) {
            (Some(before), Some(change)) => (format!("{before:.1}"), format!("{change:+.1} %")),
            _ => ("-".to_owned(), "new".to_owned()),
        };
        println!("{:<12} {count:>14.1} {old:>14} {percent:>8}  {}", case.name, case.unit);
        match change {
            Some(change) if change < -baseline::CHANGE_PERCENT_MAX => {
                println!("    cheaper: `scripts/micro --accept` makes it the baseline");
            }
            Some(change) if change <= baseline::CHANGE_PERCENT_MAX => {}
            _ => more.push(case.name),
        }
    }
    if accept {
        baseline.write();
        return ExitCode::SUCCESS;
    }
    baseline::judge(&baseline, &more)
}
