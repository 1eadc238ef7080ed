//! `fanfare doctor`: this host held against `kernel-tuning.md`.
//!
//! Not here: the rules (`doctor`). Invariant: it reads only, and says each thing once; exit code 1
//! means that something is wrong, and advice is not.

use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;

use super::failure::{Failure, written};
use crate::doctor::{Finding, Live, Need, Rings, Verdict};
use crate::doctor::{card_of_default_route, cards, examine, gather};
use crate::protocol::json::write_string;
use crate::shell::checks;

/// Looks at this host: what keeps a server from starting, and what would make it faster.
///
/// With --json the output is one array of objects: `verdict` (ok, advice, wrong or unknown),
/// `name`, `found`, `recommended`, `cure` (a command; empty when there is nothing to do) and
/// `anchor`, a section of kernel-tuning.md.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// One JSON array instead of lines
    #[arg(long)]
    json: bool,
    /// Network card that clients come through [default: that of the default route]
    #[arg(long, value_name = "IFACE")]
    nic: Option<String>,
    /// Clients that this host is to carry at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    clients: u64,
    /// Root folder of another host's procfs and sysfs
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

impl Doctor {
    /// Looks, and says what was found.
    ///
    /// # Errors
    /// A card that is not there; that something is wrong, once it was said.
    pub fn run(&self) -> Result<(), Failure> {
        let card = match &self.nic {
            None => card_of_default_route(&self.root),
            Some(name) => {
                let known = cards(&self.root);
                if !known.contains(name) {
                    let known = known.join(", ");
                    let what = format!("--nic: no network card `{name}`; there are: {known}");
                    return Err(Failure::Usage(what));
                }
                Some(name.clone())
            }
        };
        let facts = gather(&self.root, self.live(), card.as_deref());
        let findings = examine(&facts, Need { clients: self.clients });
        let mut out = Vec::new();
        if self.json {
            write_array(&mut out, &findings);
        } else {
            let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            write_lines(&mut out, &findings, colours);
        }
        written(stdout().write_all(&out))?;
        let is_wrong = |finding: &Finding| finding.judgement.verdict == Verdict::Wrong;
        if findings.iter().any(is_wrong) { Err(Failure::Said) } else { Ok(()) }
    }

    /// What system calls tell, unless the files are another host's.
    fn live(&self) -> Live {
        let page_bytes = checks::page_bytes();
        if self.root.as_os_str() != "/" {
            return Live { rings: Rings::NotTried, clock_synchronized: None, page_bytes };
        }
        let rings = match checks::try_rings() {
            Ok(()) => Rings::Given,
            Err(error) => Rings::Refused(error.to_string()),
        };
        Live { rings, clock_synchronized: checks::is_clock_synchronized(), page_bytes }
    }
}

fn write_lines(out: &mut Vec<u8>, findings: &[Finding], colours: bool) {
    for Finding { name, anchor, judgement } in findings {
        let verdict = judgement.verdict;
        let (begin, end) = if colours { (colour(verdict), "\x1b[0m") } else { ("", "") };
        let mut text =
            format!("{begin}{:<8}{end} {name:<34} {}\n", verdict.as_str(), judgement.found);
        if verdict != Verdict::Ok {
            let see = format!("kernel-tuning.md#{anchor}");
            let parts =
                [("recommended", &judgement.wanted), ("cure", &judgement.cure), ("see", &see)];
            for (name, part) in parts {
                text += &format!("         {name}: {part}\n");
            }
        }
        out.extend_from_slice(text.as_bytes());
    }
    let count = |verdict| findings.iter().filter(|f| f.judgement.verdict == verdict).count();
    let summary = format!(
        "{} wrong, {} advice, {} unknown, {} ok\n",
        count(Verdict::Wrong),
        count(Verdict::Advice),
        count(Verdict::Unknown),
        count(Verdict::Ok),
    );
    out.extend_from_slice(summary.as_bytes());
}

const fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "\x1b[32m",
        Verdict::Unknown => "\x1b[2m",
        Verdict::Advice => "\x1b[33m",
        Verdict::Wrong => "\x1b[1;31m",
    }
}

fn write_array(out: &mut Vec<u8>, findings: &[Finding]) {
    for (at, Finding { name, anchor, judgement }) in findings.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"[\n" } else { b",\n" });
        let fields = [
            ("verdict", judgement.verdict.as_str()),
            ("name", name),
            ("found", &judgement.found),
            ("recommended", &judgement.wanted),
            ("cure", &judgement.cure),
            ("anchor", anchor),
        ];
        for (field, (key, value)) in fields.into_iter().enumerate() {
            out.extend_from_slice(if field == 0 { b" {" } else { b", " });
            write_string(out, key);
            out.extend_from_slice(b": ");
            write_string(out, value);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"\n]\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Judgement;

    fn finding(verdict: Verdict, cure: &str) -> Finding {
        let (found, wanted) = ("\"a\"".into(), "b".into());
        let judgement = Judgement { verdict, found, wanted, cure: cure.into() };
        Finding { name: "thing", anchor: "things", judgement }
    }

    #[test]
    fn a_line_says_what_is_there_and_where_it_is_amiss_what_cures_it() {
        let findings = [finding(Verdict::Ok, ""), finding(Verdict::Wrong, "do this")];
        let mut out = Vec::new();
        write_lines(&mut out, &findings, false);
        let text = String::from_utf8(out).unwrap();
        let thing = format!("{:<34} \"a\"", "thing");
        let expected = format!(
            "ok       {thing}\nwrong    {thing}\n         recommended: b\n         cure: do this\n\
            \x20        see: kernel-tuning.md#things\n1 wrong, 0 advice, 0 unknown, 1 ok\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn colours_are_around_the_verdict_only() {
        let mut out = Vec::new();
        write_lines(&mut out, &[finding(Verdict::Advice, "do this")], true);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("\x1b[33madvice  \x1b[0m thing"), "{text:?}");
        assert_eq!(text.matches('\x1b').count(), 2);
    }

    #[test]
    fn the_array_is_json_with_six_texts_in_each_object() {
        let mut out = Vec::new();
        write_array(&mut out, &[finding(Verdict::Wrong, "do\n"), finding(Verdict::Unknown, "")]);
        let array: Vec<std::collections::BTreeMap<String, String>> =
            serde_json::from_slice(&out).unwrap();
        assert_eq!(array.len(), 2);
        assert_eq!(array[0].len(), 6);
        assert_eq!(array[0]["found"], "\"a\"");
        assert_eq!(array[0]["cure"], "do\n");
        assert_eq!(array[1]["verdict"], "unknown");
    }
}
