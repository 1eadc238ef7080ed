// What applications use: a feed, which is one stream of events over one or two connections.
//
// Not here: a connection's life (leg.js), what may be claimed (session.js), the merge (ab.js).
// Invariant: an event that was put into the queue comes out of it, in order; what does not fit is
// left to the server or counted as a gap.

import { Merge } from "./ab.js";
import { Leg } from "./leg.js";
import { FanfareError, paramsOf } from "./protocol.js";
import { Queue } from "./queue.js";
import { shuffled } from "./route.js";
import { StateHash } from "./statehash.js";

/** @typedef {import("./protocol.js").FeedEvent} FeedEvent */
/** @typedef {import("./protocol.js").Gap} Gap */
/** @typedef {import("./protocol.js").Position} Position */
/** @typedef {import("./protocol.js").Terms} Terms */
/** @typedef {import("./leg.js").State} State */

/**
 * @typedef {object} Options
 * @property {"single" | "ab"} [mode] one connection, or two at once and of each event the first:
 *   the default where there are several nodes
 * @property {string | (() => string | Promise<string>)} [token] the credential; a function is asked
 *   at each connect, and when the credential is about to end
 * @property {"message" | "query" | "header"} [auth] how it is shown: by an `auth` request (the
 *   default), in the URL's query, or in a header, which only the package `ws` can do
 * @property {Terms["policy"]} [policy] default of `subscribe`
 * @property {Terms} [terms] more defaults of `subscribe`
 * @property {(gap: Gap) => void} [onGap] events that will not come; called in the order of the
 *   stream, while it is iterated
 * @property {(state: State) => void} [onState] `live` is called in the order of the stream, all
 *   others at once
 * @property {boolean} [heal] on a gap, subscribe again as its `recover` says
 * @property {boolean} [hash] keep the hashes that `verify` compares
 * @property {(raw: string) => any} [parse] reads a payload, JSON.parse by default
 * @property {number} [queue] how many events may wait for the application, 10,000 by default
 * @property {"close" | "pause" | "drop"} [overflow] what happens then: close the connection and
 *   resume when they were taken (the default); stop reading (`ws` only, else as `close`), so that
 *   the policy of the subscription decides; or drop, which is a gap
 * @property {boolean} [binary] ask for the binary form, which says the same in fewer bytes; the server
 *   decides
 * @property {any} [WebSocket] a constructor like the browser's; globalThis.WebSocket by default
 * @property {any} [socketOptions] third argument of that constructor, for the package `ws`
 * @property {{ baseMs?: number, maxMs?: number, goodMs?: number }} [backoff] of reconnects: 250,
 *   30,000, and how long a connection must be good to begin at the first again, 10,000
 * @property {number} [connectMs] how long a connection may take to be welcomed, 10,000
 */

/**
 * @typedef {object} Verified
 * @property {string} channel
 * @property {number} seq the channel's newest event at the server
 * @property {number} values how many keys are in its state
 * @property {string} hash the server's
 * @property {string | undefined} own this client's; undefined without the option `hash`
 * @property {boolean | undefined} matches undefined if they could not be compared at the same seq
 */

/** @typedef {{ event: FeedEvent } | { gap: Gap } | { state: State }} Content */
/** @typedef {{ content: Content, position: Position | undefined }} Item */

const QUEUE_CHARS_MAX = 64 * 1024 * 1024;
// As many times more may wait while a call does: its reply lies behind them.
const QUEUE_LIFTED = 16;
const VERIFY_TRIES = 5;
const OPTIONS = new Set([
  "mode",
  "token",
  "auth",
  "policy",
  "terms",
  "onGap",
  "onState",
  "heal",
  "hash",
  "parse",
  "queue",
  "overflow",
  "binary",
  "WebSocket",
  "socketOptions",
  "backoff",
  "connectMs",
]);

/**
 * Connects to a server, or to the nodes of a cluster: each connection begins at a random one, and
 * goes to another when that one fails or drains.
 * @param {string | string[]} url `ws://HOST:PORT/v1`, or several
 * @param {Options} [options]
 * @returns {Feed}
 */
export function connect(url, options = {}) {
  return new Feed(Array.isArray(url) ? url : [url], options);
}

export class Feed {
  /** @type {Leg[]} */
  #legs;
  /** @type {Merge | undefined} */
  #merge;
  #epoch = "";
  #options;
  #terms;
  /** @type {Queue<Item>} */
  #queue = new Queue(({ content }) => ("event" in content ? content.event.text.length : 0));
  #queueMax;
  #full = false;
  /** How many may wait before a socket that was paused is closed. */
  #pausedMax = 0;
  /** @type {Set<(error: FanfareError) => void>} What refuses the calls that wait for a reply. */
  #calls = new Set();
  /** @type {Set<Leg>} */
  #failed = new Set();
  /** @type {FanfareError | undefined} */
  #error;
  #closed = false;
  /** @type {(() => void)[]} Iterations that wait. */
  #waiting = [];
  /** @type {Position | undefined} */
  #position;
  #hash;
  /** @type {Set<() => void>} */
  #verifying = new Set();

  /**
   * @param {string[]} urls
   * @param {Options} options
   */
  constructor(urls, options) {
    for (const name of Object.keys(options)) {
      if (!OPTIONS.has(name)) {
        throw new TypeError(`connect has no option '${name}'; it has ${[...OPTIONS].join(", ")}`);
      }
    }
    if (urls.length < 1) throw new TypeError("connect takes at least one URL");
    const { mode = urls.length > 1 ? "ab" : "single" } = options;
    if (mode !== "single" && mode !== "ab") throw new TypeError("mode is 'single' or 'ab'");
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!WebSocket) {
      throw new TypeError(
        "there is no WebSocket here (Node 22 and browsers have one): npm install ws, and " +
          'connect(url, { WebSocket: (await import("ws")).WebSocket })',
      );
    }
    this.#options = options;
    this.#terms = { ...(options.policy && { policy: options.policy }), ...options.terms };
    paramsOf(this.#terms);
    this.#queueMax = options.queue ?? 10_000;
    this.#hash = options.hash ? new StateHash() : undefined;
    const legOptions = {
      WebSocket,
      socketOptions: options.socketOptions,
      token: options.token,
      auth: options.auth ?? "message",
      binary: options.binary ?? false,
      parse: options.parse ?? JSON.parse,
      heal: options.heal ?? false,
      backoff: { baseMs: 250, maxMs: 30_000, goodMs: 10_000, ...options.backoff },
      connectMs: options.connectMs ?? 10_000,
    };
    // Clients that were all given the same list are not to begin at the same node.
    const nodes = shuffled([...new Set(urls)]);
    const orders = mode === "ab" ? [nodes, [...nodes.slice(1), nodes[0]]] : [nodes];
    if (mode === "ab") {
      this.#merge = new Merge(2, (item) => this.#take(item), this.#queueMax);
    }
    const host = this.#host();
    this.#legs = orders.map((order) => new Leg(order, legOptions, host));
    for (const leg of this.#legs) leg.open();
  }

  /**
   * Everything up to here was handed to the application: what a later run may resume from, with
   * `subscribe(…, { resume: position })`. Undefined while a snapshot or a replay is coming.
   * @returns {Position | undefined}
   */
  get position() {
    return this.#queue.length === 0 ? this.#claim() : this.#position;
  }

  /**
   * Adds patterns to the set; they are subscribed to again after every reconnect. Resolves with
   * the server's entries: the terms in effect. Rejects when the server refuses one; those that it
   * took stay. Rejects with `overflow` when too much came before the reply; then all of them stay.
   * @param {string | string[]} patterns
   * @param {Terms} [terms]
   * @returns {Promise<any[]>}
   */
  async subscribe(patterns, terms = {}) {
    const list = [patterns].flat();
    if (list.length === 0) throw new TypeError("subscribe to at least one pattern");
    const all = { ...this.#terms, ...terms };
    paramsOf(all);
    this.#mustBeOpen();
    const legs = this.#legs.filter((leg) => !this.#failed.has(leg));
    const answers = legs.map((leg) => leg.subscribe(list, all));
    return this.#call(firstAnswer(answers));
  }

  /**
   * Takes patterns out of the set. Nothing of them comes any more, but what was queued already.
   * @param {string | string[]} patterns
   */
  async unsubscribe(patterns) {
    const list = [patterns].flat();
    for (const pattern of list) this.#merge?.forget(pattern);
    const done = Promise.all(this.#legs.map((leg) => leg.unsubscribe(list)));
    await (this.#legs.some((leg) => leg.connected) ? this.#call(done) : done);
  }

  /**
   * The subscriptions as the server has them.
   * @returns {Promise<any[]>}
   */
  async list() {
    return (await this.#call(this.#anyLeg().request("list"))).result;
  }

  /** The milliseconds of a round trip, replies before it included. */
  async ping() {
    const start = performance.now();
    await this.#call(this.#anyLeg().request("ping"));
    return performance.now() - start;
  }

  /**
   * Asks the server for the hash of a channel's state, and compares it where option `hash` is on.
   * @param {string} channel a name, not a pattern
   * @returns {Promise<Verified>}
   */
  async verify(channel) {
    return this.#call(this.#verify(channel));
  }

  /**
   * @param {string} channel
   * @returns {Promise<Verified>}
   */
  async #verify(channel) {
    /** @type {Verified} */
    let verified = /** @type {any} */ (undefined);
    for (let tries = 0; tries < VERIFY_TRIES; tries += 1) {
      const leg = this.#anyLeg();
      verified = await leg.request("verify", { channel }, async ({ result }) => {
        const own = this.#hash && (await this.#hashAt(leg, channel, result.seq));
        return { ...result, own, matches: own === undefined ? undefined : own === result.hash };
      });
      // A newer event may have come in the place of that one: then ask again.
      if (!this.#hash || verified.matches !== undefined) break;
    }
    return verified;
  }

  /** Ends all connections. What is queued can still be read; then the iteration ends. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    for (const leg of this.#legs) leg.close();
    this.#wake();
  }

  /** @returns {AsyncIterator<FeedEvent, undefined>} one at a time; `break` leaves the feed open */
  [Symbol.asyncIterator]() {
    return { next: () => this.#next() };
  }

  /** @returns {Promise<IteratorResult<FeedEvent, undefined>>} */
  async #next() {
    for (;;) {
      const item = this.#queue.shift();
      if (!item) {
        if (this.#error) throw this.#error;
        if (this.#closed) return { done: true, value: undefined };
        await new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
        continue;
      }
      this.#position = item.position;
      if (this.#full && this.#queue.length <= this.#queueMax / 4) this.#resume();
      const { content } = item;
      if ("event" in content) return { done: false, value: content.event };
      if ("gap" in content) this.#options.onGap?.(content.gap);
      else this.#options.onState?.(content.state);
    }
  }

  #resume() {
    this.#full = false;
    for (const leg of this.#legs) leg.resume();
  }

  #wake() {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  // --- what the legs say

  /** @returns {import("./leg.js").Host} */
  #host() {
    const at = (/** @type {Leg} */ leg) => this.#legs.indexOf(leg);
    return {
      welcome: (leg, epoch) => this.#welcome(leg, epoch),
      elsewhere: (leg) => this.#legs.filter((other) => other !== leg).map(({ url }) => url),
      room: (leg) => this.#room(leg),
      event: (leg, event) => {
        if (this.#merge) this.#merge.event(at(leg), event);
        else this.#take({ event });
      },
      gap: (leg, gap) => {
        if (this.#merge) this.#merge.gap(at(leg), gap);
        else this.#take({ gap });
      },
      taken: (leg, pattern, entry) => this.#merge?.began(at(leg), pattern, entry),
      ended: (leg, pattern, seq) => this.#merge?.ended(at(leg), pattern, seq),
      progress: (leg) => {
        this.#merge?.progress(at(leg), leg.session.position);
        for (const check of this.#verifying) check();
      },
      lost: (leg) => {
        this.#merge?.down(at(leg));
        for (const check of this.#verifying) check();
        // One that was parked for its epoch may take over.
        for (const other of this.#legs) if (other !== leg && other.parked) other.open();
      },
      state: (leg, state) => {
        if (state.state === "live") this.#push({ state });
        else this.#options.onState?.(state);
      },
      fail: (leg, error) => {
        this.#failed.add(leg);
        if (this.#failed.size === this.#legs.length) this.#error = error;
        this.#merge?.gone(at(leg));
        this.#wake();
      },
    };
  }

  /**
   * Two connections are merged only if both count by the same epoch.
   * @param {Leg} leg
   * @param {string} epoch
   */
  #welcome(leg, epoch) {
    if (epoch !== this.#epoch) {
      const others = this.#legs.filter((other) => other !== leg);
      if (others.some((other) => other.connected)) return false;
      this.#epoch = epoch;
      this.#merge?.reset();
      this.#hash?.clear();
      for (const other of others) leg.session.inherit(other.session);
    }
    this.#merge?.up(this.#legs.indexOf(leg));
    return true;
  }

  /**
   * @param {Leg} leg
   * @returns {"take" | "leave"}
   */
  #room(leg) {
    if (!this.#mustStop()) return "take";
    // What `ws` has read before it paused still comes, at most as much again.
    if (!this.#full) this.#pausedMax = this.#queue.length + this.#queueMax;
    const mayPause = this.#options.overflow === "pause" && this.#queue.length < this.#pausedMax;
    const isPaused = mayPause && leg.pause();
    // On another connection a snapshot begins anew, and there would be no more room for it.
    const mustEnd = leg.session.inSnapshot && this.#queue.chars < QUEUE_CHARS_MAX;
    if (!isPaused && mustEnd) return "take";
    this.#refuseCalls();
    this.#full = true;
    if (isPaused) return "take";
    leg.suspend();
    return "leave";
  }

  /** Whether no more may be taken. */
  #mustStop() {
    const times = this.#calls.size > 0 ? QUEUE_LIFTED : 1;
    return this.#options.overflow !== "drop" && this.#isFull(times * this.#queueMax);
  }

  #isFull(max = this.#queueMax) {
    return this.#queue.length >= max || this.#queue.chars >= QUEUE_CHARS_MAX;
  }

  /**
   * Waits for the answer to a call, and lets what comes before it into the queue.
   * @template T
   * @param {Promise<T>} answer
   * @returns {Promise<T>}
   */
  #call(answer) {
    return new Promise((resolve, reject) => {
      this.#calls.add(reject);
      if (this.#mustStop()) this.#refuseCalls();
      else if (this.#full) this.#resume();
      answer.then(resolve, reject).finally(() => this.#calls.delete(reject));
    });
  }

  #refuseCalls() {
    const text = `no reply yet; ${this.#queue.length} events wait to be iterated over before it`;
    for (const refuse of this.#calls) {
      refuse(new FanfareError("overflow", text, { retryable: true }));
    }
    this.#calls.clear();
  }

  /** @param {{ event: FeedEvent } | { gap: Gap }} item */
  #take(item) {
    if ("event" in item) {
      this.#hash?.apply(item.event);
      if (this.#options.overflow === "drop" && this.#isFull()) {
        this.#drop(item.event);
        return;
      }
    }
    this.#push(item);
  }

  /**
   * Counts an event that found no room, in a gap that stands in its place.
   * @param {FeedEvent} event
   */
  #drop({ channel, seq }) {
    const last = this.#queue.last?.content;
    if (last && "gap" in last && last.gap.cause === "overflow") {
      const { gap } = last;
      if (!gap.channels.includes(channel)) gap.channels.push(channel);
      gap.from = Math.min(gap.from, seq);
      gap.to = Math.max(gap.to, seq);
      gap.missed = (gap.missed ?? 0) + 1;
      return;
    }
    const range = { channels: [channel], from: seq, to: seq, missed: 1 };
    this.#push({ gap: { ...range, cause: "overflow", recover: "resume", healing: undefined } });
  }

  /** @param {Content} content */
  #push(content) {
    this.#queue.push({ content, position: this.#claim() });
    this.#wake();
  }

  /** @returns {Position | undefined} */
  #claim() {
    const seq = (this.#merge ?? this.#legs[0].session).position;
    return seq === undefined ? undefined : { epoch: this.#epoch, seq };
  }

  /**
   * Waits until everything up to seq of a channel has come over a leg. Gives the hash as of then,
   * undefined if an event after it came first or the connection is lost.
   * @param {Leg} leg
   * @param {string} channel
   * @param {number} seq
   * @returns {Promise<string | undefined>}
   */
  #hashAt(leg, channel, seq) {
    const hash = /** @type {StateHash} */ (this.#hash);
    return new Promise((resolve) => {
      const check = () => {
        const last = hash.seq(channel);
        const come = last >= seq || (leg.session.position ?? 0) >= seq;
        if (!come && leg.connected) return;
        this.#verifying.delete(check);
        // Now, because the next message may be taken before the one who waits runs.
        resolve(come && last <= seq ? hash.digest(channel) : undefined);
      };
      this.#verifying.add(check);
      check();
    });
  }

  #anyLeg() {
    this.#mustBeOpen();
    const leg = this.#legs.find((one) => one.connected);
    if (!leg) throw new FanfareError("disconnected", "not connected now", { retryable: true });
    return leg;
  }

  #mustBeOpen() {
    if (this.#error) throw this.#error;
    if (this.#closed) throw new FanfareError("closed", "the feed was closed");
  }
}

/**
 * The first answer of several connections; one that has failed for good does not answer, unless
 * all have.
 * @param {Promise<any[]>[]} answers
 * @returns {Promise<any[]>}
 */
function firstAnswer(answers) {
  return new Promise((resolve, reject) => {
    let left = answers.length;
    for (const answer of answers) {
      answer.then(resolve, (error) => {
        left -= 1;
        if (left === 0 || !["closed", "refused"].includes(error.code)) reject(error);
      });
    }
  });
}
