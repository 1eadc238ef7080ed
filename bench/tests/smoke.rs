//! The harness against the server that it is for, and its floor: a short round loses nothing.
//!
//! Not here: figures, which a busy machine spoils. The server is the one that `FANFARE_PROGRAM`
//! names, else the one beside the harness; without one the test says so and leaves it out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const HARNESS: &str = env!("CARGO_BIN_EXE_fanfare-bench");

fn program() -> Option<PathBuf> {
    let beside = Path::new(HARNESS).parent().expect("a program is in a folder").join("fanfare");
    let named = std::env::var_os("FANFARE_PROGRAM").map(PathBuf::from);
    named.or(Some(beside)).filter(|path| path.exists())
}

#[test]
fn a_short_round_delivers_every_event_to_every_client() {
    let ours = program();
    if ours.is_none() {
        eprintln!("SKIPPED: no fanfare beside {HARNESS}; build it, or set FANFARE_PROGRAM");
    }
    let none_needed = Some(PathBuf::from("/nowhere/fanfare"));
    let cases = [
        ("steady", "fanfare", 100, ours.clone()),
        ("deflate", "fanfare-deflate", 100, ours),
        ("tls", "floor-tls", 100, none_needed.clone()),
        ("idle", "floor", 1, none_needed),
    ];
    for (scenario, server, events, program) in cases {
        let Some(program) = program else { continue };
        let name = format!("fanfare-bench-{scenario}-{}", std::process::id());
        let out = std::env::temp_dir().join(name);
        let ran = Command::new(HARNESS)
            .args(["run", scenario, "--servers", server, "--rounds", "1"])
            .args(["--clients", "50", "--seconds", "1", "--server-cpus", "0", "--load-cpus", "0"])
            .arg("--out")
            .arg(&out)
            .env("FANFARE_PROGRAM", program)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let folder = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let rounds: Value = serde_json::from_str(&read("rounds.json")).unwrap();
        let round = &rounds[0];
        for count in ["lost", "duplicates", "told_missing", "disconnected"] {
            assert_eq!(round[count], 0, "{count}: {round}");
        }
        let expected = (&events.into(), &(50 * events).into());
        assert_eq!((&round["events"], &round["expected"]), expected, "{scenario}");
        assert_eq!(round["deliveries"], round["expected"]);
        assert!(round["latency_us"]["p50"].as_f64().unwrap() > 0.0);
        assert!(read(&format!("{server}.hgrm")).contains("#[Max"));
        let command: Value = serde_json::from_str(&read("command.json")).unwrap();
        assert!(command["machine"]["kernel"].is_string());
        assert_eq!(command["scenario"]["readers"], "sleep", "the server has the same CPU");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn a_server_that_fails_costs_the_others_nothing() {
    let out = std::env::temp_dir().join(format!("fanfare-bench-broken-{}", std::process::id()));
    let ran = Command::new(HARNESS)
        .args(["run", "steady", "--servers", "fanfare,floor", "--rounds", "2", "--seconds", "1"])
        .args(["--clients", "5", "--server-cpus", "0", "--load-cpus", "0", "--out"])
        .arg(&out)
        .env("FANFARE_PROGRAM", "/nowhere/fanfare")
        .output()
        .unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    assert!(!ran.status.success() && told.contains("steady with fanfare"), "{told}");
    let folder = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let rounds = fs::read_to_string(folder.join("rounds.json")).unwrap();
    let rounds: Vec<Value> = serde_json::from_str(&rounds).unwrap();
    let servers: Vec<_> = rounds.iter().map(|round| &round["server"]).collect();
    assert_eq!(servers, ["floor", "floor"]);
    assert!(folder.join("README.md").exists(), "the report is written");
    fs::remove_dir_all(&out).unwrap();
}

#[test]
fn what_is_wrong_is_named_with_its_cure() {
    let fails = |arguments: &[&str]| {
        let ran = Command::new(HARNESS)
            .args(arguments)
            .env("FANFARE_PROGRAM", "/nowhere/fanfare")
            .output()
            .unwrap();
        assert!(!ran.status.success());
        String::from_utf8(ran.stderr).unwrap()
    };
    let unknown = fails(&["run", "stedy"]);
    assert!(unknown.contains("stedy.toml") && unknown.contains("steady"), "{unknown}");
    let server = fails(&["run", "steady", "--servers", "nobody"]);
    assert!(server.contains("nobody.toml") && server.contains("fanfare-tls"), "{server}");
    let tls = fails(&["run", "tls", "--servers", "fanfare", "--load-cpus", "0"]);
    assert!(tls.contains("tls needs TLS"), "{tls}");
    let peer = fails(&["run", "channels", "--servers", "floor", "--load-cpus", "0"]);
    assert!(peer.contains("channels is only for fanfare") && peer.contains("peers"), "{peer}");
    let cpu = fails(&["run", "steady", "--servers", "fanfare", "--load-cpus", "4000"]);
    assert!(cpu.contains("CPU 4000") && cpu.contains("--load-cpus"), "{cpu}");
    let out = std::env::temp_dir().join(format!("fanfare-bench-none-{}", std::process::id()));
    let folder = out.to_str().unwrap();
    let both = ["run", "steady", "quiet", "--servers", "fanfare", "--load-cpus", "0"];
    let none = fails(&[&both[..], &["--out", folder]].concat());
    assert!(none.contains("cargo build --release"), "{none}");
    assert!(
        none.contains("quiet with fanfare"),
        "a scenario without a server ends no other: {none}"
    );
    fs::remove_dir_all(&out).unwrap();
}

/// A folder of the harness with one scenario and one server, which starts a process of its own,
/// says so in a file, and never listens.
fn bench_with_a_server_that_never_listens(folder: &Path) {
    let scenario = "question = \"?\"\nkind = \"constant\"\nclients = 1\nevents_per_s = 1\n\
                    seconds = 1\npeers = true\n";
    let script = "sleep 600 & child=$!; trap 'kill $child; exit' TERM; \
                  echo $child >new; mv new child; wait";
    let server = format!(
        "title = \"mute\"\ncommand = [\"sh\", \"-c\", \"{script}\", \"{{port}}\"]\nversion = []\n\
         subscribe = \"frames\"\npublish = \"lines\"\n"
    );
    for (part, name, text) in [("scenarios", "once", scenario), ("servers", "mute", &server)] {
        let part = folder.join(part);
        let write = || fs::write(part.join(format!("{name}.toml")), text);
        fs::create_dir_all(&part).and_then(|()| write()).expect("the folder is ours");
    }
}

/// Asks until there is an answer, for as long as a server may take to start.
fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_interrupted_run_leaves_no_process_and_one_with_a_signal_no_file() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGKILL] {
        let folder = tempfile::tempdir().unwrap();
        let (bench, temporary) = (folder.path().join("bench"), folder.path().join("tmp"));
        bench_with_a_server_that_never_listens(&bench);
        fs::create_dir(&temporary).unwrap();
        let mut harness = Command::new(HARNESS)
            .args(["run", "once", "--servers", "mute", "--server-cpus", "0", "--load-cpus", "0"])
            .arg("--out")
            .arg(folder.path().join("results"))
            .env("FANFARE_BENCH", &bench)
            .env("TMPDIR", &temporary)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let child = until("the server starts", || {
            let scratch = fs::read_dir(&temporary).unwrap().next()?.unwrap().path();
            fs::read_to_string(scratch.join("child")).ok()
        });
        let number = i32::try_from(harness.id()).unwrap();
        // SAFETY: a plain system call; the process is ours and not reaped yet.
        unsafe { libc::kill(number, signal) };
        let status = harness.wait().unwrap();
        let is_gone = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim()));
            // One that has ended may wait for somebody to take note.
            stat.map_or(true, |stat| stat.contains(") Z ")).then_some(())
        };
        until("a process of the server is left", is_gone);
        if signal != libc::SIGKILL {
            assert_eq!(status.code(), Some(128 + signal), "{status}");
            assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "a folder is left");
        }
    }
}

#[test]
fn a_start_that_fails_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let ran = Command::new(HARNESS)
        .args(["run", "steady", "--servers", "fanfare", "--server-cpus", "0", "--load-cpus", "0"])
        .arg("--out")
        .arg(folder.path().join("results"))
        .env("FANFARE_PROGRAM", "/nowhere/fanfare")
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    assert!(!ran.status.success());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "a folder is left");
}
