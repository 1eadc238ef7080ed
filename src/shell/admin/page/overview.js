// The first tab: four charts, and what counts of cores, clients, losses and sources.
//
// Totals are the sums of /stats as they stand there; rates are of the last second.

import { Chart } from "./charts.js";
import { age, bytes, grouped, losses, percent, short, sum, tally, time } from "./figures.js";
import { bar, fill, number } from "./tables.js";

/** What a bound of `lags` means. */
const LAGS = {
  none: "not behind",
  "100ms": "up to 0.1 s",
  "1s": "up to 1 s",
  "10s": "up to 10 s",
  "60s": "up to 1 min",
  more: "longer",
};

const element = (id) => document.getElementById(id);

export class Overview {
  #events = new Chart("chart-events", ["events"], (value) => short(value));
  #deliveries = new Chart("chart-deliveries", ["deliveries"], (value) => short(value));
  #bytes = new Chart("chart-bytes", ["bytes"], (value) => bytes(value));
  #latency = new Chart("chart-latency", ["p50", "p99"], (value) => time(value), { isLogarithmic: true });

  /** Shows a look, and `rates` between it and the one before, null at the first. */
  show(stats, rates) {
    this.#charts(stats, rates);
    this.#cores(stats, rates);
    this.#clients(stats, rates);
    this.#ends(stats);
    this.#sources(stats, rates);
  }

  /** Says that there was no look, so that lines have a hole. */
  miss() {
    const at = Date.now() / 1000;
    for (const chart of [this.#events, this.#deliveries, this.#bytes]) chart.add(at, [null]);
    this.#latency.add(at, [null, null]);
  }

  #charts(stats, rates) {
    const at = Date.now() / 1000;
    const per = (value, show) => (rates === null ? "–" : `${show(value)}/s`);
    this.#events.add(at, [rates?.events ?? null]);
    this.#events.say(per(rates?.events, short), `${grouped(stats.ingest.events)} in all`);
    this.#deliveries.add(at, [rates?.deliveries ?? null]);
    const batch = rates?.sends > 0 ? `, ${(rates.deliveries / rates.sends).toFixed(1)} a send` : "";
    this.#deliveries.say(per(rates?.deliveries, short), `${grouped(sum(stats, "deliveries"))} in all${batch}`);
    this.#bytes.add(at, [rates?.bytes ?? null]);
    this.#bytes.say(per(rates?.bytes, bytes), `${bytes(sum(stats, "bytes_sent"))} in all`);
    const within = (value) => (Number.isFinite(value) ? value : null);
    this.#latency.add(at, [within(rates?.p50), within(rates?.p99)]);
    const show = (value) => (value === Infinity ? "over a minute" : time(value));
    const isQuiet = (rates?.p50 ?? null) === null;
    this.#latency.say(isQuiet ? "–" : show(rates.p99), isQuiet ? "nothing sent" : `p99 of the last second, p50 ${show(rates.p50)}`);
  }

  #cores(stats, rates) {
    const cores = rates?.cores ?? [];
    const most = Math.max(1, ...stats.shards.map((shard) => shard.connections));
    const busiest = Math.max(1, ...cores.map((core) => core.deliveries));
    const batches = stats.server.ring_batches;
    const rows = stats.shards.map((shard, at) => {
      const { deliveries = 0, busy = 0, longest = null } = cores[at] ?? {};
      const used = shard.log_bytes / Math.max(1, shard.log_capacity_bytes);
      return [
        String(at),
        number(grouped(shard.connections)),
        bar(shard.connections / most, `core ${at}: ${shard.connections} connections`),
        number(short(deliveries)),
        bar(deliveries / busiest, `core ${at}: ${Math.round(deliveries)} deliveries a second`),
        number(percent(busy)),
        bar(busy, `core ${at}: busy ${percent(busy)}`, { low: 0.7, high: 0.9 }),
        number(longest === null ? "–" : time(longest)),
        number(`${shard.ring_depth} / ${batches}`),
        number(percent(used)),
        number(age(shard.log_reach_ms)),
      ];
    });
    const columns = ["Core", number("Clients"), "", number("Deliveries/s"), "", number("Busy"), "",
      number("Longest turn"), number("Ring"), number("Log"), number("Reaches back")];
    fill(element("cores"), columns, rows);
  }

  #clients(stats, rates) {
    const lags = tally(stats, "lags");
    const all = Math.max(1, Object.values(lags).reduce((total, count) => total + count, 0));
    fill(element("lags"), null, Object.entries(lags).map(([bound, count]) => [
      LAGS[bound] ?? bound,
      bar(count / all, `${LAGS[bound] ?? bound}: ${count} clients`),
      number(grouped(count)),
    ]));
    element("lags-note").textContent =
      `${grouped(sum(stats, "connections"))} connections, ${grouped(sum(stats, "subscribed"))} of them subscribed; ` +
      `${grouped(sum(stats, "blocked"))} wait for a full socket.`;
    const rows = losses(stats);
    fill(element("losses"), ["Cause", "Policy", number("Receipts"), number("Events")],
      rows.map(({ cause, policy, receipts, missed }) => [cause, policy, number(grouped(receipts)), number(grouped(missed))]));
    element("losses-note").textContent =
      rows.length === 0 ? "Nothing: every event that a client was due was sent." : `${short(rates?.missed ?? 0)} events/s now.`;
  }

  #ends(stats) {
    const closes = Object.entries(tally(stats, "closes")).filter(([, count]) => count > 0);
    closes.sort(([, a], [, b]) => b - a);
    fill(element("closes"), null, closes.slice(0, 8).map(([reason, count]) => [reason.replaceAll("_", " "), number(grouped(count))]));
    const none = closes.length === 0 ? "None yet. " : "";
    element("closes-note").textContent =
      `${none}${grouped(sum(stats, "opened"))} came in; ${grouped(sum(stats, "refused"))} were refused.`;
  }

  #sources(stats, rates) {
    fill(element("sources"), ["Source", "State", number("Producers"), number("Events/s"), number("Events"),
      number("Lines refused"), number("Last event")],
    stats.sources.map((source, at) => {
      const ago = source.event_ns === 0 ? "never" : `${age(Math.max(0, Date.now() - source.event_ns / 1e6))} ago`;
      return [
        source.url,
        source.is_up ? { text: "up" } : { text: "down", className: "warn-text" },
        number(grouped(source.producers)),
        number(short(rates?.sources[at] ?? 0)),
        number(grouped(source.events)),
        { text: grouped(source.lines_bad), className: source.lines_bad > 0 ? "number warn-text" : "number" },
        number(ago),
      ];
    }));
    const { pauses, journal_is_degraded: degraded, head_seq: seq } = stats.ingest;
    const waits = pauses > 0 ? ` A full ring has made the sources wait ${grouped(pauses)} times.` : "";
    element("sources-note").textContent =
      `Last seq ${seq}.${waits}${degraded ? " The journal cannot be written: the feed goes on without it." : ""}`;
  }
}
