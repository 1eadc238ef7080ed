//! `fanfare subscribe`: a subscriber for people and for pipes.
//!
//! Not here: the subscription and its connections (`client`), what is printed of them (`printer`)
//! and the counting (`tally`). Invariant: what the server sent as data reaches standard output in
//! its order and once, and what may be missing is said.

use std::io::{Write, stdout};
use std::time::Duration;

use super::credentials::{TokenFlags, TrustFlags};
use super::ends::{EndFlags, LOOK_PERIOD};
use super::failure::{Failure, Flow, failure, no_signals, written};
use super::say::say;
use super::wish::WishFlags;
use crate::client::{Error, Item, Pair, Place, Subscriber, Subscription};
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
    /// Server, such as ws://127.0.0.1:9001/v1 or wss://HOST:PORT/v1; or the nodes of a cluster,
    /// with commas between them: where one ends, another one goes on
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
    /// Ask the server to compress its messages [default: they come as they are]
    #[arg(long)]
    compress: bool,
    /// Ask the server for binary messages; what is printed is the same [default: JSON]
    #[arg(long)]
    binary: bool,
    /// End when the connection does [default: connect again, unless that is pointless]
    #[arg(long)]
    no_reconnect: bool,
    /// Two connections at once, to different nodes if there are several: of each event the first
    /// one is printed. Control frames are not, with --json
    #[arg(long, conflicts_with = "no_reconnect")]
    ab: bool,
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
        let stop = Stop::install_once().map_err(no_signals)?;
        self.run_until(&|| stop.asked() > 0, &mut stdout().lock())
    }

    fn run_until(&self, stop: &dyn Fn() -> bool, out: &mut impl Write) -> Result<(), Failure> {
        let start_ns = clock::now().monotonic_ns;
        let end_ns = self.ends.end_ns(start_ns);
        let mut printer = Printer::new(self.output(), self.ends.count_max(), start_ns);
        let mut subscriber = self.connections()?;
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
            say(format_args!("all up to here: --resume {place}"));
        }
        if !is_over {
            subscriber.close();
        }
        match (printer.summary(channels, clock::now().monotonic_ns), self.output()) {
            (None, _) | (_, Output::Json) => {}
            (Some(summary), Output::Table) => say(&summary),
            (Some(summary), Output::Stats) => drop(written(writeln!(out, "{summary}"))?),
        }
        result
    }

    fn connections(&self) -> Result<Connections, Failure> {
        let subscription = self.subscription()?;
        Ok(if self.ab {
            Connections::Two(Box::new(subscription.start_pair().map_err(failure)?))
        } else {
            Connections::One(Box::new(subscription.start().map_err(failure)?))
        })
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
        if self.compress {
            subscription = subscription.compressed();
        }
        if self.binary {
            subscription = subscription.binary();
        }
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

/// One connection at a time, or two.
#[derive(Debug)]
enum Connections {
    One(Box<Subscriber>),
    Two(Box<Pair>),
}

impl Connections {
    fn read(&mut self, patience: Duration, give: impl FnMut(Item<'_>)) -> Result<(), Error> {
        match self {
            Self::One(subscriber) => subscriber.read(patience, give),
            Self::Two(pair) => pair.read(patience, give),
        }
    }

    fn channel_count(&self) -> usize {
        match self {
            Self::One(subscriber) => subscriber.channel_count(),
            Self::Two(pair) => pair.channel_count(),
        }
    }

    fn place(&self) -> Option<Place> {
        match self {
            Self::One(subscriber) => subscriber.place().cloned(),
            Self::Two(pair) => pair.place(),
        }
    }

    fn close(self) {
        match self {
            Self::One(subscriber) => subscriber.close(),
            // Its threads see that nobody is there.
            Self::Two(pair) => drop(pair),
        }
    }
}

#[cfg(test)]
mod tests;
