//! One page over all runs, in one file that needs no other: it can be mailed.
//!
//! Not here: figures and pictures. Invariant: nothing is loaded from anywhere, and every text is
//! escaped (maud does it).

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{self, Picture};
use super::figures::Figures;
use super::goals::{self, State, Verdict};
use super::plots;
use super::run::{Page, Results, Run};
use super::tables::{self, NOT_SHOWN, Table};

const STYLE: &str = include_str!("index.css");

/// The page.
pub fn of(results: &Results, verdicts: &[Verdict], scaling: Option<&Picture>) -> String {
    let scenarios = scenarios(results);
    let newest = results.runs.first();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "fanfare: measurements" }
                style { (PreEscaped(chart::STYLE)) (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "fanfare: measurements" }
                    p class="lede" {
                        "What it costs to send one event to many WebSocket subscribers, \
                         beside other servers and beside the floor of the machine: the same \
                         bytes to the same sockets, and nothing else."
                    }
                    @if let Some(run) = newest {
                        p class="dim" { "Newest run: " (run.date) ", " (run.command.cpu) ", kernel "
                            (run.command.kernel) }
                    }
                }
                nav {
                    @if !verdicts.is_empty() { a href="#goals" { "Goals" } }
                    @for name in &scenarios { a href={ "#" (anchor(name)) } { (name) } }
                    @if results.runs.iter().any(scales) { a href="#by-clients" { "By clients" } }
                    @if !results.pages.is_empty() { a href="#studies" { "Studies" } }
                }
                main {
                    (goal_table(verdicts))
                    @for name in &scenarios { (scenario(results, name)) }
                    (by_clients(results, scaling))
                    (studies(&results.pages))
                    section { h2 { "What all of this does not show" } p { (NOT_SHOWN) } }
                }
            }
        }
    }
    .into_string()
        + "\n"
}

/// CPU per delivery by clients: the newest run of each `scaling-*` scenario.
pub fn scaling(results: &Results) -> Option<Picture> {
    let mut newest: Vec<&Run> = Vec::new();
    for run in results.runs.iter().filter(|run| scales(run)) {
        let same_host = newest.first().is_none_or(|first| first.host == run.host);
        if run.counts() && same_host && !newest.iter().any(|r| r.scenario == run.scenario) {
            newest.push(run);
        }
    }
    plots::scaling(&newest)
}

/// Those with a section of their own: the newest first, those of a day by name.
fn scenarios(results: &Results) -> Vec<&str> {
    let mut newest: Vec<(&str, &str)> = Vec::new();
    for run in results.runs.iter().filter(|run| !scales(run)) {
        if !newest.iter().any(|(name, _)| *name == run.scenario) {
            newest.push((&run.scenario, &run.date));
        }
    }
    newest.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    newest.into_iter().map(|(name, _)| name).collect()
}

/// Whether a run is one of several that differ in their clients only.
fn scales(run: &Run) -> bool {
    run.scenario.starts_with("scaling-")
}

fn by_clients(results: &Results, scaling: Option<&Picture>) -> Markup {
    let runs: Vec<_> = results.runs.iter().filter(|run| scales(run)).collect();
    if runs.is_empty() {
        return html! {};
    }
    html! {
        section id="by-clients" {
            h2 { "By clients" }
            p class="lede" { "Does a delivery cost the same, however many clients there are?" }
            @if let Some(picture) = scaling { div class="pictures" { (figure(picture)) } }
            @for each in runs {
                details {
                    summary { (each.scenario) ", " (each.date) ", " (each.host) }
                    (run(each))
                }
            }
        }
    }
}

fn goal_table(verdicts: &[Verdict]) -> Markup {
    if verdicts.is_empty() {
        return html! {};
    }
    let [reached, missed, open] = goals::tally(verdicts);
    html! {
        section id="goals" {
            h2 { "Goals" }
            p class="tally" {
                span class="reached" { "✓ " (reached) " reached" }
                span class="missed" { "✗ " (missed) " missed" }
                span class="open" { "– " (open) " not measured" }
            }
            (goal_list(verdicts.iter().filter(|verdict| !is_open(verdict))))
            @if open > 0 {
                details {
                    summary { (open) " not measured" }
                    (goal_list(verdicts.iter().filter(|verdict| is_open(verdict))))
                }
            }
        }
    }
}

const fn is_open(verdict: &Verdict) -> bool {
    matches!(verdict.state, State::NotMeasured(_))
}

fn goal_list<'a>(verdicts: impl Iterator<Item = &'a Verdict>) -> Markup {
    html! {
        ul class="goals" {
            @for verdict in verdicts {
                @let (class, sign, how) = match &verdict.state {
                    State::Reached => ("reached", "✓", "reached".to_owned()),
                    State::Missed(by) => ("missed", "✗", format!("missed {by}")),
                    State::NotMeasured(why) => ("open", "–", format!("not measured: {why}")),
                };
                li {
                    span class={ "sign " (class) } { (sign) }
                    div {
                        p { (verdict.goal.text) }
                        p class="dim" {
                            span class=(class) { (spans(&how)) }
                            @if !verdict.measured.is_empty() {
                                " · " (spans(&verdict.measured))
                            }
                            @if !verdict.note.is_empty() { " · " (verdict.note) }
                            @if let Some(run) = &verdict.run { " · " (link(run, "the run")) }
                        }
                    }
                }
            }
        }
    }
}

/// A text with code between backticks.
fn spans(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn scenario(results: &Results, name: &str) -> Markup {
    let runs: Vec<_> = results.runs.iter().filter(|run| run.scenario == name).collect();
    let Some((newest, older)) = runs.split_first() else { return html! {} };
    html! {
        section id=(anchor(name)) {
            h2 { (name) }
            p class="lede" { (newest.command.scenario.question) }
            (run(newest))
            @for older in older {
                details {
                    summary { (older.date) ", " (older.host) }
                    (run(older))
                }
            }
        }
    }
}

fn run(run: &Run) -> Markup {
    let all = Figures::of(run);
    let pictures = plots::of(run, &all);
    let tables = tables::of(run, &all);
    let invalid = tables::invalid_rounds(run);
    html! {
        p { (tables::in_short(run, &all)) }
        div class="pictures" { @for picture in &pictures { (figure(picture)) } }
        @for (at, each) in tables.iter().enumerate() {
            @if at == 0 { (table(each)) } @else {
                details { summary { (each.title) } (table(each)) }
            }
        }
        @if !invalid.is_empty() {
            details {
                summary { (invalid.len()) " of " (run.outcomes.len()) " rounds do not count" }
                ul { @for round in &invalid { li { (round) } } }
            }
        }
        p class="dim" {
            (run.date) " · " (run.host) " · commit " (run.command.commit) " (" (run.command.profile)
            ") · " (link(&run.name, "how it was taken"))
        }
    }
}

fn table(table: &Table) -> Markup {
    html! {
        div class="wide" tabindex="0" role="region" aria-label=(table.title) {
            table {
                thead { tr { @for cell in &table.head { th { (cell) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (at, cell) in row.iter().enumerate() {
                                @if at == 0 {
                                    th scope="row" { (cell) }
                                } @else {
                                    (figure_cell(cell))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A median, and its range in a line below.
fn figure_cell(cell: &str) -> Markup {
    let parts = cell.strip_suffix(')').and_then(|cell| cell.split_once(" ("));
    html! {
        td {
            @if let Some((median, range)) = parts { (median) small { (range) } } @else { (cell) }
        }
    }
}

fn figure(picture: &Picture) -> Markup {
    html! { figure { (picture.inline()) } }
}

fn studies(pages: &[Page]) -> Markup {
    if pages.is_empty() {
        return html! {};
    }
    html! {
        section id="studies" {
            h2 { "Studies" }
            p { "Measurements of one thing each, with programs of their own." }
            ul class="studies" {
                @for page in pages {
                    li {
                        (link(&page.name, &page.title))
                        @if !page.question.is_empty() { p class="dim" { (page.question) } }
                    }
                }
            }
        }
    }
}

fn link(run: &str, text: &str) -> Markup {
    html! { a href={ (run) "/README.md" } { (text) } }
}

fn anchor(scenario: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("scenario-{}", scenario.chars().map(safe).collect::<String>())
}
