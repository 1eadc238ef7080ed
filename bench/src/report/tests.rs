//! From rounds to pages: what is counted, how goals are judged, and what the pages promise.
//!
//! Rounds are made up here, or lie in `bench/tests/data/`, made up as well. Invariant: nothing of
//! this checkout is written; pages are made in a folder that goes away.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::figures::{Figures, metric, over_rounds, ratio};
use super::goals::{self, State, Verdict};
use super::run::{Results, Run};
use super::{readme, readme_at, report, run, write};
use crate::outcome::{Outcome, Second};
use crate::scenario::Readers;

const FIXTURE: &str = "2000-01-01-madeup-steady";

#[test]
fn a_median_leaves_rounds_out_that_do_not_count() {
    let mut rounds = vec![round("fanfare", 1, 1.0), round("fanfare", 2, 3.0)];
    rounds.push(Outcome { invalid: vec!["busy".into()], ..round("fanfare", 3, 900.0) });
    rounds.push(round("fanfare", 4, 2.0));
    let run = made_up("steady", rounds);
    let range = over_rounds(&run, "fanfare", "cpu_ns_per_delivery").unwrap();
    assert_eq!((range.median, range.min, range.max), (2.0, 1.0, 3.0));
    assert_eq!(over_rounds(&run, "fanfare", "spread_p99_us"), None, "it was not measured");
    assert_eq!(over_rounds(&run, "fanfare", "extra.nothing"), None);
}

#[test]
fn what_comes_after_the_end_is_no_work_of_the_measured_time() {
    let mut late = round("fanfare", 1, 100.0);
    let second = Second { deliveries: 200, ..Second::default() };
    late.series = vec![second, Second { at_s: 1.0, ..second }];
    let of = |name| metric(&late, name).unwrap();
    assert_eq!((late.deliveries, of("deliveries_per_s")), (1000, 400.0));
    assert!((of("cpu_ns_per_delivery") - 250.0).abs() < 1e-9, "100 ns of each of the 1000");
    assert!((of("user_ns_per_delivery") - 25.0).abs() < 1e-9);
    assert!((of("deliveries_per_cpu_s") - 4e6).abs() < 1e-3);
}

#[test]
fn ratios_are_taken_within_each_round() {
    // The machine is twice as slow in the third round; the second of the floor does not count.
    let mut rounds = Vec::new();
    for (number, floor, own) in [(1, 100.0, 110.0), (2, 100.0, 500.0), (3, 200.0, 240.0)] {
        rounds.push(round("floor", number, floor));
        rounds.push(round("fanfare", number, own));
    }
    rounds[2].invalid.push("busy".into());
    let run = made_up("steady", rounds);
    let ratio = ratio(&run, "fanfare", "floor", "cpu_ns_per_delivery").unwrap();
    assert!((ratio.min - 1.1).abs() < 1e-9 && (ratio.max - 1.2).abs() < 1e-9, "{ratio:?}");
    assert!((ratio.median - 1.15).abs() < 1e-9, "{ratio:?}");
    let all = Figures::of(&run);
    let servers: Vec<_> = all.iter().map(|figures| figures.server.as_str()).collect();
    assert_eq!(servers, ["fanfare", "floor"]);
    assert_eq!((all[1].rounds, all[1].rounds_valid), (3, 2));
}

#[test]
fn a_goal_is_reached_missed_by_so_much_or_not_measured() {
    let runs = || vec![steady(&[("fanfare", 106.0), ("floor", 100.0), ("a", 90.0), ("b", 300.0)])];
    let floor = r#"op = "<="
        value = 1.05
        against = "floor""#;
    assert_eq!(judged(runs(), floor).state, State::Missed("by 1 %".into()));
    assert_eq!(judged(runs(), &floor.replace("1.05", "1.10")).state, State::Reached);
    assert_eq!(judged(runs(), "op = \"<=\"\nvalue = 106").state, State::Reached);
    assert_eq!(judged(runs(), "op = \"<\"\nvalue = 106").state, State::Missed("by 1 %".into()));
    let absolute = judged(runs(), "op = \">=\"\nvalue = 212");
    assert_eq!(absolute.state, State::Missed("by 50 %".into()));
    let other = r#"op = "<="
        value = 1.0
        against = "self:burst""#;
    assert!(
        matches!(judged(runs(), other).state, State::NotMeasured(why) if why.contains("burst"))
    );
    assert!(matches!(judged(Vec::new(), floor).state, State::NotMeasured(_)));
    let mut unknown = runs();
    unknown[0].outcomes.retain(|round| round.server != "floor");
    assert!(matches!(judged(unknown, floor).state, State::NotMeasured(_)));
    let mut checked = runs();
    checked[0].command.profile = "checked".into();
    assert!(matches!(judged(checked, floor).state, State::NotMeasured(_)), "no release build");
}

#[test]
fn the_best_peer_is_the_best_of_those_that_lost_nothing() {
    let against = "op = \"<\"\nvalue = 1.0\nagainst = \"best-peer\"";
    let servers = [("fanfare", 106.0), ("floor", 100.0), ("a", 90.0), ("b", 300.0)];
    let fair = judged(vec![steady(&servers)], against);
    assert_eq!(fair.state, State::Missed("by 18 %".into()), "a is the best");
    let mut run = steady(&servers);
    lose(&mut run, "a");
    let verdict = judged(vec![run.clone()], against);
    assert_eq!(verdict.state, State::Reached, "b is the best that is left");
    assert_eq!(verdict.note, "out of the contest: a lost 7");
    lose(&mut run, "b");
    assert_eq!(judged(vec![run.clone()], against).state, State::Reached, "nobody is left");
    lose(&mut run, "fanfare");
    let own = judged(vec![run], against);
    assert_eq!(own.state, State::Missed("lost 7 messages".into()), "not even by losing");
    let alone = judged(vec![steady(&[("fanfare", 1.0)])], against);
    assert!(matches!(alone.state, State::NotMeasured(_)), "there never was a peer");
}

#[test]
fn a_round_that_fanfare_broke_is_a_miss_and_no_older_run_stands_in_for_it() {
    let bound = "op = \"<=\"\nvalue = 200";
    let good = || steady(&[("fanfare", 100.0)]);
    let mut crashed = good();
    for round in &mut crashed.outcomes {
        round.fail("the server ended (signal 6); it said:\nmuch".into());
    }
    let why = "broke round 1: the server ended (signal 6)";
    let verdict = judged(vec![crashed.clone(), good()], bound);
    assert_eq!((&verdict.state, &*verdict.measured), (&State::Missed(why.into()), ""));
    crashed.outcomes.truncate(1);
    crashed.outcomes.extend(good().outcomes.into_iter().skip(1));
    let once = judged(vec![crashed.clone()], bound);
    assert_eq!(once.state, State::Missed(why.into()), "rounds that count do not hide it");
    let mut disturbed = good();
    disturbed.outcomes.iter_mut().for_each(|round| round.invalid.push("others".into()));
    assert_eq!(judged(vec![disturbed, good()], bound).state, State::Reached, "it proves nothing");

    let flat = "op = \"flat\"\nvalue = 0.1\nacross = [\"steady\", \"other\"]";
    let mut other = crashed;
    other.outcomes.iter_mut().for_each(|round| "other".clone_into(&mut round.scenario));
    other.scenario = "other".into();
    let across = judged(vec![good(), other], flat).state;
    assert_eq!(across, State::Missed(format!("`other` {why}")));
}

#[test]
fn a_second_way_reaches_a_goal_too() {
    let either = r#"op = "<="
        value = 0.5
        against = "best-peer"
        or = { value = 1.1, against = "floor" }"#;
    let servers = [("fanfare", 106.0), ("floor", 100.0), ("a", 110.0)];
    assert_eq!(judged(vec![steady(&servers)], either).state, State::Reached);
    let neither = judged(vec![steady(&servers)], &either.replace("1.1", "1.0"));
    assert_eq!(neither.state, State::Missed("by 93 %".into()));
    assert!(neither.measured.contains("× a") && neither.measured.contains("× floor"));
}

#[test]
fn a_cost_is_flat_when_all_runs_are_within_the_share() {
    let of = |clients: &str, cost| made_up(clients, vec![round("fanfare", 1, cost)]);
    let flat = "op = \"flat\"\nvalue = 0.1\nacross = [\"steady\", \"other\"]";
    let near = judged(vec![of("steady", 100.0), of("other", 109.0)], flat);
    assert_eq!(near.state, State::Reached);
    let far = judged(vec![of("steady", 100.0), of("other", 125.0)], flat);
    assert_eq!(far.state, State::Missed("by 15 percentage points".into()));
    assert!(matches!(judged(vec![of("steady", 1.0)], flat).state, State::NotMeasured(_)));
}

#[test]
fn a_run_is_held_against_one_like_it_with_the_floors_beside() {
    let own = "op = \"<=\"\nvalue = 1.2\nagainst = \"self:other\"";
    let here = || steady(&[("fanfare-tls", 150.0), ("floor-tls", 130.0)]);
    let rounds = || vec![round("fanfare", 1, 100.0), round("floor", 1, 80.0)];
    let other = made_up("other", rounds());
    let missed = judged(vec![here(), other.clone()], own);
    assert_eq!(missed.state, State::Missed("by 25 %".into()));
    let floor = "1.50 × `other`; the floor 130 ns, 1.62 × that of `other`";
    assert!(missed.measured.ends_with(floor), "{}", missed.measured);
    let mut elsewhere = other.clone();
    elsewhere.command.cpu = "another".into();
    let mut asleep = other;
    asleep.command.scenario.readers = Readers::Sleep;
    for unlike in [elsewhere, asleep] {
        let judged = judged(vec![here(), unlike], own);
        assert!(matches!(judged.state, State::NotMeasured(_)), "{:?}", judged.state);
    }
}

#[test]
fn goals_of_this_checkout_can_be_read_and_mistakes_are_named() {
    let known = goals::known().unwrap();
    assert!(known.len() >= 15);
    let mut ids: Vec<_> = known.iter().map(|goal| &goal.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), known.len(), "each has a name of its own");
    for (wrong, word) in [
        ("op = \"==\"\nvalue = 1", "=="),
        ("op = \"<=\"\nvalue = 1\nagainst = \"best\"", "'best' is not floor"),
        ("op = \"<=\"\nvalue = 1\nunit = \"ns\"", "unit"),
        ("op = \"flat\"\nvalue = 1", "across"),
    ] {
        let error = goals::parse(&goal(wrong)).unwrap_err();
        assert!(error.contains(word), "{wrong}: {error}");
    }
    let metric = goal("op = \"<=\"\nvalue = 1").replace("cpu_ns", "cpu_days");
    assert!(goals::parse(&metric).unwrap_err().contains("cpu_days"));
}

#[test]
fn a_run_gets_the_same_page_and_figures_again() {
    let folder = fixture();
    let run = folder.path().join(FIXTURE);
    write(&run).unwrap();
    for name in ["README.md", "summary.json"] {
        let path = data().join(FIXTURE).join(name);
        let made = fs::read_to_string(run.join(name)).unwrap();
        let expected = fs::read_to_string(&path).unwrap();
        let cure =
            "if the change is meant, run 'fanfare-bench report bench/tests/data' and look at it";
        assert_eq!(made, expected, "{}: {cure}", path.display());
    }
    for name in ["cpu.svg", "latency.svg", "seconds.svg"] {
        let picture = fs::read_to_string(run.join(name)).unwrap();
        assert!(picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{name}");
        assert!(picture.contains("prefers-color-scheme:dark"), "{name}");
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{name}");
        for server in ["fanfare", "floor", "Bun (uWebSockets)"] {
            assert!(picture.contains(&format!(">{server}</text>")), "{name} names {server}");
        }
    }
}

#[test]
fn the_page_over_all_runs_loads_nothing_and_escapes_everything() {
    let folder = fixture();
    let command = folder.path().join(FIXTURE).join("command.json");
    let mut text: Value = serde_json::from_str(&fs::read_to_string(&command).unwrap()).unwrap();
    text["scenario"]["question"] = json!("<script>alert(1)</script> & more?");
    text["server_titles"]["bun"] = json!("<b>\"Bun\"");
    fs::write(&command, text.to_string()).unwrap();
    let study = folder.path().join("1999-01-01-madeup-study");
    fs::create_dir(&study).unwrap();
    fs::write(study.join("README.md"), "# A <study>\n\n**Question**: why?\n").unwrap();

    report(&[folder.path().join(FIXTURE)]).unwrap();
    let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
    assert!(!page.contains("<script") && !page.contains("<b>\""));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; more?"));
    assert!(page.contains("&lt;b&gt;&quot;Bun&quot;"));
    for attribute in ["href=\"", "src=\"", "action=\""] {
        for value in page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
            let inside = folder.path().join(value);
            assert!(!value.contains("//"), "{attribute}{value}: not from elsewhere");
            assert!(
                value.starts_with('#') || inside.is_file(),
                "{attribute}{value} does not exist"
            );
        }
    }
    for outside in ["url(", "@import", "<link", "<img", "<iframe"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("A &lt;study&gt;") && page.contains("1999-01-01-madeup-study/README.md"));
    let run = fs::read_to_string(folder.path().join(FIXTURE).join("README.md")).unwrap();
    assert!(run.contains("\\<script\\>"), "Markdown has none either");
}

#[test]
fn the_readme_is_stale_until_it_is_written_and_nothing_else_of_it_changes() {
    let folder = fixture();
    let page = folder.path().join("page.md");
    let marks = readme::PERFORMANCE;
    let before = format!("# A\n\n{}\nold\n{}\n\nrest\n", marks.begin, marks.end);
    fs::write(&page, &before).unwrap();
    let stale = readme_at(&page, folder.path(), true).unwrap_err().to_string();
    assert!(stale.contains("run 'fanfare-bench readme'"), "{stale}");
    assert_eq!(fs::read_to_string(&page).unwrap(), before, "a check writes nothing");

    readme_at(&page, folder.path(), false).unwrap();
    readme_at(&page, folder.path(), true).unwrap();
    let after = fs::read_to_string(&page).unwrap();
    assert!(
        after.starts_with("# A\n\n") && after.ends_with("\n\nrest\n") && !after.contains("old")
    );
    for part in [
        "(results/2000-01-01-madeup-steady/README.md)",
        "(results/2000-01-01-madeup-steady/cpu.svg)",
        "Bun (uWebSockets)",
        "left out for losing messages: nats-server",
        "**Goals**",
        "does not show",
    ] {
        assert!(after.contains(part), "{part} is missing in:\n{after}");
    }

    fs::write(&page, "# A\n").unwrap();
    let missing = readme_at(&page, folder.path(), false).unwrap_err().to_string();
    assert!(missing.contains(marks.begin) && missing.contains("add it"), "{missing}");
}

#[test]
fn what_is_no_run_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = report(&[folder.path().to_owned()]).unwrap_err().to_string();
    assert!(error.contains(&folder.path().display().to_string()) && error.contains("no run"));
    let broken = folder.path().join("2000-01-01-host-steady");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("rounds.json"), "[]").unwrap();
    fs::write(broken.join("command.json"), "{}").unwrap();
    let error = write(&broken).unwrap_err().to_string();
    assert!(error.contains("rounds.json") && error.contains("no round"), "{error}");
}

/// A round of which each delivery cost so many nanoseconds.
fn round(server: &str, number: u32, cost_ns: f64) -> Outcome {
    serde_json::from_value(json!({
        "scenario": "steady", "server": server, "server_version": "1", "server_command": "x",
        "round": number, "began": "2000-01-01T00:00:00Z", "seconds": 1.0, "clients": 10,
        "payload_bytes": 256, "intended_events_per_s": 100.0, "events": 100, "deliveries": 1000,
        "expected": 1000, "duplicates": 0, "lost": 0, "told_missing": 0, "disconnected": 0,
        "latency_us": { "p50": 1.0, "p90": 2.0, "p99": 3.0, "p999": 4.0, "max": 5.0 },
        "spread_us": null, "fairness": null,
        "server_use": {
            "user_s": cost_ns * 1e-7, "system_s": cost_ns * 9e-7, "busy": 0.5,
            "switches_voluntary": 1, "switches_involuntary": 0, "syscalls_per_delivery": null
        },
        "load_use": {
            "user_s": 0.1, "system_s": 0.1, "busy": 0.2,
            "switches_voluntary": 1, "switches_involuntary": 0, "syscalls_per_delivery": null
        },
        "memory": { "user_bytes_before": 0, "user_bytes": 0, "socket_bytes": 0 },
        "series": [], "extra": {}, "invalid": []
    }))
    .expect("it is an outcome")
}

fn made_up(scenario: &str, mut outcomes: Vec<Outcome>) -> Run {
    for outcome in &mut outcomes {
        scenario.clone_into(&mut outcome.scenario);
    }
    let command = run::Command { profile: "release".into(), ..run::Command::default() };
    Run {
        folder: PathBuf::from("nowhere"),
        name: format!("2000-01-01-host-{scenario}"),
        date: "2000-01-01".into(),
        host: "host".into(),
        scenario: scenario.into(),
        command,
        outcomes,
    }
}

fn steady(servers: &[(&str, f64)]) -> Run {
    let rounds = |number| servers.iter().map(move |(name, cost)| round(name, number, *cost));
    made_up("steady", (1..=3).flat_map(rounds).collect())
}

fn lose(run: &mut Run, server: &str) {
    let mut rounds = run.outcomes.iter_mut();
    rounds.find(|round| round.server == server).expect("it was measured").lost = 7;
}

fn goal(rest: &str) -> String {
    format!(
        "[[goal]]\nid = \"a\"\ntext = \"A\"\nscenario = \"steady\"\n\
         metric = \"cpu_ns_per_delivery\"\n{rest}\n"
    )
}

fn judged(runs: Vec<Run>, rest: &str) -> Verdict {
    let goals = goals::parse(&goal(rest)).expect("the goal is written well");
    let results = Results { runs, pages: Vec::new() };
    goals::judge(&goals, &results).remove(0)
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A results folder with the made-up run in it, as the harness leaves it.
fn fixture() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join(FIXTURE);
    fs::create_dir(&run).unwrap();
    for entry in fs::read_dir(data().join(FIXTURE)).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap().to_str().unwrap();
        if ["rounds.json", "command.json"].contains(&name) || name.ends_with(".hgrm") {
            fs::copy(&from, run.join(name)).unwrap();
        }
    }
    folder
}
