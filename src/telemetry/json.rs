//! The counters as JSON: what `/stats` says.
//!
//! Names are those of the fields, and stay. Not here: `/metrics` ([`super::metrics`]). Invariant:
//! all that is in `/metrics` can be told from it.

use serde::Serialize;

use super::histogram::{Counts, Histogram};
use super::tally::{CLOSES, ENCODINGS, Grid, LAGS, STATES, Tally};
use super::{Cell, ShardCounters, Telemetry};

impl Telemetry {
    /// The counters as one JSON object: `server`, what their owner says of itself, then `ingest`,
    /// `stream`, `sources` in order, and `shards` by number.
    ///
    /// # Panics
    /// Where `server` has a map whose keys are no strings.
    #[must_use]
    pub fn to_json(&self, server: &impl Serialize) -> String {
        let server = simd_json::serde::to_string(server).expect("all keys are strings");
        let journal = histogram(&self.ingest.journal_append_ns);
        let mut ingest = fields(&self.ingest.named());
        ingest.push(format!("\"journal_append_ns\":{journal}"));
        let sources = self.sources.iter().map(|source| {
            let url = simd_json::serde::to_string(&source.url).expect("a string is JSON");
            let mut fields = vec![format!("\"url\":{url}")];
            fields.extend(self::fields(&source.named()));
            object(&fields)
        });
        let sources: Vec<_> = sources.collect();
        let shards: Vec<_> = self.shards.iter().map(|shard| self::shard(shard)).collect();
        format!(
            "{{\"server\":{server},\"ingest\":{},\"stream\":{},\"sources\":[{}],\
             \"shards\":[{}]}}\n",
            object(&ingest),
            object(&fields(&self.stream.named())),
            sources.join(","),
            shards.join(",")
        )
    }
}

fn shard(shard: &ShardCounters) -> String {
    let mut fields = fields(&shard.named());
    fields.push(format!("\"closes\":{}", tally(&shard.closes, &CLOSES)));
    fields.push(format!("\"encodings\":{}", tally(&shard.encodings, &ENCODINGS)));
    fields.push(format!("\"states\":{}", tally(&shard.states, &STATES)));
    fields.push(format!("\"lags\":{}", tally(&shard.lags, &LAGS)));
    fields.push(format!("\"receipts\":[{}]", losses(&shard.receipts, &shard.losses)));
    let histograms = shard.times.named();
    let histograms = histograms.map(|(name, one)| format!("\"{name}\":{}", histogram(one)));
    fields.push(format!("\"histograms\":{}", object(&histograms)));
    object(&fields)
}

/// Receipts of every cause and policy of which there are any.
fn losses(receipts: &Grid, losses: &Grid) -> String {
    let rows = receipts.cells().zip(losses.cells());
    let rows = rows.filter(|((_, _, count), _)| count.value() > 0);
    let rows: Vec<_> = rows
        .map(|((cause, policy, count), (_, _, missed))| {
            format!(
                "{{\"cause\":\"{cause}\",\"policy\":\"{policy}\",\"receipts\":{},\"missed\":{}}}",
                count.value(),
                missed.value()
            )
        })
        .collect();
    rows.join(",")
}

/// Count, sum, quantiles since the start, and the buckets that hold something: bound and count.
fn histogram(histogram: &Histogram) -> String {
    let counts: Counts = histogram.counts();
    let buckets = counts.filled().map(|(bound, count)| match bound {
        u64::MAX => format!("[null,{count}]"),
        bound => format!("[{bound},{count}]"),
    });
    let quantile = |part| match counts.quantile(part) {
        Some(bound) => format!("{bound:.0}"),
        None => "null".to_owned(),
    };
    format!(
        "{{\"count\":{},\"sum\":{},\"p50\":{},\"p99\":{},\"buckets\":[{}]}}",
        counts.count(),
        counts.sum,
        quantile(0.5),
        quantile(0.99),
        buckets.collect::<Vec<_>>().join(",")
    )
}

fn tally<const N: usize>(tally: &Tally<N>, names: &[&str; N]) -> String {
    let cells = names.iter().enumerate();
    let cells: Vec<_> =
        cells.map(|(at, name)| format!("\"{name}\":{}", tally.at(at).value())).collect();
    object(&cells)
}

fn fields(named: &[(&str, &Cell)]) -> Vec<String> {
    named.iter().map(|(name, cell)| format!("\"{name}\":{}", cell.value())).collect()
}

fn object(fields: &[String]) -> String {
    format!("{{{}}}", fields.join(","))
}
