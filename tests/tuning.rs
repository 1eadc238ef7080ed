//! `fanfare doctor`, `scripts/tune.sh` and `kernel-tuning.md` agree with each other and with the
//! kernel.
//!
//! Method: made-up hosts (`tuning/tree.rs`) for what no test host has, and a network namespace for
//! what the kernel does with what is written. Invariant: no setting of the test's host changes.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "tuning/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use fanfare::doctor::{Finding, Live, Need, Rings, Verdict};
use fanfare::doctor::{card_of_default_route, examine, gather};

use tree::Tree;

const PAGE: &str = include_str!("../kernel-tuning.md");
const NEED: Need = Need { clients: 1_000 };

#[test]
fn a_good_host_has_nothing_to_mend() {
    let findings = look(&tree::good(), Rings::Given);
    assert!(findings.len() > 30);
    for Finding { name, judgement, .. } in findings {
        // The kernel's files do not have them.
        let expected = if name == "card offloads" { Verdict::Unknown } else { Verdict::Ok };
        assert_eq!(judgement.verdict, expected, "{name}: {judgement:?}");
        assert_eq!(judgement.cure.is_empty(), expected == Verdict::Ok, "{name}: {judgement:?}");
    }
}

#[test]
fn every_rule_finds_what_is_amiss_on_a_bad_host_and_names_a_cure() {
    let refused = Rings::Refused("Operation not permitted".into());
    for Finding { name, judgement, .. } in look(&tree::bad(), refused) {
        let wrong = [
            "kernel",
            "io_uring",
            "file descriptors",
            "fs.nr_open",
            "fs.file-max",
            "locked memory",
            "net.ipv4.tcp_mem",
            "net.netfilter.nf_conntrack_max",
        ];
        let expected = match name {
            "card offloads" => Verdict::Unknown,
            name if wrong.contains(&name) => Verdict::Wrong,
            _ => Verdict::Advice,
        };
        assert_eq!(judgement.verdict, expected, "{name}: {judgement:?}");
        assert!(!judgement.cure.is_empty(), "{name}");
    }
}

#[test]
fn how_bad_it_is_depends_on_what_is_there() {
    let memory = "proc/sys/net/ipv4/tcp_mem";
    let tracked = "proc/sys/net/netfilter/nf_conntrack_count";
    let release = "proc/sys/kernel/osrelease";
    for (path, text, name, verdict, cure) in [
        // 1,000 clients: 32,000 pages of what is unsent, 128,000 of whole buffers.
        (memory, "1 2 31999", "net.ipv4.tcp_mem", Verdict::Wrong, "=\"64000 96000 128000\""),
        (memory, "1 2 32000", "net.ipv4.tcp_mem", Verdict::Advice, "=\"64000 96000 128000\""),
        (memory, "70000 2 127999", "net.ipv4.tcp_mem", Verdict::Advice, "=\"70000 96000 128000\""),
        (memory, "1 2 128000", "net.ipv4.tcp_mem", Verdict::Ok, ""),
        ("proc/meminfo", "MemTotal: 1023999 kB", "vm.swappiness", Verdict::Unknown, "swapon"),
        (tracked, "0", "net.netfilter.nf_conntrack_max", Verdict::Ok, ""),
        (tracked, "1", "net.netfilter.nf_conntrack_max", Verdict::Advice, "nft"),
        (release, "6.8.0-45-generic", "kernel", Verdict::Advice, "scripts/test"),
        (release, "7.0.0", "kernel", Verdict::Ok, ""),
        (release, "linux", "kernel", Verdict::Unknown, "uname"),
    ] {
        let host = tree::good();
        host.set("proc/sys/net/netfilter/nf_conntrack_max", "262144");
        host.set(path, text);
        let findings = look(&host, Rings::Given);
        let found = &findings.iter().find(|finding| finding.name == name).unwrap().judgement;
        assert_eq!(found.verdict, verdict, "{text}: {found:?}");
        assert!(found.cure.contains(cure), "{text}: {found:?}");
    }
    let small = tree::good();
    small.set("proc/meminfo", "MemTotal: 1023999 kB\nSwapTotal: 0 kB");
    small.set(memory, "1 2 32000");
    let findings = look(&small, Rings::Given);
    let found = findings.iter().find(|finding| finding.name == "net.ipv4.tcp_mem").unwrap();
    assert!(found.judgement.cure.contains("half of this host's memory"), "{found:?}");
}

#[test]
fn who_forbids_io_uring_decides_the_cure() {
    let refused = || Rings::Refused("Operation not permitted".into());
    let (good, container, bad) = (tree::good(), tree::container(), tree::bad());
    for (host, rings, verdict, cure) in [
        (&container, refused(), Verdict::Wrong, "seccomp=fanfare-seccomp.json"),
        (&bad, refused(), Verdict::Wrong, "kernel.io_uring_disabled=0"),
        (&bad, Rings::NotTried, Verdict::Wrong, "kernel.io_uring_disabled=0"),
        (&good, refused(), Verdict::Wrong, "CONFIG_IO_URING"),
        (&good, Rings::NotTried, Verdict::Unknown, "without --root"),
        (&container, Rings::Given, Verdict::Ok, ""),
    ] {
        let findings = look(host, rings);
        let found = &findings.iter().find(|finding| finding.name == "io_uring").unwrap().judgement;
        assert_eq!(found.verdict, verdict, "{found:?}");
        assert!(found.cure.contains(cure), "{found:?}");
    }
}

#[test]
fn without_a_card_and_without_files_it_is_unknown_and_nothing_is_wrong() {
    let tree = tree::container();
    let findings = look(&tree, Rings::Given);
    for name in ["card queues", "card interrupts", "receive steering", "card node"] {
        let found = &findings.iter().find(|finding| finding.name == name).unwrap().judgement;
        assert_eq!(found.verdict, Verdict::Unknown, "{name}");
        assert!(found.cure.contains("--nic"), "{name}: {found:?}");
    }
    for folder in ["proc", "sys"] {
        std::fs::remove_dir_all(tree.0.join(folder)).unwrap();
    }
    for Finding { name, judgement, .. } in look(&tree, Rings::Given) {
        assert_ne!(judgement.verdict, Verdict::Wrong, "{name}: {judgement:?}");
    }
}

#[test]
fn the_program_tells_what_is_wrong_by_line_by_array_and_by_exit_code() {
    for (host, code) in [(tree::good(), 0), (tree::bad(), 1)] {
        let root = host.0.to_str().unwrap();
        let (status, lines, errors) = doctor(&["--root", root]);
        assert_eq!((status, errors.as_str()), (code, ""), "{lines}");
        assert!(lines.lines().last().unwrap().contains(" wrong, "), "{lines}");
        let (status, array, _) = doctor(&["--root", root, "--json", "--nic", "eth0"]);
        assert_eq!(status, code);
        let array: Vec<BTreeMap<String, String>> = serde_json::from_str(&array).unwrap();
        for object in array {
            assert!(lines.contains(&object["name"]) && lines.contains(&object["found"]));
            if object["verdict"] != "ok" {
                assert!(lines.contains(&format!("cure: {}\n", object["cure"])), "{object:?}");
                assert!(lines.contains(&format!("kernel-tuning.md#{}", object["anchor"])));
            }
        }
    }
    let good = tree::good();
    let root = good.0.to_str().unwrap();
    // Room for more clients is another question.
    assert_eq!(doctor(&["--root", root, "--clients", "2000000"]).0, 1);
    let (status, _, errors) = doctor(&["--root", root, "--nic", "eth7"]);
    assert_eq!(status, 2);
    assert!(errors.contains("`eth7`; there are: eth0, eth01"), "{errors}");
}

#[test]
fn of_this_host_it_tells_something_whatever_it_is() {
    let (status, array, errors) = doctor(&["--json"]);
    assert!(status <= 1 && errors.is_empty(), "{errors}");
    let array: Vec<BTreeMap<String, String>> = serde_json::from_str(&array).unwrap();
    let wrong = array.iter().any(|object| object["verdict"] == "wrong");
    assert_eq!(status, i32::from(wrong));
}

#[test]
fn where_a_filter_forbids_io_uring_the_doctor_says_so_and_a_server_names_the_doctor() {
    let (status, array, _) = text_of(without_rings(&mut fanfare(&["doctor", "--json"])));
    let array: Vec<BTreeMap<String, String>> = serde_json::from_str(&array).unwrap();
    let found = array.iter().find(|object| object["name"] == "io_uring").unwrap();
    assert_eq!((status, found["verdict"].as_str()), (1, "wrong"), "{found:?}");
    let mut serve = fanfare(&["serve", "--listen", "127.0.0.1:0", "--source", "stdin://"]);
    let (status, _, errors) = text_of(without_rings(&mut serve));
    assert_eq!(status, 1);
    assert!(errors.contains("io_uring is not allowed here"), "{errors}");
    assert!(errors.contains("fanfare doctor"), "{errors}");
}

#[test]
fn every_rule_has_its_section_and_every_section_says_all_five_things() {
    let sections = sections();
    for Finding { name, anchor, .. } in look(&tree::good(), Rings::Given) {
        let text = sections.get(anchor).unwrap_or_else(|| panic!("{name}: no #{anchor}"));
        for part in ["**Why.**", "**Check.**", "**Set.**", "**Undo.**", "**Effect.**"] {
            assert!(text.contains(part), "#{anchor} has no {part}");
        }
    }
    for link in PAGE.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(sections.contains_key(link), "a link to #{link}, which is not there");
    }
}

#[test]
fn the_addition_to_a_seccomp_profile_is_the_three_calls_of_io_uring() {
    let text = include_str!("../scripts/seccomp-fanfare.json");
    let addition: serde_json::Value = serde_json::from_str(text).unwrap();
    let [entry] = addition["syscalls"].as_array().unwrap().as_slice() else { panic!("{text}") };
    assert_eq!(entry["action"], "SCMP_ACT_ALLOW");
    let calls = serde_json::json!(["io_uring_enter", "io_uring_register", "io_uring_setup"]);
    assert_eq!(entry["names"], calls);
}

#[test]
fn a_dry_run_names_every_change_and_makes_none() {
    let host = tree::bad();
    let before = host.files();
    let (_, changes) = tune(&host, "--dry-run --cores 1-7");
    assert_eq!(before, host.files());
    assert!(changes.len() > 40, "{changes:?}");
    let (_, applied) = tune(&host, "--apply --cores 1-7");
    assert_eq!(changes, applied);
}

#[test]
fn on_a_good_host_nothing_is_changed() {
    let host = tree::good();
    let before = host.files();
    let (text, changes) = tune(&host, "--apply --cores 1-7");
    assert!(changes.is_empty() && text.contains("nothing to change"), "{text}");
    assert_eq!(before, host.files());
}

#[test]
fn applied_twice_is_applied_once_and_restored_is_as_before() {
    let host = tree::bad();
    let before = values(&host);
    tune(&host, "--apply --cores 1-7");
    let applied = host.files();
    assert_ne!(before, values(&host));
    let (text, changes) = tune(&host, "--apply --cores 1-7");
    assert!(changes.is_empty(), "{text}");
    assert_eq!(applied, host.files());
    // Another layout keeps what was there first.
    assert!(!tune(&host, "--apply --cores 3").1.is_empty());
    tune(&host, "--restore");
    assert_eq!(before, values(&host));
    assert!(tune(&host, "--restore").0.contains("nothing to restore"));
}

#[test]
fn masks_of_many_cores_are_written_and_read_in_words_of_32() {
    let host = tree::good();
    host.set("sys/devices/system/cpu/online", "0-63");
    // Eight cores and seven queues: the first queue has two of them.
    tune(&host, "--apply --cores 30-37");
    let queue = |name: &str| format!("sys/class/net/eth0/queues/{name}");
    for (path, text) in [
        (queue("rx-0/rps_cpus"), "20,40000000\n"),
        (queue("rx-2/rps_cpus"), "1,0\n"),
        (queue("tx-1/xps_cpus"), "80000000\n"),
        ("proc/irq/46/smp_affinity_list".into(), "36\n"),
    ] {
        assert_eq!(host.text(&path).as_deref(), Some(text), "{path}");
    }
    host.set(&queue("rx-0/rps_cpus"), "00000020,40000000");
    host.set(&queue("rx-2/rps_cpus"), "00000001,00000000");
    assert!(tune(&host, "--dry-run --cores 30-37").1.is_empty());
}

#[test]
fn whatever_is_set_the_doctor_checks_and_the_page_describes() {
    let host = tree::bad();
    // The server runs on the cores that are tuned.
    host.set("proc/self/status", "Seccomp:\t0\nCpus_allowed_list:\t1-7");
    let before = host.files();
    let (_, changes) = tune(&host, "--apply --cores 1-7");
    let after = look(&host, Rings::Given);
    for path in changes {
        let path = path.strip_prefix('/').unwrap();
        let tuned = host.text(path).unwrap();
        let full = host.0.join(path);
        let (_, first) = before.iter().find(|(path, _)| *path == full).unwrap();
        std::fs::write(&full, first).unwrap();
        let noticed = look(&host, Rings::Given)
            .iter()
            .zip(&after)
            .any(|(now, then)| now.judgement.verdict > then.judgement.verdict);
        assert!(noticed, "{path}: nothing checks it");
        std::fs::write(&full, tuned).unwrap();
        let name = path.strip_prefix("proc/sys/").map_or_else(
            || Path::new(path).file_name().unwrap().to_str().unwrap().to_owned(),
            |key| key.replace('/', "."),
        );
        assert!(PAGE.contains(&name), "kernel-tuning.md does not describe {name}");
    }
}

#[test]
fn wrong_usage_is_refused_with_what_is_right() {
    let host = tree::good();
    for (arguments, named) in [
        ("", "one of --dry-run, --apply and --restore"),
        ("--apply --restore", "exclude each other"),
        ("--dry-run --cores 1-99", "those that are: 0 1 2 3 4 5 6 7"),
        ("--dry-run --cores two", "not a list"),
        ("--dry-run --nic eth7", "eth0"),
        ("--dry-run --clients 0", "no count"),
        ("--dry-run --fast", "unknown argument '--fast'"),
    ] {
        let (status, _, errors) = text_of(&mut script(&host, arguments));
        assert_eq!(status, 2, "{arguments}: {errors}");
        assert!(errors.contains(named), "{arguments}: {errors}");
    }
}

#[test]
fn without_root_it_shows_what_it_would_do_and_refuses_to_do_it() {
    for (mode, status, named) in [
        ("--dry-run", 0, ""),
        ("--apply", 1, "try: sudo scripts/tune.sh --apply"),
        ("--restore", 1, "try: sudo scripts/tune.sh --restore"),
    ] {
        let text = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tune.sh"));
        let mut command = Command::new("bash");
        command.args(["-s", "--", mode]).stdin(text.unwrap()).current_dir("/");
        // SAFETY: the call reads who this process is.
        if unsafe { libc::geteuid() } == 0 {
            command.uid(65_534);
        }
        let (code, out, errors) = text_of(&mut command);
        assert_eq!(code, status, "{mode}: {out}{errors}");
        assert!(errors.contains(named), "{mode}: {errors}");
    }
}

/// The kernel's own files in a network namespace, and made-up ones for what is not of the network.
const IN_A_NAMESPACE: &str = r#"
set -euo pipefail
root="$1"
mkdir -p "$root/kernel" "$root/sys/devices/virtual/net"
mount --bind /proc/sys/net "$root/proc/sys/net"
mount -t sysfs none "$root/kernel"
mount --bind "$root/kernel/class/net" "$root/sys/class/net"
mount --bind "$root/kernel/devices/virtual/net" "$root/sys/devices/virtual/net"
cat /sys/devices/system/cpu/online >"$root/sys/devices/system/cpu/online"
echo 128 >/proc/sys/net/core/somaxconn
echo 1 >/proc/sys/net/ipv4/tcp_slow_start_after_idle
echo 4096 16384 65536 >/proc/sys/net/ipv4/tcp_wmem
tune() { bash scripts/tune.sh --root "$root" --nic lo "$@"; }
everything() {
    # Some of them cannot be read.
    { grep -rs "" /proc/sys/net "$root/kernel/devices/virtual/net/lo/queues" || true; } | sort
}
everything >"$root/before"
tune --apply
everything >"$root/once"
cp "$root/run/fanfare-tune.state" "$root/state"
tune --apply
everything >"$root/twice"
cmp "$root/once" "$root/twice"
cmp "$root/state" "$root/run/fanfare-tune.state"
if cmp -s "$root/before" "$root/once"; then exit 1; fi
cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_slow_start_after_idle
tune --restore
everything >"$root/restored"
cmp "$root/before" "$root/restored"
[[ ! -e "$root/run/fanfare-tune.state" ]]
echo all as before
"#;

#[test]
fn in_a_network_namespace_the_kernel_takes_every_value_and_gives_the_old_ones_back() {
    let mut namespace = vec!["--net", "--mount"];
    // SAFETY: the call reads who this process is.
    if unsafe { libc::geteuid() } != 0 {
        namespace.push("--map-root-user");
    }
    let trial = Command::new("unshare").args(&namespace).arg("true").output();
    if !trial.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no network namespace can be made here: {trial:?}");
        return;
    }
    let host = tree::good();
    let mut command = Command::new("unshare");
    command.args(&namespace).args(["bash", "-c", IN_A_NAMESPACE, "bash"]).arg(&host.0);
    let (status, text, errors) = text_of(command.current_dir(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(status, 0, "{text}{errors}");
    assert!(text.contains("\n4096\n0\n"), "{text}");
    assert!(text.ends_with("all as before\n"), "{text}");
}

fn look(host: &Tree, rings: Rings) -> Vec<Finding> {
    let clock_synchronized = Some(host.text("proc/77/comm").is_none());
    let live = Live { rings, clock_synchronized, page_bytes: 4_096 };
    let card = card_of_default_route(&host.0);
    examine(&gather(&host.0, live, card.as_deref()), NEED)
}

fn fanfare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).env_clear();
    command
}

fn doctor(arguments: &[&str]) -> (i32, String, String) {
    text_of(fanfare(&["doctor"]).args(arguments))
}

fn script(host: &Tree, arguments: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg("scripts/tune.sh").arg("--root").arg(&host.0).args(arguments.split_whitespace());
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Runs the script, and returns what it said and the paths that it said it changed.
fn tune(host: &Tree, arguments: &str) -> (String, Vec<String>) {
    let (status, text, errors) = text_of(&mut script(host, arguments));
    assert_eq!((status, errors.as_str()), (0, ""), "{text}");
    let path = |line: &str| Some(line.strip_prefix("change  ")?.split_once(": ")?.0.to_owned());
    let changes = text.lines().filter_map(path).collect();
    (text, changes)
}

/// Every file's value: spaces made single, and of a choice the word in brackets, as a kernel would
/// show it whatever way it was written.
fn values(host: &Tree) -> Vec<(std::path::PathBuf, String)> {
    let value = |text: String| match text.split_once('[') {
        Some((_, rest)) => rest.split(']').next().unwrap().to_owned(),
        None => text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    host.files().into_iter().map(|(path, text)| (path, value(text))).collect()
}

fn text_of(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program is there");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("programs write UTF-8");
    (status.code().expect("no signal ended it"), text(stdout), text(stderr))
}

/// Forbids io_uring to the program, as profiles of containers do.
fn without_rings(command: &mut Command) -> &mut Command {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let forbidden = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let denied = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    // Loads the call's number; if it is the forbidden one, refuses it.
    let mut filter = [
        step(0x20, 0, 0, 0),
        step(0x15, 0, 1, forbidden),
        step(0x06, 0, 0, denied),
        step(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: both calls read their arguments only, and `program` lives until they return.
        let result = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(install) }
}

/// The sections of the page by their anchors, as GitHub makes them of headings.
fn sections() -> BTreeMap<String, &'static str> {
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    let mut sections = BTreeMap::new();
    for part in PAGE.split("\n## ").skip(1) {
        let (heading, text) = part.split_once('\n').unwrap();
        sections.insert(anchor(heading), text);
        for inner in text.split("\n### ").skip(1) {
            let (heading, text) = inner.split_once('\n').unwrap();
            sections.insert(anchor(heading), text);
        }
    }
    sections
}
