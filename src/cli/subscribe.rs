//! `fanfare subscribe`: a subscriber for people and for pipes.
//!
//! Not here: the subscription and its connections (`client`), what is printed of them (`printer`)
//! and the counting (`tally`). Invariant: what the server sent as data reaches standard output in
//! its order and once, and what may be missing is said.

use std::io::{Write, stdout};

use super::credentials::{TokenFlags, TrustFlags};
use super::ends::{EndFlags, LOOK_PERIOD};
use super::failure::{Failure, Flow, failure, written};
use super::wish::WishFlags;
use crate::client::{Place, Subscription};
use crate::shell::clock;
use crate::shell::signals::Stop;

mod notes;
mod printer;

use printer::Printer;

#[cfg(test)]
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
    #[command(flatten)]
    ends: EndFlags,
    /// Begin with the next event, also where what was missed cannot be had any more [default: with
    /// what still counts: the newest of each key, and order books]
    #[arg(long)]
    no_snapshot: bool,
    /// Begin after this place, if the server still has what came since: the epoch of `welcome` and
    /// the last seq that is had; --table and --stats say it at their end [default: with a snapshot]
    #[arg(long, value_name = "EPOCH:SEQ")]
    resume: Option<Place>,
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
        let start_ns = clock::now().monotonic_ns;
        let end_ns = self.ends.end_ns(start_ns);
        let mut printer = Printer::new(self.output(), self.ends.count_max(), start_ns);
        let mut subscriber = self.subscription()?.start().map_err(failure)?;
        let mut is_over = true;
        let result = loop {
            let read = subscriber.read(LOOK_PERIOD, |item| printer.take(item));
            if printer.write(out)? == Flow::Stop {
                break Ok(());
            }
            if let Err(error) = read {
                break Err(failure(error));
            }
            let now_ns = clock::now().monotonic_ns;
            if printer.report(subscriber.channel_count(), now_ns, out)? == Flow::Stop {
                break Ok(());
            }
            if printer.is_done() || stop() || now_ns >= end_ns {
                is_over = false;
                break Ok(());
            }
        };
        let channels = subscriber.channel_count();
        if let Some(place) = subscriber.place().filter(|_| printer.has_all()) {
            eprintln!("all up to here: --resume {place}");
        }
        if !is_over {
            subscriber.close();
        }
        match (printer.summary(channels, clock::now().monotonic_ns), self.output()) {
            (None, _) | (_, Output::Json) => {}
            (Some(summary), Output::Table) => eprintln!("{summary}"),
            (Some(summary), Output::Stats) => drop(written(writeln!(out, "{summary}"))?),
        }
        result
    }

    fn output(&self) -> Output {
        match (self.table, self.stats) {
            (true, _) => Output::Table,
            (_, true) => Output::Stats,
            _ => Output::Json,
        }
    }

    fn subscription(&self) -> Result<Subscription, Failure> {
        let mut subscription = Subscription::new(&self.url, &self.patterns)
            .terms(self.wish.terms()?)
            .credential(self.token.credential())
            .trust(self.trust.files());
        if self.no_snapshot {
            subscription = subscription.without_snapshot();
        }
        if let Some(place) = &self.resume {
            subscription = subscription.resume(place.clone());
        }
        if self.no_reconnect {
            subscription = subscription.without_reconnect();
        }
        Ok(subscription)
    }
}

#[cfg(test)]
mod tests;
