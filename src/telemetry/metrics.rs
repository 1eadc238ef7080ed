//! `/metrics`: every counter under its name for Prometheus, in the OpenMetrics text format.
//!
//! One table says what each metric is called, what it means and where it is read; the crate
//! `prometheus-client` writes it. Shards are told apart by the label `shard` and merged by who
//! asks. Not here: counting. Invariant: `docs/METRICS.md` has exactly these metrics.

mod table;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use super::histogram::Histogram;
use super::{
    Cell, IngestCounters, ShardCounters, ShardHistograms, SourceCounters, StreamCounters, Telemetry,
};

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name without the unit, and without `_total`.
    name: &'static str,
    unit: Option<&'static str>,
    /// What it means, without the full stop.
    pub help: &'static str,
    read: Read,
}

/// Where a metric is read, and by which factor it is brought to its unit.
#[derive(Debug, Clone, Copy)]
enum Read {
    Ingest(MetricType, fn(&IngestCounters) -> &Cell),
    Stream(MetricType, fn(&StreamCounters) -> &Cell),
    Source(MetricType, fn(&SourceCounters) -> &Cell, f64),
    Shard(MetricType, fn(&ShardCounters) -> &Cell, f64),
    IngestTimes(fn(&IngestCounters) -> &Histogram, f64),
    Times(fn(&ShardHistograms) -> &Histogram, f64),
    /// Samples of a shard with one label more, or two.
    ByLabel(MetricType, fn(&ShardCounters, &mut Samples<'_>) -> fmt::Result),
    Build,
}

/// Takes labels and values.
type Samples<'a> = dyn FnMut(&[(&'static str, &'static str)], u64) -> fmt::Result + 'a;

use MetricType::{Counter, Gauge};
use Read::{Build, ByLabel, Ingest, IngestTimes, Shard, Source, Stream, Times};
pub use table::METRICS;

impl Metric {
    /// The name of its series, or of what they begin with.
    #[must_use]
    pub fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let end = match self.kind() {
            Counter => "_total",
            MetricType::Info => "_info",
            _ => "",
        };
        format!("{}{unit}{end}", self.name)
    }

    /// `counter`, `gauge`, `histogram` or `info`.
    #[must_use]
    pub const fn kind_name(&self) -> &'static str {
        match self.kind() {
            Counter => "counter",
            Gauge => "gauge",
            MetricType::Histogram => "histogram",
            _ => "info",
        }
    }

    const fn kind(&self) -> MetricType {
        match self.read {
            Ingest(kind, _)
            | Stream(kind, _)
            | Source(kind, ..)
            | Shard(kind, ..)
            | ByLabel(kind, _) => kind,
            IngestTimes(..) | Times(..) => MetricType::Histogram,
            Build => MetricType::Info,
        }
    }

    fn encode(&self, out: &mut DescriptorEncoder<'_>, telemetry: &Telemetry) -> fmt::Result {
        let unit = self.unit.map(|unit| Unit::Other(unit.to_owned()));
        let kind = self.kind();
        let mut out = out.encode_descriptor(self.name, self.help, unit.as_ref(), kind)?;
        let shards = telemetry.shards.iter().enumerate();
        let mut shards = shards.map(|(number, shard)| (number.to_string(), &**shard));
        match self.read {
            Build => out.encode_info(&[("version", env!("CARGO_PKG_VERSION"))]),
            Ingest(_, cell) => number(out, kind, cell(&telemetry.ingest).value(), 1.0),
            Stream(_, cell) => number(out, kind, cell(&telemetry.stream).value(), 1.0),
            IngestTimes(times, factor) => histogram(out, times(&telemetry.ingest), factor),
            Source(_, cell, factor) => telemetry.sources.iter().try_for_each(|source| {
                let labels = [("source", source.url.as_str())];
                number(out.encode_family(&labels)?, kind, cell(source).value(), factor)
            }),
            Shard(_, cell, factor) => shards.try_for_each(|(name, shard)| {
                let labels = [("shard", name.as_str())];
                number(out.encode_family(&labels)?, kind, cell(shard).value(), factor)
            }),
            Times(times, factor) => shards.try_for_each(|(name, shard)| {
                let labels = [("shard", name.as_str())];
                histogram(out.encode_family(&labels)?, times(&shard.times), factor)
            }),
            ByLabel(_, each) => shards.try_for_each(|(name, shard)| {
                each(shard, &mut |labels, value| {
                    let mut all = vec![("shard", name.as_str())];
                    all.extend_from_slice(labels);
                    number(out.encode_family(&all)?, kind, value, 1.0)
                })
            }),
        }
    }
}

fn number(mut out: MetricEncoder<'_>, kind: MetricType, value: u64, factor: f64) -> fmt::Result {
    match (kind, factor) {
        (Counter, 1.0) => out.encode_counter::<NoLabelSet, _, f64>(&value, NO_EXEMPLAR),
        (_, 1.0) => out.encode_gauge(&value),
        (_, factor) => out.encode_gauge(&(value as f64 * factor)),
    }
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

fn histogram(mut out: MetricEncoder<'_>, histogram: &Histogram, factor: f64) -> fmt::Result {
    let counts = histogram.counts();
    let sum = counts.sum as f64 * factor;
    out.encode_histogram::<NoLabelSet>(sum, counts.count(), &counts.classic(factor), None)
}

/// What Prometheus is told that `/metrics` is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes `/metrics`.
#[derive(Debug)]
pub struct Exporter(Registry);

#[derive(Debug)]
struct All(Arc<Telemetry>);

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        METRICS.iter().try_for_each(|metric| metric.encode(&mut encoder, &self.0))
    }
}

impl Exporter {
    /// Of these counters.
    #[must_use]
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(All(telemetry)));
        Self(registry)
    }

    /// The whole page.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.0).expect("a string takes everything");
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../docs/METRICS.md");

    #[test]
    fn the_page_of_metrics_has_exactly_these() {
        let row = |metric: &Metric| {
            format!("| `{}` | {} | {} |", metric.full_name(), metric.kind_name(), metric.help)
        };
        let expected: Vec<_> = METRICS.iter().map(row).collect();
        let found: Vec<_> = PAGE.lines().filter(|line| line.starts_with("| `fanfare_")).collect();
        assert_eq!(found, expected, "put these into docs/METRICS.md:\n{}\n", expected.join("\n"));
    }

    #[test]
    fn every_series_has_a_row_and_every_counter_a_series() {
        let telemetry = Arc::new(Telemetry::with_sources(1, &["stdin://".into()]));
        let shard = &telemetry.shards[0];
        let (ingest, stream) = (telemetry.ingest.named(), telemetry.stream.named());
        let cells = [&ingest[..], &stream, &shard.named(), &telemetry.sources[0].named()];
        let cells: Vec<_> = cells.concat();
        (7_001..).zip(&cells).for_each(|(value, (_, cell))| cell.set(value));
        let text = Exporter::new(Arc::clone(&telemetry)).text();
        assert!(text.ends_with("# EOF\n"));
        // These are sums of what is told apart by label.
        let summed =
            ["closed", "refused", "gaps", "missed", "tls_handshakes", "tls_overhead_bytes"];
        for (value, (name, _)) in (7_001_u64..).zip(&cells) {
            let is_shown = text.lines().filter_map(|line| line.rsplit(' ').next()).any(|shown| {
                let shown = shown.parse::<f64>().unwrap_or(0.0);
                [1.0, 1e-3, 1e-6, 1e-9]
                    .iter()
                    .any(|factor| (shown / (value as f64 * factor) - 1.0).abs() < 1e-9)
            });
            assert!(is_shown || summed.contains(name), "{name}");
        }
        let names: BTreeSet<_> = METRICS.iter().map(Metric::full_name).collect();
        let series = text.lines().filter(|line| !line.starts_with('#'));
        for name in series.filter_map(|line| line.split(['{', ' ']).next()) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(names.contains(base.unwrap_or(name)) || names.contains(name), "{name}");
        }
    }

    #[test]
    fn a_histogram_is_shown_as_buckets_that_add_up() {
        let telemetry = Arc::new(Telemetry::new(2));
        telemetry.shards[1].times.turn_ns.record_n(1_000_000, 3);
        let text = Exporter::new(telemetry).text();
        let has = |line: &str| assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        has("fanfare_turn_seconds_count{shard=\"1\"} 3");
        has("fanfare_turn_seconds_bucket{le=\"+Inf\",shard=\"1\"} 3");
        has("fanfare_turn_seconds_count{shard=\"0\"} 0");
        has("fanfare_turn_seconds_bucket{le=\"0.000524288\",shard=\"1\"} 0");
    }
}
