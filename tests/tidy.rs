//! The house rules that a machine can check: floors, names, sizes, heads, links, counters, bounds.
//!
//! Each rule is a pure function from files to findings, so that a twin test can prove that it
//! catches what it is for. A finding says file, line and cure. Not here: what rustfmt and clippy
//! check.

use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 600;
const SHELL_FILE_LINES_MAX: usize = 350;
const FUNCTION_LINES_MAX: usize = 80;

/// Top to bottom; a floor imports itself and those below. `config` and `limits` are one floor.
const FLOORS: [&[&str]; 14] = [
    &["cli"],
    &["server"],
    &["sources"],
    &["client"],
    &["shell"],
    &["nats"],
    &["fanout"],
    &["journal"],
    &["handoff"],
    &["access"],
    &["protocol"],
    &["doctor"],
    &["telemetry"],
    &["config", "limits"],
];

/// What only `src/shell/` may name: the executor, the kernel's rings, sockets and the clock.
const SHELL_NAMES: [&str; 11] = [
    "glommio",
    "io_uring",
    "socket2",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "Instant::now",
    "SystemTime::now",
];

#[test]
fn every_file_says_in_its_head_what_it_is() {
    holds(heads(&rust_files()));
}

#[test]
fn no_line_is_wider_than_a_hundred_columns() {
    holds(columns(&rust_files()));
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    holds(file_lengths(&rust_files()));
}

#[test]
fn no_function_is_longer_than_a_screen() {
    holds(function_lengths(&rust_files()));
}

#[test]
fn nothing_unfinished_is_left_behind() {
    holds(unfinished(&rust_files()));
}

#[test]
fn floors_import_downwards_only() {
    holds(floors(&rust_files()));
}

#[test]
fn only_the_shell_names_the_executor_sockets_and_the_clock() {
    holds(shell_names(&rust_files()));
}

#[test]
fn only_the_nats_floor_names_its_client_and_its_runtime() {
    holds(nats_names(&rust_files()));
}

#[test]
fn unsafe_code_stays_in_the_shell_and_the_handoff() {
    holds(unsafe_code(&rust_files()));
}

#[test]
fn every_counter_is_written() {
    holds(counters(&rust_files()));
}

#[test]
fn every_bound_is_used() {
    holds(bounds(&rust_files()));
}

#[test]
fn every_linked_file_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    holds(links(&pages(), |path| root.join(path).exists()));
}

#[test]
fn every_rule_catches_what_it_is_for() {
    let long_function = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(FUNCTION_LINES_MAX));
    for (rule, path, text, found) in [
        (heads as fn(&[File]) -> Vec<String>, "src/server.rs", "use std::fs;", 1),
        (columns, "src/server.rs", &"é".repeat(COLUMNS_MAX + 1), 1),
        (columns, "src/server.rs", &"é".repeat(COLUMNS_MAX), 0),
        (file_lengths, "src/server.rs", &"\n".repeat(FILE_LINES_MAX + 1), 1),
        (file_lengths, "src/shell/mod.rs", &"\n".repeat(SHELL_FILE_LINES_MAX + 1), 1),
        (function_lengths, "src/server.rs", &long_function, 1),
        (function_lengths, "src/server.rs", "fn f() {}\nfn g();\n", 0),
        (unfinished, "src/server.rs", "fn f() { todo!() }", 1),
        (unfinished, "src/server.rs", "// todo!() is a macro", 0),
        (unfinished, "src/server.rs", concat!("// FIX", "ME later"), 1),
        (floors, "src/protocol/ws/frame.rs", "use crate::fanout::log;", 1),
        (floors, "src/protocol/ws/frame.rs", "use crate::{limits, shell::{a, b}};", 1),
        (floors, "src/shell/mod.rs", "use crate::{limits, fanout::{server, cli}};", 0),
        (floors, "src/server.rs", "fn f() { crate::cli::run() }", 1),
        (floors, "src/extra.rs", "fn f() { crate::cli::run() }", 1),
        (shell_names, "src/sources/tcp.rs", "use std::net::TcpStream;", 1),
        (shell_names, "src/sources/tcp.rs", "// a TcpStream\nconst A: &str = \"glommio\";", 0),
        (shell_names, "src/fanout/mod.rs", "fn f() { Instant::now(); }", 1),
        (shell_names, "tests/end_to_end.rs", "fn f() { Instant::now(); }", 0),
        (nats_names, "src/sources/nats.rs", "use tokio::time::sleep;", 1),
        (nats_names, "src/nats/mod.rs", "use tokio::time::sleep;", 0),
        (unsafe_code, "src/fanout/log.rs", "fn f() { unsafe { g() } }", 1),
        (unsafe_code, "src/handoff/ring.rs", "fn f() { unsafe { g() } }", 0),
        (counters, "src/telemetry/mod.rs", "pub lost: Cell,", 1),
        (bounds, "src/limits.rs", "pub const A_MAX: usize = 1;", 1),
    ] {
        let findings = rule(&[File::new(path, text)]);
        assert_eq!(findings.len(), found, "{path}: {text}: {findings:?}");
    }
    let page = File::new("docs/A.md", "[a](B.md) [b](../README.md#x) [c](https://x) [d](#e)");
    assert_eq!(links(&[page], |path| path == Path::new("docs/../README.md")).len(), 1);
}

fn heads(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.at(0, "begin with '//!': what it is, what it is not, its invariant"))
        .collect()
}

fn columns(files: &[File]) -> Vec<String> {
    let wide = |line: &str| line.chars().count() > COLUMNS_MAX;
    each_line(files, |file| &file.text, wide, "break the line at 100 columns")
}

fn file_lengths(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let shell = file.path.starts_with("src/shell/");
        let lines_max = if shell { SHELL_FILE_LINES_MAX } else { FILE_LINES_MAX };
        let lines = file.text.lines().count();
        if lines > lines_max {
            let cure = format!("{lines} lines, at most {lines_max}: split by subject");
            findings.push(file.at(lines_max, &cure));
        }
    }
    findings
}

/// Relies on rustfmt: a function ends at the first `}` in the column where it began.
fn function_lengths(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let lines: Vec<_> = file.code.lines().collect();
        for (start, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            let body = lines[start..].iter().position(|line| {
                let line = line.trim_end();
                line.contains('{') || line.ends_with(';')
            });
            let Some(body) = body.map(|offset| start + offset) else { continue };
            if !lines[body].trim_end().ends_with('{') {
                continue;
            }
            let indent = line.len() - line.trim_start().len();
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| line.starts_with(&end));
            let length = length.map_or(lines.len() - start, |last| last + 1);
            if length > FUNCTION_LINES_MAX {
                let cure = format!(
                    "a function of {length} lines, at most {FUNCTION_LINES_MAX}: name its parts"
                );
                findings.push(file.at(start, &cure));
            }
        }
    }
    findings
}

fn begins_function(line: &str) -> bool {
    const BEFORE: [&str; 7] =
        ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern"];
    line.split_whitespace().find(|word| !BEFORE.contains(word)) == Some("fn")
}

fn unfinished(files: &[File]) -> Vec<String> {
    let macros =
        |line: &str| ["todo!", "dbg!", "unimplemented!"].iter().any(|name| has_word(line, name));
    let marks = |line: &str| {
        [concat!("FIX", "ME"), concat!("XX", "X")].iter().any(|mark| has_word(line, mark))
    };
    let mut findings = each_line(files, |file| &file.code, macros, "finish it or take it out");
    findings.extend(each_line(files, |file| &file.text, marks, "do it now or open an issue"));
    findings
}

fn floors(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let Some(inside) = file.path.strip_prefix("src/") else { continue };
        if ["main.rs", "lib.rs"].contains(&inside) {
            continue;
        }
        let own = inside.split(['/', '.']).next().unwrap_or_default();
        let Some(rank) = rank(own) else {
            findings.push(file.at(0, "not on a floor: move it to one of those in src/lib.rs"));
            continue;
        };
        for (at, name) in crate_imports(&file.code) {
            if self::rank(name).is_some_and(|imported| imported < rank) {
                let line = file.code[..at].matches('\n').count();
                let cure = format!(
                    "'{own}' must not import '{name}', a floor above it: move the shared part \
                     down, or pass a value"
                );
                findings.push(file.at(line, &cure));
            }
        }
    }
    findings
}

fn rank(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

/// The first path segment of everything named under `crate::` or `fanfare::`, with its offset.
fn crate_imports(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for root in ["crate::", "fanfare::"] {
        for (at, _) in code.match_indices(root) {
            let rest_at = at + root.len();
            let rest = &code[rest_at..];
            if !rest.starts_with('{') {
                found.push((at, identifier(rest)));
                continue;
            }
            let mut depth = 0;
            for (offset, character) in rest.char_indices() {
                match character {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if depth == 1 && matches!(character, '{' | ',') {
                    let name_at = rest_at + offset + 1;
                    found.push((name_at, identifier(code[name_at..].trim_start())));
                }
            }
        }
    }
    found
}

fn identifier(text: &str) -> &str {
    &text[..text.find(|c: char| !is_word(c)).unwrap_or(text.len())]
}

fn shell_names(files: &[File]) -> Vec<String> {
    let product = files
        .iter()
        .filter(|file| file.path.starts_with("src/") && !file.path.starts_with("src/shell/"));
    let named = |line: &str| SHELL_NAMES.iter().any(|name| has_word(line, name));
    let cure = "only src/shell/ names glommio, io_uring, sockets and the clock: take time as an \
                argument, take bytes instead of a socket";
    each_line(product, |file| &file.code, named, cure)
}

fn nats_names(files: &[File]) -> Vec<String> {
    let product = files
        .iter()
        .filter(|file| file.path.starts_with("src/") && !file.path.starts_with("src/nats/"));
    let named = |line: &str| ["async_nats", "tokio"].iter().any(|name| has_word(line, name));
    let cure = "only src/nats/ names the NATS client and tokio: use what it exports";
    each_line(product, |file| &file.code, named, cure)
}

fn unsafe_code(files: &[File]) -> Vec<String> {
    let product = files.iter().filter(|file| {
        let allowed = ["src/shell/", "src/handoff/"];
        file.path.starts_with("src/") && !allowed.iter().any(|path| file.path.starts_with(path))
    });
    let cure = "unsafe code belongs in src/shell/ or src/handoff/: find the safe way";
    each_line(product, |file| &file.code, |line| has_word(line, "unsafe"), cure)
}

fn counters(files: &[File]) -> Vec<String> {
    let (telemetry, others): (Vec<_>, Vec<_>) = files
        .iter()
        .filter(|file| file.path.starts_with("src/"))
        .partition(|file| file.path.starts_with("src/telemetry/"));
    let written: String = others.iter().flat_map(|file| file.code.split_whitespace()).collect();
    let mut findings = Vec::new();
    for file in telemetry {
        for (at, line) in file.code.lines().enumerate() {
            let field = line.trim().strip_prefix("pub ").and_then(|l| l.strip_suffix(": Cell,"));
            let Some(name) = field else { continue };
            let writes = [format!(".{name}.add("), format!(".{name}.set(")];
            if !writes.iter().any(|write| written.contains(write)) {
                findings.push(file.at(at, &format!("nobody writes '{name}': count it or drop it")));
            }
        }
    }
    findings
}

fn bounds(files: &[File]) -> Vec<String> {
    let is_limits = |file: &&File| file.path.starts_with("src/limits");
    if !files.iter().any(|file| is_limits(&file)) {
        return vec!["src/limits.rs is missing".into()];
    }
    let mut findings = Vec::new();
    for limits in files.iter().filter(is_limits) {
        for (at, line) in limits.code.lines().enumerate() {
            let Some(name) = line.strip_prefix("pub const ").map(identifier) else { continue };
            let used = files
                .iter()
                .filter(|file| file.path.starts_with("src/") && !is_limits(file))
                .any(|file| has_word(&file.code, name));
            if !used {
                let cure = format!("nothing keeps to {name}: use it or drop it");
                findings.push(limits.at(at, &cure));
            }
        }
    }
    findings
}

fn links(pages: &[File], exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for page in pages {
        let folder = Path::new(&page.path).parent().unwrap_or_else(|| Path::new(""));
        let mut fenced = false;
        for (at, line) in page.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for target in targets.filter(|_| !fenced) {
                let file = target.split(['#', ' ']).next().unwrap_or_default();
                let elsewhere = file.contains("://") || file.starts_with("mailto:");
                if !file.is_empty() && !elsewhere && !exists(&folder.join(file)) {
                    findings.push(page.at(at, &format!("'{file}' does not exist: mend the link")));
                }
            }
        }
    }
    findings
}

fn holds(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn each_line<'a>(
    files: impl IntoIterator<Item = &'a File>,
    text: fn(&File) -> &str,
    bad: impl Fn(&str) -> bool,
    cure: &str,
) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let lines = text(file).lines().enumerate();
        findings.extend(lines.filter(|(_, line)| bad(line)).map(|(at, _)| file.at(at, cure)));
    }
    findings
}

/// Whether `name` stands in `text` with nothing of a word around it.
fn has_word(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word)
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// A file of the repository.
struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
    /// The text with comments and the insides of strings blanked, line for line.
    code: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into(), code: code_of(text) }
    }

    fn at(&self, line: usize, cure: &str) -> String {
        format!("{}:{}: {cure}", self.path, line + 1)
    }
}

fn rust_files() -> Vec<File> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "bench"] {
        collect(folder, "rs", &mut files);
    }
    assert!(files.iter().any(|file| file.path == "tests/tidy.rs"), "the walk finds this file");
    files
}

fn pages() -> Vec<File> {
    let mut files = Vec::new();
    collect("docs", "md", &mut files);
    for path in ["README.md", "kernel-tuning.md"] {
        read(Path::new(path), &mut files);
    }
    files
}

fn collect(folder: &str, extension: &str, files: &mut Vec<File>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    for path in paths {
        let inside = path.strip_prefix(root).expect("the walk began at the root").to_owned();
        if path.is_dir() && !path.ends_with("target") {
            collect(utf8(&inside), extension, files);
        } else if path.extension().is_some_and(|found| found == extension) {
            read(&inside, files);
        }
    }
}

fn read(path: &Path, files: &mut Vec<File>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Ok(text) = fs::read_to_string(root.join(path)) {
        files.push(File::new(utf8(path), &text));
    }
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("paths of the repository are UTF-8")
}

/// Blanks comments and the insides of literals; line breaks stay, so lines keep their numbers.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let hidden = hidden_len(rest, code.chars().next_back());
        let taken = if hidden == 0 { character.len_utf8() } else { hidden };
        if hidden == 0 {
            code.push(character);
        } else {
            code.extend(rest[..hidden].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = &rest[taken..];
    }
    code
}

/// Bytes of the comment or literal that `rest` begins with, 0 if it begins with neither.
fn hidden_len(rest: &str, before: Option<char>) -> usize {
    let until = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return until(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return until(rest.find("*/").map(|at| at + 2));
    }
    let raw = rest.strip_prefix("r").filter(|_| !before.is_some_and(|c| is_word(c) && c != 'b'));
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = 1 + hashes + 1;
            return until(rest[start..].find(&end).map(|at| start + at + end.len()));
        }
    }
    let quote = match rest.chars().next() {
        Some('"') => '"',
        Some('\'') if is_character(rest) => '\'',
        _ => return 0,
    };
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Tells a character literal from a lifetime.
fn is_character(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    characters.next() == Some('\\') || characters.next() == Some('\'')
}
