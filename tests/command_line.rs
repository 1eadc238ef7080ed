//! The program as it is typed: exit codes, what goes to which stream, and layers of settings.
//!
//! Not here: a server that runs (`end_to_end`). Method: the built program, with an environment of
//! its own.

use std::process::{Command, Output};

fn fanfare(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the program was built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
    (status.code().expect("no signal ended it"), text(stdout), text(stderr))
}

#[test]
fn without_arguments_it_shows_what_to_try_first() {
    let (code, out, _) = fanfare(&[], &[]);
    assert_eq!(code, 0);
    let first = ["\n  fanfare demo ", "\n  fanfare subscribe ws://", "\n  fanfare serve --source "];
    for command in first {
        assert!(out.contains(command), "{command} in {out}");
    }
}

#[test]
fn what_the_container_runs_passes_the_check() {
    let file = include_str!("../packaging/Containerfile");
    let (_, command) = file.split_once("\nCMD ").unwrap();
    let command = command.replace('\\', " ");
    let command: Vec<&str> = serde_json::from_str(&command).unwrap();
    let (code, _, errors) = fanfare(&[&command[..], &["--check"]].concat(), &[]);
    assert_eq!((code, errors.as_str()), (0, ""));
}

#[test]
fn the_shipped_file_passes_the_check_and_flags_win_over_variables_over_it() {
    let arguments = ["serve", "--config", "fanfare.toml", "--check", "--log-bytes", "8MiB"];
    let variables = [("FANFARE_LOG_BYTES", "16MiB"), ("FANFARE_HEARTBEAT", "1s")];
    let (code, out, errors) = fanfare(&arguments, &variables);
    assert_eq!((code, errors.as_str()), (0, ""));
    for line in [
        "log_bytes = \"8MiB\"  # --log-bytes\n",
        "heartbeat = \"1s\"  # FANFARE_HEARTBEAT\n",
        "listen = \"127.0.0.1:9001\"  # fanfare.toml:",
        "source = \"tcp://127.0.0.1:9002\"  # fanfare.toml:",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    let variables = [("FANFARE_CONFIG", "fanfare.toml")];
    assert_eq!(fanfare(&["serve", "--check"], &variables).0, 0);
}

#[test]
fn rules_for_channels_are_checked_and_shown_with_their_origin() {
    let arguments = ["serve", "--check", "--source", "stdin://", "--rule", "book.>?policy=close"];
    let second = ["--rule", "quote.*?interval_ms=100", "--command-rate", "5", "--tier-moves"];
    let (code, out, errors) = fanfare(&[&arguments[..], &second].concat(), &[]);
    assert_eq!((code, errors.as_str()), (0, ""));
    for line in [
        "rule = \"book.>?policy=close\"  # --rule\n",
        "rule = \"quote.*?interval_ms=100\"  # --rule\n",
        "command_rate = 5  # --command-rate\n",
        "tier_moves = true  # --tier-moves\n",
        "peer_timeout = \"1m\"  # default\n",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    let (code, _, errors) = fanfare(&[&arguments[..], &["--rule", "a?polcy=all"]].concat(), &[]);
    assert_eq!(code, 2);
    assert!(
        errors.starts_with("--rule: `polcy` is no part of a rule; allowed: policy"),
        "{errors}"
    );
}

#[test]
fn settings_of_the_journal_are_checked_and_shown() {
    let arguments = ["serve", "--check", "--source", "stdin://", "--journal", "/var/lib/fanfare"];
    let (code, out, errors) = fanfare(&arguments, &[("FANFARE_JOURNAL_SYNC", "0s")]);
    assert_eq!((code, errors.as_str()), (0, ""));
    for line in [
        "journal = \"/var/lib/fanfare\"  # --journal\n",
        "journal_bytes = \"256MiB\"  # default\n",
        "journal_sync = \"0s\"  # FANFARE_JOURNAL_SYNC\n",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    for (bytes, what) in [("512KiB", "out of range"), ("2048GiB", "out of range"), ("x", "no")] {
        let (code, _, errors) =
            fanfare(&[&arguments[..], &["--journal-bytes", bytes]].concat(), &[]);
        assert_eq!(code, 2);
        let allowed = "allowed: 1MiB to 1024GiB";
        assert!(errors.contains(what) && errors.contains(allowed), "{errors}");
    }
}

#[test]
fn wrong_settings_of_every_layer_are_reported_at_once_with_exit_code_2() {
    let arguments = ["serve", "--config", "absent.toml", "--listen", "9001", "--log", "a=b=c"];
    let (code, out, errors) = fanfare(&arguments, &[("FANFARE_RING_BATCHES", "many")]);
    assert_eq!((code, out.as_str()), (2, ""));
    for start in [
        "--config: cannot read `absent.toml`: ",
        "--listen: `9001` is not an address; allowed: ",
        "--log: `a=b=c`: ",
        "FANFARE_RING_BATCHES: `many` is not a number; allowed: ",
    ] {
        assert!(errors.lines().any(|line| line.starts_with(start)), "{start} in {errors}");
    }
    assert_eq!(errors.lines().count(), 4, "{errors}");
}

#[test]
fn usage_is_2_and_a_failure_at_run_time_is_1() {
    assert_eq!(fanfare(&["serve", "--no-such-flag"], &[]).0, 2);
    assert_eq!(fanfare(&["subscribe", "http://127.0.0.1", ">"], &[]).0, 2);
    assert_eq!(fanfare(&["publish", "9002"], &[]).0, 2);
    let url = "ws://127.0.0.1:1/v1";
    for wrong in [["--policy", "best"], ["--max-age-ms", "5"], ["--interval-ms", "50"]] {
        let (code, _, errors) = fanfare(&["subscribe", url, ">", wrong[0], wrong[1]], &[]);
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains(wrong[0]), "{errors}");
    }
    let stream = ["publish", "nats://127.0.0.1:1/MD", "--token-file", "a"];
    let (code, _, errors) = fanfare(&stream, &[]);
    assert_eq!(code, 2);
    assert!(errors.contains("?creds=FILE"), "{errors}");
    let (code, _, errors) = fanfare(&["publish", "unix:///absent/fanfare.sock"], &[]);
    assert_eq!(code, 1);
    assert!(errors.contains("nothing listens at unix:///absent/fanfare.sock"), "{errors}");
}

#[test]
fn a_replay_has_one_place_to_go_and_a_recording_one_file() {
    let capture = "examples/data/binance-spot-20250325.json.gz";
    let (to, serve) = (["--to", "tcp://127.0.0.1:1"], ["--serve", "127.0.0.1:0"]);
    for (flags, named) in [
        (vec![], "<--to <ADDRESS>|--serve [<IP:PORT>]>"),
        ([to, serve].concat(), "cannot be used with '--serve"),
        (vec!["--to", "tcp://127.0.0.1:1", "--wait-clients", "2"], "'--wait-clients <N>'"),
        (vec!["--serve", "--token-file", "a"], "--token-file is not for --serve"),
        (vec!["--serve", "feed.gz"], "--serve: `feed.gz` is not an address"),
        (vec!["--serve", "--speed", "10y"], "--speed: `10y` is not a speed"),
    ] {
        let (code, _, errors) = fanfare(&[&["replay", capture][..], &flags].concat(), &[]);
        assert_eq!(code, 2, "{flags:?}: {errors}");
        assert!(errors.contains(named), "{flags:?}: {errors}");
    }
    let url = "ws://127.0.0.1:1/v1";
    let (code, _, errors) = fanfare(&["record", url, ">", "--out", "Cargo.toml"], &[]);
    assert_eq!(code, 2);
    assert!(errors.contains("`Cargo.toml` exists already") && errors.contains("--force"));
    let (code, _, errors) = fanfare(&["record", url, ">", "--out", "/absent/a.gz"], &[]);
    assert_eq!(code, 1);
    assert!(errors.contains("cannot write `/absent/a.gz.part`"), "{errors}");
    let (code, _, errors) = fanfare(&["subscribe", url, ">", "--resume", "1041"], &[]);
    assert_eq!(code, 2);
    assert!(errors.contains("EPOCH:SEQ"), "{errors}");
}

#[test]
fn access_rules_are_checked_with_the_settings_and_each_mistake_has_its_line() {
    let serve = ["serve", "--source", "stdin://", "--check", "--access"];
    let (code, out, errors) = fanfare(&[&serve[..], &["examples/access.toml"]].concat(), &[]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.contains("access = \"examples/access.toml\"  # --access\n"), "{out}");

    let name = format!("fanfare-access-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join("access.toml");
    let file = path.to_str().expect("a path in UTF-8");
    std::fs::write(&path, "[anonymous]\nsubscribe = [\"a..b\"]\nread = []\n").expect("a file");
    let (code, _, errors) = fanfare(&[&serve[..], &[file]].concat(), &[]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains(":3: anonymous: unknown field `read`"), "{errors}");
    let start = ["serve", "--listen", "127.0.0.1:0", "--source", "stdin://", "--access", file];
    assert_eq!(fanfare(&start, &[]).0, 2, "nor does a server start with them");
    let (code, _, errors) = fanfare(&[&serve[..], &["/absent/access.toml"]].concat(), &[]);
    assert_eq!(code, 2);
    assert!(errors.contains("/absent/access.toml: No such file"), "{errors}");

    // What `fanfare key` prints is taken as it is, and the credential is not part of it.
    let credential = folder.join("credential");
    let to = credential.to_str().expect("a path in UTF-8");
    let key = ["key", "--id", "desk-7", "--subscribe", "quote.>", "--subscribe", "a", "--to", to];
    let (code, rule, errors) = fanfare(&key, &[]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let secret = std::fs::read_to_string(&credential).expect("the credential");
    assert!(secret.starts_with("desk-7.") && !rule.contains(secret.trim()), "{rule}");
    std::fs::write(&path, &rule).expect("a file");
    assert_eq!(fanfare(&[&serve[..], &[file]].concat(), &[]).0, 0, "{rule}");
    let (code, _, errors) = fanfare(&key, &[]);
    assert!(code == 1 && errors.contains("--to: cannot make"), "{errors}");
    assert_eq!(fanfare(&["key", "--id", "desk.7"], &[]).0, 2);
    assert_eq!(fanfare(&["key", "--id", "a", "--publish", "a..b"], &[]).0, 2);
    let (_, rule, errors) = fanfare(&["key", "--id", "a"], &[]);
    assert!(errors.contains("\na.") && rule.contains("\nid = \"a\"\n"), "{errors}{rule}");
    std::fs::remove_dir_all(folder).expect("the folder of the test");
}

#[test]
fn completions_and_manual_pages_know_every_command_and_flag() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, errors) = fanfare(&["completions", shell], &[]);
        assert_eq!((code, errors.as_str()), (0, ""));
        for word in ["subscribe", "log-ends-per-second", "window"] {
            assert!(out.contains(word), "{word} for {shell}");
        }
    }
    let (code, out, _) = fanfare(&["man"], &[]);
    assert!(code == 0 && out.contains(".TH fanfare 1") && out.contains("fanfare\\-serve"), "{out}");
    let (code, out, _) = fanfare(&["man", "serve"], &[]);
    assert!(code == 0 && out.contains(".TH fanfare-serve 1"), "{out}");
    assert!(out.contains("\\-\\-journal\\-sync"), "{out}");
    assert_eq!(fanfare(&["completions", "csh"], &[]).0, 2);
    let (code, _, errors) = fanfare(&["man", "swim"], &[]);
    assert_eq!((code, errors.contains("`swim`")), (2, true), "{errors}");
}

#[test]
fn settings_of_the_log_are_checked() {
    for (flag, value, what) in [
        ("--log", "loud=very", "--log: `loud=very`: "),
        ("--log-format", "xml", "--log-format: `xml` is no format; allowed: text, json"),
        ("--log-ends-per-second", "many", "--log-ends-per-second: `many` is not a number"),
    ] {
        let arguments = ["serve", "--check", "--source", "stdin://", flag, value];
        let (code, _, errors) = fanfare(&arguments, &[]);
        assert_eq!(code, 2);
        assert!(errors.starts_with(what), "{errors}");
    }
}
