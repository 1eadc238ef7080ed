//! `fanfare plan`: how many nodes a number of clients takes, from what was measured.
//!
//! Not here: the figures (`measured`), and what follows from them (`model`). Invariant: every
//! answer is a range, and says what it rests on.

use std::io::{Write, stdout};

use super::failure::{Failure, written};
use super::figures::{bytes, grouped};

mod measured;
mod model;

use measured::{Measured, Range};
use model::{Ask, Plan as Answer};

/// Works out how many nodes a number of clients takes, what breaks first, and what the stream has
/// to carry; docs/SCALING.md explains the model.
///
/// Every answer is a range: from what runs in results/ have measured at their best to the same at
/// their worst. They were taken over loopback on a small virtual machine; measure one node of yours
/// before you buy.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Clients at the same time
    #[arg(long, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    clients: u64,
    /// Events of the whole feed in a second
    #[arg(long, value_name = "PER_SECOND", value_parser = positive)]
    rate: f64,
    /// Bytes of an event's data
    #[arg(long, value_name = "BYTES", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    bytes: u64,
    /// Which part of the feed one client has subscribed to, 1 is all of it
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    share: f64,
    /// Milliseconds from the first client of an event to the last one of the same core
    #[arg(long, value_name = "MS", default_value_t = 20.0, value_parser = positive)]
    latency_ms: f64,
    /// Cores of a node that serve clients
    #[arg(long, value_name = "COUNT", default_value_t = 16,
          value_parser = clap::value_parser!(u64).range(1..=1_024))]
    cores: u64,
    /// Network of a node, gigabits in a second
    #[arg(long, value_name = "GBIT", default_value_t = 25.0, value_parser = positive)]
    network_gbit: f64,
    /// Which part of cores and network is planned for; the rest is for bursts and for the clients
    /// of a node that died
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    headroom: f64,
    /// Nodes that may be gone at once
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(0..=1_000))]
    spare: u64,
    /// Clients come over TLS
    #[arg(long)]
    tls: bool,
    /// Hours that the stream keeps events
    #[arg(long, value_name = "HOURS", default_value_t = 24.0, value_parser = positive)]
    keep_hours: f64,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// Works it out.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn run(&self) -> Result<(), Failure> {
        let measured = Measured::recorded();
        let answer = model::plan(&self.ask(), &measured);
        let mut out = Vec::new();
        if self.json {
            write_object(&mut out, &answer);
        } else {
            self.write_lines(&mut out, &answer, &measured);
        }
        written(stdout().write_all(&out)).map(|_| ())
    }

    const fn ask(&self) -> Ask {
        Ask {
            clients: self.clients,
            rate: self.rate,
            bytes: self.bytes,
            share: self.share,
            latency_ms: self.latency_ms,
            cores: self.cores,
            network_gbit: self.network_gbit,
            headroom: self.headroom,
            spare: self.spare,
            is_tls: self.tls,
            keep_hours: self.keep_hours,
        }
    }

    fn write_lines(&self, out: &mut Vec<u8>, answer: &Answer, measured: &Measured) {
        let mut line = |name: &str, what: String| {
            writeln!(out, "{name:<22} {what}").expect("a vector takes every write");
        };
        line("nodes", format!("{}, {} of them to spare", counts(answer.nodes), self.spare));
        line("clients of a node", counts(answer.clients_of_node));
        line("clients of a core", counts(answer.clients_of_core));
        line("what breaks first", answer.bound.text().to_owned());
        line("memory of a node", format!("{} and what the kernel keeps", sizes(answer.node_bytes)));
        line("network of a node", format!("{} Gbit/s", decimals(answer.node_gbit)));
        line("network of all", format!("{} Gbit/s", decimals(answer.all_gbit)));
        let comeback = decimals(answer.comeback_s);
        line(
            "a node dies",
            format!("{comeback} s of handshakes at the others, and the clients' waits"),
        );
        line("stream, in", format!("{:.2} Gbit/s", answer.stream_in_gbit));
        line("stream, out", format!("{} Gbit/s to the nodes", decimals(answer.stream_out_gbit)));
        line("stream, kept", bytes(answer.stream_bytes));
        for remark in &answer.remarks {
            line("note", (*remark).to_owned());
        }
        line("measured in", measured.sources().join(", "));
    }
}

fn write_object(out: &mut Vec<u8>, answer: &Answer) {
    let Answer { bound, comeback_s, stream_in_gbit, stream_bytes, .. } = answer;
    let members = [
        ("nodes", answer.nodes),
        ("clients_of_node", answer.clients_of_node),
        ("clients_of_core", answer.clients_of_core),
        ("node_bytes", answer.node_bytes),
        ("node_gbit", answer.node_gbit),
        ("all_gbit", answer.all_gbit),
        ("comeback_s", *comeback_s),
        ("stream_out_gbit", answer.stream_out_gbit),
    ];
    out.push(b'{');
    for (name, Range { low, high }) in members {
        write!(out, r#""{name}":{{"low":{low},"high":{high}}},"#).expect("a vector takes it");
    }
    let (breaks, remarks) = (bound.word(), answer.remarks.join("\",\""));
    let remarks = if remarks.is_empty() { remarks } else { format!("\"{remarks}\"") };
    write!(out, r#""stream_in_gbit":{stream_in_gbit},"stream_bytes":{stream_bytes},"#)
        .and_then(|()| writeln!(out, r#""breaks_first":"{breaks}","remarks":[{remarks}]}}"#))
        .expect("a vector takes it");
}

/// A range of whole numbers.
fn counts(range: Range) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of clients"
    )]
    between(range, |value| grouped(value.round() as u64))
}

fn sizes(range: Range) -> String {
    between(range, bytes)
}

fn decimals(range: Range) -> String {
    between(range, |value| if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") })
}

fn between(range: Range, text: impl Fn(f64) -> String) -> String {
    let (low, high) = (text(range.low), text(range.high));
    if low == high { low } else { format!("{low} to {high}") }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("a number above 0".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match positive(text) {
        Ok(value) if value <= 1.0 => Ok(value),
        _ => Err("a share above 0, and 1 at most".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::model::Bound;
    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        plan: Plan,
    }

    fn typed(line: &str) -> Plan {
        Typed::try_parse_from(line.split(' ')).unwrap().plan
    }

    #[test]
    fn a_million_clients_of_a_busy_feed_are_bound_by_the_network_and_of_a_quiet_one_by_the_cores() {
        let busy = typed("plan --clients 1000000 --rate 5000 --bytes 250");
        let answer = model::plan(&busy.ask(), &Measured::recorded());
        assert_eq!(answer.bound, Bound::Network);
        let quiet = typed("plan --clients 1000000 --rate 5000 --bytes 250 --share 0.01");
        let fewer = model::plan(&quiet.ask(), &Measured::recorded());
        assert_eq!(fewer.bound, Bound::Cores);
        assert!(fewer.nodes.high < answer.nodes.low);
    }

    #[test]
    fn the_lines_and_the_object_say_the_same() {
        let plan = typed("plan --clients 100000 --rate 100 --tls");
        let answer = model::plan(&plan.ask(), &Measured::recorded());
        let (mut lines, mut object) = (Vec::new(), Vec::new());
        plan.write_lines(&mut lines, &answer, &Measured::recorded());
        write_object(&mut object, &answer);
        let object: serde_json::Value = serde_json::from_slice(&object).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        let nodes = object["nodes"]["high"].as_f64().unwrap();
        assert!(lines.contains(&format!("{nodes}, 1 of them to spare")), "{lines}{object}");
        assert_eq!(object["breaks_first"], answer.bound.word());
    }

    #[test]
    fn the_page_shows_what_the_command_says() {
        const PAGE: &str = include_str!("../../docs/SCALING.md");
        let line = PAGE.lines().find_map(|line| line.strip_prefix("fanfare ")).unwrap();
        let plan = typed(line);
        let measured = Measured::recorded();
        let mut lines = Vec::new();
        plan.write_lines(&mut lines, &model::plan(&plan.ask(), &measured), &measured);
        let lines = String::from_utf8(lines).unwrap();
        let shown: Vec<_> = lines.lines().filter(|l| !l.starts_with("measured in")).collect();
        assert!(PAGE.contains(&shown.join("\n")), "docs/SCALING.md does not show:\n{lines}");
    }

    #[test]
    fn what_is_no_share_and_no_rate_is_refused() {
        for line in ["plan --clients 1 --rate 0", "plan --clients 1 --rate 1 --share 2"] {
            assert!(Typed::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
