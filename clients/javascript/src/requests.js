// Requests that wait for their replies, and calls of `subscribe` that wait for patterns.
// Not here: what a reply changes (session.js).

import { FanfareError } from "./protocol.js";

/** @typedef {(reply: any, error?: FanfareError) => void} Answer */

const RETRY_RATE_LIMITED_MS = 1000;

/** Requests of one connection. Each is answered once: by its reply, or by the end. */
export class Requests {
  #number = 0;
  /** @type {Map<number, Answer>} */
  #waiting = new Map();
  #send;
  #after;

  /**
   * @param {(text: string) => void} send
   * @param {(name: string, ms: number, run: () => void) => void} after a timer of the connection
   */
  constructor(send, after) {
    this.#send = send;
    this.#after = after;
  }

  /**
   * Sends a request; again a second later when the server says that there were too many.
   * @param {string} method
   * @param {Record<string, unknown> | undefined} params
   * @param {Answer} answer
   */
  send(method, params, answer) {
    const number = ++this.#number;
    this.#waiting.set(number, (reply, error) => {
      if (reply?.error?.code !== "rate_limited") {
        answer(reply, error);
        return;
      }
      this.#waiting.set(number, answer);
      this.#after(`again ${number}`, RETRY_RATE_LIMITED_MS, () => {
        if (this.#waiting.delete(number)) this.send(method, params, answer);
      });
    });
    this.#send(JSON.stringify({ method, params, req_id: number }));
  }

  /** @param {any} message */
  reply(message) {
    const answer = this.#waiting.get(message.req_id);
    this.#waiting.delete(message.req_id);
    answer?.(message);
  }

  /** @param {FanfareError} error */
  end(error) {
    const answers = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const answer of answers) answer(undefined, error);
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
