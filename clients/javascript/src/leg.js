// One connection, for as long as the feed lives, to one node or another: connects, shows the
// credential, asks for what the session says is due, notices silence, and connects again.
//
// It alone looks at the clock. What it gets it gives to its host (client.js)
// in the order in which it came. After the socket was given up, nothing of it is taken any more.

import { Announced } from "./binary.js";
import { backoff, chunks, FanfareError, isFinal, readMessage } from "./protocol.js";
import { Calls, Requests } from "./requests.js";
import { Route } from "./route.js";
import { Session } from "./session.js";
import { openSocket } from "./socket.js";
import { Timers } from "./timers.js";

/** @typedef {import("./protocol.js").FeedEvent} FeedEvent */
/** @typedef {import("./protocol.js").Gap} Gap */
/** @typedef {import("./protocol.js").Terms} Terms */

/** @typedef {{ code?: number, reason: string, refused?: boolean }} Why */

/**
 * @typedef {{ state: "connected", url: string, node: string, epoch: string }
 *   | { state: "reconnecting", url: string, delay: number, why: Why }
 *   | { state: "draining", url: string, retryAfterMs: number, to: string[] }
 *   | { state: "live", url: string, channels: string[], seq: number, how: "snapshot" | "replay" }
 *   | { state: "unsubscribed", url: string, channels: string[], cause: string }
 *   | { state: "refused", url: string, channels: string[], error: FanfareError }
 *   | { state: "paused", url: string, why: Why }
 *   | { state: "parked", url: string, epoch: string }
 *   | { state: "closed", url: string }} State
 */

/**
 * What a leg needs from the feed that it is a part of.
 * @typedef {object} Host
 * @property {(leg: Leg, epoch: string) => boolean} welcome false: another epoch than the others'
 * @property {(leg: Leg) => string[]} elsewhere the nodes of the other legs
 * @property {(leg: Leg) => "take" | "leave"} room asked before each message
 * @property {(leg: Leg, event: FeedEvent) => void} event
 * @property {(leg: Leg, gap: Gap) => void} gap
 * @property {(leg: Leg, pattern: string, entry: any) => void} taken the server's entry
 * @property {(leg: Leg, pattern: string, seq?: number) => void} ended the last seq it brings of it
 * @property {(leg: Leg) => void} progress its position may have risen
 * @property {(leg: Leg) => void} lost its connection is gone
 * @property {(leg: Leg, state: State) => void} state
 * @property {(leg: Leg, error: FanfareError) => void} fail it will not come back
 */

/**
 * @typedef {object} OwnOptions
 * @property {string | (() => string | Promise<string>) | undefined} token
 * @property {(raw: string) => any} parse
 * @property {boolean} heal
 * @property {{ baseMs: number, maxMs: number, goodMs: number }} backoff
 * @property {number} connectMs
 */

/** @typedef {import("./socket.js").SocketOptions & OwnOptions} LegOptions */

const HEAL_SPACING_MS = 1000;
const HEARTBEATS_MISSED_MAX = 3;
const PARKED_MS = 30_000;
// What an answer to the upgrade request means; see "When the server refuses" in PROTOCOL.md.
const RETRIED_STATUS = new Set([408, 429, 500, 502, 503, 504]);

export class Leg {
  #route;
  #options;
  #host;
  #session;
  /** @type {any} */
  #socket;
  #generation = 0;
  #attempt = 0;
  /** The token is being asked for. */
  #opening = false;
  #welcomed = false;
  #since = 0;
  #heard = 0;
  #bytesMax = 65_536;
  #closed = false;
  #suspended = false;
  #pausedSocket = false;
  #healedAt = -HEAL_SPACING_MS;
  /** @type {string[]} */
  #leave = [];
  /** How many replies to them are to come; what is due waits for these. */
  #leaving = 0;
  /** How often the server has refused for now what is asked for again. */
  #refusals = 0;
  /** @type {{ at: number, to: string[] } | undefined} */
  #drain;
  #requests = new Requests(
    (text) => this.#socket.send(text),
    (name, ms, run) => this.#timers.after(name, ms, run),
    () => performance.now(),
  );
  #calls = new Calls();
  #announced = new Announced();
  #timers = new Timers();

  /**
   * @param {string[]} nodes
   * @param {LegOptions} options
   * @param {Host} host
   */
  constructor(nodes, options, host) {
    this.#route = new Route(nodes);
    this.#options = options;
    this.#host = host;
    this.#session = new Session({ heals: options.heal });
  }

  /** The node to connect to, or connected to. */
  get url() {
    return this.#route.url;
  }

  get session() {
    return this.#session;
  }

  /** Whether requests can be sent. */
  get connected() {
    return this.#welcomed;
  }

  /** Whether it waits for the end of the others, because they count by another epoch. */
  get parked() {
    return this.#timers.has("parked");
  }

  // --- what the feed asks for

  /** Connects, now. */
  open() {
    if (this.#closed || this.#suspended || this.#socket || this.#opening) return;
    this.#timers.clear();
    this.#opening = true;
    this.#connect(++this.#generation);
  }

  /**
   * Adds to the set, for this connection and every later one. Resolves with the reply's entries.
   * @param {string[]} patterns
   * @param {Terms} terms
   * @returns {Promise<any[]>}
   */
  subscribe(patterns, terms) {
    for (const pattern of patterns) this.#session.add(pattern, terms);
    const answer = this.#calls.wait(patterns);
    if (this.#welcomed) this.#flush();
    else if (!this.parked && !this.#timers.has("reconnect")) this.open();
    return answer;
  }

  /**
   * Takes out of the set. Nothing of these patterns comes any more, unless another one matches it.
   * Where the connection breaks, or the server has ended it, that is done.
   * @param {string[]} patterns
   */
  async unsubscribe(patterns) {
    const held = patterns.filter((pattern) => this.#session.remove(pattern));
    const error = new FanfareError("unsubscribed", "unsubscribed before the reply came");
    this.#calls.settle(held.map((pattern) => ({ pattern, error })));
    if (!this.#welcomed || held.length === 0) return;
    const ask = (/** @type {string[]} */ channels) =>
      this.request("unsubscribe", { channels }).catch((error) => {
        if (error.code !== "disconnected" && error.code !== "not_subscribed") throw error;
      });
    await Promise.all(chunks(held, this.#bytesMax).map(ask));
  }

  /**
   * One request and its reply; not repeated when the connection breaks.
   * @param {string} method
   * @param {Record<string, unknown>} [params]
   * @param {(reply: any) => any} [take] called before the message after the reply is taken
   * @returns {Promise<any>} what `take` gives
   */
  request(method, params, take = (reply) => reply) {
    return new Promise((resolve, reject) => {
      if (!this.#welcomed) {
        reject(new FanfareError("disconnected", `not connected to ${this.url}`));
        return;
      }
      this.#requests.send(method, params, (reply, error) => {
        if (error) reject(error);
        else if (reply.success) resolve(take(reply));
        else reject(new FanfareError(reply.error.code, reply.error.message, reply.error));
      });
    });
  }

  /** Stops reading: by the socket if it can, else by closing it. What was not read comes later. */
  pause() {
    if (this.#pausedSocket) return true;
    if (typeof this.#socket?.pause !== "function") return false;
    this.#socket.pause();
    this.#pausedSocket = true;
    return true;
  }

  /** Closes the connection until `resume`: the server keeps what comes meanwhile in its log. */
  suspend() {
    if (this.#suspended) return;
    this.#suspended = true;
    this.#abandon({ reason: "the queue is full" });
  }

  resume() {
    if (this.#pausedSocket) {
      this.#pausedSocket = false;
      this.#heard = performance.now();
      this.#socket?.resume();
    }
    if (this.#suspended) {
      this.#suspended = false;
      // No failure of the network: the wait does not grow.
      this.#attempt = 0;
      this.#again(0, { reason: "the queue was full" });
    }
  }

  close() {
    this.#closed = true;
    this.#abandon({ reason: "closed" });
    const error = new FanfareError("closed", "the feed was closed");
    this.#calls.settle(this.#session.patterns.map((pattern) => ({ pattern, error })));
  }

  // --- the connection

  /** @param {number} generation */
  async #connect(generation) {
    const { auth, connectMs } = this.#options;
    let token;
    try {
      token = await this.#token();
    } catch (error) {
      if (generation === this.#generation) this.#lost({ reason: `no token: ${error}` });
      return;
    }
    if (generation !== this.#generation) return;
    this.#opening = false;
    // What comes of a socket that was given up is not taken.
    const isCurrent = () => generation === this.#generation && this.#socket !== undefined;
    try {
      this.#socket = openSocket(this.url, token, this.#options, {
        open: () => {
          if (isCurrent() && token !== undefined && auth === "message") this.#authenticate(token);
        },
        message: (data) => {
          if (isCurrent()) this.#message(data);
        },
        close: (code, reason) => {
          if (isCurrent()) this.#lost({ code, reason });
        },
        refuse: (status, retryAfterMs) => {
          if (isCurrent()) this.#refused(status, retryAfterMs);
        },
      });
    } catch (error) {
      this.#fail(/** @type {FanfareError} */ (error));
      return;
    }
    const reason = `no welcome in ${connectMs} ms`;
    this.#timers.after("connect", connectMs, () => this.#abandon({ reason }));
  }

  /**
   * @param {number} status of the answer to the upgrade
   * @param {number} retryAfterMs
   */
  #refused(status, retryAfterMs) {
    const reason = `the server answered ${status}`;
    const text = `cannot connect to ${this.url}: ${reason}`;
    if (RETRIED_STATUS.has(status)) this.#lost({ reason }, retryAfterMs);
    else if (this.#route.refused(this.#host.elsewhere(this))) this.#lost({ reason, refused: true });
    else this.#fail(new FanfareError("refused", text));
  }

  async #token() {
    const { token } = this.#options;
    return typeof token === "function" ? await token() : token;
  }

  /** @param {string} token */
  #authenticate(token) {
    this.#requests.send("auth", { token }, (reply, error) => {
      // A first one that fails is followed by a close with 4000.
      if (!error && !reply.success) {
        const { code, message } = reply.error;
        const refused = new FanfareError(code, message, reply.error);
        this.#host.state(this, { state: "refused", url: this.url, channels: [], error: refused });
      }
    });
  }

  /** @param {string | ArrayBuffer} data */
  #message(data) {
    if (this.#host.room(this) === "leave") return;
    this.#heard = performance.now();
    /** @type {import("./protocol.js").Message} */
    let message;
    try {
      if (typeof data === "string") {
        message = readMessage(data, this.#options.parse);
      } else {
        const event = this.#announced.event(data, this.#options.parse);
        if (event === undefined) return;
        message = { kind: "event", event };
      }
    } catch (error) {
      this.#abandon({ reason: `a message that cannot be read: ${error}` });
      return;
    }
    if (message.kind === "event") this.#event(message.event);
    else if (message.kind === "reply") this.#reply(message.message);
    else this.#control(message.message);
  }

  /** @param {FeedEvent} event */
  #event(event) {
    const { deliver, gap, leave } = this.#session.event(event);
    if (gap) this.#host.gap(this, gap);
    if (deliver) this.#host.event(this, event);
    if (leave) this.#heal(leave);
    this.#host.progress(this);
  }

  /** @param {any} message */
  #reply(message) {
    this.#announced.learn(message);
    this.#requests.reply(message);
    this.#host.progress(this);
  }

  /** @param {any} message */
  #control(message) {
    const url = this.url;
    switch (message.type) {
      case "welcome":
        this.#welcome(message);
        break;
      case "channels":
        this.#announced.learn(message);
        break;
      case "heartbeat":
        this.#session.heartbeat(message.seq);
        break;
      case "gap": {
        const { gap, leave } = this.#session.receipt(message);
        this.#host.gap(this, gap);
        if (leave) this.#heal(leave);
        break;
      }
      case "snapshot_end":
      case "replay_end": {
        const channels = this.#session.recovered(message);
        const how = message.type === "snapshot_end" ? "snapshot" : "replay";
        if (channels.length > 0) {
          this.#host.state(this, { state: "live", url, channels, seq: message.seq, how });
        }
        this.#flush();
        break;
      }
      case "unsubscribed": {
        const { channels, seq, cause } = message;
        for (const pattern of channels) {
          this.#session.ended(pattern);
          this.#host.ended(this, pattern, seq);
        }
        this.#host.state(this, { state: "unsubscribed", url, channels, cause });
        break;
      }
      case "tier":
        this.#session.tier(message.interval_ms);
        break;
      case "drain":
        this.#drained(message.retry_after_ms, message.to ?? []);
        break;
      case "auth_expiring":
        this.#renew();
        break;
    }
    this.#host.progress(this);
  }

  /** @param {any} message */
  #welcome({ epoch, node, limits, heartbeat_ms }) {
    this.#timers.clear();
    if (!this.#host.welcome(this, epoch)) {
      this.#drop();
      this.#requests.end(new FanfareError("disconnected", "another epoch"));
      this.#host.state(this, { state: "parked", url: this.url, epoch });
      this.#timers.after("parked", PARKED_MS, () => this.open());
      return;
    }
    this.#welcomed = true;
    this.#since = performance.now();
    this.#bytesMax = limits?.message_bytes_max ?? this.#bytesMax;
    this.#refusals = 0;
    this.#requests.allow(limits);
    this.#announced.clear();
    this.#session.connected(epoch);
    this.#host.state(this, { state: "connected", url: this.url, node, epoch });
    this.#watchSilence(heartbeat_ms ?? 5000);
    this.#flush();
  }

  /** @param {number} heartbeatMs */
  #watchSilence(heartbeatMs) {
    if (heartbeatMs <= 0) return;
    this.#timers.after("silence", heartbeatMs, () => {
      const silent = performance.now() - this.#heard;
      if (!this.#pausedSocket && silent > HEARTBEATS_MISSED_MAX * heartbeatMs) {
        this.#abandon({ reason: `nothing came for ${Math.round(silent)} ms` });
      } else {
        this.#watchSilence(heartbeatMs);
      }
    });
  }

  /**
   * @param {number} retryAfterMs
   * @param {string[]} to
   */
  #drained(retryAfterMs, to) {
    this.#drain = { at: performance.now() + retryAfterMs, to };
    this.#host.state(this, { state: "draining", url: this.url, retryAfterMs, to });
    this.#timers.after("drain", retryAfterMs, () =>
      this.#abandon({ reason: "the server is draining" }),
    );
  }

  async #renew() {
    if (typeof this.#options.token !== "function") return;
    const generation = this.#generation;
    try {
      const token = await this.#token();
      if (token !== undefined && generation === this.#generation && this.#welcomed) {
        this.#authenticate(token);
      }
    } catch {
      // The old credential holds to its end; then the connection is closed and the next one asks.
    }
  }

  // --- the end of a connection

  /**
   * Gives the socket up without waiting for the peer, and goes on as if it had closed.
   * @param {Why} why
   */
  #abandon(why) {
    this.#drop();
    this.#lost(why);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#generation += 1;
    if (!socket) return;
    if (this.#pausedSocket) socket.resume(); // The close frame is behind what was not read.
    socket.close(1000);
  }

  /**
   * The connection is gone, or was never there.
   * @param {Why} why
   * @param {number} [retryAfterMs]
   */
  #lost(why, retryAfterMs = 0) {
    const good = this.#welcomed && performance.now() - this.#since >= this.#options.backoff.goodMs;
    if (good) this.#attempt = 0;
    this.#socket = undefined;
    this.#opening = false;
    this.#welcomed = false;
    this.#pausedSocket = false;
    this.#timers.clear();
    this.#leave = [];
    this.#leaving = 0;
    this.#session.disconnected();
    this.#host.lost(this);
    this.#requests.end(new FanfareError("disconnected", `the connection broke: ${why.reason}`));
    if (this.#closed) {
      this.#host.state(this, { state: "closed", url: this.url });
    } else if (this.#suspended) {
      this.#host.state(this, { state: "paused", url: this.url, why });
    } else if (why.code !== undefined && this.#isFinal(why.code)) {
      const text = `${this.url} closed the connection: ${why.code} ${why.reason}`;
      this.#fail(new FanfareError("closed", text, { closeCode: why.code }));
    } else if (why.code === 4102 && this.#session.patterns.length === 0) {
      this.#host.state(this, { state: "paused", url: this.url, why });
    } else {
      this.#again(retryAfterMs, why);
    }
  }

  /**
   * An expired credential is no end where another one can be asked for.
   * @param {number} code
   */
  #isFinal(code) {
    return isFinal(code) && !(code === 4002 && typeof this.#options.token === "function");
  }

  /**
   * Connects again, later.
   * @param {number} atLeastMs
   * @param {Why} why
   */
  #again(atLeastMs, why) {
    let delay;
    if (this.#drain) {
      const { at, to } = this.#drain;
      this.#drain = undefined;
      this.#route.drained(to, this.#host.elsewhere(this));
      delay = Math.max(0, at - performance.now());
    } else {
      if (why.refused !== true) this.#route.failed(this.#host.elsewhere(this));
      delay = atLeastMs + backoff(this.#attempt, this.#options.backoff);
      this.#attempt += 1;
    }
    this.#host.state(this, { state: "reconnecting", url: this.url, delay, why });
    this.#timers.after("reconnect", delay, () => this.open());
  }

  /** @param {FanfareError} error */
  #fail(error) {
    this.#closed = true;
    this.#socket = undefined;
    this.#generation += 1;
    this.#timers.clear();
    const refused = this.#session.patterns.map((pattern) => ({ pattern, error }));
    this.#host.fail(this, error);
    this.#calls.settle(refused);
  }

  // --- requests

  /** Sends what the session has become due. */
  #flush() {
    if (!this.#welcomed || this.#timers.has("heal")) return;
    for (const channels of chunks(this.#leave.splice(0), this.#bytesMax)) {
      this.#leaving += 1;
      this.#requests.send("unsubscribe", { channels }, (_reply, error) => {
        if (error) return;
        this.#leaving -= 1;
        this.#flush();
      });
    }
    if (this.#leaving > 0) return;
    for (const { patterns, params } of this.#session.due()) {
      for (const channels of chunks(patterns, this.#bytesMax)) {
        this.#ask(channels, params);
      }
    }
  }

  /** @param {string[]} leave */
  #heal(leave) {
    this.#leave.push(...leave);
    const wait = this.#healedAt + HEAL_SPACING_MS - performance.now();
    this.#healedAt = performance.now() + Math.max(0, wait);
    if (wait <= 0) this.#flush();
    else if (!this.#timers.has("heal")) this.#timers.after("heal", wait, () => this.#flush());
  }

  /**
   * @param {string[]} channels
   * @param {Record<string, unknown>} params
   */
  #ask(channels, params) {
    this.#requests.send("subscribe", { channels, ...params }, (reply, error) => {
      if (error) return; // Asked for again on the next connection.
      const { taken, refused, later, gaps } = this.#session.replied(channels, reply);
      for (const { pattern, entry } of taken) this.#host.taken(this, pattern, entry);
      for (const gap of gaps) this.#host.gap(this, gap);
      for (const { pattern } of refused) {
        if (!this.#session.holds(pattern)) this.#host.ended(this, pattern);
      }
      this.#calls.settle([...taken, ...refused]);
      const all = [...refused, ...later];
      if (all.length === 0) return;
      const names = all.map(({ pattern }) => pattern);
      const [{ error: first }] = all;
      this.#host.state(this, { state: "refused", url: this.url, channels: names, error: first });
      if (later.length > 0 && !this.#timers.has("later")) {
        this.#timers.after("later", backoff(this.#refusals++, this.#options.backoff), () => {
          this.#session.askAgain();
          this.#flush();
        });
      }
      this.#flush(); // What a refusal has put back may be due.
    });
  }
}
