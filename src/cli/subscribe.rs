//! `fanfare subscribe`: a subscriber for people and for pipes.
//!
//! One command goes through as many connections as it takes: `connector` makes them, a `session`
//! reads each of them. Not here: the socket (`shell::client`), when and where to connect again
//! (`reconnect`) and the counting (`tally`). Invariant: what the server sent as data reaches
//! standard output in its order, and what may be missing between two connections is said.

use std::io::{Write, stdout};
use std::time::Duration;

use super::credentials::{TokenFlags, TrustFlags};
use super::failure::{Failure, written};
use super::wish::WishFlags;
use crate::protocol::channel::Pattern;
use crate::protocol::json::write_string;
use crate::shell::clock;
use crate::shell::signals::Stop;

mod connector;
mod notes;
mod session;

use connector::{Connector, End};
use session::{Ended, Session};

/// How long one read or wait takes before signals and the clock are looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
const MS_NS: u64 = 1_000_000;

/// Subscribes and prints what arrives.
#[derive(Debug, clap::Args)]
pub struct Subscribe {
    /// Server, such as ws://127.0.0.1:9001/v1 or wss://HOST:PORT/v1
    url: String,
    /// Channels or patterns: * matches one token, > the rest; quote them for the shell
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Print every frame as it came, one a line; the default
    #[arg(long, group = "output")]
    json: bool,
    /// Print aligned columns: time, channel, type, seq, key, data
    #[arg(long, group = "output")]
    table: bool,
    /// Print rate, bytes, gaps and latency once a second, and a summary at the end
    #[arg(long, group = "output")]
    stats: bool,
    /// End after this many events [default: never]
    #[arg(long, value_name = "EVENTS")]
    count: Option<u64>,
    /// End after this many seconds [default: never]
    #[arg(long)]
    seconds: Option<f64>,
    /// End when the connection does [default: connect again, unless that is pointless]
    #[arg(long)]
    no_reconnect: bool,
    #[command(flatten)]
    wish: WishFlags,
    #[command(flatten)]
    token: TokenFlags,
    #[command(flatten)]
    trust: TrustFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Json,
    Table,
    Stats,
}

impl Subscribe {
    /// Runs until the count, the time, a signal, or what makes another connection pointless.
    ///
    /// # Errors
    /// A wrong pattern, URL or file; a refusal; a server that cannot be reached at the start; with
    /// `--no-reconnect` also the end of the connection.
    pub fn run(&self) -> Result<(), Failure> {
        let stop = Stop::install().map_err(|error| Failure::Run(format!("signals: {error}")))?;
        self.run_until(&|| stop.asked() > 0, &mut stdout().lock())
    }

    fn run_until(&self, stop: &dyn Fn() -> bool, out: &mut impl Write) -> Result<(), Failure> {
        let request = self.request()?;
        let start_ns = clock::now().monotonic_ns;
        let end_ns = self.seconds.map(|seconds| start_ns.saturating_add(seconds_ns(seconds)));
        let end = End { stop, end_ns };
        let mut session = Session::new(self, start_ns);
        let result = self.follow(&request, &mut session, &end, out);
        match (session.summary(clock::now().monotonic_ns), self.output()) {
            (None, _) | (_, Output::Json) => {}
            (Some(summary), Output::Table) => eprintln!("{summary}"),
            (Some(summary), Output::Stats) => drop(written(writeln!(out, "{summary}"))?),
        }
        result
    }

    /// Goes from connection to connection.
    fn follow(
        &self,
        request: &str,
        session: &mut Session,
        end: &End<'_>,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let mut connector = Connector::new(self);
        let mut lost = None;
        loop {
            let Some(mut client) = connector.connect(lost.take(), end)? else { return Ok(()) };
            session.begin(client.security());
            let ended = match client.send_text(request) {
                Ok(()) => session.run(&mut client, &mut connector, end, out)?,
                Err(error) => Ended::Lost(connector.lost(error)),
            };
            match ended {
                Ended::Here => {
                    client.close();
                    return Ok(());
                }
                Ended::Quietly => return Ok(()),
                Ended::Moved(loss) => {
                    client.close();
                    lost = Some(loss);
                }
                Ended::Lost(loss) => lost = Some(loss),
            }
            connector.ended();
        }
    }

    fn output(&self) -> Output {
        match (self.table, self.stats) {
            (true, _) => Output::Table,
            (_, true) => Output::Stats,
            _ => Output::Json,
        }
    }

    fn request(&self) -> Result<String, Failure> {
        let mut out = br#"{"method":"subscribe","params":{"channels":["#.to_vec();
        for (at, pattern) in self.patterns.iter().enumerate() {
            if let Err(error) = Pattern::parse(pattern) {
                return Err(Failure::Usage(format!("pattern `{pattern}`: {error}")));
            }
            if at > 0 {
                out.push(b',');
            }
            write_string(&mut out, pattern);
        }
        out.push(b']');
        self.wish.write(&mut out)?;
        out.extend_from_slice(br#"},"req_id":1}"#);
        Ok(String::from_utf8(out).expect("patterns are ASCII"))
    }
}

fn seconds_ns(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(u64::MAX, clock::nanoseconds)
}

#[cfg(test)]
mod tests;
