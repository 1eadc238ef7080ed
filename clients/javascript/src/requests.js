// Requests that wait for their turn or their reply, and calls of `subscribe` that wait for
// patterns. Not here: what a reply changes (session.js).
//
// Invariant: the server carries requests out in the order in which they were made. It allows so
// many at once and so many a second; what is sent is counted as it does (see Limits in
// PROTOCOL.md), and what is over that waits, with everything behind it.

import { FanfareError } from "./protocol.js";

/** @typedef {(reply: any, error?: FanfareError) => void} Answer */

/**
 * @typedef {object} Request
 * @property {number} number
 * @property {string} text
 * @property {Answer} answer
 * @property {number} cost how many messages it counts as
 * @property {boolean} alone it had to wait, or was refused: nothing else is on its way with it
 */

// What a server allows that does not say so, or has not yet.
const LIMITS = { command_rate: 20, command_burst: 100 };
const CHANNELS_OF_MESSAGE = 100;
// Pongs count as well, and messages may arrive closer together than they were sent.
const RESERVE = 1;
const REFUSED_MS = 1000;

/** Requests of one connection. Each is answered once: by its reply, or by the end. */
export class Requests {
  #number = 0;
  /** @type {Request[]} Those that are to be sent, in order. */
  #queue = [];
  /** @type {Map<number, Request>} Those that were sent. */
  #sent = new Map();
  #limits = LIMITS;
  /** When the server will have forgotten all that was sent. */
  #paid = 0;
  /** Whether the last one that was sent is to be alone. */
  #alone = false;
  #send;
  #after;
  #now;

  /**
   * @param {(text: string) => void} send
   * @param {(name: string, ms: number, run: () => void) => void} after a timer of the connection
   * @param {() => number} now milliseconds
   */
  constructor(send, after, now) {
    this.#send = send;
    this.#after = after;
    this.#now = now;
  }

  /**
   * What the server allows, from now on.
   * @param {Partial<typeof LIMITS>} [limits] those of its welcome
   */
  allow(limits) {
    this.#limits = { ...LIMITS, ...limits };
    this.#pump();
  }

  /**
   * Sends a request when its turn comes; again when the server says that there were too many.
   * @param {string} method
   * @param {Record<string, any> | undefined} params
   * @param {Answer} answer
   */
  send(method, params, answer) {
    const number = ++this.#number;
    const text = JSON.stringify({ method, params, req_id: number });
    const cost = 1 + Math.floor((params?.channels?.length ?? 0) / CHANNELS_OF_MESSAGE);
    this.#queue.push({ number, text, answer, cost, alone: false });
    this.#pump();
  }

  /** @param {any} message */
  reply(message) {
    const request = this.#sent.get(message.req_id);
    if (!request) return;
    this.#sent.delete(request.number);
    if (message.error?.code === "rate_limited") this.#refused(request, message.error.message);
    else request.answer(message);
    this.#pump();
  }

  /** @param {FanfareError} error */
  end(error) {
    const requests = [...this.#sent.values(), ...this.#queue];
    this.#sent.clear();
    this.#queue = [];
    this.#limits = LIMITS;
    this.#paid = 0;
    for (const { answer } of requests) answer(undefined, error);
  }

  #pump() {
    for (let [request] = this.#queue; request; [request] = this.#queue) {
      // One that is refused must have nothing behind it that is taken.
      if (this.#sent.size > 0 && (this.#alone || request.alone)) return;
      const now = this.#now();
      const most = this.#limits.command_burst - RESERVE;
      const paid = Math.max(this.#paid, now) + this.#ms(Math.min(request.cost, most));
      const wait = paid - now - this.#ms(most);
      if (wait > 0) {
        request.alone = true;
        this.#after("requests", wait, () => this.#pump());
        return;
      }
      this.#queue.shift();
      this.#sent.set(request.number, request);
      this.#paid = paid;
      this.#alone = request.alone;
      this.#send(request.text);
    }
  }

  /**
   * Takes a request back, which goes first when its time has come.
   * @param {Request} request
   * @param {string} message the server's, with the time after which it may be sent again
   */
  #refused(request, message) {
    const saidMs = Number(/ (\d+) ms/.exec(message)?.[1] ?? REFUSED_MS);
    // It had the time that it was thought to take: a large `verify` counts as more.
    if (request.alone) request.cost += Math.ceil(saidMs / this.#ms(1));
    request.alone = true;
    const paid = this.#now() + this.#ms(this.#limits.command_burst) + saidMs;
    this.#paid = Math.max(this.#paid, paid);
    this.#queue.push(request);
    this.#queue.sort((left, right) => left.number - right.number);
  }

  /**
   * How long so many messages take, once there were as many as may be sent at once.
   * @param {number} messages
   */
  #ms(messages) {
    return (1000 * messages) / this.#limits.command_rate;
  }
}

/**
 * @typedef {{ left: Set<string>, entries: any[], errors: FanfareError[],
 *   resolve: (entries: any[]) => void, reject: (error: FanfareError) => void }} Call
 */

/** Calls that end when each of their patterns was taken or refused, on whichever connection. */
export class Calls {
  /** @type {Set<Call>} */
  #calls = new Set();

  /**
   * @param {string[]} patterns
   * @returns {Promise<any[]>}
   */
  wait(patterns) {
    return new Promise((resolve, reject) => {
      const left = new Set(patterns);
      this.#calls.add({ left, entries: [], errors: [], resolve, reject });
    });
  }

  /** @param {{ pattern: string, entry?: any, error?: FanfareError }[]} answers */
  settle(answers) {
    for (const call of [...this.#calls]) {
      for (const { pattern, entry, error } of answers) {
        if (!call.left.delete(pattern)) continue;
        if (error) call.errors.push(error);
        else call.entries.push(entry);
      }
      if (call.left.size > 0) continue;
      this.#calls.delete(call);
      const [error] = call.errors;
      if (!error) {
        call.resolve(call.entries);
      } else {
        const { code, message, retryable, closeCode } = error;
        const more = { retryable, closeCode, result: call.entries };
        call.reject(new FanfareError(code, message, more));
      }
    }
  }
}
