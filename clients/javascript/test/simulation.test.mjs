// One session, or two that are merged, against a model of the server: breaks, a log that is cut,
// restarts, receipts; and against several nodes of which each is as far as it is.
//
// Here's how it works: 1. A seed decides what happens: events are published, requests are taken
// or refused by the server, messages arrive, the connection breaks, the log is cut, the server
// restarts with another epoch, the server skips events with a receipt or ends a pattern. 2. The
// application keeps what it is handed. 3. In the end everything arrives, and must be right: trades
// came once, in order, and those that did not come are in a gap; values are the newest; books are
// whole.
//
// CLIENT_SEEDS=n sets how many seeds are run, SEED=n runs one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Merge } from "../src/ab.js";
import { matches, readMessage } from "../src/protocol.js";
import { Session } from "../src/session.js";
import { control, event, gap, replayEnd, snapshotEnd } from "./support.mjs";

/** mulberry32: a small generator of numbers from 0 to 1. */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let value = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
  };
}

class ModelServer {
  number = 0;
  restart() {
    this.number += 1;
    this.epoch = `E${this.number}`;
    this.log = []; // {seq, channel, key, text}
    this.floor = 0; // events up to here are not in the log any more
    this.seq = 0;
    this.latest = new Map();
    this.slots = new Map(); // channel and key -> {book, texts}
    this.connections = new Set();
    this.records = []; // what nodes read
  }

  publish(channel, key, type) {
    const seq = this.seq + 1;
    const text = event(channel, seq, this.latest.get(channel) ?? 0, { key, type });
    this.latest.set(channel, seq);
    this.apply({ seq, channel, key, type, text });
  }

  apply(record) {
    const { channel, key, type, text } = record;
    this.records.push(record);
    this.seq += 1;
    this.log.push({ seq: this.seq, channel, key, text });
    const name = `${channel} ${key}`;
    const slot = this.slots.get(name) ?? { channel, book: false, texts: [] };
    if (type === "snapshot") this.slots.set(name, { channel, book: true, texts: [text] });
    else if (slot.book) slot.texts.push(text);
    else if (key) this.slots.set(name, { channel, book: false, texts: [text] });
    for (const connection of this.connections) {
      if (!connection.set.some((pattern) => matches(pattern, channel))) continue;
      if (connection.skipping && !key && channel.startsWith("trade.")) {
        connection.skipped.push({ seq: this.seq, channel });
      } else if (this.seq > (connection.ahead ?? 0)) {
        this.receipt(connection);
        connection.wire.push(text);
      }
    }
  }

  /** What all subscriptions of a connection have from another node is not sent again. */
  skipTo(connection, seq) {
    const isFirst = connection.ahead === undefined;
    connection.ahead = Math.min(connection.ahead ?? Infinity, seq);
    if (!isFirst && connection.ahead <= this.seq) connection.ahead = 0;
  }

  /** Whether it has given out this seq, or another node has. */
  gave(seq) {
    return seq <= this.seq;
  }

  /** The receipt for what was skipped comes before anything that came after it. */
  receipt(connection) {
    const { skipped } = connection;
    if (skipped.length === 0) return;
    const channels = [...new Set(skipped.map(({ channel }) => channel))];
    const more = { missed: skipped.length, cause: "max_age", recover: "resume" };
    connection.wire.push(gap(channels, skipped[0].seq, skipped.at(-1).seq, more));
    connection.skipped = [];
  }

  /** Refuses one request for now; what it had of it goes on. */
  refuse(connection, { channels }) {
    const error = { code: "too_many_recoveries", message: "64 are to come", retryable: true };
    connection.wire.push({ reply: "subscribe", channels, message: { success: false, error } });
  }

  /** Ends a pattern. */
  end(connection, pattern) {
    this.receipt(connection);
    connection.set = connection.set.filter((held) => held !== pattern);
    connection.wire.push(control("unsubscribed", { channels: [pattern], seq: this.seq }));
  }

  /** Takes one request. */
  take(connection, { method, channels, params }) {
    this.receipt(connection);
    const matched = (name) => channels.some((pattern) => matches(pattern, name));
    const wire = connection.wire;
    connection.set = connection.set.filter((pattern) => !channels.includes(pattern));
    if (method === "unsubscribe") {
      wire.push({ reply: "unsubscribe" });
      return;
    }
    connection.set.push(...channels);
    const { resume } = params;
    const why = !resume
      ? undefined
      : resume.epoch !== this.epoch
        ? "epoch"
        : resume.seq < this.floor
          ? "too_old"
          : !this.gave(resume.seq)
            ? "ahead"
            : "";
    const resumed = resume ? { resumed: why === "", ...(why && { why }) } : {};
    const entries = channels.map((channel) => {
      return { channel, policy: params.policy, seq: this.seq, ...resumed };
    });
    wire.push({ reply: "subscribe", channels, message: { success: true, result: entries } });
    if (why === "") {
      this.skipTo(connection, resume.seq);
      wire.push(
        ...this.log
          .filter(({ seq, channel }) => seq > resume.seq && matched(channel))
          .map(({ text }) => text),
      );
      wire.push(replayEnd(channels, this.seq));
      return;
    }
    this.skipTo(connection, 0);
    if (why) {
      const from = why === "epoch" ? 1 : resume.seq + 1;
      wire.push(gap(channels, from, this.seq, { cause: why, missed: undefined, recover: "none" }));
    }
    for (const slot of this.slots.values()) if (matched(slot.channel)) wire.push(...slot.texts);
    wire.push(snapshotEnd(channels, this.seq));
  }
}

/** One of several nodes that send what one server has: as far as it has got. */
class Node extends ModelServer {
  constructor(source) {
    super();
    this.source = source;
    this.restart();
    this.epoch = source.epoch;
  }

  advance(count) {
    for (const record of this.source.records.slice(this.seq, this.seq + count)) this.apply(record);
  }

  gave(seq) {
    return this.source.gave(seq);
  }
}

/** What client.js does for one connection, without sockets. */
class Leg {
  constructor(heals, server, application) {
    this.session = new Session({ heals });
    this.server = server;
    this.application = application;
    this.requests = [];
    this.leaving = 0;
    this.granted = new Set();
  }

  connect() {
    this.connection = { set: [], wire: [], skipping: false, skipped: [], ahead: undefined };
    this.server.connections.add(this.connection);
    this.application.connected(this);
    this.session.connected(this.server.epoch);
    this.flush();
  }

  lose() {
    this.server.connections.delete(this.connection);
    this.connection = undefined;
    this.requests = [];
    this.leaving = 0;
    this.session.disconnected();
    this.application.lost(this);
  }

  flush() {
    if (!this.connection || this.leaving > 0) return;
    for (const { patterns, params } of this.session.due()) {
      this.requests.push({ method: "subscribe", channels: patterns, params });
    }
  }

  heal(leave) {
    if (!leave) return;
    if (leave.length > 0) {
      this.requests.push({ method: "unsubscribe", channels: leave });
      this.leaving += 1;
    }
    this.flush();
  }

  request() {
    this.server.take(this.connection, this.requests.shift());
  }

  /** Whether the server may refuse the next request: what it has never granted would be gone. */
  get mayBeRefused() {
    const [request] = this.requests;
    return (
      request?.method === "subscribe" &&
      request.channels.every((pattern) => this.granted.has(pattern))
    );
  }

  deliver() {
    this.arrive(this.connection.wire.shift());
    this.application.progress(this);
  }

  arrive(message) {
    const { session, application } = this;
    if (typeof message === "string") {
      const { event: taken } = readMessage(message);
      const { deliver, gap: hole, leave } = session.event(taken);
      // What is refused for now may be overtaken by what another pattern brings of its channels.
      if (hole) assert.equal(hole.cause, "late", `a hole before ${message}`);
      if (hole) application.gap(this, hole);
      if (deliver) application.event(this, taken);
      this.heal(leave);
    } else if (message.reply === "subscribe") {
      const { taken, gaps, later } = session.replied(message.channels, message.message);
      for (const { pattern } of taken) this.granted.add(pattern);
      if (taken.length > 0) application.subscribed(this, message.message.result);
      for (const one of gaps) application.gap(this, one);
      if (later.length > 0) session.askAgain();
      this.flush();
    } else if (message.reply === "unsubscribe") {
      this.leaving -= 1;
      this.flush();
    } else if (message.type === "gap") {
      const { gap: told, leave } = session.receipt(message);
      application.gap(this, told);
      this.heal(leave);
    } else if (message.type === "unsubscribed") {
      for (const pattern of message.channels) {
        session.ended(pattern);
        application.ended(this, pattern, message.seq);
      }
    } else if (message.type === "heartbeat") {
      session.heartbeat(message.seq);
    } else {
      session.recovered(message);
      this.flush();
    }
  }
}

/** Keeps what it is handed, by one leg or by two that are merged. */
class Application {
  constructor(random, server, sides) {
    this.server = server;
    this.legs = Array.from({ length: sides }, () => new Leg(random() < 0.5, server, this));
    this.merge = sides > 1 ? new Merge(sides, (item) => this.take(item), 20) : undefined;
    this.epoch = server.epoch;
    this.trades = []; // {epoch, channel, seq}
    this.gaps = []; // {epoch, channels, from, to}
    this.slots = new Map();
    this.since = new Map(); // epoch -> the boundary from which on everything is owed
  }

  connected(leg) {
    if (this.epoch !== this.server.epoch) {
      this.merge?.reset();
      this.epoch = this.server.epoch;
    }
    this.merge?.up(this.legs.indexOf(leg));
  }

  lost(leg) {
    this.merge?.down(this.legs.indexOf(leg));
  }

  progress(leg) {
    this.merge?.progress(this.legs.indexOf(leg), leg.session.position);
  }

  subscribed(leg, entries) {
    const [{ seq }] = entries;
    for (const entry of entries) this.merge?.began(this.legs.indexOf(leg), entry.channel, entry);
    if (!this.since.has(this.epoch)) this.since.set(this.epoch, this.since.size === 0 ? seq : 0);
  }

  ended(leg, pattern, seq) {
    this.merge.ended(this.legs.indexOf(leg), pattern, seq);
  }

  event(leg, event) {
    if (this.merge) this.merge.event(this.legs.indexOf(leg), event);
    else this.take({ event });
  }

  gap(leg, told) {
    if (this.merge) this.merge.gap(this.legs.indexOf(leg), told);
    else this.take({ gap: told });
  }

  take({ event: taken, gap: told }) {
    if (told) {
      this.gaps.push({ epoch: this.epoch, ...told });
      return;
    }
    const { channel, key, kind, seq, text } = taken;
    if (channel.startsWith("trade.")) {
      this.trades.push({ epoch: this.epoch, channel, seq });
      return;
    }
    const name = `${channel} ${key ?? undefined}`;
    const slot = this.slots.get(name);
    if (kind === "snapshot") this.slots.set(name, { book: true, texts: [text] });
    else if (slot?.book) slot.texts.push(text);
    else this.slots.set(name, { book: false, texts: [text] });
  }
}

function run(seed, sides) {
  const random = generator(seed);
  const pick = (...list) => list[Math.floor(random() * list.length)];
  const server = new ModelServer();
  server.restart();
  const application = new Application(random, server, sides);
  const { legs } = application;
  for (const channel of ["book.a", "book.b"]) server.publish(channel, undefined, "snapshot");
  const overlapping = random() < 0.3;
  const mayEnd = sides > 1 && !overlapping; // The other side goes on with it.
  for (const leg of legs) {
    leg.session.add("trade.*", { policy: "all" });
    leg.session.add(overlapping ? ">" : "quote.*", { policy: "auto" });
    leg.session.add("book.*", { policy: pick("auto", "all") });
    leg.connect();
  }
  const published = [];
  const publish = () => {
    const channel = pick("trade.a", "trade.b", "quote.a", "book.a", "book.b");
    const key = channel === "quote.a" ? pick("k", "l") : undefined;
    const isSnapshot =
      channel.startsWith("book.") && (random() < 0.1 || !server.slots.has(`${channel} undefined`));
    server.publish(channel, key, isSnapshot ? "snapshot" : "update");
    published.push({ epoch: server.epoch, channel, seq: server.seq });
  };
  for (let step = 0; step < 300 * sides; step += 1) {
    const leg = pick(...legs);
    const { connection } = leg;
    const chance = random();
    if (chance < 0.4) publish();
    else if (chance < 0.75 && connection?.wire.length > 0) leg.deliver();
    else if (chance < 0.85 && connection && leg.requests.length > 0) leg.request();
    else if (chance < 0.88 && connection) leg.lose();
    else if (chance < 0.94 && !connection) leg.connect();
    else if (chance < 0.96) {
      server.floor = Math.max(server.floor, server.seq - Math.floor(random() * 20));
      server.log = server.log.filter(({ seq }) => seq > server.floor);
    } else if (chance < 0.97) {
      for (const each of legs) if (each.connection) each.lose();
      server.restart();
    } else if (chance < 0.98 && connection?.set.length > 0) {
      connection.skipping = !connection.skipping;
    } else if (chance < 0.985 && connection) {
      leg.session.add("book.*", { policy: pick("all", "auto") });
      leg.flush();
    } else if (chance < 0.993 && connection && leg.mayBeRefused) {
      server.refuse(connection, leg.requests.shift());
    } else if (chance < 0.994 && mayEnd && leg === legs[0] && connection?.set.includes("trade.*")) {
      server.end(connection, "trade.*");
    } else if (connection?.wire.length === 0 && leg.requests.length === 0) {
      server.receipt(connection);
      connection.wire.push(control("heartbeat", { seq: server.seq }));
    }
  }
  for (const leg of legs) {
    if (!leg.connection) leg.connect();
    leg.connection.skipping = false;
    server.receipt(leg.connection);
    while (leg.requests.length > 0 || leg.connection.wire.length > 0) {
      while (leg.connection.wire.length > 0) leg.deliver();
      if (leg.requests.length > 0) leg.request();
    }
    leg.connection.wire.push(control("heartbeat", { seq: server.seq }));
    leg.deliver();
  }
  check(application, server, published);
}

/** Nothing is lost on the way from one node to another, whichever is behind, and nothing told. */
function runNodes(seed, sides) {
  const random = generator(seed);
  const pick = (...list) => list[Math.floor(random() * list.length)];
  const server = new ModelServer();
  server.restart();
  for (const channel of ["book.a", "book.b"]) server.publish(channel, undefined, "snapshot");
  const nodes = [1, 2, 3].map(() => new Node(server));
  for (const node of nodes) node.advance(9);
  const application = new Application(random, server, sides);
  const { legs } = application;
  for (const [at, leg] of legs.entries()) {
    leg.server = nodes[at];
    leg.session.add("trade.*", { policy: "all" });
    leg.session.add("quote.*", { policy: "auto" });
    leg.session.add("book.*", { policy: "all" });
    leg.connect();
    while (leg.requests.length > 0) leg.request();
    while (leg.connection.wire.length > 0) leg.deliver();
  }
  const published = [];
  const move = (leg) => {
    if (leg.connection) leg.lose();
    leg.server = pick(...nodes.filter((node) => legs.every((other) => other.server !== node)));
    leg.connect();
  };
  for (let step = 0; step < 400 * sides; step += 1) {
    const leg = pick(...legs);
    const chance = random();
    if (chance < 0.3) {
      const channel = pick("trade.a", "trade.b", "quote.a", "book.a", "book.b");
      const key = channel === "quote.a" ? pick("k", "l") : undefined;
      const isSnapshot = channel.startsWith("book.") && random() < 0.1;
      server.publish(channel, key, isSnapshot ? "snapshot" : "update");
      published.push({ epoch: server.epoch, channel, seq: server.seq });
    } else if (chance < 0.5) pick(...nodes).advance(Math.ceil(random() * 9));
    else if (chance < 0.85 && leg.connection.wire.length > 0) leg.deliver();
    else if (chance < 0.94 && leg.requests.length > 0) leg.request();
    else if (chance < 0.97) move(leg);
    else if (chance < 0.98) {
      // Whoever was there goes elsewhere; the node has to read all of it again.
      const node = pick(...nodes);
      for (const each of legs) if (each.server === node) move(each);
      nodes[nodes.indexOf(node)] = new Node(server);
    }
  }
  for (const node of nodes) node.advance(Infinity);
  for (const leg of legs) {
    while (leg.requests.length > 0 || leg.connection.wire.length > 0) {
      while (leg.connection.wire.length > 0) leg.deliver();
      if (leg.requests.length > 0) leg.request();
    }
    leg.connection.wire.push(control("heartbeat", { seq: server.seq }));
    leg.deliver();
  }
  assert.deepEqual(application.gaps, []);
  check(application, server, published);
}

function check({ trades, gaps, slots, since, merge, legs }, server, published) {
  const owed = published.filter(
    ({ epoch, channel, seq }) =>
      channel.startsWith("trade.") && since.has(epoch) && seq > since.get(epoch),
  );
  const last = new Map();
  for (const { epoch, channel, seq } of trades) {
    assert.ok(seq > (last.get(`${epoch} ${channel}`) ?? 0), `${channel} ${seq} out of order`);
    last.set(`${epoch} ${channel}`, seq);
  }
  const got = new Set(trades.map(({ epoch, seq }) => `${epoch} ${seq}`));
  for (const { epoch, channel, seq } of owed) {
    const told = gaps.some(
      (one) =>
        one.epoch === epoch &&
        one.from <= seq &&
        seq <= one.to &&
        one.channels.some((pattern) => matches(pattern, channel)),
    );
    // What an epoch had after the last connection to it, nobody can tell.
    const later = epoch !== server.epoch && seq > (last.get(`${epoch} ${channel}`) ?? 0);
    assert.ok(got.has(`${epoch} ${seq}`) || told || later, `${epoch} ${channel} ${seq} is lost`);
  }
  for (const [name, { texts }] of server.slots) {
    assert.deepEqual(slots.get(name)?.texts, texts, name);
  }
  assert.equal((merge ?? legs[0].session).position, server.seq);
}

const seeds = Number(process.env.CLIENT_SEEDS ?? 2000);
const chosen = process.env.SEED ? [Number(process.env.SEED)] : [...Array(seeds).keys()];
for (const sides of [1, 2]) {
  for (const [what, play] of [
    ["breaks, restarts and receipts", run],
    ["nodes that lag and die", runNodes],
  ]) {
    test(`${seeds} seeds of ${what}, ${sides} connections`, () => {
      for (const seed of chosen) {
        try {
          play(seed, sides);
        } catch (error) {
          error.message = `SEED=${seed}: ${error.message}`;
          throw error;
        }
      }
    });
  }
}
