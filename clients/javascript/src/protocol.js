// The messages of sub-protocol fanfare.v1.json: reading them exactly, patterns, terms, what the
// codes ask for. Pure: no sockets, no clock, no state.
//
// Invariant: no digit is lost. Time stamps are BigInt, and an event keeps its text as it came.

export const SUBPROTOCOL = "fanfare.v1.json";

/**
 * @typedef {object} FeedEvent
 * @property {string} channel never a pattern
 * @property {string | null} key what this is the newest value of; null for events without one
 * @property {"update" | "snapshot"} kind a snapshot replaces all before it of its channel and key
 * @property {number} seq its place in the order of all events
 * @property {number} prev the seq of the event before it on its channel, 0 if there was none
 * @property {bigint | undefined} ts the producer's time, nanoseconds since the Unix epoch
 * @property {bigint} tsIn when the server read it, nanoseconds since the Unix epoch
 * @property {any} data the payload, parsed by the option `parse` (JSON.parse)
 * @property {string} raw the payload as it came, every digit of it
 * @property {string} text the whole message as it came
 * @property {"snapshot" | "replay" | undefined} recovered set when it is no live event: part of
 *   a snapshot, or of what came while you were away
 */

/**
 * @typedef {object} Gap
 * @property {string[]} channels channels (or patterns) of which something may be missing
 * @property {number} from first seq of the range
 * @property {number} to last seq of the range
 * @property {number | undefined} missed how many events will not come; undefined: not known
 * @property {string} cause of the receipt (`slow`, `max_age`, `epoch`, `too_old`…); or `hole`: an
 *   event's prev was never seen; or `overflow`: dropped here because the queue was full; or `late`:
 *   the first snapshot broke off, or B began later than A and A was lost, or of two patterns that
 *   match the same one came later than the other
 * @property {string} recover `resume`, `snapshot` or `none`: what would bring it back
 * @property {"resume" | "snapshot" | undefined} healing what option `heal` has set off
 */

/**
 * @typedef {object} Terms
 * @property {"auto" | "all" | "latest" | "close" | "unsubscribe"} [policy]
 * @property {number} [maxAgeMs]
 * @property {number} [maxLagBytes]
 * @property {number} [intervalMs]
 * @property {boolean} [snapshot] false: begin with the next event
 * @property {Position} [resume] go on after this point, from an earlier run
 */

/** @typedef {{ epoch: string, seq: number }} Position everything up to seq was handed over */

/**
 * @typedef {{ kind: "event", event: FeedEvent }
 *   | { kind: "reply", message: any }
 *   | { kind: "control", message: any }} Message
 */

/** An error with the code of the protocol, or one of this client's own. */
export class FanfareError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ retryable?: boolean, result?: any[], closeCode?: number }} [more]
   */
  constructor(code, message, { retryable = false, result, closeCode } = {}) {
    super(message);
    this.name = "FanfareError";
    /**
     * For programs; the codes of docs/PROTOCOL.md, and `closed`, `refused`, `disconnected`,
     * `overflow`, `unsubscribed`.
     */
    this.code = code;
    /** Whether the same request may succeed later. */
    this.retryable = retryable;
    /** The reply's entries, when a part of the request was done. */
    this.result = result;
    /** The code that the connection was closed with. */
    this.closeCode = closeCode;
  }
}

// The head of an event as servers of version 1 write it. `data` is last.
const HEAD = new RegExp(
  String.raw`^\{"channel":"([^"\\]+)","type":"(update|snapshot)"` +
    String.raw`(?:,"key":("(?:[^"\\]|\\.)*"))?,"seq":(\d+),"prev":(\d+)` +
    String.raw`(?:,"ts":(\d+))?,"ts_in":(\d+),"data":`,
);

/**
 * Reads one message. Throws a SyntaxError when it is not JSON.
 * @param {string} text
 * @param {(raw: string) => any} [parse]
 * @returns {Message}
 */
export function readMessage(text, parse = JSON.parse) {
  const head = HEAD.exec(text);
  if (head) {
    const [all, channel, kind, key, seq, prev, ts, tsIn] = head;
    const raw = text.slice(all.length, -1);
    let data;
    try {
      data = parse(raw);
    } catch {
      return readAnyMessage(text, parse); // A later server has put something behind `data`.
    }
    const event = eventOf(channel, kind, key && JSON.parse(key), +seq, +prev, ts, tsIn, raw, text);
    event.data = data;
    return { kind: "event", event };
  }
  return readAnyMessage(text, parse);
}

/**
 * The same for members in any order, with others between them.
 * @param {string} text
 * @param {(raw: string) => any} parse
 * @returns {Message}
 */
function readAnyMessage(text, parse) {
  const message = JSON.parse(text);
  if (message === null || typeof message !== "object") throw new SyntaxError("not an object");
  if ("success" in message) return { kind: "reply", message };
  if (message.channel === "control") return { kind: "control", message };
  const raw = members(text);
  const data = raw.get("data") ?? "null";
  const { channel, type, key, seq, prev } = message;
  const tsIn = raw.get("ts_in") ?? "0";
  const event = eventOf(channel, type, key, seq, prev, raw.get("ts"), tsIn, data, text);
  event.data = parse(data);
  return { kind: "event", event };
}

/**
 * @param {string} channel
 * @param {string} kind
 * @param {string | undefined} key
 * @param {number} seq
 * @param {number} prev
 * @param {string | undefined} ts
 * @param {string} tsIn
 * @param {string} raw
 * @param {string} text
 * @returns {FeedEvent}
 */
function eventOf(channel, kind, key, seq, prev, ts, tsIn, raw, text) {
  return {
    channel,
    key: key ?? null,
    kind: kind === "snapshot" ? "snapshot" : "update",
    seq,
    prev,
    ts: ts === undefined ? undefined : BigInt(ts),
    tsIn: BigInt(tsIn),
    data: undefined,
    raw,
    text,
    recovered: undefined,
  };
}

/**
 * The members of an object, each value as it is written. `text` is known to be valid JSON.
 * @param {string} text
 * @returns {Map<string, string>}
 */
export function members(text) {
  const found = new Map();
  const string = /"(?:[^"\\]|\\.)*"/y;
  let depth = 0;
  let name = "";
  let start = -1;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === '"') {
      string.lastIndex = at;
      const [whole] = /** @type {RegExpExecArray} */ (string.exec(text));
      if (depth === 1 && start < 0) name = JSON.parse(whole);
      at += whole.length - 1;
    } else if (depth === 1 && character === ":" && start < 0) {
      start = at + 1;
    } else if (depth === 1 && (character === "," || character === "}")) {
      if (start >= 0) found.set(name, text.slice(start, at).trim());
      start = -1;
      if (character === "}") break;
    } else if (character === "{" || character === "[") {
      depth += 1;
    } else if (character === "}" || character === "]") {
      depth -= 1;
    }
  }
  return found;
}

/**
 * Whether a pattern matches a name, or everything that another pattern matches.
 * @param {string} pattern
 * @param {string} name
 */
export function matches(pattern, name) {
  if (pattern === name) return true;
  const wanted = pattern.split(".");
  const tokens = name.split(".");
  for (let at = 0; at < wanted.length; at += 1) {
    if (wanted[at] === ">") return tokens.length > at;
    if (at >= tokens.length || tokens[at] === ">") return false;
    if (wanted[at] !== "*" && wanted[at] !== tokens[at]) return false;
  }
  return wanted.length === tokens.length;
}

/**
 * Orders patterns that match the same name: the most specific first, a name before `*` before `>`.
 * @param {string} left
 * @param {string} right
 */
export function bySpecificity(left, right) {
  const rank = (/** @type {string | undefined} */ token) =>
    token === ">" ? 2 : token === "*" ? 1 : 0;
  const others = right.split(".");
  const tokens = left.split(".");
  for (let at = 0; at < Math.max(tokens.length, others.length); at += 1) {
    const difference = rank(tokens[at]) - rank(others[at]);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** @type {Record<string, string>} */
const TERMS = {
  policy: "policy",
  maxAgeMs: "max_age_ms",
  maxLagBytes: "max_lag_bytes",
  intervalMs: "interval_ms",
  snapshot: "snapshot",
  resume: "resume",
};

/**
 * Terms as parameters of `subscribe`; a field that does not exist is an error, as at the server.
 * @param {Terms} terms
 * @returns {Record<string, unknown>}
 */
export function paramsOf(terms) {
  /** @type {Record<string, unknown>} */
  const params = {};
  for (const [name, value] of Object.entries(terms)) {
    if (!(name in TERMS)) {
      const known = Object.keys(TERMS).join(", ");
      throw new TypeError(`subscribe has no option '${name}'; it has ${known}`);
    }
    if (value !== undefined) params[TERMS[name]] = value;
  }
  return params;
}

/**
 * Cuts patterns into requests that the server takes: 1,024 entries, and bytes with room for the
 * other parameters.
 * @param {string[]} patterns
 * @param {number} bytesMax
 * @returns {string[][]}
 */
export function chunks(patterns, bytesMax) {
  /** @type {string[][]} */
  const all = [];
  let bytes = 0;
  for (const pattern of patterns) {
    const more = new TextEncoder().encode(JSON.stringify(pattern)).length + 1;
    const last = all.at(-1);
    if (!last || last.length === 1024 || bytes + more > bytesMax - 1024) {
      all.push([pattern]);
      bytes = more;
    } else {
      last.push(pattern);
      bytes += more;
    }
  }
  return all;
}

const FINAL = new Set([1002, 1003, 1007, 1008, 1009]);

/**
 * Whether another try is pointless until something is changed.
 * @param {number} code of a close frame
 */
export function isFinal(code) {
  return FINAL.has(code) || (code >= 4000 && code <= 4099);
}

/**
 * Exponential backoff with full jitter.
 * @param {number} attempt from 0
 * @param {{ baseMs: number, maxMs: number }} bounds
 * @param {() => number} [random] from 0 to 1
 */
export function backoff(attempt, { baseMs, maxMs }, random = Math.random) {
  return random() * Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
}

/**
 * The addresses of a drain notice that may be followed: none leads from TLS to plain text.
 * @param {string} from the address of the connection
 * @param {string[]} to
 */
export function drainTargets(from, to) {
  const secure = from.startsWith("wss:");
  return to.filter((url) => url.startsWith("wss:") || (!secure && url.startsWith("ws:")));
}
