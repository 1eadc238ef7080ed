//! The goals of `bench/goals.toml`, and whether the newest runs reach them.
//!
//! Not here: how the verdicts are shown. Invariant: a goal is reached only by rounds that count, of
//! a release build, in which fanfare lost nothing, and of a run in which it broke no round; what
//! was not measured is never reached.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::figures::{METRICS, Range, lost, over_rounds, ratio};
use super::run::{Results, Run, invalid, is_peer};
use super::units;

/// The goals of this program.
const GOALS: &str = include_str!("../../goals.toml");

/// One goal; `goals.toml` explains its keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    pub id: String,
    pub text: String,
    scenario: String,
    #[serde(default)]
    across: Vec<String>,
    metric: String,
    op: Op,
    value: f64,
    #[serde(default)]
    against: Against,
    or: Option<Bound>,
}

/// A value, and what it is held against.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    value: f64,
    #[serde(default)]
    against: Against,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Op {
    #[serde(rename = "<=")]
    AtMost,
    #[serde(rename = "<")]
    Below,
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = "flat")]
    Flat,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "String")]
enum Against {
    #[default]
    Nothing,
    Floor,
    BestPeer,
    Own(String),
    Figure(String),
}

impl TryFrom<String> for Against {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "floor" => Ok(Self::Floor),
            "best-peer" => Ok(Self::BestPeer),
            extra if extra.starts_with("extra.") => Ok(Self::Figure(text)),
            _ => text.strip_prefix("self:").map(|name| Self::Own(name.into())).ok_or_else(|| {
                format!("'{text}' is not floor, best-peer, self:SCENARIO or extra.NAME")
            }),
        }
    }
}

/// What became of a goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Reached,
    /// By how much.
    Missed(String),
    /// Why.
    NotMeasured(String),
}

/// A goal, judged.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub goal: Goal,
    pub state: State,
    /// The figure that it was judged by, empty where there is none.
    pub measured: String,
    /// Who is out of the contest, and why; else empty.
    pub note: String,
    /// The folder's name of the run.
    pub run: Option<String>,
}

/// The goals that this program knows.
///
/// # Errors
/// A goal that cannot be read.
pub fn known() -> io::Result<Vec<Goal>> {
    parse(GOALS).map_err(|error| invalid(Path::new("bench/goals.toml"), error))
}

/// Goals from the text of such a file.
///
/// # Errors
/// What is wrong, with the goal's name.
pub fn parse(text: &str) -> Result<Vec<Goal>, String> {
    let mut file: BTreeMap<String, Vec<Goal>> =
        toml::from_str(text).map_err(|error| error.to_string())?;
    let goals = file.remove("goal").unwrap_or_default();
    if let Some(key) = file.keys().next() {
        return Err(format!("unknown key '{key}': only [[goal]] is known"));
    }
    for goal in &goals {
        let name = goal.metric.as_str();
        if !METRICS.contains(&name) && !name.starts_with("extra.") {
            return Err(format!("goal '{}': unknown metric '{name}'", goal.id));
        }
        if (goal.op == Op::Flat) == goal.across.is_empty() {
            return Err(format!("goal '{}': 'across' goes with op = \"flat\"", goal.id));
        }
    }
    Ok(goals)
}

/// Judges all goals.
pub fn judge(goals: &[Goal], results: &Results) -> Vec<Verdict> {
    goals.iter().map(|goal| goal.judge(results)).collect()
}

/// How many were reached, missed and not measured.
pub fn tally(verdicts: &[Verdict]) -> [usize; 3] {
    let count = |of: fn(&State) -> bool| verdicts.iter().filter(|v| of(&v.state)).count();
    [
        count(|state| *state == State::Reached),
        count(|state| matches!(state, State::Missed(_))),
        count(|state| matches!(state, State::NotMeasured(_))),
    ]
}

/// What a bound came to.
struct Judged {
    state: State,
    measured: String,
}

impl Judged {
    fn not_measured(why: impl Into<String>) -> Self {
        Self { state: State::NotMeasured(why.into()), measured: String::new() }
    }
}

impl Goal {
    fn judge(&self, results: &Results) -> Verdict {
        let found = results.newest(&self.scenario).and_then(|run| Some((run, run.own()?)));
        let Some((run, own)) = found else {
            let why = format!("no run of `{}` that counts", self.scenario);
            return self.verdict(Judged::not_measured(why), String::new(), None);
        };
        let mut judged = if self.op == Op::Flat {
            self.flat(results, run)
        } else {
            let bound = Bound { value: self.value, against: self.against.clone() };
            self.hold(&bound, results, run, own)
        };
        if let Some(other) = &self.or
            && judged.state != State::Reached
        {
            let second = self.hold(other, results, run, own);
            judged = match (&judged.state, &second.state) {
                (_, State::Reached) | (State::NotMeasured(_), _) => second,
                (_, State::NotMeasured(_)) => judged,
                _ => Judged {
                    measured: format!("{}; {}", judged.measured, second.measured),
                    ..judged
                },
            };
        }
        if let Some(why) = failed(run, own) {
            judged.state = State::Missed(why);
        }
        self.verdict(judged, out_of_contest(run), Some(run.name.clone()))
    }

    fn verdict(&self, judged: Judged, note: String, run: Option<String>) -> Verdict {
        let Judged { state, measured } = judged;
        Verdict { goal: self.clone(), state, measured, note, run }
    }

    fn hold(&self, bound: &Bound, results: &Results, run: &Run, own: &str) -> Judged {
        let Some(figure) = over_rounds(run, own, &self.metric) else {
            return Judged::not_measured(format!("`{}` has no {}", run.name, self.metric));
        };
        let shown = units::range(&self.metric, &figure);
        let times = |ratio: Option<Range>, of: &str| match ratio {
            Some(ratio) => {
                let measured = format!("{shown}, {} × {of}", units::ratio(&ratio));
                Judged { state: self.compare(ratio.median, bound.value), measured }
            }
            None => Judged::not_measured(format!("no round of `{}` has both", run.name)),
        };
        match &bound.against {
            Against::Nothing => {
                let state = self.compare(figure.median, bound.value);
                Judged { state, measured: shown }
            }
            Against::Floor => {
                let ratio = run.floor().and_then(|floor| ratio(run, own, floor, &self.metric));
                times(ratio, "floor")
            }
            Against::BestPeer => match self.best_peer(run) {
                Contest::Best(peer) => times(ratio(run, own, peer, &self.metric), run.title(peer)),
                Contest::AllLost => {
                    let measured = format!("{shown}; every peer lost messages");
                    Judged { state: State::Reached, measured }
                }
                Contest::None => Judged::not_measured(format!("`{}` has no peer", run.name)),
            },
            Against::Own(scenario) => {
                let other = results.newest_like(run, scenario);
                let base = other.and_then(|other| over_rounds(other, other.own()?, &self.metric));
                let Some(base) = base.filter(|base| base.median > 0.0) else {
                    let why = format!("no run of `{scenario}` like this one that counts");
                    return Judged::not_measured(why);
                };
                let by = figure.median / base.median;
                let mut measured = format!("{shown}, {} × `{scenario}`", units::digits(by));
                if let Some(floor) = other.and_then(|other| self.floor_to(run, other)) {
                    measured += &format!("; {floor} × that of `{scenario}`");
                }
                Judged { state: self.compare(by, bound.value), measured }
            }
            Against::Figure(name) => {
                let Some(base) = over_rounds(run, own, name).filter(|base| base.median > 0.0)
                else {
                    return Judged::not_measured(format!("`{}` has no {name}", run.name));
                };
                let by = figure.median / base.median;
                let base = units::range(name, &base);
                let measured = format!("{shown}, {} × {base}", units::digits(by));
                Judged { state: self.compare(by, bound.value), measured }
            }
        }
    }

    /// What the machine itself makes of what a run has, and another has not.
    fn floor_to(&self, run: &Run, other: &Run) -> Option<String> {
        let floor = |run: &Run| over_rounds(run, run.floor()?, &self.metric);
        let (here, there) = (floor(run)?.median, floor(other)?.median);
        let shown = units::figure(&self.metric, here);
        (there > 0.0).then(|| format!("the floor {shown}, {}", units::digits(here / there)))
    }

    /// The best of those that lost nothing.
    fn best_peer<'a>(&self, run: &'a Run) -> Contest<'a> {
        let peers = run.servers().into_iter().filter(|server| is_peer(server));
        let measured: Vec<_> = peers
            .filter_map(|peer| Some((peer, over_rounds(run, peer, &self.metric)?.median)))
            .collect();
        let fair = measured.iter().filter(|(peer, _)| lost(run, peer) == 0);
        let better = |a: &f64, b: &f64| match self.op {
            Op::AtLeast => b.total_cmp(a),
            _ => a.total_cmp(b),
        };
        match fair.min_by(|a, b| better(&a.1, &b.1)) {
            Some((peer, _)) => Contest::Best(peer),
            None if measured.is_empty() => Contest::None,
            None => Contest::AllLost,
        }
    }

    fn compare(&self, figure: f64, limit: f64) -> State {
        let reached = match self.op {
            Op::AtMost | Op::Flat => figure <= limit,
            Op::Below => figure < limit,
            Op::AtLeast => figure >= limit,
        };
        if reached {
            return State::Reached;
        }
        if limit == 0.0 {
            return State::Missed(format!("by {}", units::figure(&self.metric, figure)));
        }
        State::Missed(format!("by {:.0} %", ((figure / limit - 1.0).abs() * 100.0).max(1.0)))
    }

    /// From the least to the most over several runs on one host.
    fn flat(&self, results: &Results, newest: &Run) -> Judged {
        let mut medians = Vec::new();
        for scenario in &self.across {
            let run = results.newest_like(newest, scenario).and_then(|run| Some((run, run.own()?)));
            if let Some(why) = run.and_then(|(run, own)| failed(run, own)) {
                let state = State::Missed(format!("`{scenario}` {why}"));
                return Judged { state, measured: String::new() };
            }
            let range = run.and_then(|(run, own)| over_rounds(run, own, &self.metric));
            let Some(range) = range else {
                let why = format!("no run of `{scenario}` like this one that counts");
                return Judged::not_measured(why);
            };
            medians.push(range.median);
        }
        let Some(range) = Range::of(medians).filter(|range| range.min > 0.0) else {
            return Judged::not_measured("nothing to compare");
        };
        let by = range.max / range.min - 1.0;
        let show = |value| units::figure(&self.metric, value);
        let measured = format!("{} to {}: {:.0} %", show(range.min), show(range.max), by * 100.0);
        let state = if by <= self.value {
            State::Reached
        } else {
            let over = (by - self.value) * 100.0;
            State::Missed(format!("by {:.0} percentage points", over.max(1.0)))
        };
        Judged { state, measured }
    }
}

/// What no figure makes up for: rounds that a server broke, messages that it lost.
fn failed(run: &Run, server: &str) -> Option<String> {
    let lost = lost(run, server);
    let lost = (lost > 0).then(|| format!("lost {lost} messages"));
    run.broken(server).map(|why| format!("broke {why}")).or(lost)
}

/// Peers that lost messages, or of which no round counts.
fn out_of_contest(run: &Run) -> String {
    let why = |server: &str| match (lost(run, server), run.valid(server).next()) {
        (_, None) => Some(format!("{}: no round counts", run.title(server))),
        (0, Some(_)) => None,
        (lost, _) => Some(format!("{} lost {}", run.title(server), units::whole(lost as f64))),
    };
    let peers = run.servers().into_iter().filter(|server| is_peer(server));
    let out: Vec<_> = peers.filter_map(why).collect();
    if out.is_empty() { String::new() } else { format!("out of the contest: {}", out.join(", ")) }
}

enum Contest<'a> {
    Best(&'a str),
    AllLost,
    None,
}
