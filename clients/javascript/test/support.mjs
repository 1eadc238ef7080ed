// A server that does what a test says, message by message, and events to send with it.

import { once } from "node:events";
import { WebSocket, WebSocketServer } from "ws";
import { connect } from "../src/index.js";

export const EPOCH = "01JEPOCHA";
export const ALL = { policy: "all", snapshot: false };

/** One accepted connection, from the server's side. */
class Peer {
  #requests = [];
  #waiting = [];

  constructor(socket, request) {
    this.socket = socket;
    this.request = request;
    this.closed = once(socket, "close").then(([code]) => code);
    socket.on("message", (text) => {
      const waits = this.#waiting.shift();
      if (waits) waits(JSON.parse(text));
      else this.#requests.push(JSON.parse(text));
    });
  }

  /** The client's next request. */
  next() {
    if (this.#requests.length > 0) return Promise.resolve(this.#requests.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  send(...messages) {
    for (const one of messages) {
      this.socket.send(typeof one === "string" ? one : JSON.stringify(one));
    }
  }

  welcome(more = {}) {
    const control = { channel: "control", type: "welcome", v: 1, node: "scripted", epoch: EPOCH };
    this.send({
      ...control,
      seq: 0,
      limits: { message_bytes_max: 65_536 },
      heartbeat_ms: 5000,
      ...more,
    });
  }

  /** Takes the next subscribe and says yes; gives the request. */
  async accept(seq, more = {}) {
    const request = await this.next();
    this.grant(request, seq, more);
    return request;
  }

  grant(request, seq, more = {}) {
    this.send(yes(request, seq, more));
  }
}

/** A server whose connections are taken one by one. */
export class Server {
  #peers = [];
  #waiting = [];

  static async start(options = {}) {
    const server = new Server();
    server.sockets = new WebSocketServer({ host: "127.0.0.1", port: 0, ...options });
    server.sockets.on("connection", (socket, request) => {
      const peer = new Peer(socket, request);
      const waits = server.#waiting.shift();
      if (waits) waits(peer);
      else server.#peers.push(peer);
    });
    await once(server.sockets, "listening");
    server.url = `ws://127.0.0.1:${server.sockets.address().port}/v1`;
    return server;
  }

  /** The next connection. */
  peer() {
    if (this.#peers.length > 0) return Promise.resolve(this.#peers.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  stop() {
    for (const socket of this.sockets.clients) socket.terminate();
    this.sockets.close();
  }
}

/** A test with a server and a client of it, which both end with the test. */
export async function scripted(test, options = {}) {
  const server = await Server.start();
  const feed = open(test, server.url, options);
  test.after(() => server.stop());
  return { server, feed, events: feed[Symbol.asyncIterator]() };
}

export function open(test, url, options = {}) {
  const feed = connect(url, { WebSocket, backoff: { baseMs: 1, maxMs: 5 }, ...options });
  test.after(() => feed.close());
  return feed;
}

/** A feed that is subscribed to `t.*` after seq 100, and the server's side of it. */
export async function subscribed(test, options = {}) {
  const { server, feed, events } = await scripted(test, options);
  const peer = await server.peer();
  peer.welcome();
  const done = feed.subscribe("t.*", ALL);
  await peer.accept(100);
  await done;
  return { server, feed, events, peer };
}

/** A feed over two servers that count alike, subscribed on both after seq 100. */
export async function twice(test, options = {}) {
  const servers = [await Server.start(), await Server.start()];
  for (const server of servers) test.after(() => server.stop());
  const feed = open(
    test,
    servers.map(({ url }) => url),
    options,
  );
  const peers = await Promise.all(servers.map((server) => server.peer()));
  const done = feed.subscribe("t.*", ALL);
  for (const peer of peers) {
    peer.welcome();
    await peer.accept(100);
  }
  await done;
  return { servers, peers, feed, events: feed[Symbol.asyncIterator]() };
}

/** The seqs of the next events. */
export async function seqs(events, count) {
  const found = [];
  while (found.length < count) found.push((await events.next()).value.seq);
  return found;
}

export function yes(request, seq, more = {}) {
  const result = request.params.channels.map((channel) => {
    return { channel, policy: request.params.policy ?? "auto", seq, matched: 1, ...more };
  });
  return { method: request.method, success: true, req_id: request.req_id, result };
}

export function no(request, code, more = {}) {
  const error = { code, message: "why", retryable: false, ...more };
  return { method: request.method, success: false, req_id: request.req_id, error };
}

export function event(channel, seq, prev, more = {}) {
  const { type = "update", key, data = seq } = more;
  return JSON.stringify({ channel, type, key, seq, prev, ts: 1, ts_in: 2, data });
}

export const control = (type, more) => ({ channel: "control", type, ...more });
export const heartbeat = (seq) => control("heartbeat", { seq });
export const snapshotEnd = (channels, seq) => control("snapshot_end", { channels, seq });
export const replayEnd = (channels, seq) => control("replay_end", { channels, seq });
export const gap = (channels, from, to, more = {}) =>
  control("gap", { channels, from, to, missed: 1, cause: "max_age", recover: "none", ...more });

/** The server's rule for the messages of a client: so many at once, and so many a second. */
export class Rate {
  #paid = 0;

  constructor({ command_rate, command_burst }) {
    this.messageMs = 1000 / command_rate;
    this.burstMs = this.messageMs * command_burst;
  }

  /** Charges for messages: undefined, or why they are refused, or "close". */
  charge(now, messages = 1) {
    this.#paid = Math.max(this.#paid, now) + messages * this.messageMs;
    const debt = this.#paid - now - this.burstMs;
    if (debt > this.burstMs) return "close";
    if (debt <= 0) return undefined;
    const message = `too many messages: … many; try again in ${Math.ceil(debt)} ms`;
    return { message, retryable: true };
  }
}
