// Numbers as people read them, and what happened between two looks at /stats.
//
// Pure: no page, no clock. Counters only grow, so a rate is a difference over the server's own time
// between the looks.

/** `950`, `12.3k`, `1.23M`. */
export const short = (value) => scaled(value, [[1e9, "G"], [1e6, "M"], [1e3, "k"]], "");

/** `950 B`, `12.3 kB`, `1.23 MB`: decimal, as networks count. */
export const bytes = (value) => scaled(value, [[1e9, " GB"], [1e6, " MB"], [1e3, " kB"]], " B");

/** `85 µs`, `1.23 ms`, `2.50 s`, of nanoseconds. */
export const time = (ns) => scaled(ns, [[1e9, " s"], [1e6, " ms"], [1e3, " µs"]], " ns");

/** `1,234,567`. */
export const grouped = (value) => value.toLocaleString("en-US");

/** `12.3 %`, of a part of 1. */
export const percent = (part) => `${(part * 100).toFixed(part < 0.0995 ? 1 : 0)} %`;

/** `4 d 03:25`, `3:25:01` or `25:01`, of milliseconds. */
export function age(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (value) => String(value).padStart(2, "0");
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  if (days > 0) return `${days} d ${two(hours)}:${two(minutes)}`;
  return `${hours > 0 ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}`;
}

function scaled(value, units, unit) {
  for (const [factor, name] of units) {
    // 999.5 would round to four digits, so it belongs to the next unit.
    if (value >= factor * 0.9995) {
      const part = value / factor;
      return part.toFixed(part < 9.995 ? 2 : part < 99.95 ? 1 : 0) + name;
    }
  }
  return (value > 0 && value < 9.95 ? Number(value.toFixed(1)) : Math.round(value)) + unit;
}

/** A counter over all shards. */
export const sum = (stats, name) => stats.shards.reduce((total, shard) => total + shard[name], 0);

/** An object of counters, such as `lags`, over all shards. */
export function tally(stats, name) {
  const total = {};
  for (const shard of stats.shards) {
    for (const [key, count] of Object.entries(shard[name])) total[key] = (total[key] ?? 0) + count;
  }
  return total;
}

/** What clients missed over all shards, by cause and policy. */
export function losses(stats) {
  const rows = new Map();
  for (const row of stats.shards.flatMap((shard) => shard.receipts)) {
    const key = `${row.cause} ${row.policy}`;
    const before = rows.get(key) ?? { receipts: 0, missed: 0 };
    const receipts = before.receipts + row.receipts;
    rows.set(key, { ...row, receipts, missed: before.missed + row.missed });
  }
  return [...rows.values()].sort((a, b) => b.missed - a.missed);
}

/** The buckets of histograms that came between two looks: bound to count. */
function buckets(pairs) {
  const counts = new Map();
  for (const [histogram, sign] of pairs) {
    for (const [bound, count] of histogram?.buckets ?? []) {
      const at = bound ?? Infinity;
      counts.set(at, (counts.get(at) ?? 0) + sign * count);
    }
  }
  return [...counts].filter(([, count]) => count > 0).sort(([a], [b]) => a - b);
}

/** The bound that this part of the values does not pass; null without values. */
export function quantile(counts, part) {
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  let left = Math.max(1, Math.ceil(part * total));
  for (const [bound, count] of counts) {
    left -= count;
    if (left <= 0) return bound;
  }
  return null;
}

/** Whether both looks are at one process, and time has passed between them. */
export const follows = (before, after) =>
  before.server.pid === after.server.pid &&
  before.server.epoch === after.server.epoch &&
  before.server.uptime_ms < after.server.uptime_ms;

/** What happened between two looks: rates, latencies, and each core's part. */
export function between(before, after) {
  const seconds = (after.server.uptime_ms - before.server.uptime_ms) / 1000;
  const rate = (name) => (sum(after, name) - sum(before, name)) / seconds;
  const since = (name) =>
    buckets(after.shards.flatMap((shard, at) => [
      [shard.histograms[name], 1],
      [before.shards[at]?.histograms[name], -1],
    ]));
  const latency = since("last_send_ns");
  return {
    seconds,
    events: (after.ingest.events - before.ingest.events) / seconds,
    bytesIn: (after.ingest.bytes - before.ingest.bytes) / seconds,
    deliveries: rate("deliveries"),
    sends: rate("sends"),
    bytes: rate("bytes_sent"),
    missed: rate("missed"),
    p50: quantile(latency, 0.5),
    p99: quantile(latency, 0.99),
    cores: after.shards.map((shard, at) => core(before.shards[at], shard, seconds)),
    sources: after.sources.map(
      (source, at) => (source.events - (before.sources[at]?.events ?? 0)) / seconds,
    ),
  };
}

function core(before, after, seconds) {
  const turns = [after.histograms.turn_ns, before.histograms.turn_ns];
  const longest = buckets([[turns[0], 1], [turns[1], -1]]).at(-1)?.[0] ?? null;
  return {
    deliveries: (after.deliveries - before.deliveries) / seconds,
    busy: Math.min(1, (turns[0].sum - turns[1].sum) / 1e9 / seconds),
    longest,
  };
}
