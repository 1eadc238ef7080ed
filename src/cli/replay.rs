//! `fanfare replay`: a capture at its recorded pace or another, into a server's source, or served
//! right here.
//!
//! Not here: sending (`send`) and serving (`serve`). Invariant: both play the same lines at the
//! same pace.

use clap::ArgGroup;

use super::credentials::TokenFlags;
use super::failure::Failure;
use crate::config::mapping::{MapRule, Pointer};
use crate::config::source_url::{files, speed};
use crate::config::values::Wrong;
use crate::config::{self, ReplayInput};

mod send;
mod serve;

/// Plays a capture: into a server's source with --to, or to subscribers of its own with --serve.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("where").required(true).args(["to", "serve"])))]
pub struct Replay {
    /// Plain or gzip files, NDJSON or `<ns> <raw JSON>` lines, merged by time
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Source of the server: tcp://HOST:PORT or unix:///PATH
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// Serve the capture to WebSocket subscribers at this address, and end when all of them have
    /// everything; write it after the files [default address: 127.0.0.1:9001]
    #[arg(long, value_name = "IP:PORT", num_args = 0..=1, default_missing_value = serve::ADDRESS)]
    serve: Option<String>,
    /// With --serve: begin when so many clients have subscribed
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "to")]
    wait_clients: u64,
    /// Pace: max, or a factor of the recorded pace, such as 10 or 10x
    #[arg(long, value_name = "N|max", default_value = "1")]
    speed: String,
    /// Start again at the end [default: send once]
    #[arg(long = "loop")]
    looping: bool,
    /// Read everything first and sort by time, for files that are not in order [default: off]
    #[arg(long)]
    sort: bool,
    /// JSON pointer to the time in a line, such as /data/E [default: the line's own `ts`]
    #[arg(long, value_name = "POINTER")]
    time: Option<String>,
    /// Mapping into events, a TOML inline table, repeatable [default: lines are events already]
    #[arg(long, value_name = "RULE")]
    map: Vec<String>,
    #[command(flatten)]
    token: TokenFlags,
}

impl Replay {
    /// Plays everything, or until a signal.
    ///
    /// # Errors
    /// Wrong flags, all of them; files or a connection that fail; lines that were refused.
    pub fn run(&self) -> Result<(), Failure> {
        let (replay, rules) = self.meant()?;
        match (&self.to, &self.serve) {
            (Some(address), _) => send::send(address, &replay, rules, self.token.read()?.as_ref()),
            (None, listen) => {
                self.token.refuse("--serve, which lets everybody in")?;
                let clients_min = self.wait_clients;
                let listen = listen.as_deref().unwrap_or(serve::ADDRESS);
                serve::serve(listen, config::Replay { clients_min, ..replay }, rules)
            }
        }
    }

    fn meant(&self) -> Result<(config::Replay, Vec<MapRule>), Failure> {
        let mut problems = Vec::new();
        let paths = noted(&mut problems, "FILE", files(self.files.iter().map(String::as_str)));
        let speed = noted(&mut problems, "--speed", speed(&self.speed));
        let time = self.time.as_deref().map(|text| {
            let pointer = Pointer::parse(text);
            let wrong = |what| Wrong::new(format!("`{text}`: {what}"), "a pointer such as /data/E");
            noted(&mut problems, "--time", pointer.map_err(wrong))
        });
        let rules = self.map.iter().map(|text| {
            let wrong = |what| Wrong::new(what, "such as { channel = \"trade.{/s}\" }");
            noted(&mut problems, "--map", MapRule::parse_inline(text).map_err(wrong))
        });
        let rules: Option<Vec<_>> = rules.collect();
        match (paths, speed, rules) {
            (Some(paths), Some(speed), Some(rules)) if problems.is_empty() => {
                let input = ReplayInput::Files(paths);
                let (looping, sort, time) = (self.looping, self.sort, time.flatten());
                let all = config::Replay::new(input);
                let replay = config::Replay { speed, looping, sort, time, ..all };
                Ok((replay, rules))
            }
            _ => Err(Failure::Usage(problems.join("\n"))),
        }
    }
}

fn noted<T>(problems: &mut Vec<String>, flag: &str, result: Result<T, Wrong>) -> Option<T> {
    result
        .map_err(|wrong| {
            problems.push(format!("{flag}: {}; allowed: {}", wrong.what, wrong.allowed))
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::shell::fake::listen;

    fn replay(file: &str, to: &str) -> Replay {
        Replay {
            files: vec![file.into()],
            to: Some(to.into()),
            serve: None,
            wait_clients: 1,
            speed: "max".into(),
            looping: false,
            sort: true,
            time: Some("/Item/time_received".into()),
            map: Vec::new(),
            token: TokenFlags::default(),
        }
    }

    #[test]
    fn a_capture_arrives_mapped_and_in_the_order_of_its_times() {
        let (address, source) = listen(|mut stream| {
            let mut taken = String::new();
            stream.read_to_string(&mut taken).unwrap();
            taken
        });
        let to = format!("tcp://{address}");
        let mut replay = replay("examples/data/binance-spot-20250325.json.gz", &to);
        replay.map = ["Trade", "OrderBookL1"]
            .map(|kind| {
                format!(
                    r#"{{ channel = "{kind}.{{/Item/instrument}}", data = "/Item/kind/{kind}",
                        ts = "/Item/time_received" }}"#
                )
            })
            .to_vec();
        replay.run().unwrap();
        let taken = source.join().unwrap();
        assert_eq!(taken.lines().count(), 50_000);
        let first = "{\"channel\":\"OrderBookL1.1\",\"ts\":1742944020773684644,\"data\":";
        assert!(taken.starts_with(first), "{}", &taken[..200]);
        let times = taken.lines().map(|line| {
            let at = line.find("\"ts\":").unwrap() + 5;
            line[at..at + 19].parse::<u64>().unwrap()
        });
        assert!(times.is_sorted());
    }

    #[test]
    fn all_wrong_flags_are_reported_at_once() {
        let mut replay = replay("absent.gz", "tcp://127.0.0.1:1");
        replay.speed = "fast".into();
        replay.time = Some("time".into());
        replay.map = vec!["channel".into()];
        let failure = replay.run().unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        let text = failure.to_string();
        for flag in ["FILE: cannot read `absent.gz`", "--speed: `fast`", "--time: ", "--map: "] {
            assert!(text.contains(flag), "{flag} in {text}");
        }
    }
}
